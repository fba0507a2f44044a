"""The signature of a training: what has to be equal for two trainings to be the same one."""

import hashlib
from collections.abc import Mapping
from typing import Any

from datasets import Dataset


def data_hashes(pairs: Mapping[str, Dataset]) -> tuple[str, dict[str, str]]:
    """Eight hexadecimal digits that depend on all token ids of the training text, and the same for each pair.

    Args:
        pairs: token ids (`input_ids`, `labels`) of each pair; their order counts, because draws depend on it.
    """
    whole, by_pair = hashlib.sha256(), {}
    for name in pairs:
        own = hashlib.sha256()
        whole.update(f"{name}:{len(pairs[name])}\n".encode())
        for column in ("input_ids", "labels"):
            for chunk in pairs[name].with_format("arrow").iter(batch_size=10_000):
                rows = chunk[column].combine_chunks()
                for numbers in (rows.value_lengths(), rows.flatten()):
                    content = numbers.to_numpy(zero_copy_only=False).astype("<i8").tobytes()
                    whole.update(content)
                    own.update(content)
        by_pair[name] = own.hexdigest()[:8]
    return whole.hexdigest()[:8], by_pair


def training_signature(fields: Mapping[str, Any]) -> str:
    """`method:all_in_one|K:2|…|data:1f3a9c2b|record:9e04d7c1|version:0.1.0` from what a record has of it."""
    return "|".join(f"{name}:{short(value)}" for name, value in fields.items())


def short(value: Any) -> str:
    """A value without blanks: `1,5` for lists, `0.001` for numbers."""
    if isinstance(value, list | tuple):
        return ",".join(map(short, value))
    return f"{value:g}" if isinstance(value, float) else str(value)

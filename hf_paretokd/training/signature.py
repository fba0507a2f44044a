"""The signature of a training: what has to be equal for two trainings to be the same one."""

import hashlib
from collections.abc import Mapping
from typing import Any

from datasets import Dataset

from hf_paretokd.data.facts import text_hash


def data_hashes(pairs: Mapping[str, Dataset]) -> tuple[str, dict[str, str]]:
    """Eight hexadecimal digits that depend on all token ids of the training text, and the same for each pair.

    Args:
        pairs: token ids (`input_ids`, `labels`) of each pair; their order counts, because draws depend on it. Of a stream
            nothing is known.
    """
    by_pair = {name: text_hash(each) if isinstance(each, Dataset) else "stream" for name, each in pairs.items()}
    sizes = {name: len(each) if isinstance(each, Dataset) else "" for name, each in pairs.items()}
    whole = "".join(f"{name}:{sizes[name]}:{own}\n" for name, own in by_pair.items())
    return hashlib.sha256(whole.encode()).hexdigest()[:8], by_pair


def training_signature(fields: Mapping[str, Any]) -> str:
    """`method:all_in_one|K:2|…|data:1f3a9c2b|record:9e04d7c1|version:0.1.0` from what a record has of it."""
    return "|".join(f"{name}:{short(value)}" for name, value in fields.items())


def short(value: Any) -> str:
    """A value without blanks: `1,5` for lists, `0.001` for numbers."""
    if isinstance(value, list | tuple):
        return ",".join(map(short, value))
    return f"{value:g}" if isinstance(value, float) else str(value)

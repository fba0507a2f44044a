"""What a training has to know of all token ids of a data set: found out once where they are stored, else at its start."""

import hashlib
from dataclasses import dataclass
from typing import Any

import datasets

from hf_paretokd.data.batches import longest_side

COLUMNS = ("input_ids", "labels")
PIECE = 10_000  # rows that are looked at together


@dataclass(frozen=True)
class Facts:
    """Of token ids in the columns `input_ids` and `labels`.

    Args:
        rows: how many there are.
        hash: eight hexadecimal digits that depend on all ids and their order.
        longest: tokens of the longest side.
        largest: the largest id.
        targets: target tokens of all rows.
        without: the padding token, which stands nowhere.
    """

    rows: int
    hash: str
    longest: int
    largest: int
    targets: int
    without: int


class TokenIds(datasets.Dataset):
    """Token ids of which the facts are known.

    Args:
        table: what they are.
        facts: of them.
    """

    def __init__(self, table: Any, facts: Facts) -> None:
        super().__init__(table)
        self.facts = facts


def known_facts(dataset: datasets.Dataset) -> Facts | None:
    """The facts of a data set, where they were found out before; None also of what was selected of it."""
    facts = dataset.facts if isinstance(dataset, TokenIds) else None
    return facts if facts and facts.rows == len(dataset) else None


def facts_of(dataset: datasets.Dataset, padding: int) -> Facts:
    """Reads all rows of token ids, among which there is no `padding`."""
    import pyarrow.compute

    largest = max(
        pyarrow.compute.max(batch[column].combine_chunks().flatten()).as_py()
        for column in COLUMNS
        for batch in dataset.with_format("arrow").iter(PIECE)
    )
    return Facts(len(dataset), text_hash(dataset), longest_side(dataset), largest, target_length(dataset), padding)


def target_length(dataset: datasets.Dataset) -> int:
    """All target tokens of a data set."""
    from pyarrow import compute

    if facts := known_facts(dataset):
        return facts.targets
    batches = dataset.with_format("arrow").iter(PIECE)
    return sum(compute.sum(compute.list_value_length(batch["labels"])).as_py() for batch in batches)


def text_hash(dataset: datasets.Dataset) -> str:
    """Eight hexadecimal digits that depend on all token ids of `input_ids` and `labels`."""
    if facts := known_facts(dataset):
        return facts.hash
    found = hashlib.sha256()
    for column in COLUMNS:
        for chunk in dataset.with_format("arrow").iter(PIECE):
            rows = chunk[column].combine_chunks()
            for numbers in (rows.value_lengths(), rows.flatten()):
                found.update(numbers.to_numpy(zero_copy_only=False).astype("<i8").tobytes())
    return found.hexdigest()[:8]

"""Token micro-batches of one language pair, filled to a budget and bucketed by length."""

import copy
from collections.abc import Sequence

import datasets
import numpy as np
import torch

from hf_paretokd.data.seeds import derive_seed
from hf_paretokd.errors import DataError

IGNORED = -100


def side_lengths(dataset: datasets.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of tokens of `input_ids` and `labels`, one entry a sentence pair."""
    import pyarrow.compute

    table = dataset.with_format("arrow")
    sources, targets = (
        np.concatenate([pyarrow.compute.list_value_length(batch[column]).to_numpy() for batch in table.iter(10_000)])
        for column in ("input_ids", "labels")
    )
    return sources, targets


def longest_side(dataset: datasets.Dataset) -> int:
    """Tokens of the longest row of `input_ids` or, where there are any, `labels`."""
    import pyarrow.compute

    columns = [column for column in ("input_ids", "labels") if column in dataset.column_names]
    return max(
        pyarrow.compute.max(pyarrow.compute.list_value_length(batch[column])).as_py()
        for column in columns
        for batch in dataset.with_format("arrow").iter(10_000)
    )


class PairBatches:
    """Every sentence pair of one language pair in micro-batches, again and again in new seeded orders.

    A pass sorts the sentences by (longer side, other side), ties in random order, cuts them so that rows × longest side
    stays within `max_tokens` (padding and `</s>` included), and shuffles the micro-batches. The cuts depend on the
    sorted longer sides alone, so every pass has the same number of micro-batches and draw *k* is batch `k mod n` of
    pass `k div n`: nothing is replayed to find it.

    Raises:
        DataError: one sentence alone exceeds `max_tokens`.
    """

    def __init__(self, name: str, lengths: tuple[np.ndarray, np.ndarray], max_tokens: int, *keys: int | str) -> None:
        self.name = name
        self.longer, self.other = np.maximum(*lengths), np.minimum(*lengths)
        if self.longer.max() > max_tokens:
            raise DataError(
                f"max_tokens: {name} has a sentence of {self.longer.max()} tokens, more than max_tokens={max_tokens}; "
                "raise max_tokens or lower max_length"
            )
        self.keys = keys
        self.cuts = cut_sorted(np.sort(self.longer).tolist(), max_tokens)
        self._current: tuple[int, list[np.ndarray]] = (-1, [])

    def __len__(self) -> int:
        """Micro-batches in one pass."""
        return len(self.cuts)

    @property
    def sentences(self) -> int:
        """Sentence pairs in one pass."""
        return len(self.longer)

    def draw(self, number: int) -> np.ndarray:
        """Row indices of draw `number` (from 0)."""
        turn, position = divmod(number, len(self))
        if self._current[0] != turn:
            self._current = (turn, self._pass(turn))
        return self._current[1][position]

    def in_order(self) -> list[np.ndarray]:
        """One unshuffled pass, for evaluation."""
        order = np.lexsort((self.other, self.longer))
        return np.split(order, self.cuts[1:])

    def rekeyed(self, *keys: int | str) -> "PairBatches":
        """The same micro-batch sizes in orders seeded with other keys."""
        other = copy.copy(self)
        other.keys, other._current = keys, (-1, [])
        return other

    def _pass(self, turn: int) -> list[np.ndarray]:
        generator = np.random.default_rng(derive_seed(*self.keys, "order", self.name, turn))
        order = generator.permutation(self.sentences)
        order = order[np.lexsort((self.other[order], self.longer[order]))]
        batches = np.split(order, self.cuts[1:])
        return [batches[index] for index in generator.permutation(len(batches))]


def cut_sorted(lengths: Sequence[int], max_tokens: int) -> list[int]:
    """Start positions of micro-batches over ascending `lengths`, as many rows each as `max_tokens` admits."""
    cuts, start = [0], 0
    for position, length in enumerate(lengths):
        if position > start and (position - start + 1) * length > max_tokens:  # one that is too long is alone
            start = position
            cuts.append(start)
    return cuts


def collate(rows: Sequence[dict[str, list[int]]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pads rows to tensors `input_ids`, `attention_mask` [rows, source] and `labels` [rows, target] (padded with -100)."""
    sources = [torch.tensor(row["input_ids"]) for row in rows]
    labels = [torch.tensor(row["labels"]) for row in rows]
    input_ids = torch.nn.utils.rnn.pad_sequence(sources, batch_first=True, padding_value=pad_id)
    lengths = torch.tensor([len(source) for source in sources])
    return {
        "input_ids": input_ids,
        "attention_mask": (torch.arange(input_ids.shape[1]) < lengths[:, None]).long(),
        "labels": torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    }

"""Token micro-batches of one language pair, filled to a budget and bucketed by length."""

import copy
from collections.abc import Sequence

import datasets
import numpy as np
import torch

from hf_paretokd.data.seeds import derive_seed
from hf_paretokd.errors import DataError

IGNORED = -100
BLOCK = 2048  # rows that stay together
WINDOW = 64 * BLOCK  # rows that are shuffled together: an order of them is sorted in a tenth of a second


def side_lengths(dataset: datasets.Dataset, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of tokens of `input_ids` and `labels`, one entry a sentence pair, of a data set with the format `arrow`."""
    import pyarrow.compute

    table = dataset[rows]
    return tuple(pyarrow.compute.list_value_length(table[column]).to_numpy() for column in ("input_ids", "labels"))


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

    Text is divided into windows once and for all: each is `WINDOW // BLOCK` blocks of `BLOCK` rows that follow each other, from
    anywhere in the text. A pass takes the windows in random order. It sorts the sentences of a window by (longer side, other
    side), ties in random order, cuts them so that rows × longest side stays within `max_tokens` (padding and `</s>` included),
    and shuffles the micro-batches. Text of up to `WINDOW` rows is one window.

    The cuts depend on the longer sides in a window alone, so every pass has the same number of micro-batches and draw *k* is
    batch `k mod n` of pass `k div n`: nothing is replayed to find it. Lengths are read from the data set, which is
    memory-mapped; what is kept is the order within the window that is drawn from.

    Args:
        name: of the pair.
        dataset: its token ids.
        max_tokens: of a micro-batch.
        keys: what the orders are seeded with.

    Raises:
        DataError: one sentence alone exceeds `max_tokens`.
    """

    def __init__(self, name: str, dataset: datasets.Dataset, max_tokens: int, *keys: int | str) -> None:
        self.name, self.max_tokens, self.keys = name, max_tokens, keys
        self.dataset = dataset.select_columns(["input_ids", "labels"]).with_format("arrow")
        blocks = np.arange(-(-len(dataset) // BLOCK))
        if len(dataset) > WINDOW:
            np.random.default_rng(derive_seed("windows", name)).shuffle(blocks)
        self.windows = np.split(blocks, range(WINDOW // BLOCK, len(blocks), WINDOW // BLOCK))
        self.counts = np.array([self._count(window) for window in self.windows])
        self._current: tuple[int, int, list[np.ndarray]] = (-1, -1, [])

    def __len__(self) -> int:
        """Micro-batches in one pass."""
        return int(self.counts.sum())

    @property
    def count(self) -> int:
        """The same, where it may be unknown."""
        return len(self)

    @property
    def window(self) -> int | None:
        """Rows that are shuffled together, where they are not all."""
        return WINDOW if len(self.windows) > 1 else None

    @property
    def sentences(self) -> int:
        """Sentence pairs in one pass."""
        return len(self.dataset)

    def draw(self, number: int) -> np.ndarray:
        """Row indices of draw `number` (from 0)."""
        turn, position = divmod(number, len(self))
        order = np.arange(len(self.windows))
        if len(order) > 1:
            order = np.random.default_rng(derive_seed(*self.keys, "windows", self.name, turn)).permutation(order)
        ends = np.cumsum(self.counts[order])
        place = int(np.searchsorted(ends, position, side="right"))
        if self._current[:2] != (turn, place):
            self._current = (turn, place, self._shuffled(turn, order[place]))
        return self._current[2][position - (ends[place - 1] if place else 0)]

    def in_order(self) -> list[np.ndarray]:
        """One unshuffled pass, for evaluation."""
        return [batch for window in self.windows for batch in self._cut(*self._lengths(window), self._rows(window))]

    def rekeyed(self, *keys: int | str) -> "PairBatches":
        """The same micro-batch sizes in orders seeded with other keys."""
        other = copy.copy(self)
        other.keys, other._current = keys, (-1, -1, [])
        return other

    def _rows(self, window: np.ndarray) -> np.ndarray:
        rows = (window[:, None] * BLOCK + np.arange(BLOCK)).ravel()
        return rows[rows < self.sentences]

    def _lengths(self, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The longer and the other side of the rows of a window."""
        blocks = [side_lengths(self.dataset, slice(int(block) * BLOCK, int(block + 1) * BLOCK)) for block in window]
        lengths = [np.concatenate(side) for side in zip(*blocks, strict=True)]
        return np.maximum(*lengths), np.minimum(*lengths)

    def _count(self, window: np.ndarray) -> int:
        """Micro-batches of a window."""
        longer, _ = self._lengths(window)
        if longer.max() > self.max_tokens:
            raise DataError(
                f"max_tokens: {self.name} has a sentence of {longer.max()} tokens, more than max_tokens={self.max_tokens}; "
                "raise max_tokens or lower max_length"
            )
        return len(cut_counted(np.bincount(longer), self.max_tokens))

    def _cut(self, longer: np.ndarray, other: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
        """Rows sorted by their lengths and cut to micro-batches."""
        order = np.lexsort((other, longer))
        return np.split(rows[order], cut_sorted(longer, self.max_tokens)[1:])

    def _shuffled(self, turn: int, window: int) -> list[np.ndarray]:
        """The micro-batches of a window in the order of a pass."""
        place = (window,) if len(self.windows) > 1 else ()
        generator = np.random.default_rng(derive_seed(*self.keys, "order", self.name, turn, *place))
        rows, (longer, other) = self._rows(self.windows[window]), self._lengths(self.windows[window])
        order = generator.permutation(len(rows))
        batches = self._cut(longer[order], other[order], rows[order])
        return [batches[index] for index in generator.permutation(len(batches))]


def cut_sorted(lengths: Sequence[int] | np.ndarray, max_tokens: int) -> list[int]:
    """Start positions of micro-batches over rows sorted by their `lengths`, as many rows each as `max_tokens` admits."""
    return cut_counted(np.bincount(lengths), max_tokens)


def cut_counted(counts: np.ndarray, max_tokens: int) -> list[int]:
    """The same from how many rows there are of each length, in time that depends on the lengths and the micro-batches alone."""
    cuts: list[int] = []
    position, size = 0, 0  # of the next row, and of the micro-batch that is not full yet
    for length in np.flatnonzero(counts):
        count, most = int(counts[length]), max(1, max_tokens // int(length))  # one that is too long is alone
        fits = min(count, max(0, most - size)) if cuts else 0
        starts = range(position + fits, position + count, most)
        cuts += starts
        size = position + count - starts[-1] if starts else size + count
        position += count
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

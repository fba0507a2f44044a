"""64-bit keys of texts, and a set of them with twice eight bytes a key, in memory or on disk."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from hf_paretokd.utils.text import normalised

Keys = NDArray[np.uint64]
KEYS = ("pair", "source", "target", "loose_source", "loose_target")  # of a row: of both sides, of each as it is and normalised
FULLEST = 0.6  # share of the places that are taken, at most
LEAST = 1 << 16  # places


def key_of(text: str) -> int:
    """Of 64 bits, never 0; two of 10⁸ texts share one with a probability of 0.03 %."""
    return xxhash.xxh3_64_intdigest(text.encode()) or 1


def keys_of(texts: Iterable[str]) -> Keys:
    """The keys of some texts."""
    found = np.fromiter(map(xxhash.xxh3_64_intdigest, map(str.encode, texts)), np.uint64)
    found[found == 0] = 1
    return found


def row_keys(sources: Sequence[str], targets: Sequence[str]) -> NDArray[np.uint64]:
    """The keys of rows, a line for each of `KEYS`; that of nothing normalised is 0."""
    found = [keys_of(map("\0".join, zip(sources, targets, strict=True))), keys_of(sources), keys_of(targets)]
    for side in (sources, targets):
        loose = list(map(normalised, side))
        found.append(np.where(np.fromiter(map(len, loose), np.int64) > 0, keys_of(loose), np.uint64(0)))
    return np.stack(found)


class KeySet:
    """Keys that have been seen: open addressing with linear probing, many keys at a time.

    Args:
        path: a file that holds them, so that they take no memory of the process; None for memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path, self.count = path, 0
        self.table = self._empty(LEAST)

    def add(self, keys: Keys) -> NDArray[np.bool_]:
        """Takes keys up; which of them stand there for the first time."""
        each, first = np.unique(keys, return_index=True)
        if self.count + len(each) > FULLEST * len(self.table):
            self._grow(self.count + len(each))
        fresh = np.zeros(len(keys), bool)
        fresh[first[self._insert(each)]] = True
        self.count += int(fresh.sum())
        return fresh

    def _insert(self, keys: Keys) -> NDArray[np.bool_]:
        """Puts different keys into their places; which of them were not there."""
        last = np.uint64(len(self.table) - 1)
        places, pending, new = keys & last, np.arange(len(keys)), np.zeros(len(keys), bool)
        while len(pending):
            at, wanted = places[pending], keys[pending]
            held = self.table[at]
            free = held == 0
            self.table[at[free]] = wanted[free]
            won = free & (self.table[at] == wanted)  # of several that take one place the last has it
            new[pending[won]] = True
            pending = pending[~won & (held != wanted)]
            places[pending] = (places[pending] + np.uint64(1)) & last
        return new

    def _grow(self, count: int) -> None:
        before = np.asarray(self.table)
        size = len(before)
        while count > FULLEST * size:
            size *= 2
        self.table = self._empty(2 * size)
        for start in range(0, len(before), LEAST):
            part = before[start : start + LEAST]
            self._insert(part[part != 0])

    def _empty(self, size: int) -> Keys:
        if self.path is None:
            return np.zeros(size, np.uint64)
        self.path.unlink(missing_ok=True)  # a table that is being copied stays mapped
        return np.memmap(self.path, np.uint64, "w+", shape=(size,))

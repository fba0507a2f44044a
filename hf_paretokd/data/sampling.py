"""The numbered stream of micro-batches: which language pair, which sentences, for which process."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np
import torch

from hf_paretokd.data.batches import PairBatches, collate, side_lengths
from hf_paretokd.data.seeds import uniform


def temperature_probabilities(sizes: Mapping[str, int], temperature: float) -> dict[str, float]:
    """P(ℓ) ∝ N_ℓ^(1/τ) (PMD Eq. 2): τ = 1 follows the sizes N_ℓ, τ → ∞ treats all pairs alike."""
    logs = np.log(np.array(list(sizes.values()), dtype=np.float64)) / temperature
    weights = np.exp(logs - logs.max())
    return dict(zip(sizes, (weights / weights.sum()).tolist(), strict=True))


@dataclass
class SamplerState:
    """Where a stream stands: the next micro-batch number and the draws made so far from each pair."""

    number: int = 0
    draws: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class MicroBatch:
    """Rows of one language pair with their number in the stream."""

    number: int
    pair: str
    rows: Sequence[int]


class MicroBatchStream:
    """An endless stream in which the pair of micro-batch m is a function of (seed, peer, m) alone.

    Within a pair, the position is the number of earlier draws (see `PairBatches`).
    """

    def __init__(self, pairs: Mapping[str, PairBatches], probabilities: Mapping[str, float], seed: int, peer: int = 0) -> None:
        self.pairs = pairs
        self.names = list(pairs)
        self.cumulative = np.cumsum([probabilities[name] for name in self.names])
        self.seed, self.peer = seed, peer

    def pair_of(self, number: int) -> str:
        """The pair of micro-batch `number`."""
        draw = uniform(self.seed, self.peer, "pair", number) * self.cumulative[-1]
        return self.names[min(int(np.searchsorted(self.cumulative, draw, side="right")), len(self.names) - 1)]

    def advance(self, state: SamplerState, number: int) -> SamplerState:
        """The state before micro-batch `number`, from an earlier state."""
        draws = dict(state.draws)
        for skipped in range(state.number, number):
            pair = self.pair_of(skipped)
            draws[pair] = draws.get(pair, 0) + 1
        return SamplerState(number, draws)

    def batches(self, state: SamplerState, rank: int = 0, processes: int = 1) -> Iterator[MicroBatch]:
        """Micro-batches from `state` on whose number is `rank` modulo `processes`, without end."""
        number, draws = state.number, dict(state.draws)
        while True:
            pair = self.pair_of(number)
            position = draws.get(pair, 0)
            if number % processes == rank:
                yield MicroBatch(number, pair, self.pairs[pair].draw(position))
            draws[pair] = position + 1
            number += 1


class MicroBatchSampler(torch.utils.data.Sampler[MicroBatch]):
    """Hands a process its share of a stream; asks where to start when iteration begins, so a resumed run replays nothing.

    It has no `batch_size` and no length: accelerate would drop uneven batches, and the stream has no end.
    """

    def __init__(self, stream: MicroBatchStream, start: Callable[[], SamplerState], rank: int, processes: int) -> None:
        self.stream, self.start, self.rank, self.processes = stream, start, rank, processes

    def __iter__(self) -> Iterator[MicroBatch]:
        return self.stream.batches(self.start(), self.rank, self.processes)


class PairDataset(torch.utils.data.Dataset):
    """Rows of all pairs, fetched a micro-batch at a time and padded in the same step (by a worker, if there are any)."""

    def __init__(self, pairs: Mapping[str, datasets.Dataset], pad_id: int) -> None:
        self.pairs, self.pad_id = pairs, pad_id

    def __getitems__(self, batch: MicroBatch) -> dict[str, Any]:
        columns = self.pairs[batch.pair][batch.rows]
        rows = [
            {"input_ids": ids, "labels": labels} for ids, labels in zip(columns["input_ids"], columns["labels"], strict=True)
        ]
        return {**collate(rows, self.pad_id), "number": batch.number}


def build_pair_batches(pairs: Mapping[str, datasets.Dataset], max_tokens: int, *keys: int | str) -> dict[str, PairBatches]:
    """`PairBatches` of every pair; `keys` seed their orders."""
    return {name: PairBatches(name, side_lengths(dataset), max_tokens, *keys) for name, dataset in pairs.items()}

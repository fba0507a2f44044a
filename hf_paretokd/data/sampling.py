"""The numbered streams of micro-batches: which language pair, which sentences, for which peer and process."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import datasets
import numpy as np
import torch

from hf_paretokd.data.batches import PairBatches, collate
from hf_paretokd.data.seeds import uniform
from hf_paretokd.data.streams import StreamBatches
from hf_paretokd.errors import TrainingError

Batches = PairBatches | StreamBatches
TOP_IDS, TOP_LOGITS = "top_ids", "top_logits"  # columns of text that a teacher has read
MOMENTS = 1000  # of a training, at which a distribution is looked at
SAMPLER_NAMES = {"chi_ibr": "χ-IBR", "multi_uat": "MultiUAT", "multi_dds": "MultiDDS-S", "schedule": "schedule"}


def temperature_probabilities(sizes: Mapping[str, int], temperature: float) -> dict[str, float]:
    """P(ℓ) ∝ N_ℓ^(1/τ) (PMD Eq. 2): τ = 1 follows the sizes N_ℓ, τ → ∞ treats all pairs alike."""
    logs = np.log(np.array(list(sizes.values()), dtype=np.float64)) / temperature
    weights = np.exp(logs - logs.max(initial=-np.inf))
    return dict(zip(sizes, (weights / weights.sum()).tolist(), strict=True))


def sampling_names(
    temperatures: Sequence[float], epochs: Sequence[float] | None = None, samplers: Sequence[str] | None = None
) -> list[str]:
    """What every peer samples by, for tables: `τ = 5`, `UniMax 4` where epochs are given, or a sampler's name."""
    limits, kinds = epochs or [0.0] * len(temperatures), samplers or ["none"] * len(temperatures)
    still = [f"UniMax {limit:g}" if limit else f"τ = {tau:g}" for tau, limit in zip(temperatures, limits, strict=True)]
    return [name if kind == "none" else SAMPLER_NAMES.get(kind, kind) for name, kind in zip(still, kinds, strict=True)]


@dataclass
class SamplerState:
    """Where a stream stands: the next micro-batch number and the draws made so far from each pair."""

    number: int = 0
    draws: dict[str, int] = field(default_factory=dict)


class PairDistribution(Protocol):
    """P(ℓ) of one peer, which may depend on where its stream stands."""

    def probabilities(self, state: SamplerState) -> Mapping[str, float]:
        """P(ℓ) of the next micro-batch."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep, as JSON."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a state from a checkpoint."""


def check_sampler(state: Mapping[str, Any], wanted: str) -> None:
    """Raises a TrainingError if a checkpoint was sampled by something else."""
    found = state.get("sampler", "unimax_epochs" if "unimax" in state else "temperatures")
    if found != wanted:
        raise TrainingError(
            f"samplers, sampling_schedule: the checkpoint was sampled by {found}, now it would be by {wanted}; keep it as it "
            "was, or start a new run"
        )


class TemperatureSampling:
    """P(ℓ) ∝ N_ℓ^(1/τ) throughout (PMD Eq. 2)."""

    def __init__(self, sizes: Mapping[str, int], temperature: float) -> None:
        self.temperature = temperature
        self._probabilities = temperature_probabilities(sizes, temperature)

    def probabilities(self, state: SamplerState) -> Mapping[str, float]:
        """P(ℓ), the same at every state."""
        return self._probabilities

    def state_dict(self) -> dict[str, Any]:
        """The temperature, so that a resumed run cannot change it unseen."""
        return {"temperature": self.temperature}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises a TrainingError if the checkpoint was sampled at another temperature."""
        if "unimax" in state:
            raise TrainingError("unimax_epochs: the checkpoint was sampled with it; keep it as it was, or start a new run")
        check_sampler(state, "temperatures")
        if state.get("temperature", self.temperature) != self.temperature:
            raise TrainingError(
                f"temperatures: the checkpoint was sampled with τ = {state['temperature']:g}, now it would be "
                f"{self.temperature:g}; keep it as it was, or start a new run"
            )


def unimax_shares(tokens: Mapping[str, int], budget: float, epochs: float) -> dict[str, float]:
    """Tokens that each language pair gets of a budget (Chung et al., ICLR 2023, Alg. 1).

    From the smallest to the largest, each takes an equal share of what is left, but no more than its text `epochs` times.

    Args:
        tokens: of each pair's text.
        budget: of the whole training.
        epochs: N.
    """
    taken, left = {}, budget
    for number, name in enumerate(sorted(tokens, key=lambda name: tokens[name])):
        taken[name] = min(left / (len(tokens) - number), epochs * tokens[name])
        left -= taken[name]
    return {name: taken[name] for name in tokens}


class UniMaxSampling:
    """UniMax: as even as it can be without any text being seen more than N times.

    Micro-batches are drawn so that the tokens expected of each pair are in proportion to `unimax_shares`.

    Args:
        tokens: target tokens of each pair's text.
        batches: how many micro-batches they fill.
        micro_batches: of the whole training.
        epochs: N.
    """

    def __init__(self, tokens: Mapping[str, int], batches: Mapping[str, int], micro_batches: int, epochs: float) -> None:
        self.epochs = epochs
        budget = micro_batches * sum(tokens.values()) / sum(batches.values())
        passes = {name: share / tokens[name] for name, share in unimax_shares(tokens, budget, epochs).items()}
        whole = sum(passes[name] * batches[name] for name in tokens)
        self._probabilities = {name: passes[name] * batches[name] / whole for name in tokens}

    def probabilities(self, state: SamplerState) -> Mapping[str, float]:
        """P(ℓ), the same at every state."""
        return self._probabilities

    def state_dict(self) -> dict[str, Any]:
        """N and what came of it: a training that is made longer keeps its probabilities."""
        return {"unimax": self.epochs, "probabilities": self._probabilities}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises a TrainingError if the checkpoint was sampled otherwise."""
        if "sampler" in state:
            check_sampler(state, "unimax_epochs")
        if state.get("unimax") != self.epochs:
            raise TrainingError(
                f"unimax_epochs: the checkpoint was sampled with {state.get('unimax') or 'a temperature'}, now it would be "
                f"{self.epochs:g}; keep it as it was, or start a new run"
            )
        self._probabilities = dict(state["probabilities"])


@dataclass(frozen=True)
class MicroBatch:
    """Rows of one language pair with their number in the stream."""

    number: int
    pair: str
    rows: Sequence[int] | np.ndarray | Mapping[str, Any]  # of a stream the columns themselves


class MicroBatchStream:
    """An endless stream in which the pair of micro-batch m is a function of the keys, m and the distribution alone.

    Within a pair, the position is the number of earlier draws (see `PairBatches`).

    Args:
        pairs: the micro-batches of every pair.
        distribution: P(ℓ).
        keys: what the draws are seeded with, (seed, peer) in training.
    """

    def __init__(self, pairs: Mapping[str, Batches], distribution: PairDistribution, *keys: int | str) -> None:
        self.pairs, self.distribution, self.keys = pairs, distribution, keys

    def pair_of(self, state: SamplerState) -> str:
        """The pair of the next micro-batch."""
        probabilities = self.distribution.probabilities(state)
        names, cumulative = list(probabilities), np.cumsum(list(probabilities.values()))
        draw = uniform(*self.keys, "pair", state.number) * cumulative[-1]
        return names[min(int(np.searchsorted(cumulative, draw, side="right")), len(names) - 1)]

    def after(self, state: SamplerState) -> tuple[str, int, SamplerState]:
        """(pair, position within the pair) of the next micro-batch, and the state after it."""
        pair = self.pair_of(state)
        position = state.draws.get(pair, 0)
        return pair, position, SamplerState(state.number + 1, {**state.draws, pair: position + 1})

    def advance(self, state: SamplerState, number: int) -> SamplerState:
        """The state before micro-batch `number`, from an earlier state."""
        while state.number < number:
            _, _, state = self.after(state)
        return state

    def places(self, state: SamplerState) -> dict[str, Any]:
        """Where text without an end is to be read on from, by pair."""
        endless = {name: each for name, each in self.pairs.items() if isinstance(each, StreamBatches)}
        return {name: each.state_dict(state.draws.get(name, 0)) for name, each in endless.items()}

    def go_to(self, places: Mapping[str, Any]) -> None:
        """Takes up what `places` gave."""
        for name, each in self.pairs.items():
            if isinstance(each, StreamBatches) and name in places:
                each.load_state_dict(places[name])

    def batches(self, state: SamplerState, rank: int = 0, processes: int = 1) -> Iterator[MicroBatch]:
        """Micro-batches from `state` on whose number is `rank` modulo `processes`, without end."""
        while True:
            number = state.number
            pair, position, state = self.after(state)
            if number % processes == rank:
                yield MicroBatch(number, pair, self.pairs[pair].draw(position))


class MicroBatchSampler(torch.utils.data.Sampler[tuple[MicroBatch, ...]]):
    """Hands a process its share of every peer's stream, one micro-batch of each peer at a time.

    It asks where to start when iteration begins, so a resumed run replays nothing. It has no `batch_size` and no length:
    accelerate would drop uneven batches, and the streams have no end.
    """

    def __init__(
        self, streams: Sequence[MicroBatchStream], start: Callable[[], Sequence[SamplerState]], rank: int, processes: int
    ) -> None:
        self.streams, self.start, self.rank, self.processes = streams, start, rank, processes

    def __iter__(self) -> Iterator[tuple[MicroBatch, ...]]:
        places = zip(self.streams, self.start(), strict=True)
        return zip(*(stream.batches(state, self.rank, self.processes) for stream, state in places), strict=True)


class PairDataset(torch.utils.data.Dataset):
    """Rows of all pairs, fetched a micro-batch at a time and padded in the same step (by a worker, if there are any)."""

    def __init__(self, pairs: Mapping[str, datasets.Dataset], pad_id: int) -> None:
        self.pairs, self.pad_id = pairs, pad_id

    def fetch(self, batch: MicroBatch) -> dict[str, Any]:
        """The tensors of one micro-batch (see `collate`) and the name of its `pair`."""
        columns = batch.rows if isinstance(batch.rows, Mapping) else self.pairs[batch.pair][batch.rows]
        rows = [
            {"input_ids": ids, "labels": labels} for ids, labels in zip(columns["input_ids"], columns["labels"], strict=True)
        ]
        found = {**collate(rows, self.pad_id), "pair": batch.pair}
        if TOP_IDS in columns:  # of a teacher, for every target token
            tokens = sum(len(row["labels"]) for row in rows)
            for name, kind in ((TOP_IDS, torch.int64), (TOP_LOGITS, torch.float32)):
                found[name] = torch.tensor([each for row in columns[name] for each in row], dtype=kind).view(tokens, -1)
        return found

    def __getitems__(self, batches: Sequence[MicroBatch]) -> dict[str, Any]:
        return {"number": batches[0].number, "batches": [self.fetch(batch) for batch in batches]}


def build_pair_batches(pairs: Mapping[str, datasets.Dataset], max_tokens: int, *keys: int | str) -> dict[str, PairBatches]:
    """`PairBatches` of every pair; `keys` seed their orders."""
    return {name: PairBatches(name, dataset, max_tokens, *keys) for name, dataset in pairs.items()}


@dataclass(frozen=True)
class SamplingRow:
    """What a peer is expected to see of one language pair in a whole training."""

    peer: int
    pair: str
    probability: float
    passes: float | None  # of a stream, nobody knows
    sentences: float | None


def mean_probabilities(distribution: PairDistribution, micro_batches: int) -> Mapping[str, float]:
    """P(ℓ) on average over a training, so far as it is known."""
    places = sorted({place * micro_batches // MOMENTS for place in range(MOMENTS)})
    found = [distribution.probabilities(SamplerState(number)) for number in places]
    if all(each == found[0] for each in found):
        return found[0]
    return {name: sum(each[name] for each in found) / len(found) for name in found[0]}


def expected_sampling(streams: Sequence[MicroBatchStream], micro_batches: int) -> list[SamplingRow]:
    """A row for each peer (counted from 1) and pair, for trainings of `micro_batches` micro-batches a peer."""
    rows = []
    for peer, stream in enumerate(streams, 1):
        for pair, probability in mean_probabilities(stream.distribution, micro_batches).items():
            text = stream.pairs[pair]
            passes = probability * micro_batches / text.count if text.count else None
            rows.append(SamplingRow(peer, pair, probability, passes, passes and passes * (text.sentences or 0)))
    return rows

"""Distributions of language pairs that change while a training goes on: at borders that were planned, or that are found."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_paretokd.data.sampling import SamplerState, check_sampler, temperature_probabilities
from hf_paretokd.errors import TrainingError

PHASE = {"share", "temperature", "pairs"}
SHARE = "sampling_"  # before a pair's name, in logs
SHARES = Callable[[float, Mapping[str, int]], Mapping[str, float]]


class ChangingSampling:
    """P(ℓ) that stays the same from one change to the next.

    Args:
        kind: what it is changed by, such as `multi_uat` or `schedule`.
        changes: (micro-batch, P(ℓ) from there on), in ascending order, from 0.
    """

    def __init__(self, kind: str, changes: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        self.kind, self.changes = kind, [(number, dict(each)) for number, each in changes]

    def probabilities(self, state: SamplerState) -> Mapping[str, float]:
        """P(ℓ) since the last change."""
        return next(each for number, each in reversed(self.changes) if number <= state.number)

    def change(self, number: int, probabilities: Mapping[str, float]) -> None:
        """P(ℓ) from micro-batch `number` on, of which none was drawn yet."""
        self.changes.append((number, dict(probabilities)))

    def state_dict(self) -> dict[str, Any]:
        """All changes: a training that is made longer keeps its borders."""
        return {"sampler": self.kind, "changes": self.changes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises a TrainingError if the checkpoint was sampled otherwise."""
        check_sampler(state, self.kind)
        self.changes = [(number, dict(each)) for number, each in state["changes"]]


class FunctionSampling:
    """P(ℓ) by a function of the user's.

    Args:
        function: from the share of the training that is done, 0 to 1, and the sentence pairs of each language pair to P(ℓ), not
            necessarily normalised; the same at every call.
        sizes: sentence pairs.
        micro_batches: of the whole training.
    """

    def __init__(self, function: SHARES, sizes: Mapping[str, int], micro_batches: int) -> None:
        self.function, self.sizes, self.micro_batches = function, dict(sizes), micro_batches

    def probabilities(self, state: SamplerState) -> Mapping[str, float]:
        """P(ℓ) of the next micro-batch.

        Raises:
            TrainingError: the function gave none.
        """
        share = min(state.number / self.micro_batches, 1.0)
        found = self.function(share, self.sizes)
        fine = isinstance(found, Mapping) and set(found) <= set(self.sizes)
        if not fine or not all(0 <= each < math.inf for each in found.values()) or not sum(found.values()) > 0:
            raise TrainingError(
                f"sampling: gave {found!r} after {share:.0%} of the training; give pairs of the training and their shares"
            )
        whole = sum(found.values())
        return {name: found.get(name, 0.0) / whole for name in self.sizes}

    def state_dict(self) -> dict[str, Any]:
        """That it is one, and the length that shares are of: a training that is made longer keeps it."""
        return {"sampler": "function", "micro_batches": self.micro_batches}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises a TrainingError if the checkpoint was sampled otherwise."""
        check_sampler(state, "function")
        self.micro_batches = state.get("micro_batches", self.micro_batches)  # older ones do not say


@dataclass(frozen=True)
class Phase:
    """A part of a training with one distribution.

    Args:
        share: of all updates.
        temperature: τ; None for the peer's own.
        pairs: that are drawn; None for all.
    """

    share: float
    temperature: float | None = None
    pairs: tuple[str, ...] | None = None


def phases_of(schedule: Sequence[Any]) -> list[Phase]:
    """The phases that a schedule lists as dictionaries of `share`, `temperature` and `pairs`.

    Raises:
        TrainingError: one is no phase, or the shares are not those of a whole.
    """
    found = []
    for place, each in enumerate(schedule, 1):
        where = f"sampling_schedule: phase {place}"
        if not isinstance(each, Mapping) or not {"share"} <= set(each) <= PHASE:
            raise TrainingError(f"{where}: {each!r} is no phase; give share, and temperature and pairs if they change")
        share, temperature, pairs = each["share"], each.get("temperature"), each.get("pairs")
        for name, value in (("share", share), ("temperature", temperature)):
            if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
                raise TrainingError(f"{where}: {name} {value!r} is not above 0")
        if pairs is not None and not (
            isinstance(pairs, list | tuple) and pairs and all(isinstance(pair, str) for pair in pairs)
        ):
            raise TrainingError(f"{where}: pairs {pairs!r} is no list of language pairs")
        found.append(Phase(share, temperature, None if pairs is None else tuple(pairs)))
    if not found or abs(sum(phase.share for phase in found) - 1) > 1e-6:
        raise TrainingError(f"sampling_schedule: the shares add up to {sum(phase.share for phase in found):g}, not to 1")
    return found


def scheduled(phases: Sequence[Phase], sizes: Mapping[str, int], temperature: float, micro_batches: int) -> ChangingSampling:
    """The distribution of a training of so many micro-batches by its phases.

    Args:
        phases: of the training.
        sizes: sentence pairs of each language pair.
        temperature: τ where a phase names none.
        micro_batches: of the whole training.

    Raises:
        TrainingError: a phase names a pair that is not trained.
    """
    changes, done = [], 0.0
    for place, phase in enumerate(phases, 1):
        if unknown := set(phase.pairs or ()) - set(sizes):
            raise TrainingError(f"sampling_schedule: phase {place}: {sorted(unknown)[0]} is none of {', '.join(sizes)}")
        drawn = {name: size for name, size in sizes.items() if phase.pairs is None or name in phase.pairs}
        found = temperature_probabilities(drawn, phase.temperature or temperature)
        changes.append((round(done * micro_batches), {name: found.get(name, 0.0) for name in sizes}))
        done += phase.share
    return ChangingSampling("schedule", changes)

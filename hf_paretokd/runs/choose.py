"""Which model of a run fits a device: the best or the smallest one under budgets of time, size and quality."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_paretokd.errors import ModelError, RecipeError
from hf_paretokd.evaluation.bootstrap import Scores
from hf_paretokd.evaluation.groups import equal_to_best
from hf_paretokd.evaluation.latency import Protocol
from hf_paretokd.models.member import Member
from hf_paretokd.runs.measure import measure_run
from hf_paretokd.runs.run import Run
from hf_paretokd.utils.choices import PREFERENCES


@dataclass(frozen=True)
class Candidate:
    """A model with its cost: milliseconds a sentence, megabytes on disk, BLEU (None if it was not scored)."""

    member: Member
    milliseconds: float
    megabytes: float
    bleu: float | None

    @property
    def quality(self) -> float:
        """Its BLEU, for comparisons."""
        return -math.inf if self.bleu is None else self.bleu


@dataclass(frozen=True)
class Budget:
    """What a device allows; None is no limit."""

    max_ms: float | None = None
    max_mb: float | None = None
    min_bleu: float | None = None

    def excess(self, candidate: Candidate) -> float:
        """By how much a candidate misses the budget, as the largest share of a limit; 0 if it fits."""
        shares = [0.0]
        if self.max_ms is not None:
            shares.append(candidate.milliseconds / self.max_ms - 1)
        if self.max_mb is not None:
            shares.append(candidate.megabytes / self.max_mb - 1)
        if self.min_bleu is not None:
            shares.append(math.inf if candidate.bleu is None else 1 - candidate.bleu / self.min_bleu)
        return max(shares)

    def misses(self, candidate: Candidate) -> list[str]:
        """Each limit a candidate misses, in words."""
        limits = (
            (self.max_ms, candidate.milliseconds, f"{candidate.milliseconds:.1f} ms instead of {self.max_ms}"),
            (self.max_mb, candidate.megabytes, f"{candidate.megabytes:.1f} MB instead of {self.max_mb}"),
        )
        found = [text for limit, value, text in limits if limit is not None and value > limit]
        if self.min_bleu is not None and (candidate.bleu is None or candidate.bleu < self.min_bleu):
            found.append(f"{'no' if candidate.bleu is None else f'{candidate.bleu:.1f}'} BLEU instead of {self.min_bleu}")
        return found


@dataclass(frozen=True)
class Choice:
    """The chosen candidate, or None and the one that comes `nearest` with what it `misses`.

    `best` is another candidate with the highest BLEU of all that fit, to which the chosen one is equal within noise.
    """

    chosen: Candidate | None
    nearest: Candidate
    misses: list[str]
    best: Candidate | None = None


def choose(
    candidates: Sequence[Candidate], budget: Budget, prefer: str | None = None, scores: Mapping[Member, Scores] | None = None
) -> Choice:
    """Picks among the candidates that keep to the budget.

    Args:
        candidates: at least one.
        budget: the limits.
        prefer: `best` BLEU, `smallest` or `fastest`, ties going to the smaller and then the faster one; default: of those
            equal to the best within noise the smallest, or of all the smallest under no limit but one of BLEU.
        scores: on the text and its resamples, by which candidates are equal to the best within noise.

    Raises:
        ModelError: a limit is not positive, or there is no such preference.
    """
    for name in ("max_ms", "max_mb", "min_bleu"):
        limit = getattr(budget, name)
        if limit is not None and not limit > 0:
            raise ModelError(f"--{name.replace('_', '-')}: {limit} is not positive")
    unsaid = prefer is None
    if prefer is None:
        prefer = "best" if budget.max_ms or budget.max_mb or not budget.min_bleu else "smallest"
    if prefer not in PREFERENCES:
        raise ModelError(f"--prefer: {prefer!r} is not one of {', '.join(PREFERENCES)}")
    keys = {
        "best": lambda candidate: (-candidate.quality, candidate.megabytes, candidate.milliseconds),
        "smallest": lambda candidate: (candidate.megabytes, candidate.milliseconds, -candidate.quality),
        "fastest": lambda candidate: (candidate.milliseconds, candidate.megabytes, -candidate.quality),
    }
    fitting = [candidate for candidate in candidates if budget.excess(candidate) <= 0]
    nearest = min(candidates, key=budget.excess)
    if not fitting:
        return Choice(None, nearest, budget.misses(nearest))
    first = min(fitting, key=keys[prefer])
    known = {each.member: scores[each.member] for each in fitting if scores and each.member in scores}
    if not unsaid or prefer != "best" or len(known) < len(fitting):
        return Choice(first, nearest, budget.misses(nearest))
    equals = equal_to_best(known)
    chosen = min((each for each in fitting if each.member in equals), key=keys["smallest"])
    return Choice(chosen, nearest, budget.misses(nearest), None if chosen is first else first)


def candidates_of(
    run: Run, pair: str | None = None, engine: str = "transformers", quantization: str = "float32"
) -> tuple[Protocol, list[Candidate]]:
    """The run's models with measured latency and size, and BLEU on a pair or on average.

    Raises:
        RecipeError: the run knows no such pair.
    """
    if pair and pair not in run.pairs:
        raise RecipeError(f"--pair: {pair!r} was not scored; known are {', '.join(run.pairs)}")
    protocol, costs = measure_run(run, engine, quantization)
    return protocol, [
        Candidate(member, cost.milliseconds, cost.megabytes, run.quality(member, pair)) for member, cost in costs.items()
    ]


def choose_student(
    run: str | Path,
    max_ms: float | None = None,
    max_mb: float | None = None,
    min_bleu: float | None = None,
    pair: str | None = None,
    prefer: str | None = None,
    engine: str = "transformers",
    quantization: str = "float32",
) -> Choice:
    """The best or smallest model of a finished run under budgets; nothing is trained.

    Args:
        run: the run's folder.
        max_ms: milliseconds a sentence, as `Protocol` describes.
        max_mb: megabytes of weights on disk.
        min_bleu: BLEU of the float32 model in the run's results.
        pair: the language pair whose BLEU counts; default: the average over pairs.
        prefer: `best`, `smallest` or `fastest`, see `choose`.
        engine: what runs the model, see `measure_run`.
        quantization: its number format.

    Raises:
        TrainingError, RecipeError, ModelError: no finished run, an unknown pair or engine, a limit that is not positive.
    """
    opened = Run(run).finished()
    _, found = candidates_of(opened, pair, engine, quantization)
    return choose(found, Budget(max_ms, max_mb, min_bleu), prefer, opened.resampled(pair))

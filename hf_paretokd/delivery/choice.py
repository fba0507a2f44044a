"""Which student fits a device: the best or the smallest one under budgets of time, size and quality."""

from collections.abc import Sequence
from dataclasses import dataclass

from hf_paretokd.errors import ModelError
from hf_paretokd.evaluation.outputs import System

PREFERENCES = ("best", "smallest", "fastest")


@dataclass(frozen=True)
class Candidate:
    """A model with its cost: milliseconds a sentence, megabytes on disk, BLEU."""

    system: System
    milliseconds: float
    megabytes: float
    bleu: float


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
            shares.append(1 - candidate.bleu / self.min_bleu)
        return max(shares)

    def misses(self, candidate: Candidate) -> list[str]:
        """Each limit a candidate misses, in words."""
        limits = (
            (self.max_ms, candidate.milliseconds, f"{candidate.milliseconds:.1f} ms instead of {self.max_ms}"),
            (self.max_mb, candidate.megabytes, f"{candidate.megabytes:.1f} MB instead of {self.max_mb}"),
        )
        found = [text for limit, value, text in limits if limit is not None and value > limit]
        if self.min_bleu is not None and candidate.bleu < self.min_bleu:
            found.append(f"{candidate.bleu:.1f} BLEU instead of {self.min_bleu}")
        return found


@dataclass(frozen=True)
class Choice:
    """The chosen candidate, or None and the one that comes `nearest` with what it `misses`."""

    chosen: Candidate | None
    nearest: Candidate
    misses: list[str]


def choose(candidates: Sequence[Candidate], budget: Budget, prefer: str | None = None) -> Choice:
    """Picks among the candidates that keep to the budget.

    Args:
        candidates: at least one.
        budget: the limits.
        prefer: `best` BLEU, `smallest` or `fastest`, ties going to the smaller and then the faster one; default: the best
            under limits of time or size, the smallest under none but a limit of BLEU.

    Raises:
        ModelError: a limit is not positive, or there is no such preference.
    """
    for name in ("max_ms", "max_mb", "min_bleu"):
        limit = getattr(budget, name)
        if limit is not None and not limit > 0:
            raise ModelError(f"--{name.replace('_', '-')}: {limit} is not positive")
    if prefer is None:
        prefer = "best" if budget.max_ms or budget.max_mb or not budget.min_bleu else "smallest"
    if prefer not in PREFERENCES:
        raise ModelError(f"--prefer: {prefer!r} is not one of {', '.join(PREFERENCES)}")
    keys = {
        "best": lambda each: (-each.bleu, each.megabytes, each.milliseconds),
        "smallest": lambda each: (each.megabytes, each.milliseconds, -each.bleu),
        "fastest": lambda each: (each.milliseconds, each.megabytes, -each.bleu),
    }
    fitting = [each for each in candidates if budget.excess(each) <= 0]
    nearest = min(candidates, key=budget.excess)
    return Choice(min(fitting, key=keys[prefer]) if fitting else None, nearest, budget.misses(nearest))

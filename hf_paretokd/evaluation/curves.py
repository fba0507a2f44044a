"""Whether a training was long enough, by its validation curve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FEWEST = 4  # validations by which anything can be said
RISE, FALL = 0.005, 0.01  # shares of the validation loss that mean something
LATE = 0.9  # share of the updates after which a best validation is none to speak of


@dataclass(frozen=True)
class Verdict:
    """What a curve says, and what helps."""

    finding: str
    advice: str = ""


def judged(log: Sequence[Mapping[str, Any]], passes: float | None = None) -> Verdict | None:
    """`undertrained`, `over-fitted` or `long enough`, and by what; None where there are too few validations.

    Over-fitted is a training whose validation loss is half a per cent above its best, which lies in the first nine tenths;
    undertrained one whose last quarter brought a best that is one per cent or more below the one before, or that has not seen
    all of its text.

    Args:
        log: lines of the training log.
        passes: over the training text.
    """
    found = [(line["step"], line["eval_loss"]) for line in log if isinstance(line.get("eval_loss"), float) and "step" in line]
    curve = {step: loss for step, loss in found if 0 < loss < np.inf}
    if len(curve) < FEWEST:
        return None
    steps, losses = np.array(list(curve)), np.array(list(curve.values()))
    last, best = steps[-1], int(np.argmin(losses))
    rise = losses[-1] / losses[best] - 1
    if steps[best] <= LATE * last and rise > RISE:
        finding = f"over-fitted after update {steps[best]:,}: the validation loss rose by {rise:.1%} since"
        return Verdict(finding, "more dropout or text helps")
    three_quarters = 0.75 * last
    before = np.append(losses[steps < three_quarters], np.interp(three_quarters, steps, losses)).min()
    fall = 1 - losses[steps >= three_quarters].min() / before
    what = f"the validation loss fell by {max(fall, 0.0):.1%} in the last quarter"
    seen = f", after {passes:.3g} passes" if passes else ""
    if fall >= FALL or (passes is not None and passes < 1):
        return Verdict(f"undertrained: {what}{seen}", "train longer (--extend)")
    return Verdict(f"long enough: {what}{seen}")

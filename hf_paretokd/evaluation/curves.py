"""Whether a training was long enough, by its validation curve."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FEWEST = 4  # validations by which anything can be said
RISE, FALL = 0.005, 0.01  # shares of the validation loss that mean something
LATE = 0.9  # share of the updates after which a best validation is none to speak of


def judged(log: Sequence[Mapping[str, Any]], passes: float | None = None) -> str | None:
    """`undertrained`, `over-fitted` or `long enough`, and by what; None where there are too few validations.

    Over-fitted is a training whose validation loss is half a per cent above its best, which lies in the first nine tenths;
    undertrained one whose best is one per cent or more below where it was after three quarters of the updates.

    Args:
        log: lines of the training log.
        passes: over the training text.
    """
    curve = {line["step"]: line["eval_loss"] for line in log if isinstance(line.get("eval_loss"), float) and "step" in line}
    if len(curve) < FEWEST:
        return None
    steps, losses = np.array(list(curve)), np.array(list(curve.values()))
    last, best = steps[-1], int(np.argmin(losses))
    rise = losses[-1] / losses[best] - 1
    if steps[best] <= LATE * last and rise > RISE:
        found = f"over-fitted after update {steps[best]:,}: the validation loss rose by {rise:.1%} since"
        return f"{found}; more dropout or text helps"
    before = float(np.interp(0.75 * last, steps, losses))
    fall = 1 - losses[best] / before
    seen = f", after {passes:.3g} passes" if passes else ""
    if fall >= FALL:
        return f"undertrained: the validation loss fell by {fall:.1%} in the last quarter{seen}; train longer (--extend)"
    return f"long enough: the validation loss fell by {max(fall, 0.0):.1%} in the last quarter{seen}"

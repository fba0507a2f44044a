"""The actions of AUTO-PMD on a distillation weight, and the schedule of their size (PMD §3.3)."""

import math
from collections.abc import Sequence

INCREASE, KEEP, DECREASE = "increase", "keep", "decrease"
DIRECTION = {INCREASE: 1.0, KEEP: 0.0, DECREASE: -1.0}
TIE_ORDER = (KEEP, INCREASE, DECREASE)  # a tie tells nothing, so the weight stays


def moved(weight: float, step: float) -> float:
    """σ(σ⁻¹(α) + step): f↑ for step = µ, f↓ for −µ, f= for 0 (PMD Eq. 9–11); 0 and 1 cannot be left."""
    if step == 0 or weight in (0.0, 1.0):
        return weight
    return 1 / (1 + math.exp(-(math.log(weight / (1 - weight)) + step)))


def act(weight: float, action: str, step_size: float) -> float:
    """The weight after one of the three actions with step size µ."""
    return moved(weight, DIRECTION[action] * step_size)


def scheduled_step_size(step_size: float, decay: float, update: int, max_updates: int) -> float:
    """µ = µ₀ · √(max(0, 1 − decay · t / T_max)) (PMD Eq. 12 and Tab. 3).

    The decays 0, 0.8, 1.2 and 1 are the paper's schedules 1 to 4.
    """
    return step_size * math.sqrt(max(0.0, 1 - decay * update / max_updates))


def best_action(losses: dict[str, float], order: Sequence[str] = TIE_ORDER) -> str:
    """The action with the smallest loss; of equal ones the first in `order`."""
    return min(order, key=losses.__getitem__)

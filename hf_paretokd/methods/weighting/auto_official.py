"""AUTO-PMD as the released code runs it, where that differs from the paper.

Trials run one after the other on the live peer, and nothing but the schedule and the weight vector is taken back, so every
search trains the peer further. They use the micro-batches that the next updates will use; those of the first peer are mixed
with the second peer's. σ⁻¹ cuts its argument at 0.98, also on the way back, so large weights drift. µ follows epochs.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from hf_paretokd.methods.weighting.actions import DECREASE, DIRECTION, INCREASE, KEEP, best_action
from hf_paretokd.methods.weighting.rules import INITIAL_WEIGHT, Measurements, WeightRule

ORDER = (INCREASE, KEEP, DECREASE)
CLIP = 0.98


class OfficialMeasurements(Measurements, Protocol):
    """What this rule needs beyond `Measurements`."""

    updates_per_pass: float

    def train_on_coming(self, peer: int, sources: Sequence[int], weights: Mapping[str, float]) -> None:
        """Trains a peer for good on the first coming updates; `sources` says of whose stream each update is taken."""


def clipped_move(weight: float, step: float) -> float:
    """σ(σ⁻¹(min(α, 0.98)) + step)."""
    weight = min(weight, CLIP)
    return 1 / (1 + math.exp(-(math.log(weight / (1 - weight)) + step)))


def epoch_step_size(epoch: int, max_epoch: int, start_epoch: int, decay: float) -> float:
    """µ of the released schedules; `decay` names the paper's schedule that each stands for.

    1: √((E−e)/(E−e₀)); 0.8: 0.2 + 0.8·that; 1.2: √((0.8E−e)/(0.8E−e₀)), 0 after 0.8E; 0: 1.
    """
    if decay == 0:
        return 1.0
    end = 0.8 * max_epoch if decay == 1.2 else max_epoch
    root = math.sqrt(max(0.0, (end - epoch) / (end - start_epoch)))
    return 0.2 + 0.8 * root if decay == 0.8 else root


def trial_updates(length: int, share: float) -> int:
    """Updates of a trial: it stops at the first one with n / length > ρ, that is ⌊ρ·length⌋ + 1."""
    return math.floor(share * length + 1e-9) + 1


def update_sources(peer: int, updates: int) -> list[int]:
    """Whose stream each trial update is taken from: the first peer's even ones are the second's."""
    return [1 if peer == 0 and update % 2 == 0 else peer for update in range(updates)]


class OfficialAutomaticWeights(WeightRule):
    """AUTO-PMD of the released code, for two peers.

    Args:
        pairs: the language pairs.
        decay: which schedule of µ, see `epoch_step_size`.
        trial_share: ρ.
        warmup: updates without distillation; the schedule starts with the epoch after them.
    """

    changes = True

    def __init__(self, pairs: Sequence[str], decay: float, trial_share: float, warmup: int) -> None:
        super().__init__(pairs, 2, INITIAL_WEIGHT)
        self.decay, self.trial_share, self.warmup = decay, trial_share, warmup

    def update(self, measure: OfficialMeasurements, update: int, max_updates: int) -> None:
        """One search for every peer, the second one against the first as it came out of its own."""
        length = measure.updates_per_pass
        epoch, start, last = 1 + round(update / length), 1 + round(self.warmup / length), round(max_updates / length)
        step_size = epoch_step_size(epoch, last, start, self.decay) if last > start else 0.0
        if step_size == 0:
            return
        searches: list[dict[str, Any]] = []
        sources = [update_sources(peer, trial_updates(round(length), self.trial_share)) for peer in range(2)]
        for peer in range(2):
            losses = {}
            for action in ORDER:
                step = DIRECTION[action] * step_size
                self.move(peer, dict.fromkeys(self.weights[peer], step))
                measure.train_on_coming(peer, sources[peer], self.weights[peer])
                losses[action] = measure.losses(peer)
                self.move(peer, dict.fromkeys(self.weights[peer], -step))
            actions = {pair: best_action({a: found[pair] for a, found in losses.items()}, ORDER) for pair in self.weights[peer]}
            self.move(peer, {pair: DIRECTION[action] * step_size for pair, action in actions.items()})
            searches.append({"losses": losses, "actions": actions})
        self.record(update, step_size=step_size, searches=searches)

    def move(self, peer: int, steps: Mapping[str, float]) -> None:
        """Moves the live weights, clipping them on the way."""
        self.weights[peer] = {pair: clipped_move(weight, steps[pair]) for pair, weight in self.weights[peer].items()}

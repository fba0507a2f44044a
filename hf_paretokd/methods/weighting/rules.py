"""Rules for the distillation weights α_i[ℓ] of every peer i and language pair ℓ (PMD §3.2, §3.3, App. G)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from hf_paretokd.errors import RecipeError
from hf_paretokd.layout import WEIGHTS_HISTORY
from hf_paretokd.methods.weighting.actions import TIE_ORDER, act, best_action, scheduled_step_size

Weights = list[dict[str, float]]
INITIAL_WEIGHT = 0.1  # α⁰ of the searches


class Measurements(Protocol):
    """What a rule may find out about the peers while they train."""

    def losses(self, peer: int) -> dict[str, float]:
        """Validation cross-entropy per token of every pair."""

    def trials(self, peer: int, candidates: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
        """`losses` after training the peer for a while with each of the candidate weights, each time from where it is now.

        The peer is then as it was before, bit for bit.
        """


class WeightRule:
    """Weights that stay as they began; base of the rules that change them.

    Args:
        pairs: the language pairs.
        peers: how many peers there are.
        weight: α at the beginning.
    """

    changes = False

    def __init__(self, pairs: Sequence[str], peers: int, weight: float) -> None:
        self.weights: Weights = [dict.fromkeys(pairs, weight) for _ in range(peers)]
        self.history: list[dict[str, Any]] = []
        self.record(0)

    def record(self, update: int, **found: Any) -> None:
        """Adds the present weights, and what they were decided by, to the history."""
        self.history.append({"update": update, "weights": [dict(each) for each in self.weights], **found})

    def update(self, measure: Any, update: int, max_updates: int) -> None:
        """Sets the weights anew after `update` updates of `max_updates`; called every T updates if the rule `changes`."""

    def state_dict(self) -> dict[str, Any]:
        """Weights and history, as JSON."""
        return {"weights": self.weights, "history": self.history}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state."""
        self.weights, self.history = [dict(each) for each in state["weights"]], list(state["history"])


class BidirectionalWeights(WeightRule):
    """BI-PMD (PMD Eq. 6): α everywhere; 0 before the first decision (PMD Alg. 1), or at once.

    With equal temperatures this is vanilla mutual distillation.
    """

    def __init__(self, pairs: Sequence[str], peers: int, weight: float, at_once: bool = False) -> None:
        super().__init__(pairs, peers, weight if at_once else 0.0)
        self.weight, self.changes = weight, not at_once

    def update(self, measure: Any, update: int, max_updates: int) -> None:
        """Sets α, at the first decision; there is nothing to measure."""
        if any(value != self.weight for mine in self.weights for value in mine.values()):
            self.weights = [dict.fromkeys(mine, self.weight) for mine in self.weights]
            self.record(update)


class FixedWeights(WeightRule):
    """Weights of one's own choice for every peer and pair; LSMD takes the last ones of an AUTO-PMD run (PMD App. G)."""

    def __init__(self, pairs: Sequence[str], peers: int, weights: Weights) -> None:
        super().__init__(pairs, peers, 0.0)
        self.weights = [{pair: each[pair] for pair in pairs} for each in weights]
        self.history = []
        self.record(0)


@dataclass(frozen=True)
class UnidirectionalDecision:
    """Who learns a pair (PMD Eq. 5): the peer with the largest validation loss; a tie teaches nobody.

    With a tolerance, as in the official code, every peer learns that is not better than the worst other by more than it.
    """

    weight: float
    tolerance: float

    def __call__(self, losses: list[float]) -> list[float]:
        """α of every peer from their losses."""
        worst_other = [max(losses[:peer] + losses[peer + 1 :]) for peer in range(len(losses))]
        learns = [
            mine + self.tolerance >= other if self.tolerance else mine > other
            for mine, other in zip(losses, worst_other, strict=True)
        ]
        return [self.weight if each else 0.0 for each in learns]


class UnidirectionalWeights(WeightRule):
    """UNI-PMD (PMD Eq. 5): in every language pair the worse peer learns from the others; 0 before the first decision."""

    changes = True

    def __init__(self, pairs: Sequence[str], peers: int, weight: float, tolerance: float) -> None:
        super().__init__(pairs, peers, 0.0)
        self.decide = UnidirectionalDecision(weight, tolerance)

    def update(self, measure: Measurements, update: int, max_updates: int) -> None:
        """Compares the peers pair by pair."""
        losses = [measure.losses(peer) for peer in range(len(self.weights))]
        for pair in self.weights[0]:
            for mine, weight in zip(self.weights, self.decide([each[pair] for each in losses]), strict=True):
                mine[pair] = weight
        self.record(update, losses=losses)


class AutomaticWeights(WeightRule):
    """AUTO-PMD (PMD Alg. 2): tries every action on all weights at once, then takes for each pair the action that did best.

    All peers are tried with the weights and against the peers of before the search. Nothing is tried once µ has reached 0.
    """

    changes = True

    def __init__(self, pairs: Sequence[str], peers: int, step_size: float, decay: float) -> None:
        super().__init__(pairs, peers, INITIAL_WEIGHT)
        self.step_size, self.decay = step_size, decay

    def choose(self, losses: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
        """The action for every pair from `losses[action][pair]`."""
        pairs = losses[TIE_ORDER[0]]
        return {pair: best_action({action: found[pair] for action, found in losses.items()}) for pair in pairs}

    def update(self, measure: Measurements, update: int, max_updates: int) -> None:
        """One search for every peer; the history keeps µ, the losses of every trial and the actions taken."""
        step_size = scheduled_step_size(self.step_size, self.decay, update, max_updates)
        if step_size == 0:
            return
        decided, searches = [], []
        for peer, weights in enumerate(self.weights):
            candidates = {
                action: {pair: act(weight, action, step_size) for pair, weight in weights.items()} for action in TIE_ORDER
            }
            losses = dict(zip(candidates, measure.trials(peer, list(candidates.values())), strict=True))
            actions = self.choose(losses)
            decided.append({pair: candidates[action][pair] for pair, action in actions.items()})
            searches.append({"losses": losses, "actions": actions})
        self.weights = decided
        self.record(update, step_size=step_size, searches=searches)


class DynamicWeights(AutomaticWeights):
    """DYNAMIC-MD (PMD App. G): as AUTO-PMD, but one action for all pairs, that with the smallest mean loss."""

    def choose(self, losses: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
        """The same action for every pair."""
        action = best_action({action: sum(found.values()) for action, found in losses.items()})
        return dict.fromkeys(losses[action], action)


def read_weights(path: str | Path, pairs: Sequence[str], peers: int, rule: str | None = None) -> Weights:
    """Weights from a JSON or YAML file, or from the folder of a run.

    The file has a list `weights` with one mapping from language pairs to α for every peer, as a run's
    `distillation_weights.json` has.

    Raises:
        RecipeError: the file is missing or malformed, lacks a pair, or is not from a run with the rule wanted.
    """
    path = Path(path)
    if path.is_dir():
        path /= WEIGHTS_HISTORY
    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"weights_file {path}: cannot be read ({' '.join(str(error).split())})") from error
    weights = found.get("weights") if isinstance(found, dict) else None
    if not isinstance(weights, list) or len(weights) != peers or not all(isinstance(each, dict) for each in weights):
        raise RecipeError(f"weights_file {path}: expected a list `weights` with {peers} mappings, one for each peer")
    if rule is not None and found.get("strategy") != rule:
        raise RecipeError(f"weights_file {path}: is not from a run with strategy {rule} but {found.get('strategy')!r}")
    for peer, each in enumerate(weights, 1):
        for pair in pairs:
            value = each.get(pair)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise RecipeError(f"weights_file {path}: peer {peer}, pair {pair}: {value!r} is not a weight between 0 and 1")
    return weights

import copy

import pytest

from hf_paretokd.methods.weighting.auto_official import (
    OfficialAutomaticWeights,
    clipped_move,
)
from hf_paretokd.methods.weighting.rules import (
    AutomaticWeights,
    BidirectionalWeights,
    DynamicWeights,
    UnidirectionalDecision,
    UnidirectionalWeights,
)

ACTIONS = ("increase", "keep", "decrease")


class Scripted:
    """Losses by peer, and trial losses by peer and action; remembers which weights were tried."""

    updates_per_pass = 10.0

    def __init__(self, losses=(), trials=()):
        self._losses, self._trials, self.tried, self.trained = losses, trials, [], []

    def losses(self, peer):
        if self._trials:  # the live trials of the official rule
            return self._trials[peer][ACTIONS[(len(self.trained) - 1) % 3]]
        return dict(self._losses[peer])

    def trials(self, peer, candidates):
        self.tried.append((peer, [dict(each) for each in candidates]))
        return [self._trials[peer][action] for action in ("keep", "increase", "decrease")]

    def train_on_coming(self, peer, sources, weights):
        self.trained.append((peer, list(sources), dict(weights)))


PAIRS = ["fr-en", "de-en", "ro-en", "tr-en"]


FIGURE_3 = {
    "increase": dict(zip(PAIRS, (2.6, 4.4, 4.5, 3.4), strict=True)),
    "keep": dict(zip(PAIRS, (2.9, 3.5, 3.7, 3.7), strict=True)),
    "decrease": dict(zip(PAIRS, (3.1, 4.1, 4.5, 2.9), strict=True)),
}


START = dict(zip(PAIRS, (0.54, 0.23, 0.79, 0.95), strict=True))


def test_the_papers_figure_3():
    """D-5: the search of one peer with µ = 1."""
    rule, measure = AutomaticWeights(PAIRS, 2, 1.0, 0.0), Scripted(trials=[FIGURE_3, FIGURE_3])
    rule.weights = [dict(START), dict(START)]
    rule.update(measure, 5, 10)
    for found in rule.weights:
        assert list(found.values()) == pytest.approx([0.761395, 0.23, 0.79, 0.874839], abs=1e-6)
    _, (kept, raised, lowered) = measure.tried[0]
    assert kept == START
    assert list(raised.values()) == pytest.approx([0.7614, 0.4481, 0.9109, 0.9810], abs=1e-4)
    assert list(lowered.values()) == pytest.approx([0.3016, 0.0990, 0.5805, 0.8748], abs=1e-4)
    assert [peer for peer, _ in measure.tried] == [0, 1]
    assert rule.history[-1]["searches"][0]["losses"] == FIGURE_3
    assert rule.history[-1]["searches"][0]["actions"]["tr-en"] == "decrease"


def test_dynamic_takes_one_action_for_all_pairs():
    """D-5: sums 14.9, 13.8, 14.6."""
    rule = DynamicWeights(PAIRS, 2, 1.0, 0.0)
    rule.weights = [dict(START), dict(START)]
    rule.update(Scripted(trials=[FIGURE_3, FIGURE_3]), 5, 10)
    assert rule.weights == [START, START]
    cheaper = {**FIGURE_3, "decrease": dict.fromkeys(PAIRS, 3.0)}
    rule.update(Scripted(trials=[cheaper, FIGURE_3]), 6, 10)
    assert list(rule.weights[0].values()) == pytest.approx([0.3016, 0.0990, 0.5805, 0.8748], abs=1e-4)
    assert rule.weights[1] == START
    uneven = {
        "keep": dict.fromkeys(PAIRS, 4.0),
        "increase": {**dict.fromkeys(PAIRS, 3.0), PAIRS[0]: 5.0},  # better on average, and worse where it is worst
        "decrease": dict.fromkeys(PAIRS, 4.5),
    }
    assert rule.choose(uneven) == dict.fromkeys(PAIRS, "increase")


def test_searches_begin_at_a_tenth_and_end_with_the_step_size():
    rule = AutomaticWeights(PAIRS, 3, 1.0, 1.2)
    assert rule.weights == [dict.fromkeys(PAIRS, 0.1)] * 3
    measure = Scripted(trials=[FIGURE_3] * 3)
    rule.update(measure, 9, 10)
    assert not measure.tried
    assert len(rule.history) == 1


@pytest.mark.parametrize(
    ("losses", "tolerance", "expected"),
    [
        ([3.0, 3.2], 0.0, [0, 0.6]),
        ([3.0, 3.2], 0.05, [0, 0.6]),
        ([3.0, 3.04], 0.0, [0, 0.6]),
        ([3.0, 3.04], 0.05, [0.6, 0.6]),
        ([3.0, 3.0], 0.0, [0, 0]),
        ([3.0, 3.0], 0.05, [0.6, 0.6]),
        ([3.0, 3.5, 3.2], 0.0, [0, 0.6, 0]),
        ([3.0, 3.5, 3.5], 0.0, [0, 0, 0]),
        ([3.0, 3.5, 3.48], 0.05, [0, 0.6, 0.6]),
    ],
)
def test_unidirectional_decisions(losses, tolerance, expected):
    """D-8 (PMD Eq. 5), ties and three peers."""
    assert UnidirectionalDecision(0.6, tolerance)(losses) == expected


def test_unidirectional_weights_per_pair():
    rule = UnidirectionalWeights(["fr-en", "ko-en"], 2, 0.6, 0.0)
    assert rule.weights == [{"fr-en": 0, "ko-en": 0}] * 2, "nobody learns before the first decision"
    rule.update(Scripted([{"fr-en": 2.0, "ko-en": 5.0}, {"fr-en": 2.5, "ko-en": 4.0}]), 3, 10)
    assert rule.weights == [{"fr-en": 0, "ko-en": 0.6}, {"fr-en": 0.6, "ko-en": 0}]
    assert rule.history[-1]["losses"][1]["ko-en"] == 4.0


def test_bidirectional_weights_and_saved_state():
    rule = BidirectionalWeights(PAIRS, 2, 0.4)
    assert rule.weights == [dict.fromkeys(PAIRS, 0.0)] * 2, "nobody learns before the first decision"
    for update in (3, 6):
        rule.update(None, update, 10)
        assert rule.weights == [dict.fromkeys(PAIRS, 0.4)] * 2
    assert [entry["update"] for entry in rule.history] == [0, 3]
    at_once = BidirectionalWeights(PAIRS, 2, 0.4, at_once=True)
    assert at_once.weights == rule.weights
    assert (rule.changes, at_once.changes) == (True, False)
    other = AutomaticWeights(PAIRS, 2, 1.0, 0.0)
    other.update(Scripted(trials=[FIGURE_3, FIGURE_3]), 5, 10)
    restored = AutomaticWeights(PAIRS, 2, 1.0, 0.0)
    restored.load_state_dict(copy.deepcopy(other.state_dict()))
    assert (restored.weights, restored.history) == (other.weights, other.history)


def test_the_official_search():
    """Live trials in the order ↑, =, ↓, weights moved forth and back through the clip, ties to ↑."""
    rule = OfficialAutomaticWeights(PAIRS, 1.0, 0.1, warmup=40)
    rule.weights = [dict(START), dict.fromkeys(PAIRS, 0.1)]
    tied = {action: dict.fromkeys(PAIRS, 1.0) for action in ACTIONS}
    measure = Scripted(trials=[FIGURE_3, tied])
    rule.update(measure, 40, 740)  # epoch 5 of 74: µ = 1
    assert rule.history[-1]["step_size"] == 1
    assert [(peer, len(sources)) for peer, sources, _ in measure.trained] == [(0, 2)] * 3 + [(1, 2)] * 3
    assert measure.trained[0][1] == [1, 0]
    assert measure.trained[0][2]["tr-en"] == pytest.approx(clipped_move(0.95, 1.0))
    drifted = clipped_move(clipped_move(0.95, 1.0), -1.0)
    assert measure.trained[1][2]["tr-en"] == pytest.approx(drifted)
    assert drifted < 0.9475
    assert rule.weights[0]["fr-en"] == pytest.approx(0.761395, abs=1e-6)
    assert rule.weights[0]["ro-en"] == pytest.approx(0.79, abs=1e-6)
    assert rule.weights[1]["fr-en"] == pytest.approx(0.2319693, abs=1e-6)
    before = len(measure.trained)
    rule.update(measure, 730, 740)  # epoch 74: µ = 0
    assert len(measure.trained) == before

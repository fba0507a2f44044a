"""Rules for distillation weights, their actions, and trials that leave no trace."""

import copy
import math
import random

import numpy as np
import pytest
import torch

from hf_paretokd import ParetoMutualConfig, ParetoMutualTrainer
from hf_paretokd.weighting.actions import act, best_action, moved, scheduled_step_size
from hf_paretokd.weighting.auto_official import (
    OfficialAutomaticWeights,
    clipped_move,
    epoch_step_size,
    trial_updates,
    update_sources,
)
from hf_paretokd.weighting.rules import (
    AutomaticWeights,
    BidirectionalWeights,
    DynamicWeights,
    UnidirectionalDecision,
    UnidirectionalWeights,
)
from hf_paretokd.weighting.snapshot import PeerSnapshot

ACTIONS = ("increase", "keep", "decrease")


# ---- actions and schedules ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "step_size", "up", "down"),
    [
        (0.1, 1, 0.2319693, 0.0392703),
        (0.5, 1, 0.7310586, 0.2689414),
        (0.9, 1, 0.9607297, 0.7680307),
        (0.1, 0.5, 0.1548281, 0.0631373),
    ],
)
def test_actions(weight, step_size, up, down):
    """D-4."""
    found = [act(weight, action, step_size) for action in ACTIONS]
    assert found == pytest.approx([up, weight, down], abs=1e-7)
    assert act(found[0], "decrease", step_size) == pytest.approx(weight, abs=1e-12)


def test_actions_in_a_row_and_at_the_ends():
    """D-4, and D-6 for the paper's form: nothing is clipped."""
    weight, path = 0.1, []
    for _ in range(5):
        weight = act(weight, "increase", 1.0)
        path.append(weight)
    assert path == pytest.approx([0.231969, 0.450853, 0.690568, 0.858486, 0.942826], abs=1e-6)
    assert moved(moved(0.97, 1.0), -1.0) == pytest.approx(0.97, abs=1e-12)
    assert moved(0.0, 1.0) == 0.0
    assert moved(1.0, -1.0) == 1.0


def test_the_papers_step_size_schedules():
    """D-7 (PMD Eq. 12, Tab. 3)."""
    assert [scheduled_step_size(1.0, 1.0, t, 70) for t in (0, 35, 70)] == pytest.approx([1, 0.7071068, 0], abs=1e-7)
    assert scheduled_step_size(1.0, 0.8, 70, 70) == pytest.approx(0.4472136, abs=1e-7)
    assert scheduled_step_size(1.0, 1.2, 8333, 10_000) > 0
    assert scheduled_step_size(1.0, 1.2, 8334, 10_000) == 0
    assert {scheduled_step_size(1.0, 0.0, t, 70) for t in range(71)} == {1.0}
    assert scheduled_step_size(0.5, 1.0, 35, 70) == pytest.approx(0.5 * 0.7071068, abs=1e-7)


def test_the_official_step_sizes():
    """D-7."""
    for epoch, expected in {5: 1, 6: 0.992727, 20: 0.884652, 40: 0.701964, 73: 0.120386, 74: 0}.items():
        assert epoch_step_size(epoch, 74, 5, 1.0) == pytest.approx(expected, abs=1e-6)
    assert epoch_step_size(74, 74, 5, 0.8) == pytest.approx(0.2)
    for epoch, expected in {40: 0.595184, 59: 0.060746, 60: 0}.items():
        assert epoch_step_size(epoch, 74, 5, 1.2) == pytest.approx(expected, abs=1e-6)
    assert epoch_step_size(40, 74, 5, 0.0) == 1


def test_the_official_clip():
    """D-6."""
    assert clipped_move(0.99, 0.0) == pytest.approx(0.98)
    assert math.log(clipped_move(0.99, 0.0) / (1 - clipped_move(0.99, 0.0))) == pytest.approx(3.8918203, abs=1e-7)
    assert clipped_move(0.97, 1.0) == pytest.approx(0.9887503, abs=1e-7)
    assert clipped_move(clipped_move(0.97, 1.0), -1.0) == pytest.approx(0.9474406, abs=1e-7)


def test_official_trials():
    """D-17."""
    assert [trial_updates(length, 0.1) for length in (100, 101, 37)] == [11, 11, 4]
    assert update_sources(0, 5) == [1, 0, 1, 0, 1]
    assert update_sources(1, 5) == [1, 1, 1, 1, 1]


def test_ties():
    assert best_action(dict.fromkeys(ACTIONS, 1.0)) == "keep"
    assert best_action({"increase": 1.0, "keep": 2.0, "decrease": 1.0}) == "increase"
    assert best_action(dict.fromkeys(ACTIONS, 1.0), ACTIONS) == "increase", "the official order"


# ---- rules on scripted losses -------------------------------------------------------------------------------------------


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
    assert rule.weights == [dict.fromkeys(PAIRS, 0.4)] * 2
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


# ---- trials on real peers -----------------------------------------------------------------------------------------------


@pytest.fixture
def new_trainer(new_model, encoded, tokenizer, tmp_path):
    def build(folder="run", peers=2, **fields):
        defaults = {
            "output_dir": str(tmp_path / folder),
            "temperatures": [1.0, 5.0, 2.0][:peers],
            "max_steps": 5,
            "max_tokens": 400,
            "warmup_steps": 2,
            "eval_steps": 5,
            "update_interval": 2,
            "trial_share": 0.02,
            "gradient_accumulation_steps": 2,
            "learning_rate": 3e-3,
            "load_best_model_at_end": False,
            "disable_tqdm": True,
        }
        return ParetoMutualTrainer(
            [new_model(seed=seed, dropout=0.2) for seed in range(1, peers + 1)],
            ParetoMutualConfig(**{**defaults, **fields}),
            train_dataset=encoded["train"],
            eval_dataset=encoded["validation"],
            processing_class=tokenizer,
        )

    return build


def everything(trainer):
    """Weights, moments, options, schedule and generators of a trainer, as a flat list of comparable values."""
    optimizer = trainer.optimizer.optimizer
    values = [value for _, value in trainer.model.state_dict().items()]
    for parameter in trainer.model.parameters():
        values += [value for _, value in sorted(optimizer.state.get(parameter, {}).items())]
    options = [sorted((k, v) for k, v in group.items() if k != "params") for group in optimizer.param_groups]
    return (
        [value.clone() if isinstance(value, torch.Tensor) else copy.deepcopy(value) for value in values],
        (options, copy.deepcopy(trainer.lr_scheduler.state_dict()), random.getstate()),
        (torch.get_rng_state().clone(), torch.from_numpy(np.random.get_state()[1].copy())),
    )


def moved_on(before, after):
    """Whether any weight differs."""
    return any(not torch.equal(one, other) for one, other in zip(before[0], after[0], strict=True))


def assert_unchanged(before, after):
    """D-18: bit for bit."""
    assert len(before[0]) == len(after[0])
    assert before[1] == after[1]
    for one, other in zip((*before[0], *before[2]), (*after[0], *after[2]), strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize(
    "options", [{}, {"bf16": True}, {"optim": "sgd", "optim_args": "momentum=0.9"}], ids=["adam", "bf16", "sgd"]
)
def test_a_search_leaves_no_trace(new_trainer, options):
    trainer = new_trainer(strategy="auto", **options)
    states, search = [], trainer.rule.update

    def watched(*arguments):
        states.append(everything(trainer))
        search(*arguments)
        states.append(everything(trainer))

    trainer.rule.update = watched
    trainer.train()
    assert len(states) == 4
    assert_unchanged(*states[:2])
    assert_unchanged(*states[2:])
    assert moved_on(states[0], states[2]), "the training in between did change something"
    entry = trainer.rule.history[1]["searches"][0]["losses"]
    assert entry["increase"] != entry["decrease"], "trials with other weights end elsewhere"


def test_the_naive_copy_fails_that_test():
    """D-18: `state_dict()` without cloning, the official code's way, keeps references and so restores nothing."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 1)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)

    def step():
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    count = lambda: int(optimizer.state[layer.weight]["step"])  # noqa: E731
    before = layer.weight.detach().clone()
    naive, moments = layer.state_dict(), optimizer.state_dict()
    snapshot, counts = PeerSnapshot(layer, optimizer, scheduler), []
    for _ in range(3):
        step()
        step()
        layer.load_state_dict(naive)
        optimizer.load_state_dict(moments)
        counts.append(count())
    assert counts == [3, 5, 7]
    assert not torch.equal(layer.weight, before)
    snapshot.restore()
    assert torch.equal(layer.weight, before)
    assert count() == 1


def test_trials_start_from_one_place_on_one_sample(new_trainer):
    trainer = new_trainer(strategy="auto")
    trainer.train()
    weights = {"fr-en": 0.3, "bs-en": 0.3}
    first, second, other = trainer.trials.trials(0, [weights, weights, {"fr-en": 0.9, "bs-en": 0.3}])
    assert first == second != other
    assert trainer.trials.losses(0) != first, "a trial does train"


def test_searches_whose_choices_change_nothing_change_nothing(new_trainer, tmp_path):
    searched = new_trainer(strategy="auto")
    searched.rule.choose = lambda losses: dict.fromkeys(losses["keep"], "keep")
    searched.train()
    path = tmp_path / "tenth.yaml"
    path.write_text("weights: [{fr-en: 0.1, bs-en: 0.1}, {fr-en: 0.1, bs-en: 0.1}]")
    fixed = new_trainer("fixed", strategy="fixed", weights_file=str(path))
    fixed.train()
    assert len(searched.rule.history) == 3
    for name, value in searched.model.state_dict().items():
        assert torch.equal(value, fixed.model.state_dict()[name]), name


def test_losses_are_unsmoothed_unless_asked(new_trainer):
    trainer = new_trainer(strategy="uni")
    metrics = trainer.evaluate()
    assert np.mean(list(trainer.trials.losses(1).values())) == pytest.approx(metrics["eval_peer2_nll"], rel=1e-6)
    smoothed = new_trainer(strategy="uni", smoothed_validation=True)
    assert smoothed.trials.losses(1)["bs-en"] == pytest.approx(smoothed.evaluate()["eval_peer2_loss_bs-en"], rel=1e-6)


@pytest.mark.parametrize("strategy", ["uni", "dynamic"])
def test_three_peers(new_trainer, strategy):
    trainer = new_trainer(strategy=strategy, peers=3)
    trainer.train()
    assert len(trainer.rule.weights) == 3
    assert [entry["update"] for entry in trainer.rule.history] == [0, 2, 4]
    if strategy == "uni":
        for pair in ("fr-en", "bs-en"):
            assert sum(mine[pair] > 0 for mine in trainer.rule.weights) == 1


def test_the_official_search_trains_the_peers_further(new_trainer):
    trainer = new_trainer(strategy="auto_official", max_steps=8, update_interval=2)
    trainer.trials.trainer.updates_per_pass = 2.0  # epochs of two updates
    before, rates = [], []
    search = trainer.rule.update

    def watched(*arguments):
        before.append(everything(trainer))
        rates.append(trainer.lr_scheduler.get_last_lr())
        search(*arguments)
        before.append(everything(trainer))
        rates.append(trainer.lr_scheduler.get_last_lr())

    trainer.rule.update = watched
    trainer.train()
    assert moved_on(*before[:2]), "nothing is rolled back"
    assert rates[0] == rates[1], "but the schedule is"
    assert before[0][1][:2] == before[1][1][:2]
    assert len(trainer.rule.history) > 1

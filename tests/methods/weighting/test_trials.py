import copy
import math
import random
from itertools import islice

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from hf_paretokd.data.batches import collate
from hf_paretokd.data.sampling import SamplerState
from hf_paretokd.methods.weighting.snapshot import PeerSnapshot


@pytest.fixture
def trainer_defaults():
    return {
        "method": "pareto_mutual",
        "dropout": 0.2,
        "max_steps": 5,
        "eval_steps": 5,
        "update_interval": 2,
        "trial_share": 0.02,
        "gradient_accumulation_steps": 2,
        "load_best_model_at_end": False,
    }


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


def test_every_search_draws_its_own_sample(new_trainer, new_model):
    trainer = new_trainer(strategy="auto", model=[new_model(seed=seed) for seed in (1, 2)], trial_share=0.03)
    trainer.train()
    weights = [{"fr-en": 0.3, "bs-en": 0.3}]
    first = trainer.trials.trials(0, weights)
    trainer.state.global_step += 1
    assert trainer.trials.trials(0, weights) != first


def test_a_trial_draws_as_its_peer_does_now(new_trainer, monkeypatch):
    """Not as it did when the training began."""
    schedule = [{"share": 0.5, "pairs": ["fr-en"]}, {"share": 0.5, "pairs": ["bs-en"]}]
    trainer, drawn = new_trainer(strategy="auto", sampling_schedule=schedule, trial_share=0.03), []
    trainer.train()
    monkeypatch.setattr(trainer.trials, "update", lambda peer, batches, *rest: drawn.extend(each.pair for each in batches))
    for update, pair in ((0, "fr-en"), (trainer.args.max_steps - 1, "bs-en")):
        trainer.state.global_step = update
        drawn.clear()
        trainer.trials.trials(0, [{"fr-en": 0.3, "bs-en": 0.3}])
        assert {*drawn} == {pair}


@pytest.mark.parametrize("limit", [0.3, None])
def test_an_update_of_a_trial_is_one_of_a_training(new_trainer, new_model, encoded, tokenizer, limit):
    """By hand: the loss a token of the whole update, its gradient cut to the limit, and a step down it."""
    fields = {"optim": "sgd", "learning_rate": 0.5, "lr_scheduler_type": "constant", "warmup_steps": 0, "max_grad_norm": limit}
    trainer = new_trainer(strategy="auto", model=[new_model(seed=seed) for seed in (1, 2)], **fields)
    trainer.train()
    drawn = list(islice(trainer.text.streams[0].batches(SamplerState(), 0, 1), 2))
    model = copy.deepcopy(trainer.model.models()[0]).train()
    batches = [collate([encoded["train"][each.pair][int(row)] for row in each.rows], tokenizer.pad_token_id) for each in drawn]
    losses = []
    for batch in batches:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
        logits = model(**inputs).logits[..., : tokenizer.pad_token_id].flatten(0, 1)
        losses.append(cross_entropy(logits, batch["labels"].flatten(), reduction="sum", label_smoothing=0.1))
    tokens = sum((batch["labels"] != -100).sum() for batch in batches)
    (sum(losses) / tokens).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit or math.inf)
    assert norm > 0.3, "the limit matters"
    trainer.trials.update(0, drawn, {"fr-en": 0.0, "bs-en": 0.0}, "trial")
    for (name, after), before in zip(trainer.model.models()[0].named_parameters(), model.parameters(), strict=True):
        step = 0.0 if before.grad is None else 0.5 * before.grad
        assert torch.allclose(after, before - step, atol=1e-6), name


def test_searches_whose_choices_change_nothing_change_nothing(new_trainer, tmp_path):
    searched = new_trainer(strategy="auto")
    searched.rule.choose = lambda losses: dict.fromkeys(losses["keep"], "keep")
    searched.train()
    path = tmp_path / "tenth.yaml"
    path.write_text("weights: [{fr-en: 0.1, bs-en: 0.1}, {fr-en: 0.1, bs-en: 0.1}]")
    fixed = new_trainer(folder="fixed", strategy="fixed", weights_file=str(path))
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
    trainer = new_trainer(strategy=strategy, temperatures=[1.0, 5.0, 2.0])
    trainer.train()
    assert len(trainer.rule.weights) == 3
    assert [entry["update"] for entry in trainer.rule.history] == [0, 2, 4]
    if strategy == "uni":
        for pair in ("fr-en", "bs-en"):
            assert sum(mine[pair] > 0 for mine in trainer.rule.weights) == 1


def test_the_official_search_trains_the_peers_further(new_trainer):
    trainer = new_trainer(strategy="auto_official", max_steps=8, update_interval=2)
    trainer.trials.trainer.text.updates_per_pass = 2.0  # epochs of two updates
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

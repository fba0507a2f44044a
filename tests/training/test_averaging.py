"""Weights averaged over updates, against the sum that defines them."""

from statistics import mean

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from hf_paretokd import PlainConfig
from hf_paretokd.errors import ModelError, TrainingError
from hf_paretokd.layout import LIVE_WEIGHTS
from hf_paretokd.training import evaluating

DECAY = 0.7


class Trace(TrainerCallback):
    """Keeps the parameters after every update, before anything is validated or saved."""

    def __init__(self):
        self.trainer, self.seen = None, []

    def on_step_end(self, args, state, control, **kwargs):
        self.seen.append(flat(self.trainer))


def flat(trainer):
    return torch.cat([each.detach().flatten().clone() for each in trainer.model.parameters() if each.requires_grad])


def expected(seen, count):
    """Σ d^(t−i)·θ_i / Σ d^(t−i)."""
    powers = [DECAY ** (count - number) for number in range(1, count + 1)]
    return sum(power * each.double() for power, each in zip(powers, seen, strict=False)) / sum(powers)


@pytest.fixture
def traced(new_trainer):
    def build(method="all_in_one", **fields):
        trace = Trace()
        trainer = new_trainer(method, callbacks=[trace], ema_decay=DECAY, max_steps=6, eval_steps=2, **fields)
        trace.trainer = trainer
        return trainer, trace

    return build


@pytest.fixture
def trainer_defaults():
    return {"save_total_limit": 9, "dropout": 0.1}


@pytest.mark.parametrize("method", ["plain", "all_in_one", "pareto_mutual"])
def test_what_is_saved_validated_and_handed_out_is_the_average(traced, method, new_trainer, encoded):
    fields = {"mutual_start": 0.0} if method == "all_in_one" else {}
    trainer, trace = traced(method, load_best_model_at_end=False, **fields)
    trainer.train()
    assert len(trace.seen) == 6
    torch.testing.assert_close(flat(trainer).double(), expected(trace.seen, 6), rtol=1e-5, atol=1e-6)
    losses = {line["step"]: line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line}
    for step in (2, 4):
        other = new_trainer(method, folder="other", **fields)
        other._load_models(trainer.checkpoint(step))
        torch.testing.assert_close(flat(other).double(), expected(trace.seen, step), rtol=1e-5, atol=1e-6)
        assert other.evaluate()["eval_loss"] == losses[step]
        live = torch.cat([each.flatten() for _, each in sorted(load_file(trainer.checkpoint(step) / LIVE_WEIGHTS).items())])
        assert torch.equal(live.sort().values, trace.seen[step - 1].sort().values)


def test_the_best_is_an_average_too_and_stage_two_begins_from_it(traced):
    trainer, trace = traced(mutual_start=0.5, stage2_reset=["optimizer", "scheduler", "best_metric"])
    begun = []
    begin = trainer.begin_stage_two
    trainer.begin_stage_two = lambda: (begin(), begun.append(flat(trainer)))
    trainer.train()
    (start,) = begun
    lines = [line for line in trainer.state.log_history if "eval_loss" in line and line["step"] <= 3]
    best = min(lines, key=lambda line: line["eval_loss"])
    torch.testing.assert_close(start.double(), expected(trace.seen, best["step"]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("best", [True, False])
def test_a_resumed_training_is_the_unbroken_one(traced, best):
    whole, _ = traced(load_best_model_at_end=best, folder="whole", mutual_start=0.0)
    whole.train()
    resumed, _ = traced(load_best_model_at_end=best, folder="whole", mutual_start=0.0)
    resumed.train(resume_from_checkpoint=str(whole.checkpoint(4)))
    assert torch.equal(flat(whole), flat(resumed))
    ended, _ = traced(load_best_model_at_end=best, folder="whole", mutual_start=0.0)
    ended.train(resume_from_checkpoint=str(whole.checkpoint(6)))
    assert torch.equal(flat(whole), flat(ended))


def test_students_are_slices_of_the_average(traced, tmp_path):
    trainer, _ = traced(load_best_model_at_end=False, mutual_start=0.0)
    trainer.train()
    trainer.save_students(["2-2"], tmp_path / "students")
    weights = load_file(tmp_path / "students" / "2-2" / "model.safetensors")
    name = "model.decoder.layers.1.fc1.weight"
    assert torch.equal(weights[name], dict(trainer.model.teacher.named_parameters())[name])


def test_lost_weights_are_named(traced):
    trainer, _ = traced()
    trainer.train()
    (trainer.checkpoint(4) / LIVE_WEIGHTS).unlink()
    other, _ = traced()
    with pytest.raises(ModelError, match="not a whole checkpoint"):
        other.train(resume_from_checkpoint=str(trainer.checkpoint(4)))
    with pytest.raises(ModelError, match="its weights cannot be used"):
        other.load_training_state(trainer.checkpoint(4))


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1])
def test_what_is_no_decay(tmp_path, decay):
    with pytest.raises(TrainingError, match=r"ema_decay: .* is not between 0 and 1"):
        PlainConfig(output_dir=str(tmp_path), ema_decay=decay)


def test_every_peer_ends_as_the_average_that_validated_best(traced, monkeypatch):
    left = [(9.0, 9.0), (3.0, 5.0), (4.0, 4.0), (5.0, 6.0)]  # the first checks the names
    real = evaluating.metrics_of_peers

    def found(*arguments):
        peers = left.pop(0)
        return {**real(*arguments), "peer1_loss": peers[0], "peer2_loss": peers[1], "loss": mean(peers)}

    monkeypatch.setattr(evaluating, "metrics_of_peers", found)
    trainer, _ = traced("pareto_mutual")
    trainer.train()
    assert [trainer.best_step(peer) for peer in (0, 1)] == [2, 4]
    for peer, step in enumerate((2, 4)):
        state = trainer.model.peers[peer].state_dict()
        for name, value in load_file(trainer.checkpoint(step) / "peers" / str(peer + 1) / "model.safetensors").items():
            assert torch.equal(state[name], value), (peer, name)

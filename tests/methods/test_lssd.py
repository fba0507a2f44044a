"""Language-specific self-distillation: its equation, who teaches when, resumes."""

import pytest
import torch
from reference import gradients, slice_logits, smoothed_cross_entropy

from hf_paretokd import LSSDConfig
from hf_paretokd.errors import DataError, TrainingError
from hf_paretokd.losses import Measured
from hf_paretokd.methods.lssd import LSSDModel


@pytest.fixture
def trainer_defaults():
    return {"method": "lssd"}


def written_down(student, teacher, batch, weight, gate):
    """(CE + w·gate·KD)/2 with KD = −Σ p_teacher·log p, word by word."""
    targets = batch["labels"][batch["labels"] != -100]
    ours = slice_logits(student, "3-3", batch).log_softmax(-1)
    theirs = slice_logits(teacher, "3-3", batch).detach().softmax(-1)
    total = smoothed_cross_entropy(ours, targets, 0.1)
    for row, target in enumerate(targets):
        mine, known = ours[row, target].exp().item(), theirs[row, target].item()
        factor = {"whole": 1.0, "hard": 1.0 if known > mine else 0.2, "soft": min(known / mine, 1.0)}[gate]
        total = total + weight * factor * -(theirs[row] * ours[row]).sum()
    return total / 2


@pytest.mark.parametrize("gate", ["whole", "hard", "soft"])
def test_loss_and_gradients_equal_the_written_equation(new_model, batch, tmp_path, gate):
    student, teacher = new_model(seed=1), new_model(seed=2)
    joint = LSSDModel(student, LSSDConfig(output_dir=str(tmp_path), gate=gate)).train()
    joint.teachers = {"fr-en": teacher}
    found = joint([{**batch, "pair": "fr-en"}], [0])["losses"].sum()
    expected = written_down(student, teacher, batch, 2.5, gate)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    ours, theirs = gradients(found, student), gradients(expected, student)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    alone = joint([{**batch, "pair": "bs-en"}], [0])["losses"].sum()
    targets = batch["labels"][batch["labels"] != -100]
    plain = smoothed_cross_entropy(slice_logits(student, "3-3", batch), targets, 0.1)
    assert alone.item() == pytest.approx(plain.item(), rel=1e-5), "a pair without a teacher has its whole cross-entropy"


def test_the_gates(new_model, tmp_path):
    """D-21: hard 0.2 when the teacher is worse; soft 0.6/0.4 is 1."""
    known = Measured([], -torch.tensor([[0.4, 0.6, 0.5], [0.6, 0.4, 0.5]]).log())
    gates = {}
    for gate in ("hard", "soft"):
        gates[gate] = LSSDModel(new_model(), LSSDConfig(output_dir=str(tmp_path), gate=gate)).token_weights(known).tolist()
    assert gates == {"hard": pytest.approx([1, 0.2, 0.2]), "soft": pytest.approx([1, 2 / 3, 1])}


def test_who_teaches_when(new_trainer):
    """The best so far, from the second epoch after it on; a pair that got better just now is left alone."""
    trainer = new_trainer(update_interval=2, max_steps=12, eval_steps=12)
    scripted = iter([(3.0, 3.0), (2.0, 3.5), (2.5, 2.9), (2.6, 3.0), (1.0, 3.0)])
    trainer.pair_losses = lambda *_: dict(zip(("fr-en", "bs-en"), next(scripted), strict=True))
    seen, states = [], {}
    end = trainer.end_epoch

    def watched(epoch):
        states[epoch] = {name: value.clone() for name, value in trainer.model.student.state_dict().items()}
        end(epoch)
        copies = {id(model): number for number, model in trainer.copies.items()}
        seen.append({pair: copies[id(model)] for pair, model in trainer.model.teachers.items()})

    trainer.end_epoch = watched
    trainer.train()
    assert seen == [{}, {"bs-en": 1}, {"fr-en": 2}, {"fr-en": 2, "bs-en": 3}, {"bs-en": 3}]
    assert sorted(trainer.copies) == [3, 5], "copies that teach nobody any more are gone"
    for epoch, model in trainer.copies.items():
        for name, value in model.state_dict().items():
            assert torch.equal(value, states[epoch][name])


def test_a_resumed_training_is_the_unbroken_one(new_trainer):
    def build():
        trainer = new_trainer(update_interval=1, max_steps=10, eval_steps=5, save_total_limit=9, gate="soft")
        trainer.pair_losses = lambda *_: {"fr-en": abs(trainer.epoch - 1.0), "bs-en": abs(trainer.epoch - 3.0)}
        return trainer

    whole = build()
    whole.train()
    taught = [line["loss_kd"] for line in whole.state.log_history if "loss_kd" in line]
    assert any(value > 0 for value in taught[:5]), "somebody was taught, before the stop"
    resumed = build()
    resumed.train(resume_from_checkpoint=str(whole.checkpoint(5)))
    assert resumed.bests == whole.bests
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_does_not_fit(new_trainer, encoded, tmp_path):
    for fields, message in (
        ({"gate": "half"}, "gate: 'half' is not one of whole, hard, soft"),
        ({"kd_weight": -1.0}, "kd_weight: -1.0 is out of range"),
        ({"update_interval": 0}, "update_interval: 0 is out of range"),
    ):
        with pytest.raises(TrainingError, match=message):
            LSSDConfig(output_dir=str(tmp_path), **fields)
    one = {**encoded, "validation": {"fr-en": encoded["validation"]["fr-en"]}}
    with pytest.raises(DataError, match="bs-en: has training but no validation text"):
        new_trainer(data=one)

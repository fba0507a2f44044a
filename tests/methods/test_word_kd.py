"""Word-level distillation: its equation, who teaches whom, which words count."""

import json

import pytest
import torch
from conftest import SMALL
from reference import gradients, kl, slice_logits, smoothed_cross_entropy

from hf_paretokd import Depth, ModelConfig, WordKDConfig, WordKDTrainer, build_model, train_tokenizer
from hf_paretokd.errors import DataError, ModelError, TrainingError
from hf_paretokd.losses import Measured
from hf_paretokd.methods.word_kd import WordKDModel, hardness
from hf_paretokd.models.files import save_model


@pytest.fixture
def teacher(new_model, tokenizer, tmp_path):
    """Saves a model and names its folder."""

    def save(name="teacher", **shape):
        model = new_model(**{"seed": 9, "encoder_layers": 4, "decoder_layers": 4, **shape})
        save_model(model, tokenizer, tmp_path / name)
        return str(tmp_path / name)

    return save


@pytest.fixture
def trainer_defaults():
    return {"method": "word_kd"}


def written_down(student, teacher, batch, weight, interpolate, rate=1.0):
    """CE + a·KL or (1 − a)·CE + a·KL; of the words as hard to the student as the ⌈r·n⌉-th hardest."""
    targets = batch["labels"][batch["labels"] != -100]
    ours, theirs = slice_logits(student, "3-3", batch), slice_logits(teacher, "4-4", batch).detach()
    nll = -ours.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    gate = sorted(nll.tolist(), reverse=True)[-int(-rate * len(nll) // 1) - 1]
    taught = sum(kl(theirs[row], ours[row]) for row in range(len(nll)) if nll[row].item() >= gate)
    return (1 - weight if interpolate else 1.0) * smoothed_cross_entropy(ours, targets, 0.1) + weight * taught


@pytest.mark.parametrize(("weight", "interpolate"), [(1.0, False), (0.3, True), (0.0, False), (1.0, True)])
@pytest.mark.parametrize(("selection", "rate"), [("all", 1.0), ("batch", 0.5), ("queue", 0.25)])
def test_loss_and_gradients_equal_the_written_equation(new_model, batch, tmp_path, weight, interpolate, selection, rate):
    student, teacher = new_model(seed=1), new_model(seed=2, encoder_layers=4, decoder_layers=4, d_model=48)
    fields = {"kd_weight": weight, "interpolate": interpolate, "selection": selection, "selection_rate": rate}
    joint = WordKDModel(student, WordKDConfig(output_dir=str(tmp_path), teachers=["x"], **fields)).train()
    joint.teachers = {"fr-en": teacher}
    found = joint([{**batch, "pair": "fr-en"}], [0])["losses"].sum()
    expected = written_down(student, teacher, batch, weight, interpolate, rate)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    ours, theirs = gradients(found, student), gradients(expected, student)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_hard_words():
    """D-19: a tie keeps more than ⌈r·n⌉; what is remembered counts with the present ones."""
    nll = torch.tensor([0.2, 1.5, 0.7, 3.0, 0.7])
    assert hardness(nll, 0.5) == pytest.approx(0.7)
    assert (nll >= hardness(nll, 0.5)).tolist() == [False, True, True, True, True]
    assert hardness(torch.tensor([0.1, 0.4, 0.9, 1.2, 2.0]), 0.5) == pytest.approx(0.9)


def test_words_are_compared_with_those_of_earlier_updates(new_model, tmp_path):
    joint = WordKDModel(new_model(), WordKDConfig(output_dir=str(tmp_path), teachers=["x"], selection="queue"))
    joint.remembered = torch.tensor([5.0, 6.0, 7.0])
    assert joint.token_weights(Measured([], torch.tensor([[4.0, 5.5, 8.0]]))).tolist() == [0, 0, 1]
    assert joint.latest.tolist() == [4.0, 5.5, 8.0]


@pytest.mark.parametrize("split", [1, 2])
def test_what_is_remembered_does_not_depend_on_how_an_update_is_split(new_trainer, teacher, split):
    trainer = new_trainer(
        teachers=[teacher()], selection="queue", queue_size=90, gradient_accumulation_steps=split, max_steps=4 // split
    )
    trainer.train()
    assert len(trainer.model.remembered) == 90
    assert torch.equal(trainer.model.remembered[-5:], torch.tensor(trainer.model.latest.tolist())[-5:])


@pytest.mark.parametrize("selection", ["all", "batch", "queue"])
def test_a_resumed_training_is_the_unbroken_one(new_trainer, teacher, selection):
    fields = {"teachers": [teacher()], "selection": selection, "queue_size": 200, "save_total_limit": 9}
    whole = new_trainer(**fields)
    whole.train()
    resumed = new_trainer(**fields)
    resumed.train(resume_from_checkpoint=str(whole.checkpoint(3)))
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    lines = [line for line in whole.state.log_history if "loss_kd" in line]
    assert len(lines) == 6
    assert all(line["loss_kd"] > 0 for line in lines)


def test_the_better_of_several_teaches_each_pair(new_trainer, new_model, tokenizer, tmp_path, monkeypatch):
    """By plain validation cross-entropies a token, here of 10 and of 100 tokens."""
    for number in (1, 2):
        save_model(new_model(seed=number), tokenizer, tmp_path / "run" / "peers" / f"{number}")
    sums = iter(torch.tensor([[[[9.0, 20.0, 10]], [[9.0, 300.0, 100]]], [[[1.0, 30.0, 10]], [[9.0, 200.0, 100]]]]))
    monkeypatch.setattr(WordKDTrainer, "cross_entropies", lambda *_: next(sums))
    trainer = new_trainer(teachers=[str(tmp_path / "run")])
    assert trainer.teacher_names == {"fr-en": str(tmp_path / "run/peers/1"), "bs-en": str(tmp_path / "run/peers/2")}
    record = trainer.identity.decides["teachers"]
    assert len(set(record.values())) == 2
    monkeypatch.undo()
    measured = new_trainer(teachers=[str(tmp_path / "run")])
    best = {pair: measured.loaded[name] for pair, name in measured.teacher_names.items()}
    for pair, text in measured.eval_pairs.items():
        losses = {}
        for model in measured.loaded.values():
            sums = measured.cross_entropies(model, {pair: text}, measured.eval_batches, [Depth(3, 3)])
            losses[model] = sums[0, 0, 1].item()
        assert losses[best[pair]] == min(losses.values())
    said = new_trainer(teachers={"fr-en": str(tmp_path / "run/peers/2"), "bs-en": str(tmp_path / "run/peers/2")})
    assert set(said.teacher_names.values()) == {str(tmp_path / "run/peers/2")}


def test_a_student_may_begin_with_the_teachers_layers(new_trainer, teacher):
    trainer = new_trainer(teachers=[teacher()], from_teacher=True)
    (large,) = trainer.loaded.values()
    layer = "model.decoder.layers.2.fc1.weight"
    assert torch.equal(trainer.model.student.state_dict()[layer], large.state_dict()[layer])
    with pytest.raises(ModelError, match=r"from_teacher: a student of depth 3-3 is no slice of the teacher \(size mismatch"):
        new_trainer(teachers=[teacher("wide", d_model=48)], from_teacher=True)


def test_another_teacher_is_another_training(new_trainer, teacher, tmp_path):
    fields = {"max_steps": 4, "eval_steps": 2, "save_total_limit": 9}
    first = new_trainer(teachers=[teacher()], **fields)
    first.train()
    assert json.loads((first.checkpoint(2) / "training.json").read_text())["decides"]["teachers"]["fr-en"]
    with pytest.raises(TrainingError, match="teachers was"):
        new_trainer(teachers=[teacher("other", seed=3)], **fields).train(resume_from_checkpoint=str(first.checkpoint(2)))
    (tmp_path / "teacher").rename(tmp_path / "moved")
    new_trainer(teachers=[str(tmp_path / "moved")], **fields).train(resume_from_checkpoint=str(first.checkpoint(2)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"teachers": []}, "teachers: none is named"),
        ({"selection": "some"}, "selection: 'some' is not one of all, batch, queue"),
        ({"selection_rate": 0.0}, "selection_rate: 0.0 is not above 0"),
        ({"kd_weight": 1.5, "interpolate": True}, r"kd_weight: 1.5 is out of range \(0 to 1\)"),
        ({"kd_weight": -1.0}, "kd_weight: -1.0 is out of range"),
        ({"queue_size": 0}, "queue_size: 0 is out of range"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, fields, message):
    with pytest.raises(TrainingError, match=message):
        WordKDConfig(**{"output_dir": str(tmp_path), "teachers": ["x"], **fields})


def test_teachers_that_do_not_fit(new_trainer, teacher, encoded, tmp_path, tokenizer, new_model, texts):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="empty: holds no checkpoint, and is no run"):
        new_trainer(teachers=[str(tmp_path / "empty")])
    with pytest.raises(TrainingError, match="teachers: bs-en has none; name one, or give a list"):
        new_trainer(teachers={"fr-en": teacher()})
    for number in (1, 2):
        save_model(new_model(seed=number), tokenizer, tmp_path / "run" / "peers" / f"{number}")
    with pytest.raises(TrainingError, match=r"teachers: .* has several models; name one, as .*peers/1"):
        new_trainer(teachers=dict.fromkeys(("fr-en", "bs-en"), str(tmp_path / "run")))
    one = {**encoded, "validation": {"fr-en": encoded["validation"]["fr-en"]}}
    with pytest.raises(DataError, match="bs-en: has training but no validation text, by which this method decides"):
        new_trainer(teachers=[str(tmp_path / "run")], data=one)
    other = train_tokenizer(texts["train"], tmp_path / "tokenizer", vocab_size=700, max_length=96)
    save_model(build_model(ModelConfig(**SMALL), other, 1), other, tmp_path / "other")
    with pytest.raises(ModelError, match="another vocabulary than the student"):
        new_trainer(teachers=[str(tmp_path / "other")])
    assert WordKDTrainer.sources(WordKDConfig(output_dir="x", teachers=["a", "a", "b"])) == ["a", "b"]

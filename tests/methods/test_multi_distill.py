"""Multi-Distill: its term by the published vector and autograd, what is kept of teachers, when pairs are left alone."""

import itertools
import json
import multiprocessing

import numpy as np
import pytest
import torch
from reference import gradients, smoothed_cross_entropy

from hf_paretokd import MultiDistillConfig, MultiDistillTrainer
from hf_paretokd.data.sampling import MicroBatch, PairDataset
from hf_paretokd.errors import ModelError, TrainingError
from hf_paretokd.layout import TopLayout
from hf_paretokd.methods.multi_distill import MultiDistillModel, weight_of
from hf_paretokd.methods.top_entries import Source, check_source, with_top_entries
from hf_paretokd.models.files import save_model
from hf_paretokd.training.identity import weights_hash


@pytest.mark.parametrize("weight", [0.9, 0.25])
def test_the_loss_with_gradients(new_model, batch, tmp_path, weight):
    model, config = new_model(), MultiDistillConfig(str(tmp_path), label_smoothing_factor=0.1, teachers=["x"])
    labels, real = batch["labels"], batch["labels"] != -100
    draw = torch.Generator().manual_seed(1)
    ids = torch.stack([torch.randperm(50, generator=draw)[:3] for _ in range(int(real.sum()))])
    logits = torch.randn(ids.shape, generator=draw)
    joint = MultiDistillModel(model, config).train()
    joint.weights = {"bs-en": weight}
    found = joint([{**batch, "pair": "bs-en", "top_ids": ids, "top_logits": logits}], [0])["losses"].sum()
    own = model(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")}).logits[real][:, :-1]
    taught = -((logits / 0.6).softmax(-1) * (own / 0.6).log_softmax(-1).gather(-1, ids)).sum()
    expected = (1 - weight) * smoothed_cross_entropy(own, labels[real], 0.1) + weight * 0.36 * taught
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    ours, theirs = gradients(found / real.sum(), model), gradients(expected / real.sum(), model)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(
    ("rule", "student", "expected"),
    [
        ("fixed", 90.0, 0.9),
        ("threshold", 20.9, 0.9),
        ("threshold", 21.0, 0.0),
        ("adaptive", 17.9, 0.9),
        ("adaptive", 18.0, 0.9),
        ("adaptive", 20.0, 0.9 / 4),
        ("adaptive", 23.0, 0.9 / 32),
    ],
)
def test_when_a_pair_is_left_alone(rule, student, expected):
    assert weight_of(rule, 0.9, student, 20.0) == pytest.approx(expected)


@pytest.fixture
def teacher(new_model, tokenizer, tmp_path):
    save_model(new_model(seed=9), tokenizer, tmp_path / "teacher")
    return str(tmp_path / "teacher")


@pytest.fixture
def small(monkeypatch):
    """Blocks of few rows."""
    monkeypatch.setattr("hf_paretokd.methods.top_entries.BLOCK", 300)


def test_what_is_kept_is_what_the_teacher_says_and_is_found_again(new_model, encoded, tmp_path, small, monkeypatch):
    model, name = new_model(seed=9).eval(), "fr-en"
    text, layout = encoded["train"][name], TopLayout(tmp_path / "top")
    source, pad = Source(weights_hash(model), "text", 3), model.config.pad_token_id
    found = with_top_entries(name, text, model, source, layout, 400, pad)
    assert found.column_names == ["input_ids", "labels", "top_ids", "top_logits"]
    assert len(found) == len(text)
    for row in (0, 299, 300, len(text) - 1):
        one = found[row]
        ids, labels = torch.tensor([one["input_ids"]]), torch.tensor([one["labels"]])
        logits = model(input_ids=ids, labels=labels).logits[0, :, :pad]
        values, best = logits.topk(3)
        assert np.allclose(np.reshape(one["top_logits"], (-1, 3)), values.detach().numpy(), atol=5e-3)
        assert (torch.tensor(one["top_ids"]).view(-1, 3)[:, 0] == best[:, 0]).float().mean() > 0.9
    batch = PairDataset({name: found}, pad).fetch(MicroBatch(0, name, [5, 2]))
    assert batch["top_ids"].shape == (int((batch["labels"] != -100).sum()), 3)
    asked = []
    monkeypatch.setattr("hf_paretokd.methods.top_entries.write_block", lambda *args: asked.append(args))
    with_top_entries(name, text, model, source, layout, 400, pad)
    assert not asked, "all blocks are there"
    (layout.block(1) / "dataset_info.json").unlink()
    monkeypatch.undo()
    monkeypatch.setattr("hf_paretokd.methods.top_entries.BLOCK", 300)
    (layout.block(0) / "marker").touch()
    with_top_entries(name, text, model, source, layout, 400, pad)
    assert (layout.block(0) / "marker").is_file(), "only the damaged one is made anew"
    with pytest.raises(TrainingError, match="something else \\(top_k was 3, now it is 4\\); name another top_dir"):
        with_top_entries(name, text, model, Source(source.teacher, "text", 4), layout, 400, pad)


def test_a_training_refreshes_and_is_resumed(new_trainer, teacher, tmp_path):
    fields = {"teachers": [teacher], "switch_off": "adaptive", "update_interval": 2, "max_steps": 6, "eval_steps": 3}
    whole = new_trainer("multi_distill", **fields)
    whole.train()
    lines = [line for line in whole.state.log_history if "alpha_bs-en" in line]
    assert [line["step"] for line in lines] == [2, 4]
    for line, (pair, known) in itertools.product(lines, whole.teacher_bleu.items()):
        assert line[f"teacher_bleu_{pair}"] == known
        assert line[f"alpha_{pair}"] == weight_of("adaptive", whole.args.kd_weight, line[f"bleu_{pair}"], known)
    assert any("loss_kd" in line for line in whole.state.log_history)
    assert set(whole.model.weights) == set(whole.train_pairs)
    again = new_trainer("multi_distill", **fields)
    again.train(resume_from_checkpoint=str(whole.checkpoint(3)))
    for mine, theirs in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert again.model.weights == whole.model.weights
    assert json.loads((whole.layout.top / "bs-en" / "source.json").read_text())["top_k"] == 4


def test_a_training_that_begins_anew_has_entries_of_its_own(new_trainer, new_model, teacher, tmp_path):
    first = new_trainer("multi_distill", teachers=[teacher], switch_off="fixed")
    given = {name: first.given[name] for name in ("train_dataset", "eval_dataset", "processing_class")}
    trainer = MultiDistillTrainer(args=first.args, model_init=lambda: new_model(), **given)
    for count in (2, 3):
        trainer.args.top_k, trainer.args.top_dir = count, str(tmp_path / str(count))
        trainer.train()
        batch = trainer.training_data().fetch(MicroBatch(0, "bs-en", [0]))
        assert batch["top_ids"].shape[1] == count


def test_processes_write_what_entries_are_of_at_once(tmp_path):
    """Each of a node finds no record, and writes it."""
    context, source = multiprocessing.get_context("fork"), Source("teacher", "text", 3)
    together = context.Barrier(4)
    workers = [context.Process(target=writes_sources, args=(tmp_path, source, together)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4


def writes_sources(folder, source, together):
    for number in range(30):
        together.wait(30)
        check_source(source, TopLayout(folder / str(number)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"switch_off": "never"}, "switch_off: 'never' is not one of fixed, threshold, adaptive"),
        ({"kd_weight": 1.5}, "kd_weight: 1.5 is out of range"),
        ({"top_k": 0}, "top_k: 0 is out of range"),
        ({"kd_temperature": 0.0}, "kd_temperature: 0 is not above 0"),
        ({"teachers": []}, "teachers: none is named"),
        ({"teachers": {"fr-en": "x"}}, "no such|not a|x"),
    ],
)
def test_bad_input(new_trainer, teacher, fields, message):
    with pytest.raises((TrainingError, ModelError), match=message):
        new_trainer("multi_distill", **{"teachers": [teacher], **fields})


def test_a_pair_without_a_teacher(new_trainer, teacher):
    with pytest.raises(TrainingError, match="teachers: bs-en has none"):
        new_trainer("multi_distill", teachers={"fr-en": teacher})

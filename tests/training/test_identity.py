"""A resumed training is the one that its checkpoint is of, or it is refused by name."""

import json
import re

import datasets
import pytest
import torch

from hf_paretokd.data import batches
from hf_paretokd.errors import ModelError, TrainingError
from hf_paretokd.training.identity import differences, read_identity
from hf_paretokd.training.trainer import logger


@pytest.fixture
def trainer_defaults():
    return {"max_steps": 4, "eval_steps": 2, "save_total_limit": None, "dropout": 0.1}


CHANGES = [
    ({"learning_rate": 1e-3}, "learning_rate was 0.003, now 0.001"),
    ({"lr_scheduler_type": "linear"}, "lr_scheduler_type was inverse_sqrt, now linear"),
    ({"lr_scheduler_kwargs": {"timescale": 9}}, r"lr_scheduler_kwargs was .*, now \{'timescale': 9\}"),
    ({"warmup_steps": 3}, "warmup_steps was 2, now 3"),
    ({"optim": "sgd"}, "optim was adamw_torch_fused, now sgd"),
    ({"weight_decay": 0.1}, "weight_decay was 0, now 0.1"),
    ({"adam_beta1": 0.8}, "adam_beta1 was 0.9, now 0.8"),
    ({"adam_beta2": 0.9}, "adam_beta2 was 0.98, now 0.9"),
    ({"adam_epsilon": 1e-6}, "adam_epsilon was 1e-08, now 1e-06"),
    ({"max_grad_norm": 0.5}, "max_grad_norm was 1, now 0.5"),
    ({"seed": 7}, "seed was 42, now 7"),
    ({"label_smoothing_factor": 0.0}, "label_smoothing_factor was 0.1, now 0"),
    ({"label_smoothing_variant": "fairseq"}, "label_smoothing_variant was torch, now fairseq"),
    ({"max_tokens": 300}, "max_tokens was 400, now 300"),
    ({"max_steps": 8}, r"max_steps was 4, now 8; keep what was, or start a new run \(to train longer, give --extend\)"),
    ({"max_steps": 3}, "max_steps was 4, now 3"),
    ({"bf16": True}, "precision was no, now bf16"),
    ({"skip_nonfinite_updates": True}, "skip_nonfinite_updates was False, now True"),
    ({"ema_decay": 0.9}, "ema_decay was nothing, now 0.9"),
    ({"unimax_epochs": [2.0]}, r"unimax_epochs was nothing, now \[2\]|sampled"),
    ({"views": "two"}, "views was shared, now two"),
    ({"anchor_weight": 0.5}, "anchor_weight was 1, now 0.5"),
    ({"consistency": "r_drop"}, "consistency was none, now r_drop"),
    ({"consistency": "cutoff", "cut_rate": 0.2}, "cut_rate was 0.05, now 0.2"),
    ({"consistency": "r_drop", "consistency_weight": 2.0}, "consistency_weight was nothing, now 2"),
    ({"consistency": "r_drop", "consistency_start": 2}, "consistency_start was nothing, now 2"),
    ({"seqmix": 0.1}, "seqmix was 0, now 0.1"),
    ({"always": ["3-2"]}, r"always was \['2-2'\], now \['3-2'\]"),
    ({"num_students": 3}, "num_students was 2, now 3"),
    ({"kd_weight": 5.5}, "kd_weight was 1.5, now 5.5"),
    ({"candidates": ["2-2", "3-2"]}, r"candidates was \['2-2', '3-2', '3-3'\], now \['2-2', '3-2'\]"),
    ({"mutual_start": 0.25}, "mutual_start was 0.5, now 0.25"),
    ({"students_per": "micro_batch"}, "students_per was update, now micro_batch"),
]


@pytest.fixture
def halfway(new_trainer):
    """A training of All-in-One KD with a checkpoint after its first two updates."""
    trainer = new_trainer("all_in_one", save_steps=1, eval_steps=1)
    trainer.train()
    for step in (3, 4):
        trainer.checkpoint(step).rename(trainer.checkpoint(step).with_name(f"later-{step}"))
    return trainer


@pytest.mark.parametrize(("fields", "message"), CHANGES, ids=lambda value: next(iter(value)) if isinstance(value, dict) else "")
def test_what_decides_a_training_is_refused_by_name(halfway, new_trainer, fields, message):
    with pytest.raises(TrainingError, match=message):
        new_trainer("all_in_one", eval_steps=1, save_steps=1, **fields).train(resume_from_checkpoint=True)
    assert halfway.checkpoint(2).is_dir(), "and it can be resumed properly afterwards"


def test_every_field_that_decides_is_tried_above(halfway):
    """Those of other methods, and what has tests of its own, aside."""
    record = json.loads((halfway.checkpoint(2) / "training.json").read_text())
    tried = {name for fields, _ in CHANGES for name in fields}
    elsewhere = {"temperatures", "micro-batches of an update", "tokenizer", "text", "validation text", "method", "precision"}
    elsewhere |= {"optim_args", "optim_target_modules"}  # like lr_scheduler_kwargs
    elsewhere |= {"mutual_weight", "detach_threshold", "stage2_reset", "detach_at_threshold", "sample_with_replacement"}
    elsewhere |= {"detach_senior"}  # like kd_weight
    shape = {name for name in record["decides"] if name.startswith(("d_", "encoder_", "decoder_", "activation", "attention"))}
    shape |= {"model_type", "vocab_size", "dropout", "max_position_embeddings", "configuration"}
    assert set(record["decides"]) - shape == (tried - {"bf16"}) | elsewhere


def test_circumstances_are_taken_and_named(halfway, new_trainer, monkeypatch):
    said = []
    monkeypatch.setattr(logger, "warning", said.append)
    resumed = new_trainer("all_in_one", eval_steps=2, save_steps=2, logging_steps=3, dataloader_num_workers=1)
    resumed.train(resume_from_checkpoint=True)
    (line,) = (line for line in said if "other circumstances" in line)
    for text in ("dataloader_num_workers was 0, now 1", "save_steps was 1, now 2", "logging_steps was 1, now 3"):
        assert text in line
    for name, value in halfway.model.teacher.state_dict().items():
        assert torch.equal(resumed.model.teacher.state_dict()[name], value), name


def test_other_text_is_refused_pair_by_pair(new_trainer, encoded):
    new_trainer(max_steps=2, eval_steps=1).train()
    train, other = encoded["train"], {**encoded}
    for data, message in (
        ({**train, "fr-en": train["fr-en"].select(range(700))}, "the text of fr-en was [0-9a-f]{8}, now [0-9a-f]{8}"),
        ({"fr-en": train["fr-en"]}, "the pair bs-en is gone"),
        ({**train, "xx-en": train["bs-en"]}, "the pair xx-en is new"),
        (dict(reversed(train.items())), "the order of pairs, by which they are drawn, was fr-en, bs-en, now bs-en, fr-en"),
    ):
        other["train"] = datasets.DatasetDict(data)
        with pytest.raises(TrainingError, match=message):
            new_trainer(max_steps=2, eval_steps=1, data=other).train(resume_from_checkpoint=True)
    validation = encoded["validation"]
    for data, message in (
        ({**validation, "fr-en": validation["fr-en"].select(range(5))}, "the validation text of fr-en was [0-9a-f]{8}, now"),
        ({"fr-en": validation["fr-en"]}, "the validation text of bs-en is gone"),
    ):
        other = {**encoded, "validation": datasets.DatasetDict(data)}
        with pytest.raises(TrainingError, match=message):
            new_trainer(max_steps=2, eval_steps=1, data=other).train(resume_from_checkpoint=True)


def test_large_text_in_the_order_of_an_older_version_is_refused(new_trainer, monkeypatch):
    """Which sorted all rows together. Other text is drawn in the order it always was."""
    new_trainer(max_steps=2, eval_steps=1).train()
    monkeypatch.setattr(batches, "WINDOW", 2 * batches.BLOCK)
    new_trainer(max_steps=2, eval_steps=1).train(resume_from_checkpoint=True)
    monkeypatch.setattr(batches, "BLOCK", 64)
    monkeypatch.setattr(batches, "WINDOW", 128)
    with pytest.raises(TrainingError, match="rows of a window was nothing, now 128"):
        new_trainer(max_steps=2, eval_steps=1).train(resume_from_checkpoint=True)


def test_a_training_is_made_longer_on_purpose(new_trainer):
    """The border stays, the schedule is that of the longer stage two, and the signature names both parts."""
    first = new_trainer("all_in_one", max_steps=4)
    first.train()
    assert "|updates:4|" in first.signature()
    longer = new_trainer("all_in_one", max_steps=4)
    longer.train(resume_from_checkpoint=True, extend=4)
    assert (longer.state.global_step, longer.border, longer.args.max_steps) == (8, 2, 8)
    assert "|updates:4+4|" in longer.signature()
    again = new_trainer("all_in_one", max_steps=8)
    again.train(resume_from_checkpoint=True)
    assert (again.border, again.signature()) == (2, longer.signature()), "the record is the truth"
    with pytest.raises(TrainingError, match="longer, not shorter"):
        new_trainer("all_in_one").train(resume_from_checkpoint=True, extend=-1)
    with pytest.raises(TrainingError, match="extend: there is no checkpoint"):
        new_trainer("all_in_one", folder="other").train(resume_from_checkpoint=True, extend=2)


def test_a_checkpoint_without_a_record_is_taken_with_a_warning(new_trainer, monkeypatch):
    trainer = new_trainer(max_steps=2, eval_steps=1)
    trainer.train()
    manifest = json.loads((trainer.checkpoint(2) / "manifest.json").read_text())
    del manifest["files"]["training.json"]
    (trainer.checkpoint(2) / "manifest.json").write_text(json.dumps(manifest))
    (trainer.checkpoint(2) / "training.json").unlink()
    said = []
    monkeypatch.setattr(logger, "warning", said.append)
    new_trainer(max_steps=2, eval_steps=1).train(resume_from_checkpoint=True)
    assert len([line for line in said if "holds no record of its training" in line]) == 1


def test_differences_name_old_and_new():
    assert differences({"a": 1, "b": [1], "c": None}, {"a": 1.5, "b": [1], "d": True}) == [
        "a was 1, now 1.5",
        "d was nothing, now True",
    ]


def test_another_configuration_is_refused_by_the_name_of_its_field(halfway, new_trainer, new_model):
    model = new_model()
    model.config.scale_embedding = not model.config.scale_embedding
    message = "configuration.scale_embedding was (True|False), now (True|False)"
    with pytest.raises(TrainingError, match=message):
        new_trainer("all_in_one", model=model, eval_steps=1, save_steps=1).train(resume_from_checkpoint=True)
    old, new = {"configuration": {"a": 1, "b": 2}}, {"configuration": {"a": 1, "c": 3}}
    assert differences(old, new) == [], "fields that another version of transformers has are no change"


def test_equal_signatures_mean_equal_trainings(new_trainer, new_model):
    """Also in what they do not name."""
    signatures = [new_trainer(folder=f"{number}", **fields).signature() for number, fields in enumerate(({}, {}))]
    assert len(set(signatures)) == 1
    others = [
        {"weight_decay": 0.1},
        {"warmup_steps": 3},
        {"optim": "adafactor"},
        {"model": new_model(dropout=0.3)},
        {"model": new_model(seed=9)},
    ]
    others = [new_trainer(folder=f"other-{number}", **fields).signature() for number, fields in enumerate(others)]
    assert len({signatures[0], *others}) == 6
    short = {re.sub(r"\|record:[0-9a-f]{8}", "", each) for each in (signatures[0], *others)}
    assert len(short) == 1, "what a reader sees at once is the same"


@pytest.mark.parametrize("content", ["[]", "{}", '{"signature": {}, "decides": {}, "circumstances": {}}', "{"])
def test_a_record_that_is_none_is_named(tmp_path, content):
    (tmp_path / "training.json").write_text(content)
    with pytest.raises(ModelError, match=r"training.json: cannot be read .*; take another checkpoint"):
        read_identity(tmp_path / "training.json")

"""Checkpoints are whole or not there; `chaos.py` kills trainings at random places, here are the places one can name."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from commands import PATIENCE, TINY
from transformers import EarlyStoppingCallback, TrainerCallback

from hf_paretokd.cli.main import INTERRUPTED
from hf_paretokd.errors import ModelError, TrainingError, TrainingInterrupted
from hf_paretokd.layout import MANIFEST, checkpoint_step
from hf_paretokd.training import evaluating
from hf_paretokd.training.checkpointing import checkpoint_folders, logger
from hf_paretokd.training.validation import metrics_of_peers
from hf_paretokd.utils.files import damage, publish

METHODS = {"plain": {}, "all_in_one": {"mutual_start": 0.0}, "pareto_mutual": {}}


@pytest.fixture
def trainer_defaults():
    return {"eval_steps": 2, "logging_steps": 2, "dropout": 0.1}


@pytest.fixture
def warnings_seen(monkeypatch):
    seen = []
    monkeypatch.setattr(logger, "warning", seen.append)
    return seen


def weights(trainer):
    return {f"{n}.{k}": v.clone() for n, model in trainer.model.named_models() for k, v in model.state_dict().items()}


def figures(trainer):
    kept = ("loss", "grad_norm", "nll", "loss_kd", "eval_loss", "peer1_kd", "step", "train_loss")
    return [{name: line[name] for name in kept if name in line} for line in trainer.state.log_history[1:]]


class At(TrainerCallback):
    """Does something after an update."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.action()


# ---- manifests


@pytest.fixture
def folder(tmp_path):
    written = tmp_path / "unfinished" / "x"
    (written / "inner").mkdir(parents=True)
    (written / "a.txt").write_text("alpha")
    (written / "inner" / "b.txt").write_text("beta")
    publish(written, tmp_path / "x")
    assert not written.exists()
    assert damage(tmp_path / "x") is None
    return tmp_path / "x"


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda folder: (folder / "a.txt").unlink(), "a.txt is missing"),
        (lambda folder: (folder / "a.txt").write_text("alph"), "a.txt has 4 bytes instead of 5"),
        (lambda folder: (folder / "inner" / "b.txt").write_text("bela"), "the checksum of inner/b.txt is wrong"),
        (lambda folder: (folder / MANIFEST).unlink(), "manifest.json is missing"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "manifest.json cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text('{"files": 3}'), "manifest.json cannot be read"),
    ],
)
def test_damage_is_named(folder, spoil, named):
    spoil(folder)
    assert named in damage(folder)


def test_a_published_folder_replaces_the_one_before(folder, tmp_path):
    written = tmp_path / "unfinished" / "x"
    written.mkdir(parents=True)
    (written / "a.txt").write_text("new")
    publish(written, folder)
    assert (folder / "a.txt").read_text() == "new"
    assert not (folder / "inner").exists()
    assert list((tmp_path / "unfinished").iterdir()) == []


# ---- resuming


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("workers", [0, 1])
def test_sigterm_saves_and_the_resumed_training_ends_the_same(new_trainer, tmp_path, method, workers):
    fields = {"eval_steps": 3, "save_steps": 3}  # stopped in the middle of a log window
    whole = new_trainer(method, **METHODS[method], **fields)
    whole.train()
    output = {"output_dir": str(tmp_path / "stopped"), **fields}
    stopped = new_trainer(method, **METHODS[method], callbacks=[At(1, lambda: os.kill(os.getpid(), signal.SIGTERM))], **output)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingInterrupted, match="SIGTERM after update 2, which is saved"):
        stopped.train()
    assert signal.getsignal(signal.SIGTERM) is before
    assert damage(stopped.checkpoint(2)) is None
    again = new_trainer(
        method,
        **METHODS[method],
        callbacks=[At(3, lambda: os.kill(os.getpid(), signal.SIGTERM))],
        dataloader_num_workers=workers,
        **output,
    )
    with pytest.raises(TrainingInterrupted, match="update 4"):
        again.train(resume_from_checkpoint=True)
    resumed = new_trainer(method, **METHODS[method], **output)
    resumed.train(resume_from_checkpoint=True)
    assert figures(resumed) == figures(whole)
    ours, theirs = weights(resumed), weights(whole)
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert resumed.state.best_global_step == whole.state.best_global_step


def test_a_request_counts_once_and_in_the_last_update_too(new_trainer):
    def ask():
        os.kill(os.getpid(), signal.SIGTERM)

    trainer = new_trainer(callbacks=[At(1, ask)])
    with pytest.raises(TrainingInterrupted, match="after update 2"):
        trainer.train()
    last = At(6, ask)
    trainer.add_callback(last)
    with pytest.raises(TrainingInterrupted, match="after update 6"):
        trainer.train(resume_from_checkpoint=True)
    trainer.remove_callback(last)
    assert trainer.train(resume_from_checkpoint=True).global_step == 6


def test_loader_workers_obey_sigterm_and_outlive_ctrl_c():
    import multiprocessing

    from hf_paretokd.utils.interruption import StopRequest

    request = StopRequest()
    with request.listening():
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
        worker.start()
        time.sleep(0.2)
        os.kill(worker.pid, signal.SIGINT)
        worker.join(0.5)
        assert worker.is_alive()
        worker.terminate()
        worker.join(10)
    assert worker.exitcode == -signal.SIGTERM
    assert not request.received


def test_a_second_ctrl_c_stops_at_once(new_trainer):
    trainer = new_trainer(callbacks=[At(1, lambda: [signal.raise_signal(signal.SIGINT) for _ in range(2)])])
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert signal.getsignal(signal.SIGINT) is before
    assert trainer.state.global_step == 1
    trainer = new_trainer(callbacks=[At(1, lambda: signal.raise_signal(signal.SIGINT))])
    with pytest.raises(TrainingInterrupted, match="Ctrl-C after update 2") as caught:
        trainer.train()
    assert caught.value.signal == signal.SIGINT


def test_the_command_exits_with_a_code_of_its_own(text_folder, tmp_path):
    recipe, log = tmp_path / "recipe.yaml", tmp_path / "log"
    recipe.write_text(
        yaml.safe_dump(
            {
                "method": "plain",
                "data": {"pairs": ["bs-en"], "data_dir": str(text_folder)},
                "training": {"output_dir": str(tmp_path / "run")},
            }
        )
    )
    words = [*TINY, "--max_steps", "100000", "--eval_steps", "2000", "--evaluation.splits", "[]"]
    command = [sys.executable, "-m", "hf_paretokd.cli", "train", str(recipe), *words]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"})
        deadline, figures = time.monotonic() + PATIENCE, tmp_path / "run" / "log.jsonl"
        while process.poll() is None and time.monotonic() < deadline:
            if figures.is_file() and '"loss"' in figures.read_text():
                break
            time.sleep(0.1)
        process.terminate()
        assert process.wait(30) == INTERRUPTED == 75, log.read_text()[-2000:]
    assert "error: stopped by SIGTERM after update" in log.read_text().replace("\n", " ")
    (found,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert damage(found) is None


def test_a_damaged_checkpoint_is_passed_over_with_one_line(new_trainer, warnings_seen):
    trainer = new_trainer()
    trainer.train()
    expected = weights(trainer)
    spoilt = trainer.checkpoint(6) / "optimizer.pt"
    spoilt.write_bytes(spoilt.read_bytes()[:-100])
    resumed = new_trainer()
    resumed.train(resume_from_checkpoint=True)
    assert len([line for line in warnings_seen if "checkpoint-6: not a whole checkpoint (optimizer.pt has" in line]) == 1
    assert all(torch.equal(weights(resumed)[name], value) for name, value in expected.items())
    assert (resumed.checkpoint_folder / "checkpoint-6.set-aside").is_dir(), "nothing is thrown away"
    assert len([line for line in warnings_seen if "renamed to" in line]) == 1, "what it goes on from stays"
    assert damage(resumed.checkpoint(6)) is None
    with pytest.raises(ModelError, match=r"set-aside: not a whole checkpoint \(optimizer.pt has"):
        new_trainer().train(resume_from_checkpoint=str(resumed.checkpoint_folder / "checkpoint-6.set-aside"))


def test_rotation_keeps_the_newest_even_beside_newer_names(new_trainer, warnings_seen):
    trainer = new_trainer(save_total_limit=1, load_best_model_at_end=False, eval_strategy="no", save_steps=2)
    trainer.train()
    shutil.copytree(trainer.checkpoint(6), trainer.checkpoint(9))
    (trainer.checkpoint(9) / MANIFEST).unlink()
    resumed = new_trainer(save_total_limit=1, load_best_model_at_end=False, eval_strategy="no", save_steps=2)
    resumed.train(resume_from_checkpoint=True, extend=2)
    assert damage(resumed.checkpoint(8)) is None
    assert not resumed.checkpoint(9).exists()


def test_a_lost_best_checkpoint_is_said_and_the_training_goes_on(new_trainer, warnings_seen, monkeypatch):
    trainer = new_trainer("plain")
    values = iter([3.0, 4.0, 5.0])
    real = trainer.evaluate
    monkeypatch.setattr(trainer, "evaluate", lambda **kwargs: {**real(**kwargs), "eval_loss": next(values)})
    trainer.train()
    (trainer.checkpoint(2) / "model" / "model.safetensors").unlink()
    resumed = new_trainer("plain")
    resumed.train(resume_from_checkpoint=True, extend=2)
    assert any("checkpoint-2: a best checkpoint is lost or damaged" in line for line in warnings_seen)
    assert resumed.state.best_global_step == 8


class Planted:
    """A pickle that would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_planted_pickles_are_not_run(new_trainer, tmp_path, name):
    trainer = new_trainer(max_steps=2)
    trainer.train()
    written = tmp_path / "beside"
    trainer.checkpoint(2).rename(written)
    (written / MANIFEST).unlink()
    (written / name).write_bytes(pickle.dumps(Planted(tmp_path / "pwned")))
    publish(written, trainer.checkpoint(2))  # with a manifest that fits
    with pytest.raises(ModelError, match=r"checkpoint-2: its training state cannot be used"):
        new_trainer(max_steps=2).train(resume_from_checkpoint=True, extend=2)
    assert not (tmp_path / "pwned").exists()


def test_planted_weights_are_not_loaded(new_trainer, tmp_path):
    trainer = new_trainer(max_steps=2)
    trainer.train()
    folder = trainer.checkpoint(2) / "model"
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Planted(tmp_path / "pwned")))
    from hf_paretokd.models.files import load_model

    with pytest.raises(ModelError, match="no usable checkpoint"):
        load_model(folder)
    assert not (tmp_path / "pwned").exists()


def test_a_failing_write_ends_the_training_and_leaves_the_checkpoint_before(new_trainer, monkeypatch):
    trainer = new_trainer()
    save = torch.save

    def full(value, path, *rest, **options):
        if "checkpoint-4" in str(path):
            raise OSError(28, "No space left on device", str(path))
        return save(value, path, *rest, **options)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"checkpoint-4: could not be written .*No space left.*checkpoint-2; make room"):
        trainer.train()
    assert damage(trainer.checkpoint(2)) is None
    assert not list(trainer.checkpoint_folder.glob("unfinished/*")), "a full disk needs the room"


# ---- NaN and infinity


def spoilt(trainer, step, value):
    """The loss of one update is multiplied by a value."""
    compute = trainer.model.forward

    def forward(*args, **kwargs):
        outputs = compute(*args, **kwargs)
        if trainer.state.global_step == step - 1 and trainer.model.training:
            outputs["losses"] = outputs["losses"] * value
        return outputs

    trainer.model.forward = forward
    return trainer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_ends_the_training_with_the_last_whole_checkpoint_named(new_trainer, method, value):
    with pytest.raises(TrainingError, match=r"update 4: the loss is (nan|inf).*the last whole checkpoint is .*checkpoint-2"):
        spoilt(new_trainer(method, **METHODS[method]), 4, value).train()


@pytest.mark.parametrize("method", METHODS)
def test_an_infinite_gradient_never_reaches_the_weights(new_trainer, method):
    trainer = new_trainer(method, **METHODS[method])
    parameter = next(each for each in trainer.model.parameters() if each.requires_grad)
    parameter.register_hook(lambda grad: grad * float("inf") if trainer.state.global_step == 3 else grad)
    with pytest.raises(TrainingError, match=r"update 4: the norm of the gradient is (nan|inf)"):
        trainer.train()
    assert all(value.isfinite().all() for value in weights(trainer).values())


def scripted(monkeypatch, names, values):
    """Validations find out these figures, one row after the other; the first row checks their names."""
    left = list(values)
    monkeypatch.setattr(
        evaluating,
        "metrics_of_peers",
        lambda *given: {**metrics_of_peers(*given), **dict(zip(names, left.pop(0), strict=True))},
    )


def steps(trainer):
    return [checkpoint_step(path.name) for path in checkpoint_folders(trainer.checkpoint_folder)]


def test_what_is_best_for_a_peer_is_saved_by_save_strategy_best(new_trainer, monkeypatch):
    rows = [(9.0, 9.0, 9.0), (3.0, 5.0, 4.0), (4.0, 4.5, 4.25), (5.0, 6.0, 5.5)]  # the second update is best for peer 2 only
    scripted(monkeypatch, ("peer1_loss", "peer2_loss", "loss"), rows)
    trainer = new_trainer("pareto_mutual", save_strategy="best", eval_steps=1, max_steps=3)
    trainer.train()
    assert (steps(trainer), trainer.best_step(0), trainer.best_step(1)) == ([1, 2], 1, 2)


def test_a_stop_is_saved_by_save_strategy_best(new_trainer, monkeypatch):
    """Also after an update whose validation is no better than one before."""
    scripted(monkeypatch, ("loss",), [(9.0,), (3.0,), (4.0,)])
    stop = At(1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    trainer = new_trainer(callbacks=[stop], save_strategy="best", eval_steps=1, max_steps=6)
    with pytest.raises(TrainingInterrupted, match="SIGTERM after update 2, which is saved"):
        trainer.train()
    assert steps(trainer) == [1, 2]


def test_nothing_is_saved_where_that_is_asked_for(new_trainer):
    trainer = new_trainer("pareto_mutual", save_strategy="no", eval_steps=1, max_steps=3)
    trainer.train()
    assert steps(trainer) == []


def test_what_was_best_elsewhere_is_not_looked_for_here(new_trainer, monkeypatch):
    """A training that goes on from another folder sets aside what is in its own."""
    fields, rows = {"eval_steps": 2, "max_steps": 6, "save_total_limit": None}, [(9.0,), (3.0,), (4.0,), (5.0,)]
    for folder in ("here", "there"):
        scripted(monkeypatch, ("loss",), rows)
        new_trainer(folder=folder, **fields).train()
    scripted(monkeypatch, ("loss",), [(9.0,), (5.0,)])
    again = new_trainer(folder="here", **fields)
    again.train(resume_from_checkpoint=str(again.layout.folder.with_name("there") / "checkpoints" / "checkpoint-4"))
    assert (steps(again), again.state.best_global_step) == ([6], 6)


def test_a_resume_is_no_start(new_trainer):
    """`eval_on_start` validates before the first update of a training only."""
    fields = {"eval_on_start": True, "eval_steps": 2, "max_steps": 4}
    whole = new_trainer(**fields)
    whole.train()
    again = new_trainer(**fields)
    again.train(resume_from_checkpoint=str(whole.checkpoint(2)))
    for trainer in (whole, again):
        assert [line["step"] for line in trainer.state.log_history if "eval_loss" in line] == [0, 2, 4]


def test_only_the_trainings_own_validations_end_it(new_trainer, monkeypatch, encoded):
    """A callback that validates other text uses up no patience of early stopping."""

    class OtherText(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            trainer.evaluate({"fr-en": encoded["test"]["fr-en"]})

    scripted(monkeypatch, ("loss",), [(9.0,), *[(loss,) for step in range(4) for loss in (20.0, 8.0 - step)]])
    trainer = new_trainer(callbacks=[OtherText(), EarlyStoppingCallback(1)], eval_steps=1, max_steps=4)
    trainer.train()
    assert trainer.state.global_step == 4
    assert sum(isinstance(each, EarlyStoppingCallback) for each in trainer.callback_handler.callbacks) == 1


def test_a_skipped_loss_leaves_the_same_figures_as_any_other(new_trainer):
    """Processes add up their figures together, so that all have to know the same ones."""
    names = []
    for value in (1.0, float("nan")):
        trainer = spoilt(new_trainer("all_in_one", skip_nonfinite_updates=True, logging_steps=9), 1, value)
        trainer.add_callback(At(1, lambda trainer=trainer: names.append(list(trainer._window.tallies))))
        trainer.train()
    assert names[0] == names[1] != []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_skipped_updates_change_nothing_and_are_counted(new_trainer, method, value):
    trainer = spoilt(
        new_trainer(method, **METHODS[method], skip_nonfinite_updates=True, gradient_accumulation_steps=2), 4, value
    )
    seen = {}
    trainer.add_callback(At(3, lambda: seen.update(weights(trainer))))
    trainer.add_callback(At(4, lambda: seen.update(same=all(torch.equal(weights(trainer)[n], v) for n, v in seen.items()))))
    trainer.train()
    assert seen["same"] is True
    lines = [line for line in trainer.state.log_history if "loss" in line]
    assert [line["skipped_updates"] for line in lines] == [0, 1, 1]
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in lines)
    assert all(value.isfinite().all() for value in weights(trainer).values())

"""The start of a training: what it writes when, and from where it can be started again."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import yaml
from commands import TINY, run

from hf_paretokd.cli import main as main_module
from hf_paretokd.errors import TokenizerError, TrainingError
from hf_paretokd.evaluation.results import read_results
from hf_paretokd.runs.prepare import Prepared, prepare
from hf_paretokd.runs.recipe import load_recipe
from hf_paretokd.training import checkpointing, trainer
from hf_paretokd.training.trainer import TranslationTrainer
from hf_paretokd.utils.files import publish

QUICK = [*TINY, "--model.encoder_layers", "2", "--evaluation.splits", "[]"]
BAD_STARTS = {
    "text": ["--data.pairs", "xx-en"],
    "tokenizer": ["--tokenizer.vocab_size", "10"],
    "model": ["--model.d_model", "30"],
    "training": ["--learning_rate", "-1"],
    "student": ["--evaluation.depths", "9-9"],
}


def content(folder) -> dict:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def unfinished(text_folder, tmp_path_factory):
    """A training that was stopped after update 2 of 4, by Ctrl-C."""
    tmp_path = tmp_path_factory.mktemp("unfinished")
    recipe_file = tmp_path / "recipe.yaml"
    recipe = {"method": "all_in_one", "data": {"pairs": ["bs-en"], "data_dir": str(text_folder)}}
    recipe_file.write_text(yaml.safe_dump({**recipe, "all_in_one": {"output_dir": str(tmp_path / "run")}}), "utf-8")

    def interrupted(stopped, *words, **options):
        if stopped.state.global_step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return original(stopped, *words, **options)

    original = TranslationTrainer.training_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TranslationTrainer, "training_step", interrupted)
        assert run(patch, "train", recipe_file, *QUICK) == main_module.CTRL_C == 130
    return tmp_path


@pytest.mark.parametrize("words", BAD_STARTS.values(), ids=BAD_STARTS)
def test_a_start_that_failed_leaves_nothing_in_the_way(recipe_file, tmp_path, monkeypatch, capsys, words):
    assert run(monkeypatch, "train", recipe_file, *QUICK, *words) == 1
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_resume_that_failed_changes_nothing(unfinished, tmp_path, monkeypatch, capsys):
    shutil.copytree(unfinished, tmp_path, dirs_exist_ok=True)
    before = content(tmp_path / "run")
    place = ["--output_dir", tmp_path / "run", "--resume"]
    for words in (*BAD_STARTS.values(), ["--learning_rate", "0.5"]):
        assert run(monkeypatch, "train", tmp_path / "recipe.yaml", *QUICK, *words, *place) == 1
        assert content(tmp_path / "run") == before
    assert "learning_rate" in capsys.readouterr().err


def test_a_run_that_is_to_be_overwritten_lives_until_the_new_training_begins(unfinished, tmp_path, monkeypatch):
    shutil.copytree(unfinished / "run", tmp_path / "run")
    before = content(tmp_path / "run")
    place = ["--output_dir", tmp_path / "run", "--overwrite"]
    for words in BAD_STARTS.values():
        assert run(monkeypatch, "train", unfinished / "recipe.yaml", *QUICK, *words, *place) == 1
        assert content(tmp_path / "run") == before
    other = ["--tokenizer.vocab_size", "600", "--seed", "8"]
    assert run(monkeypatch, "train", unfinished / "recipe.yaml", *QUICK, *other, *place) == 0
    assert json.loads((tmp_path / "run" / "teacher" / "config.json").read_text())["vocab_size"] == 600
    assert before.keys() & content(tmp_path / "run").keys() >= {"recipe.yaml", "tokenizer/vocab.json"}
    assert [path.name for path in (tmp_path / "run").glob(".*")] == [".lock"]


HOLD = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]).acquire(); print('held', flush=True); sys.stdin.read()"


def test_two_processes_do_not_train_in_one_folder(unfinished, recipe_file, tmp_path, monkeypatch, capsys):
    shutil.copytree(unfinished / "run", tmp_path / "run")
    place = ["--output_dir", tmp_path / "run"]
    before = content(tmp_path / "run")
    other = [sys.executable, "-c", HOLD, tmp_path / "run" / ".lock"]
    with subprocess.Popen(other, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        for words in (["--resume"], ["--overwrite"], ["--extend", "4"]):
            assert run(monkeypatch, "train", unfinished / "recipe.yaml", *QUICK, *words, *place) == 1
            said = capsys.readouterr().err.replace("\n", " ")
            assert f"{tmp_path / 'run'}: another process is at work there; wait for it" in said
        with pytest.raises(TrainingError, match="another process is at work there"):
            prepare(load_recipe(unfinished / "recipe.yaml", [*QUICK, f"--output_dir={tmp_path / 'run'}"]), resume=True)
        process.stdin.close()
    assert content(tmp_path / "run") == before
    assert run(monkeypatch, "train", tmp_path / "run", "--resume") == 0


def test_checkpoints_without_a_record_are_compared_by_the_recipe(unfinished, tmp_path, monkeypatch, capsys):
    shutil.copytree(unfinished / "run", tmp_path / "run")
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        for name in ("training.json", "manifest.json"):
            (checkpoint / name).unlink()
        publish(shutil.move(checkpoint, tmp_path / "beside"), checkpoint)
    before = content(tmp_path / "run")
    for word, was in (
        ("--learning_rate=0.5", "training.learning_rate was 0.0005"),
        ("--model.dropout=0.3", "model.dropout was 0.1"),
    ):
        assert run(monkeypatch, "train", tmp_path / "run", "--resume", word) == 1
        assert was in " ".join(capsys.readouterr().err.split())
        assert content(tmp_path / "run") == before
    warnings_seen: list[str] = []
    monkeypatch.setattr(trainer.logger, "warning", warnings_seen.append)
    assert run(monkeypatch, "train", tmp_path / "run", "--resume") == 0
    assert len(warnings_seen) == 1
    assert "holds no record of its training" in warnings_seen[0]


def test_a_run_goes_on_without_its_recipe_wherever_it_lies(unfinished, tmp_path, monkeypatch, capsys):
    folder = shutil.move(shutil.copytree(unfinished / "run", tmp_path / "run"), tmp_path / "elsewhere")
    assert run(monkeypatch, "train", folder) == 1
    assert "holds an unfinished run; give --resume" in capsys.readouterr().err.replace("\n", " ")
    assert run(monkeypatch, "train", folder, "--resume") == 0
    assert {path.name for path in (folder / "students").iterdir()} == {"2-2"}
    assert not (tmp_path / "run").exists()
    updates = [row.value for row in read_results(folder / "results.json") if row.metric == "updates"]
    assert set(updates) == {4}

    assert run(monkeypatch, "train", folder, "--extend", "2") == 0
    updates = [row.value for row in read_results(folder / "results.json") if row.metric == "updates"]
    assert set(updates) == {6}
    rows = [row for row in read_results(folder / "results.json") if row.metric == "updates"]
    assert {row.signature.split("|updates:")[1][:4] for row in rows} == {"4+2|"}
    record = json.loads((folder / "checkpoints" / "checkpoint-6" / "training.json").read_text())
    assert record["extensions"] == [[4, 2]]
    assert run(monkeypatch, "train", folder, "--resume") == 1
    assert "holds a finished run" in capsys.readouterr().err
    before = content(folder)
    assert run(monkeypatch, "train", folder, "--overwrite", "--output_dir", tmp_path / "new") == 0
    assert content(folder) == before, "its recipe was trained elsewhere"
    assert (tmp_path / "new" / "results.json").is_file()


def test_an_extension_that_was_cut_off_goes_on_and_is_made_once(unfinished, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(unfinished / "run", tmp_path / "run")
    assert run(monkeypatch, "train", folder, "--resume") == 0
    original = TranslationTrainer.training_step

    def stopped(trainer, *words, **options):
        if trainer.state.global_step == 4:
            signal.raise_signal(signal.SIGINT)
        return original(trainer, *words, **options)

    with monkeypatch.context() as patch:
        patch.setattr(TranslationTrainer, "training_step", stopped)
        assert run(patch, "train", folder, "--extend", "3") == main_module.CTRL_C
    said = capsys.readouterr().err.replace("\n", " ")
    assert f"stopped by Ctrl-C after update 6, which is saved; resume to go on: paretokd train {folder} --resume" in said
    assert run(monkeypatch, "train", folder, "--extend", "3") == 1
    assert "is at update 6 of 7, to which the training was made longer already" in capsys.readouterr().err.replace("\n", " ")
    assert run(monkeypatch, "train", folder, "--resume") == 0
    record = json.loads((folder / "checkpoints" / "checkpoint-7" / "training.json").read_text())
    assert record["extensions"] == [[4, 3]]
    rows = [row for row in read_results(folder / "results.json") if row.metric == "updates"]
    assert {row.value for row in rows} == {7}
    assert {row.signature.split("|updates:")[1][:4] for row in rows} == {"4+3|"}


@pytest.mark.parametrize("number", ["0", "-3", "two", "1.5", ""])
def test_an_extension_is_a_number_of_updates(unfinished, monkeypatch, capsys, number):
    assert run(monkeypatch, "train", unfinished / "run", f"--extend={number}") == 2
    assert f"--extend: {number!r} is not 1 or more" in capsys.readouterr().err.replace("\n", " ")


def test_a_resume_without_a_checkpoint_says_where_it_starts(recipe_file, monkeypatch):
    warnings_seen: list[str] = []
    monkeypatch.setattr(checkpointing.logger, "warning", warnings_seen.append)
    assert run(monkeypatch, "train", recipe_file, *QUICK, "--resume") == 0
    assert any("starts at update 0" in line for line in warnings_seen)


def test_what_was_prepared_is_taken_back_by_a_call_of_ones_own(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file, [*QUICK, "--tokenizer.vocab_size", "10"])
    with pytest.raises(TokenizerError):
        prepare(recipe)
    assert not recipe.run_folder.exists()
    prepared = prepare(load_recipe(recipe_file, QUICK))
    assert isinstance(prepared, Prepared)
    assert not (recipe.run_folder / "recipe.yaml").exists()
    prepared.start.release()
    assert not recipe.run_folder.exists()


def test_a_run_that_is_replaced_takes_nothing_with_it(unfinished, tmp_path, monkeypatch):
    folder = shutil.copytree(unfinished / "run", tmp_path / "run")
    mine = ["checkpoints/mine.txt", "students/mine.txt", "plots/mine.png", "translations/mine.txt", "teacher/other/mine.txt"]
    mine += ["checkpoints/checkpoint-mine/mine.txt", "translations/test.bs-en/human.txt", "latency-phone.json"]
    mine += ["teacher/adapter_model.safetensors", "teacher/other/mine.spm", "tokenizer/other/mine.model"]
    for name in mine:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    method = ["--method", "plain", "--max_steps", "1"]
    assert run(monkeypatch, "train", folder, *QUICK, *method, "--overwrite") == 0
    assert [(folder / name).read_text() for name in mine] == ["mine"] * len(mine)
    assert not list(folder.glob("teacher/*.json"))
    assert [path.name for path in (folder / "checkpoints").glob("checkpoint-[0-9]*")] == ["checkpoint-1"]
    assert not (folder / "peers").exists()


def test_files_of_others_among_students_stay_there(unfinished, tmp_path, monkeypatch):
    folder = shutil.copytree(unfinished / "run", tmp_path / "run")
    stray = folder / "students" / "2-2" / ".DS_Store"
    stray.parent.mkdir(parents=True)
    stray.write_text("mine")
    for words in (["--resume"], ["--overwrite"]):
        assert run(monkeypatch, "train", folder, *QUICK, *words) == 0
        assert stray.read_text() == "mine"
        assert (folder / "students" / "2-2" / "model.safetensors").is_file()
        assert (folder / "results.json").is_file()


def test_a_run_without_its_recipe_goes_on_by_the_one_it_was_made_of(unfinished, tmp_path, monkeypatch):
    folder = shutil.copytree(unfinished / "run", tmp_path / "run")
    (folder / "recipe.yaml").unlink()
    assert run(monkeypatch, "train", unfinished / "recipe.yaml", *QUICK, "--output_dir", folder, "--resume") == 0
    assert (folder / "recipe.yaml").is_file()
    assert (folder / "results.json").is_file()


def test_the_recipe_of_a_run_that_was_made_longer_says_so(unfinished, tmp_path, monkeypatch):
    folder = shutil.copytree(unfinished / "run", tmp_path / "run")
    assert run(monkeypatch, "train", folder, "--extend", "3") == 0
    assert load_recipe(folder / "recipe.yaml").training.max_steps == 7
    assert run(monkeypatch, "train", folder, "--extend", "1") == 0
    assert load_recipe(folder / "recipe.yaml").training.max_steps == 8

"""Narrow terminals, dumb ones, no matplotlib, several processes: everything is still said, and nothing else."""

import contextlib
import io
import logging

import pytest
from commands import TINY, command
from rich.console import Console

from hf_paretokd.cli import show
from hf_paretokd.evaluation import plots


@pytest.fixture(scope="module")
def trained_run(text_folder, tmp_path_factory):
    """A run of two peers with students, and its recipe."""
    folder = tmp_path_factory.mktemp("terminals")
    recipe = f"data: {{pairs: [fr-en, bs-en], data_dir: {text_folder}}}\ntraining: {{output_dir: {folder / 'run'}}}\n"
    (folder / "recipe.yaml").write_text(recipe)
    words = ["--method", "pareto_all_in_one", "--model.encoder_layers", "3", "--update_interval", "2", "--trial_share", "0.02"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert command("train", folder / "recipe.yaml", *TINY, *words) == 0
    return folder / "run"


def commands(run):
    return (
        ("students", run),
        ("choose", run, "--max-ms", "10000"),
        ("report", run),
        ("compare", run, run.parent / "copy", "--output", run.parent / "comparison"),
        ("evaluate", run, "--evaluation.depths", "2-2"),
        ("push", run, "--to", "user/name", "--dry-run"),
        ("train", run.parent / "recipe.yaml", *TINY, "--method", "plain", "--output_dir", run.parent / "plain", "--overwrite"),
    )


@pytest.mark.parametrize("kind", ["narrow", "dumb"])
def test_terminals_of_any_kind(trained_run, monkeypatch, kind):
    environment = {"TERM": "dumb"} if kind == "dumb" else {}
    kept = io.StringIO()
    width = 36 if kind == "narrow" else 80
    console = Console(file=kept, width=width, force_terminal=True, color_system=None, markup=False, _environ=environment)
    monkeypatch.setattr(show, "console", console)
    if not (trained_run.parent / "copy").exists():
        (trained_run.parent / "copy").symlink_to(trained_run)
    for words in commands(trained_run):
        before = kept.tell()
        assert command(*words) == 0, words
        shown = kept.getvalue()[before:]
        assert shown.strip(), words
        if kind == "dumb":
            assert "\x1b" not in shown, words
    assert "3-2 peer 1" in kept.getvalue().replace("\n", " ") or "peer 1" in kept.getvalue()


def test_students_of_several_peers_are_asked_for_by_the_peer(trained_run, tmp_path, capsys):
    assert command("extract", trained_run, "2-2", "--output", tmp_path / "students") == 1
    assert f"has several models; name the one whose students are wanted: {trained_run}/peers/1" in capsys.readouterr().err
    assert not (tmp_path / "students").exists()
    assert command("extract", trained_run / "peers" / "2", "2-2", "--output", tmp_path / "students") == 0


def test_without_matplotlib_there_are_tables(trained_run, monkeypatch, capsys):
    kept = io.StringIO()
    monkeypatch.setattr(show, "console", Console(file=kept, width=80, markup=False))
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    (trained_run / "report.html").unlink()
    assert command("report", trained_run) == 0
    assert "no plots: matplotlib is missing (pip install 'hf_paretokd[plot]')" in kept.getvalue().replace("\n", " ")
    assert (trained_run / "report.html").is_file()


def test_of_several_processes_the_first_one_speaks(monkeypatch, tmp_path):
    ours = logging.getLogger("hf_paretokd")
    monkeypatch.setattr(ours, "level", ours.level)  # and back
    monkeypatch.setenv("RANK", "1")
    assert command("train", tmp_path / "none.yaml") == 1
    assert not logging.getLogger("hf_paretokd.training.arguments").isEnabledFor(logging.WARNING)
    ours.setLevel(logging.NOTSET)

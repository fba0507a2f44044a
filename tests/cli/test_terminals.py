"""Narrow terminals, dumb ones, no matplotlib, several processes: everything is still said, and nothing else."""

import contextlib
import errno
import io
import logging
import re
import sys

import pytest
from commands import TINY, command
from rich.console import Console

from hf_paretokd.cli import show
from hf_paretokd.evaluation import plots
from hf_paretokd.utils import progress


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


class Full(io.TextIOWrapper):
    """An output that can be written for a while."""

    def __init__(self, lines: int, problem: OSError) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self.left, self.problem = lines, problem

    def write(self, text):
        if not self.left:
            raise self.problem
        self.left -= 1
        return super().write(text)


@pytest.mark.parametrize("problem", [BrokenPipeError(errno.EPIPE, "Broken pipe"), OSError(errno.ENOSPC, "No space left")])
def test_a_training_goes_on_when_nobody_reads_it(trained_run, monkeypatch, tmp_path, capsys, problem):
    words = ["--method", "plain", "--output_dir", str(tmp_path / "run"), "--data.pairs", "fr-en"]
    monkeypatch.setattr(sys, "stdout", Full(2, problem))
    assert command("train", trained_run.parent / "recipe.yaml", *TINY, *words) == 0
    assert (tmp_path / "run" / "results.json").is_file()
    assert (tmp_path / "run" / "report.html").is_file()
    assert capsys.readouterr().err.count("nothing more is shown: the output cannot be written") == 1
    monkeypatch.setattr(sys, "stdout", Full(0, problem))
    assert command("students", tmp_path / "run") == (141 if isinstance(problem, BrokenPipeError) else 1)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["train", "--help-all"], ["choose", "--help"]])
def test_help_on_any_screen(words, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "5")
    assert command(*words) == 0
    assert capsys.readouterr().out
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert command(*words) == 0
    assert b"paretokd" in narrow.buffer.getvalue()
    monkeypatch.setattr(sys, "stdout", None)
    assert command(*words) == 0


def test_what_the_disk_refuses_is_one_line(trained_run, tmp_path, capsys):
    (tmp_path / "file").touch()
    student = trained_run / "peers" / "1" / "students" / "2-2"
    for words in (
        ("demo", "--folder", tmp_path / "file"),
        ("extract", student, "2-2", "--output", tmp_path / "file" / "students"),
        ("extract", student, "2-2", "--output", tmp_path / ("long" * 80)),
    ):
        assert command(*words) == 1
        error = capsys.readouterr().err
        assert re.search(r"error: .*: cannot be (used|written) \(", error), words
        assert "Traceback" not in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--versio"], "no option --versio; did you mean --version?"),
        (["bench", "servin"], "no command bench servin; did you mean bench serving? (paretokd bench --help)"),
        (
            ["bench", "serving", "run", "--studnt", "2-2"],
            "no option --studnt; did you mean --student? (paretokd bench serving",
        ),
        (["init", "--pairs", "fr-en", "train.tsv"], "--pairs takes all words after it, so put it last"),
        (["evaluate", "run", "--model.d_model", "4"], "no option or field --model.d_model"),
        (["bench", "methods", "--repeats", "0"], "--repeats: '0' is not 1 or more"),
    ],
)
def test_words_that_say_nothing(words, message, capsys):
    assert command(*words) == 2
    assert message in capsys.readouterr().err


def test_progress_is_a_line_now_and_then_where_nobody_watches(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SELDOM", 0.0)
    with progress.Progress(6, unit=" lines", desc="translating", initial=2) as bar:
        bar.update(1)
        bar.update(3)
    shown = capsys.readouterr().err
    assert re.findall(r"^translating: (\d) of 6 lines, \d\d:\d\d gone, .* to go$", shown, re.MULTILINE)[-1] == "6"
    assert not re.search("[\r\x1b]", shown)


def test_nothing_but_words_comes_out_of_a_pipe(trained_run, tmp_path, capfd):
    for words in (("evaluate", trained_run, "--evaluation.splits", "validation"), ("choose", trained_run, "--max-ms", "9999")):
        assert command(*words) == 0
        captured = capfd.readouterr()
        assert "\r" not in captured.out + captured.err, words

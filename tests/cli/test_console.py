"""What is seen of a training: a box, a line for every validation and event, no raw dictionaries, no escapes in a pipe."""

import io
import json
import re

import pytest
from commands import TINY, command
from rich.console import Console

from hf_paretokd.cli import show
from hf_paretokd.cli.console import decided, details, duration, of_training
from hf_paretokd.training.trainer import TranslationTrainer

SHORT = [*TINY, "--max_steps", "8", "--eval_steps", "2", "--evaluation.splits", "[]"]
LINE = re.compile(r"^ +(\d+) +\d+\.\d\d +(\d\.\d{3}|–) +(\d\.\d{3})([* ]) +\d\.\de-\d\d +[\d,]+ +\d+ s$", re.MULTILINE)


@pytest.fixture
def seen(monkeypatch):
    """A console of 80 columns that keeps what is printed; a terminal or not."""

    def build(terminal: bool = False):
        kept = io.StringIO()
        monkeypatch.setattr(show, "console", Console(file=kept, width=80, force_terminal=terminal, markup=False))
        return kept

    return build


def test_a_training_is_a_box_and_a_line_for_every_validation(recipe_file, seen, tmp_path):
    kept = seen()
    words = ["--data.pairs", "fr-en", "bs-en", "--mutual_start", "0.5"]
    assert command("train", recipe_file, *SHORT, *words, "--model.encoder_layers", "3") == 0
    shown = kept.getvalue()
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 115, "a line of words may be longer"
    box = shown[: shown.index("╰")]
    for text in (
        "All-in-One KD",
        "3-2 teacher",
        "students 2-2, 3-2",
        "fr-en 1,500, bs-en 300",
        "two stages (the second from 4)",
    ):
        assert text in box
    for text in (
        "two stages (the second from 4)",
        "8, each of 400 tokens",
        "cpu, 1 thread, float32",
        str(tmp_path / "run")[:20],
        "Ctrl-C",
    ):
        assert text in box
    lines = LINE.findall(shown)
    assert [int(update) for update, *_ in lines] == [2, 4, 6, 8]
    assert len(re.findall(r"^ +update +pass ", shown, re.MULTILINE)) == 1, "one heading"
    assert "{'" not in shown
    values = [float(value) for _, _, value, _ in lines]
    marks = [mark for *_, mark in lines]
    assert marks == ["*" if value == min(values[: number + 1]) else " " for number, value in enumerate(values)]
    assert re.search(r"^ {9}2-2 \d\.\d{3}  3-2 \d\.\d{3}$", shown, re.MULTILINE)
    assert re.search(r"^ {9}fr-en \d\.\d{3}  bs-en \d\.\d{3}$", shown, re.MULTILINE)
    assert shown.index("stage two begins: from the best of stage one") > shown.index(" 4 ")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log == json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]


def test_decisions_about_peers_and_goings_on_have_a_line(recipe_file, seen, tmp_path, monkeypatch):
    words = ["--method", "pareto_mutual", "--data.pairs", "fr-en", "bs-en", "--update_interval", "2", "--trial_share", "0.02"]

    def stopped(trainer, *words, **options):
        if trainer.state.global_step == 4:
            raise KeyboardInterrupt
        return original(trainer, *words, **options)

    original = TranslationTrainer.training_step
    with monkeypatch.context() as patch:
        patch.setattr(TranslationTrainer, "training_step", stopped)
        kept = seen()
        assert command("train", recipe_file, *SHORT, *words) != 0
    assert "decision after update 2; peer 1: α fr-en 0." in kept.getvalue()
    assert re.search(r"^ {9}peer 1 \(τ = 1\) \d\.\d{3}  peer 2 \(τ = 5\) \d\.\d{3}$", kept.getvalue(), re.MULTILINE)
    kept = seen(terminal=True)
    assert command("train", recipe_file, *SHORT, *words, "--disable_tqdm", "false", "--resume") == 0
    shown = re.sub(r"\x1b\[[\d;?]*\w", "", kept.getvalue())
    assert "goes on from update 4" in shown
    assert "decision after update 2" not in shown
    assert "decision after update 6" in shown
    assert re.search(r"training .*━.* \d/8", shown), "a bar"


def test_details_are_as_many_as_fit():
    metrics = {"eval_loss": 3.0, **{f"eval_loss_6-{number}": 3 + number / 10 for number in range(1, 7)}}
    assert details(metrics) == ["6-1 3.100  6-2 3.200  6-3 3.300  6-4 3.400  6-5 3.500  6-6 3.600"]
    many = {f"eval_loss_x{number}-en": float(number) for number in range(20)}
    assert details(many) == ["x0-en 0.000  x10-en 10.000  x19-en 19.000"]
    assert details({"eval_loss_2-2": 1.0, "eval_loss_fr-en": 1.0}) == [], "one is no more than the mean"
    assert details({"eval_bleu": 20.0}) == ["bleu 20.000"]


def test_training_is_shown_by_the_cross_entropy_of_whole_models():
    assert of_training({}) is None
    assert of_training({"loss": 25.0, "loss_teacher": 8.0, "loss_students": 9.0}) == 8.0
    assert of_training({"loss": 3.0, "nll": 2.5}) == 3.0
    assert of_training({"loss": 40.0, "peer1_nll": 4.0, "peer2_nll": 5.0}) == 4.5
    both = {"loss": 40.0, "peer1_nll": 1.0, "peer1_loss_teacher": 6.0, "peer2_nll": 1.0, "peer2_loss_teacher": 7.0}
    assert of_training(both) == 6.5


def test_words_of_time_and_decisions():
    assert [duration(seconds) for seconds in (3.4, 99, 240, 5990, 7200)] == ["3 s", "99 s", "4 min", "100 min", "2.0 h"]
    few = {"update": 1200, "weights": [{"fr-en": 0.4, "ko-en": 0.2}, {}]}
    assert decided(few) == "decision after update 1,200; peer 1: α fr-en 0.40, ko-en 0.20; peer 2: none"
    many = {"update": 3, "weights": [{f"x{number}-en": number / 10 for number in range(1, 7)}]}
    assert decided(many) == "decision after update 3; peer 1: α 0.10 to 0.60"

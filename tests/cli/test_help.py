"""Help for every command: few lines that fit a terminal, all that there is on demand, and what was probably meant."""

import re
import subprocess
import sys

import pytest
from commands import PATIENCE, SHIPPED, run

from hf_paretokd.cli.main import COMMANDS, overview

LIGHT = """
import sys
from hf_paretokd.cli.main import COMMANDS, main
for name in COMMANDS:
    assert main([*name.split(), "--help"]) == 0
print(sorted({"torch", "transformers", "datasets", "rich", "matplotlib"} & set(sys.modules)))
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_on_one_screen(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    for help_word in ("--help", "-h"):
        assert run(monkeypatch, *name.split(), help_word) == 0
        shown = capsys.readouterr().out
        lines = shown.splitlines()
        assert lines[0].startswith(f"usage: paretokd {name} ")
        assert COMMANDS[name].summary in lines
        assert max(map(len, lines)) <= 80, max(lines, key=len)
        assert len(lines) <= 40
        options = re.findall(r"^  --[\w.-]+", shown, re.MULTILINE)
        assert len(options) <= 17
        assert "None" not in shown
    assert run(monkeypatch, *name.split(), "--help-all") == 0
    everything = capsys.readouterr().out
    assert set(options) <= set(re.findall(r"^  --[\w.-]+", everything, re.MULTILINE)) or "fields of the recipe" in shown


def test_all_commands_stand_in_the_overview(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert run(monkeypatch) == 2
    assert run(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    assert shown == f"{overview()}\n" * 2
    assert max(map(len, shown.splitlines())) <= 80
    assert all(re.search(rf"^  {name}\b", shown, re.MULTILINE) for name in COMMANDS)
    assert run(monkeypatch, "--version") == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_all_fields_are_shown_with_the_values_of_a_recipe(monkeypatch, capsys):
    path = next(path for path in SHIPPED if path.stem == "demo")
    assert run(monkeypatch, "train", path, "--help-all", "--max_steps", "77") == 0
    shown = capsys.readouterr().out
    assert "  --max_steps 77\n" in shown
    assert "  --num_students 2\n" in shown
    titles = [line for line in shown.splitlines() if re.match(r"\w.*: --", line)]
    assert [title.partition(":")[0] for title in titles] == [
        *("data", "tokenizer", "model", "evaluation", "card", "shrink"),
        *("training, all_in_one", "training, of the Trainer"),
    ]
    own, theirs = (shown.index(title) for title in titles[-2:])
    assert own < shown.index("  --max_tokens") < theirs < shown.index("  --learning_rate")
    for name in ("per_device_train_batch_size", "neftune_noise_alpha", "fsdp", "logging_nan_inf_filter"):
        assert f"--{name}" not in shown, "means nothing here"
    assert run(monkeypatch, "train", path, "--help-all", "--method", "pareto_mutual") == 0
    assert "  --strategy auto\n" in capsys.readouterr().out
    assert run(monkeypatch, "evaluate", "--help-all") == 0
    shown = capsys.readouterr().out
    assert "--evaluation.original" in shown
    assert "--model.d_model" not in shown


def test_help_imports_nothing_that_takes_long():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


COMPLETE = """
source {script}
COMP_WORDS=(paretokd {words}) COMP_CWORD={number}
_shtab_paretokd
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "wanted"), [("cho", "choose"), ("choose run --max-m", "--max-ms --max-mb"), ("tr", "train translate")]
)
def test_a_shell_completes_commands_and_options(words, wanted, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "completion", "bash") == 0
    script = tmp_path / "completion.sh"
    script.write_text(capsys.readouterr().out)
    code = COMPLETE.format(script=script, words=words, number=len(words.split()))
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.stdout.split() == wanted.split()
    assert run(monkeypatch, "completion", "fish") == 2

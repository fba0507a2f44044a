"""The code of README and the guides, as it stands but for the length of trainings, in a folder that has what it names."""

import contextlib
import io
import json
import re
import shlex
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml
from commands import TINY, command
from pages import PAGES, ROOT, blocks

from hf_paretokd.bench.estimate import Estimate
from hf_paretokd.cli import main as cli
from hf_paretokd.cli.fields import check_fields
from hf_paretokd.cli.parser import Parser
from hf_paretokd.runs.recipe import build_recipe, command_line_recipe, load_recipe

KINDS = {
    "README.md": {"", "first hour", "init"},  # its Python is run by test_readme
    "own_text.md": {"first hour", "section"},
    "languages.md": {"recipe", "several languages"},
    "tracking.md": {"trackers", "log", "trainer"},
    "onnx.md": {"onnx", "onnx file translate.py", "command line"},  # the first two by other_packages.py
    "serving.md": {"command line", "docker"},  # the latter by test_dockerfile.py
    "sharing.md": {"any", "transformers 4", "transformers 5", "shell", "section", "command line", "other packages"},
    "finetuning.md": {"recipe", "shell", "peft", "json", "other packages"},
    "controls.md": {"command line"},
    "shrink.md": {"command line"},
    "scale.md": {"section", "command line"},
    "terminal.md": {"recording"},
}


def lines_of(code: str) -> list[list[str]]:
    """The words of every command."""
    return [words for line in code.replace("\\\n", "").splitlines() if (words := shlex.split(line, comments=True))]


def test_every_block_is_of_a_kind_that_is_run():
    for path in PAGES:
        assert {block.kind for block in blocks(page=path.name)} == KINDS.get(path.name, set()), path.name


@pytest.mark.parametrize("block", blocks("command line"), ids=lambda block: block.page)
def test_command_lines_mean_something(block):
    for _, *words in lines_of(block.code):
        name, rest = cli.named(words)
        declare, _ = cli.COMMANDS[name].load()
        parser = Parser(name, cli.COMMANDS[name].usage, cli.COMMANDS[name].summary)
        declare(parser)
        options, fields = parser.parsed(rest)
        check_fields(fields, parser.known)
        if name == "train":
            load_recipe(Path(cli.__file__).parents[2] / options.recipe, fields, trainable=False)
        elif fields:
            command_line_recipe(fields)


@pytest.mark.parametrize("block", blocks("section"), ids=lambda block: block.page)
def test_sections_are_read(block):
    raw = {"data": {"pairs": ["de-en"]}, **yaml.safe_load(block.code)}
    assert build_recipe(raw, trainable=False).raw == raw


def run(block, *words: str) -> str:
    """Every command of a block, trainings at toy size; what was printed."""
    with tempfile.TemporaryFile("w+") as printed:  # a real one: bytes are written, too
        with contextlib.redirect_stdout(printed):
            for _, *line in lines_of(block.code):
                short = [*TINY, *words] if line[0] == "train" else []
                if "--max-ms" in line:  # no test is about speed, and machines may be loaded
                    line[line.index("--max-ms") + 1] = "100000"
                assert command(*line, *short) == 0, line
        printed.seek(0)
        return printed.read()


@pytest.fixture(scope="module")
def first_hour(text_folder, tmp_path_factory) -> Path:
    """A folder with text of one pair, where the README's commands have been run."""
    folder = tmp_path_factory.mktemp("first-hour")
    shutil.copytree(text_folder / "fr-en", folder / "my" / "text" / "fr-en")
    (folder / "input.txt").write_text("dans 3 heures\nil y a 2 jours\n")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_paretokd.bench.estimate.estimated", lambda *_: Estimate(1.5, 2.2))
        block = blocks("first hour", page="README.md")[0]
        (folder / "printed.txt").write_text(run(block, "--evaluation.depths", "2-2"))
    return folder


def test_the_readme_goes_from_text_to_translations(first_hour):
    printed = (first_hour / "printed.txt").read_text()
    assert "recipe.yaml: about" in printed
    assert "← chosen" in printed
    assert (first_hour / "runs" / "first" / "report.html").is_file()


def test_the_readme_shows_what_init_writes(first_hour):
    (shown,) = blocks("init")
    written = (first_hour / "recipe.yaml").read_text()
    assert list(yaml.safe_load(shown.code)) == list(yaml.safe_load(written))
    assert {name: list(section) for name, section in yaml.safe_load(shown.code).items() if name != "method"} == {
        name: list(section) for name, section in yaml.safe_load(written).items() if name != "method"
    }
    load_recipe(first_hour / "recipe.yaml", trainable=False)


def test_the_guide_to_own_text_holds(first_hour):
    starting, training, looking, translating = blocks("first hour", page="own_text.md")
    assert lines_of(starting.code) == lines_of(blocks("first hour", page="README.md")[0].code)[:1], "which has been run"
    assert lines_of(training.code) == [["paretokd", "train", "recipe.yaml", "--max_steps", "2000"]], "but for its length"
    with contextlib.chdir(first_hour):
        assert "2-2" in run(looking)
        run(translating)
        assert len((first_hour / "output.txt").read_text().splitlines()) == 2
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(blocks("log")[0].code, {})
        assert printed.getvalue().startswith("[(2, ")


@pytest.fixture(scope="module")
def languages(text_folder, tmp_path_factory) -> Path:
    """A folder with text of two pairs and the recipes of the guide, both trained."""
    folder = tmp_path_factory.mktemp("languages")
    shutil.copytree(text_folder, folder / "my" / "text")
    one, peers = blocks("recipe", page="languages.md")
    (folder / "one.yaml").write_text(one.code)
    (folder / "peers.yaml").write_text(peers.code)
    with contextlib.chdir(folder):
        assert command("train", "one.yaml", *TINY) == 0
        assert command("train", "peers.yaml", *TINY, "--update_interval", "2") == 0
    return folder


def test_several_languages_are_compared_and_taught(languages):
    comparing, student, _ = blocks("several languages")
    with contextlib.chdir(languages):
        assert "peers" in run(comparing)
        run(student)
    assert (languages / "runs" / "student" / "model" / "config.json").is_file()


def test_peers_have_students(languages):
    _, _, both = blocks("several languages")
    with contextlib.chdir(languages):
        run(both, "--update_interval", "2", "--model.encoder_layers", "3", "--evaluation.depths", "2-2")
    assert (languages / "runs" / "both" / "peers" / "2" / "students" / "2-2" / "config.json").is_file()


def test_a_trainer_is_followed_by_callbacks(text_folder, tmp_path, monkeypatch):
    shutil.copytree(text_folder, tmp_path / "my" / "text")
    monkeypatch.chdir(tmp_path)
    code = blocks("trainer")[0].code
    for old, new in {"max_steps=2000": "max_steps=4", "eval_steps=200": "eval_steps=2", "d_model=128": "d_model=16"}.items():
        assert old in code
        code = code.replace(old, new)
    exec(code, {})
    assert (tmp_path / "my" / "followed" / "checkpoints").is_dir()


def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    cells = json.loads((ROOT / "docs" / "first_hour.ipynb").read_text("utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    for old, new in {"UPDATES = 1300": "UPDATES = 4", "20_000": "600", "d_model=128": "d_model=16", "1500": "700"}.items():
        assert old in code
        code = code.replace(old, new)
    monkeypatch.chdir(tmp_path)
    exec(
        code.replace("warmup_steps=UPDATES // 8", "warmup_steps=1").replace(
            "logging_steps", "disable_tqdm=True, logging_steps"
        ),
        {},
    )
    assert "2-2 BLEU" in capsys.readouterr().out
    assert all(cell["outputs"] or "import" in cell["source"][0] for cell in cells if cell["cell_type"] == "code"), (
        "as it was run"
    )


def test_every_error_of_the_page_can_come_up():
    source = "".join(path.read_text("utf-8") for path in (ROOT / "hf_paretokd").rglob("*.py"))
    source = re.sub(r'"\s+f?"', "", source)  # texts over several lines
    rows = re.findall(r"^\| `(.+?)` \|", (ROOT / "docs" / "errors.md").read_text("utf-8"), re.MULTILINE)
    assert len(rows) > 25
    for row in rows:
        assert row in source, row

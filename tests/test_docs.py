"""The code of docs/sharing.md, as it stands, in a folder that has what it names."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import PATIENCE

from hf_paretokd import LanguagePair, train_tokenizer
from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.models.building import ModelConfig, build_model
from hf_paretokd.models.files import save_model

PAGE = Path(__file__).parent.parent / "docs" / "sharing.md"
BLOCKS = re.findall(r"<!-- run: ([\w ]+) -->\n```\w+\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def place(students, texts, text_folder, tmp_path_factory) -> Path:
    """`students/6-2` that knows French phrases, `students/many` with two target languages, `text`."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(students / "3-2", folder / "students" / "6-2")
    shutil.copytree(text_folder, folder / "text")
    into = {
        LanguagePair("en", pair.source): ParallelText(LanguagePair("en", pair.source), "train", text.targets, text.sources)
        for pair, text in texts["train"].items()
    }
    many = folder / "students" / "many"
    tokenizer = train_tokenizer(into, folder / "tokenizer", vocab_size=900, max_length=64)
    shape = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "encoder_layers": 2, "decoder_layers": 2}
    save_model(build_model(ModelConfig(**shape, max_position_embeddings=64), tokenizer, 1), tokenizer, many)
    return folder


def blocks(*kinds: str) -> list[str]:
    return [code for kind, code in BLOCKS if kind in kinds]


def environment(**more: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **more}


def run(place: Path, *words: str, **more: str) -> str:
    options = {"cwd": place, "env": environment(**more), "capture_output": True, "text": True, "timeout": PATIENCE}
    done = subprocess.run(words, check=False, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def shell(place: Path, code: str) -> str:
    return run(place, "bash", "-euo", "pipefail", "-c", code)


@pytest.fixture(scope="module")
def exported(place) -> str:
    """What the export and a translation by its result printed."""
    (place / "input.txt").write_text("dans 3 heures\n\nil y a 2 jours\n")
    return shell(place, blocks("shell")[1])


def test_every_block_is_of_a_kind_that_is_run():
    assert {kind for kind, _ in BLOCKS} == {"any", "transformers 4", "transformers 5", "shell"}
    assert len(BLOCKS) == 8


def test_lines_are_translated_by_the_shell_commands(place):
    output = shell(place, blocks("shell")[0])
    assert len(output.splitlines()) == 3
    assert (place / "output.txt").read_text().splitlines() == ["in 3 hours", "", "2 days ago"]


def test_exports_are_made_by_the_shell_commands(exported):
    assert "equal to generate's" in exported
    assert exported.splitlines()[-3:] == ["in 3 hours", "", "2 days ago"]


def test_blocks_for_anyone_run_on_transformers_4_without_this_package(place, exported, transformers_4):
    code = ["import sys", "sys.modules['hf_paretokd'] = None  # importing it would fail", *blocks("any", "transformers 4")]
    output = run(place, sys.executable, "-W", "ignore", "-c", "\n".join(code), PYTHONPATH=str(transformers_4))
    assert output.splitlines() == ["['in 3 hours', '2 days ago']", "in 3 hours", "in 3 hours", "2 days ago"]


def test_python_blocks_run_on_transformers_5(place):
    printed = io.StringIO()
    with contextlib.chdir(place), contextlib.redirect_stdout(printed):
        for code in blocks("transformers 5"):
            exec(code, {})
        exec(blocks("any")[0], {})
    lines = printed.getvalue().splitlines()
    assert "'translation_text': 'in 3 hours'" in lines[0]
    assert lines[-2] == str(["in 3 hours", "2 days ago"] * 10)
    assert lines[-1] == "['in 3 hours', '2 days ago']"

"""The code of docs/sharing.md and docs/finetuning.md, in a folder that has what it names."""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch
from commands import PATIENCE, command

from hf_paretokd import LanguagePair, train_tokenizer
from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.models.building import ModelConfig, build_model
from hf_paretokd.models.files import load_checkpoint, save_model
from hf_paretokd.runs.export import export_model
from hf_paretokd.runs.run import Run

SHARING, FINETUNING = ("sharing.md", "finetuning.md")
BLOCKS = {
    page: re.findall(
        r"<!-- run: ([\w ]+) -->\n```\w+\n(.*?)```",
        (Path(__file__).parent.parent / "docs" / page).read_text("utf-8"),
        re.DOTALL,
    )
    for page in (SHARING, FINETUNING)
}


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


def blocks(*kinds: str, page: str = SHARING) -> list[str]:
    return [code for kind, code in BLOCKS[page] if kind in kinds]


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
    kinds = {kind for kind, _ in BLOCKS[SHARING]}
    assert kinds == {"any", "transformers 4", "transformers 5", "shell", "section", "command line", "other packages"}
    assert [kind for kind, _ in BLOCKS[FINETUNING]] == ["recipe", "shell", "json", "other packages", "peft"]


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


@pytest.fixture(scope="module")
def tuned(place) -> Path:
    """The recipe, at toy length; what it starts from is a student in the form of an opus-mt repository."""
    shutil.copytree(place / "students" / "6-2", place / "opus-mt-fr-en")
    recipe = blocks("recipe", page=FINETUNING)[0].replace("5000", "6").replace("500", "3").replace("4096", "600")
    recipe = recipe.replace("bf16: true", "bf16: false").replace("[6-6, 6-2, 2-2]", "[3-2, 2-2]")
    (place / "tuned.yaml").write_text(recipe)
    return place / "tuned.yaml"


def test_models_are_trained_further_on_parallel_text(place, tuned):
    """In this process, where little is timed."""
    words = shlex.split(blocks("shell", page=FINETUNING)[0].replace("\\\n", ""))
    with contextlib.chdir(place):
        assert command("train", tuned) == 0
        assert command(*words[1:]) == 0
        found, student = Run("runs/tuned"), Run("runs/student")
        assert [member.title for member in found.scored] == ["3-2 original", "3-2 teacher", "3-2", "2-2"]
        assert [member.title for member in student.scored] == ["3-2 original", "3-2 model"]
        assert student.quality(student.scored[0]) == found.quality(found.scored[0]), "the same model, as it was"
        original = load_checkpoint("students/6-2")[0].state_dict()
        for run_folder in (found, student):
            moved = run_folder.model(run_folder.main).state_dict()
            assert all((moved[name] - tensor).abs().max() < 0.01 for name, tensor in original.items()), "it began there"
            assert any(not torch.equal(moved[name], tensor) for name, tensor in original.items())


def test_text_becomes_what_the_script_of_transformers_wants(place):
    with contextlib.chdir(place):
        exec(blocks("json", page=FINETUNING)[0], {})
        rows = datasets.load_dataset("json", data_files={"train": "train.json"}, split="train")
    assert set(rows[0]["translation"]) == {"fr", "en"}


def test_a_student_is_adapted_by_peft(place):
    code = blocks("peft", page=FINETUNING)[0].replace("max_steps=1000", "max_steps=3")
    with contextlib.chdir(place):
        exec(code, {})
        (old, _), (new, tokenizer) = (load_checkpoint(f"students/{name}") for name in ("6-2", "adapted"))
    changed = {name for name, tensor in old.state_dict().items() if not torch.equal(tensor, new.state_dict()[name])}
    assert changed == {name for name in old.state_dict() if name.endswith(("q_proj.weight", "v_proj.weight"))}
    assert not new.get_input_embeddings().weight[tokenizer.pad_token_id].any()
    assert (place / "lora" / "adapter" / "adapter_model.safetensors").stat().st_size < 100_000
    assert len(export_model(new, tokenizer, [], place / "adapted-export").ties) == 0

"""What a user installs: the wheel alone, elsewhere, starts the demo."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from commands import PATIENCE

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel, built and installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    wheel = next(folder.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    assert {
        "hf_paretokd/recipes/demo.yaml",
        "hf_paretokd/recipes/train.py",
        "hf_paretokd/model_cards/student.md",
        "hf_paretokd/py.typed",
    } <= set(names)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder / "site"), str(wheel)], check=True
    )
    return folder / "site"


def test_the_wheel_starts_the_demo_elsewhere(installed, tmp_path, text_folder):
    shutil.copytree(text_folder, tmp_path / "demo" / "text")  # a small corpus; writing the whole one takes a while
    command = [
        sys.executable,
        "-m",
        "hf_paretokd.cli",
        "demo",
        "--max_steps",
        "2",
        "--eval_steps",
        "1",
        "--data.pairs",
        "bs-en",
        "--evaluation.splits",
        "[]",
        "--tokenizer.vocab_size",
        "900",
    ]
    environment = {**os.environ, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert (tmp_path / "demo" / "run" / "students" / "2-2" / "model.safetensors").is_file()
    assert "Unseen phrases, students/2-2" in run.stdout


# ---- names are imported when they are first used


def in_a_fresh_process(code: str) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout.strip()


def test_the_public_names_are_those_of_the_stub():
    import hf_paretokd

    assert len(hf_paretokd.__all__) == len(set(hf_paretokd.__all__)) == 48
    for name in hf_paretokd.__all__:
        assert getattr(hf_paretokd, name) is not None
    assert set(hf_paretokd.__all__) <= set(dir(hf_paretokd))
    assert hf_paretokd.__version__ == importlib.metadata.version("hf_paretokd")
    with pytest.raises(AttributeError, match="has no attribute 'AllInTwoTrainer'"):
        _ = hf_paretokd.AllInTwoTrainer


def test_importing_the_package_imports_nothing_that_costs():
    heavy = ("torch", "transformers", "datasets", "sacrebleu", "evaluate", "accelerate", "matplotlib", "rich")
    show = f"print([name for name in {heavy} if name in sys.modules])"
    assert in_a_fresh_process(f"import sys, hf_paretokd; {show}") == "[]"
    code = f"import sys; from hf_paretokd.cli.main import main; main(['--help']); {show}"
    assert in_a_fresh_process(code).splitlines()[-1] == "[]", "neither does the help"


PIPELINE = "print(type(pipeline('translation', {folder!r})).__module__)"


@pytest.mark.parametrize(
    "imports",
    [
        "import hf_paretokd; from transformers import pipeline",
        "from transformers import pipeline; import hf_paretokd",
        "import transformers.pipelines, hf_paretokd; from transformers import pipeline",
        "import hf_paretokd, hf_paretokd; import transformers; pipeline = transformers.pipeline",
    ],
)
def test_the_translation_pipeline_is_back_whatever_was_imported_first(students, imports):
    code = f"{imports}\n{PIPELINE.format(folder=str(students / '2-2'))}"
    assert in_a_fresh_process(code).splitlines()[-1] == "hf_paretokd.inference.pipeline"

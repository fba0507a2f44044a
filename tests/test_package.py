"""What a user installs: the wheel alone, elsewhere, starts the demo."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert (tmp_path / "demo" / "run" / "students" / "2-2" / "model.safetensors").is_file()
    assert "Unseen phrases, students/2-2" in run.stdout


def test_rooms_import_downwards_only():
    """data, models, losses … trainer < methods < delivery < recipe and runs < cli; a method imports no other method."""
    order = [
        "errors",
        "manifest",
        "interruption",
        "allocator",
        "quiet",
        "timing",
        "data",
        "models",
        "losses",
        "checkpoints",
        "evaluation",
        "delivery",
        "arguments",
        "signature",
        "clock",
        "log_window",
        "checkpointing",
        "uploading",
        "trainer",
        "weighting",
        "methods",
        "recipe",
        "scoring",
        "record",
        "sharing",
        "runs",
        "recipes",
        "bench",
        "cli",
    ]
    for path in (ROOT / "hf_paretokd").rglob("*.py"):
        parts = path.relative_to(ROOT / "hf_paretokd").with_suffix("").parts
        if parts[0] == "__init__":
            continue
        for line in path.read_text("utf-8").splitlines():
            words = line.split()
            if not line.lstrip().startswith("from hf_paretokd") or "import" not in words:
                continue
            room = words[1].split(".")[1:] or [words[3]]
            assert order.index(room[0]) <= order.index(parts[0]), f"{path}: {line.strip()}"
            if parts[0] == "methods" and room[0] == "methods":
                raise AssertionError(f"{path}: {line.strip()}")

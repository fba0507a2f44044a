"""The blocks of the guides that need other packages, run for real with optimum, TensorBoard, W&B and MLflow: `make guides`.

They are installed into the environment that this runs in.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from commands import TINY, small_run
from pages import blocks

OFFLINE = {"WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def shell(code: str, folder: Path) -> str:
    """What a block prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **OFFLINE, "PATH": path}
    words = ["bash", "-euo", "pipefail", "-c", code]
    done = subprocess.run(words, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def main() -> None:
    """Trains a small run and follows the guides with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where everything goes")
    folder = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    small_run(folder)
    (folder / "students").mkdir(exist_ok=True)
    if not (folder / "students" / "6-2").exists():
        (folder / "students" / "6-2").symlink_to(folder / "run" / "students" / "6-2")

    (tracked,) = blocks("trackers")
    code = tracked.code.replace("pip install", "pip install -q").replace("recipe.yaml", f"recipe.yaml {' '.join(TINY)}")
    shell(code.replace("--output_dir", "--overwrite --output_dir"), folder)
    assert list(folder.glob("runs/tracked/**/events.out.tfevents*")), "TensorBoard"
    assert list(folder.glob("wandb/offline-run-*")), "W&B"
    assert list(folder.glob("mlruns*")) or list(folder.glob("mlflow.db")), "MLflow"
    print("trackers: TensorBoard, W&B (offline) and MLflow have written")

    (script,), (exported,) = blocks("onnx file translate.py"), blocks("onnx")
    (folder / "translate.py").write_text(script.code)
    printed = shell(exported.code, folder)
    code = script.code.replace("optimum.onnxruntime", "transformers").replace("ORTModel", "AutoModel")
    plain = shell(f"python -c '{code.replace('onnx-6-2', 'students/6-2')}'", folder)
    assert printed.splitlines()[-1] == plain.splitlines()[-1], (printed, plain)
    print(f"ONNX Runtime by optimum, as generate: {plain.splitlines()[-1]}")


if __name__ == "__main__":
    main()

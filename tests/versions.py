"""The core of the suite with the lowest and the newest versions of what this package stands on: `make versions`.

Each set gets an environment of its own; torch is the build that `constraints.txt` names in both.
"""

import argparse
import re
import subprocess
import sys
import time
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
SETS = {"lowest": ["-c", str(ROOT / "constraints-lowest.txt")], "newest": ["--upgrade", "--upgrade-strategy", "eager"]}
CORE = ["test_contract.py", "test_house.py", "test_losses.py", "data", "models", "methods", "training", "hub", "inference"]
CORE += ["evaluation", "runs"]
SLOW = "not distributed"  # processes of their own are not about versions


def prepared(name: str, folder: Path) -> Path:
    """The Python of an environment with one set of versions."""
    python = folder / name / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
    torch = re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    pin = folder / f"{name}-torch.txt"
    pin.write_text(f"{torch[0]}\n", "utf-8")
    install = [str(python), "-m", "pip", "install", "-q", "-c", str(pin)]
    subprocess.run([*install, torch[0]], check=True)
    subprocess.run([*install, *SETS[name], "-e", f"{ROOT}[test]"], check=True)
    return python


def versions(python: Path) -> dict[str, str]:
    """The installed version of every direct dependency."""
    names = [Requirement(text).name for text in requires("hf_paretokd") or () if "extra" not in text]
    code = f"from importlib.metadata import version; print(*(version(name) for name in {names}))"
    found = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return dict(zip(names, found.stdout.split(), strict=True))


def main() -> int:
    """Runs both sets and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the environments go")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    options = parser.parse_args()
    columns, closing = {}, {}
    for name in options.sets:
        python = prepared(name, options.folder)
        columns[name] = versions(python)
        start = time.monotonic()
        tests = [str(ROOT / "tests" / part) for part in CORE]
        command = [str(python), "-m", "pytest", "--durations=0", "-k", SLOW, *tests]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        (options.folder / f"{name}.log").write_text(run.stdout + run.stderr, "utf-8")
        closing[name] = (run.returncode, run.stdout.strip().splitlines()[-1], time.monotonic() - start)
    table = Table("package", *options.sets)
    for package in next(iter(columns.values())):
        table.add_row(package, *(columns[name][package] for name in options.sets))
    table.add_section()
    table.add_row("core of the suite", *(closing[name][1] for name in options.sets))
    Console().print(table)
    return max(code for code, _, _ in closing.values())


if __name__ == "__main__":
    sys.exit(main())

"""The steps of the Dockerfile, followed without Docker: its files alone, an environment of its own, its command, its check."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from runtimes import Places, ask

ROOT = Path(__file__).parent.parent
KNOWN = {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"}
Steps = list[tuple[str, str]]


def steps() -> Steps:
    """(instruction, rest) of every line."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    found = [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line and not line.startswith("#")]
    assert {word for word, _ in found} <= KNOWN
    return found


def only(steps: Steps, wanted: str) -> str:
    """What comes after an instruction that there is once."""
    (found,) = [rest for word, rest in steps if word == wanted]
    return found


def follow(steps: Steps, folder: Path, packages: str | None = None) -> dict[str, str]:
    """Copies and installs what the steps say into an environment in `folder`; its variables.

    Args:
        steps: of the Dockerfile.
        folder: where `app` and the environment go.
        packages: a folder with packages that need not be installed once more.
    """
    app, venv = folder / "app", folder / "venv"
    app.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    if packages:
        (next(venv.glob("lib/python*/site-packages")) / "more.pth").write_text(f"{packages}\n")
    variables = {**os.environ, "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(venv)}
    variables.pop("PYTHONPATH", None)
    for word, rest in steps:
        if word in ("ARG", "ENV"):
            name, value = rest.split("=", 1)
            variables[name] = value.strip('"')
        elif word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                place = app / target / (source if target == "./" else "")
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, place)
        elif word == "RUN":
            done = subprocess.run(["sh", "-c", rest], cwd=app, env=variables, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-3000:]
    return variables


def serves(steps: Steps, variables: dict[str, str], places: Places, texts: list[str]) -> list[str]:
    """What the image's command makes of texts, when the image's check has found it well."""
    command, port = json.loads(only(steps, "ENTRYPOINT")), only(steps, "EXPOSE")
    words = [*command, str(places.exports["ctranslate2"]), "--port", "0"]
    process = subprocess.Popen(words, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        line = process.stdout.readline()
        address = re.search(r"at http://0\.0\.0\.0:(\d+)/translate", line)
        assert address, line + process.stdout.read()
        check = only(steps, "HEALTHCHECK").removeprefix("CMD ")
        assert f":{port}/" in check
        healthy = [word.replace(f":{port}/", f":{address[1]}/") for word in json.loads(check)]
        subprocess.run(healthy, env=variables, check=True)
        return ask(f"http://127.0.0.1:{address[1]}/translate", places.pair, texts)
    finally:
        process.terminate()
        process.wait()

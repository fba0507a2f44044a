"""The same 100 sentences by everything that runs a student, beside `generate` of transformers 5: `make conformance`.

Makes environments for transformers 4, optimum, Argos Translate and a browser, and one for node; needs npm and Chromium.
"""

import argparse
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from commands import small_run
from image import follow, serves, steps
from rich.console import Console
from rich.table import Table
from runtimes import (
    ARGOS,
    BROWSER,
    FIRST,
    HERE,
    NODE,
    OLD,
    OLD_STACK,
    OPTIMUM,
    Places,
    ended,
    generated,
    outside,
    served,
    spelling,
)

from hf_paretokd import Depth, LanguagePair
from hf_paretokd.data.languages import UNTOLD
from hf_paretokd.evaluation.proof import TIE, bare, beginning, gap_before
from hf_paretokd.models.files import load_checkpoint
from hf_paretokd.models.member import Member
from hf_paretokd.runs.run import Run
from hf_paretokd.runs.web import PINNED

ROOT = Path(__file__).resolve().parent.parent
COUNT = 100
ODD = [
    "été à Noël",
    "emoji 😀",
    "漢字",
    "ﬁn",
    "« dans 3 heures »",
    "il  y a 2 jours",
    "naïve",
    "lundi, mardi",
    "zero\u200bwidth",
]
PACKAGES = (*OLD_STACK, "optimum[onnxruntime]", "sentencepiece", "sacremoses", "argostranslate==1.11.0", "playwright")
LIBRARY = re.search(r"@huggingface/transformers@[\d.]+", PINNED)[0]
INSTALLED = {"SentencePiece, CTranslate2": "ctranslate2", "ONNX Runtime": "onnxruntime"}


def environment(folder: Path) -> Path:
    """The Python of an environment with what stands on transformers 4."""
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "-q"]
        subprocess.run([*pip, f"torch=={torch.__version__.split('+')[0]}"], check=True)
        subprocess.run([*pip, *PACKAGES], check=True)
        (folder / "installed").touch()
    return python


def modules(folder: Path) -> Path:
    """The folder of transformers.js in one for node."""
    folder.mkdir(exist_ok=True)
    if not (folder / "node_modules").is_dir():
        words = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", LIBRARY]
        subprocess.run(words, cwd=folder, check=True)
    return folder / "node_modules" / "@huggingface" / "transformers"


def smallest_gap(places: Places, text: str) -> float:
    """How close the two best tokens come, anywhere in the output for a sentence."""
    model, tokenizer = load_checkpoint(places.checkpoint)
    (made,) = generated(places, [text])
    start, source = beginning(model.eval(), tokenizer, UNTOLD), tokenizer(text)["input_ids"]
    words = [*bare(made, start, model), model.config.eos_token_id]
    return min(gap_before(model, source, [*start, *words[:place]]) for place in range(len(words)))


def main() -> int:
    """Prints a table of all runtimes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where everything goes")
    parser.add_argument("--output", type=Path, help="file for the table")
    folder, output = (path and path.resolve() for path in vars(parser.parse_args()).values())
    folder.mkdir(parents=True, exist_ok=True)
    python, library = environment(folder / "others"), modules(folder / "node")
    run = Run(small_run(folder))
    (source,) = [text.sources for text in run.text("test").values()]
    shutil.rmtree(folder / "exports", ignore_errors=True)
    kinds = ("ctranslate2", "onnx", "argos", "web")
    student = run.members[Member("student", Depth(6, 2))]
    places = Places.make(student, folder / "exports", LanguagePair("fr", "en"), *kinds, runtime=library)
    pool = [*ODD, *dict.fromkeys(source)]
    texts = [pool[row] for row in ended(places, pool)][:COUNT]
    assert len(texts) == COUNT
    endless = next(text for text in pool if text not in texts)  # which the model does not end

    def argos() -> dict:
        home = folder / "argos"
        shutil.rmtree(home, ignore_errors=True)
        variables = {
            "ARGOS_BEAM_SIZE": "1",
            "XDG_DATA_HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "XDG_CACHE_HOME": str(home),
        }
        return outside([python, "-c", ARGOS], places.exports["argos"], texts, variables)

    def node() -> dict:
        (folder / "node" / "conformance.mjs").write_text(NODE.replace("SPELL", spelling()))
        return outside(["node", folder / "node" / "conformance.mjs"], places.exports["onnx"], texts)

    def browser() -> dict:
        told = {"browser": shutil.which("chromium") or "", "picture": str(folder / "page.png")}
        with served(places.exports["web"]) as address:
            given = [*texts, endless]
            found = outside([python, "-c", BROWSER], places.exports["web"], given, address=address, **told)
        assert len(found["lines"]) == COUNT + 1
        assert "failed" not in found["lines"].pop(), "the page has more room than the model"
        assert not found["errors"], found["errors"]
        assert all(url.startswith((address, "data:", "blob:")) for url in found["requests"]), "a request left the machine"
        return found

    def image() -> dict:
        known = steps()
        shutil.rmtree(folder / "image", ignore_errors=True)
        variables = follow(known, folder / "image")
        return {"version": version("hf_paretokd"), "lines": serves(known, variables, places, texts)}

    asked = {
        name: lambda name=name: {"version": version(INSTALLED.get(name, "hf_paretokd")), "lines": HERE[name](places, texts)}
        for name in HERE
        if name != FIRST
    }
    asked |= {
        "transformers 4": lambda: outside([python, "-c", OLD], student, texts),
        "optimum, transformers 4": lambda: outside([python, "-c", OPTIMUM], places.exports["onnx"], texts),
        "transformers.js, node": node,
        "the page, Chromium": browser,
        "Argos Translate": argos,
        "the Dockerfile's command": image,
    }
    title = f"{COUNT} sentences of the demo's text, a student 6-2, beside generate of transformers {version('transformers')}"
    table = Table("runtime", "version", "equal", "ties", title=title)
    expected, broken = HERE[FIRST](places, texts), 0
    for name, ask in asked.items():
        found = ask()
        other = [row for row in range(COUNT) if found["lines"][row] != expected[row]]
        tied = [row for row in other if smallest_gap(places, texts[row]) <= TIE]
        for row in other:
            print(
                f"{name}{', a tie' if row in tied else ''}: {texts[row]!r}\n  {expected[row]!r}\n  {found['lines'][row]!r}",
                file=sys.stderr,
            )
        broken += len(other) - len(tied)
        table.add_row(name, found["version"], str(COUNT - len(other)), str(len(tied)))
    console = Console(record=True, width=100)
    console.print(table)
    if output:
        output.write_text(console.export_text(), "utf-8")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())

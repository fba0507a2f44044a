"""What runs a student, each asked greedily for the same sentences.

`tests/inference/test_conformance.py` asks those that need nothing more, `make conformance` all of them.
"""

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import ctranslate2
import sentencepiece
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

from hf_paretokd import LanguagePair
from hf_paretokd.data.languages import UNTOLD
from hf_paretokd.inference.decoding import longest_output
from hf_paretokd.inference.lines import line_translator
from hf_paretokd.inference.onnx import onnx_decoder
from hf_paretokd.layout import SOURCE_PIECES, TARGET_PIECES
from hf_paretokd.models.files import load_checkpoint
from hf_paretokd.runs.export import export_model
from hf_paretokd.runs.web import WebRuntime

OLD_STACK = ("transformers==4.57.6", "huggingface_hub==0.36.2", "tokenizers==0.22.2")
GENERATE = """
import json, sys, warnings
warnings.simplefilter("ignore")
sys.modules["hf_paretokd"] = None
from importlib.metadata import version
from transformers import AutoTokenizer
from {module} import {model}
asked = json.load(sys.stdin)
tokenizer, model = AutoTokenizer.from_pretrained(asked["folder"]), {model}.from_pretrained(asked["folder"])
ids = [tokenizer(text)["input_ids"] for text in asked["texts"]]
made = [model.generate(**tokenizer([text], return_tensors="pt"), num_beams=1)[0] for text in asked["texts"]]
lines = [tokenizer.decode(each, skip_special_tokens=True) for each in made]
kind = type(tokenizer).__name__
print(json.dumps(dict(version=version("{package}"), tokenizer=kind, ids=ids, lines=lines)))
"""
OLD = GENERATE.format(module="transformers", model="AutoModelForSeq2SeqLM", package="transformers")
OPTIMUM = GENERATE.format(module="optimum.onnxruntime", model="ORTModelForSeq2SeqLM", package="optimum")
ARGOS = """
import json, sys
from importlib.metadata import version
from pathlib import Path
import ctranslate2
from argostranslate import package, settings, translate
asked = json.load(sys.stdin)
(path,) = Path(asked["folder"]).glob("*.argosmodel")
package.install_from_path(path)
(installed,) = package.get_installed_packages()
translator = ctranslate2.Translator(str(installed.package_path / "model"))
class Lines:
    def split_sentences(self, text):
        return [text]
def translated(text):
    return translate.apply_packaged_translation(installed, text, translator, Lines(), num_hypotheses=1)[0].value
assert settings.beam_size == 1
print(json.dumps({"version": version("argostranslate"), "lines": [translated(text) for text in asked["texts"]]}))
"""

NODE = """
import { env, pipeline } from "@huggingface/transformers";
import { readFileSync } from "node:fs";
import { basename, dirname } from "node:path";
SPELL
const asked = JSON.parse(readFileSync(0, "utf-8"));
env.allowRemoteModels = false;
env.localModelPath = dirname(asked.folder);
const translator = await pipeline("translation", basename(asked.folder));
spellInBytes(translator.tokenizer._tokenizer.model);
const lines = [];
for (const text of asked.texts) lines.push((await translator(text, { num_beams: 1 }))[0].translation_text);
console.log(JSON.stringify({ version: env.version, lines }));
"""

BROWSER = """
import json, sys
from playwright.sync_api import sync_playwright
asked = json.load(sys.stdin)
with sync_playwright() as playwright:
    words = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    browser = playwright.chromium.launch(executable_path=asked["browser"], args=words)
    page = browser.new_page(viewport={"width": 1000, "height": 620})
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(asked["address"])
    ready = "document.getElementById('state').textContent == 'ready'"
    page.wait_for_function(ready, timeout=120000)
    page.fill("#source", "\\n".join(asked["texts"]))
    done = f"{ready} && document.getElementById('translation').textContent.split('\\\\n').length == {len(asked['texts'])}"
    page.wait_for_function(done, timeout=240000)
    lines = page.text_content("#translation").split("\\n")
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=asked["picture"])
    print(json.dumps({"version": browser.version, "lines": lines, "requests": requests, "errors": errors}))
    browser.close()
"""


@dataclass(frozen=True)
class Places:
    """A student and where its exports are, by what they are for; `longest` ids are in an output, at most."""

    checkpoint: Path
    exports: dict[str, Path]
    pair: LanguagePair
    longest: int

    @classmethod
    def make(cls, checkpoint: Path, folder: Path, pair: LanguagePair, *kinds: str, runtime: Path | None = None) -> "Places":
        """Exports a student, unproved: the proof is what is asked for here."""
        model, tokenizer = load_checkpoint(checkpoint)
        exports = {kind: folder / kind for kind in kinds}
        library = WebRuntime.of(runtime) if runtime else None
        for kind, place in exports.items():
            export_model(model.eval(), tokenizer, [], place, overwrite=True, to=kind, told={pair: UNTOLD}, web_runtime=library)
        return cls(checkpoint, exports, pair, GenerationConfig.from_pretrained(checkpoint).max_length)


Asked = Callable[[Places, Sequence[str]], list[str]]


def transformers(places: Places, texts: Sequence[str]) -> list[str]:
    """transformers as it is installed."""
    tokenizer = AutoTokenizer.from_pretrained(places.checkpoint)
    return [tokenizer.decode(each, skip_special_tokens=True) for each in generated(places, texts)]


def generated(places: Places, texts: Sequence[str]) -> list[list[int]]:
    """Ids that `generate` makes of one sentence at a time."""
    tokenizer, model = (kind.from_pretrained(places.checkpoint) for kind in (AutoTokenizer, AutoModelForSeq2SeqLM))
    rows = [tokenizer([text], return_tensors="pt") for text in texts]
    return [model.eval().generate(**row, num_beams=1)[0].tolist() for row in rows]


def ended(places: Places, texts: Sequence[str]) -> list[int]:
    """Which sentences end by themselves before anything cuts them: what cuts the others, and where, is another matter."""
    tokenizer, made = AutoTokenizer.from_pretrained(places.checkpoint), generated(places, texts)
    rooms = [longest_output([tokenizer(text)["input_ids"]], places.longest) for text in texts]
    return [row for row, room in enumerate(rooms) if len(made[row]) < room]


def raw_ctranslate2(places: Places, texts: Sequence[str]) -> list[str]:
    """SentencePiece and CTranslate2, and nothing of this package; a tag is a piece of its own."""
    folder = places.exports["ctranslate2"]
    source, target = (sentencepiece.SentencePieceProcessor(str(folder / name)) for name in (SOURCE_PIECES, TARGET_PIECES))
    tagged = [re.match(r"(>>\w+<<)?\s*(.*)", text, re.DOTALL) for text in texts]
    pieces = [[*filter(None, [found[1]]), *source.encode(found[2], out_type=str)] for found in tagged]
    made = ctranslate2.Translator(str(folder)).translate_batch(pieces, beam_size=1, max_decoding_length=places.longest - 2)
    return [target.decode(each.hypotheses[0]) for each in made]


def onnxruntime(places: Places, texts: Sequence[str]) -> list[str]:
    """ONNX Runtime with greedy search of this package."""
    _, tokenizer = load_checkpoint(places.checkpoint)
    decode = onnx_decoder(places.exports["onnx"], tokenizer)
    made = [decode([tokenizer(text)["input_ids"]], places.longest, 1, UNTOLD)[0] for text in texts]
    return [tokenizer.decode(each, skip_special_tokens=True) for each in made]


def translate(places: Places, texts: Sequence[str], folder: Path | None = None) -> list[str]:
    """`paretokd translate`, of the checkpoint or of an export."""
    lines = (f"{text}\n".encode() for text in texts)
    found = line_translator(str(folder or places.checkpoint), num_beams=1).translate(lines)
    return [line.decode().removesuffix("\n") for line in found]


def translate_export(places: Places, texts: Sequence[str]) -> list[str]:
    """`paretokd translate` of what is exported for CTranslate2."""
    return translate(places, texts, places.exports["ctranslate2"])


def server(places: Places, texts: Sequence[str]) -> list[str]:
    """`paretokd serve`: half of the sentences in one request, the others by themselves."""
    words = [sys.executable, "-m", "hf_paretokd.cli", "serve", str(places.exports["ctranslate2"]), "--port", "0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/translate", line)
        assert address, line + process.stdout.read()
        half = len(texts) // 2
        return [
            *ask(address[0], places.pair, list(texts[:half])),
            *(ask(address[0], places.pair, text) for text in texts[half:]),
        ]
    finally:
        process.terminate()
        process.wait()


def ask(address: str, pair: LanguagePair, asked: str | list[str]) -> Any:
    """What a server makes of a text or a list of them."""
    body = json.dumps({"q": asked, "source": pair.source, "target": pair.target}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["translatedText"]


FIRST = "transformers 5"  # all others are compared with it
HERE: dict[str, Asked] = {
    FIRST: transformers,
    "SentencePiece, CTranslate2": raw_ctranslate2,
    "ONNX Runtime": onnxruntime,
    "paretokd translate": translate,
    "paretokd translate, export": translate_export,
    "paretokd serve": server,
}


def outside(
    words: Sequence[str | Path], folder: Path, texts: Sequence[str], environment: Mapping[str, str] | None = None, **more: str
) -> dict:
    """What a program that stands by itself answers: its version and its lines.

    Args:
        words: its command line.
        folder: of the model.
        texts: the sentences.
        environment: variables, beside those of this process.
        more: what else it is told.
    """
    asked = json.dumps({"folder": str(folder), "texts": list(texts), **more})
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **(environment or {})}
    done = subprocess.run(list(map(str, words)), input=asked, capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder on a port of this machine inside the `with`; its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Says nothing."""

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{site.server_port}/"
        site.shutdown()


def spelling() -> str:
    """The page's function that spells characters in bytes."""
    page = files("hf_paretokd.runs").joinpath("web.html").read_text("utf-8")
    return re.search(r"^function spellInBytes.*?^}$", page, re.DOTALL | re.MULTILINE)[0]

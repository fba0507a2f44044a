"""Export for other runtimes, with a proof that the converted model does what the original does."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.data.corpus import load_text, text_places
from hf_paretokd.data.languages import Direction
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.errors import ExportError, ModelError, RecipeError
from hf_paretokd.evaluation.proof import Proof, Sentences, prove
from hf_paretokd.inference.runtimes import runtime_of
from hf_paretokd.layout import MANIFEST, PROOF
from hf_paretokd.models.files import load_checkpoint, load_config, save_model, save_tokenizer, usable_length
from hf_paretokd.runs.argos import check_packages, make_room, write_packages
from hf_paretokd.runs.recipe import command_line_recipe
from hf_paretokd.runs.resolve import MODEL, expect
from hf_paretokd.runs.run import run_around
from hf_paretokd.runs.web import WebRuntime, check_page, write_page
from hf_paretokd.utils.files import check_apart, listed, publish, save_json


def export_checkpoint(
    model: str,
    output: Path,
    to: str,
    quantization: str,
    overwrite: bool,
    overrides: Sequence[str],
    runtime: Path | None = None,
) -> Proof:
    """Converts a model for a runtime, proved on the test text of the run it lies in, or text that the overrides name.

    With `to` `web`, `runtime` is the folder of transformers.js that goes beside it.

    Raises:
        RecipeError: the output is, contains or lies inside the model, or nothing says where test text is.
        DataError, ModelError, ExportError: no test text, no model, or the converted model fails the proof.
    """
    expect(model, MODEL)
    runtime_of(to).check(quantization)
    if runtime and to != "web":
        raise RecipeError("--runtime: is what a page runs on; give --to web, or leave it out")
    files = WebRuntime.of(runtime) if runtime else None
    check_apart(output, [model])
    check_replaceable(output, overwrite)
    load_config(model)  # whether it is there
    run = run_around(model, overrides)
    if run is None and not overrides:
        raise RecipeError(f"{model}: is in no run folder; say where test text is: --data.pairs de-en --data.data_dir …")
    recipe = run.recipe if run else command_line_recipe(overrides)
    check_apart(output, text_places(recipe.data))
    original, tokenizer = load_checkpoint(model)
    texts = run.text("test") if run else load_text(recipe.data, "test")
    found = recipe.directions(tokenizer, original.config)
    by_language: dict[tuple[str, Direction], tuple[list[str], list[str]]] = {}
    for pair, text in texts.items():
        sources, references = by_language.setdefault((pair.target, found[pair]), ([], []))
        sources += text.sources
        references += text.targets
    sentences = [Sentences(language, *lines, told) for (language, told), lines in by_language.items()]
    return export_model(original, tokenizer, sentences, output, quantization, overwrite, to, found, files)


def check_replaceable(output: Path, overwrite: bool) -> None:
    """Raises a ModelError if something is where the export is to go that is not to be replaced, or is no export."""
    if not output.exists():
        return
    if not overwrite:
        raise ModelError(f"{output}: exists already; give --overwrite or another --output")
    exported = all((output / name).is_file() for name in (PROOF, MANIFEST))
    there = {path.relative_to(output).as_posix() for path in output.rglob("*") if not path.is_dir()}
    if exported and (more := there - listed(output) - {MANIFEST}):
        raise ModelError(f"{output / min(more)}: is nothing that `paretokd export` wrote; move it, or give another --output")
    if not exported and (not output.is_dir() or any(output.iterdir())):
        raise ModelError(f"{output}: is nothing that `paretokd export` wrote and is not replaced; give another --output")


def export_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Sentences],
    output: Path,
    quantization: str = "float32",
    overwrite: bool = False,
    to: str = "ctranslate2",
    told: Mapping[LanguagePair, Direction] | None = None,
    web_runtime: WebRuntime | None = None,
) -> Proof:
    """Converts a model, compares it with the original, and keeps it only if it passes.

    The folder gets the converted model, the tokenizer and `proof.json`.

    Args:
        model: any model that the runtime can hold.
        tokenizer: its tokenizer.
        texts: what to compare on, by target language.
        output: folder for the converted model.
        quantization: `float32`, `int8` …, as the runtime has them.
        overwrite: replace what is in the folder.
        to: the runtime: `ctranslate2`; `onnx` for ONNX Runtime, in the layout of optimum and transformers.js; `web`, a page
            that runs the latter in the browser; or `argos`, a package a language pair for Argos Translate.
        told: what the model translates, and what it is told of it; for pages and packages.
        web_runtime: what the page runs on; default: a pinned address.

    Raises:
        ModelError: the runtime is missing or cannot hold the model, or the folder is there already and is not to be replaced.
        ExportError: the converted model translates differently, or the quantized one worse; nothing is written.
    """
    output = output.resolve()  # of `.` too
    check_replaceable(output, overwrite)
    runtime = runtime_of(to)
    runtime.check(quantization)
    if to == "web":
        check_page(model)
    written = None
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        written = Path(tempfile.mkdtemp(".unfinished", f".{output.name}.", output.parent))  # of this process alone
        save_model(model.eval(), tokenizer, written / "original")
        told = told or {}
        if to == "argos":
            check_packages(model, told, written / "original")
            make_room(written / "original")
        folders = {name: written / name for name in dict.fromkeys(("float32", quantization))}
        runtime.convert(written / "original", folders)
        decoders = {name: runtime.decoder(folder, tokenizer) for name, folder in folders.items()}
        proof, result = prove(model, tokenizer, texts, decoders, quantization), folders[quantization]
        if problem := proof.problem:
            raise ExportError(f"{output}: not written; {problem}")
        proof.bytes = runtime.size(result)
        proof.pairs = {str(pair): direction.tag for pair, direction in told.items()}
        save_tokenizer(tokenizer, result, model.config)
        if to == "web":
            directions = ", ".join(f"{pair.source} → {pair.target}" for pair in told)
            room = usable_length(model.config, tokenizer)
            write_page(result, tokenizer, f"Translation {directions}".strip(), quantization, proof.bytes, room, web_runtime)
        if to == "argos":
            write_packages(result, list(told))
        save_json(asdict(proof), result / PROOF)
        check_replaceable(output, overwrite)  # another process may have been quicker
        publish(result, output)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExportError(f"{output}: cannot be written ({reason})") from error
    finally:
        if written:
            shutil.rmtree(written, ignore_errors=True)
    return proof

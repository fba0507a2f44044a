"""`paretokd export` and `paretokd translate`: a model found by its name, with the text that belongs to it."""

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from rich.table import Table
from tqdm.auto import tqdm

from hf_paretokd.data.corpus import load_text
from hf_paretokd.data.pairs import source_tags, target_tag
from hf_paretokd.delivery.export import Proof, Sentences, export_model
from hf_paretokd.delivery.stream import LineTranslator
from hf_paretokd.errors import DataError, ModelError, RecipeError
from hf_paretokd.evaluation import ctranslate
from hf_paretokd.evaluation.translation import decoder_of, position_limit
from hf_paretokd.models.building import check_vocabulary, fastest_device, load_model
from hf_paretokd.recipe import Recipe, load_recipe
from hf_paretokd.scoring import RECIPE, command_line_recipe, console, load_tokenizer

LONGEST = 512  # positions of a converted model whose tokenizer does not tell


def recipe_of(model: str, overrides: Sequence[str]) -> Recipe:
    """The recipe of the run a model lies in, or one from the command line for any other model.

    Raises:
        RecipeError: neither says where test text is.
    """
    for folder in list(Path(model).resolve().parents)[:2]:
        if (folder / RECIPE).is_file():
            return load_recipe(folder / RECIPE, overrides)
    if not overrides:
        raise RecipeError(f"{model}: is in no run folder; say where test text is: --data.pairs de-en --data.data_dir …")
    return command_line_recipe(overrides)


def export(model: str, output: Path, quantization: str, overwrite: bool, overrides: Sequence[str]) -> Proof:
    """Converts a model to CTranslate2, proves it on the test text of its run, and prints the proof.

    Raises:
        RecipeError, DataError, ModelError, ExportError: no test text, no model, or the converted model fails the proof.
    """
    recipe = recipe_of(model, overrides)
    original, tokenizer = load_model(model), load_tokenizer(model)
    check_vocabulary(original, tokenizer)
    tags = source_tags(recipe.data.parsed_pairs, recipe.data.target_tags)
    by_language: dict[str, tuple[list[str], list[str]]] = {}
    for pair, text in load_text(recipe.data, "test").items():
        sources, references = by_language.setdefault(pair.target, ([], []))
        sources += [tags[pair] + source for source in text.sources]
        references += text.targets
    texts = [Sentences(language, *lines) for language, lines in by_language.items()]
    proof = export_model(original, tokenizer, texts, output, quantization, overwrite)
    show_proof(proof, output)
    return proof


def show_proof(proof: Proof, output: Path) -> None:
    """Prints what was compared."""
    equal = f"float32, greedy: {proof.equal:,} of {proof.sentences:,} sentences equal to generate's"
    console.print(f"{equal}, {len(proof.ties)} differ in a tie", highlight=False)
    for tie in proof.ties:
        console.print(f"  {tie.source!r}: {tie.original!r} | {tie.converted!r} ({tie.gap:.1e})", highlight=False, markup=False)
    if proof.losses:
        table = Table("target", "sentences", "BLEU float32", f"BLEU {proof.quantization}", "p")
        for loss in proof.losses:
            cells = (f"{loss.float32:.2f}", f"{loss.quantized:.2f}", f"{loss.p_value:.3f}")
            table.add_row(loss.language, f"{loss.sentences:,}", *cells)
        console.print(table)
    size = (output / ctranslate.WEIGHTS).stat().st_size / 1e6
    console.print(f"{output}: {size:.1f} MB", highlight=False, soft_wrap=True)


def line_translator(
    model: str, engine: str | None, quantization: str, num_beams: int, language: str | None, long: str, max_tokens: int
) -> LineTranslator:
    """A translator by a checkpoint, or by an exported folder; `engine` None takes what the folder is made for.

    Raises:
        ModelError, TokenizerError: the model cannot be loaded, or not by this engine.
    """
    tokenizer = load_tokenizer(model)
    if (Path(model) / ctranslate.WEIGHTS).is_file():
        if engine == "transformers":
            raise ModelError(f"{model}: is made for CTranslate2; give --engine ctranslate2, or the original checkpoint")
        limit = min(tokenizer.model_max_length, LONGEST)  # a tokenizer that was told no limit says 10³⁰
        decoder = ctranslate.ctranslate_decoder(Path(model), tokenizer)
    else:
        loaded = load_model(model).eval()
        check_vocabulary(loaded, tokenizer)
        limit = position_limit(loaded)
        decoder = decoder_of(loaded.to(fastest_device()), tokenizer, engine or "transformers", quantization)
    return LineTranslator(tokenizer, decoder, limit, num_beams, target_tag(language) if language else "", long, max_tokens)


def translate_file(
    model: str,
    source: str | None,
    output: str | None,
    engine: str | None,
    quantization: str,
    num_beams: int,
    to: str | None,
    long: str,
    buffer: int,
    max_tokens: int,
) -> None:
    """Translates a file or standard input to a file or standard output, line by line, with a progress bar.

    Raises:
        RecipeError: a number is below 1.
        DataError: the file is missing, or a line is too long and `long` is `refuse`.
        ModelError, TokenizerError: as `line_translator`.
    """
    for name, value in (("num_beams", num_beams), ("buffer", buffer), ("max_tokens", max_tokens)):
        if value < 1:
            raise RecipeError(f"--{name}: {value} is not 1 or more")
    with ExitStack() as stack:
        lines, total = sys.stdin.buffer, None
        if source:
            if not Path(source).is_file():
                raise DataError(f"{source}: no such file")
            total = count_lines(Path(source))
            lines = stack.enter_context(open(source, "rb"))
        translator = line_translator(model, engine, quantization, num_beams, to, long, max_tokens)
        sink: BinaryIO = stack.enter_context(open_output(output))
        bar = stack.enter_context(tqdm(total=total, unit=" lines", desc="translating", file=sys.stderr))
        for line in translator.translate(lines, buffer, source or "standard input"):
            sink.write(line)
            bar.update()
            if bar.n % buffer == 0:
                sink.flush()
        sink.flush()


def open_output(path: str | None) -> BinaryIO:
    """A file, or standard output, which stays open.

    Raises:
        DataError: the file cannot be written.
    """
    if path is None:
        return os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    try:
        return open(path, "wb")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None


def count_lines(path: Path) -> int:
    """Lines of a file, a last one without a newline included."""
    with path.open("rb") as file:
        return sum(1 for _ in file)

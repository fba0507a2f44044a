"""How fast a student translates by everything that runs it, sentence by sentence and many at once, beside what is possible."""

import json
import os
import random
import string
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.bench.bounds import Processor, Text, Weights, measured_processor
from hf_paretokd.bench.data import PAIR
from hf_paretokd.bench.server import ask, running
from hf_paretokd.bench.shapes import random_model, shape_named
from hf_paretokd.bench.tables import BenchTable
from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.data.languages import UNTOLD, Direction
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.tokenizer import train_tokenizer
from hf_paretokd.errors import ModelError, ServingError
from hf_paretokd.inference.ctranslate import Decoder, ctranslate_decoder
from hf_paretokd.inference.decoding import check_beams, decode_all, decoder_of, encode_sources
from hf_paretokd.inference.runtimes import RUNTIMES
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.files import save_model, usable_length
from hf_paretokd.models.member import Member
from hf_paretokd.models.slicing import extract_student, model_depth
from hf_paretokd.runs.export import export_model
from hf_paretokd.runs.run import Run
from hf_paretokd.utils.machine import machine_name
from hf_paretokd.utils.timing import interleaved_medians

WIDTHS = {"float32": 4, "int8": 1}  # bytes of a weight
SHARE = 10  # one sentence in so many is translated by itself
CLIENTS = 32  # of the server, at once


@dataclass(frozen=True)
class Translated:
    """A teacher, its student, and what they translate."""

    name: str
    teacher: PreTrainedModel
    student: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pair: LanguagePair
    direction: Direction
    lines: Sequence[str]

    @property
    def limit(self) -> int:
        """Longest text in tokens."""
        return usable_length(self.student.config, self.tokenizer)


@dataclass(frozen=True)
class Engine:
    """Something that translates.

    Args:
        model: with which weights.
        quantization: of them.
        alone: translates some sentences, one after the other.
        together: translates all of them.
        text: what both come to.
    """

    model: PreTrainedModel
    quantization: str
    alone: Callable[[], object]
    together: Callable[[], object]
    text: tuple[Text, Text]

    def cells(self, alone: float, together: float, processor: Processor | None) -> tuple[str, ...]:
        """What is shown of the seconds of both: milliseconds a sentence, sentences a second, each beside its bound."""
        (few, many), bounds = self.text, ("", "")
        if processor:
            weights, width = Weights.of(self.model), WIDTHS[self.quantization]
            least = processor.one_by_one(weights, few, width), processor.together(weights, many, width)
            bounds = f"{alone / least[0]:.1f}", f"{together / least[1]:.1f}"
        return f"{1000 * alone / few.sentences:.1f}", bounds[0], f"{many.sentences / together:.1f}", bounds[1]


def of_run(run: Run, student: str) -> Translated:
    """The teacher of a run, a student, and the scored text of one pair.

    Raises:
        ModelError, DataError: the run has no such student, or no text.
    """
    member = Member("student", Depth.parse(student))
    if member not in run.members:
        there = [str(each.depth) for each in run.members if each.kind == "student" and not each.peer] or ["none"]
        raise ModelError(f"{run.folder}: has no student {student}; there are {', '.join(there)}")
    (teacher, tokenizer), (model, _) = run.load(run.main), run.load(member)
    pair, text = next(iter(run.text(run.split).items()))
    direction = run.recipe.directions(tokenizer, teacher.config)[pair]
    return Translated(run.folder.name, teacher.eval(), model.eval(), tokenizer, pair, direction, text.sources)


def of_shape(name: str, student: str) -> Translated:
    """A new model of a shape, its first layers, and made-up text; what it makes of it ends where it is cut.

    Raises:
        RecipeError, ModelError: there is no such shape, or it has not so many layers.
    """
    shape = shape_named(name)
    text = made_up(2 * shape.vocabulary)
    with tempfile.TemporaryDirectory() as temporary:
        tokenizer = train_tokenizer(text, temporary, shape.vocabulary, max_length=128)
    teacher = random_model(shape, vocabulary=len(tokenizer)).eval()
    model = extract_student(teacher, Depth.parse(student)).eval()
    return Translated(f"random {name}", teacher, model, tokenizer, PAIR, UNTOLD, text.sources)


def made_up(count: int) -> ParallelText:
    """Text of so many words of random letters, each about ten times, so that vocabularies can be large."""
    generator = random.Random(count)
    words = ["".join(generator.choices(string.ascii_lowercase, k=generator.randint(2, 8))) for _ in range(count)]
    source, target = (
        [" ".join(generator.choices(words, k=generator.randint(10, 20))) for _ in range(count // 3)] for _ in range(2)
    )
    return ParallelText(PAIR, "train", source, target)


def bench_serving(
    given: Translated,
    threads: Sequence[int] = (1, 2),
    num_beams: int = 1,
    sentences: int = 200,
    max_tokens: int = 1024,
    repeats: int = 3,
) -> BenchTable:
    """Milliseconds a sentence and sentences a second of a teacher, a student and its exports.

    Args:
        given: the models and the text.
        threads: how many, one after the other.
        num_beams: beam width; with more than one neither ONNX Runtime is asked nor is anything bounded.
        sentences: how many, from the start of the text; one in ten is translated by itself.
        max_tokens: source tokens in a batch, the same for all.
        repeats: timed turns of each; medians are shown.

    Raises:
        RecipeError, ModelError: no such beam width, or a package is missing.
    """
    check_beams(num_beams)
    how = "greedy" if num_beams == 1 else f"beam {num_beams}"
    lines = list(given.lines[:sentences])
    columns = ("threads", "engine", "ms, one by one", "× bound", "sentences/s, together", "× bound", "× teacher")
    table = BenchTable(
        f"{given.name}, {how}, {len(lines)} sentences, batches of {max_tokens} tokens, {machine_name()}", columns
    )
    runtimes = ("ctranslate2", "onnx") if num_beams == 1 else ("ctranslate2",)
    with tempfile.TemporaryDirectory() as temporary:
        exports = exported(given, Path(temporary), runtimes)
        for count in threads:
            with using(count), ExitStack() as stack:
                engines = dict(engines_of(given, exports, lines, num_beams, max_tokens))
                port = stack.enter_context(running(exports["server", "int8"], num_beams, max_tokens))
                student = model_depth(given.student)
                like = engines[f"{student}, CTranslate2 int8"]
                engines[f"{student} int8, served"] = served(given, port, lines, like)
                processor = measured_processor(count) if num_beams == 1 else None
                actions = {
                    (name, kind): getattr(each, kind) for name, each in engines.items() for kind in ("alone", "together")
                }
                seconds = interleaved_medians(actions, repeats)
            first = seconds[next(iter(engines)), "together"]
            for name, engine in engines.items():
                alone, together = seconds[name, "alone"], seconds[name, "together"]
                table.add(str(count), name, *engine.cells(alone, together, processor), f"{first / together:.2f}")
    return table


def exported(given: Translated, folder: Path, runtimes: Sequence[str]) -> dict[tuple[str, str], Path]:
    """The student converted: folders by runtime and quantization, and that of a server."""
    save_model(given.student, given.tokenizer, folder / "model")
    found: dict[tuple[str, str], Path] = {}
    for name in runtimes:
        folders = {quantization: folder / f"{name}-{quantization}" for quantization in WIDTHS}
        RUNTIMES[name].convert(folder / "model", folders)
        found |= {(name, quantization): place for quantization, place in folders.items()}
    place = found["server", "int8"] = folder / "server"
    export_model(given.student, given.tokenizer, [], place, "int8", told={given.pair: given.direction})
    return found


def engines_of(
    given: Translated, exports: Mapping[tuple[str, str], Path], lines: Sequence[str], num_beams: int, max_tokens: int
) -> Iterator[tuple[str, Engine]]:
    """Everything that translates in this process, by name."""
    tokenizer, few = given.tokenizer, max(1, len(lines) // SHARE)
    ids = encode_sources(tokenizer, lines, given.limit, given.direction)
    aside = {tokenizer.pad_token_id, tokenizer.eos_token_id}

    def translate(decoder: Decoder, rows: Sequence[list[int]]) -> list[list[int]]:
        return decode_all(decoder, rows, given.limit, num_beams, max_tokens, direction=given.direction)

    def each(decoder: Decoder, rows: Sequence[list[int]]) -> None:
        for row in rows:
            translate(decoder, [row])

    def engine(model: PreTrainedModel, quantization: str, alone: Decoder, together: Decoder) -> Engine:
        made = [1 + sum(token not in aside for token in row) for row in translate(together, ids)]  # its end too
        texts = (Text(count, sum(map(len, ids[:count])), sum(made[:count])) for count in (few, len(ids)))
        one_by_one, at_once = partial(each, alone, ids[:few]), partial(translate, together, ids)
        return Engine(model, quantization, one_by_one, at_once, (next(texts), next(texts)))

    for model in (given.teacher, given.student):
        decoder = decoder_of(model, tokenizer, "transformers")
        yield f"{model_depth(model)}, generate", engine(model, "float32", decoder, decoder)
    for (name, quantization), folder in exports.items():
        if name == "ctranslate2":
            decoders = [ctranslate_decoder(folder, tokenizer, one_by_one) for one_by_one in (True, False)]
        elif name == "onnx":
            decoders = [RUNTIMES[name].decoder(folder, tokenizer)] * 2
        else:
            continue
        yield (
            f"{model_depth(given.student)}, {RUNTIMES[name].title} {quantization}",
            engine(given.student, quantization, *decoders),
        )


def served(given: Translated, port: int, lines: Sequence[str], like: Engine) -> Engine:
    """A server, asked by one client, and by many at once, for a sentence a request."""
    fields = {"source": given.pair.source, "target": given.pair.target}
    bodies = [json.dumps({**fields, "q": line}).encode() for line in lines]

    def asked(count: int, clients: int) -> None:
        if errors := ask(port, bodies[:count], clients).errors:
            raise ServingError(f"{errors} of {count} requests were not answered")

    return replace(like, alone=partial(asked, like.text[0].sentences, 1), together=partial(asked, len(bodies), CLIENTS))


@contextmanager
def using(threads: int) -> Iterator[None]:
    """So many threads inside the `with`, in processes that are started there too."""
    before, variable = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if variable is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = variable

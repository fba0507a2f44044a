"""Translation of a stream of lines: as many come out as go in, whatever they hold."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from hf_paretokd.data.languages import UNTOLD, Direction, asked, encode, reserved
from hf_paretokd.data.pieces import BatchEncoder, cut
from hf_paretokd.data.tokenizer_json import replaces_spaces_only
from hf_paretokd.errors import DataError, ModelError, RecipeError, TokenizerError
from hf_paretokd.inference import ctranslate
from hf_paretokd.inference.ctranslate import Decoder
from hf_paretokd.inference.decoding import check_beams, decode_all, decoder_of, encode_sources
from hf_paretokd.inference.streams import STANDARD, check_free, open_sink, open_source, source_name
from hf_paretokd.inference.targets import NONE, Targets
from hf_paretokd.layout import CONFIG, CONVERTED_WEIGHTS
from hf_paretokd.models.files import check_vocabulary, load_model, load_tokenizer, usable_length
from hf_paretokd.utils.files import check_apart, load_json
from hf_paretokd.utils.machine import fastest_device, moved
from hf_paretokd.utils.progress import Progress
from hf_paretokd.utils.text import cleaned, one_line

NAMED = 20  # bad lines that are named; the others are counted
SENTENCE_END = re.compile(r"[.!?…。！？।]+[\"'”’»)\]]*\s*")
logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class LineTranslator:
    """A model that translates lines.

    A line is bad if it holds a control token of the tokenizer such as `</s>`, starts with a tag that the model does not know,
    has no tag where the model has to be told the language, or is too long where `long` is `refuse`.

    Args:
        tokenizer: its tokenizer.
        decoder: what does the work, see `decoder_of`.
        limit: longest text in tokens.
        targets: the tags that a line may start with, and the one it gets if it has none.
        direction: what else the model is told of the languages of all lines.
        num_beams: 1 for greedy search.
        long: what to do with lines of more tokens: `split` translates them in pieces, `cut` what fits, `refuse` calls them bad.
        bad_lines: what to do with bad ones: `stop` ends with an error, `skip` gives a blank line, `copy` the line itself.
        max_tokens: source tokens in a batch, padding included.
    """

    tokenizer: PreTrainedTokenizerBase
    decoder: Decoder
    limit: int
    targets: Targets
    direction: Direction = UNTOLD
    num_beams: int = 4
    long: str = "split"
    bad_lines: str = "stop"
    max_tokens: int = 4096

    def translate(self, lines: Iterable[bytes], buffer: int = 256, name: str = "input") -> Iterator[bytes]:
        """Translates lines, `buffer` of them at a time, each ending as it came: with a newline or, the last one, without.

        Blank lines stay blank. Control characters count as spaces. Bytes that are not UTF-8 become U+FFFD, with a warning.

        Raises:
            DataError: a line is bad and `bad_lines` is `stop`; names it. What came before it has been translated.
        """
        lines, number, damaged, bad = iter(lines), 0, 0, 0
        while chunk := list(islice(lines, buffer)):
            pieces: list[list[str] | str] = []  # of every line, or what a bad one becomes
            stop: DataError | None = None
            for raw in chunk:
                number += 1
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8", errors="replace")
                if "\ufffd" in text and "\ufffd".encode() not in raw:
                    damaged += 1
                    if damaged == 1:
                        logger.warning(f"{name}:{number}: not UTF-8; what cannot be read is replaced, here and further on")
                try:
                    pieces.append(self.pieces(cleaned(text)))
                except (DataError, TokenizerError) as error:
                    if self.bad_lines == "stop":
                        stop = DataError(f"{name}:{number}: {error}; --bad_lines skip or copy goes on")
                        break
                    bad += 1
                    if bad <= NAMED:
                        done = "left blank" if self.bad_lines == "skip" else "copied"
                        logger.warning(f"{name}:{number}: {done}: {error}")
                    pieces.append(one_line(cleaned(text)) if self.bad_lines == "copy" else "")
            results = iter(self.sentences([piece for each in pieces if isinstance(each, list) for piece in each]))
            for raw, each in zip(chunk, pieces, strict=False):
                text = " ".join(islice(results, len(each))) if isinstance(each, list) else each
                yield text.encode() + (b"\n" if raw.endswith(b"\n") else b"")
            if stop:
                raise stop
        if bad > NAMED:
            logger.warning(f"{name}: {bad - NAMED} more bad lines")

    @cached_property
    def reserved(self) -> tuple[str, ...]:
        """What is no text to the tokenizer."""
        return reserved(self.tokenizer)

    def pieces(self, text: str) -> list[str]:
        """The text with its tag, in pieces where it is longer than the model takes; nothing for a blank line.

        Raises:
            DataError, TokenizerError: the line is bad.
        """
        if not text:
            return []
        for token in self.reserved:
            if token in text:
                raise DataError(f"holds {token}, which means something to the tokenizer")
        tag, body = self.targets.split(text)
        before = f"{tag} " if tag else ""
        if not body or self.surely_fits(before + body) or self.tokens(before + body) <= self.limit:
            return [before + body] if body else []
        if self.long == "refuse":
            raise DataError(
                f"{self.tokens(before + body)} tokens, the model takes {self.limit}; --long split translates it in pieces"
            )
        if self.long == "cut":
            return [before + body]  # cut as it is encoded
        return [before + piece for piece in split_long(body, lambda piece: self.tokens(before + piece) <= self.limit)]

    @cached_property
    def batches(self) -> BatchEncoder | None:
        """Many texts at once, where the tokenizer does nothing that SentencePiece does not."""
        return BatchEncoder(self.tokenizer) if BatchEncoder.suits(self.tokenizer) else None

    @cached_property
    def spells(self) -> bool:
        """Whether no entry stands for less than a byte of a text, because none is rewritten but by bytes."""
        return self.batches is not None and replaces_spaces_only(self.batches.joining)

    def surely_fits(self, text: str) -> bool:
        """Whether a text is so short that its tokens need not be counted: a byte each, the first space and the end."""
        return self.spells and len(text.encode()) + 2 <= self.limit

    def tokens(self, text: str) -> int:
        """How long a text is for the model."""
        return len(encode(self.tokenizer, self.direction, [text], verbose=False)["input_ids"][0])

    def sentences(self, texts: Sequence[str]) -> list[str]:
        """Translations of texts with their tags, each one line; what is longer than `limit` is cut."""
        if not texts:
            return []
        ids = self.encoded(texts)
        return self.joined(decode_all(self.decoder, ids, self.limit, self.num_beams, self.max_tokens, direction=self.direction))

    def encoded(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts with their tags; what is longer than `limit` is cut."""
        if self.batches is None or any(">>" in text for text in texts):  # a tag, which SentencePiece would take for text
            return encode_sources(self.tokenizer, texts, self.limit, self.direction)
        return [cut(row, self.limit) for row in self.batches.sources(texts).to_pylist()]

    def joined(self, rows: list[list[int]]) -> list[str]:
        """The text of target ids, each one line."""
        made = self.batches.texts(rows) if self.batches else self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        return [one_line(text) for text in made]


def split_long(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Halves a text, at the end of a sentence near its middle or else at a space, until every piece fits."""
    if fits(text) or len(text) < 2:
        return [text]
    middle = len(text) / 2
    ends = [match.end() for match in SENTENCE_END.finditer(text) if 0 < match.end() < len(text)]
    near = [end for end in ends if len(text) / 4 < end < 3 * len(text) / 4]
    spaces = [position for position, character in enumerate(text) if character == " " and 0 < position < len(text) - 1]
    cut = min(near or spaces or [len(text) // 2], key=lambda position: abs(position - middle))
    halves = (text[:cut].strip(), text[cut:].strip())
    return [piece for half in halves if half for piece in split_long(half, fits)]


def line_translator(
    model: str,
    engine: str | None = None,
    quantization: str | None = None,
    num_beams: int = 4,
    to: str | None = None,
    source_language: str | None = None,
    long: str = "split",
    bad_lines: str = "stop",
    max_tokens: int = 4096,
) -> LineTranslator:
    """A translator by a checkpoint, or by an exported folder.

    Args:
        model: a folder or Hub id.
        engine: see `decoder_of`; default: what the folder is made for.
        quantization: of CTranslate2, where the model is converted first.
        num_beams, long, bad_lines, max_tokens: see `LineTranslator`.
        to: the target language, where the model is told and the lines do not say it.
        source_language: the source language, where the model is told it.

    Raises:
        RecipeError: a quantization is given that nothing is converted to.
        ModelError, TokenizerError: the model cannot be loaded, or not by this engine, or does not know the language `to`.
    """
    converted = (Path(model) / CONVERTED_WEIGHTS).is_file()
    if quantization and (converted or engine != "ctranslate2"):
        why = f"{model} is converted already" if converted else "needs --engine ctranslate2, which converts the model"
        raise RecipeError(f"--quantization {quantization}: {why}")
    tokenizer = load_tokenizer(model)
    targets = Targets.of(tokenizer, to)
    if converted:
        if engine == "transformers":
            raise ModelError(f"{model}: is made for CTranslate2; give --engine ctranslate2, or the original checkpoint")
        limit, config = usable_length(None, tokenizer), load_json(Path(model) / CONFIG)
        decoder = ctranslate.ctranslate_decoder(Path(model), tokenizer)
    else:
        loaded = load_model(model)
        check_vocabulary(loaded, tokenizer)
        limit, config = usable_length(loaded.config, tokenizer), loaded.config.to_dict()
        decoder = decoder_of(
            moved(loaded.eval(), fastest_device()), tokenizer, engine or "transformers", quantization or "float32"
        )
    direction = asked(tokenizer, config, source_language, to if to != NONE else None)
    return LineTranslator(tokenizer, decoder, limit, targets, direction, num_beams, long, bad_lines, max_tokens)


def translate_file(
    model: str,
    source: str | None = None,
    output: str | None = None,
    buffer: int = 256,
    overwrite: bool = False,
    **options: Any,
) -> None:
    """Translates a file or standard input to a file or standard output, line by line, with a progress bar.

    Args:
        model: a checkpoint or an exported folder.
        source: see `open_source`.
        output: see `open_sink`.
        buffer: lines translated together.
        overwrite: replace what is in the output, once the first lines are translated.
        options: of `line_translator`.

    Raises:
        RecipeError: a number is below 1, or the output is or lies inside what is read.
        DataError: source or output cannot be used, or a line is bad and `bad_lines` is `stop`; what was in the output stays if
            that happens before anything is translated.
        ModelError, TokenizerError: as `line_translator`.
    """
    for name, value in {"buffer": buffer, **options}.items():
        if isinstance(value, int) and value < 1:
            raise RecipeError(f"--{name}: {value} is not 1 or more")
    check_beams(options.get("num_beams", 1))
    if output and output != STANDARD:
        check_apart(output, ("/dev/stdin" if source in (None, STANDARD) else source, model))
        check_free(output, overwrite)
    with ExitStack() as stack:
        if source in (None, STANDARD) and sys.stdin and sys.stdin.isatty():
            sys.stderr.write("a line of text, then Enter; Ctrl-D ends\n")
        lines, total = open_source(source)
        translator = line_translator(model, **options)
        bar = stack.enter_context(Progress(total, unit=" lines", desc="translating"))
        made = translator.translate(lines, buffer, source_name(source))
        first = list(islice(made, 1))
        sink = stack.enter_context(open_sink(output))
        for line in chain(first, made):
            sink.write(line)
            bar.update()
            if bar.n % buffer == 0:
                sink.flush()

"""Translation of a stream of lines: as many come out as go in, whatever they hold."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from hf_paretokd.data.pairs import target_tag
from hf_paretokd.data.tokenizer import check_text_tags
from hf_paretokd.errors import DataError, ModelError, RecipeError
from hf_paretokd.inference import ctranslate
from hf_paretokd.inference.ctranslate import Decoder
from hf_paretokd.inference.decoding import decode_all, decoder_of, encode_sources
from hf_paretokd.layout import CONVERTED_WEIGHTS
from hf_paretokd.models.files import LONGEST, check_vocabulary, load_model, load_tokenizer, longest_text
from hf_paretokd.utils.files import check_apart
from hf_paretokd.utils.machine import fastest_device, moved
from hf_paretokd.utils.text import cleaned, one_line

LONG = ("split", "refuse")
SENTENCE_END = re.compile(r"[.!?…。！？।]+[\"'”’»)\]]*\s*")
logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class LineTranslator:
    """A model that translates lines.

    Args:
        tokenizer: its tokenizer.
        decoder: what does the work, see `decoder_of`.
        limit: longest text in tokens.
        num_beams: 1 for greedy search.
        tag: goes before every line that is not blank, with a space: `>>de<<`, or nothing.
        long: what to do with lines of more tokens: `split` translates them in pieces, `refuse` ends with an error.
        max_tokens: source tokens in a batch, padding included.
    """

    tokenizer: PreTrainedTokenizerBase
    decoder: Decoder
    limit: int
    num_beams: int = 4
    tag: str = ""
    long: str = "split"
    max_tokens: int = 4096

    def translate(self, lines: Iterable[bytes], buffer: int = 256, name: str = "input") -> Iterator[bytes]:
        """Translates lines, `buffer` of them at a time, each ending as it came: with a newline or, the last one, without.

        Blank lines stay blank. Control characters count as spaces. Bytes that are not UTF-8 become U+FFFD, with a warning.

        Raises:
            DataError: a line is too long and `long` is `refuse`; what came before it has been translated.
            TokenizerError: a line starts with a tag the tokenizer does not know.
        """
        lines, number, damaged = iter(lines), 0, 0
        while chunk := list(islice(lines, buffer)):
            texts = []
            for raw in chunk:
                number += 1
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8", errors="replace")
                if "\ufffd" in text and "\ufffd".encode() not in raw:
                    damaged += 1
                    if damaged == 1:
                        logger.warning(f"{name}:{number}: not UTF-8; what cannot be read is replaced, here and further on")
                texts.append(cleaned(text))
            first = number - len(chunk)
            pieces = [self.pieces(text, f"{name}:{first + row}") for row, text in enumerate(texts, 1)]
            results = iter(self.sentences([piece for each in pieces for piece in each]))
            for raw, each in zip(chunk, pieces, strict=True):
                text = " ".join(islice(results, len(each)))
                yield text.encode() + (b"\n" if raw.endswith(b"\n") else b"")

    def pieces(self, text: str, place: str) -> list[str]:
        """The text with its tag, cut where it is longer than the model takes; nothing for a blank line."""
        if not text:
            return []
        tag = f"{self.tag} " if self.tag else ""
        if self.tokens(tag + text) <= self.limit:
            return [tag + text]
        if self.long == "refuse":
            raise DataError(
                f"{place}: {self.tokens(tag + text)} tokens, the model takes {self.limit}; --long split translates it in pieces"
            )
        return [tag + piece for piece in split_long(text, lambda piece: self.tokens(tag + piece) <= self.limit)]

    def tokens(self, text: str) -> int:
        """How long a text is for the model."""
        return len(self.tokenizer(text, return_attention_mask=False, verbose=False)["input_ids"])

    def sentences(self, texts: Sequence[str]) -> list[str]:
        """Translations of texts that are short enough, each one line."""
        if not texts:
            return []
        check_text_tags(self.tokenizer, texts)
        ids = encode_sources(self.tokenizer, texts, self.limit)
        found = decode_all(self.decoder, ids, self.limit, self.num_beams, self.max_tokens)
        return [one_line(text) for text in self.tokenizer.batch_decode(found, skip_special_tokens=True)]


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
    model: str, engine: str | None, quantization: str, num_beams: int, language: str | None, long: str, max_tokens: int
) -> LineTranslator:
    """A translator by a checkpoint, or by an exported folder; `engine` None takes what the folder is made for.

    Raises:
        ModelError, TokenizerError: the model cannot be loaded, or not by this engine.
    """
    tokenizer = load_tokenizer(model)
    if (Path(model) / CONVERTED_WEIGHTS).is_file():
        if engine == "transformers":
            raise ModelError(f"{model}: is made for CTranslate2; give --engine ctranslate2, or the original checkpoint")
        limit = min(tokenizer.model_max_length, LONGEST)  # a tokenizer that was told no limit says 10³⁰
        decoder = ctranslate.ctranslate_decoder(Path(model), tokenizer)
    else:
        loaded = load_model(model)
        check_vocabulary(loaded, tokenizer)
        limit = longest_text(loaded)
        decoder = decoder_of(moved(loaded.eval(), fastest_device()), tokenizer, engine or "transformers", quantization)
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
        RecipeError: a number is below 1, or the output is or lies inside what is read.
        DataError: the file is missing, or a line is too long and `long` is `refuse`.
        ModelError, TokenizerError: as `line_translator`.
    """
    for name, value in (("num_beams", num_beams), ("buffer", buffer), ("max_tokens", max_tokens)):
        if value < 1:
            raise RecipeError(f"--{name}: {value} is not 1 or more")
    if output:
        check_apart(output, (source, model))
    with ExitStack() as stack:
        lines: Iterable[bytes] = sys.stdin.buffer
        total = None
        if source:
            if not Path(source).is_file():
                raise DataError(f"{source}: no such file")
            total = count_lines(Path(source))
            lines = stack.enter_context(open(source, "rb"))
        translator = line_translator(model, engine, quantization, num_beams, to, long, max_tokens)
        sink = stack.enter_context(open_output(output))
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
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error


def count_lines(path: Path) -> int:
    """Lines of a file, a last one without a newline included."""
    with path.open("rb") as file:
        return sum(1 for _ in file)

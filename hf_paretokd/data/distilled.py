"""Text whose target side a model has made, for sequence-level distillation (Kim and Rush, 2016): the corpus and its record."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.readers import Row, read_aligned
from hf_paretokd.errors import DataError
from hf_paretokd.layout import PROVENANCE, distilled_sides
from hf_paretokd.utils.files import checksum, typed_json
from hf_paretokd.utils.text import one_line

TRAINING, MONOLINGUAL = "training text", "monolingual text"  # what was translated


@dataclass(frozen=True)
class Provenance:
    """How a distilled corpus was made: the content of its `distilled.json`.

    Args:
        model: the teacher, as it was named.
        weights: hash of its weights.
        engine, quantization, num_beams, max_tokens: how it translated, by batches of so many source tokens.
        of: what was translated: `training text`, whose sources are in its order, or `monolingual text`.
        places: folders and files that the sources were read from.
        tags: what the model was told of every language pair: what stood before its sources, or codes of its languages.
        lines: sentence pairs of every language pair.
        sources, targets: SHA-256 of the two files of every language pair.
        machine: what it translated with.
        seconds: what the translations took, over all parts of the work.
    """

    model: str
    weights: str
    engine: str
    quantization: str
    num_beams: int
    max_tokens: int
    of: str
    places: list[str]
    tags: dict[str, str]
    lines: dict[str, int]
    sources: dict[str, str]
    machine: str
    targets: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def same_work(self, other: "Provenance") -> bool:
        """Whether the same teacher translates the same sources in the same way, wherever they lie."""
        decisive = ("weights", "engine", "quantization", "num_beams", "max_tokens", "of", "tags", "sources")
        return all(getattr(self, name) == getattr(other, name) for name in decisive)

    @property
    def decoding(self) -> str:
        """`beam 5 by transformers`."""
        return f"{'greedy' if self.num_beams == 1 else f'beam {self.num_beams}'} by {self.engine}"


def fingerprint(lines: Sequence[str]) -> str:
    """SHA-256 of lines as they stand in a file."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def read_provenance(folder: Path) -> Provenance:
    """The record of a distilled corpus.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = folder / PROVENANCE
    if not path.is_file():
        raise DataError(
            f"data.distilled_dir: {folder} holds no finished distilled corpus ({PROVENANCE} is missing): paretokd distill"
        )
    try:
        return typed_json(Provenance, path, finite=True)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())}); distil the text again") from error


def distilled_rows(folder: Path, pair: LanguagePair, sources: Sequence[str]) -> Iterator[Row]:
    """The rows of a distilled corpus as it was written; one that was made of training text has to have the same sources.

    Args:
        folder: what `paretokd distill` has written.
        pair: a language pair.
        sources: of the training text.

    Raises:
        DataError: the pair is missing, a source is another, or a file was changed; names file and line.
    """
    record = read_provenance(folder)
    if str(pair) not in record.lines:
        raise DataError(f"{folder}: holds no text for {pair}; distil it too, or leave the pair out (data.pairs)")
    source, target = distilled_sides(folder, pair.source, pair.target)
    rows = list(read_aligned(source, target))
    again = f"distil the text again, or take that of which {folder} was made"
    if record.of == TRAINING:
        for number, (row, wanted) in enumerate(zip_longest(rows, sources), 1):
            if row is None or wanted is None:
                raise DataError(f"{source}: has {len(rows)} lines, the training text of {pair} {len(sources)}; {again}")
            if row.source != one_line(wanted):
                raise DataError(
                    f"{source}:{number}: is not the sentence that the training text has there ({wanted[:60]!r}); {again}"
                )
    for path, known in ((source, record.sources), (target, record.targets)):
        if checksum(path) != known.get(str(pair)):
            raise DataError(
                f"{path}: was changed after it was written; distil the text again, or name {folder} as data.data_dir"
            )
    yield from rows

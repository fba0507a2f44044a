"""Translations kept as text files, one line a sentence, for paired tests, samples and metrics that run elsewhere."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.layout import LINES, REFERENCE, SOURCE, kept_text
from hf_paretokd.utils.files import write_whole
from hf_paretokd.utils.text import one_line

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptLines(Mapping[LanguagePair, list[str]]):
    """Translations of a split by one model, on disk; read a pair at a time.

    Args:
        folder: where they are.
        split: such as `test`.
        name: of the model.
        pairs: that were translated.
    """

    folder: Path
    split: str
    name: str
    pairs: list[LanguagePair] = field(default_factory=list)

    def __getitem__(self, pair: LanguagePair) -> list[str]:
        if pair not in self.pairs:
            raise KeyError(pair)
        return self.place(pair).read_text("utf-8").split("\n")[:-1]

    def __iter__(self) -> Iterator[LanguagePair]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def place(self, pair: LanguagePair) -> Path:
        """The file of a pair."""
        return kept_text(self.folder, self.split, str(pair)) / f"{self.name}{LINES}"

    def keep(self, pair: LanguagePair, lines: Sequence[str]) -> None:
        """Writes the translations of a pair."""
        path = self.place(pair)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, "".join(f"{one_line(line)}\n" for line in lines))
        self.pairs.append(pair)


def write_translations(
    folder: Path, texts: Mapping[LanguagePair, ParallelText], outputs: Mapping[str, Mapping[LanguagePair, Sequence[str]]]
) -> None:
    """Writes `SPLIT.PAIR/{source,reference,NAME}.txt` below `folder` for the models in `outputs`."""
    for pair, text in texts.items():
        place = kept_text(folder, text.split, str(pair))
        place.mkdir(parents=True, exist_ok=True)
        columns: dict[str, Sequence[str]] = {SOURCE: text.sources, REFERENCE: text.targets}
        columns |= {name: lines[pair] for name, lines in outputs.items()}
        for name, lines in columns.items():
            write_whole(place / f"{name}{LINES}", "".join(f"{one_line(line)}\n" for line in lines))


def read_translations(folder: Path, split: str, pair: str, *names: str) -> dict[str, list[str]]:
    """Lines of every file of one pair and split, or of some, by name; empty where nothing was written.

    A file that is damaged is left out with a warning: one that is no text, or has not as many lines as the source; all of them
    where that has none.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(kept_text(folder, split, pair).glob(f"*{LINES}")):
        if names and path.stem not in (SOURCE, *names):
            continue
        try:
            found[path.stem] = path.read_text("utf-8").split("\n")[:-1]
        except (OSError, UnicodeDecodeError) as error:
            logger.warning("left out: %s: cannot be read (%s)", path, error)
    if found.get(SOURCE) == []:
        logger.warning("left out: %s: is empty", kept_text(folder, split, pair) / f"{SOURCE}{LINES}")
        return {}
    for name in [name for name in found if len(found[name]) != len(found.get(SOURCE, found[name]))]:
        counts = f"{len(found[name])} lines, its source {len(found[SOURCE])}"
        logger.warning("left out: %s: has %s", kept_text(folder, split, pair) / f"{name}{LINES}", counts)
        del found[name]
    return found

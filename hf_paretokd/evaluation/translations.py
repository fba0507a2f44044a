"""Translations kept as text files, one line a sentence, for paired tests, samples and metrics that run elsewhere."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.layout import LINES, REFERENCE, SOURCE, kept_text
from hf_paretokd.utils.files import write_whole
from hf_paretokd.utils.text import one_line

logger = logging.getLogger(__name__)


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


def read_translations(folder: Path, split: str, pair: str) -> dict[str, list[str]]:
    """Lines of every file of one pair and split, by name; empty where nothing was written.

    A file that is damaged is left out with a warning: one that is no text, or has not as many lines as the source.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(kept_text(folder, split, pair).glob(f"*{LINES}")):
        try:
            found[path.stem] = path.read_text("utf-8").split("\n")[:-1]
        except (OSError, UnicodeDecodeError) as error:
            logger.warning("left out: %s: cannot be read (%s)", path, error)
    for name in [name for name in found if len(found[name]) != len(found.get(SOURCE, found[name]))]:
        counts = f"{len(found[name])} lines, its source {len(found[SOURCE])}"
        logger.warning("left out: %s: has %s", kept_text(folder, split, pair) / f"{name}{LINES}", counts)
        del found[name]
    return found

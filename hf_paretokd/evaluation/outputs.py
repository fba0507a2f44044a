"""Translations kept as text files, one line a sentence, for paired tests, samples and metrics that run elsewhere."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.manifest import write_whole

SOURCE, REFERENCE = "source", "reference"


@dataclass(frozen=True)
class System:
    """A model of a run as results name it: `teacher`, `student`, `model` or `peer` with its number, and its depth."""

    model: str
    depth: str
    peer: int | None = None

    @property
    def name(self) -> str:
        """`teacher`, `model`, `student-6-2` or `peer-1`: how its file of translations is called."""
        return f"peer-{self.peer}" if self.peer else f"student-{self.depth}" if self.model == "student" else self.model

    @property
    def title(self) -> str:
        """`6-6 teacher`, `6-2`, `6-6 peer 1`: how tables call it."""
        return f"{self.depth} peer {self.peer}" if self.peer else f"{self.depth} {self.model}".removesuffix(" student")

    @property
    def suffix(self) -> str:
        """What tells it from others of its run on the Hub: `6-2`, `peer-1`, or nothing for a lone model."""
        return f"peer-{self.peer}" if self.peer else "" if self.model == "model" else self.depth

    @property
    def folder(self) -> str:
        """Where a run has its checkpoint: `students/6-2`, `peers/1`, `teacher` or `model`."""
        return f"peers/{self.peer}" if self.peer else f"students/{self.depth}" if self.model == "student" else self.model


def distinct(systems: Iterable[System]) -> list[System]:
    """All models, each once, but a teacher that is a student as well."""
    systems = list(dict.fromkeys(systems))
    students = {system.depth for system in systems if system.model == "student"}
    return [system for system in systems if system.model != "teacher" or system.depth not in students]


def one_line(text: str) -> str:
    """`text` with a space for everything that any reader might take for the end of a line."""
    return " ".join(text.splitlines())


def write_translations(
    folder: Path, texts: Mapping[LanguagePair, ParallelText], outputs: Mapping[str, Mapping[LanguagePair, Sequence[str]]]
) -> None:
    """Writes `SPLIT.PAIR/{source,reference,NAME}.txt` below `folder` for the models in `outputs`."""
    for pair, text in texts.items():
        place = folder / f"{text.split}.{pair}"
        place.mkdir(parents=True, exist_ok=True)
        columns = {SOURCE: text.sources, REFERENCE: text.targets, **{name: lines[pair] for name, lines in outputs.items()}}
        for name, lines in columns.items():
            write_whole(place / f"{name}.txt", "".join(f"{one_line(line)}\n" for line in lines))


def read_translations(folder: Path, split: str, pair: str) -> dict[str, list[str]]:
    """Lines of every file of one pair and split, by name; empty where nothing was written."""
    files = sorted((folder / f"{split}.{pair}").glob("*.txt"))
    return {path.stem: path.read_text("utf-8").split("\n")[:-1] for path in files}

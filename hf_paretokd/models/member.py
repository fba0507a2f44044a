"""The name of a trained thing: what kind it is, how deep, and of which peer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hf_paretokd.layout import MODEL, PEER, STUDENT, TEACHER, member_folder, member_place
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.slicing import config_depth


@dataclass(frozen=True)
class Member:
    """One of the models that a training makes.

    Its folder, file stem and title differ from those of all other members of the run; its Hub suffix does too, but for a
    teacher's or peer's student of its own depth, which is the same model (see `distinct`).

    Args:
        kind: `teacher` (All-in-One KD), `model` (trained alone), `peer`, or `student`, a slice of one of these; `original` is
            the model that exists, from which a training started: it is scored beside the others and lies elsewhere.
        depth: encoder and decoder layers.
        peer: number of the peer (from 1) that it is, or that it is a student of.
    """

    kind: str
    depth: Depth
    peer: int | None = None

    @classmethod
    def at(cls, place: Path, config: Mapping[str, Any]) -> "Member":
        """The member in a folder of a run, from its place below the run and the content of its `config.json`.

        Raises:
            ModelError: the configuration does not say how many layers there are.
        """
        kind, peer = member_place(place.parts)
        return cls(kind, config_depth(config), peer)

    @property
    def folder(self) -> str:
        """Where a run has it: `teacher`, `model`, `students/6-2`, `peers/1` or `peers/1/students/6-2`."""
        return member_folder(self.kind, self.depth, self.peer)

    @property
    def stem(self) -> str:
        """How its files are called, translations first of all: `teacher`, `student-6-2`, `peer-1`, `peer-1-student-6-2`."""
        parts = [PEER, self.peer] if self.peer else []
        parts += [STUDENT, self.depth] if self.kind == STUDENT else []
        return "-".join(map(str, parts)) or self.kind

    @property
    def title(self) -> str:
        """How tables call it: `6-6 teacher`, `6-2`, `6-6 peer 1`, `6-2 of peer 1`."""
        if self.kind == STUDENT:
            return f"{self.depth} of peer {self.peer}" if self.peer else str(self.depth)
        return f"{self.depth} peer {self.peer}" if self.peer else f"{self.depth} {self.kind}"

    @property
    def suffix(self) -> str:
        """What tells it from others on the Hub: `6-2`, `peer-1`, `peer-1-6-2`, or nothing for a lone model."""
        if self.peer:
            return f"{PEER}-{self.peer}-{self.depth}" if self.kind == STUDENT else f"{PEER}-{self.peer}"
        return "" if self.kind == MODEL else str(self.depth)

    @property
    def whole(self) -> bool:
        """Whether it was trained as a whole, and is no slice of another."""
        return self.kind != STUDENT

    def student(self, depth: Depth | None = None) -> "Member":
        """Its student of a depth (default: its own; that student is the same model under another name)."""
        return replace(self, kind=STUDENT, depth=depth or self.depth)


def distinct(members: Iterable[Member]) -> list[Member]:
    """All members, each once, but those that are a student of their own depth as well."""
    members = list(dict.fromkeys(members))
    students = {member for member in members if not member.whole}
    return [member for member in members if member.kind not in (TEACHER, PEER) or member.student() not in students]

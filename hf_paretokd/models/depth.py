"""Depths: how many encoder and decoder layers a model keeps."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hf_paretokd.errors import ModelError


@dataclass(frozen=True, order=True)
class Depth:
    """Encoder and decoder layers of a model, written `6-2`."""

    encoder: int
    decoder: int

    @classmethod
    def parse(cls, text: "str | Depth") -> "Depth":
        """Reads `6-2`.

        Raises:
            ModelError: the text is not two positive numbers joined by a hyphen.
        """
        if isinstance(text, Depth):
            return text
        match = re.fullmatch(r"([1-9]\d*)-([1-9]\d*)", str(text).strip())
        if match is None:
            raise ModelError(f"depth {text!r}: expected ENCODER-DECODER layers of at least one each, such as 6-2")
        return cls(int(match[1]), int(match[2]))

    def within(self, full: "Depth") -> "Depth":
        """The depth itself, if a model of depth `full` contains it.

        Raises:
            ModelError: it has more layers than `full`.
        """
        if self.encoder > full.encoder or self.decoder > full.decoder:
            raise ModelError(f"depth {self}: the model has only {full} layers (encoder-decoder)")
        return self

    def __str__(self) -> str:
        return f"{self.encoder}-{self.decoder}"


def widened(full: Depth, wanted: Iterable[str | Depth]) -> list[str] | None:
    """The candidates that the rule gives and more, if some are wanted that it does not give; else None, the rule itself."""
    more = {Depth.parse(text).within(full) for text in wanted} - {full}
    try:
        rule = set(candidate_depths(full))
    except ModelError:  # of so few layers that the rule gives none
        rule = set()
    return [str(depth) for depth in sorted(rule | more)] if more - rule else None


def candidate_depths(full: Depth, chosen: Iterable[str | Depth] | None = None) -> tuple[Depth, ...]:
    """The candidate students C = {S(l_e, l_d): 1 < l_d ≤ l_e ≤ N} of a teacher, shallowest first (AIO §3.1).

    For unequal depths l_e and l_d are bounded by the teacher's own encoder and decoder.

    Args:
        full: the teacher's depth.
        chosen: a list of depths to use instead of the rule.

    Raises:
        ModelError: no candidate is left, or a chosen depth does not fit the teacher or is named twice.
    """
    if chosen is not None:
        depths = sorted(Depth.parse(text).within(full) for text in chosen)
        if len(set(depths)) < len(depths):
            raise ModelError(f"candidates: a depth is named twice in {', '.join(map(str, depths))}")
    else:
        depths = [
            Depth(encoder, decoder)
            for encoder in range(2, full.encoder + 1)
            for decoder in range(2, min(encoder, full.decoder) + 1)
        ]
    if not depths:
        raise ModelError(f"candidates: a {full} teacher has no student with 1 < decoder ≤ encoder layers; list some")
    return tuple(depths)

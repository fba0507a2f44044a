"""What was done to a model that exists before its family was trained: the content of `shrink.json`."""

from dataclasses import dataclass

from hf_paretokd.data.distilled import Provenance
from hf_paretokd.evaluation.proof import TrimmingProof


@dataclass(frozen=True)
class Shrunk:
    """The record of a model that was shrunk.

    Args:
        model: the model that exists, as it was named.
        weights: hash of its weights.
        license: of the model, as its own card has it.
        distilled: how its translations were made.
        parallel: sentence pairs of parallel text in training.
        own_references: language pairs without parallel test text: what is scored is compared with the original's translations.
        entries: of its vocabulary and of the smaller one.
        proof: greedy output of both, sentence by sentence.
    """

    model: str
    weights: str
    license: str | None
    distilled: Provenance
    parallel: int
    own_references: list[str]
    entries: tuple[int, int]
    proof: TrimmingProof

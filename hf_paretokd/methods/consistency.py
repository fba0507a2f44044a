"""Consistency between two views of the text: R-Drop, SimCut and CutOff, of one model or of a family; and SeqMix."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from hf_paretokd.data.pairs import like_a_tag
from hf_paretokd.errors import TrainingError
from hf_paretokd.losses import Divergence
from hf_paretokd.models.passes import Filler, Pass
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.training.checks import check_ranges

CONSISTENCY = ("none", "r_drop", "simcut", "cutoff")
CUT_RATE = 0.05


@dataclass
class ConsistencyConfig(TranslationConfig):
    """What trainings with a second view of the text, or with mixed text, have in common.

    Args:
        consistency: `none`; `r_drop`, two dropout masks, CE₁ + CE₂ + α·½·(KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁)) (Liang et al.,
            NeurIPS 2021); `simcut`, a second view some of whose input embeddings are zero on both sides,
            CE + α·KL(p ‖ p_cut) (Gao et al., NAACL 2022); or `cutoff`, a second view some of whose words are unknown on both
            sides, CE₁ + CE₂ + α·½·(KL(m ‖ p₁) + KL(m ‖ p₂)), m being the softmax of the mean logits (Shen et al., 2020; the
            form of its translation code). Gradients go through both views. With students it is added for every model.
        consistency_weight: α; default: 5 for `r_drop` and `cutoff`, 3 for `simcut`.
        cut_rate: probability with which an input embedding is cut in the second view of `simcut` and `cutoff`; special tokens
            and tags are never unknown.
        seqmix: a of SeqMix (Guo et al., EMNLP 2020): what goes into the first layers, on both sides, is mixed with that of
            another sentence of the micro-batch, λ·x + (1−λ)·x′ with λ ~ Beta(a, a), at least ½; the loss is λ·CE(y) +
            (1−λ)·CE(y′). 0 mixes nothing; 0.1 is usual.
    """

    consistency: str = "none"
    consistency_weight: float | None = None
    cut_rate: float = CUT_RATE
    seqmix: float = 0.0

    def check(self) -> None:
        """Also of the consistency loss."""
        super().check()
        if self.consistency not in CONSISTENCY:
            raise TrainingError(f"consistency: {self.consistency!r} is not one of {', '.join(CONSISTENCY)}")
        check_ranges(self, {"consistency_weight": (0, math.inf), "cut_rate": (0, 1), "seqmix": (0, math.inf)})
        if self.consistency == "none" and self.consistency_weight is not None:
            raise TrainingError("consistency_weight: is for r_drop, simcut and cutoff; set consistency")
        if self.consistency not in ("simcut", "cutoff") and self.cut_rate != CUT_RATE:
            raise TrainingError("cut_rate: is for simcut and cutoff; set consistency")
        if self.seqmix and (self.gradient_checkpointing or getattr(self, "activation_checkpointing", None)):
            raise TrainingError("seqmix: activation checkpointing would compute layers again without it; leave one out")

    @property
    def alpha(self) -> float:
        """α."""
        default = {"none": 0.0, "r_drop": 5.0, "simcut": 3.0, "cutoff": 5.0}[self.consistency]
        return default if self.consistency_weight is None else self.consistency_weight

    @property
    def summed_views(self) -> int:
        """Views whose cross-entropies are summed."""
        return 2 if self.consistency in ("r_drop", "cutoff") else 1


@dataclass
class SecondViews:
    """The second views of passes, and the divergences between both.

    Args:
        config: what is wanted.
        filler: what stands in the place of words that are cut.
    """

    config: ConsistencyConfig
    filler: Filler | None = None

    def settle(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        """Finds the unknown word, if it is needed.

        Raises:
            TrainingError: there is none.
        """
        if self.config.consistency == "cutoff":
            self.filler = unknown_word(tokenizer)

    def of(self, runs: Sequence[Pass]) -> list[Pass]:
        """A second view of every pass; none if there is no consistency loss."""
        if self.config.consistency == "none":
            return []
        weight, offset = float(self.config.summed_views - 1), 1 + max(each.view for each in runs)
        whole = self.config.consistency == "r_drop"
        cut: dict[str, Any] = {} if whole else {"cut": self.config.cut_rate, "filler": self.filler}
        return [replace(each, weight=weight, view=each.view + offset, **cut) for each in runs]

    def terms(self, count: int, first: int) -> list[Divergence]:
        """Between each of `count` passes and its second view, the first of which has position `first`."""
        if self.config.consistency == "none":
            return []
        form = {"symmetric": self.config.consistency == "r_drop", "between": self.config.consistency == "cutoff"}
        return [Divergence(place, first + place, self.config.alpha, **form) for place in range(count)]


def unknown_word(tokenizer: PreTrainedTokenizerBase | None) -> Filler:
    """The tokenizer's entry for unknown words, and those that stand for no word.

    Raises:
        TrainingError: there is none.
    """
    if tokenizer is None or tokenizer.unk_token_id is None:
        raise TrainingError("consistency: cutoff needs a tokenizer with an unknown token; give processing_class")
    tags = (entry for token, entry in tokenizer.get_vocab().items() if like_a_tag(token))
    return Filler(tokenizer.unk_token_id, tuple(sorted({*tokenizer.all_special_ids, *tags})))

"""Consistency between two views of the text: R-Drop, SimCut, CutOff and ciphers, of one model or of a family; and SeqMix."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from hf_paretokd.data.ciphers import CIPHERED, Cipher, CipheredDataset
from hf_paretokd.data.pairs import like_a_tag
from hf_paretokd.data.sampling import PairDataset
from hf_paretokd.errors import TrainingError
from hf_paretokd.losses import Divergence
from hf_paretokd.models.files import usable_length
from hf_paretokd.models.passes import Filler, Pass
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.training.checks import check_ranges

CONSISTENCY = ("none", "r_drop", "simcut", "cutoff", "cipher")
SUMMED = ("r_drop", "cutoff", "cipher")  # whose second view has a cross-entropy
CUT_RATE = 0.05
CIPHER_START = 500


@dataclass
class ConsistencyConfig(TranslationConfig):
    """What trainings with a second view of the text, or with mixed text, have in common.

    Args:
        consistency: `none`; `r_drop`, two dropout masks, CE₁ + CE₂ + α·½·(KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁)) (Liang et al.,
            NeurIPS 2021); `simcut`, a second view some of whose input embeddings are zero on both sides,
            CE + α·KL(p ‖ p_cut) (Gao et al., NAACL 2022); `cutoff`, a second view some of whose words are unknown on both
            sides, CE₁ + CE₂ + α·½·(KL(m ‖ p₁) + KL(m ‖ p₂)), m being the softmax of the mean logits (Shen et al., 2020; the
            form of its translation code); or `cipher`, a second view of the source in a cipher that the tokenizer was made
            for (its `cipher_keys`), with the loss of `r_drop` (CipherDAug, Kambhatla et al., ACL 2022). Gradients go through
            both views. With students it is added for every model.
        consistency_weight: α; default: 3 for `simcut`, 5 for the others.
        consistency_start: updates without the divergence; default: 500 for `cipher`, 0 for the others.
        cut_rate: probability with which an input embedding is cut in the second view of `simcut` and `cutoff`; special tokens
            and tags are never unknown.
        seqmix: a of SeqMix (Guo et al., EMNLP 2020): what goes into the first layers, on both sides, is mixed with that of
            another sentence of the micro-batch, λ·x + (1−λ)·x′ with λ ~ Beta(a, a), at least ½; the loss is λ·CE(y) +
            (1−λ)·CE(y′). 0 mixes nothing; 0.1 is usual.
    """

    consistency: str = "none"
    consistency_weight: float | None = None
    consistency_start: int | None = None
    cut_rate: float = CUT_RATE
    seqmix: float = 0.0

    def check(self) -> None:
        """Also of the consistency loss."""
        super().check()
        if self.consistency not in CONSISTENCY:
            raise TrainingError(f"consistency: {self.consistency!r} is not one of {', '.join(CONSISTENCY)}")
        limits = {"consistency_weight": (0, math.inf), "consistency_start": (0, math.inf)}
        check_ranges(self, {**limits, "cut_rate": (0, 1), "seqmix": (0, math.inf)})
        for name in ("consistency_weight", "consistency_start"):
            if self.consistency == "none" and getattr(self, name) is not None:
                raise TrainingError(f"{name}: is for {', '.join(CONSISTENCY[1:])}; set consistency")
        if self.consistency not in ("simcut", "cutoff") and self.cut_rate != CUT_RATE:
            raise TrainingError("cut_rate: is for simcut and cutoff; set consistency")
        if self.seqmix and (self.gradient_checkpointing or getattr(self, "activation_checkpointing", None)):
            raise TrainingError("seqmix: activation checkpointing would compute layers again without it; leave one out")

    @property
    def alpha(self) -> float:
        """α."""
        default = {"none": 0.0, "simcut": 3.0}.get(self.consistency, 5.0)
        return default if self.consistency_weight is None else self.consistency_weight

    def alpha_after(self, updates: int) -> float:
        """α after so many updates."""
        default = CIPHER_START if self.consistency == "cipher" else 0
        start = default if self.consistency_start is None else self.consistency_start
        return self.alpha if updates >= start else 0.0

    @property
    def summed_views(self) -> int:
        """Views whose cross-entropies are summed."""
        return 2 if self.consistency in SUMMED else 1


@dataclass
class SecondViews:
    """The second views of passes, and the divergences between both.

    Args:
        config: what is wanted.
        filler: what stands in the place of words that are cut.
        cipher: that the source is put in.
    """

    config: ConsistencyConfig
    filler: Filler | None = None
    cipher: Cipher | None = None

    def settle(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        """Finds the unknown word or the cipher, if one is needed.

        Raises:
            TrainingError: there is none.
        """
        if self.config.consistency == "cutoff":
            self.filler = unknown_word(tokenizer)
        if self.config.consistency == "cipher":
            self.cipher = Cipher.known_to(tokenizer)
            if self.cipher is None:
                raise TrainingError(
                    "consistency: cipher needs a tokenizer that was made for ciphers; train one with cipher_keys, such as "
                    "--tokenizer.cipher_keys 1 2"
                )

    def data(self, plain: PairDataset, tokenizer: PreTrainedTokenizerBase | None, config: PreTrainedConfig) -> PairDataset:
        """Text with what second views look at, as long as the model of a configuration can read it."""
        if self.cipher is None or tokenizer is None:
            return plain
        return CipheredDataset(plain.pairs, plain.pad_id, tokenizer, self.cipher, usable_length(config, tokenizer))

    def of(self, runs: Sequence[Pass]) -> list[Pass]:
        """A second view of every pass; none if there is no consistency loss."""
        if self.config.consistency == "none":
            return []
        weight, offset = float(self.config.summed_views - 1), 1 + max(each.view for each in runs)
        change: dict[str, Any] = {}
        if self.config.consistency == "cipher":
            change = {"source": CIPHERED}
        elif self.config.consistency != "r_drop":
            change = {"cut": self.config.cut_rate, "filler": self.filler}
        return [replace(each, weight=weight, view=each.view + offset, **change) for each in runs]

    def terms(self, count: int, first: int, weight: float | None = None) -> list[Divergence]:
        """Between each of `count` passes and its second view, the first of which has position `first`; default weight: α."""
        if self.config.consistency == "none":
            return []
        form = {"symmetric": self.config.consistency in ("r_drop", "cipher"), "between": self.config.consistency == "cutoff"}
        alpha = self.config.alpha if weight is None else weight
        return [Divergence(place, first + place, alpha, **form) for place in range(count)]


def unknown_word(tokenizer: PreTrainedTokenizerBase | None) -> Filler:
    """The tokenizer's entry for unknown words, and those that stand for no word.

    Raises:
        TrainingError: there is none.
    """
    if tokenizer is None or tokenizer.unk_token_id is None:
        raise TrainingError("consistency: cutoff needs a tokenizer with an unknown token; give processing_class")
    tags = (entry for token, entry in tokenizer.get_vocab().items() if like_a_tag(token))
    return Filler(tokenizer.unk_token_id, tuple(sorted({*tokenizer.all_special_ids, *tags})))

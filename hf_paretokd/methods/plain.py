"""One model by itself: the Transformer baseline, and its regularised forms R-Drop, SimCut and CutOff."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.data.pairs import like_a_tag
from hf_paretokd.errors import TrainingError
from hf_paretokd.hub.card import MethodFacts
from hf_paretokd.losses import Divergence, JointLoss
from hf_paretokd.methods.papers import PACKAGE
from hf_paretokd.models.joint import JointModel, Passes
from hf_paretokd.models.passes import Filler, Pass
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.training.checks import check_ranges
from hf_paretokd.training.parts import lone
from hf_paretokd.training.trainer import TranslationTrainer

CONSISTENCY = ("none", "r_drop", "simcut", "cutoff")
CUT_RATE = 0.05


@dataclass
class PlainConfig(TranslationConfig):
    """Configuration of training by itself, also with a consistency loss between two views of the text.

    Args:
        consistency: `none`; `r_drop`, two dropout masks, CE₁ + CE₂ + α·½·(KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁)) (Liang et al.,
            NeurIPS 2021); `simcut`, a second view some of whose input embeddings are zero on both sides,
            CE + α·KL(p ‖ p_cut) (Gao et al., NAACL 2022); or `cutoff`, a second view some of whose words are unknown on both
            sides, CE₁ + CE₂ + α·½·(KL(m ‖ p₁) + KL(m ‖ p₂)), m being the softmax of the mean logits (Shen et al., 2020; the
            form of its translation code). Gradients go through both views.
        consistency_weight: α; default: 5 for `r_drop` and `cutoff`, 3 for `simcut`.
        cut_rate: probability with which an input embedding is cut in the second view of `simcut` and `cutoff`; special tokens
            and tags are never unknown.
    """

    consistency: str = "none"
    consistency_weight: float | None = None
    cut_rate: float = CUT_RATE

    def check(self) -> None:
        """Also of the consistency loss."""
        super().check()
        if self.consistency not in CONSISTENCY:
            raise TrainingError(f"consistency: {self.consistency!r} is not one of {', '.join(CONSISTENCY)}")
        check_ranges(self, {"consistency_weight": (0, math.inf), "cut_rate": (0, 1)})
        if self.consistency == "none" and self.consistency_weight is not None:
            raise TrainingError("consistency_weight: is for r_drop, simcut and cutoff; set consistency")
        if self.consistency not in ("simcut", "cutoff") and self.cut_rate != CUT_RATE:
            raise TrainingError("cut_rate: is for simcut and cutoff; set consistency")

    @property
    def alpha(self) -> float:
        """α."""
        default = {"none": 0.0, "r_drop": 5.0, "simcut": 3.0, "cutoff": 5.0}[self.consistency]
        return default if self.consistency_weight is None else self.consistency_weight


class PlainModel(JointModel):
    """One model, its label-smoothed cross-entropy, and the divergence between two of its views if that is asked for."""

    kind = "model"

    def __init__(self, model: PreTrainedModel, config: PlainConfig) -> None:
        super().__init__(config.label_smoothing_factor, config.label_smoothing_variant)
        self.model = model
        alpha = config.alpha
        self.views = {
            "none": [Pass(model, 1.0)],
            "r_drop": [Pass(model, 1.0), Pass(model, 1.0, view=1)],
            "simcut": [Pass(model, 1.0), Pass(model, view=1, cut=config.cut_rate)],
            "cutoff": [Pass(model, 1.0), Pass(model, 1.0, view=1, cut=config.cut_rate)],
        }[config.consistency]
        form = {"symmetric": config.consistency == "r_drop", "between": config.consistency == "cutoff"}
        self.terms = [Divergence(0, 1, alpha, **form)] if len(self.views) > 1 else []

    def fill(self, filler: Filler) -> None:
        """Says what stands in the place of words that are cut."""
        self.views = [replace(each, filler=filler) if each.cut else each for each in self.views]

    def models(self) -> Sequence[PreTrainedModel]:
        """The model."""
        return [self.model]

    def passes(self, peer: int, batch: Mapping[str, Any]) -> Passes:
        """One pass, or one a view."""
        return Passes(self.views, self.terms, training_figures)


def training_figures(loss: JointLoss, tokens: int) -> dict[str, tuple[Tensor, float]]:
    """The cross-entropy without label smoothing, and the divergence between the views."""
    figures = {"nll": (loss.nll[0], float(tokens))}
    if len(loss.terms):
        figures["loss_consistency"] = (loss.divergences[0], float(tokens))
    return figures


class PlainTrainer(TranslationTrainer):
    """Trains one `PreTrainedModel` on cross-entropy, perhaps with a consistency loss; arguments as `TranslationTrainer`.

    The model may be named by a folder or Hub id; its tokenizer is then loaded, too, if none is given.
    """

    args: PlainConfig
    model: PlainModel
    method = "plain"
    shardable = True
    facts = MethodFacts("Plain training", papers=PACKAGE)
    config_class = PlainConfig

    def joint_model(self, models: Sequence[PreTrainedModel], args: Any) -> PlainModel:
        """The model and its loss."""
        return PlainModel(lone(models), args)

    def set_up(self) -> None:
        """Has `cutoff` know the unknown word."""
        if self.args.consistency == "cutoff":
            self.model.fill(unknown_word(self.processing_class))

    @property
    def summed_losses(self) -> int:
        """One, or those of both views of `r_drop` and `cutoff`."""
        return 2 if self.args.consistency in ("r_drop", "cutoff") else 1


def unknown_word(tokenizer: PreTrainedTokenizerBase | None) -> Filler:
    """The tokenizer's entry for unknown words, and those that stand for no word.

    Raises:
        TrainingError: there is none.
    """
    if tokenizer is None or tokenizer.unk_token_id is None:
        raise TrainingError("consistency: cutoff needs a tokenizer with an unknown token; give processing_class")
    tags = (entry for token, entry in tokenizer.get_vocab().items() if like_a_tag(token))
    return Filler(tokenizer.unk_token_id, tuple(sorted({*tokenizer.all_special_ids, *tags})))

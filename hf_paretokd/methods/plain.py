"""One model by itself: the Transformer baseline, and its regularised forms R-Drop, SimCut, CutOff, CipherDAug and SeqMix."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from hf_paretokd.data.sampling import PairDataset
from hf_paretokd.hub.card import MethodFacts
from hf_paretokd.losses import JointLoss
from hf_paretokd.methods.consistency import ConsistencyConfig, SecondViews
from hf_paretokd.methods.papers import PACKAGE
from hf_paretokd.models.joint import JointModel, Passes
from hf_paretokd.models.passes import Pass
from hf_paretokd.training.parts import lone
from hf_paretokd.training.trainer import TranslationTrainer


@dataclass
class PlainConfig(ConsistencyConfig):
    """Configuration of training by itself, also with a consistency loss between two views of the text, or on mixed text."""


class PlainModel(JointModel):
    """One model, its label-smoothed cross-entropy, and the divergence between two of its views if that is asked for."""

    kind = "model"

    def __init__(self, model: PreTrainedModel, config: PlainConfig) -> None:
        super().__init__(config.label_smoothing_factor, config.label_smoothing_variant)
        self.model = model
        self.seqmix, self.second = config.seqmix, SecondViews(config)

    def models(self) -> Sequence[PreTrainedModel]:
        """The model."""
        return [self.model]

    def passes(self, peer: int, batch: Mapping[str, Any], consistency_weight: float | None = None) -> Passes:
        """One pass, or one a view, with α of the divergence between both."""
        runs = [Pass(self.model, 1.0)]
        return Passes([*runs, *self.second.of(runs)], self.second.terms(1, 1, consistency_weight), training_figures)


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
        """Settles what second views look at."""
        self.model.second.settle(self.processing_class)

    def training_data(self) -> PairDataset:
        """Perhaps in cipher, too."""
        return self.model.second.data(super().training_data(), self.processing_class, self.model.config)

    def joint_arguments(self, number: int, batches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """α."""
        return {"consistency_weight": self.args.alpha_after(self.state.global_step)}

    @property
    def summed_losses(self) -> int:
        """One, or those of both views."""
        return self.args.summed_views

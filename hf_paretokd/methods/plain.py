"""The ordinary translation model (the Transformer baseline), through the same code as everything else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from hf_paretokd.hub.card import MethodFacts
from hf_paretokd.losses import JointLoss
from hf_paretokd.methods.papers import PACKAGE
from hf_paretokd.models.head import output_head
from hf_paretokd.models.joint import JointModel, Passes
from hf_paretokd.models.states import last_states
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.training.parts import lone
from hf_paretokd.training.trainer import TranslationTrainer


@dataclass
class PlainConfig(TranslationConfig):
    """Configuration of ordinary training: nothing beyond `TranslationConfig`."""


class PlainModel(JointModel):
    """One model and its label-smoothed cross-entropy."""

    kind = "model"

    def __init__(self, model: PreTrainedModel, config: PlainConfig) -> None:
        super().__init__(config.label_smoothing_factor, config.label_smoothing_variant)
        self.model = model

    def models(self) -> Sequence[PreTrainedModel]:
        """The model."""
        return [self.model]

    def passes(self, peer: int, batch: Mapping[str, Any]) -> Passes:
        """One pass."""
        return Passes([last_states(self.model, batch)], [output_head(self.model)], [1.0], (), training_figures)


def training_figures(loss: JointLoss, tokens: int) -> dict[str, tuple[Tensor, float]]:
    """The cross-entropy without label smoothing."""
    return {"nll": (loss.nll[0], tokens)}


class PlainTrainer(TranslationTrainer):
    """Trains one `PreTrainedModel` on cross-entropy; arguments as `TranslationTrainer`, with a plain model.

    The model may be named by a folder or Hub id; its tokenizer is then loaded, too, if none is given.
    """

    method = "plain"
    facts = MethodFacts("Plain training", papers=PACKAGE)
    config_class = PlainConfig

    def joint_model(self, models: Sequence[PreTrainedModel], args: Any) -> PlainModel:
        """The model and its loss."""
        return PlainModel(lone(models), args)

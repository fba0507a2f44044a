"""The ordinary translation model (the Transformer baseline), through the same code as everything else."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_paretokd.arguments import TranslationConfig
from hf_paretokd.losses import joint_loss
from hf_paretokd.models.head import output_head
from hf_paretokd.models.joint import JointModel, tallies
from hf_paretokd.models.states import last_states, target_tokens
from hf_paretokd.trainer import TranslationTrainer


@dataclass
class PlainConfig(TranslationConfig):
    """Configuration of ordinary training: nothing beyond `TranslationConfig`."""


class PlainModel(JointModel):
    """One model and its label-smoothed cross-entropy."""

    def __init__(self, model: PreTrainedModel, config: PlainConfig) -> None:
        super().__init__()
        self.model = model
        self.smoothing = (config.label_smoothing_factor, config.label_smoothing_variant)

    def named_models(self) -> Iterator[tuple[str, PreTrainedModel]]:
        """The model, in the folder `model`."""
        yield "model", self.model

    def forward(self, batches: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> dict[str, Tensor | dict[str, Tensor]]:
        """Summed cross-entropy of one micro-batch."""
        (batch,) = batches
        torch.manual_seed(seeds[0])
        states, head, targets = last_states(self.model, batch), output_head(self.model), target_tokens(batch)
        smoothing, variant = self.smoothing
        loss = joint_loss([states], [head], targets, smoothing, [1.0], smoothing_variant=variant)
        return {"losses": loss.total[None], "logs": tallies({"nll": (loss.nll[0], len(targets))})}


class PlainTrainer(TranslationTrainer):
    """Trains one `PreTrainedModel` on cross-entropy; arguments as `TranslationTrainer`, with a plain model."""

    _tag_names = ("paretokd",)
    method = "plain"

    def __init__(self, model: PreTrainedModel, args: PlainConfig, **kwargs: Any) -> None:
        super().__init__(PlainModel(model, args), args, **kwargs)

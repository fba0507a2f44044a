"""The module that the trainers wrap: all models of a training and one forward that computes their losses."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel


class JointModel(nn.Module):
    """Base of the modules given to accelerate.

    All passes of a micro-batch happen inside one `forward`: outside it there is no autocast, and DistributedDataParallel
    would drop gradients without a word. It returns token sums, never logits: `losses` [peers], each to be divided by
    its peer's target tokens of the whole update, and `logs`, a dictionary of detached [sum, count] pairs.
    """

    @abstractmethod
    def forward(
        self, batches: Sequence[Mapping[str, Any]], seeds: Sequence[int], **arguments: Any
    ) -> dict[str, Tensor | dict[str, Tensor]]:
        """The losses of one micro-batch of every peer, with dropout from the seeds; a lone model is a lone peer."""

    @abstractmethod
    def named_models(self) -> Iterator[tuple[str, PreTrainedModel]]:
        """The plain models, each with its folder inside a run or checkpoint, such as `teacher` or `peers/1`."""

    @property
    def main_model(self) -> PreTrainedModel:
        """The first model, whose configuration speaks for all."""
        return next(self.named_models())[1]

    @property
    def config(self) -> PretrainedConfig:
        """Configuration of the main model; the Trainer reads and aligns it."""
        return self.main_model.config

    @property
    def generation_config(self) -> GenerationConfig:
        """Generation configuration of the main model."""
        return self.main_model.generation_config


def tallies(figures: Mapping[str, tuple[Tensor, float]]) -> dict[str, Tensor]:
    """The `logs` of a forward from (sum, count) of every figure."""
    return {name: torch.stack([total.detach(), total.new_tensor(float(count))]) for name, (total, count) in figures.items()}

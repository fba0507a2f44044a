"""Sentences of a micro-batch mixed with each other (SeqMix): what goes into the first layers, and what is to come out."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_paretokd.data.batches import IGNORED
from hf_paretokd.losses import MixedTargets
from hf_paretokd.models.slicing import layer_list


@dataclass(frozen=True)
class Mixing:
    """Which sentence is mixed with which, and how much of each sentence stays.

    Args:
        partners: rows [rows].
        shares: λ [rows], from ½ to 1.
    """

    partners: Tensor
    shares: Tensor

    @classmethod
    def drawn(cls, rows: int, parameter: float, device: torch.device) -> "Mixing":
        """λ ~ Beta(a, a), at least ½, and a random permutation, by torch's generator."""
        shares = torch.distributions.Beta(parameter, parameter).sample((rows,))
        return cls(torch.randperm(rows).to(device), torch.maximum(shares, 1 - shares).to(device))

    def mixed(self, states: Tensor) -> Tensor:
        """λ·x + (1−λ)·x′ of one or more copies of the micro-batch [copies · rows, tokens, width]."""
        copies = states.view(-1, len(self.shares), *states.shape[1:])
        kept = self.shares.to(states.dtype)[:, None, None]
        return (kept * copies + (1 - kept) * copies[:, self.partners]).view_as(states)

    def targets(self, labels: Tensor) -> MixedTargets:
        """The labels [rows, target] of the partners at a sentence's own tokens, and the weight of either."""
        real, others = labels != IGNORED, labels[self.partners]
        kept = self.shares[:, None].expand_as(labels)
        rest = (1 - kept) * (others != IGNORED)  # a shorter partner ends earlier
        return MixedTargets(others.clamp(min=0)[real], kept[real], rest[real])


@contextmanager
def mixed_inputs(model: PreTrainedModel, mixing: Mixing | None) -> Iterator[None]:
    """Mixes what goes into the first layer of the encoder and of the decoder in the block: after positions and dropout."""

    def mix(_module: nn.Module, inputs: tuple, named: Mapping[str, Any]) -> tuple[tuple, Mapping[str, Any]]:
        assert mixing is not None
        if inputs:
            return (mixing.mixed(inputs[0]), *inputs[1:]), named
        return inputs, {**named, "hidden_states": mixing.mixed(named["hidden_states"])}

    stacks = (model.get_encoder(), model.get_decoder()) if mixing else ()
    firsts = [getattr(stack, layer_list(stack))[0] for stack in stacks]
    handles = [first.register_forward_pre_hook(mix, with_kwargs=True) for first in firsts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

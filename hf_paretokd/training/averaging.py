"""Weights averaged over updates (`ema_decay`): what is validated, saved and handed out, while training goes on with its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from hf_paretokd.models.files import load_parameters, save_parameters
from hf_paretokd.training.sharding import local


class WeightAverage:
    """θ̄_t = Σ_{i≤t} d^(t−i)·θ_i / Σ_{i≤t} d^(t−i) over updates i, of the parameters that are trained.

    Slicing commutes with it: the first layers of the average are the average of the first layers.

    Args:
        model: whose parameters.
        decay: d, between 0 and 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.parameters = {name: local(each) for name, each in model.named_parameters() if each.requires_grad}
        self.decay = decay
        self.follow()

    @torch.no_grad()
    def follow(self) -> None:
        """Makes the average what the parameters are now."""
        self.averages = {name: each.detach().clone() for name, each in self.parameters.items()}

    @torch.no_grad()
    def update(self, count: int) -> None:
        """Takes in the parameters after update number `count`, from 1."""
        newest = (1 - self.decay) / (1 - self.decay**count)  # of the sum of all powers so far
        get_ema_multi_avg_fn(1 - newest)(list(self.averages.values()), list(self.parameters.values()), count)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Has the model be the average in the block."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges parameters and averages, in their places."""
        for name, parameter in self.parameters.items():
            kept = parameter.clone()
            parameter.copy_(self.averages[name])
            self.averages[name].copy_(kept)

    @torch.no_grad()
    def settle(self) -> None:
        """Makes the parameters what the average is."""
        for name, average in self.averages.items():
            self.parameters[name].copy_(average)

    def save(self, model: nn.Module, path: Path) -> None:
        """Writes the parameters of the whole model themselves, beside models that are the average."""
        save_parameters(self.averaged_of(model), path)

    def load(self, model: nn.Module, path: Path) -> None:
        """Has the whole model take them from a file; the average stays what the model was when this was made of it.

        Raises:
            ModelError: the file is missing or of other parameters.
        """
        load_parameters(self.averaged_of(model), path)

    def averaged_of(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """The parameters of a model that are averaged."""
        return {name: each for name, each in model.named_parameters() if name in self.parameters}

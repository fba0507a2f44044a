"""Weights averaged over updates (`ema_decay`): what is validated, saved and handed out, while training goes on with its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from hf_paretokd.models.files import load_parameters, save_parameters


class WeightAverage:
    """θ̄_t = Σ_{i≤t} d^(t−i)·θ_i / Σ_{i≤t} d^(t−i) over updates i, of the parameters that are trained.

    Slicing commutes with it: the first layers of the average are the average of the first layers.

    Args:
        model: whose parameters.
        decay: d, between 0 and 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
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

    def swap(self) -> None:
        """Exchanges parameters and averages, without a copy."""
        for name, parameter in self.parameters.items():
            parameter.data, self.averages[name] = self.averages[name], parameter.data

    @torch.no_grad()
    def settle(self) -> None:
        """Makes the parameters what the average is."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.averages[name])

    def save(self, path: Path) -> None:
        """Writes the parameters themselves, beside models that are the average."""
        save_parameters(self.parameters, path)

    def load(self, path: Path) -> None:
        """Takes the parameters from a file; the average stays what the model was when this was made of it.

        Raises:
            ModelError: the file is missing or of other parameters.
        """
        load_parameters(self.parameters, path)

"""A peer as it is now, to be put back bit for bit after it was trained on trial."""

import copy
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class PeerSnapshot:
    """Copies of everything that training a peer changes.

    `state_dict()` alone would not do: it returns the live tensors, and loading them back changes nothing.

    Args:
        peer: the model.
        optimizer: the optimizer of all peers; the peer's share of its state is copied, and the options of every group.
        scheduler: the learning rate schedule.
        scaler: the gradient scaler of fp16, if there is one.
    """

    def __init__(self, peer: nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any, scaler: Any = None) -> None:
        self.optimizer = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
        self.scheduler, self.scaler = scheduler, scaler
        self.tensors: list[Any] = [*peer.parameters(), *peer.buffers()]
        self.values = [tensor.detach().clone() for tensor in self.tensors]
        self.moments = {
            parameter: {name: clone(value) for name, value in self.optimizer.state[parameter].items()}
            for parameter in peer.parameters()
            if parameter in self.optimizer.state
        }
        self.options = [
            {name: clone(value) for name, value in group.items() if name != "params"} for group in self.optimizer.param_groups
        ]
        self.schedule = copy.deepcopy(scheduler.state_dict())
        self.scale = copy.deepcopy(scaler.state_dict()) if scaler is not None else None
        self.random = random_states()

    @torch.no_grad()
    def restore(self) -> None:
        """Puts everything back; can be called again and again."""
        for tensor, value in zip(self.tensors, self.values, strict=True):
            tensor.copy_(value)
        for parameter in self.tensors:
            if parameter in self.moments:
                state = self.optimizer.state[parameter]
                for name, value in self.moments[parameter].items():
                    if isinstance(value, Tensor):
                        state[name].copy_(value)
                    else:
                        state[name] = value
            else:
                self.optimizer.state.pop(parameter, None)
        for group, options in zip(self.optimizer.param_groups, self.options, strict=True):
            group.update({name: clone(value) for name, value in options.items()})
        self.scheduler.load_state_dict(copy.deepcopy(self.schedule))
        if self.scaler is not None:
            self.scaler.load_state_dict(copy.deepcopy(self.scale))
        set_random_states(self.random)


def clone(value: Any) -> Any:
    """A copy that shares nothing."""
    return value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def random_states() -> dict[str, Any]:
    """The states of all generators that training could draw from."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None,
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Puts the generators back."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None:
        torch.cuda.set_rng_state_all(states["cuda"])

"""The figures of a training since its last log line, also across a resume."""

from typing import Any

import torch
from torch import Tensor
from transformers import Seq2SeqTrainer, TrainerCallback


class LogWindow(TrainerCallback):
    """Adds up [sum, count] of named figures; the Trainer's own sum of losses is kept in step with it."""

    def __init__(self, trainer: Seq2SeqTrainer) -> None:
        self.trainer = trainer
        self.tallies: dict[str, Tensor] = {}
        self.saved: dict[str, Any] | None = None

    def add(self, name: str, tally: Tensor) -> None:
        """Adds [sum, count] to a figure."""
        self.tallies[name] = self.tallies.get(name, 0) + tally

    def close(self) -> dict[str, float]:
        """Means over all micro-batches and processes since the last call; all processes must have the same names."""
        sums = self.sums()
        self.tallies = {}
        return {name: total / count for name, (total, count) in sums.items() if count}

    def sums(self) -> dict[str, list[float]]:
        """[sum, count] of every figure over all processes."""
        return {name: self.trainer.accelerator.reduce(each, reduction="sum").tolist() for name, each in self.tallies.items()}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint between two log lines must hold; to be called by all processes."""
        loss = self.trainer.accelerator.reduce(self.trainer._tr_loss, reduction="mean").item()
        return {"loss": loss, "last_logged": self.trainer._globalstep_last_logged, "tallies": self.sums()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """To be taken up when training begins, because the Trainer starts with empty sums."""
        self.saved = saved

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Starts with an empty window or the saved one."""
        self.tallies, saved, self.saved = {}, self.saved, None
        if saved:
            self.trainer._tr_loss += saved["loss"]
            self.trainer._globalstep_last_logged = saved["last_logged"]
            mine = float(self.trainer.is_world_process_zero())  # the sums were taken over all processes
            device = args.device
            self.tallies = {name: mine * torch.tensor(each, device=device) for name, each in saved["tallies"].items()}

"""Time in a training: passes over the corpus and seconds, also across a resume, and the share spent waiting for data."""

import time
from typing import Any

from transformers import Seq2SeqTrainer, TrainerCallback


class Clock(TrainerCallback):
    """Keeps time in passes over the corpus (`state.epoch`) and in seconds, also across a resume."""

    def __init__(self, trainer: Seq2SeqTrainer) -> None:
        self.trainer = trainer
        self.before, self.resumed, self.start = 0.0, 0.0, None
        self.waited, self.asked = 0.0, 0.0

    @property
    def seconds(self) -> float:
        """Wall time since training began, less the pauses between a stop and its resume."""
        return self.before + (time.monotonic() - self.start if self.start else 0.0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Starts the clock, at zero or where `load_state_dict` set it."""
        self.before, self.resumed = self.resumed, 0.0
        self.start, self.waited, self.asked = time.monotonic(), 0.0, self.before
        self.trainer.show_sampling()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stops the clock: what comes after is not training."""
        self.before, self.start = self.seconds, None

    def share_waited(self) -> float:
        """Share of the time since the last question that was spent waiting for micro-batches."""
        now = self.seconds
        share = self.waited / (now - self.asked) if now > self.asked else 0.0
        self.waited, self.asked = 0.0, now
        return round(share, 4)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Overwrites the epoch that the Trainer counts from the length of its loader."""
        state.epoch = state.global_step / self.trainer.updates_per_pass

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must hold."""
        return {"seconds": self.seconds}

    def load_state_dict(self, saved: dict[str, float]) -> None:
        """Has the next training start at the saved time."""
        self.before = self.resumed = saved["seconds"]

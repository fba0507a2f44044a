"""Time in a training: passes over the corpus and seconds, also across a resume, and the share spent waiting for data."""

import time
from typing import Any

from transformers import Seq2SeqTrainer, TrainerCallback, TrainerState


class Clock(TrainerCallback):
    """Keeps time in passes over the corpus (`state.epoch`) and in seconds, also across a resume."""

    def __init__(self, trainer: Seq2SeqTrainer) -> None:
        self.trainer = trainer
        self.before, self.start = 0.0, None
        self.waited, self.asked = 0.0, 0.0

    @property
    def seconds(self) -> float:
        """Wall time since training began, less the pauses between a stop and its resume."""
        return self.before + (time.monotonic() - self.start if self.start else 0.0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Starts the clock."""
        self.restore(state)
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

    def restore(self, state: TrainerState) -> None:
        """Goes on from the last time in the log; finds the best checkpoint again if the run folder was moved."""
        self.before = next((line["seconds"] for line in reversed(state.log_history) if "seconds" in line), 0.0)
        best = self.trainer.checkpoint(state.best_global_step)
        state.best_model_checkpoint = str(best) if best.is_dir() else None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Overwrites the epoch that the Trainer counts from the length of its loader."""
        state.epoch = state.global_step / self.trainer.updates_per_pass

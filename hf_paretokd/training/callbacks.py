"""What happens around updates: time, the figures since the last log line, stops."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from hf_paretokd.training.averaging import WeightAverage

if TYPE_CHECKING:  # the trainers are made of these
    from hf_paretokd.training.checkpointing import CheckpointedTrainer
    from hf_paretokd.training.trainer import TranslationTrainer


COUNTED = ("pairs_per_second", "source_tokens_per_second", "target_tokens_per_second")


class Clock(TrainerCallback):
    """Keeps time in passes over the corpus (`state.epoch`) and in seconds, also across a resume.

    It counts the share of the time that was spent waiting for data, too, and what was trained on in that time: sentence pairs,
    source and target tokens, without padding, of all peers and processes.
    """

    def __init__(self, trainer: "TranslationTrainer") -> None:
        self.trainer = trainer
        self.before, self.resumed = 0.0, 0.0
        self.start: float | None = None
        self.processor_before = 0.0  # seconds of this process's threads, and those of all before a resume in the first one
        self.processor_start = 0.0
        self.waited, self.asked = 0.0, 0.0
        self.counts, self.counted = [0.0] * len(COUNTED), [0.0] * len(COUNTED)  # in all, and up to the last question
        self.loss: Tensor | float = 0.0  # the sum over all updates

    @property
    def seconds(self) -> float:
        """Wall time since training began, less the pauses between a stop and its resume."""
        return self.before + (time.monotonic() - self.start if self.start else 0.0)

    @property
    def processor_seconds(self) -> float:
        """Time of the processor in all threads of this process, over the same span."""
        return self.processor_before + (time.process_time() - self.processor_start if self.start else 0.0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Starts the clock, at zero or where `load_state_dict` set it."""
        if not self.resumed:
            self.processor_before = 0.0
        self.before, self.resumed = self.resumed, 0.0
        self.processor_start = time.process_time()
        self.start, self.waited, self.asked = time.monotonic(), 0.0, self.before

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stops the clock: what comes after is not training."""
        self.before, self.processor_before, self.start = self.seconds, self.processor_seconds, None

    def count(self, counts: Sequence[float]) -> None:
        """Adds what this process trains on."""
        self.counts = [total + more for total, more in zip(self.counts, counts, strict=True)]

    def speeds(self) -> dict[str, float]:
        """Since the last question: what was trained on a second, and the share of time that was spent waiting for it.

        To be asked by all processes.
        """
        now = self.seconds
        passed = max(now - self.asked, 1e-9)
        news = self.trainer.in_all([total - known for total, known in zip(self.counts, self.counted, strict=True)])
        share, self.waited, self.asked, self.counted = self.waited / passed, 0.0, now, self.counts
        return {
            **{name: round(new / passed, 1) for name, new in zip(COUNTED, news, strict=True)},
            "loader_wait": round(share, 4),
        }

    def mean_speeds(self) -> dict[str, float]:
        """The same over the whole training, validation and saving included."""
        totals = self.trainer.in_all(self.counts)
        return {name: total / max(self.seconds, 1e-9) for name, total in zip(COUNTED, totals, strict=True)}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Overwrites the epoch that the Trainer counts from the length of its loader."""
        state.epoch = state.global_step / self.trainer.text.updates_per_pass

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold; to be called by all processes."""
        *counts, processor = self.trainer.in_all([*self.counts, self.processor_seconds])
        return {"seconds": self.seconds, "processor_seconds": processor, "counts": counts, "loss": self.total_loss()}

    def total_loss(self) -> float:
        """The sum of the losses of all updates; to be asked by all processes."""
        loss = torch.as_tensor(self.loss, dtype=torch.float32, device=self.trainer.args.device)
        return self.trainer.accelerator.reduce(loss, reduction="mean").item()

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Has the next training start at the saved time."""
        self.before = self.resumed = saved["seconds"]
        mine = float(self.trainer.is_world_process_zero())  # the sums were taken over all processes
        self.counts = self.counted = [mine * total for total in saved.get("counts", self.counts)]  # older ones have none
        self.processor_before = mine * saved.get("processor_seconds", saved["seconds"] * torch.get_num_threads())
        self.loss = saved.get("loss", 0.0)


class LogWindow(TrainerCallback):
    """Adds up [sum, count] of named figures since the last log line; the Trainer's own sum of losses is kept in step with it.

    A new log begins with what every peer is expected to see of every language pair.
    """

    def __init__(self, trainer: "TranslationTrainer") -> None:
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
        loss = self.trainer.accelerator.reduce(self.trainer.loss_since_log, reduction="mean").item()
        return {"loss": loss, "last_logged": self.trainer.last_logged, "tallies": self.sums()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """To be taken up when training begins, because the Trainer starts with empty sums."""
        self.saved = saved

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Starts with an empty window or the saved one; passes are what notebooks show as epochs of a stream without an end."""
        state.num_train_epochs = math.ceil(args.max_steps / self.trainer.text.updates_per_pass)
        if state.global_step == 0:
            sampling = [asdict(row) for row in self.trainer.text.expected(args.max_steps)]
            state.log_history.append({"sampling": sampling, "step": 0})
        self.tallies, saved, self.saved = {}, self.saved, None
        if saved:
            self.trainer.take_up_log(saved["loss"], saved["last_logged"])
            mine = float(self.trainer.is_world_process_zero())  # the sums were taken over all processes
            device = args.device
            self.tallies = {name: mine * torch.tensor(each, device=device) for name, each in saved["tallies"].items()}


class CheckpointEvents(TrainerCallback):
    """What a training's events mean for its checkpoints."""

    def __init__(self, trainer: "CheckpointedTrainer") -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Looks for the best checkpoint of a resumed training, and begins to average weights."""
        self.trainer.find_best()
        if args.ema_decay is not None and self.trainer.average is None:
            self.trainer.average = WeightAverage(self.trainer.model, args.ema_decay)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Hands out the averaged weights; the best ones, if they were asked for, are averages anyway."""
        if self.trainer.average:
            self.trainer.average.settle()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Averages weights; saves and ends the training after the update at which all processes learnt of a stop request."""
        if self.trainer.average:
            self.trainer.average.update(state.global_step)
        if self.trainer.stopping:
            control.should_save = control.should_training_stop = True

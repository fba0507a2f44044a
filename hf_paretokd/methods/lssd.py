"""Language-specific self-distillation: a model is taught by itself as it was best at each language pair (LSSD, EMNLP 2022)."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from hf_paretokd.errors import TrainingError
from hf_paretokd.hub.card import MethodFacts
from hf_paretokd.layout import BEST_COPY
from hf_paretokd.losses import Measured
from hf_paretokd.methods.papers import PACKAGE
from hf_paretokd.methods.taught import STUDENT, TEACHER, TaughtModel
from hf_paretokd.models.files import load_parameters, save_parameters
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.training.checks import check_ranges
from hf_paretokd.training.parts import lone
from hf_paretokd.training.trainer import TranslationTrainer

GATES = ("whole", "hard", "soft")
LESS = 0.2  # what `hard` leaves of words that the teacher knows no better


@dataclass
class LSSDConfig(TranslationConfig):
    """Configuration of language-specific self-distillation: (CE + w·gate·KD)/2, KD = −Σ p_teacher·log p.

    The teacher of a language pair is the model as it was after the epoch in which it validated best on that pair; it teaches
    from the second epoch after that one on, so that what still gets better is left alone.

    Args:
        kd_weight: w.
        gate: `whole`, 1 for every word; `hard`, 1 where the teacher gives the right word more than the model does, else 0.2;
            `soft`, the ratio of the two probabilities, at most 1.
        update_interval: updates of an epoch; default: those in which sampling at τ = 1 sees the corpus once.
    """

    kd_weight: float = 2.5
    gate: str = "whole"
    update_interval: int | None = None

    def check(self) -> None:
        """Also of the gate."""
        super().check()
        if self.gate not in GATES:
            raise TrainingError(f"gate: {self.gate!r} is not one of {', '.join(GATES)}")
        check_ranges(self, {"kd_weight": (0, math.inf), "update_interval": (1, math.inf)})


class LSSDModel(TaughtModel):
    """The model and its gate."""

    def __init__(self, student: PreTrainedModel, config: LSSDConfig) -> None:
        super().__init__(student, config, 0.5, config.kd_weight / 2, cross_entropy=True)
        self.constant, self.gate = config.gate == "whole", config.gate

    def token_weights(self, measured: Measured) -> Tensor:
        """The gate of every word, by −log p of the model and its teacher."""
        mine, theirs = measured.nll[STUDENT], measured.nll[TEACHER]
        if self.gate == "hard":
            return torch.where(theirs < mine, 1.0, LESS)
        return (mine - theirs).exp().clamp(max=1.0)  # p_teacher / p_student


class LSSDTrainer(TranslationTrainer):
    """Trains one model on several language pairs, each taught by what the model was when it was best at it.

    ```python
    trainer = LSSDTrainer(model, LSSDConfig(output_dir="runs/lssd", temperatures=[5.0]), train_dataset=train,
                          eval_dataset=validation, processing_class=tokenizer)
    trainer.train()
    ```
    """

    args: LSSDConfig
    method = "lssd"
    facts = MethodFacts(
        "Language-specific self-distillation",
        tag="self-distillation",
        prose="Trained on several language pairs, each distilled from what the model was when it was best at it (LSSD).",
        papers=PACKAGE,
    )
    config_class = LSSDConfig
    model: LSSDModel

    def joint_model(self, models: Sequence[PreTrainedModel], args: Any) -> LSSDModel:
        """The model."""
        return LSSDModel(lone(models), args)

    def set_up(self) -> None:
        """Nothing was best yet."""
        self.epoch = 0  # the last that has ended
        self.bests: dict[str, tuple[float, int]] = {}  # loss and epoch
        self.copies: dict[int, PreTrainedModel] = {}  # by epoch
        if not self.args.update_interval:
            self.text.check_passes("update_interval")
        self.interval = self.args.update_interval or max(1, round(self.text.updates_per_pass))
        self.check_validated()
        self.add_callback(EndOfEpoch(self))

    def end_epoch(self, epoch: int) -> None:
        """Validates after an epoch (from 1), keeps the model where it was best, and settles who teaches in the next."""
        student = self.model.student
        for pair, loss in self.pair_losses(student, self.validation_depths()).items():
            if loss < self.bests.get(pair, (math.inf, 0))[0]:
                self.bests[pair] = (loss, epoch)
        wanted = {best for _, best in self.bests.values()}
        kept = {best: model for best, model in self.copies.items() if best in wanted}
        if epoch in wanted:
            kept[epoch] = copy.deepcopy(student).requires_grad_(False).eval()
        self.copies, self.epoch = kept, epoch
        self.appoint()

    def appoint(self) -> None:
        """Has the best copies teach the pairs at which the model did not get better in the epoch that ended."""
        self.model.teachers = {pair: self.copies[best] for pair, (_, best) in self.bests.items() if best < self.epoch}

    # ---- State ----------------------------------------------------------------------------------------------------

    def save_training_state(self, folder: Path) -> None:
        """Also the copies."""
        super().save_training_state(folder)
        for epoch, model in self.copies.items() if self.args.should_save else ():
            save_parameters(dict(model.named_parameters()), folder / BEST_COPY.format(epoch))

    def progress(self) -> dict[str, Any]:
        """Also when the model was best."""
        return {**super().progress(), "bests": self.bests, "epoch": self.epoch}

    def take_progress(self, progress: Mapping[str, Any]) -> None:
        """Also when the model was best."""
        super().take_progress(progress)
        self.epoch = progress["epoch"]
        self.bests = {pair: (loss, epoch) for pair, (loss, epoch) in progress["bests"].items()}

    def load_training_state(self, folder: Path) -> None:
        """Also the copies."""
        super().load_training_state(folder)
        self.copies = {}
        for _, epoch in self.bests.values():
            if epoch not in self.copies:
                self.copies[epoch] = copy.deepcopy(self.model.student).requires_grad_(False).eval()
                load_parameters(dict(self.copies[epoch].named_parameters()), folder / BEST_COPY.format(epoch))
        self.appoint()


class EndOfEpoch(TrainerCallback):
    """Ends an epoch every so many updates, before the checkpoint of the same update is written."""

    def __init__(self, trainer: LSSDTrainer) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Unless the training is over."""
        if state.global_step % self.trainer.interval == 0 and state.global_step < args.max_steps:
            self.trainer.end_epoch(state.global_step // self.trainer.interval)

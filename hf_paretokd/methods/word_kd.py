"""Word-level distillation from frozen teachers (Kim and Rush, 2016), also on selected words (Wang et al., ACL 2021)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from hf_paretokd.errors import ModelError, TrainingError
from hf_paretokd.hub.card import MethodFacts
from hf_paretokd.losses import Measured
from hf_paretokd.methods.papers import PACKAGE
from hf_paretokd.methods.taught import STUDENT, TaughtModel, TeachersConfig, TeachersTrainer
from hf_paretokd.models.slicing import extract_student, model_depth
from hf_paretokd.training.checks import check_ranges
from hf_paretokd.training.parts import lone

SELECTIONS = ("all", "batch", "queue")


@dataclass
class WordKDConfig(TeachersConfig):
    """Configuration of word-level distillation: CE + a·KL(teacher ‖ student), or (1 − a)·CE + a·KL.

    Args:
        kd_weight: a.
        interpolate: (1 − a)·CE + a·KL rather than CE + a·KL.
        selection: the words whose divergence counts: `all`; `batch`, the `selection_rate` of a micro-batch that is hardest to
            the student; `queue`, those as hard as that share of the last `queue_size` words and of the micro-batch.
        selection_rate: r; words as hard as the ⌈r·n⌉-th hardest of n all count.
        queue_size: how many words of earlier updates are remembered.
        from_teacher: begin with the teacher's own first layers.
    """

    kd_weight: float = 1.0
    interpolate: bool = False
    selection: str = "all"
    selection_rate: float = 0.5
    queue_size: int = 30_000
    from_teacher: bool = False

    def check(self) -> None:
        """Also of the teachers and what they teach."""
        super().check()
        if self.selection not in SELECTIONS:
            raise TrainingError(f"selection: {self.selection!r} is not one of {', '.join(SELECTIONS)}")
        check_ranges(self, {"kd_weight": (0, 1 if self.interpolate else math.inf), "queue_size": (1, math.inf)})
        if not 0 < self.selection_rate <= 1:
            raise TrainingError(f"selection_rate: {self.selection_rate} is not above 0 and at most 1")


class WordKDModel(TaughtModel):
    """A student and what the words of earlier updates cost it, by which hard ones are told."""

    def __init__(self, student: PreTrainedModel, config: WordKDConfig) -> None:
        super().__init__(student, config, 1 - config.kd_weight if config.interpolate else 1.0, config.kd_weight)
        self.constant, self.rate = config.selection == "all", config.selection_rate
        self.remembered: Tensor | None = torch.zeros(0) if config.selection == "queue" else None
        self.latest = torch.zeros(0)  # −log p of the micro-batch's words

    def token_weights(self, measured: Measured) -> Tensor:
        """1 for words that are hard enough to the student, else 0 (Selective-KD)."""
        self.latest = mine = measured.nll[STUDENT]
        known = mine if self.remembered is None else torch.cat([self.remembered.to(mine.device), mine])
        return (mine >= hardness(known, self.rate)).float()


def hardness(nll: Tensor, rate: float) -> Tensor:
    """The ⌈r·n⌉-th largest of n values."""
    return nll.topk(math.ceil(rate * len(nll))).values[-1]


class WordKDTrainer(TeachersTrainer):
    """Trains a model of any depth and width on text and on what teachers with the same vocabulary make of it.

    ```python
    trainer = WordKDTrainer(build_model(shape, tokenizer), WordKDConfig(output_dir="runs/small", teachers=["runs/large"]),
                            train_dataset=train, eval_dataset=validation, processing_class=tokenizer)
    trainer.train()
    ```
    """

    args: WordKDConfig
    method = "word_kd"
    facts = MethodFacts(
        "Word-level distillation",
        tag="knowledge-distillation",
        prose="Trained on parallel text and on a larger model's probabilities of its words (Kim and Rush, 2016).",
        papers=PACKAGE,
    )
    config_class = WordKDConfig
    model: WordKDModel

    def joint_model(self, models: Sequence[PreTrainedModel], args: Any) -> WordKDModel:
        """The student; teachers are loaded, and it begins with their layers if it is to."""
        student = lone(models)
        self.load_teachers(args, student)
        if args.from_teacher:
            begin_with_layers(student, next(iter(self.loaded.values())))
        return WordKDModel(student, args)

    def set_up(self) -> None:
        """Settles who teaches which pair."""
        self.settle_teachers()
        self.model.teachers = {pair: self.loaded[name] for pair, name in self.teacher_names.items()}
        self.fresh: dict[int, list[float]] = {}
        if self.model.remembered is not None:
            self.add_callback(Remembering(self))

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As for every method; notes what the words cost."""
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if self.model.remembered is not None:
            self.fresh[inputs["number"]] = self.model.latest.tolist()
        return loss

    def remember(self) -> None:
        """Adds the words of an update to those remembered, in the order of micro-batches, whoever computed them."""
        shares = [self.fresh] if self.args.world_size == 1 else gather_object([self.fresh])
        found = {number: costs for share in shares for number, costs in share.items()}
        newest = [cost for number in sorted(found) for cost in found[number]]
        known: Tensor = self.model.remembered  # type: ignore[assignment]
        self.model.remembered = torch.cat([known, torch.tensor(newest)])[-self.args.queue_size :]
        self.fresh = {}

    def progress(self) -> dict[str, Any]:
        """Also what the words of earlier updates cost."""
        known = self.model.remembered
        return {**super().progress(), "remembered": None if known is None else known.tolist()}

    def take_progress(self, progress: Mapping[str, Any]) -> None:
        """Also what the words of earlier updates cost."""
        super().take_progress(progress)
        if self.model.remembered is not None:
            self.model.remembered = torch.tensor(progress["remembered"])


class Remembering(TrainerCallback):
    """Has the trainer remember the words of every update."""

    def __init__(self, trainer: WordKDTrainer) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Once an update."""
        self.trainer.remember()


def begin_with_layers(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Gives a student the weights of the teacher's first layers.

    Raises:
        ModelError: it is no slice of the teacher.
    """
    try:
        student.load_state_dict(extract_student(teacher, model_depth(student)).state_dict())
    except RuntimeError as error:
        raise ModelError(
            f"from_teacher: a student of depth {model_depth(student)} is no slice of the teacher "
            f"({str(error).splitlines()[1].strip()})"
        ) from error

"""Multilingual models taught by bilingual ones, through their best entries for each word (Multi-Distill, ICLR 2019)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from hf_paretokd.data.encoding import Pairs
from hf_paretokd.data.facts import text_hash
from hf_paretokd.data.sampling import TOP_IDS, TOP_LOGITS, PairDataset
from hf_paretokd.errors import TrainingError
from hf_paretokd.evaluation.metrics import PairPrediction, TranslationMetrics
from hf_paretokd.hub.card import MethodFacts
from hf_paretokd.layout import TopLayout
from hf_paretokd.losses import JointLoss, TopTargets
from hf_paretokd.methods.papers import PACKAGE
from hf_paretokd.methods.taught import TeachersConfig, TeachersTrainer
from hf_paretokd.methods.top_entries import Source, with_top_entries
from hf_paretokd.models.joint import JointModel, Passes
from hf_paretokd.models.passes import Pass
from hf_paretokd.training.checks import check_ranges
from hf_paretokd.training.generation import padded
from hf_paretokd.training.identity import weights_hash
from hf_paretokd.training.parts import lone

SWITCHES = ("fixed", "threshold", "adaptive")
PASSES = 3  # over the text between two translations of the validation text
AHEAD = 1.0  # BLEU that a student may be ahead of its teacher before it is left alone
BEHIND = 2.0  # BLEU behind the teacher from which on it is taught less


@dataclass
class MultiDistillConfig(TeachersConfig):
    """Configuration of Multi-Distill: (1 − α)·CE + α·T²·CE(softmax(z_k / T), softmax(student / T)), z_k a teacher's k best.

    Args:
        top_k: k, entries of a teacher that are kept for each target token.
        top_dir: folder where they are kept; default: in the run folder.
        kd_weight: α.
        kd_temperature: T.
        switch_off: α of a language pair by validation BLEU, s of the student and t of its teacher: `fixed`; `threshold`, 0 from
            s ≥ t + 1 on; `adaptive`, α·0.5^(s − t + 2) from s ≥ t − 2 on.
        update_interval: updates between two translations of the validation text; default: three passes.
    """

    top_k: int = 4
    top_dir: str | None = None
    kd_weight: float = 0.9
    kd_temperature: float = 0.6
    switch_off: str = "threshold"
    update_interval: int | None = None

    def check(self) -> None:
        """Also of what is taught and for how long."""
        super().check()
        if self.switch_off not in SWITCHES:
            raise TrainingError(f"switch_off: {self.switch_off!r} is not one of {', '.join(SWITCHES)}")
        check_ranges(self, {"top_k": (1, math.inf), "kd_weight": (0, 1), "update_interval": (1, math.inf)})
        if not 0 < self.kd_temperature < math.inf:
            raise TrainingError(f"kd_temperature: {self.kd_temperature:g} is not above 0")


def weight_of(rule: str, weight: float, student: float, teacher: float) -> float:
    """α of a language pair by the BLEU of both."""
    if rule == "threshold":
        return weight if student < teacher + AHEAD else 0.0
    if rule == "adaptive" and student >= teacher - BEHIND:
        return weight * 0.5 ** (student - teacher + BEHIND)
    return weight


class MultiDistillModel(JointModel):
    """The student, with α of every language pair."""

    kind = "model"

    def __init__(self, student: PreTrainedModel, config: MultiDistillConfig) -> None:
        super().__init__(config.label_smoothing_factor, config.label_smoothing_variant)
        self.student, self.temperature = student, config.kd_temperature
        self.weights: dict[str, float] = {}

    def models(self) -> Sequence[PreTrainedModel]:
        """The student."""
        return [self.student]

    def passes(self, peer: int, batch: Mapping[str, Any]) -> Passes:
        """(1 − α)·CE + α·T²·CE of the best entries of one micro-batch."""
        weight = self.weights[batch["pair"]]
        probs = (batch[TOP_LOGITS] / self.temperature).softmax(-1)
        top = TopTargets(0, batch[TOP_IDS], probs, weight, self.temperature) if weight else None
        return Passes([Pass(self.student, 1 - weight)], (), taught_figures, top)


def taught_figures(loss: JointLoss, tokens: int) -> dict[str, tuple[Tensor, float]]:
    """The cross-entropy without label smoothing, and T²·CE of the best entries."""
    return {"nll": (loss.nll[0], float(tokens)), "loss_kd": (loss.top, float(tokens))}


class MultiDistillTrainer(TeachersTrainer):
    """Trains one model on several language pairs, each taught by a model of that pair, through what is kept of its entries.

    ```python
    args = MultiDistillConfig(output_dir="runs/all", teachers={"de-en": "runs/de", "fr-en": "runs/fr"})
    trainer = MultiDistillTrainer(model, args, train, validation, processing_class=tokenizer)
    trainer.train()
    ```
    """

    args: MultiDistillConfig
    method = "multi_distill"
    facts = MethodFacts(
        "Multi-Distill",
        tag="knowledge-distillation",
        prose="Trained on several language pairs, each distilled from a model of that pair alone (Tan et al., 2019).",
        papers=PACKAGE,
    )
    config_class = MultiDistillConfig
    model: MultiDistillModel

    def joint_model(self, models: Sequence[PreTrainedModel], args: Any) -> MultiDistillModel:
        """The student; teachers are loaded."""
        student = lone(models)
        self.load_teachers(args, student)
        return MultiDistillModel(student, args)

    def set_up(self) -> None:
        """Settles who teaches which pair."""
        self.text.check_passes("teachers")
        self.__dict__.pop("taught_pairs", None)  # of a training before this one
        self.settle_teachers()
        self.model.weights = dict.fromkeys(self.train_pairs, self.args.kd_weight)
        self.teacher_bleu: dict[str, float] = {}
        self.interval = self.args.update_interval or math.ceil(PASSES * self.text.updates_per_pass)
        if self.args.switch_off != "fixed":
            self.check_validated()
            self.decoding({})  # that there is a tokenizer
            self.add_callback(Refreshing(self))

    def training_data(self) -> PairDataset:
        """The text with the teachers' best entries."""
        return PairDataset(self.taught_pairs, self.model.config.pad_token_id)

    @cached_property
    def taught_pairs(self) -> Pairs:
        """The text with these entries, which are made when it is first wanted."""
        folder, found = Path(self.args.top_dir or self.layout.top), {}
        for pair, name in self.teacher_names.items():
            teacher, text = self.loaded[name], self.train_pairs[pair]
            source = Source(weights_hash(teacher), text_hash(text), self.args.top_k)
            with self.accelerator.autocast():
                found[pair] = with_top_entries(
                    pair,
                    text,
                    teacher,
                    source,
                    TopLayout(folder / pair),
                    self.args.max_tokens,
                    self.model.config.pad_token_id,
                )
        self.accelerator.wait_for_everyone()
        return found

    def bleu(self, model: PreTrainedModel, pair: str) -> float:
        """Validation BLEU of a model on a pair, greedily."""
        _, longest = self.decoding({})
        dataset = self.eval_pairs[pair]
        made = self.translated(model, dataset, 1, longest, self.direction(pair))
        metrics = TranslationMetrics(self.processing_class)(PairPrediction(padded(made), padded(dataset["labels"]), pair))
        return metrics["bleu"]

    def refresh(self) -> None:
        """Settles α of every pair by how good the student has become."""
        if not self.teacher_bleu:
            self.teacher_bleu = {pair: self.bleu(self.loaded[name], pair) for pair, name in self.teacher_names.items()}
        figures: dict[str, float] = {}
        for pair, known in self.teacher_bleu.items():
            mine = self.bleu(self.model.student, pair)
            self.model.weights[pair] = weight_of(self.args.switch_off, self.args.kd_weight, mine, known)
            figures |= {f"bleu_{pair}": mine, f"teacher_bleu_{pair}": known, f"alpha_{pair}": self.model.weights[pair]}
        self.log(figures)

    def progress(self) -> dict[str, Any]:
        """Also α, and how good the teachers are."""
        return {**super().progress(), "weights": self.model.weights, "teacher_bleu": self.teacher_bleu}

    def take_progress(self, progress: Mapping[str, Any]) -> None:
        """Also α, and how good the teachers are."""
        super().take_progress(progress)
        self.model.weights, self.teacher_bleu = dict(progress["weights"]), dict(progress["teacher_bleu"])


class Refreshing(TrainerCallback):
    """Has α settled every so many updates, before the checkpoint of the same update is written."""

    def __init__(self, trainer: MultiDistillTrainer) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Unless the training is over."""
        if state.global_step % self.trainer.interval == 0 and state.global_step < args.max_steps:
            self.trainer.refresh()

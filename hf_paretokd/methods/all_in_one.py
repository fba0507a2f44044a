"""All-in-One KD: a teacher trained jointly with students that are its own first layers (AIO, EMNLP 2023)."""

import dataclasses
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import EarlyStoppingCallback, PreTrainedModel, TrainerCallback
from transformers.trainer_utils import SchedulerType

from hf_paretokd.data.seeds import derive_seed
from hf_paretokd.errors import TrainingError
from hf_paretokd.hub.card import MethodFacts
from hf_paretokd.losses import Divergence, JointLoss
from hf_paretokd.methods.papers import PACKAGE
from hf_paretokd.models.depth import Depth, candidate_depths
from hf_paretokd.models.head import output_head
from hf_paretokd.models.joint import JointModel, Passes
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.models.states import depth_states
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.training.checks import trial_schedule
from hf_paretokd.training.identity import Identity
from hf_paretokd.training.parts import lone
from hf_paretokd.training.trainer import TranslationTrainer

RESETS = ("optimizer", "scheduler", "best_metric")
DRAWS = ("update", "micro_batch")


@dataclass
class AllInOneConfig(TranslationConfig):
    """Configuration of All-in-One KD.

    Args:
        num_students: K students sampled for every update.
        candidates: depths such as `["6-6", "6-2", "2-2"]` to sample from; default: all 1 < decoder ≤ encoder (AIO §3.1).
        kd_weight: α, weight of the distillation loss (AIO Eq. 1, 7).
        mutual_weight: β, weight of the mutual loss (AIO Eq. 1, 8); 0 is the ablation without mutual learning.
        detach_threshold: η; a student whose cross-entropy exceeds η times the teacher's does not move the teacher through
            the distillation loss (AIO Eq. 6); `inf` is the ablation without detaching.
        mutual_start: share of `max_steps` (both stages together) after which stage two begins from the best checkpoint of
            stage one and the mutual loss is added; 0 is the ablation with one stage, 1 never adds it.
        stage2_reset: what starts anew with stage two: any of `optimizer`, `scheduler`, `best_metric`.
        detach_at_threshold: detach at a ratio of exactly η too, as the official code does.
        sample_with_replacement: whether the K students of an update may be equal, as in the official code.
        students_per: draw students for every `update`, or for every `micro_batch` as the official code does.
        detach_senior: treat the senior student as a constant in the mutual loss; the official code does not.
        share_prefix: one encoder pass for teacher and students and shared decoder prefixes, with common dropout masks; false
            runs every model on its own with independent dropout, as the official code does.
    """

    SIGNED: ClassVar[dict[str, str]] = {
        "num_students": "K",
        "kd_weight": "alpha",
        "mutual_weight": "beta",
        "detach_threshold": "eta",
        "mutual_start": "stage2",
        **TranslationConfig.SIGNED,
    }

    num_students: int = 2
    candidates: list[str] | None = None
    kd_weight: float = 5.5
    mutual_weight: float = 0.5
    detach_threshold: float = 1.1
    mutual_start: float = 0.5
    stage2_reset: list[str] = field(default_factory=lambda: ["optimizer", "scheduler"])
    detach_at_threshold: bool = False
    sample_with_replacement: bool = True
    students_per: str = "update"
    detach_senior: bool = False
    share_prefix: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        checks = {
            "num_students": (self.num_students >= 1, "at least 1"),
            "kd_weight": (0 <= self.kd_weight < math.inf, "0 or more"),
            "mutual_weight": (0 <= self.mutual_weight < math.inf, "0 or more"),
            "detach_threshold": (self.detach_threshold >= 0, "0 or more, inf for never"),
            "mutual_start": (0 <= self.mutual_start <= 1, "between 0 and 1"),
            "students_per": (self.students_per in DRAWS, " or ".join(DRAWS)),
            "stage2_reset": (set(self.stage2_reset) <= set(RESETS), f"any of {', '.join(RESETS)}"),
        }
        for name, (fine, wanted) in checks.items():
            if not fine:
                raise TrainingError(f"{name}: {getattr(self, name)!r} is not {wanted}")
        if 0 < self.mutual_start < 1 and "no" in (self.eval_strategy, self.save_strategy):
            raise TrainingError(
                "mutual_start: two stages need validation and checkpoints, because stage two starts from the best of stage "
                "one; set eval_strategy and save_strategy to steps, or mutual_start to 0 or 1"
            )
        if 0 < self.mutual_start < 1 and not self.metric_for_best_model:
            raise TrainingError(
                "metric_for_best_model: two stages need one, because stage two starts from the best of stage one; name it, "
                "such as loss, or set mutual_start to 0 or 1"
            )


@dataclass(frozen=True)
class LossRules:
    """The constants of the loss: K-independent weights, the detach rule and the senior rule."""

    kd_weight: float
    detach_threshold: float
    detach_at_threshold: bool
    detach_senior: bool

    def detached(self, student: float, teacher: float) -> bool:
        """Whether a student's ratio CE_student / CE_teacher cuts the teacher off (AIO Eq. 6)."""
        ratio = student / teacher
        return ratio > self.detach_threshold or (self.detach_at_threshold and ratio == self.detach_threshold)

    def divergences(self, entropies: Sequence[float], students: Sequence[int], mutual_weight: float) -> list[Divergence]:
        """α·L_kd + β·L_ml of one micro-batch as weighted terms (AIO Eq. 3–8).

        Args:
            entropies: cross-entropies of all models; the teacher's is the first.
            students: positions in `entropies` of the K sampled students.
            mutual_weight: β, 0 in stage one.
        """
        count = len(students)
        terms = [
            Divergence(0, student, self.kd_weight / count, not self.detached(entropies[student], entropies[0]))
            for student in students
        ]
        if mutual_weight:
            weight = mutual_weight * 2 / (count * (count - 1)) if count > 1 else 0.0
            for first, second in combinations(students, 2):
                senior, junior = (first, second) if entropies[second] >= entropies[first] else (second, first)
                terms.append(Divergence(senior, junior, weight, not self.detach_senior))
        return terms


class AllInOneModel(JointModel):
    """The teacher; its students are made of the same layers."""

    kind = "teacher"

    def __init__(self, teacher: PreTrainedModel, config: AllInOneConfig) -> None:
        super().__init__(config.label_smoothing_factor, config.label_smoothing_variant, round(config.loss_memory * 1e9))
        self.teacher = teacher
        self.depth = model_depth(teacher)
        self.share_prefix = config.share_prefix
        self.rules = LossRules(config.kd_weight, config.detach_threshold, config.detach_at_threshold, config.detach_senior)

    def models(self) -> Sequence[PreTrainedModel]:
        """The teacher."""
        return [self.teacher]

    def passes(self, peer: int, batch: Mapping[str, Any], students: Sequence[Depth], mutual_weight: float) -> Passes:
        """L_ce + α·L_kd + β·L_ml of one micro-batch, summed over target tokens (AIO Eq. 1–8).

        With shared prefixes equal models are one model: it counts as often as it was drawn, and its divergence from
        itself is zero.

        Args:
            peer: the lone one.
            batch: the micro-batch.
            students: the K sampled depths.
            mutual_weight: β, 0 in stage one.
        """
        wanted = [self.depth, *students]
        if self.share_prefix:
            by_depth = dict(depth_states(self.teacher, batch, wanted))
            depths = list(dict.fromkeys(wanted))
            states, position = [by_depth[depth] for depth in depths], [depths.index(depth) for depth in wanted]
        else:
            states = [state for _, state in depth_states(self.teacher, batch, wanted, share_prefix=False)]
            position = list(range(len(wanted)))
        return Passes(
            states,
            [output_head(self.teacher)] * len(states),
            [float(position.count(index)) for index in range(len(states))],
            lambda entropies: self.rules.divergences(entropies, position[1:], mutual_weight),
            lambda loss, tokens: training_figures(loss, position, tokens),
        )


def training_figures(loss: JointLoss, position: Sequence[int], tokens: int) -> dict[str, tuple[Tensor, float]]:
    """(sum, count) of the figures a user watches: losses per token and model, the share of detached students."""
    count = len(position) - 1
    detached = sum(not term.teacher_gradient for term in loss.terms[:count])
    figures = {
        "loss_teacher": (loss.cross_entropy[0], float(tokens)),
        "loss_students": (loss.cross_entropy[position[1:]].sum(), float(count * tokens)),
        "loss_kd": (loss.divergences[:count].sum(), float(count * tokens)),
        "detach_rate": (loss.total.new_tensor(float(detached)), float(count)),
    }
    if len(loss.terms) > count:
        figures["loss_mutual"] = (loss.divergences[count:].sum(), float((len(loss.terms) - count) * tokens))
    return figures


class AllInOneTrainer(TranslationTrainer):
    """Trains a teacher and all its students at once; arguments as `TranslationTrainer`, with the teacher as the model.

    ```python
    trainer = AllInOneTrainer(model, AllInOneConfig(output_dir="runs/de-en"), train_dataset=train,
                              eval_dataset=validation, processing_class=tokenizer)
    trainer.train()
    ```

    The model may be named by a folder or Hub id; its tokenizer is then loaded, too, if none is given.
    """

    args: AllInOneConfig
    method = "all_in_one"
    facts = MethodFacts(
        "All-in-One KD",
        tag="all-in-one-kd",
        prose="Trained with All-in-One knowledge distillation (Miao et al., EMNLP 2023), jointly with its teacher and all "
        "other depths.",
        papers=PACKAGE,
    )
    config_class = AllInOneConfig

    def joint_model(self, models: Sequence[PreTrainedModel], args: Any) -> AllInOneModel:
        """The teacher, its students and their losses."""
        teacher = lone(models)
        self.candidates = candidate_depths(model_depth(teacher), args.candidates)
        if not args.sample_with_replacement and args.num_students > len(self.candidates):
            raise TrainingError(
                f"num_students: {args.num_students} different students cannot be drawn from {len(self.candidates)} candidates"
            )
        if args.share_prefix and (args.gradient_checkpointing or getattr(args, "activation_checkpointing", None)):
            raise TrainingError("share_prefix: activation checkpointing needs independent passes; set share_prefix to false")
        return AllInOneModel(teacher, args)

    def set_up(self) -> None:
        """Settles where the stages meet."""
        self.border = self.planned_border()
        self.add_callback(StageBorder(self))

    @property
    def summed_losses(self) -> int:
        """Those of the teacher and of K students."""
        return self.args.num_students + 1

    def planned_border(self) -> int | None:
        """The update before which stage two is to begin by the arguments; None when there is one stage."""
        start, updates = self.args.mutual_start, self.args.max_steps
        if not 0 < start < 1 or updates <= 0:
            return None
        border = round(start * updates)
        if not 0 < border < updates:
            raise TrainingError(
                f"mutual_start: {start:g} of {updates} updates leaves {border} to stage one and {updates - border} to stage "
                "two; train longer, or set mutual_start to 0 or 1"
            )
        return border

    def deciding(self) -> dict[str, Any]:
        """The candidates, also those that follow from the teacher."""
        return {**super().deciding(), "candidates": list(map(str, self.candidates))}

    def kept_when_extended(self) -> dict[str, Any]:
        """Where the stages meet."""
        return {"border": self.border}

    def take_identity(self, saved: Identity) -> None:
        """Keeps the border, also of a training that was made longer."""
        super().take_identity(saved)
        self.border = saved.kept["border"]

    def sample_students(self, key: int) -> list[Depth]:
        """K students drawn uniformly from the candidates, a function of the seed and `key` alone (AIO §3.1)."""
        generator = random.Random(derive_seed(self.args.seed, "students", key))
        if self.args.sample_with_replacement:
            return generator.choices(self.candidates, k=self.args.num_students)
        return generator.sample(self.candidates, self.args.num_students)

    def joint_arguments(self, number: int, batches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The sampled students, and β once stage two has begun."""
        start = self.args.max_steps if self.args.mutual_start == 1 else self.border or 0
        return {
            "students": self.sample_students(self.state.global_step if self.args.students_per == "update" else number),
            "mutual_weight": self.args.mutual_weight if self.state.global_step >= start else 0.0,
        }

    def validation_depths(self) -> Sequence[Depth]:
        """All candidates (AIO Eq. 9)."""
        return self.candidates

    student_depths = validation_depths

    def check_schedules(self) -> None:
        """Of each stage by itself, where stage two resets the schedule."""
        if self.border is None or "scheduler" not in self.args.stage2_reset:
            super().check_schedules()
            return
        for steps in (self.border, self.args.max_steps - self.border):
            self._stage_factors(steps)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LRScheduler:
        """The schedule, run once for each stage if stage two resets it."""
        border = self.border
        if border is None or "scheduler" not in self.args.stage2_reset or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        first, second = self._stage_factors(border), self._stage_factors(num_training_steps - border)

        def factor(step: int) -> float:
            meeting = border if self.border is None else self.border  # by now, if stage one was ended early
            return first(step) if step < meeting else second(step - meeting)

        schedule = LambdaLR(optimizer or self.optimizer, factor)
        self.take_scheduler(schedule)
        return schedule

    def _stage_factors(self, steps: int) -> Callable[[int], float]:
        """The factor on the learning rate at each step of a stage that long.

        Raises:
            TrainingError: the schedule is no function of the step.
        """
        schedule = trial_schedule(self.args, steps)
        if not isinstance(schedule, LambdaLR):
            raise TrainingError(
                f"lr_scheduler_type: {SchedulerType(self.args.lr_scheduler_type).value} cannot start anew in stage two; take "
                "scheduler out of stage2_reset or choose another schedule"
            )
        return schedule.lr_lambdas[0]

    def stopped_by_validation(self) -> None:
        """In stage one it is the stage that ends: stage two begins now, as long as planned, and the record says so."""
        step, planned = self.state.global_step, self.border
        if planned is None or not 0 < step <= planned:
            return
        self.control.should_training_stop, self.control.should_save = False, True
        shorter = self.identity.extended(step, step - planned) if step < planned else self.identity
        self.take_identity(dataclasses.replace(shorter, kept={**shorter.kept, "border": step}))
        self.args.max_steps = self.state.max_steps = shorter.decides["max_steps"]
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, EarlyStoppingCallback):
                callback.early_stopping_patience_counter = 0  # stage two has a patience of its own

    def begin_stage_two(self) -> None:
        """Loads the best of stage one and resets what `stage2_reset` names."""
        best = self.state.best_model_checkpoint
        if best is None:
            raise TrainingError(
                f"mutual_start: no checkpoint was kept before update {self.border}, so stage two has nothing to start from"
            )
        self.load_best()
        if "optimizer" in self.args.stage2_reset:
            getattr(self.optimizer, "optimizer", self.optimizer).state.clear()
        if "scheduler" in self.args.stage2_reset:  # its rate was set when the border may have been elsewhere
            schedule = getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)
            schedule.last_epoch -= 1
            schedule.step()
        if "best_metric" in self.args.stage2_reset:
            self.state.best_metric = self.state.best_global_step = self.state.best_model_checkpoint = None


class StageBorder(TrainerCallback):
    """Validates and saves at the end of stage one, and starts stage two from its best.

    The second half happens before the next update, so that a run resumed from the checkpoint at the border does it too.
    """

    def __init__(self, trainer: AllInOneTrainer) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ends stage one."""
        if state.global_step == self.trainer.border:
            control.should_evaluate = control.should_save = True

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begins stage two."""
        if state.global_step == self.trainer.border:
            self.trainer.begin_stage_two()

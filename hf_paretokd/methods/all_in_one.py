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
from hf_paretokd.models.joint import JointModel, Passes
from hf_paretokd.models.passes import Pass
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.training.checks import trial_schedule
from hf_paretokd.training.identity import Identity
from hf_paretokd.training.parts import lone
from hf_paretokd.training.trainer import TranslationTrainer

VIEWS = ("shared", "two", "independent")
PRESETS: Mapping[str | None, Mapping[str, Any]] = {
    None: {"views": "shared", "kd_weight": 1.5, "mutual_start": 0.0},
    "paper": {"views": "independent", "kd_weight": 5.5, "mutual_start": 0.5, "always": []},
}
RESETS = ("optimizer", "scheduler", "best_metric")
DRAWS = ("update", "micro_batch")


@dataclass
class AllInOneConfig(TranslationConfig):
    """Configuration of All-in-One KD.

    Args:
        num_students: K students sampled for every update.
        candidates: depths such as `["6-6", "6-2", "2-2"]` to sample from; default: all 1 < decoder ≤ encoder (AIO §3.1).
        preset: `paper` is the paper's form: independent views, draws that are all uniform, and stage two from half-way, with
            α = 5.5 unless `kd_weight` says otherwise (the paper's α and β differ from task to task).
        always: depths drawn for every update, among the K; the others are drawn uniformly from the remaining candidates.
            Default: the smallest candidate; with the preset none.
        views: whether teacher and students look at a micro-batch in `shared` dropout masks, so that they share an encoder pass
            and decoder prefixes; in `two`, the teacher in one and all students in another; or each in one of its own
            (`independent`, as in the official code). Default: `shared`; with the preset `independent`.
        kd_weight: α, weight of the distillation loss (AIO Eq. 1, 7). Default: 1.5; with the preset 5.5.
        mutual_weight: β, weight of the mutual loss (AIO Eq. 1, 8); 0 is the ablation without mutual learning.
        detach_threshold: η; a student whose cross-entropy exceeds η times the teacher's does not move the teacher through
            the distillation loss (AIO Eq. 6); `inf` is the ablation without detaching.
        mutual_start: share of `max_steps` (both stages together) after which stage two begins from the best checkpoint of
            stage one and the mutual loss is added; 0 is one stage, with the mutual loss from the beginning, 1 never adds it.
            Default: 0; with the preset 0.5.
        stage2_reset: what starts anew with stage two: any of `optimizer`, `scheduler`, `best_metric`.
        detach_at_threshold: detach at a ratio of exactly η too, as the official code does.
        sample_with_replacement: whether the K students of an update may be equal, as in the official code.
        students_per: draw students for every `update`, or for every `micro_batch` as the official code does.
        detach_senior: treat the senior student as a constant in the mutual loss; the official code does not.
    """

    SIGNED: ClassVar[dict[str, str]] = {
        "num_students": "K",
        "kd_weight": "alpha",
        "mutual_weight": "beta",
        "detach_threshold": "eta",
        "mutual_start": "stage2",
        **TranslationConfig.SIGNED,
    }

    preset: str | None = None
    num_students: int = 2
    candidates: list[str] | None = None
    always: list[str] | None = None  # None: the smallest candidate
    views: str = None  # type: ignore[assignment]  # None, here and below: by the preset
    kd_weight: float = None  # type: ignore[assignment]
    mutual_weight: float = 0.5
    detach_threshold: float = 1.1
    mutual_start: float = None  # type: ignore[assignment]
    stage2_reset: list[str] = field(default_factory=lambda: ["optimizer", "scheduler"])
    detach_at_threshold: bool = False
    sample_with_replacement: bool = True
    students_per: str = "update"
    detach_senior: bool = False

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise TrainingError(f"preset: {self.preset!r} is not {' or '.join(name for name in PRESETS if name)}")
        for name, value in PRESETS[self.preset].items():
            given = getattr(self, name)
            if self.preset and name != "kd_weight" and given not in (None, value):
                raise TrainingError(f"{name}: {given!r} was given, but preset {self.preset} has {value!r}; leave one out")
            setattr(self, name, value if given is None else given)
        for name in ("candidates", "always"):  # which may be depths, too
            if isinstance(named := getattr(self, name), list | tuple):
                setattr(self, name, list(map(str, named)))
        super().__post_init__()

    def check(self) -> None:
        """Also of All-in-One KD."""
        super().check()
        checks = {
            "views": (self.views in VIEWS, f"one of {', '.join(VIEWS)}"),
            "always": (len(self.always or []) <= self.num_students, f"at most {self.num_students} depths, as num_students"),
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

    def divergences(self, entropies: Sequence[float], mutual_weight: float) -> list[Divergence]:
        """α·L_kd + β·L_ml of one micro-batch as weighted terms (AIO Eq. 3–8).

        Args:
            entropies: cross-entropies of the teacher and of the K sampled students.
            mutual_weight: β, 0 in stage one.
        """
        students = range(1, len(entropies))
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
        self.views = config.views
        self.rules = LossRules(config.kd_weight, config.detach_threshold, config.detach_at_threshold, config.detach_senior)

    def models(self) -> Sequence[PreTrainedModel]:
        """The teacher."""
        return [self.teacher]

    def passes(self, peer: int, batch: Mapping[str, Any], students: Sequence[Depth], mutual_weight: float) -> Passes:
        """L_ce + α·L_kd + β·L_ml of one micro-batch, summed over target tokens (AIO Eq. 1–8).

        In one view equal depths are one model: it counts as often as it was drawn, and its divergence from itself is zero.

        Args:
            peer: the lone one.
            batch: the micro-batch.
            students: the K sampled depths.
            mutual_weight: β, 0 in stage one.
        """
        return Passes(
            all_in_one_passes(self.teacher, students, self.views),
            lambda measured: self.rules.divergences(measured.cross_entropy, mutual_weight),
            training_figures,
        )


def all_in_one_passes(teacher: PreTrainedModel, students: Sequence[Depth], views: str) -> list[Pass]:
    """The teacher, then its students, in `shared`, `two` or `independent` views."""
    numbers = {"shared": 0, "two": 1}
    return [
        Pass(teacher, 1.0),
        *(Pass(teacher, 1.0, depth, numbers.get(views, number)) for number, depth in enumerate(students, 1)),
    ]


def training_figures(loss: JointLoss, tokens: int) -> dict[str, tuple[Tensor, float]]:
    """(sum, count) of the figures a user watches: losses per token and model, the share of detached students."""
    count = len(loss.cross_entropy) - 1
    detached = sum(not term.teacher_gradient for term in loss.terms[:count])
    figures = {
        "loss_teacher": (loss.cross_entropy[0], float(tokens)),
        "loss_students": (loss.cross_entropy[1:].sum(), float(count * tokens)),
        "loss_kd": (loss.divergences[:count].sum(), float(count * tokens)),
        "detach_rate": (loss.total.new_tensor(float(detached)), float(count)),
    }
    if len(loss.terms) > count:
        figures["loss_mutual"] = (loss.divergences[count:].sum(), float((len(loss.terms) - count) * tokens))
    return figures


def always_drawn(candidates: Sequence[Depth], named: Sequence[str] | None) -> list[Depth]:
    """The depths that are drawn for every update; the smallest candidate if nothing is named.

    Raises:
        TrainingError: one is no candidate.
    """
    if named is None:
        return [min(candidates, key=lambda depth: (depth.encoder + depth.decoder, depth.decoder))]
    found = list(dict.fromkeys(map(Depth.parse, named)))
    for depth in found:
        if depth not in candidates:
            raise TrainingError(f"always: {depth} is not among the candidates {', '.join(map(str, candidates))}")
    return found


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
        self.always = always_drawn(self.candidates, args.always)
        if not args.sample_with_replacement and args.num_students > len(self.candidates):
            raise TrainingError(
                f"num_students: {args.num_students} different students cannot be drawn from {len(self.candidates)} candidates"
            )
        if args.views != "independent" and (args.gradient_checkpointing or getattr(args, "activation_checkpointing", None)):
            raise TrainingError("views: activation checkpointing needs passes that share nothing; set views to independent")
        return AllInOneModel(teacher, args)

    def set_up(self) -> None:
        """Settles where the stages meet."""
        self.border = self.planned_border()
        if self.border is not None and self.lr_scheduler is not None and "scheduler" in self.args.stage2_reset:
            raise TrainingError("optimizers: a schedule of one's own cannot start anew; take scheduler out of stage2_reset")
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
        """The candidates and those that are always drawn, also where they follow from the teacher."""
        return {
            **super().deciding(),
            "candidates": list(map(str, self.candidates)),
            "always": list(map(str, self.always)),
        }

    def kept_when_extended(self) -> dict[str, Any]:
        """Where the stages meet."""
        return {"border": self.border}

    def take_identity(self, saved: Identity) -> None:
        """Keeps the border, also of a training that was made longer."""
        super().take_identity(saved)
        self.border = saved.kept["border"]

    def sample_students(self, key: int) -> list[Depth]:
        """K students: those of `always`, the others drawn uniformly (AIO §3.1), a function of the seed and `key` alone."""
        generator = random.Random(derive_seed(self.args.seed, "students", key))
        others = [depth for depth in self.candidates if depth not in self.always] or self.candidates
        count = self.args.num_students - len(self.always)
        drawn = generator.choices(others, k=count) if self.args.sample_with_replacement else generator.sample(others, count)
        return [*self.always, *drawn]

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

"""All-in-One KD: a teacher trained jointly with students that are its own first layers (AIO, EMNLP 2023)."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import EarlyStoppingCallback, PreTrainedModel, TrainerCallback
from transformers.trainer_utils import SchedulerType

from hf_paretokd.data.sampling import PairDataset
from hf_paretokd.errors import ModelError, TrainingError
from hf_paretokd.hub.card import MethodFacts
from hf_paretokd.losses import Divergence, JointLoss, Measured
from hf_paretokd.methods.consistency import ConsistencyConfig, SecondViews
from hf_paretokd.methods.papers import PACKAGE
from hf_paretokd.methods.students import LossRules, StudentsConfig, StudentsTrainer, all_in_one_passes, student_figures
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.files import model_folders
from hf_paretokd.models.joint import JointModel, Passes
from hf_paretokd.models.passes import Pass
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.training.checks import check_ranges, trial_schedule
from hf_paretokd.training.frozen import check_same_head, loaded_teacher, settle_teacher
from hf_paretokd.training.identity import Identity, weights_hash
from hf_paretokd.training.parts import lone

PRESETS: Mapping[str | None, Mapping[str, Any]] = {
    None: {"views": "shared", "kd_weight": 1.5, "mutual_start": 0.0},
    "paper": {"views": "independent", "kd_weight": 5.5, "mutual_start": 0.5, "always": []},
}
RESETS = ("optimizer", "scheduler", "best_metric")


@dataclass
class AllInOneConfig(StudentsConfig, ConsistencyConfig):
    """Configuration of All-in-One KD.

    Args:
        preset: `paper` is the paper's form: independent views, draws that are all uniform, and stage two from half-way, with
            α = 5.5 unless `kd_weight` says otherwise (the paper's α and β differ from task to task).
        always: depths drawn for every update, among the K; the others are drawn uniformly from the remaining candidates.
            Default: the smallest candidate; with the preset none.
        views: whether teacher and students look at a micro-batch in `shared` dropout masks, so that they share an encoder pass
            and decoder prefixes; in `two`, the teacher in one and all students in another; or each in one of its own
            (`independent`, as in the official code). Default: `shared`; with the preset `independent`.
        kd_weight: α, weight of the distillation loss (AIO Eq. 1, 7). Default: 1.5; with the preset 5.5.
        mutual_start: share of `max_steps` (both stages together) after which stage two begins from the best checkpoint of
            stage one and the mutual loss is added; 0 is one stage, with the mutual loss from the beginning, 1 never adds it.
            Default: 0; with the preset 0.5.
        stage2_reset: what starts anew with stage two: any of `optimizer`, `scheduler`, `best_metric`.
        anchor: folder or Hub id of a frozen model with the same vocabulary, such as the one that training begins with: teacher
            and students learn its probabilities as well, so that layers that were never exits find a way out.
        anchor_weight: γ, weight of the mean divergence from the anchor.
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
    views: str = None  # type: ignore[assignment]  # None, here and below: by the preset
    kd_weight: float = None  # type: ignore[assignment]
    mutual_start: float = None  # type: ignore[assignment]
    stage2_reset: list[str] = field(default_factory=lambda: ["optimizer", "scheduler"])
    anchor: str | None = None
    anchor_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise TrainingError(f"preset: {self.preset!r} is not {' or '.join(name for name in PRESETS if name)}")
        for name, value in PRESETS[self.preset].items():
            given = getattr(self, name)
            if self.preset and name != "kd_weight" and given not in (None, value):
                raise TrainingError(f"{name}: {given!r} was given, but preset {self.preset} has {value!r}; leave one out")
            setattr(self, name, value if given is None else given)
        super().__post_init__()

    def check(self) -> None:
        """Also of the stages."""
        super().check()
        if not 0 <= self.mutual_start <= 1:
            raise TrainingError(f"mutual_start: {self.mutual_start!r} is not between 0 and 1")
        check_ranges(self, {"anchor_weight": (0, math.inf)})
        if not set(self.stage2_reset) <= set(RESETS):
            raise TrainingError(f"stage2_reset: {self.stage2_reset!r} is not any of {', '.join(RESETS)}")
        if self.seqmix and self.anchor:
            raise TrainingError("seqmix, anchor: a frozen teacher has nothing to say of mixed sentences; leave one out")
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


class AllInOneModel(JointModel):
    """The teacher; its students are made of the same layers."""

    kind = "teacher"

    def __init__(self, teacher: PreTrainedModel, config: AllInOneConfig) -> None:
        super().__init__(config.label_smoothing_factor, config.label_smoothing_variant, round(config.loss_memory * 1e9))
        self.teacher = teacher
        self.depth = model_depth(teacher)
        self.views = config.views
        self.rules = LossRules(config.kd_weight, config.detach_threshold, config.detach_at_threshold, config.detach_senior)
        self.anchor_weight, self.seqmix = config.anchor_weight, config.seqmix
        self.second = SecondViews(config)
        self.anchors: list[PreTrainedModel] = []  # the frozen model, if there is one; no part of this, so that it is not saved

    def models(self) -> Sequence[PreTrainedModel]:
        """The teacher."""
        return [self.teacher]

    def passes(
        self,
        peer: int,
        batch: Mapping[str, Any],
        students: Sequence[Depth],
        mutual_weight: float,
        consistency_weight: float | None = None,
    ) -> Passes:
        """L_ce + α·L_kd + β·L_ml of one micro-batch, summed over target tokens (AIO Eq. 1–8).

        With an anchor, γ/(K+1)·Σ KL(anchor ‖ model) over the teacher and its students comes to it, and with a consistency
        loss that of each of them.

        In one view equal depths are one model: it counts as often as it was drawn, and its divergence from itself is zero.

        Args:
            peer: the lone one.
            batch: the micro-batch.
            students: the K sampled depths.
            mutual_weight: β, 0 in stage one.
            consistency_weight: of the divergences between views; default: as configured.
        """
        runs = all_in_one_passes(self.teacher, students, self.views)
        count = len(runs)
        others = [*self.second.of(runs), *(Pass(anchor, frozen=True) for anchor in self.anchors)]
        consistent, last = self.second.terms(count, count, consistency_weight), count + len(others) - 1
        anchored = [
            Divergence(last, model, self.anchor_weight / count, teacher_gradient=False)
            for model in range(count)
            if self.anchors
        ]

        def choose(measured: Measured) -> list[Divergence]:
            return [*self.rules.divergences(measured.cross_entropy[:count], mutual_weight), *anchored, *consistent]

        def figures(loss: JointLoss, tokens: int) -> dict[str, tuple[Tensor, float]]:
            inside = len(loss.terms) - len(anchored) - len(consistent)
            after = inside + len(anchored)
            family = replace(
                loss,
                cross_entropy=loss.cross_entropy[:count],
                terms=loss.terms[:inside],
                divergences=loss.divergences[:inside],
            )
            more = {"loss_anchor": (loss.divergences[inside:after].sum(), float(count * tokens))} if anchored else {}
            if consistent:
                more["loss_consistency"] = (loss.divergences[after:].sum(), float(count * tokens))
            return {**student_figures(family, tokens), **more}

        return Passes([*runs, *others], choose, figures)


class AllInOneTrainer(StudentsTrainer):
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
    shardable = True
    facts = MethodFacts(
        "All-in-One KD",
        tag="all-in-one-kd",
        prose="Trained with All-in-One knowledge distillation (Miao et al., EMNLP 2023), jointly with its teacher and all "
        "other depths.",
        papers=PACKAGE,
    )
    config_class = AllInOneConfig
    model: AllInOneModel

    def joint_model(self, models: Sequence[PreTrainedModel], args: Any) -> AllInOneModel:
        """The teacher, its students and their losses."""
        teacher = lone(models)
        self.settle_students(teacher, args)
        model = AllInOneModel(teacher, args)
        model.anchors = [loaded_teacher(name) for name in self.sources(args)]
        for anchor in model.anchors:
            check_same_head("anchor", args.anchor, anchor, teacher)
        return model

    @classmethod
    def sources(cls, args: Any) -> list[str]:
        """The anchor, if there is one."""
        found = model_folders(args.anchor) if args.anchor else []
        if len(found) > 1:
            raise ModelError(f"anchor: {args.anchor} has several models; name one, as {found[0]}")
        return found

    def deciding(self) -> dict[str, Any]:
        """Also the anchor, by its weights."""
        known = [weights_hash(anchor) for anchor in self.model.anchors]
        return {**super().deciding(), **({"anchor": known[0]} if known else {})}

    def set_up(self) -> None:
        """Settles where the stages meet, and what second views look at."""
        self.model.second.settle(self.processing_class)
        for anchor in self.model.anchors:
            settle_teacher("anchor", str(self.args.anchor), anchor, self.processing_class, self.args)
        self.border = self.planned_border()
        if self.border is not None and self.lr_scheduler is not None and "scheduler" in self.args.stage2_reset:
            raise TrainingError("optimizers: a schedule of one's own cannot start anew; take scheduler out of stage2_reset")
        self.add_callback(StageBorder(self))

    @property
    def summed_losses(self) -> int:
        """Those of the teacher and of K students, in one view or two."""
        return super().summed_losses * self.args.summed_views

    def training_data(self) -> PairDataset:
        """Perhaps in cipher, too."""
        return self.model.second.data(super().training_data(), self.processing_class, self.model.config)

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

    def kept_when_extended(self) -> dict[str, Any]:
        """Where the stages meet."""
        return {"border": self.border}

    def take_identity(self, saved: Identity) -> None:
        """Keeps the border, also of a training that was made longer."""
        super().take_identity(saved)
        self.border = saved.kept["border"]

    def joint_arguments(self, number: int, batches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The sampled students, β once stage two has begun, and α between views."""
        start = self.args.max_steps if self.args.mutual_start == 1 else self.border or 0
        return {
            "students": self.drawn(number),
            "mutual_weight": self.args.mutual_weight if self.state.global_step >= start else 0.0,
            "consistency_weight": self.args.alpha_after(self.state.global_step),
        }

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
        self.state.max_steps = shorter.decides["max_steps"]
        self.plan_updates(self.state.max_steps)
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

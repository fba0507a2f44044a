"""Students that are the first layers of a model: which are drawn, how they are run, what they learn (AIO, EMNLP 2023)."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from hf_paretokd.data.seeds import derive_seed
from hf_paretokd.errors import TrainingError
from hf_paretokd.losses import Divergence, JointLoss
from hf_paretokd.models.depth import Depth, candidate_depths
from hf_paretokd.models.passes import Pass
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.training.trainer import TranslationTrainer

DRAWS = ("update", "micro_batch")
VIEWS = ("shared", "two", "independent")


@dataclass
class StudentsConfig(TranslationConfig):
    """What methods with students have in common.

    Args:
        num_students: K students sampled for every update.
        candidates: depths such as `["6-6", "6-2", "2-2"]` to sample from; default: all 1 < decoder ≤ encoder (AIO §3.1).
        always: depths drawn for every update, among the K; the others are drawn uniformly from the remaining candidates.
            Default: the smallest candidate.
        views: whether teacher and students look at a micro-batch in `shared` dropout masks, so that they share an encoder pass
            and decoder prefixes; in `two`, the teacher in one and all students in another; or each in one of its own
            (`independent`, as in the official code).
        kd_weight: α, weight of the distillation loss (AIO Eq. 1, 7).
        mutual_weight: β, weight of the mutual loss (AIO Eq. 1, 8); 0 is the ablation without mutual learning.
        detach_threshold: η; a student whose cross-entropy exceeds η times the teacher's does not move the teacher through
            the distillation loss (AIO Eq. 6); `inf` is the ablation without detaching.
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
        **TranslationConfig.SIGNED,
    }

    num_students: int = 2
    candidates: list[str] | None = None
    always: list[str] | None = None  # None: the smallest candidate
    views: str = "shared"
    kd_weight: float = 1.5
    mutual_weight: float = 0.5
    detach_threshold: float = 1.1
    detach_at_threshold: bool = False
    sample_with_replacement: bool = True
    students_per: str = "update"
    detach_senior: bool = False

    def __post_init__(self) -> None:
        for name in ("candidates", "always"):  # which may be depths, too
            if isinstance(named := getattr(self, name), list | tuple):
                setattr(self, name, list(map(str, named)))
        super().__post_init__()

    def check(self) -> None:
        """Also of the students."""
        super().check()
        checks = {
            "views": (self.views in VIEWS, f"one of {', '.join(VIEWS)}"),
            "always": (len(self.always or []) <= self.num_students, f"at most {self.num_students} depths, as num_students"),
            "num_students": (self.num_students >= 1, "at least 1"),
            "kd_weight": (0 <= self.kd_weight < math.inf, "0 or more"),
            "mutual_weight": (0 <= self.mutual_weight < math.inf, "0 or more"),
            "detach_threshold": (self.detach_threshold >= 0, "0 or more, inf for never"),
            "students_per": (self.students_per in DRAWS, " or ".join(DRAWS)),
        }
        for name, (fine, wanted) in checks.items():
            if not fine:
                raise TrainingError(f"{name}: {getattr(self, name)!r} is not {wanted}")


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


def all_in_one_passes(teacher: PreTrainedModel, students: Sequence[Depth], views: str) -> list[Pass]:
    """The teacher, then its students, in `shared`, `two` or `independent` views."""
    numbers = {"shared": 0, "two": 1}
    return [
        Pass(teacher, 1.0),
        *(Pass(teacher, 1.0, depth, numbers.get(views, number)) for number, depth in enumerate(students, 1)),
    ]


def student_figures(loss: JointLoss, tokens: int) -> dict[str, tuple[Tensor, float]]:
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


class StudentsTrainer(TranslationTrainer):
    """A trainer that draws students for every update; `settle_students` is called before its joint model is made."""

    args: Any

    def settle_students(self, teacher: PreTrainedModel, args: Any) -> None:
        """Settles what is drawn from.

        Raises:
            ModelError, TrainingError: the depths do not fit the model, or there are too few.
        """
        self.candidates = candidate_depths(model_depth(teacher), args.candidates)
        self.always = always_drawn(self.candidates, args.always)
        if not args.sample_with_replacement and args.num_students > len(self.candidates):
            raise TrainingError(
                f"num_students: {args.num_students} different students cannot be drawn from {len(self.candidates)} candidates"
            )
        if args.views != "independent" and (args.gradient_checkpointing or getattr(args, "activation_checkpointing", None)):
            raise TrainingError("views: activation checkpointing needs passes that share nothing; set views to independent")

    @property
    def summed_losses(self) -> int:
        """Those of the teacher and of K students."""
        return self.args.num_students + 1

    def deciding(self) -> dict[str, Any]:
        """The candidates and those that are always drawn, also where they follow from the teacher."""
        return {
            **super().deciding(),
            "candidates": list(map(str, self.candidates)),
            "always": list(map(str, self.always)),
        }

    def sample_students(self, key: int) -> list[Depth]:
        """K students: those of `always`, the others drawn uniformly (AIO §3.1), a function of the seed and `key` alone."""
        generator = random.Random(derive_seed(self.args.seed, "students", key))
        others = [depth for depth in self.candidates if depth not in self.always] or self.candidates
        count = self.args.num_students - len(self.always)
        drawn = generator.choices(others, k=count) if self.args.sample_with_replacement else generator.sample(others, count)
        return [*self.always, *drawn]

    def drawn(self, number: int) -> list[Depth]:
        """The students of micro-batch `number`."""
        return self.sample_students(self.state.global_step if self.args.students_per == "update" else number)

    def validation_depths(self) -> Sequence[Depth]:
        """All candidates (AIO Eq. 9)."""
        return self.candidates

    student_depths = validation_depths

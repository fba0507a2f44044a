"""A model that is taught by frozen teachers, one for each language pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from hf_paretokd.errors import TrainingError
from hf_paretokd.losses import Divergence, JointLoss, Measured
from hf_paretokd.models.files import model_folders
from hf_paretokd.models.joint import JointModel, Passes
from hf_paretokd.models.passes import Pass
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.training.frozen import check_same_head, loaded_teacher, settle_teacher
from hf_paretokd.training.identity import weights_hash
from hf_paretokd.training.trainer import TranslationTrainer

STUDENT, TEACHER = 0, 1  # positions of the passes


class TaughtModel(JointModel):
    """A student; `teachers` are no part of it, so that they are neither trained nor saved.

    Args:
        student: the model that is trained.
        config: its configuration.
        entropy_weight: factor on its cross-entropy where a pair has a teacher; without one it is 1.
        kd_weight: factor on the divergence from the teacher.
        cross_entropy: whether the divergence is −Σ p_t·log p_s instead of KL, which has the same gradient.
    """

    kind = "model"
    constant = True  # whether all tokens count alike, so that nothing has to be known before

    def __init__(
        self,
        student: PreTrainedModel,
        config: TranslationConfig,
        entropy_weight: float,
        kd_weight: float,
        cross_entropy: bool = False,
    ) -> None:
        super().__init__(config.label_smoothing_factor, config.label_smoothing_variant, round(config.loss_memory * 1e9))
        self.student = student
        self.entropy_weight, self.kd_weight, self.cross_entropy = entropy_weight, kd_weight, cross_entropy
        self.teachers: dict[str, PreTrainedModel] = {}  # by language pair

    def models(self) -> Sequence[PreTrainedModel]:
        """The student."""
        return [self.student]

    def token_weights(self, measured: Measured) -> Tensor:
        """Factor on the divergence of every token [tokens], beside `kd_weight`."""
        raise NotImplementedError

    def passes(self, peer: int, batch: Mapping[str, Any]) -> Passes:
        """(entropy weight)·CE + (kd weight)·Σ_tokens (token's weight)·KL(teacher ‖ student) of one micro-batch."""
        teacher = self.teachers.get(batch["pair"])
        if teacher is None or not self.kd_weight:
            return Passes([Pass(self.student, 1.0 if teacher is None else self.entropy_weight)], (), training_figures)

        def term(weight: float | Tensor) -> list[Divergence]:
            return [Divergence(TEACHER, STUDENT, weight, teacher_gradient=False, cross_entropy=self.cross_entropy)]

        def choose(measured: Measured) -> list[Divergence]:
            return term(self.token_weights(measured) * self.kd_weight)

        runs = [Pass(self.student, self.entropy_weight), Pass(teacher, frozen=True)]
        return Passes(runs, term(self.kd_weight) if self.constant else choose, training_figures)


def training_figures(loss: JointLoss, tokens: int) -> dict[str, tuple[Tensor, float]]:
    """Without weights: the cross-entropy without label smoothing, and the divergence from the teachers there are."""
    return {"nll": (loss.nll[STUDENT], float(tokens)), "loss_kd": (loss.divergences.sum(), float(tokens * len(loss.terms)))}


@dataclass
class TeachersConfig(TranslationConfig):
    """What methods with teachers that are named have in common.

    Args:
        teachers: folders or Hub ids of the teachers: a run, a model of a run such as `runs/x/peers/2`, or a checkpoint. Of
            several (a list, or a run with peers) the best on each language pair's validation text teaches that pair; a
            mapping from pairs to teachers says which does.
    """

    teachers: list[str] | dict[str, str] = field(default_factory=list)

    def check(self) -> None:
        """Also that there are some."""
        super().check()
        if not self.teachers:
            raise TrainingError("teachers: none is named; give the folder of a run or model, or a Hub id")


class TeachersTrainer(TranslationTrainer):
    """A trainer with teachers that are named; it loads them when its joint model is made and settles them in `set_up`."""

    args: Any

    @classmethod
    def sources(cls, args: Any) -> list[str]:
        """The teachers."""
        named = args.teachers.values() if isinstance(args.teachers, dict) else args.teachers
        return list(dict.fromkeys(folder for name in named for folder in model_folders(name)))

    def load_teachers(self, args: Any, student: PreTrainedModel) -> None:
        """Loads all teachers.

        Raises:
            ModelError: one is missing, or has another vocabulary than the student.
        """
        self.loaded = {name: loaded_teacher(name) for name in self.sources(args)}
        for name, teacher in self.loaded.items():
            check_same_head("teachers", name, teacher, student)

    def settle_teachers(self) -> None:
        """Puts the teachers where the training is, and settles who teaches which pair."""
        for name, teacher in self.loaded.items():
            settle_teacher("teachers", name, teacher, self.processing_class, self.args)
        self.teacher_names = self.chosen_teachers()

    def chosen_teachers(self) -> dict[str, str]:
        """The teacher of every pair.

        Raises:
            TrainingError, DataError: a pair has none, or no validation text to choose by.
        """
        args, pairs = self.args, list(self.train_pairs)
        if isinstance(args.teachers, dict):
            for pair in pairs:
                if pair not in args.teachers:
                    raise TrainingError(f"teachers: {pair} has none; name one, or give a list to choose from")
            found = {pair: model_folders(args.teachers[pair]) for pair in pairs}
            for pair, folders in found.items():
                if len(folders) > 1:
                    raise TrainingError(f"teachers: {args.teachers[pair]} has several models; name one, as {folders[0]}")
            return {pair: folders[0] for pair, folders in found.items()}
        if len(self.loaded) == 1:
            return dict.fromkeys(pairs, next(iter(self.loaded)))
        self.check_validated()
        losses = {name: self.pair_losses(teacher, [model_depth(teacher)]) for name, teacher in self.loaded.items()}
        return {pair: min(losses, key=lambda name: losses[name][pair]) for pair in pairs}

    def deciding(self) -> dict[str, Any]:
        """The teachers, by their weights."""
        known = {name: weights_hash(teacher) for name, teacher in self.loaded.items()}
        return {**super().deciding(), "teachers": {pair: known[name] for pair, name in self.teacher_names.items()}}

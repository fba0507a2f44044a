"""A model that is taught by frozen teachers, one for each language pair."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from hf_paretokd.losses import Divergence, JointLoss, Measured
from hf_paretokd.models.joint import JointModel, Passes
from hf_paretokd.models.passes import Pass
from hf_paretokd.training.arguments import TranslationConfig

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

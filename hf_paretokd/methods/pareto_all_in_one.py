"""Both at once: peers on different language mixes, each the teacher of its own first layers, teach each other pair by pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from hf_paretokd.errors import TrainingError
from hf_paretokd.hub.card import MethodFacts
from hf_paretokd.losses import Divergence, JointLoss, Measured
from hf_paretokd.methods.papers import PACKAGE
from hf_paretokd.methods.pareto_mutual import ParetoMutualConfig, ParetoMutualModel, ParetoMutualTrainer, check_models
from hf_paretokd.methods.students import LossRules, StudentsConfig, StudentsTrainer, all_in_one_passes, student_figures
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.joint import Passes
from hf_paretokd.models.slicing import model_depth


@dataclass
class ParetoAllInOneConfig(StudentsConfig, ParetoMutualConfig):
    """Configuration of Pareto mutual distillation between All-in-One teachers.

    Every peer i has the loss (1−α_i[ℓ])·CE_i + α_i[ℓ]·KD of PMD Eq. 3–4 at full depth, where the other peers teach it, plus
    what its K students add: Σ_k CE_k, the distillation loss from peer i to them, the mutual loss between them (AIO Eq. 1–8).
    With the full depth alone as candidate there are no students, and it is Pareto mutual distillation; where every α is 0 each
    peer is trained as by All-in-One KD with one stage.

    Args:
        candidates: depths of the students; the full depth, which every peer has anyway, is not drawn. Default: all
            1 < decoder ≤ encoder.
    """

    SIGNED: ClassVar[dict[str, str]] = {**StudentsConfig.SIGNED, **ParetoMutualConfig.SIGNED, "distillation_weight": "peers"}

    temperatures: list[float] = field(default_factory=lambda: [1.0, 5.0])

    def check(self) -> None:
        """Also that students are drawn for whole updates, which searches try."""
        super().check()
        if self.students_per != "update":
            raise TrainingError("students_per: peers and their searches share the students of an update; set it to update")


class ParetoAllInOneModel(ParetoMutualModel):
    """All peers; their students are made of the same layers."""

    def __init__(self, peers: Sequence[PreTrainedModel], config: ParetoAllInOneConfig) -> None:
        super().__init__(peers, config)
        self.loss_memory = round(config.loss_memory * 1e9)
        self.views = config.views
        self.rules = LossRules(config.kd_weight, config.detach_threshold, config.detach_at_threshold, config.detach_senior)

    def passes(  # type: ignore[override]  # with students beside the weights
        self,
        peer: int,
        batch: Mapping[str, Any],
        weights: Sequence[float | None],
        students: Sequence[Depth],
        mutual_weight: float,
    ) -> Passes:
        """The loss of one micro-batch of a peer: as of the peers (PMD Eq. 3–4) and of its students (AIO Eq. 1–8).

        Args:
            peer: whose micro-batch it is.
            batch: a micro-batch of one language pair.
            weights: α of the batch's pair, one a peer.
            students: the sampled depths.
            mutual_weight: β.
        """
        among_peers = super().passes(peer, batch, weights)
        if not students:
            return among_peers
        own, *others = among_peers.passes
        _, *mine = all_in_one_passes(self._peers[peer], students, self.views)
        count = len(mine)

        def choose(measured: Measured) -> list[Divergence]:
            family = self.rules.divergences(measured.cross_entropy[: count + 1], mutual_weight)
            taught: Sequence[Divergence] = among_peers.divergences  # type: ignore[assignment]  # these are fixed
            return [*family, *(replace(term, teacher=term.teacher + count) for term in taught)]

        def figures(loss: JointLoss, tokens: int) -> dict[str, tuple[Tensor, float]]:
            inside = sum(1 for term in loss.terms if not term.cross_entropy)
            family = replace(
                loss,
                cross_entropy=loss.cross_entropy[: count + 1],
                terms=loss.terms[:inside],
                divergences=loss.divergences[:inside],
            )
            between = replace(loss, terms=loss.terms[inside:], divergences=loss.divergences[inside:])
            return {**student_figures(family, tokens), **among_peers.figures(between, tokens)}

        return Passes([own, *mine, *others], choose, figures)


class ParetoAllInOneTrainer(StudentsTrainer, ParetoMutualTrainer):
    """Trains peers that teach each other, and the students of each; arguments as `ParetoMutualTrainer`.

    Every depth of every peer comes out as a plain checkpoint, in `peers/N/students/E-D`.

    ```python
    peers = [build_model(shape, tokenizer, seed) for seed in (1, 2)]
    trainer = ParetoAllInOneTrainer(peers, ParetoAllInOneConfig(output_dir="runs/both", temperatures=[1.0, 5.0]),
                                    train_dataset=train, eval_dataset=validation, processing_class=tokenizer)
    trainer.train()
    ```
    """

    args: ParetoAllInOneConfig
    method = "pareto_all_in_one"
    facts = MethodFacts(
        "Pareto mutual distillation with All-in-One KD",
        tag="pareto-all-in-one",
        prose="Trained with Pareto mutual distillation (Huang et al., ACL 2023) between teachers that are trained jointly with "
        "students of all depths (All-in-One KD, Miao et al., EMNLP 2023).",
        papers=PACKAGE,
    )
    config_class = ParetoAllInOneConfig

    def joint_model(self, models: Sequence[PreTrainedModel], args: Any) -> ParetoAllInOneModel:
        """The peers, their students and their losses."""
        check_models(models, len(args.temperatures))
        self.full = model_depth(models[0])
        self.settle_students(models[0], args)
        return ParetoAllInOneModel(models, args)

    def settle_students(self, teacher: PreTrainedModel, args: Any) -> None:
        """Leaves the full depth, which every peer has, out of the draws."""
        super().settle_students(teacher, args)
        self.scored = self.candidates
        self.candidates = tuple(depth for depth in self.candidates if depth != self.full)
        self.always = [depth for depth in self.always if depth != self.full]

    @property
    def summed_losses(self) -> int:
        """Those of the peer and of its students."""
        return super().summed_losses if self.candidates else 1

    def weighted_arguments(
        self, batches: Sequence[Mapping[str, Any] | None], weights: Sequence[Mapping[str, float] | None]
    ) -> dict[str, Any]:
        """The weight of each batch's pair, and the students of the update."""
        students = self.sample_students(self.state.global_step) if self.candidates else []
        found = super().weighted_arguments(batches, weights)
        return {**found, "students": students, "mutual_weight": self.args.mutual_weight}

    def validation_depths(self) -> Sequence[Depth]:
        """Those of the students, and the full one (AIO Eq. 9)."""
        return tuple(sorted({*self.scored, self.full}))

    def student_depths(self) -> Sequence[Depth]:
        """The same, if there are students."""
        return self.validation_depths() if self.candidates else ()

    def decision_depths(self) -> Sequence[Depth]:
        """The full one, at which the peers teach each other."""
        return (self.full,)

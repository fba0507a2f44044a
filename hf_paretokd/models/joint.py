"""The module that the trainers wrap: all models of a training and one forward that computes their losses."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from hf_paretokd.losses import LOSS_MEMORY, Choice, Divergence, JointLoss, Measured, TopTargets, joint_loss
from hf_paretokd.models.member import Member
from hf_paretokd.models.mixing import Mixing
from hf_paretokd.models.passes import Pass, distinct, run_passes
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.models.states import target_tokens

Figures = Mapping[str, tuple[Tensor, float]]  # (sum, count) by name


@dataclass
class Passes:
    """What a method computes of one micro-batch of one peer.

    Args:
        passes: what is run, each with the factor on its cross-entropy; equal passes are run once and count as often as they
            are named.
        divergences: the terms between passes, named by position, as `joint_loss` takes them.
        figures: from the losses and the number of target tokens the figures to log; the names must be the same in all
            processes, because all add them up together.
        top: what a teacher's best entries teach the first pass.
    """

    passes: Sequence[Pass]
    divergences: Sequence[Divergence] | Choice
    figures: Callable[[JointLoss, int], Figures]
    top: TopTargets | None = None


class JointModel(nn.Module):
    """Base of the modules given to accelerate; a method says which models there are and which `passes` are run.

    All passes of a micro-batch happen inside one `forward`: outside it there is no autocast, and DistributedDataParallel
    would drop gradients without a word.

    Args:
        smoothing: label smoothing ε.
        smoothing_variant: `torch` or `fairseq`, see `losses.effective_smoothing`.
        loss_memory: bytes that the log-probabilities of a micro-batch may take.

    `seqmix`, if it is not 0, is a of SeqMix (see `Mixing`): all passes look at the same mixed text.
    """

    seqmix = 0.0
    kind: ClassVar[str]  # of the members that the models are

    def __init__(self, smoothing: float, smoothing_variant: str, loss_memory: int = LOSS_MEMORY) -> None:
        super().__init__()
        self.smoothing, self.smoothing_variant, self.loss_memory = smoothing, smoothing_variant, loss_memory

    @abstractmethod
    def models(self) -> Sequence[PreTrainedModel]:
        """The plain models, one a peer; a lone model is a lone peer."""

    @abstractmethod
    def passes(self, peer: int, batch: Mapping[str, Any], *arguments: Any, **named: Any) -> Passes:
        """What is computed of a micro-batch of a peer (counted from 0); the arguments are those of `forward`."""

    def forward(
        self, batches: Sequence[Mapping[str, Any] | None], seeds: Sequence[int | None], *arguments: Any, **named: Any
    ) -> dict[str, Any]:
        """The losses of one micro-batch of every peer.

        Args:
            batches: one a peer, each of one language pair; None for a peer that stands still.
            seeds: of the dropout, one a peer.
            arguments, named: what the method's trainer adds (see `TranslationTrainer.joint_arguments`).

        Returns:
            Token sums, never logits: `losses` [peers], each to be divided by its peer's target tokens of the whole update;
            `cross_entropies` [peers] of the whole models alone, and `logs`, a dictionary of [sum, count] pairs, both detached.
        """
        losses, entropies, logs = [], [], {}
        for peer, (batch, seed) in enumerate(zip(batches, seeds, strict=True)):
            if batch is None or seed is None:
                losses.append(next(self.parameters()).new_zeros(()))
                entropies.append(losses[-1].detach())
                continue
            torch.manual_seed(seed)
            if self.seqmix:
                labels = batch["labels"]
                batch = {**batch, "mixing": Mixing.drawn(len(labels), self.seqmix, labels.device)}
            passes, targets = self.passes(peer, batch, *arguments, **named), target_tokens(batch)
            loss = self.loss(passes, batch, targets)
            losses.append(loss.total)
            entropies.append(loss.cross_entropy[0])
            prefix = f"peer{peer + 1}_" if len(batches) > 1 else ""
            for name, (total, count) in passes.figures(loss, targets.numel()).items():
                logs[prefix + name] = torch.stack([total.detach(), total.new_tensor(float(count))])
        return {"losses": torch.stack(losses), "cross_entropies": torch.stack(entropies), "logs": logs}

    def loss(self, passes: Passes, batch: Mapping[str, Any], targets: Tensor) -> JointLoss:
        """The losses of a micro-batch, with figures of every pass as it was named."""
        runs, places = distinct(passes.passes)
        states, heads = zip(*run_passes(runs, batch), strict=True)
        terms = passes.divergences

        def placed(named: Sequence[Divergence]) -> list[Divergence]:
            return [replace(term, teacher=places[term.teacher], student=places[term.student]) for term in named]

        def choose(measured: Measured) -> list[Divergence]:
            every = Measured([measured.cross_entropy[place] for place in places], measured.nll[places])
            return placed(terms(every) if callable(terms) else terms)

        found = joint_loss(
            states,
            heads,
            targets,
            self.smoothing,
            [each.weight for each in runs],
            choose if callable(terms) else placed(terms),
            self.smoothing_variant,
            self.loss_memory,
            batch["mixing"].targets(batch["labels"]) if "mixing" in batch else None,
            passes.top,
        )
        return replace(found, cross_entropy=found.cross_entropy[places], nll=found.nll[places])

    def members(self) -> Iterator[tuple[Member, PreTrainedModel]]:
        """The plain models with their names."""
        models = self.models()
        for number, model in enumerate(models, 1):
            yield Member(self.kind, model_depth(model), number if len(models) > 1 else None), model

    def named_models(self) -> Iterator[tuple[str, PreTrainedModel]]:
        """The plain models, each with its folder inside a run or checkpoint, such as `teacher` or `peers/1`."""
        for member, model in self.members():
            yield member.folder, model

    def activation_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Has the layers of all models compute their activations again rather than keep them; as transformers' models do."""
        for model in self.models():
            enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
            enable(*args, **kwargs)

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """The same, by the name that older versions have for it."""
        self.activation_checkpointing_enable(*args, **kwargs)

    @property
    def main_model(self) -> PreTrainedModel:
        """The first model, whose configuration speaks for all."""
        return self.models()[0]

    @property
    def config(self) -> PreTrainedConfig:
        """Configuration of the main model; the Trainer reads and aligns it."""
        return self.main_model.config

    @property
    def generation_config(self) -> GenerationConfig | None:
        """Generation configuration of the main model."""
        return self.main_model.generation_config

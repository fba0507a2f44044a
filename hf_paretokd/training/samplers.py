"""Samplers that learn: from which language pairs a peer draws next, by what its model does with them.

Each decides for all processes alike, after every so many updates: by seeds of its own, in sums over processes.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from hf_paretokd.data.batches import IGNORED, PairBatches
from hf_paretokd.data.sampling import MicroBatch, PairDataset, build_pair_batches
from hf_paretokd.data.seeds import derive_seed
from hf_paretokd.errors import ModelError, TrainingError
from hf_paretokd.losses import joint_loss
from hf_paretokd.models.files import model_folders
from hf_paretokd.models.head import output_head
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.models.states import depth_states, target_tokens
from hf_paretokd.training.frozen import check_same_head, loaded_teacher, settle_teacher
from hf_paretokd.training.identity import weights_hash
from hf_paretokd.training.shares import chi_square_shares, scored, uncertainty
from hf_paretokd.training.validation import validation_sums

if TYPE_CHECKING:
    from hf_paretokd.training.trainer import TranslationTrainer

KEPT = 0.9  # of a moving average, an update
BASELINE_ROWS = 2000  # of each pair


class Sampler:
    """What decides on the pairs of one peer.

    Args:
        trainer: everything of it stands.
        peer: counted from 0.
    """

    kind: ClassVar[str]
    usual: ClassVar[int]  # updates between two decisions

    def __init__(self, trainer: "TranslationTrainer", peer: int) -> None:
        self.trainer, self.peer = trainer, peer
        self.pairs = list(trainer.train_pairs)
        self.sizes = [float(trainer.text.streams[peer].pairs[name].sentences or 0) for name in self.pairs]
        self.interval = trainer.args.sampler_interval or self.usual
        self.data = PairDataset({**trainer.train_pairs}, trainer.model.config.pad_token_id)

    @property
    def model(self) -> PreTrainedModel:
        """The peer's whole model."""
        return self.trainer.model.models()[self.peer]

    def saw(self, sums: Tensor) -> None:
        """Takes in (cross-entropy, tokens) [pairs, 2] of an update."""

    def decide(self, update: int) -> list[float]:
        """P(ℓ) from the next update on."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep, as JSON."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a state."""

    def in_turn(self, measure: Callable[[str], Any]) -> dict[str, Any]:
        """What this process finds of its share of the pairs; their sums over processes are for the caller to take."""
        rank, processes = self.trainer.args.process_index, self.trainer.args.world_size
        return {name: measure(name) for number, name in enumerate(self.pairs) if number % processes == rank}

    def batch(self, data: PairDataset, batches: PairBatches, name: str, *keys: int | str) -> dict[str, Any]:
        """A random micro-batch of a pair, where the model is."""
        found = batches.in_order()
        rows = found[derive_seed(self.trainer.args.seed, self.peer, *keys, name) % len(found)]
        (batch,) = self.trainer.on_device({"batches": [data.fetch(MicroBatch(0, name, rows))]})["batches"]
        return batch


class ChiSquare(Sampler):
    """χ-IBR: pairs whose loss exceeds that of a finished plain training by more are drawn more often, within a χ² ball.

    Their losses are moving averages over the updates of a pass, of what training sees.
    """

    kind, usual = "chi_ibr", 0

    def __init__(self, trainer: "TranslationTrainer", peer: int) -> None:
        super().__init__(trainer, peer)
        self.interval = trainer.args.sampler_interval or math.ceil(trainer.text.updates_per_pass)
        self.baseline = trainer.baseline_losses
        self.averages = torch.full((len(self.pairs),), math.nan, dtype=torch.float64)

    def saw(self, sums: Tensor) -> None:
        """ℓ̂ ← 0.9·ℓ̂ + 0.1·ℓ for the pairs of the update; the first ℓ is taken as it is."""
        new = sums[:, 0] / sums[:, 1]
        known = torch.where(self.averages.isnan(), new, KEPT * self.averages + (1 - KEPT) * new)
        self.averages = torch.where(sums[:, 1] > 0, known, self.averages)

    def decide(self, update: int) -> list[float]:
        """`chi_square_shares` of the losses beyond the baseline; averages begin anew."""
        losses, baseline = self.averages.clone(), torch.tensor(self.baseline, dtype=torch.float64)
        self.averages = torch.full_like(losses, math.nan)
        excess = torch.where(losses.isnan(), 0.0, losses - baseline)  # of a pair that was not drawn nothing is known
        if (excess < 0).all():
            excess = losses
        return chi_square_shares(self.sizes, excess.tolist(), self.trainer.args.sampler_radius)

    def state_dict(self) -> dict[str, Any]:
        """The averages; None for pairs that were not seen yet."""
        return {"averages": [None if math.isnan(each) else each for each in self.averages.tolist()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes them up."""
        found = [math.nan if each is None else each for each in state["averages"]]
        self.averages = torch.tensor(found, dtype=torch.float64)


class ScoredSampler(Sampler):
    """P(ℓ) = softmax(ψ), ψ moved by rewards; it begins as the peer's temperature has it."""

    def __init__(self, trainer: "TranslationTrainer", peer: int) -> None:
        super().__init__(trainer, peer)
        trainer.check_validated()
        start = trainer.text.streams[peer].distribution.probabilities(trainer.text.states[peer])
        self.scores = [math.log(start[name]) for name in self.pairs]

    def rewards(self, update: int) -> list[float]:
        """Of each pair."""
        raise NotImplementedError

    def decide(self, update: int) -> list[float]:
        """softmax(ψ) after ψ has followed the rewards."""
        self.scores = scored(self.scores, self.rewards(update))
        return F.softmax(torch.tensor(self.scores, dtype=torch.float64), dim=0).tolist()

    def state_dict(self) -> dict[str, Any]:
        """ψ."""
        return {"scores": self.scores}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes it up."""
        self.scores = state["scores"]

    def summed(self, mine: Mapping[str, float]) -> list[float]:
        """Figures of all pairs, of which every process found some."""
        return self.trainer.in_all([mine.get(name, 0.0) for name in self.pairs])


class Uncertainty(ScoredSampler):
    """MultiUAT: pairs of whose validation text the model is less certain, in passes with dropout, are drawn more often."""

    kind, usual = "multi_uat", 2000

    def rewards(self, update: int) -> list[float]:
        """The uncertainty of one micro-batch of each pair's validation text, on average over K passes."""
        trainer, args = self.trainer, self.trainer.args
        data, model = PairDataset(trainer.eval_pairs, trainer.model.config.pad_token_id), self.model

        def measure(name: str) -> float:
            batch, found = self.batch(data, trainer.eval_batches[name], name, "uncertainty", update), []
            lengths = (batch["labels"] != IGNORED).sum(1).tolist()
            for turn in range(args.sampler_passes):
                torch.manual_seed(derive_seed(args.seed, self.peer, "uncertainty", update, name, turn))
                with torch.no_grad(), trainer.accelerator.autocast():
                    ((_, states),) = depth_states(model, batch, [model_depth(model)])
                    head = output_head(model)
                    logits = F.linear(states * head.scale, head.matrix, head.bias)
                found.append(uncertainty(args.sampler_measure, F.log_softmax(logits.float(), dim=-1), lengths))
            return sum(found) / len(found)

        model.train()
        return self.summed(self.in_turn(measure))


class Alignment(ScoredSampler):
    """MultiDDS-S: pairs whose gradient points where those of the validation text of all pairs do are drawn more often."""

    kind, usual = "multi_dds", 1000

    def rewards(self, update: int) -> list[float]:
        """R_j = mean_i cos(g_i, h_j), g_i of validation and h_j of training text, a micro-batch each, with dropout.

        The mean of cosines with unit vectors is that with their sum, so that one sum of gradients is kept.
        """
        trainer = self.trainer
        validation, count = PairDataset(trainer.eval_pairs, trainer.model.config.pad_token_id), len(self.pairs)
        parameters = [each for each in self.model.parameters() if each.requires_grad]
        self.model.train()
        directions = torch.zeros(sum(each.numel() for each in parameters), device=parameters[0].device)

        def add(name: str) -> None:
            gradient = self.gradient(
                parameters, self.batch(validation, trainer.eval_batches[name], name, "dev", update), update
            )
            directions.add_(gradient / gradient.norm())

        def reward(name: str) -> float:
            text: Any = trainer.text.streams[self.peer].pairs[name]
            gradient = self.gradient(parameters, self.batch(self.data, text, name, "train", update), update)
            return float(directions @ gradient / gradient.norm() / count)

        self.in_turn(add)
        directions = trainer.accelerator.reduce(directions, reduction="sum")
        return self.summed(self.in_turn(reward))

    def gradient(self, parameters: Sequence[Tensor], batch: Mapping[str, Any], update: int) -> Tensor:
        """Of the smoothed cross-entropy of a micro-batch, as one vector."""
        args, model = self.trainer.args, self.model
        torch.manual_seed(derive_seed(args.seed, self.peer, "gradient", update, batch["pair"]))
        with self.trainer.accelerator.autocast():
            ((_, states),) = depth_states(model, batch, [model_depth(model)])
            smoothing = args.label_smoothing_factor
            variant = args.label_smoothing_variant
            targets = target_tokens(batch)
            loss = joint_loss([states], [output_head(model)], targets, smoothing, [1.0], smoothing_variant=variant)
        found = torch.autograd.grad(loss.total / len(targets), parameters, allow_unused=True)
        flat = [torch.zeros_like(each) if grad is None else grad for each, grad in zip(parameters, found, strict=True)]
        return torch.cat([each.flatten() for each in flat])


SAMPLERS: Mapping[str, type[Sampler]] = {each.kind: each for each in (ChiSquare, Uncertainty, Alignment)}


class Samplers(TrainerCallback):
    """The samplers of a training, one a peer; None where a peer draws by something that does not learn."""

    def __init__(self, trainer: "TranslationTrainer") -> None:
        self.trainer = trainer
        kinds = trainer.args.samplers or ["none"] * len(trainer.text.streams)
        self.rules = [None if kind == "none" else SAMPLERS[kind](trainer, peer) for peer, kind in enumerate(kinds)]
        self.seconds, self.noted = 0.0, torch.zeros(len(self.rules), len(trainer.train_pairs), 2, dtype=torch.float64)

    def note(self, batches: Sequence[Mapping[str, Any]], entropies: Tensor) -> None:
        """Takes in the cross-entropies [peers] of a micro-batch of each."""
        if not any(isinstance(rule, ChiSquare) for rule in self.rules):
            return
        for peer, (batch, entropy) in enumerate(zip(batches, entropies.tolist(), strict=True)):
            place = list(self.trainer.train_pairs).index(batch["pair"])
            tokens = int((batch["labels"] != IGNORED).sum())
            self.noted[peer, place] += torch.tensor([entropy, tokens], dtype=torch.float64)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Hands the losses of the update to the samplers, and has those decide whose turn it is."""
        trainer, start = self.trainer, time.perf_counter()
        if any(isinstance(rule, ChiSquare) for rule in self.rules):
            sums = torch.tensor(trainer.in_all(self.noted.flatten().tolist()), dtype=torch.float64).view_as(self.noted)
            self.noted.zero_()
            for rule, mine in zip(self.rules, sums, strict=True):
                if rule:
                    rule.saw(mine)
        for peer, rule in enumerate(self.rules):
            if rule is None or state.global_step % rule.interval or state.global_step >= args.max_steps:
                continue
            decided = dict(zip(rule.pairs, rule.decide(state.global_step), strict=True))
            distribution: Any = trainer.text.streams[peer].distribution
            distribution.change(state.global_step * trainer.text.micro_batches, decided)
        self.seconds += time.perf_counter() - start

    def state_dict(self) -> list[dict[str, Any]]:
        """Of every sampler."""
        return [rule.state_dict() if rule else {} for rule in self.rules]

    def load_state_dict(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Takes up what `state_dict` gave."""
        for rule, each in zip(self.rules, state, strict=True):
            if rule:
                rule.load_state_dict(each)


def baseline_losses(trainer: "TranslationTrainer", name: str) -> tuple[list[float], str]:
    """Smoothed cross-entropies a token of a finished plain model, on up to 2,000 rows of each pair's training text; its hash.

    Raises:
        ModelError: it is missing, is one of several, or has another vocabulary.
    """
    args, (name, *others) = trainer.args, model_folders(name)
    if others:
        raise ModelError(f"sampler_baseline: the run has several models; name one, as {name}")
    model = loaded_teacher(name)
    check_same_head("sampler_baseline", name, model, trainer.model.main_model)
    settle_teacher("sampler_baseline", name, model, trainer.processing_class, args)
    some = {
        pair: text.select(range(0, len(text), max(1, len(text) // BASELINE_ROWS))) for pair, text in trainer.train_pairs.items()
    }
    smoothing = (args.label_smoothing_factor, args.label_smoothing_variant)
    batches = build_pair_batches(some, args.max_tokens)
    with trainer.accelerator.autocast():
        depths = [model_depth(model)]
        sums = validation_sums(model, some, batches, depths, *smoothing, args.process_index, args.world_size)
    sums = trainer.accelerator.reduce(sums.to(args.device), reduction="sum").cpu()
    found: list[float] = (sums[:, 0, 0] / sums[:, 0, 2]).tolist()
    if not all(map(math.isfinite, found)):
        raise TrainingError(f"sampler_baseline: {name} has no finite loss on this text")
    return found, weights_hash(model)

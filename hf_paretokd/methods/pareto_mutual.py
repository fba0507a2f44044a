"""Pareto mutual distillation: peers trained on different language mixes teach each other (PMD, ACL 2023)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from hf_paretokd import checkpoints
from hf_paretokd.arguments import TranslationConfig
from hf_paretokd.errors import DataError, ModelError, TrainingError
from hf_paretokd.losses import Divergence, JointLoss, joint_loss
from hf_paretokd.models.head import output_head
from hf_paretokd.models.joint import JointModel, tallies
from hf_paretokd.models.states import last_states, target_tokens
from hf_paretokd.trainer import TranslationTrainer
from hf_paretokd.weighting.auto_official import OfficialAutomaticWeights
from hf_paretokd.weighting.rules import (
    HISTORY,
    AutomaticWeights,
    BidirectionalWeights,
    DynamicWeights,
    FixedWeights,
    UnidirectionalWeights,
    WeightRule,
    read_weights,
)
from hf_paretokd.weighting.trials import PeerTrials

STRATEGIES = ("uni", "bi", "auto", "dynamic", "vanilla", "lsmd", "fixed", "auto_official")
FROM_FILE = {"lsmd": "auto", "fixed": None}  # strategy: the rule whose run the file must come from
SEARCHES = ("auto", "dynamic", "auto_official")


@dataclass
class ParetoMutualConfig(TranslationConfig):
    """Configuration of Pareto mutual distillation.

    Args:
        temperatures: τ_i of the peers, one each; there are as many peers as temperatures, two or more (PMD Eq. 2).
        strategy: what sets the weights α_i[ℓ]: `uni` (PMD Eq. 5), `bi` (PMD Eq. 6), `auto` (PMD Alg. 2), `dynamic` (one action
            for all pairs, PMD App. G), `vanilla` (as `bi`, with equal temperatures, PMD §5.2), `lsmd` (the last weights of an
            `auto` run, PMD App. G), `fixed` (weights from a file), `auto_official` (the released code's AUTO-PMD).
        distillation_weight: α of `uni`, `bi` and `vanilla`.
        weights_file: for `fixed` a JSON or YAML file with a list `weights` of mappings from pairs to α, one a peer; for
            `lsmd` the folder of an `auto` run.
        update_interval: T, updates between two decisions of `uni` or searches; default: one epoch, the updates in which
            sampling at τ = 1 sees the corpus once.
        step_size: µ₀ of the searches (PMD Eq. 12).
        step_size_decay: µ = µ₀·√(max(0, 1 − decay·t/T_max)); 0, 0.8, 1.2 and 1 are the paper's schedules 1 to 4 (PMD Tab. 3).
        trial_share: ρ, share of an epoch that every trial of a search trains for.
        smoothed_validation: decide by cross-entropies with the label smoothing of training, as the official code does.
        teacher_dropout: leave the teachers' dropout on, as the official code does.
        warmup_without_kd: updates during which α counts as 0 and nothing is decided; 4 epochs in the official code.
        uni_tolerance: in nats per token; with it every peer learns a pair unless it is better than the worst other by more;
            0.05 bits = 0.0347 nats in the official code.
    """

    SIGNED: ClassVar[dict[str, str]] = {"strategy": "rule", "distillation_weight": "alpha", **TranslationConfig.SIGNED}

    temperatures: list[float] = field(
        default_factory=lambda: [1.0, 5.0], metadata={"help": "τ of the peers' sampling, one each (two or more)."}
    )
    strategy: str = field(default="auto", metadata={"help": f"How weights are set: {', '.join(STRATEGIES)}."})
    distillation_weight: float = field(default=0.4, metadata={"help": "α of uni, bi and vanilla."})
    weights_file: str | None = field(default=None, metadata={"help": "Weights for fixed; run folder for lsmd."})
    update_interval: int | None = field(default=None, metadata={"help": "T, updates between decisions (default: an epoch)."})
    step_size: float = field(default=1.0, metadata={"help": "µ₀ of the searches."})
    step_size_decay: float = field(default=1.0, metadata={"help": "µ = µ₀·√(1 − decay·t/T_max)."})
    trial_share: float = field(default=0.1, metadata={"help": "ρ, length of a trial as a share of an epoch."})
    smoothed_validation: bool = field(default=False, metadata={"help": "Decide by label-smoothed losses."})
    teacher_dropout: bool = field(default=False, metadata={"help": "Leave the teachers' dropout on."})
    warmup_without_kd: int = field(default=0, metadata={"help": "Updates before distillation begins."})
    uni_tolerance: float = field(default=0.0, metadata={"help": "Nats within which both peers learn (uni)."})

    def __post_init__(self) -> None:
        super().__post_init__()
        checks = {
            "strategy": (self.strategy in STRATEGIES, f"one of {', '.join(STRATEGIES)}"),
            "distillation_weight": (0 <= self.distillation_weight <= 1, "between 0 and 1"),
            "update_interval": (self.update_interval is None or self.update_interval >= 1, "1 or more"),
            "step_size": (self.step_size > 0, "positive"),
            "step_size_decay": (self.step_size_decay >= 0, "0 or more"),
            "trial_share": (0 < self.trial_share <= 1, "above 0 and at most 1"),
            "warmup_without_kd": (self.warmup_without_kd >= 0, "0 or more"),
            "uni_tolerance": (self.uni_tolerance >= 0, "0 or more"),
        }
        for name, (fine, wanted) in checks.items():
            if not fine:
                raise TrainingError(f"{name}: {getattr(self, name)!r} is not {wanted}")
        if self.strategy in FROM_FILE and not self.weights_file:
            raise TrainingError(f"weights_file: strategy {self.strategy} needs one")
        if self.strategy == "vanilla" and len(set(self.temperatures)) > 1:
            raise TrainingError("temperatures: strategy vanilla trains all peers at the same temperature; or take bi")
        if self.strategy == "auto_official" and len(self.temperatures) != 2:
            raise TrainingError("temperatures: strategy auto_official is for two peers")

    def check_peers(self) -> None:
        """Raises a TrainingError unless there are two or more temperatures."""
        if len(self.temperatures) < 2:
            raise TrainingError("temperatures: mutual distillation needs two or more peers, one temperature each")


class ParetoMutualModel(JointModel):
    """All peers; they are taught by each other as they were before the update.

    The paper updates the first peer and then lets the new one teach the second; here one optimizer updates all at once.
    """

    def __init__(self, peers: Sequence[PreTrainedModel], config: ParetoMutualConfig) -> None:
        super().__init__()
        self.peers = nn.ModuleList(peers)
        self.smoothing = (config.label_smoothing_factor, config.label_smoothing_variant)
        self.teacher_dropout = config.teacher_dropout

    def named_models(self) -> Iterator[tuple[str, PreTrainedModel]]:
        """The peers, in the folders `peers/1`, `peers/2` and so on."""
        for number, peer in enumerate(self.peers, 1):
            yield f"peers/{number}", peer

    def forward(
        self,
        batches: Sequence[Mapping[str, Any] | None],
        seeds: Sequence[int | None],
        weights: Sequence[float | None],
    ) -> dict[str, Tensor | dict[str, Tensor]]:
        """(1−α)·L_ce + α·L_kd of one micro-batch of every peer, summed over target tokens (PMD Eq. 3–4).

        Args:
            batches: one a peer, each of one language pair; None for a peer that stands still.
            seeds: of the dropout, one a peer.
            weights: α of the batch's pair, one a peer; where it is 0 no teacher is asked.
        """
        losses, logs = [], {}
        for place, (batch, seed, weight) in enumerate(zip(batches, seeds, weights, strict=True)):
            if batch is None:
                losses.append(self.peers[place].get_input_embeddings().weight.new_zeros(()))
                continue
            torch.manual_seed(seed)
            loss = self.peer_loss(place, batch, weight)
            losses.append(loss.total)
            figures = training_figures(loss, weight, len(target_tokens(batch)))
            logs |= {f"peer{place + 1}_{name}": value for name, value in figures.items()}
        return {"losses": torch.stack(losses), "logs": logs}

    def peer_loss(self, place: int, batch: Mapping[str, Any], weight: float) -> JointLoss:
        """The loss of one peer: L_kd is the mean over the other peers of −Σ_v p_teacher(v) log p_student(v)."""
        student = self.peers[place]
        states, heads, terms = [last_states(student, batch)], [output_head(student)], []
        teachers = [peer for peer in self.peers if peer is not student] if weight else []
        for number, teacher in enumerate(teachers, 1):
            with torch.no_grad(), teaching(teacher, self.teacher_dropout):
                states.append(last_states(teacher, batch))
            heads.append(output_head(teacher).constant())
            terms.append(Divergence(number, 0, weight / len(teachers), teacher_gradient=False, cross_entropy=True))
        smoothing, variant = self.smoothing
        return joint_loss(
            states, heads, target_tokens(batch), smoothing, [1 - weight, *(0.0 for _ in teachers)], terms, variant
        )


@contextmanager
def teaching(model: PreTrainedModel, dropout: bool) -> Iterator[None]:
    """Switches dropout off in the block, unless it is to stay on."""
    was_training = model.training
    model.train(was_training and dropout)
    try:
        yield
    finally:
        model.train(was_training)


def training_figures(loss: JointLoss, weight: float, tokens: int) -> dict[str, Tensor]:
    """[sum, count] of the figures a user watches: losses per token without weights, and the mean α.

    The names are always the same, because all processes add them up together.
    """
    figures = {
        "nll": (loss.nll[0], tokens),
        "kd": (loss.divergences.sum(), len(loss.terms) * tokens),
        "alpha": (loss.nll.new_tensor(weight), 1),
    }
    return tallies(figures)


class ParetoMutualTrainer(TranslationTrainer):
    """Trains two or more peers that teach each other; arguments as `TranslationTrainer`, with a list of peers as the model.

    The peers share a vocabulary and should start from different weights. Every checkpoint holds each of them as a plain
    checkpoint in `peers/N`; with `load_best_model_at_end` each peer ends as it was at its own best validation, and the
    checkpoint with the best mean over peers stays too.

    ```python
    peers = [build_model(shape, tokenizer, seed) for seed in (1, 2)]
    trainer = ParetoMutualTrainer(peers, ParetoMutualConfig(output_dir="runs/pareto", temperatures=[1.0, 5.0]),
                                  train_dataset=train, eval_dataset=validation, processing_class=tokenizer)
    trainer.train()
    ```
    """

    _tag_names = ("paretokd", "pareto-mutual-distillation")
    method = "pareto_mutual"

    def __init__(
        self,
        model: Sequence[PreTrainedModel],
        args: ParetoMutualConfig,
        processing_class: PreTrainedTokenizerBase | Sequence[PreTrainedTokenizerBase] | None = None,
        **kwargs: Any,
    ) -> None:
        peers = list(model) if isinstance(model, Sequence) else [model]
        check_models(peers, len(args.temperatures))
        tokenizer = common_tokenizer(processing_class)
        super().__init__(ParetoMutualModel(peers, args), args, processing_class=tokenizer, **kwargs)
        interval = args.update_interval or max(1, round(self.updates_per_pass))
        self.rule = self.build_rule()
        self.trials = PeerTrials(self, round(args.trial_share * self.updates_per_pass), args.smoothed_validation)
        if self.rule.changes or args.eval_strategy != "no":
            self.check_validation()
        if self.rule.changes and self.train_pairs:
            self.check_decisions(interval)
            self.add_callback(WeightUpdates(self, interval))

    def build_rule(self) -> WeightRule:
        """The rule that `strategy` names."""
        args, pairs = self.args, list(self.train_pairs)
        peers = len(args.temperatures)
        if args.strategy in FROM_FILE:
            return FixedWeights(pairs, peers, read_weights(args.weights_file, pairs, peers, FROM_FILE[args.strategy]))
        if args.strategy == "uni":
            return UnidirectionalWeights(pairs, peers, args.distillation_weight, args.uni_tolerance)
        if args.strategy == "auto_official":
            return OfficialAutomaticWeights(pairs, args.step_size_decay, args.trial_share, args.warmup_without_kd)
        if args.strategy in SEARCHES:
            kind = DynamicWeights if args.strategy == "dynamic" else AutomaticWeights
            return kind(pairs, peers, args.step_size, args.step_size_decay)
        return BidirectionalWeights(pairs, peers, args.distillation_weight)

    def check_validation(self) -> None:
        """Raises a DataError if a pair cannot be validated."""
        for name in self.train_pairs:
            if name not in self.eval_pairs:
                raise DataError(
                    f"{name}: has training but no validation text, by which checkpoints are chosen and weights decided; add "
                    "validation text or leave the pair out"
                )

    def check_decisions(self, interval: int) -> None:
        """Raises a TrainingError if the rule could never decide anything."""
        first = max(interval, self.args.warmup_without_kd)
        if first >= self.args.max_steps:
            source = "" if self.args.update_interval else f" (one epoch is {self.updates_per_pass:.0f} updates)"
            raise TrainingError(
                f"update_interval: the first decision would come after update {first}{source}, but the run ends after "
                f"{self.args.max_steps}; lower update_interval or warmup_without_kd, or raise max_steps"
            )
        if self.args.strategy in SEARCHES and self.trials.trial_updates < 1:
            raise TrainingError(
                f"trial_share: {self.args.trial_share:g} of an epoch of {self.updates_per_pass:.1f} updates is no whole "
                "update, so the trial set is empty; raise trial_share"
            )

    # ---- Losses ---------------------------------------------------------------------------------------------------

    def joint_arguments(self, number: int, batches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """α_i[ℓ] for the batch of every peer."""
        asleep = self.state.global_step < self.args.warmup_without_kd
        weights = zip(self.rule.weights, batches, strict=True)
        return {"weights": [0.0 if asleep else mine[batch["pair"]] for mine, batch in weights]}

    # ---- Best checkpoints -----------------------------------------------------------------------------------------

    def best_step(self, peer: int) -> int | None:
        """The update after which a peer (counted from 0) validated best; None if it was never validated."""
        name = f"eval_peer{peer + 1}_{(self.args.metric_for_best_model or 'loss').removeprefix('eval_')}"
        lines = [line for line in self.state.log_history if name in line and line["step"] not in self.lost_steps]
        found = [(line[name], line["step"]) for line in lines]
        if not found:
            return self.state.best_global_step
        best = (max if self.args.greater_is_better else min)(value for value, _ in found)
        return next(step for value, step in found if value == best)

    def best_steps(self) -> list[int]:
        """The updates at which a peer, or the mean over peers, was best."""
        steps = {*super().best_steps(), *(self.best_step(peer) for peer in range(len(self.model.peers)))}
        return sorted(step for step in steps if step is not None)

    def _load_best_model(self) -> None:
        for peer, (name, model) in enumerate(self.model.named_models()):
            checkpoints.load_weights(model, self.checkpoint(self.best_step(peer)) / name)

    # ---- State ----------------------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        folder = Path(output_dir or self.args.output_dir)
        checkpoints.save_json({"strategy": self.args.strategy, **self.rule.state_dict()}, folder / HISTORY)

    def load_training_state(self, folder: Path) -> None:
        """Takes up the models, the streams and the weights."""
        super().load_training_state(folder)
        saved = checkpoints.load_json(folder / HISTORY)
        if saved.get("strategy") != self.args.strategy:
            raise TrainingError(
                f"strategy: the checkpoint {folder} was trained with {saved.get('strategy')!r}, not {self.args.strategy!r}"
            )
        self.rule.load_state_dict(saved)


class WeightUpdates(TrainerCallback):
    """Has the rule set the weights anew every T updates, before the checkpoint of the same update is written."""

    def __init__(self, trainer: ParetoMutualTrainer, interval: int) -> None:
        self.trainer, self.interval = trainer, interval

    def on_step_end(self, args: ParetoMutualConfig, state: Any, control: Any, **kwargs: Any) -> None:
        """Decides, unless the run is over."""
        due = state.global_step % self.interval == 0 and state.global_step >= args.warmup_without_kd
        if due and state.global_step < args.max_steps:
            trainer = self.trainer
            before = dict(trainer.trials.seconds)
            trainer.rule.update(trainer.trials, state.global_step, args.max_steps)
            trainer.rule.history[-1].setdefault(
                "seconds", {what: round(took - before[what], 2) for what, took in trainer.trials.seconds.items()}
            )


def check_models(peers: Sequence[PreTrainedModel], wanted: int) -> None:
    """Raises a ModelError unless there are `wanted` different models with a common vocabulary."""
    if len(peers) != wanted:
        raise ModelError(f"{len(peers)} peers for {wanted} temperatures: give one model for each, as a list")
    if len({id(peer) for peer in peers}) < len(peers):
        raise ModelError("two peers are the same model; build each from a seed of its own")
    for name in ("vocab_size", "pad_token_id", "eos_token_id", "decoder_start_token_id"):
        values = [getattr(peer.config, name) for peer in peers]
        if len(set(values)) > 1:
            raise ModelError(f"peers have different vocabularies: {name} is {' and '.join(map(str, values))}")


def common_tokenizer(
    tokenizers: PreTrainedTokenizerBase | Sequence[PreTrainedTokenizerBase] | None,
) -> PreTrainedTokenizerBase | None:
    """The tokenizer of all peers.

    Raises:
        ModelError: several were given, and they are not the same.
    """
    if not isinstance(tokenizers, Sequence):
        return tokenizers
    if any(each.get_vocab() != tokenizers[0].get_vocab() for each in tokenizers[1:]):
        raise ModelError("peers have different tokenizers: teachers and students must speak of the same vocabulary")
    return tokenizers[0]

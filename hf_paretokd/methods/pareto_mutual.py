"""Pareto mutual distillation: peers trained on different language mixes teach each other (PMD, ACL 2023)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from hf_paretokd.errors import ModelError, TrainingError
from hf_paretokd.hub.card import MethodFacts
from hf_paretokd.layout import WEIGHTS_HISTORY
from hf_paretokd.losses import Divergence, JointLoss
from hf_paretokd.methods.papers import PACKAGE
from hf_paretokd.methods.weighting.auto_official import OfficialAutomaticWeights
from hf_paretokd.methods.weighting.rules import (
    AutomaticWeights,
    BidirectionalWeights,
    DynamicWeights,
    FixedWeights,
    UnidirectionalWeights,
    WeightRule,
    read_weights,
)
from hf_paretokd.methods.weighting.trials import PeerTrials, WeightedTrainer
from hf_paretokd.models.files import load_weights
from hf_paretokd.models.joint import JointModel, Passes
from hf_paretokd.models.passes import Pass
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.utils.files import load_json, save_json

STRATEGIES = ("uni", "bi", "auto", "dynamic", "vanilla", "lsmd", "fixed", "auto_official")
AT_ONCE = ("bi", "vanilla")  # which wait for the first decision, although all are alike
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
        update_interval: T, updates between two decisions (those of `bi` and `vanilla` are all alike); default: one epoch,
            the updates in which sampling at τ = 1 sees the corpus once.
        step_size: µ₀ of the searches (PMD Eq. 12).
        step_size_decay: µ = µ₀·√(max(0, 1 − decay·t/T_max)); 0, 0.8, 1.2 and 1 are the paper's schedules 1 to 4 (PMD Tab. 3).
        trial_share: ρ, share of an epoch that every trial of a search trains for.
        smoothed_validation: decide by cross-entropies with the label smoothing of training, as the official code does.
        teacher_dropout: leave the teachers' dropout on, as the official code does.
        warmup_without_kd: updates during which α counts as 0 and nothing is decided; 4 epochs in the official code.
        distill_at_once: have `bi` and `vanilla` distil from the first update rather than from the first decision (PMD Alg. 1).
        uni_tolerance: in nats per token; with it every peer learns a pair unless it is better than the worst other by more;
            0.05 bits = 0.0347 nats in the official code.
    """

    SIGNED: ClassVar[dict[str, str]] = {"strategy": "rule", "distillation_weight": "alpha", **TranslationConfig.SIGNED}

    temperatures: list[float] = field(default_factory=lambda: [1.0, 5.0])
    strategy: str = "auto"
    distillation_weight: float = 0.4
    weights_file: str | None = None
    update_interval: int | None = None
    step_size: float = 1.0
    step_size_decay: float = 1.0
    trial_share: float = 0.1
    smoothed_validation: bool = False
    teacher_dropout: bool = False
    warmup_without_kd: int = 0
    distill_at_once: bool = False
    uni_tolerance: float = 0.0

    def check(self) -> None:
        """Also of the peers' weights."""
        super().check()
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
        if self.distill_at_once and self.strategy not in AT_ONCE:
            raise TrainingError(f"distill_at_once: is for {' and '.join(AT_ONCE)}; strategy {self.strategy} decides by itself")
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

    kind = "peer"

    def __init__(self, peers: Sequence[PreTrainedModel], config: ParetoMutualConfig) -> None:
        super().__init__(config.label_smoothing_factor, config.label_smoothing_variant)
        self.peers = nn.ModuleList(peers)
        self._peers = list(peers)
        self.teacher_dropout = config.teacher_dropout

    def models(self) -> Sequence[PreTrainedModel]:
        """The peers."""
        return self._peers

    def passes(self, peer: int, batch: Mapping[str, Any], weights: Sequence[float | None]) -> Passes:
        """(1−α)·L_ce + α·L_kd of one micro-batch of a peer, summed over target tokens (PMD Eq. 3–4).

        L_kd is the mean over the other peers of −Σ_v p_teacher(v) log p_student(v).

        Args:
            peer: whose micro-batch it is.
            batch: a micro-batch of one language pair.
            weights: α of the batch's pair, one a peer; where it is 0 no teacher is asked.
        """
        student, weight = self._peers[peer], weights[peer] or 0.0
        teachers = [other for other in self._peers if other is not student] if weight else []
        runs = [Pass(student, 1 - weight), *(Pass(each, frozen=True, dropout=self.teacher_dropout) for each in teachers)]
        terms = [
            Divergence(number, 0, weight / len(teachers), teacher_gradient=False, cross_entropy=True)
            for number in range(1, len(runs))
        ]
        return Passes(runs, terms, lambda loss, tokens: training_figures(loss, weight, tokens))


def training_figures(loss: JointLoss, weight: float, tokens: int) -> dict[str, tuple[Tensor, float]]:
    """(sum, count) of the figures a user watches: losses per token without weights, and the mean α."""
    return {
        "nll": (loss.nll[0], float(tokens)),
        "kd": (loss.divergences.sum(), float(len(loss.terms) * tokens)),
        "alpha": (loss.nll.new_tensor(weight), 1.0),
    }


class ParetoMutualTrainer(WeightedTrainer):
    """Trains two or more peers that teach each other; arguments as `TranslationTrainer`, with a list of peers as the model.

    The peers share a vocabulary and should start from different weights; they may be named by folders or Hub ids. Every
    checkpoint holds each of them as a plain checkpoint in `peers/N`; with `load_best_model_at_end` each peer ends as it was at
    its own best validation, and the checkpoint with the best mean over peers stays too.

    ```python
    peers = [build_model(shape, tokenizer, seed) for seed in (1, 2)]
    trainer = ParetoMutualTrainer(peers, ParetoMutualConfig(output_dir="runs/pareto", temperatures=[1.0, 5.0]),
                                  train_dataset=train, eval_dataset=validation, processing_class=tokenizer)
    trainer.train()
    ```
    """

    args: ParetoMutualConfig
    method = "pareto_mutual"
    facts = MethodFacts(
        "Pareto mutual distillation",
        tag="pareto-mutual-distillation",
        prose="Trained with Pareto mutual distillation (Huang et al., ACL 2023), together with peers on other mixes of the "
        "same language pairs.",
        papers=PACKAGE,
    )
    config_class = ParetoMutualConfig

    def joint_model(self, models: Sequence[PreTrainedModel], args: Any) -> ParetoMutualModel:
        """The peers and their losses."""
        check_models(models, len(args.temperatures))
        return ParetoMutualModel(models, args)

    def set_up(self) -> None:
        """Makes the rule and what it measures by."""
        args, peers = self.args, self.model.models()
        self.bests: list[tuple[float, int] | None] = [None] * len(peers)  # (figure, update) of each peer's best validation
        interval = args.update_interval or max(1, round(self.text.updates_per_pass))
        self.rule = self.build_rule()
        if args.strategy in (*SEARCHES, "auto_official"):
            self.text.check_passes("strategy")
        if self.rule.changes and not args.update_interval:
            self.text.check_passes("update_interval")
        self.trials = PeerTrials(self, round(args.trial_share * self.text.updates_per_pass), args.smoothed_validation)
        if self.rule.changes or args.eval_strategy != "no":
            self.check_validated()
        if self.rule.changes and self.train_pairs:
            self.check_decisions(interval)
            self.add_callback(WeightUpdates(self, interval))

    def build_rule(self) -> WeightRule:
        """The rule that `strategy` names."""
        args, pairs = self.args, list(self.train_pairs)
        peers = len(args.temperatures)
        if args.strategy in FROM_FILE:
            return FixedWeights(pairs, peers, read_weights(args.weights_file or "", pairs, peers, FROM_FILE[args.strategy]))
        if args.strategy == "uni":
            return UnidirectionalWeights(pairs, peers, args.distillation_weight, args.uni_tolerance)
        if args.strategy == "auto_official":
            return OfficialAutomaticWeights(pairs, args.step_size_decay, args.trial_share, args.warmup_without_kd)
        if args.strategy in SEARCHES:
            kind = DynamicWeights if args.strategy == "dynamic" else AutomaticWeights
            return kind(pairs, peers, args.step_size, args.step_size_decay)
        return BidirectionalWeights(pairs, peers, args.distillation_weight, args.distill_at_once)

    def check_decisions(self, interval: int) -> None:
        """Raises a TrainingError if the rule could never decide anything."""
        first = interval * max(1, math.ceil(self.args.warmup_without_kd / interval))
        if first >= self.args.max_steps:
            at_once = ", or set distill_at_once" if self.args.strategy in AT_ONCE else ""
            source = "" if self.args.update_interval else f" (one epoch is {self.text.updates_per_pass:.0f} updates)"
            raise TrainingError(
                f"update_interval: the first decision would come after update {first}{source}, but the run ends after "
                f"{self.args.max_steps}; lower update_interval or warmup_without_kd, or raise max_steps{at_once}"
            )
        if self.args.strategy in SEARCHES and self.trials.trial_updates < 1:
            raise TrainingError(
                f"trial_share: {self.args.trial_share:g} of an epoch of {self.text.updates_per_pass:.1f} updates is no whole "
                "update, so the trial set is empty; raise trial_share"
            )

    # ---- Losses ---------------------------------------------------------------------------------------------------

    def joint_arguments(self, number: int, batches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """α_i[ℓ] for the batch of every peer."""
        asleep = self.state.global_step < self.args.warmup_without_kd
        return self.weighted_arguments(batches, [dict.fromkeys(mine, 0.0) if asleep else mine for mine in self.rule.weights])

    def weighted_arguments(
        self, batches: Sequence[Mapping[str, Any] | None], weights: Sequence[Mapping[str, float] | None]
    ) -> dict[str, Any]:
        """The weight of each batch's pair."""
        chosen = zip(batches, weights, strict=True)
        return {"weights": [None if batch is None or mine is None else mine[batch["pair"]] for batch, mine in chosen]}

    # ---- Best checkpoints -----------------------------------------------------------------------------------------

    def best_step(self, peer: int) -> int | None:
        """The update after which a peer (counted from 0) validated best; None if it was never validated."""
        best = self.bests[peer]
        return self.state.best_global_step if best is None else best[1]

    def after_best(self, metrics: dict[str, float]) -> None:
        """Notes which peers have never been better."""
        name = (self.args.metric_for_best_model or "loss").removeprefix("eval_")
        sign = 1 if self.args.greater_is_better else -1
        for peer, best in enumerate(self.bests if self.args.save_strategy != "no" else ()):
            value = metrics.get(f"eval_peer{peer + 1}_{name}")
            if value is not None and (best is None or sign * value > sign * best[0]):
                self.bests[peer] = (value, self.state.global_step)
        super().after_best(metrics)

    def forget_best(self, step: int) -> None:
        """The same for every peer."""
        super().forget_best(step)
        self.bests = [None if best and best[1] == step else best for best in self.bests]

    def progress(self) -> dict[str, Any]:
        """Also when each peer was best."""
        return {**super().progress(), "bests": self.bests}

    def take_progress(self, progress: Mapping[str, Any]) -> None:
        """Also when each peer was best; checkpoints of older versions do not know it."""
        super().take_progress(progress)
        self.bests = [best and (best[0], best[1]) for best in progress.get("bests", self.bests)]

    def best_steps(self) -> list[int]:
        """The updates at which a peer, or the mean over peers, was best."""
        steps = {*super().best_steps(), *(self.best_step(peer) for peer in range(len(self.model.models())))}
        return sorted(step for step in steps if step is not None)

    def load_best_models(self) -> None:
        """Takes up every peer as it was at its own best."""
        for peer, (name, model) in enumerate(self.model.named_models()):
            folder = self.checkpoint(self.best_step(peer) or 0)
            self.have_everywhere(folder)
            load_weights(model, folder / name)

    # ---- State ----------------------------------------------------------------------------------------------------

    def write_models(self, joint: JointModel, folder: Path) -> None:
        """Writes the peers and the history of their weights."""
        super().write_models(joint, folder)
        save_json({"strategy": self.args.strategy, **self.rule.state_dict()}, folder / WEIGHTS_HISTORY)

    def load_training_state(self, folder: Path) -> None:
        """Takes up the models, the streams and the weights."""
        super().load_training_state(folder)
        saved = load_json(folder / WEIGHTS_HISTORY)
        if saved.get("strategy") != self.args.strategy:
            raise TrainingError(
                f"strategy: the checkpoint {folder} was trained with {saved.get('strategy')!r}, not {self.args.strategy!r}"
            )
        self.rule.load_state_dict(saved)


class WeightUpdates(TrainerCallback):
    """Has the rule set the weights anew every T updates, before the checkpoint of the same update is written."""

    def __init__(self, trainer: ParetoMutualTrainer, interval: int) -> None:
        self.trainer, self.interval = trainer, interval

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
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

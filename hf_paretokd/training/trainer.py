"""What every method shares: token batches, loss accounting, validation, logs; checkpoints are in `checkpointing`."""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import datasets
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainerState
from transformers.trainer_utils import PredictionOutput, TrainOutput, set_seed
from transformers.utils import logging

from hf_paretokd.data.batches import IGNORED, PairBatches
from hf_paretokd.data.changing import SHARE, SHARES, ChangingSampling, FunctionSampling, phases_of, scheduled
from hf_paretokd.data.encoding import Pairs, as_pairs
from hf_paretokd.data.facts import target_length
from hf_paretokd.data.languages import coded_directions, tell
from hf_paretokd.data.sampling import (
    Batches,
    MicroBatchSampler,
    MicroBatchStream,
    PairDataset,
    PairDistribution,
    SamplerState,
    SamplingRow,
    TemperatureSampling,
    UniMaxSampling,
    build_pair_batches,
    expected_sampling,
)
from hf_paretokd.data.seeds import derive_seed
from hf_paretokd.data.streams import StreamBatches
from hf_paretokd.errors import DataError, TrainingError
from hf_paretokd.hub.upload import check_names
from hf_paretokd.layout import IDENTITY, PROGRESS
from hf_paretokd.models.building import prepare_for_training
from hf_paretokd.models.compiling import compiled_layers
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.files import check_vocabulary
from hf_paretokd.models.joint import JointModel
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.training.callbacks import Clock, LogWindow
from hf_paretokd.training.checkpointing import MEANINGLESS, load_sampler, save_sampler
from hf_paretokd.training.checks import check_compiling, check_optimizer, trial_schedule
from hf_paretokd.training.contract import check_parameters
from hf_paretokd.training.generation import GeneratingTrainer, padded
from hf_paretokd.training.identity import Identity, differences, identity_of, read_identity, without_later
from hf_paretokd.training.parts import (
    Source,
    check_best_metric,
    check_callbacks,
    check_ids,
    check_kind,
    check_optimizers,
    check_prefix,
    check_reports,
    check_source_of_models,
    check_tokenizer,
    common_tokenizer,
    initial_models,
    listed,
    loaded_models,
)
from hf_paretokd.training.samplers import Samplers, baseline_losses
from hf_paretokd.training.search import DIRECTIONS, SEARCH, trial_arguments, with_changes
from hf_paretokd.training.sharding import check_sharding, gathered, is_sharded
from hf_paretokd.training.signature import data_hashes
from hf_paretokd.training.validation import metrics_of_peers, validation_sums
from hf_paretokd.utils.allocator import keep_freed_memory
from hf_paretokd.utils.files import load_json, save_json
from hf_paretokd.utils.machine import moved

logger = logging.get_logger(__name__)


class TranslationTrainer(GeneratingTrainer):
    """A `Seq2SeqTrainer` over streams of token micro-batches, for models that compute their own losses.

    A method is a subclass: it names its `method`, `facts` and `config_class`, makes a joint model, and says which depths are
    validated and what is added to a micro-batch.

    Args:
        model: a model, its folder or Hub id; a list of them where peers are trained.
        args: the method's configuration.
        train_dataset: token ids (`input_ids`, `labels`) of one pair, or a dictionary of them keyed by pair.
        eval_dataset: the same for validation.
        processing_class: the tokenizer; saved with every model. Default: that of the first model that is named.
        callbacks: as in the Trainer.
        model_init: what makes the models, from a trial or from nothing, in place of `model`; every `train()` begins anew.
        others: further parameters of the Trainer, see `contract.PARAMETERS`.

    Raises:
        TrainingError, DataError, ModelError: the parts do not fit together.
    """

    config_class: ClassVar[type[TranslationConfig]]
    shardable: ClassVar[bool] = False  # whether FSDP2 may divide the joint model among processes
    trial: Any = None  # of a hyper-parameter search
    made: Sequence[Source] = ()  # the models as they were given, or made
    samplers: Samplers | None = None  # where one learns
    baseline_losses: Sequence[float] = ()  # of a finished model, a pair
    baseline: str | None = None  # its hash

    def __init__(
        self,
        model: Source | Sequence[Source] | None = None,
        args: TranslationConfig | None = None,
        train_dataset: datasets.Dataset | Pairs | None = None,
        eval_dataset: datasets.Dataset | Pairs | None = None,
        processing_class: PreTrainedTokenizerBase | Sequence[PreTrainedTokenizerBase] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        model_init: Callable[..., Any] | None = None,
        **others: Any,
    ) -> None:
        if args is not None:
            check_kind(args, self.config_class)
        args = copy.copy(args) if args is not None else self.config_class()  # the caller's stays as it is
        args.check()
        check_parameters(others, args)
        check_tokenizer(processing_class)
        check_reports(args)
        check_compiling(args)
        check_sharding(
            self.shardable, self.method, {"torch_compile": args.torch_compile, "fp16": args.fp16, "samplers": args.learning}
        )
        self.sampling = check_sampling(others.pop("sampling", None), args)
        check_source_of_models(model, model_init, others.get("optimizers"))
        callbacks = check_callbacks(callbacks, args)
        texts = {"train_dataset": train_dataset, "eval_dataset": eval_dataset}
        self.given = {**texts, "model": model, "processing_class": processing_class, "callbacks": callbacks, **others}
        self.given |= {"args": copy.copy(args), "model_init": model_init, "sampling": self.sampling}
        args.max_grad_norm = args.max_grad_norm or 0.0  # the Trainer compares it with a number
        if args.n_gpu > 1:
            raise TrainingError(f"{args.n_gpu} GPUs in one process: use torchrun or accelerate launch, one process a GPU")
        if model_init is not None:
            set_seed(args.seed)
            model = initial_models(model_init, self.trial, self.made)
        self.made = listed(model)
        models, tokenizer = loaded_models(self.made, common_tokenizer(processing_class))
        joint = self.joint_model(models, args)
        if args.device.type == "cpu":
            keep_freed_memory()
        self.train_pairs, self.eval_pairs = as_pairs(train_dataset, streams=True), as_pairs(eval_dataset)
        self.streamed = [name for name, each in self.train_pairs.items() if isinstance(each, datasets.IterableDataset)]
        for each in models:
            prepare_for_training(each)
            if args.device.type == "cpu":
                each.set_attn_implementation("eager")  # sdpa is slow there under bf16 autocast
            if tokenizer is not None:
                check_vocabulary(each, tokenizer)
                tell(each, tokenizer, coded_directions(tokenizer, self.train_pairs))
        self.checked = partial(check_ids, models)
        for text in ({name: each for name, each in self.train_pairs.items() if name not in self.streamed}, self.eval_pairs):
            self.checked(text)
        train_batches = self.training_batches(args)
        self.eval_batches = build_pair_batches(self.eval_pairs, args.max_tokens)
        self.micro_batches = args.gradient_accumulation_steps * args.world_size  # M of an update
        if self.streamed and args.max_steps <= 0:
            raise TrainingError(f"max_steps: {self.streamed[0]} is a stream, whose length nobody knows; say how many updates")
        batches = sum(each.count or args.max_steps * self.micro_batches for each in train_batches.values())
        self.updates_per_pass = batches / self.micro_batches  # at τ = 1; of streams the whole training is one
        if args.max_steps <= 0 and batches:
            args.max_steps = math.ceil(args.num_train_epochs * self.updates_per_pass)
        self.streams = [
            MicroBatchStream(
                {name: batches.rekeyed(args.seed, peer) for name, batches in train_batches.items()},
                self.distribution(args, peer, train_batches),
                args.seed,
                peer,
            )
            for peer in range(len(args.temperatures))
        ]
        self.sampler_states = [SamplerState() for _ in self.streams]
        if args.eval_strategy != "no" and not self.eval_pairs:
            raise TrainingError("eval_dataset: is missing; give validation text, or set eval_strategy to no")
        if args.eval_strategy != "no" and batches and args.eval_delay > args.max_steps:
            raise TrainingError(
                f"eval_delay: {args.eval_delay:g} updates, after which there is no validation left of "
                f"{args.max_steps} updates; lower it, or set eval_strategy to no"
            )
        self._clock, self._window = Clock(self), LogWindow(self)
        self.given_optimizer = check_optimizers(others.get("optimizers"), joint)
        if self.given_optimizer is None:
            check_optimizer(args, joint)
        self.skipped_updates = 0  # whose loss or gradient was infinite or not a number
        super().__init__(
            model=joint,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=tokenizer,
            callbacks=[self._clock, self._window, *callbacks],
            **others,
        )
        self.model_init: Any = model_init
        if self.eval_pairs:
            depths, peers = self.validation_depths(), len(models)
            nothing = [torch.ones(len(self.eval_pairs), len(depths), 3)] * peers
            known = metrics_of_peers(nothing, list(self.eval_pairs), depths)
            if args.predict_with_generate:
                known |= self.generation_names()
            if not self.figures_unknown:
                check_best_metric(args, list(known))
        if args.push_to_hub:
            check_names(list(self.repositories(args.hub_model_id or "").values()))
        if args.learning:
            self.check_passes("samplers")
            if args.sampler_baseline:
                self.baseline_losses, self.baseline = baseline_losses(self, args.sampler_baseline)
            self.samplers = Samplers(self)
            self.add_callback(self.samplers)
        self.set_up()
        if self.args.max_steps > 0:
            self.check_schedules()
        self.settled = copy.copy(self.args)

    @classmethod
    def sources(cls, args: Any) -> list[str]:
        """Folders or Hub ids of models that a training with these arguments reads; the first one's tokenizer suits it.

        Raises:
            ModelError: one holds no model.
        """
        return []

    def joint_model(self, models: Sequence[PreTrainedModel], args: Any) -> JointModel:
        """The module that is trained: the models and their losses.

        Raises:
            ModelError, TrainingError: the models do not fit each other, or the configuration.
        """
        raise NotImplementedError

    def set_up(self) -> None:
        """What a method adds when everything else stands."""

    def check_schedules(self) -> None:
        """Raises a TrainingError unless the schedule of the learning rate fits the length of the training."""
        trial_schedule(self.args, self.args.max_steps)

    # ---- Beginning anew -------------------------------------------------------------------------------------------

    def before_training(self, trial: Any) -> None:
        """With `model_init` a second training, or one for a trial, begins with new models."""
        if self.model_init is not None and (self.begun or trial is not None):
            self.begin_anew(trial)
        check_callbacks(self.callback_handler.callbacks, self.args)
        if self.train_dataset is not self.given["train_dataset"]:
            raise TrainingError("train_dataset: was another when the trainer was made; make a new trainer")
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            raise TrainingError("model: no parameter is trained; let some have requires_grad")

    def begin_anew(self, trial: Any) -> None:
        """Makes models, streams and all that depends on arguments again, with the arguments of a trial if there is one.

        What was changed since then in `args` or among the callbacks stays changed.
        """
        given, search = self.given, {name: getattr(self, name) for name in SEARCH if hasattr(self, name)}
        args = with_changes(given["args"], self.settled, self.args) if trial is None else given["args"]
        if trial is not None:
            args = trial_arguments(args, trial, self.hp_space, self.hp_name)
        self.trial, callbacks = trial, self.callback_handler.callbacks
        self.__dict__.pop("identity", None)
        TranslationTrainer.__init__(self, **{**given, "args": args})
        self.given = given
        kinds, own = {type(each) for each in callbacks}, self.callback_handler.callbacks
        added = [each for each in callbacks if type(each) not in {type(other) for other in own}]
        self.callback_handler.callbacks = [*(each for each in own if type(each) in kinds), *added]
        for name, value in search.items():
            setattr(self, name, value)

    def call_model_init(self, trial: Any = None) -> JointModel:
        """The models that `model_init` has made when the trainer was made, or began anew."""
        return self.model

    def hyperparameter_search(
        self,
        hp_space: Callable[[Any], dict[str, Any]] | None = None,
        compute_objective: Callable[[dict[str, float]], float] | None = None,
        n_trials: int = 20,
        direction: str | list[str] | None = None,
        backend: Any = None,
        hp_name: Callable[[Any], str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """A search by optuna; every trial is a training of its own, in `run-N` below the run folder.

        Args:
            hp_space: from a trial to arguments of the configuration, which are checked like any others.
            compute_objective: from a validation's figures to one; default: that of `metric_for_best_model`.
            n_trials: how many.
            direction: default: `maximize` where `greater_is_better`, else `minimize`.
            backend: `optuna`, or None.
            hp_name: from a trial to the name of its folder.
            kwargs: of optuna.

        Raises:
            TrainingError: there is no `model_init` or no `hp_space`, or a trial's arguments do not fit.
        """
        if self.model_init is None:
            raise TrainingError("hyperparameter_search: every trial begins with new models; give model_init in place of model")
        if hp_space is None:
            raise TrainingError(
                "hyperparameter_search: hp_space is missing, such as "
                "lambda trial: {'learning_rate': trial.suggest_float('learning_rate', 1e-4, 1e-2, log=True)}"
            )
        if backend not in (None, "optuna"):
            raise TrainingError(f"hyperparameter_search: backend {backend!r} is not supported here; leave it out for optuna")
        args = self.given["args"]
        figure = f"eval_{(args.metric_for_best_model or 'loss').removeprefix('eval_')}"
        objective = compute_objective or (lambda metrics: metrics[figure])
        towards = direction or ("maximize" if args.greater_is_better else "minimize")
        if not callable(hp_space) or (hp_name is not None and not callable(hp_name)):
            raise TrainingError("hyperparameter_search: hp_space and hp_name are functions of a trial")
        if not isinstance(n_trials, int) or n_trials < 1:
            raise TrainingError(f"hyperparameter_search: n_trials {n_trials!r} is not 1 or more")
        if kwargs.get("n_jobs", 1) != 1:
            raise TrainingError("hyperparameter_search: n_jobs: one trainer trains one trial at a time; leave it out")
        for each in towards if isinstance(towards, list) else [towards]:
            if each not in DIRECTIONS:
                raise TrainingError(f"hyperparameter_search: direction {each!r} is not one of {', '.join(DIRECTIONS)}")
        found = super().hyperparameter_search(hp_space, objective, n_trials, towards, "optuna", hp_name, **kwargs)
        self.begin_anew(None)  # the trials' arguments are none of the trainer's
        return found

    # ---- Data -----------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader:
        """The process's share of the streams, from the update the training stands at."""
        if not self.train_pairs:
            raise DataError("training needs a train_dataset")
        workers = self.args.dataloader_num_workers
        places = (self.args.process_index, self.args.world_size)
        sampler: Any = MicroBatchSampler(self.streams, lambda: self.sampler_states, *places)
        return DataLoader(
            self.training_data(),
            batch_sampler=sampler,
            collate_fn=as_is,
            num_workers=workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
            prefetch_factor=self.args.dataloader_prefetch_factor if workers else None,
        )

    def training_data(self) -> PairDataset:
        """What micro-batches are read from."""
        return PairDataset(self.train_pairs, self.model.config.pad_token_id)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list, Any]:
        """The micro-batches of an update; the time it took to get them is logged as a share (`loader_wait`)."""
        start = time.perf_counter()
        samples, tokens = super().get_batch_samples(*args, **kwargs)
        self._clock.waited += time.perf_counter() - start
        for batch in (batch for sample in samples for batch in sample["batches"]):
            labels = batch["labels"]
            self._clock.count((len(labels), int(batch["attention_mask"].sum()), int((labels != IGNORED).sum())))
        return samples, tokens

    def training_batches(self, args: TranslationConfig) -> dict[str, Batches]:
        """The micro-batches of the training text of every pair."""
        found: dict[str, Batches] = {}
        for name, text in self.train_pairs.items():
            if isinstance(text, datasets.IterableDataset):
                found[name] = StreamBatches(name, text, args.max_tokens, args.stream_buffer, self.checked_rows)
            else:
                found[name] = PairBatches(name, text, args.max_tokens)
        if self.streamed:
            logger.warning(
                f"{', '.join(self.streamed)}: read as a stream; passes are not counted, repeated sentences are not found, and "
                "the signature of the training says nothing of its text"
                + ("; all pairs are drawn alike, whatever the temperature" if len(found) > 1 else "")
            )
        return found

    def checked_rows(self, name: str, rows: datasets.Dataset) -> datasets.Dataset:
        """Some rows of a stream as they are trained on.

        Raises:
            DataError: the models cannot be trained on them.
        """
        found = as_pairs({name: rows})
        self.checked(found)
        return found[name]

    def check_passes(self, field: str) -> None:
        """Raises a TrainingError if a field counts in passes over text that has none."""
        if self.streamed:
            raise TrainingError(
                f"{field}: needs passes over the text, and {self.streamed[0]} is a stream, whose length nobody knows; give the "
                "text as a datasets.Dataset" + (", or a number of updates" if field == "update_interval" else "")
            )

    def distribution(self, args: TranslationConfig, peer: int, batches: Mapping[str, Batches]) -> PairDistribution:
        """By what a peer (counted from 0) draws language pairs from their micro-batches. Asked for once, at the start."""
        epochs = args.unimax_epochs[peer] if args.unimax_epochs else 0.0
        if epochs:
            self.check_passes("unimax_epochs")
        sizes = {name: 1 if self.streamed else each.sentences or 0 for name, each in batches.items()}
        if self.sampling is not None and batches:
            return FunctionSampling(self.sampling, sizes, args.max_steps * self.micro_batches)
        if args.sampling_schedule and batches:
            phases = phases_of(args.sampling_schedule)
            return scheduled(phases, sizes, args.temperatures[peer], args.max_steps * self.micro_batches)
        if epochs and batches:
            tokens = {name: target_length(each) for name, each in self.train_pairs.items()}
            counts = {name: each.count or 0 for name, each in batches.items()}
            return UniMaxSampling(tokens, counts, args.max_steps * self.micro_batches, epochs)
        still = TemperatureSampling(sizes, args.temperatures[peer])
        if args.samplers and args.samplers[peer] != "none" and batches:
            return ChangingSampling(args.samplers[peer], [(0, still.probabilities(SamplerState()))])
        return still

    def expected_sampling(self) -> list[SamplingRow]:
        """What every peer is expected to see of every pair."""
        return expected_sampling(self.streams, self.args.max_steps * self.micro_batches)

    def _train(self, start: Path | None, **kwargs: Any) -> TrainOutput:
        """Training, with compiled layers if they are wanted."""
        self.identity  # noqa: B018 (made now, by the arguments as they were given)
        if not self.args.torch_compile:
            return super()._train(start, **kwargs)
        models = [model for _, model in self.model.named_models()]
        with compiled_layers(models, self.args.torch_compile_backend or "inductor", self.args.torch_compile_mode):
            return super()._train(start, **kwargs)

    # ---- Losses ---------------------------------------------------------------------------------------------------

    def joint_arguments(self, number: int, batches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What a method adds to micro-batch `number` of every peer (sampled students, weights that change)."""
        return {}

    def dropout_seeds(self, number: int) -> list[int]:
        """Seeds of the dropout of micro-batch `number`, one a peer."""
        return [derive_seed(self.args.seed, peer, "dropout", number) for peer in range(len(self.streams))]

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor | tuple[Tensor, dict]:
        """The micro-batch's share of the update's loss per target token, summed over peers.

        Args:
            model: the joint model as accelerate wrapped it.
            inputs: `number` and `batches`, one a peer.
            return_outputs: whether to return what the model returned, too.
            num_items_in_batch: for each peer its target tokens over all micro-batches and processes of the update.
        """
        number, batches = inputs["number"], inputs["batches"]
        with self.accelerator.autocast() if is_sharded(model) else nullcontext():  # else it is part of the forward
            outputs = model(batches=batches, seeds=self.dropout_seeds(number), **self.joint_arguments(number, batches))
        if self.samplers:
            self.samplers.note(batches, outputs["cross_entropies"])
        shares = outputs["losses"] / num_items_in_batch
        loss = shares.sum() * self.accelerator.num_processes  # DDP averages over processes
        if self.args.skip_nonfinite_updates and not torch.isfinite(loss):
            loss = loss * math.nan  # no gradient can hide it, and all processes see it in theirs
        else:
            self.check_finite(shares, "loss")
            for name, tally in outputs["logs"].items():
                self._window.add(name, tally)
        return (loss, outputs) if return_outputs else loss

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """As in the Trainer; the loss of an update that will be skipped is not logged."""
        loss = super().training_step(*args, **kwargs)
        loss = loss.nan_to_num(nan=0.0) if self.args.skip_nonfinite_updates else loss
        self._clock.loss = self._clock.loss + loss.detach()
        return loss

    def check_finite(self, figures: Tensor, what: str) -> None:
        """Raises a TrainingError if one of the figures is infinite or not a number."""
        if not torch.isfinite(figures).all():
            raise TrainingError(
                f"update {self.state.global_step + 1}: the {what} is {figures.sum().item()}; lower learning_rate or "
                f"max_grad_norm, lengthen warmup_steps, and resume; the last whole checkpoint is {self.last_checkpoint()}"
            )

    def checked_gradient(self, model: torch.nn.Module, norm: Tensor) -> Tensor:
        """Refuses a gradient that is not finite, or leaves the update out."""
        if torch.isfinite(norm) or self.accelerator.scaler is not None:  # fp16's scaler skips by itself
            return norm
        if not self.args.skip_nonfinite_updates:
            self.check_finite(norm, "norm of the gradient")
        self.skipped_updates += 1
        for parameter in model.parameters():
            parameter.grad = None  # so that the optimizer leaves parameters and moments as they are
        return torch.zeros_like(norm)

    def target_tokens(self, samples: list, device: torch.device) -> Tensor:
        """Target tokens of every peer over all micro-batches and processes of the update."""
        counts = [[(batch["labels"] != IGNORED).sum() for batch in sample["batches"]] for sample in samples]
        return self.accelerator.reduce(torch.tensor(counts).sum(0).to(device), reduction="sum")

    @property
    def summed_losses(self) -> int:
        """How many models' losses per token are summed in the gradient of a peer; norms are of the gradient of their mean."""
        return 1

    def clip_gradients(self, peers: Sequence[int]) -> list[Tensor]:
        """Clips the gradient of each of these peers (counted from 0) by itself and returns their norms before that."""
        self.accelerator.unscale_gradients()
        models, summed = [model for _, model in self.model.named_models()], self.summed_losses
        limit = summed * (self.args.max_grad_norm or math.inf)
        return [gathered(clip_grad_norm_(models[peer].parameters(), limit)) / summed for peer in peers]

    def clip(self, model: torch.nn.Module) -> Any:
        """Clips every peer by itself; returns the norm of all."""
        norms = self.clip_gradients(range(len(self.streams)))
        for peer, norm in enumerate(norms, 1):
            prefix, one = f"peer{peer}_" if len(norms) > 1 else "", torch.ones_like(norm)
            self._window.add(f"{prefix}clipped", torch.stack([(norm > (self.args.max_grad_norm or math.inf)).to(one), one]))
            if prefix:
                self._window.add(f"{prefix}grad_norm", torch.stack([norm.detach(), one]))
        return torch.stack(norms).norm()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the method's own figures, averaged over all micro-batches since the last line, to the training log."""
        if "loss" in logs:
            logs |= self._window.close()
            logs |= self._clock.speeds() | self.shares_drawn()
            if self.args.skip_nonfinite_updates:
                logs["skipped_updates"] = self.skipped_updates
        logs["seconds"] = round(self.seconds_trained, 1)
        if "train_runtime" in logs:  # the end of the training
            for name in MEANINGLESS:
                logs.pop(name, None)
            logs |= {name: round(value, 1) for name, value in self._clock.mean_speeds().items()}
            logs["core_seconds"] = round(self.in_all([self._clock.processor_seconds])[0], 1)
            logs["train_loss"] = self._clock.total_loss() / max(self.state.global_step, 1)  # also of what came before a stop
        super().log(logs, start_time)

    def shares_drawn(self) -> dict[str, float]:
        """P(ℓ) of every peer whose distribution changes, and what sampling by decisions has cost so far."""
        found: dict[str, float] = {}
        for peer, stream in enumerate(self.streams, 1):
            if isinstance(stream.distribution, ChangingSampling | FunctionSampling):
                prefix = f"peer{peer}_" if len(self.streams) > 1 else ""
                state = SamplerState(self.state.global_step * self.micro_batches)
                shares = stream.distribution.probabilities(state)
                found |= {f"{prefix}{SHARE}{name}": round(share, 6) for name, share in shares.items()}
        return found | ({"sampler_seconds": round(self.samplers.seconds, 2)} if self.samplers else {})

    def in_all(self, counts: Sequence[float]) -> list[float]:
        """Sums over all processes, which have to ask together."""
        return self.accelerator.reduce(
            torch.tensor(counts, dtype=torch.float64, device=self.args.device), reduction="sum"
        ).tolist()

    @property
    def seconds_trained(self) -> float:
        """Wall time of training so far, validation and saving included, over all parts of a resumed run."""
        return self._clock.seconds

    # ---- Identity -------------------------------------------------------------------------------------------------

    @cached_property
    def identity(self) -> Identity:
        """The record of this training, by its arguments or by the checkpoint from which it goes on."""
        model, precision = self.model.main_model, self.accelerator.mixed_precision
        shape = {"depth": str(model_depth(model)), "width": model.config.hidden_size}
        signature = {"method": self.method, **shape, **self.args.signature_fields(), "bf16": precision == "bf16"}
        if precision not in ("no", "bf16"):
            signature["precision"] = precision
        models, more, kept = self.model.models(), self.deciding(), self.kept_when_extended()
        data, (_, validation) = data_hashes(self.train_pairs), data_hashes(self.eval_pairs)
        return identity_of(self.args, models, self.processing_class, signature, more, kept, data, validation, precision)

    def deciding(self) -> dict[str, Any]:
        """What else decides a training of this method, beside its arguments."""
        given = self.given_optimizer
        optimizer = {"optimizer": f"{type(given).__name__} {given.defaults}"} if given else {}
        windows = {rows for stream in self.streams for each in stream.pairs.values() if (rows := each.window)}
        found = {"method": self.method, **optimizer, **({"rows of a window": max(windows)} if windows else {})}
        args, learning = self.args, {"samplers": self.args.samplers, "sampler baseline": self.baseline}
        if args.learning:
            fields = ("sampler_interval", "sampler_measure", "sampler_passes", "sampler_radius")
            found |= learning | {name: getattr(args, name) for name in fields}
        found |= {"sampling_schedule": args.sampling_schedule} if args.sampling_schedule else {}
        found |= {"sampling": getattr(self.sampling, "__name__", type(self.sampling).__name__)} if self.sampling else {}
        return found | ({"stream_buffer": args.stream_buffer} if self.streamed else {})

    def kept_when_extended(self) -> dict[str, Any]:
        """What stays as it was when the training is made longer, although it follows from the arguments."""
        return {}

    def signature(self) -> str:
        """What has to be equal for two trainings to be the same: `method:all_in_one|depth:6-6|…|data:…|record:…|version:…`."""
        return self.identity.text

    def take_identity(self, saved: Identity) -> None:
        """Goes on as the training that a checkpoint is of."""
        self.identity = saved

    # ---- Validation -----------------------------------------------------------------------------------------------

    def validation_depths(self) -> Sequence[Depth]:
        """The depths whose mean cross-entropy selects the model."""
        return (model_depth(self.model.main_model),)

    def cross_entropies(
        self, model: PreTrainedModel, pairs: Pairs, batches: Mapping[str, PairBatches], depths: Sequence[Depth]
    ) -> Tensor:
        """`validation_sums` of one of the models over all processes."""
        was_training = model.training
        moved(model, self.args.device).eval()
        smoothing = (self.args.label_smoothing_factor, self.args.label_smoothing_variant)
        with self.accelerator.autocast():
            sums = validation_sums(model, pairs, batches, depths, *smoothing, self.args.process_index, self.args.world_size)
        model.train(was_training)
        return self.accelerator.reduce(sums.to(self.args.device), reduction="sum").cpu()

    def pair_losses(self, model: PreTrainedModel, depths: Sequence[Depth], smoothed: bool = False) -> dict[str, float]:
        """Validation cross-entropy a token of every pair of the training, the mean over depths; with or without smoothing."""
        pairs = {name: self.eval_pairs[name] for name in self.train_pairs}
        sums = self.cross_entropies(model, pairs, self.eval_batches, depths)
        return dict(zip(pairs, (sums[..., 0 if smoothed else 1] / sums[..., 2]).mean(1).tolist(), strict=True))

    def check_validated(self) -> None:
        """Raises a DataError if a pair cannot be validated."""
        for name in self.train_pairs:
            if name not in self.eval_pairs:
                raise DataError(
                    f"{name}: has training but no validation text, by which this method decides; add validation text or leave "
                    "the pair out"
                )

    def evaluate(
        self,
        eval_dataset: datasets.Dataset | Pairs | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        **gen_kwargs: Any,
    ) -> dict[str, float]:
        """Validation cross-entropies in nats per token, with the label smoothing of training (`nll`: without).

        Returns:
            `eval_loss`, the mean over pairs of the mean over depths (AIO Eq. 9); `eval_nll`; `eval_loss_E-D` for every
            depth and `eval_loss_xx-yy` for every pair, if there are several. With `predict_with_generate` also what
            `compute_metrics` finds out of the translations of the whole models (teacher, model, peers): `eval_bleu`, the mean
            over pairs, `eval_bleu_xx-yy` …. Several peers have all of these each, as `eval_peer1_loss` …, and the names without
            a peer hold the means over peers.

        Raises:
            DataError: there is no text.
            TrainingError: `gen_kwargs` holds more than `num_beams` and `max_length`.
        """
        if eval_dataset is None and self.eval_dataset is not self.given["eval_dataset"]:
            eval_dataset = self.eval_dataset  # it was set since the trainer was made
        pairs = self.eval_pairs if eval_dataset is None else as_pairs(eval_dataset)
        if not pairs:
            raise DataError("validation needs an eval_dataset")
        if eval_dataset is not None:
            self.checked(pairs)
        if gen_kwargs and not self.args.predict_with_generate:
            raise TrainingError(f"{next(iter(gen_kwargs))}: nothing is translated; set predict_with_generate")
        check_prefix(metric_key_prefix)
        with self.whole_models() as joint:
            figures = self.losses(joint, pairs, self.eval_batches if eval_dataset is None else None)
            if self.args.predict_with_generate:
                figures |= self.generation_metrics(pairs, self.translations(joint, pairs, gen_kwargs))
        if self.between_updates:
            check_best_metric(self.args, list(figures))
            self.check_figure(figures)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        due = self.control.should_log, self.control.should_evaluate, self.control.should_save
        ending = self.control.should_training_stop
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if self.between_updates and self.control.should_training_stop and not ending:
            self.stopped_by_validation()
        if not self.between_updates:  # asked for by a callback: what was due is still to be done
            self.control.should_log, self.control.should_evaluate, self.control.should_save = due
        return metrics

    def check_figure(self, figures: Mapping[str, float]) -> None:
        """Raises a TrainingError if the figure that decides which checkpoint is best is no number."""
        name = (self.args.metric_for_best_model or "").removeprefix("eval_")
        if name and self.args.eval_strategy != "no" and math.isnan(figures[name]):
            raise TrainingError(
                f"metric_for_best_model: {name} is nan after update {self.state.global_step}, so that nothing can be best; "
                f"choose another figure; the last whole checkpoint is {self.last_checkpoint()}"
            )

    def losses(self, joint: JointModel, pairs: Pairs, batches: Mapping[str, PairBatches] | None = None) -> dict[str, float]:
        """The cross-entropies of text by whole models, as `evaluate` names them."""
        depths = self.validation_depths()
        batches = batches or build_pair_batches(pairs, self.args.max_tokens)
        sums = [self.cross_entropies(model, pairs, batches, depths) for _, model in joint.named_models()]
        return metrics_of_peers(sums, list(pairs), depths)

    def predict(
        self,
        test_dataset: datasets.Dataset | Pairs,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "test",
        **gen_kwargs: Any,
    ) -> PredictionOutput:
        """Translations of token ids by the first model (teacher, model or first peer), whatever `predict_with_generate` says.

        Args:
            test_dataset: `input_ids` of one pair, or a dictionary of them; with `labels` there are figures, too.
            ignore_keys: taken for compatibility, without effect.
            metric_key_prefix: of the figures' names.
            gen_kwargs: `num_beams` and `max_length`.

        Returns:
            `predictions` and `label_ids` [rows, longest], filled up with -100, pair after pair; and `metrics`, as `evaluate`
            finds them out.

        Raises:
            DataError, TrainingError: as `evaluate`.
        """
        check_prefix(metric_key_prefix)
        pairs = as_pairs(test_dataset, ("input_ids",))
        if not pairs:
            raise DataError("predict needs a test_dataset")
        self.checked(pairs)
        labelled = all("labels" in dataset.column_names for dataset in pairs.values())
        with self.whole_models() as joint:
            made = self.translations(joint, pairs, gen_kwargs)
            losses = self.losses(joint, pairs) if labelled else {}
        labels, metrics = None, {}
        if labelled:
            labels = padded(row for dataset in pairs.values() for row in dataset["labels"])
            figures = losses | self.generation_metrics(pairs, made)
            metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        self.control = self.callback_handler.on_predict(self.args, self.state, self.control, metrics)
        return PredictionOutput(padded(row for name in pairs for row in made[0][name]), labels, metrics)

    def stopped_by_validation(self) -> None:
        """Called when a validation ends the training for want of progress, as by `EarlyStoppingCallback`."""

    # ---- State ----------------------------------------------------------------------------------------------------

    def save_training_state(self, folder: Path) -> None:
        """Adds where the streams stand and the figures since the last log line."""
        super().save_training_state(folder)
        number = self.state.global_step * self.micro_batches
        self.sampler_states = [
            stream.advance(state, number) for stream, state in zip(self.streams, self.sampler_states, strict=True)
        ]
        progress = self.progress()
        if self.args.should_save:
            save_sampler(self.streams, self.sampler_states, folder)
            save_json(progress, folder / PROGRESS)
            save_json(asdict(self.identity), folder / IDENTITY)

    def progress(self) -> dict[str, Any]:
        """What a checkpoint keeps of the training so far; to be called by all processes."""
        window = self._window.state_dict()
        found = {"clock": self._clock.state_dict(), "window": window, "skipped_updates": self.skipped_updates}
        return found | ({"samplers": self.samplers.state_dict()} if self.samplers else {})

    def take_progress(self, progress: Mapping[str, Any]) -> None:
        """Takes up what `progress` gave."""
        self._clock.load_state_dict(progress["clock"])
        self._window.load_state_dict(progress["window"])
        self.skipped_updates = progress["skipped_updates"]
        if self.samplers:
            self.samplers.load_state_dict(progress["samplers"])

    def load_training_state(self, folder: Path) -> None:
        """Takes up all models, the streams and the figures since the last log line."""
        super().load_training_state(folder)
        self.sampler_states = load_sampler(self.streams, folder)
        self.take_progress(load_json(folder / PROGRESS))

    def check_resumable(self, folder: Path, state: TrainerState, extend: int = 0) -> None:
        """Raises a TrainingError unless this is the training that the checkpoint is of, `extend` updates longer."""
        saved = read_identity(folder / IDENTITY) if (folder / IDENTITY).is_file() else None
        if saved and saved.decides["method"] != self.method:
            was = saved.decides["method"]
            raise TrainingError(f"{folder}: is of another training: method was {was}, now {self.method}; start a new run")
        position = load_sampler(self.streams, folder)[0].number
        if position != state.global_step * self.micro_batches:
            raise TrainingError(
                f"{folder}: its updates took {position / max(state.global_step, 1):g} micro-batches each, now "
                f"they would take {self.micro_batches} (processes × gradient_accumulation_steps); keep the product as it was"
            )
        if saved is None:
            if extend:
                raise TrainingError(f"extend: {folder} holds no record of its training (an older version's) to be made longer")
            logger.warning(
                f"{folder}: holds no record of its training (an older version's); only a recipe tells what it is of, and "
                "nothing whether the text is the same"
            )
            return
        now = self.identity
        asked = without_later(now.decides, saved.decides, self.args)
        if asked["max_steps"] == saved.planned:  # by its recipe, which says nothing of extensions
            asked["max_steps"] = saved.decides["max_steps"]
        if changed := differences(saved.decides, asked):
            raise TrainingError(
                f"{folder}: is of another training: {'; '.join(changed)}; keep what was, or start a new run"
                + (" (to train longer, give --extend)" if "max_steps" in changed[0] else "")
            )
        if taken := differences(saved.circumstances, now.circumstances):
            logger.warning(f"{folder}: goes on under other circumstances: {'; '.join(taken)}")
        if extend and saved.decides["max_steps"] > max(state.global_step, saved.planned):
            raise TrainingError(
                f"extend: {folder} is at update {state.global_step} of {saved.decides['max_steps']}, to which the training was "
                "made longer already; resume it to its end first"
            )
        longer = saved.extended(state.global_step, extend) if extend else saved
        self.args.max_steps = longer.decides["max_steps"]
        self.take_identity(dataclasses.replace(longer, circumstances=now.circumstances))


def check_sampling(function: SHARES | None, args: TranslationConfig) -> SHARES | None:
    """The function that says from which pairs to draw, if there is one.

    Raises:
        TrainingError: it is none, or something else says so, too.
    """
    if function is None:
        return None
    if not callable(function):
        raise TrainingError("sampling: is no function; give one from the share that is done, and sizes, to shares of pairs")
    if args.samplers or args.sampling_schedule or any(args.unimax_epochs or []):
        raise TrainingError("sampling: says how pairs are drawn; leave out samplers, sampling_schedule and unimax_epochs")
    return function


def as_is(batch: Any) -> Any:
    """The collator: `PairDataset` has padded the micro-batch already."""
    return batch

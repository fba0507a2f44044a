"""What every method shares: the parts, token batches, loss accounting, logs, and what a training is known by."""

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
from transformers.trainer_utils import TrainOutput, set_seed
from transformers.utils import logging

from hf_paretokd.data.batches import IGNORED
from hf_paretokd.data.encoding import Pairs, as_pairs
from hf_paretokd.data.languages import coded_directions, tell
from hf_paretokd.data.sampling import MicroBatchSampler, PairDataset, build_pair_batches
from hf_paretokd.data.seeds import derive_seed
from hf_paretokd.errors import DataError, TrainingError
from hf_paretokd.hub.upload import check_names
from hf_paretokd.layout import IDENTITY, PROGRESS
from hf_paretokd.models.building import prepare_for_training
from hf_paretokd.models.compiling import compiled_layers
from hf_paretokd.models.files import check_vocabulary
from hf_paretokd.models.joint import JointModel
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.training.callbacks import Clock, LogWindow
from hf_paretokd.training.checkpointing import MEANINGLESS
from hf_paretokd.training.checks import check_compiling, check_optimizer, trial_schedule
from hf_paretokd.training.contract import check_parameters
from hf_paretokd.training.evaluating import EvaluatingTrainer
from hf_paretokd.training.identity import Identity, differences, identity_of, read_identity, without_later
from hf_paretokd.training.parts import (
    Source,
    check_best_metric,
    check_callbacks,
    check_ids,
    check_kind,
    check_optimizers,
    check_reports,
    check_source_of_models,
    check_tokenizer,
    check_validations,
    common_tokenizer,
    initial_models,
    listed,
    loaded_models,
)
from hf_paretokd.training.samplers import Samplers, baseline_losses
from hf_paretokd.training.search import SEARCH, check_search, trial_arguments, with_changes
from hf_paretokd.training.sharding import check_sharding, gathered, is_sharded
from hf_paretokd.training.signature import data_hashes
from hf_paretokd.training.text import TrainingText, check_sampling
from hf_paretokd.utils.allocator import keep_freed_memory
from hf_paretokd.utils.files import load_json, save_json

logger = logging.get_logger(__name__)


class TranslationTrainer(EvaluatingTrainer):
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
    text_class: ClassVar[type[TrainingText]] = TrainingText
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
        sampling = check_sampling(others.pop("sampling", None), args)
        check_source_of_models(model, model_init, others.get("optimizers"))
        callbacks = check_callbacks(callbacks, args)
        texts = {"train_dataset": train_dataset, "eval_dataset": eval_dataset}
        self.given = {**texts, "model": model, "processing_class": processing_class, "callbacks": callbacks, **others}
        self.given |= {"args": copy.copy(args), "model_init": model_init, "sampling": sampling}
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
        for each in models:
            prepare_for_training(each)
            if args.device.type == "cpu":
                each.set_attn_implementation("eager")  # sdpa is slow there under bf16 autocast
            if tokenizer is not None:
                check_vocabulary(each, tokenizer)
                tell(each, tokenizer, coded_directions(tokenizer, self.train_pairs))
        self.checked = partial(check_ids, models)
        self.text = self.text_class(self.train_pairs, args, sampling, self.checked)
        self.checked(self.eval_pairs)
        self.eval_batches = build_pair_batches(self.eval_pairs, args.max_tokens)
        args.max_steps = self.text.updates or args.max_steps
        check_validations(args, self.eval_pairs, self.text.updates if self.train_pairs else 0)
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
        if self.eval_pairs and not self.figures_unknown:
            check_best_metric(args, self.figure_names())
        if args.push_to_hub:
            check_names(list(self.repositories(args.hub_model_id or "").values()))
        if args.learning:
            self.text.check_passes("samplers")
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
        args = self.given["args"]
        figure = f"eval_{(args.metric_for_best_model or 'loss').removeprefix('eval_')}"
        objective = compute_objective or partial(figure_of, figure)
        towards = direction or ("maximize" if args.greater_is_better else "minimize")
        check_search(hp_space, hp_name, n_trials, towards, backend, kwargs.get("n_jobs", 1))
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
        sampler: Any = MicroBatchSampler(self.text.streams, lambda: self.text.states, *places)
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
        return [derive_seed(self.args.seed, peer, "dropout", number) for peer in range(len(self.text.streams))]

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
        skipped = self.args.skip_nonfinite_updates and not torch.isfinite(loss)
        if skipped:
            loss = loss * math.nan  # no gradient can hide it, and all processes see it in theirs
        else:
            self.check_finite(shares, "loss")
        for name, tally in outputs["logs"].items():  # all processes have the same figures
            self._window.add(name, torch.zeros_like(tally) if skipped else tally)
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
        norms = self.clip_gradients(range(len(self.text.streams)))
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
            logs |= self._clock.speeds() | self.text.shares(self.state.global_step)
            if self.samplers:
                logs["sampler_seconds"] = round(self.samplers.seconds, 2)
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
        found = {"method": self.method, **optimizer, **self.text.deciding()}
        args, learning = self.args, {"samplers": self.args.samplers, "sampler baseline": self.baseline}
        if args.learning:
            fields = ("sampler_interval", "sampler_measure", "sampler_passes", "sampler_radius")
            found |= learning | {name: getattr(args, name) for name in fields}
        return found

    def kept_when_extended(self) -> dict[str, Any]:
        """What stays as it was when the training is made longer, although it follows from the arguments."""
        return {}

    def signature(self) -> str:
        """What has to be equal for two trainings to be the same: `method:all_in_one|depth:6-6|…|data:…|record:…|version:…`."""
        return self.identity.text

    def plan_updates(self, updates: int) -> None:
        """Makes this training another length; what begins anew has that which was given."""
        self.args.max_steps = self.settled.max_steps = updates

    def take_identity(self, saved: Identity) -> None:
        """Goes on as the training that a checkpoint is of."""
        self.identity = saved

    # ---- State ----------------------------------------------------------------------------------------------------

    def save_training_state(self, folder: Path) -> None:
        """Adds where the streams stand and the figures since the last log line."""
        super().save_training_state(folder)
        self.text.advance(self.state.global_step)
        progress = self.progress()
        if self.args.should_save:
            self.text.save(folder)
            save_json(progress, folder / PROGRESS)
            save_json(asdict(self.identity), folder / IDENTITY)

    def progress(self) -> dict[str, Any]:
        """What a checkpoint keeps of the training so far; to be called by all processes."""
        window = self._window.state_dict()
        found = {"clock": self._clock.state_dict(), "window": window, "skipped_updates": self.skipped_updates}
        if self.samplers:
            found |= {"samplers": self.samplers.state_dict(), "sampler_seconds": self.samplers.seconds}
        return found

    def take_progress(self, progress: Mapping[str, Any]) -> None:
        """Takes up what `progress` gave."""
        self._clock.load_state_dict(progress["clock"])
        self._window.load_state_dict(progress["window"])
        self.skipped_updates = progress["skipped_updates"]
        if self.samplers:
            self.samplers.load_state_dict(progress["samplers"])
            self.samplers.seconds = progress.get("sampler_seconds", 0.0)  # older ones do not say

    def load_training_state(self, folder: Path) -> None:
        """Takes up all models, the streams and the figures since the last log line."""
        super().load_training_state(folder)
        self.text.load(folder)
        self.take_progress(load_json(folder / PROGRESS))

    def check_resumable(self, folder: Path, state: TrainerState, extend: int = 0) -> None:
        """Raises a TrainingError unless this is the training that the checkpoint is of, `extend` updates longer."""
        saved = read_identity(folder / IDENTITY) if (folder / IDENTITY).is_file() else None
        if saved and saved.decides["method"] != self.method:
            was = saved.decides["method"]
            raise TrainingError(f"{folder}: is of another training: method was {was}, now {self.method}; start a new run")
        self.text.check_position(folder, state.global_step)
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
        self.plan_updates(longer.decides["max_steps"])
        self.take_identity(dataclasses.replace(longer, circumstances=now.circumstances))


def figure_of(name: str, metrics: Mapping[str, float]) -> float:
    """One of a validation's figures.

    Raises:
        TrainingError: there is none of that name.
    """
    if name not in metrics:
        raise TrainingError(f"metric_for_best_model: {name!r} is none of a validation's figures: {', '.join(metrics)}")
    return metrics[name]


def as_is(batch: Any) -> Any:
    """The collator: `PairDataset` has padded the micro-batch already."""
    return batch

"""What every method shares: token batches, loss accounting, validation, checkpoints, resume, logs."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    TrainerState,
)
from transformers.trainer_utils import TrainOutput

from hf_paretokd import checkpoints
from hf_paretokd.data.batches import side_lengths
from hf_paretokd.data.sampling import (
    MicroBatchSampler,
    MicroBatchStream,
    PairDataset,
    SamplerState,
    build_pair_batches,
    temperature_probabilities,
)
from hf_paretokd.data.seeds import derive_seed
from hf_paretokd.errors import DataError, TrainingError
from hf_paretokd.evaluation.validation import validation_sums
from hf_paretokd.models.building import check_vocabulary, prepare_for_training
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.joint import JointModel
from hf_paretokd.models.slicing import model_depth

SMOOTHING_VARIANTS = ("torch", "fairseq")
CHECKPOINTS = "checkpoints"
Pairs = Mapping[str, datasets.Dataset]


@dataclass
class TranslationConfig(Seq2SeqTrainingArguments):
    """Training arguments that all methods share; the rest is `Seq2SeqTrainingArguments`, with a translator's defaults.

    An update takes M = processes × `gradient_accumulation_steps` micro-batches; runs with equal M are equal trainings.

    Args:
        max_tokens: budget of a micro-batch: rows × longest side, padding and `</s>` included.
        temperature: τ of P(ℓ) ∝ N_ℓ^(1/τ), by which micro-batches are drawn from the language pairs.
        label_smoothing_variant: `torch` spreads ε over all entries, `fairseq` over the wrong ones.
    """

    max_tokens: int = field(default=4096, metadata={"help": "Budget of a micro-batch: rows times longest side."})
    temperature: float = field(default=1.0, metadata={"help": "τ of P(l) ∝ N_l^(1/τ) over the language pairs."})
    label_smoothing_variant: str = field(
        default="torch", metadata={"help": "Spread label smoothing over all entries (torch) or the wrong ones (fairseq)."}
    )
    label_smoothing_factor: float = field(default=0.1, metadata={"help": "Label smoothing ε."})
    learning_rate: float = field(default=5e-4, metadata={"help": "Peak learning rate."})
    lr_scheduler_type: str = field(default="inverse_sqrt", metadata={"help": "Schedule of the learning rate."})
    warmup_steps: float = field(default=4000, metadata={"help": "Updates of linear warm-up (a share if below 1)."})
    adam_beta2: float = field(default=0.98, metadata={"help": "Adam's β₂."})
    eval_strategy: str = field(default="steps", metadata={"help": "When to validate: steps or no."})
    eval_steps: float | None = field(default=500, metadata={"help": "Updates between two validations."})
    save_steps: float | None = field(default=None, metadata={"help": "Updates between checkpoints (default: eval_steps)."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints kept: the best and the newest."})
    logging_steps: float = field(default=100, metadata={"help": "Updates between two log lines."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "End with the best checkpoint."})
    metric_for_best_model: str | None = field(default="loss", metadata={"help": "Validation figure that decides."})
    greater_is_better: bool | None = field(default=False, metadata={"help": "Whether larger figures are better."})
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "Every parameter is used."})
    ignore_data_skip: bool = field(default=True, metadata={"help": "Left on: the stream starts where it stopped."})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Left off: a NaN ends the training."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Left off: all columns are used."})

    def __post_init__(self) -> None:
        if self.save_steps is None:
            self.save_steps = self.eval_steps or 500
        if self.eval_strategy == "no":
            self.load_best_model_at_end = False  # nothing tells which would be best
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()  # else bf16 and two processes refuse a CPU
        super().__post_init__()
        if self.label_smoothing_variant not in SMOOTHING_VARIANTS:
            raise TrainingError(
                f"label_smoothing_variant: {self.label_smoothing_variant!r} is not one of {', '.join(SMOOTHING_VARIANTS)}"
            )
        for name, low, high in (
            ("max_tokens", 1, math.inf),
            ("temperature", 1e-9, math.inf),
            ("label_smoothing_factor", 0, 0.999999),
            ("learning_rate", 0, math.inf),
        ):
            if not low <= getattr(self, name) <= high:
                raise TrainingError(f"{name}: {getattr(self, name)} is out of range ({low} to {high})")
        if not self.average_tokens_across_devices and self.world_size > 1:
            raise TrainingError(
                "average_tokens_across_devices: must stay on; the loss is divided by the tokens of all processes"
            )
        if "epoch" in (self.eval_strategy, self.save_strategy, self.logging_strategy):
            raise TrainingError("strategy 'epoch': the stream of micro-batches has no end; use 'steps'")


class TranslationTrainer(Seq2SeqTrainer):
    """A `Seq2SeqTrainer` over a stream of token micro-batches, for models that compute their own losses.

    Args:
        model: the joint model; methods build it from the user's.
        args: the method's configuration.
        train_dataset: token ids (`input_ids`, `labels`) of one pair, or a dictionary of them keyed by pair.
        eval_dataset: the same for validation.
        processing_class: the tokenizer; saved with every model.
        callbacks: as in the Trainer.

    Raises:
        TrainingError, DataError, ModelError: the parts do not fit together.
    """

    def __init__(
        self,
        model: JointModel,
        args: TranslationConfig,
        train_dataset: datasets.Dataset | Pairs | None = None,
        eval_dataset: datasets.Dataset | Pairs | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        if args.n_gpu > 1:
            raise TrainingError(f"{args.n_gpu} GPUs in one process: use torchrun or accelerate launch, one process a GPU")
        self.train_pairs, self.eval_pairs = as_pairs(train_dataset), as_pairs(eval_dataset)
        for _, each in model.named_models():
            prepare_for_training(each)
            if args.device.type == "cpu":
                each.set_attn_implementation("eager")  # faster than sdpa on sentences
            if processing_class is not None:
                check_vocabulary(each, processing_class)
            check_lengths(each, {**self.train_pairs, **self.eval_pairs})
        self.train_batches = build_pair_batches(self.train_pairs, args.max_tokens, args.seed, 0)
        self.eval_batches = build_pair_batches(self.eval_pairs, args.max_tokens, args.seed, 0)
        self.micro_batches = args.gradient_accumulation_steps * args.world_size  # M of an update
        batches = sum(map(len, self.train_batches.values()))
        self.updates_per_pass = batches / self.micro_batches
        if args.max_steps <= 0 and batches:
            args.max_steps = math.ceil(args.num_train_epochs * self.updates_per_pass)
        self.sampler_state = SamplerState()
        self._tallies: dict[str, Tensor] = {}
        self._clock = Clock(self)
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=[self._clock, *(callbacks or [])],
        )
        self.model_accepts_loss_kwargs = True  # have the Trainer count target tokens over the whole update
        self.loss_is_scaled_for_ga = True  # compute_loss divides by that count

    # ---- Data -----------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader:
        """The process's share of the stream, from the update the training stands at."""
        if not self.train_pairs:
            raise DataError("training needs a train_dataset")
        sizes = {name: batches.sentences for name, batches in self.train_batches.items()}
        self.stream = MicroBatchStream(
            self.train_batches, temperature_probabilities(sizes, self.args.temperature), self.args.seed
        )
        sampler = MicroBatchSampler(self.stream, lambda: self.sampler_state, self.args.process_index, self.args.world_size)
        workers = self.args.dataloader_num_workers
        return DataLoader(
            PairDataset(self.train_pairs, self.model.config.pad_token_id),
            batch_sampler=sampler,
            collate_fn=as_is,
            num_workers=workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
            prefetch_factor=self.args.dataloader_prefetch_factor if workers else None,
        )

    # ---- Losses ---------------------------------------------------------------------------------------------------

    def joint_arguments(self, number: int) -> dict[str, Any]:
        """What a method adds to the batch for micro-batch `number` (sampled students, weights that change)."""
        return {}

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict]:
        """The micro-batch's share of the update's loss per target token (over all micro-batches and processes)."""
        number = inputs.pop("number")
        torch.manual_seed(derive_seed(self.args.seed, 0, "dropout", number))
        outputs = model(**inputs, **self.joint_arguments(number))
        loss = outputs["loss"] / num_items_in_batch * self.accelerator.num_processes  # DDP averages over processes
        if not torch.isfinite(loss):
            raise TrainingError(
                f"update {self.state.global_step + 1}: the loss is {loss.item()}; lower learning_rate or max_grad_norm, "
                f"lengthen warmup_steps, and resume from {checkpoints.last_checkpoint(self.checkpoint_folder) or 'the start'}"
            )
        for name, tally in outputs["logs"].items():
            self._tallies[name] = self._tallies.get(name, 0) + tally
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the method's own figures, averaged over all micro-batches since the last line, to the training log."""
        if "loss" in logs and self._tallies:
            for name, tally in self._tallies.items():
                total, count = self.accelerator.reduce(tally, reduction="sum").tolist()
                logs[name] = total / count if count else 0.0
            self._tallies = {}
        logs["seconds"] = round(self.seconds_trained, 1)
        super().log(logs, start_time)

    @property
    def seconds_trained(self) -> float:
        """Wall time of training so far, validation and saving included, over all parts of a resumed run."""
        return self._clock.seconds

    # ---- Validation -----------------------------------------------------------------------------------------------

    def validation_depths(self) -> Sequence[Depth]:
        """The depths whose mean cross-entropy selects the model."""
        return (model_depth(self.model.main_model),)

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
            depth and `eval_loss_xx-yy` for every pair, if there are several.
        """
        pairs = self.eval_pairs if eval_dataset is None else as_pairs(eval_dataset)
        batches = self.eval_batches if eval_dataset is None else build_pair_batches(pairs, self.args.max_tokens)
        if not pairs:
            raise DataError("validation needs an eval_dataset")
        depths, model = self.validation_depths(), self.model.main_model
        model.to(self.args.device)
        was_training = self.model.training
        self.model.eval()
        with self.accelerator.autocast():
            sums = validation_sums(
                model,
                pairs,
                batches,
                depths,
                self.args.label_smoothing_factor,
                self.args.label_smoothing_variant,
                self.args.process_index,
                self.args.world_size,
            )
        self.model.train(was_training)
        sums = self.accelerator.reduce(sums.to(self.args.device), reduction="sum").cpu()
        metrics = validation_metrics(sums, list(pairs), depths, metric_key_prefix)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        best = super()._determine_best_metric(metrics, trial)
        if best and self.is_in_train:
            self.control.should_save = True  # a best model that was never written could not be loaded again
        return best

    # ---- Checkpoints ----------------------------------------------------------------------------------------------

    @property
    def checkpoint_folder(self) -> Path:
        """Where `checkpoint-N` folders are."""
        return Path(self.args.output_dir) / CHECKPOINTS

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.checkpoint_folder)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> TrainOutput:
        """Trains; `resume_from_checkpoint=True` continues from the newest checkpoint if there is one."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = checkpoints.last_checkpoint(self.checkpoint_folder)
        if not resume_from_checkpoint:
            return super().train(**kwargs)
        state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / "trainer_state.json"))
        position = checkpoints.load_sampler_state(Path(resume_from_checkpoint)).number
        if position != state.global_step * self.micro_batches:
            raise TrainingError(
                f"{resume_from_checkpoint}: its updates took {position / max(state.global_step, 1):g} micro-batches each, now "
                f"they would take {self.micro_batches} (processes × gradient_accumulation_steps); keep the product as it was"
            )
        if state.global_step < self.args.max_steps:
            return super().train(resume_from_checkpoint=str(resume_from_checkpoint), **kwargs)
        self.state = state  # all updates are done, only the end was cut off
        self._clock.restore(state)
        self._load_models(Path(state.best_model_checkpoint or resume_from_checkpoint))
        return TrainOutput(state.global_step, math.nan, {})

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        for name, model in self.model.named_models():
            checkpoints.save_model(model, self.processing_class, folder / name)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Writes every model as a plain checkpoint below `output_dir` (default: the run folder), from the main process."""
        if self.args.should_save:
            self._save(output_dir)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        self.sampler_state = self.stream.advance(self.sampler_state, self.state.global_step * self.micro_batches)
        if self.args.should_save:
            checkpoints.save_sampler_state(self.sampler_state, Path(output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        self._load_models(folder)
        self.sampler_state = checkpoints.load_sampler_state(folder)

    def _load_best_model(self) -> None:
        self._load_models(Path(self.state.best_model_checkpoint))

    def _load_models(self, folder: Path) -> None:
        self.accelerator.wait_for_everyone()  # the main process may still be writing it
        for name, model in self.model.named_models():
            checkpoints.load_weights(model, folder / name)


class Clock(TrainerCallback):
    """Keeps time in passes over the corpus (`state.epoch`) and in seconds, also across a resume."""

    def __init__(self, trainer: TranslationTrainer) -> None:
        self.trainer = trainer
        self.before, self.start = 0.0, None

    @property
    def seconds(self) -> float:
        """Wall time since training began, less the pauses between a stop and its resume."""
        return self.before + (time.monotonic() - self.start if self.start else 0.0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Starts the clock."""
        self.restore(state)
        self.start = time.monotonic()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stops the clock: what comes after is not training."""
        self.before, self.start = self.seconds, None

    def restore(self, state: TrainerState) -> None:
        """Goes on from the last time in the log; finds the best checkpoint again if the run folder was moved."""
        self.before = next((line["seconds"] for line in reversed(state.log_history) if "seconds" in line), 0.0)
        best = self.trainer.checkpoint_folder / f"checkpoint-{state.best_global_step}"
        state.best_model_checkpoint = str(best) if best.is_dir() else None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Overwrites the epoch that the Trainer counts from the length of its loader."""
        state.epoch = state.global_step / self.trainer.updates_per_pass


def validation_metrics(sums: Tensor, pairs: Sequence[str], depths: Sequence[Depth], prefix: str) -> dict[str, float]:
    """Means of the sums of `validation_sums` in all the ways they are logged."""
    means = sums[..., :2] / sums[..., 2:]  # [pairs, depths, (loss, nll)]
    loss, nll = means.mean((0, 1)).tolist()
    metrics = {f"{prefix}_loss": loss, f"{prefix}_nll": nll}
    if len(depths) > 1:
        metrics |= {f"{prefix}_loss_{depth}": means[:, index, 0].mean().item() for index, depth in enumerate(depths)}
    if len(pairs) > 1:
        metrics |= {f"{prefix}_loss_{pair}": means[index, :, 0].mean().item() for index, pair in enumerate(pairs)}
    return metrics


def as_pairs(dataset: datasets.Dataset | Pairs | None) -> dict[str, datasets.Dataset]:
    """A dictionary keyed by pair; a lone data set gets the name `corpus`.

    Raises:
        DataError: a data set is empty or lacks the columns `input_ids` and `labels`.
    """
    if dataset is None:
        return {}
    pairs = dict(dataset) if isinstance(dataset, Mapping) else {"corpus": dataset}
    for name, each in pairs.items():
        lacking = {"input_ids", "labels"} - set(each.column_names)
        if lacking:
            raise DataError(f"data set {name}: column {sorted(lacking)[0]!r} is missing; encode_split makes the right ones")
        if len(each) == 0:
            raise DataError(f"data set {name}: has no rows")
    return pairs


def check_lengths(model: PreTrainedModel, pairs: Pairs) -> None:
    """Raises a DataError if a sentence is longer than the model's position table."""
    limit = getattr(model.config, "max_position_embeddings", None)
    for name, dataset in pairs.items() if limit else ():
        longest = max(int(lengths.max()) for lengths in side_lengths(dataset))
        if longest > limit:
            raise DataError(
                f"{name}: a sentence has {longest} tokens, the model's position table only {limit}; lower data.max_length"
            )


def as_is(batch: dict[str, Any]) -> dict[str, Any]:
    """The collator: `PairDataset` has padded the micro-batch already."""
    return batch

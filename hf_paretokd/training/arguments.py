"""Training arguments that all methods share."""

import dataclasses
import inspect
import math
import os
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from transformers import Seq2SeqTrainingArguments
from transformers.trainer_utils import IntervalStrategy, SchedulerType
from transformers.utils import logging

from hf_paretokd.data.changing import phases_of
from hf_paretokd.data.sampling import SAMPLER_NAMES, sampling_names
from hf_paretokd.errors import TrainingError
from hf_paretokd.training.checks import RANGES, check_ranges, check_types, settle_kinds
from hf_paretokd.training.contract import check_refused, warn_of_idle
from hf_paretokd.training.processes import check_engine, join_processes
from hf_paretokd.training.shares import MEASURES

logger = logging.get_logger(__name__)
SMOOTHING_VARIANTS = ("torch", "fairseq")
LOSSES = re.compile("loss|nll")  # in the names of figures that are better where they are smaller
PRECISIONS = ("no", "bf16", "fp16")
SIGNED_IF_SET = ("unimax_epochs", "ema_decay", "samplers", "sampling_schedule")
SAMPLERS = tuple(kind for kind in SAMPLER_NAMES if kind != "schedule")
OF_SAMPLERS = {
    "sampler_measure": "multi_uat",
    "sampler_passes": "multi_uat",
    "sampler_radius": "chi_ibr",
    "sampler_baseline": "chi_ibr",
}


@dataclass
class TranslationConfig(Seq2SeqTrainingArguments):
    """Training arguments that all methods share; the rest is `Seq2SeqTrainingArguments`, with a translator's defaults.

    An update takes M = processes × `gradient_accumulation_steps` micro-batches; runs with equal M are equal trainings.

    Args:
        output_dir: the run's folder.
        max_grad_norm: norm to which the gradient of each model's loss per token is cut, with All-in-One KD that of the mean
            over the losses of teacher and students; None or 0 leaves it as it is. `clipped` in the log is the share of updates
            that were cut.
        max_tokens: budget of a micro-batch: rows × longest side, padding and `</s>` included.
        temperatures: τ of P(ℓ) ∝ N_ℓ^(1/τ), by which micro-batches are drawn from the language pairs; one for each model
            that is trained on a stream of its own (PMD Eq. 2).
        unimax_epochs: N of UniMax sampling, in place of a temperature: pairs are drawn as evenly as can be without any text
            being seen more than N times (Chung et al., ICLR 2023); one for each temperature, 0 where the temperature counts.
        samplers: for each temperature what learns from which pairs to draw, beginning as the temperature has it, or `none`:
            `multi_dds` (MultiDDS-S, Wang et al., ACL 2020), by gradients on validation text; `multi_uat` (MultiUAT, Wu et al.,
            EMNLP 2021), by uncertainty on validation text; `chi_ibr` (χ-IBR, Zhou et al., EMNLP 2021), by training losses
            beyond those of a finished model.
        sampler_interval: updates between two of its decisions; default: 1,000, 2,000, or a pass over the text.
        sampler_measure: of `multi_uat`: `pre_tp`, `exp_tp`, `var_tp`, `com_tp`, `ent_tp` or `ent_eos`.
        sampler_passes: of `multi_uat`: K, passes with dropout that are averaged.
        sampler_radius: of `chi_ibr`: ρ, how far the shares may be from those of the text.
        sampler_baseline: of `chi_ibr`: the finished plain run, or model, whose losses are the baseline.
        sampling_schedule: phases of the training, each a dictionary of its `share` of the updates, and where they change its
            `temperature` and the `pairs` that are drawn; for all peers.
        stream_buffer: rows of a stream (an `IterableDataset`) that are read and shuffled together.
        loss_memory: gigabytes that the log-probabilities of a micro-batch may take, where they are needed twice (All-in-One
            KD); beyond it they are computed again, at one more output product for each model. Both are exact.
        skip_nonfinite_updates: leave out updates whose loss or gradient is infinite or not a number, and count them
            (`skipped_updates`), rather than ending the training.
        ema_decay: d; models are validated, saved and sliced as the average of their weights over all updates, in which every
            update counts d times as much as the next; 0.999 is usual. Default: as they are after the last update.
        bf16: autocast to bfloat16, weights and losses staying in float32; default: where the machine has instructions for it.
        label_smoothing_variant: `torch` spreads ε over all entries, `fairseq` over the wrong ones.
        label_smoothing_factor: label smoothing ε.
        learning_rate: its peak.
        lr_scheduler_type: schedule of the learning rate.
        warmup_steps: updates of linear warm-up, or a share of all if below 1.
        adam_beta2: Adam's β₂.
        gradient_accumulation_steps: micro-batches of an update in every process.
        eval_strategy: when to validate: `steps` or `no`.
        eval_steps: updates between two validations.
        save_strategy: when to save: `steps`, `best` or `no`.
        save_steps: updates between two checkpoints; default: `eval_steps`.
        save_total_limit: checkpoints that are kept; the best and the newest always are.
        logging_strategy: when to log: `steps` or `no`.
        logging_steps: updates between two log lines.
        load_best_model_at_end: end with the best checkpoint.
        metric_for_best_model: validation figure that decides which is best.
        greater_is_better: whether larger figures are better; default: unless its name says loss or nll.
        push_to_hub: upload every model with its card when it has been scored; nothing is uploaded during the training.
        hub_model_id: user/name that models are uploaded under, each with its depth behind.
        hub_private_repo: whether new repositories are private; default: they are.
        hub_token: not in a recipe, which is kept in the run; log in with `hf auth login`, or set HF_TOKEN.
        torch_compile: compile the layers, with `torch_compile_backend` and `torch_compile_mode`.
        ddp_find_unused_parameters: left off: every parameter is used.
        ignore_data_skip: left on: the stream starts where it stopped.
        logging_nan_inf_filter: left off: a NaN ends the training.
        remove_unused_columns: left off: all columns are used.
    """

    SIGNED: ClassVar[dict[str, str]] = {  # fields that the training's signature always names, under short names
        "temperatures": "tau",
        "max_steps": "updates",
        "learning_rate": "lr",
        "label_smoothing_factor": "smoothing",
        "bf16": "bf16",
        "seed": "seed",
    }

    output_dir: str = "trainer_output"  # a folder's name, also where it is `null`
    max_grad_norm: float | None = 1.0  # type: ignore[assignment]  # None as in the Trainer, which declares it too narrowly
    max_tokens: int = 4096
    stream_buffer: int = 10_000
    temperatures: list[float] = field(default_factory=lambda: [1.0])
    unimax_epochs: list[float] | None = None
    samplers: list[str] | None = None
    sampler_interval: int | None = None
    sampler_measure: str = "ent_eos"
    sampler_passes: int = 10
    sampler_radius: float = 0.05
    sampler_baseline: str | None = None
    sampling_schedule: list[dict] | None = None
    loss_memory: float = 1.0
    skip_nonfinite_updates: bool = False
    ema_decay: float | None = None
    bf16: bool | None = None  # type: ignore[assignment]  # None: where the machine has it
    label_smoothing_variant: str = "torch"
    label_smoothing_factor: float = 0.1
    learning_rate: float = 5e-4
    lr_scheduler_type: SchedulerType | str = "inverse_sqrt"
    warmup_steps: float = 4000
    adam_beta2: float = 0.98
    eval_strategy: IntervalStrategy | str = "steps"
    eval_steps: float | None = 500
    save_steps: float | None = None  # type: ignore[assignment]  # None: `eval_steps`
    save_total_limit: int | None = 2
    logging_steps: float = 100
    load_best_model_at_end: bool = True
    metric_for_best_model: str | None = "loss"
    greater_is_better: bool | None = None
    ddp_find_unused_parameters: bool | None = False
    ignore_data_skip: bool = True
    logging_nan_inf_filter: bool = False
    remove_unused_columns: bool = False

    def __post_init__(self) -> None:
        settle_kinds(self)
        check_types(self)
        warn_of_idle(self)
        if self.save_steps is None:
            self.save_steps = self.eval_steps or 500
        if "no" in (self.eval_strategy, self.save_strategy):
            self.load_best_model_at_end = False  # nothing tells which would be best, or it is not there
        if self.greater_is_better is None and self.metric_for_best_model:
            self.greater_is_better = not LOSSES.search(self.metric_for_best_model)
        self.use_cpu = bool(self.use_cpu) or not torch.accelerator.is_available()  # else bf16 and two processes refuse a CPU
        self.check()  # also before what transformers makes of it, whose messages name no field
        chosen = self.bf16 is not None or self.fp16
        self.settle_precision()
        if self.use_cpu:
            join_processes(self.ddp_backend, self.ddp_timeout)
        try:
            super().__post_init__()
        except (ValueError, ImportError, RuntimeError, ArithmeticError) as error:
            raise TrainingError(" ".join(str(error).split())) from error
        if chosen and not (self.bf16 or self.fp16):
            self.mixed_precision = "no"  # the Trainer would ask the launcher once more

    def settle_precision(self) -> None:
        """Takes the precision from the launcher, or from what the machine has, where the arguments say nothing.

        Raises:
            TrainingError: there is no such precision here.
        """
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION")  # what `accelerate launch` or its configuration says
        if launched not in (None, *PRECISIONS):
            raise TrainingError(
                f"ACCELERATE_MIXED_PRECISION: {launched!r}, from the launcher or its configuration, is not one of "
                f"{', '.join(PRECISIONS)}"
            )
        if self.bf16 is not None or self.fp16:
            self.bf16 = bool(self.bf16)
        elif launched is not None:
            self.bf16, self.fp16 = launched == "bf16", launched == "fp16"
        else:
            self.bf16 = has_bf16(self.use_cpu)
            if self.bf16:
                logger.warning("bf16 autocast is on, because this machine has instructions for it (--bf16 false: float32)")
        if self.fp16 and self.use_cpu:
            raise TrainingError("fp16: a CPU does not train in it; set bf16, or leave both out, here and in the launcher")

    def check(self) -> None:
        """Looks at every argument; trainers do so again, because arguments may be set after they were made.

        Raises:
            TrainingError: one could not be honoured; names it and what to do instead.
        """
        check_types(self)
        check_engine()
        check_refused(self)
        check_ranges(self, RANGES)
        if not self.output_dir:
            raise TrainingError("output_dir: is empty; name a folder")
        if "epoch" in (self.eval_strategy, self.save_strategy, self.logging_strategy):
            raise TrainingError("strategy 'epoch': the stream of micro-batches has no end; use 'steps'")
        for name in ("eval_steps", "save_steps", "logging_steps"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise TrainingError(f"{name}: {getattr(self, name):g} is not above 0; to switch it off set its strategy to no")
        if self.label_smoothing_variant not in SMOOTHING_VARIANTS:
            raise TrainingError(
                f"label_smoothing_variant: {self.label_smoothing_variant!r} is not one of {', '.join(SMOOTHING_VARIANTS)}"
            )
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise TrainingError(f"ema_decay: {self.ema_decay} is not between 0 and 1; leave it out to average nothing")
        if self.max_steps == -1 and not 0 < self.num_train_epochs < math.inf:
            raise TrainingError(f"num_train_epochs: {self.num_train_epochs} is not above 0; or set max_steps")
        if self.max_steps != -1 and self.max_steps < 1:
            raise TrainingError(f"max_steps: {self.max_steps} is not 1 or more; leave it out to train for num_train_epochs")
        for temperature in self.temperatures:
            if not temperature > 0:
                raise TrainingError(f"temperatures: {temperature:g} is not positive")
        for epochs in self.unimax_epochs or ():
            if not 0 <= epochs < math.inf:
                raise TrainingError(f"unimax_epochs: {epochs:g} is not 0 or more")
        if self.unimax_epochs is not None and len(self.unimax_epochs) != len(self.temperatures):
            raise TrainingError(
                f"unimax_epochs: {len(self.unimax_epochs)} are given for {len(self.temperatures)} temperatures; give one for "
                "each, 0 where the temperature counts"
            )
        self.check_samplers()
        self.check_peers()

    def check_samplers(self) -> None:
        """Raises a TrainingError unless what draws the pairs is one thing a peer, and has what it needs."""
        kinds = self.samplers or []
        check_ranges(
            self, {"sampler_interval": (1, math.inf), "sampler_passes": (1, math.inf), "sampler_radius": (0, math.inf)}
        )
        if self.samplers is not None and len(kinds) != len(self.temperatures):
            raise TrainingError(
                f"samplers: {len(kinds)} are given for {len(self.temperatures)} temperatures; give one for each, none where "
                "the temperature counts"
            )
        for peer, kind in enumerate(kinds):
            if kind not in ("none", *SAMPLERS):
                raise TrainingError(f"samplers: {kind!r} is not one of none, {', '.join(SAMPLERS)}")
            if kind != "none" and self.unimax_epochs and self.unimax_epochs[peer]:
                raise TrainingError("samplers, unimax_epochs: both say how one peer draws; leave one out")
        if self.sampler_measure not in MEASURES:
            raise TrainingError(f"sampler_measure: {self.sampler_measure!r} is not one of {', '.join(MEASURES)}")
        if "chi_ibr" in kinds and not self.sampler_baseline:
            raise TrainingError(
                "sampler_baseline: chi_ibr compares losses with those of a finished plain training; name its run"
            )
        if self.learning and self.dataloader_num_workers:
            raise TrainingError("dataloader_num_workers: draws ahead of what samplers decide; set it to 0")
        if self.sampler_interval and not self.learning:
            raise TrainingError("sampler_interval: is for a sampler that learns; set samplers")
        for name, kind in OF_SAMPLERS.items():
            if kind not in kinds and getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise TrainingError(f"{name}: is for {kind}; set samplers")
        if self.sampling_schedule is not None:
            phases_of(self.sampling_schedule)
            if self.learning or any(self.unimax_epochs or []):
                raise TrainingError("sampling_schedule: says how pairs are drawn; leave out samplers and unimax_epochs")

    @property
    def learning(self) -> bool:
        """Whether a sampler learns."""
        return any(kind != "none" for kind in self.samplers or [])

    def sampling_names(self) -> list[str]:
        """What every peer samples by, for tables: `τ = 5` or `UniMax 4`."""
        kinds = ["schedule"] * len(self.temperatures) if self.sampling_schedule else self.samplers
        return sampling_names(self.temperatures, self.unimax_epochs, kinds)

    def signature_fields(self) -> dict[str, Any]:
        """What makes two trainings with these arguments equal: fields always named, and the method's own that were changed."""
        named = {short: getattr(self, name) for name, short in self.SIGNED.items()}
        named["tokens"] = f"{self.max_tokens}x{self.gradient_accumulation_steps * self.world_size}"
        for item in own_fields(type(self)):
            default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
            if item.name not in self.SIGNED and getattr(self, item.name) != default:
                named[item.name] = getattr(self, item.name)
        return named | {name: value for name in SIGNED_IF_SET if (value := getattr(self, name)) is not None}

    def check_peers(self) -> None:
        """Raises a TrainingError unless there is one temperature for each model."""
        if len(self.temperatures) != 1:
            raise TrainingError(f"temperatures: one model is trained, but {len(self.temperatures)} are given; name one")


def own_fields(kind: type[TranslationConfig]) -> list[dataclasses.Field]:
    """The arguments that a method has beyond those of all methods, also where its class was derived from once more."""
    derived = [each for each in kind.__mro__ if issubclass(each, TranslationConfig) and each is not TranslationConfig]
    names = {name for each in derived or [kind] for name in inspect.get_annotations(each)}
    return [item for item in dataclasses.fields(kind) if item.name in names]


def has_bf16(cpu: bool) -> bool:
    """Whether the CPU, or else the GPU, multiplies bfloat16 matrices without emulation."""
    if cpu:
        able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)

"""What can be said of arguments before a training: their types, their ranges, whether the schedule runs to the end."""

import copy
import dataclasses
import math
import os
import typing
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from types import UnionType
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import Seq2SeqTrainingArguments, Trainer, get_scheduler
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from hf_paretokd.errors import TrainingError

RANGES: Mapping[str, tuple[float, float]] = {
    "max_tokens": (1, math.inf),
    "stream_buffer": (1, math.inf),
    "label_smoothing_factor": (0, 0.999999),
    "learning_rate": (0, math.inf),
    "warmup_steps": (0, math.inf),
    "weight_decay": (0, math.inf),
    "adam_beta1": (0, 0.999999999),
    "adam_beta2": (0, 0.999999999),
    "adam_epsilon": (0, math.inf),
    "loss_memory": (0, math.inf),
    "max_grad_norm": (0, math.inf),
    "gradient_accumulation_steps": (1, math.inf),
    "generation_num_beams": (1, 100),
    "generation_max_length": (2, math.inf),
    "seed": (0, 2**32 - 1),
    "eval_delay": (0, math.inf),
    "save_total_limit": (1, math.inf),
    "dataloader_num_workers": (0, math.inf),
    "dataloader_prefetch_factor": (1, math.inf),
    "ddp_timeout": (1, math.inf),
}
MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")  # of torch.compile
CHECKPOINTING = {"use_reentrant", "preserve_rng_state", "context_fn", "determinism_check", "debug", "early_stop"}
NUMBERS = {float: Real, int: Integral}


def settle_kinds(args: Any) -> None:
    """Makes lists of tuples, text of a path, and nothing of what is off, so that arguments are what they declare."""
    for item in dataclasses.fields(args):
        value = getattr(args, item.name)
        if isinstance(value, tuple):
            setattr(args, item.name, list(value))
    if isinstance(args.output_dir, os.PathLike):
        args.output_dir = os.fspath(args.output_dir)
    if args.max_grad_norm == math.inf:
        args.max_grad_norm = None
    args.report_to = "none" if args.report_to is None else args.report_to
    if not args.neftune_noise_alpha:
        args.neftune_noise_alpha = None  # transformers takes 0 for noise


def check_compiling(args: Any) -> None:
    """Raises a TrainingError if layers cannot be compiled, or activations computed again, as the arguments say."""
    known = torch.compiler.list_backends(exclude_tags=()) if args.torch_compile else []
    if args.torch_compile and args.torch_compile_backend not in (None, *known):
        raise TrainingError(f"torch_compile_backend: {args.torch_compile_backend!r} is not one of {', '.join(known)}")
    if args.torch_compile and args.torch_compile_mode not in (None, *MODES):
        raise TrainingError(f"torch_compile_mode: {args.torch_compile_mode!r} is not one of {', '.join(MODES)}")
    for name in ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"):
        given = getattr(args, name, None) or {}
        if unknown := set(given) - CHECKPOINTING:
            raise TrainingError(f"{name}: {sorted(unknown)[0]!r} is not one of {', '.join(sorted(CHECKPOINTING))}")


def check_types(args: Seq2SeqTrainingArguments) -> None:
    """Raises a TrainingError if a value is not of the type that its argument declares, or none of its choices."""
    declared = hints(type(args))
    for item in dataclasses.fields(args):
        name, value, choices = item.name, getattr(args, item.name), item.metadata.get("choices")
        if choices and value is not None and value not in choices:
            raise TrainingError(f"{name}: {value!r} is not one of {', '.join(map(str, choices))}")
        hint = declared[name]
        if not fits(value, hint):
            wanted = " or ".join(each.__name__ if isinstance(each, type) else str(each) for each in alternatives(hint))
            raise TrainingError(f"{name}: {value!r} is not of the type {wanted.replace('NoneType', 'None')}")


def hints(kind: type) -> dict[str, Any]:
    """The types of a configuration's arguments."""
    found = typing.get_type_hints(kind)
    found["accelerator_config"] |= AcceleratorConfig  # what the Trainer's own configuration makes of it
    for name in ("debug", "fsdp"):
        found[name] |= bool | None  # what transformers takes, although it declares less
    return found


def alternatives(hint: Any) -> Sequence[Any]:
    """The types that a union allows, or the one that is none."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, UnionType) else (hint,)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is what a type says; numbers of other libraries are numbers, switches and text are none."""
    return any(fits_one(value, typing.get_origin(each) or each, typing.get_args(each)) for each in alternatives(hint))


def fits_one(value: Any, kind: Any, parts: Sequence[Any]) -> bool:
    """Whether a value is of a type, and what it holds of the type's parts."""
    if kind is Any or not isinstance(kind, type):
        return True
    if kind in NUMBERS:
        return isinstance(value, NUMBERS[kind]) and not isinstance(value, bool)
    inside = value if isinstance(value, list) and parts else []
    if kind is bool:
        return isinstance(value, bool | np.bool_)
    return isinstance(value, kind) and all(fits(part, parts[0]) for part in inside)


def check_ranges(args: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raises a TrainingError if a number lies outside its range, which includes both ends but for infinity."""
    for name, (low, high) in ranges.items():
        value = getattr(args, name)
        if value is not None and not (low <= value <= high and math.isfinite(value)):
            raise TrainingError(f"{name}: {value} is out of range ({low} to {high})")


def check_optimizer(args: Seq2SeqTrainingArguments, model: Any) -> None:
    """Raises a TrainingError if the optimizer that the arguments name cannot be made, or knows nothing of `optim_args`."""
    name = OptimizerNames(args.optim).value
    try:
        kind, options = Trainer.get_optimizer_cls_and_kwargs(args, model)
        bare = copy.copy(args)
        bare.optim_args = None
        without = Trainer.get_optimizer_cls_and_kwargs(bare, model)
    except (ValueError, ImportError, TypeError, AttributeError, KeyError) as error:
        raise TrainingError(f"optim {name}, optim_args {args.optim_args!r}: {' '.join(str(error).split())}") from error
    if args.optim_args and (kind, options) == without:
        raise TrainingError(f"optim_args: {args.optim_args!r} means nothing to the optimizer {name}; leave it out")


def trial_schedule(args: Seq2SeqTrainingArguments, steps: int) -> LRScheduler:
    """The schedule of a training, or a stage, that long, over an optimizer that trains nothing.

    Raises:
        TrainingError: its arguments do not fit, or it does not reach the last update.
    """
    stand_in, warmup = torch.optim.SGD([torch.zeros(1)], lr=max(args.learning_rate, 1e-30)), args.get_warmup_steps(steps)
    more: Any = args.lr_scheduler_kwargs
    try:
        schedule = get_scheduler(args.lr_scheduler_type, stand_in, warmup, steps, more)
        if isinstance(schedule, LambdaLR):
            for step in {0, min(warmup, steps), steps}:
                schedule.lr_lambdas[0](step)
    except ZeroDivisionError as error:
        raise TrainingError(
            f"lr_scheduler_type: {SchedulerType(args.lr_scheduler_type).value} has no update left after {warmup} of warm-up in "
            f"{steps}; lower warmup_steps or train longer"
        ) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise TrainingError(f"lr_scheduler_type, lr_scheduler_kwargs: {' '.join(str(error).split())}") from error
    return schedule

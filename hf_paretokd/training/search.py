"""Trials of a hyper-parameter search: the arguments and the models of each."""

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hf_paretokd.errors import ModelError, TrainingError
from hf_paretokd.training.arguments import TranslationConfig

SEARCH = ("hp_search_backend", "hp_space", "hp_name", "compute_objective", "objective")  # what the Trainer knows of a search


def initial_models(model_init: Callable[..., Any], trial: Any) -> Any:
    """What `model_init` makes, of a trial if it takes one.

    Raises:
        ModelError: that is nothing.
    """
    made = model_init(trial) if inspect.signature(model_init).parameters else model_init()
    if made is None:
        raise ModelError("model_init: returned nothing; return a model, or a list of peers")
    return made


def trial_arguments(
    args: TranslationConfig, trial: Any, space: Callable[[Any], dict[str, Any]], name: Callable[[Any], str] | None
) -> TranslationConfig:
    """The configuration with what a trial has chosen, checked, in a run folder of its own.

    Raises:
        TrainingError: an argument is unknown, or its value does not fit.
    """
    found, chosen = copy.copy(args), space(trial)
    for field, value in chosen.items():
        if not hasattr(found, field):
            raise TrainingError(f"hp_space: {field!r} is no argument of {type(args).__name__}")
        setattr(found, field, value)
    found.output_dir = str(Path(str(args.output_dir)) / (name(trial) if name else f"run-{trial.number}"))
    found.__post_init__()
    return found

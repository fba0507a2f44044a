"""Trials of a hyper-parameter search: the arguments and the models of each."""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hf_paretokd.errors import TrainingError
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.training.contract import FIXED, IDLE, REFUSED

DIRECTIONS = ("minimize", "maximize")
SEARCH = ("hp_search_backend", "hp_space", "hp_name", "compute_objective", "objective")  # what the Trainer knows of a search


def check_search(space: Any, name: Any, n_trials: Any, direction: Any, backend: str | None, n_jobs: int) -> None:
    """Raises a TrainingError unless a search can be made of what `hyperparameter_search` was given."""
    if space is None:
        raise TrainingError(
            "hyperparameter_search: hp_space is missing, such as "
            "lambda trial: {'learning_rate': trial.suggest_float('learning_rate', 1e-4, 1e-2, log=True)}"
        )
    if not callable(space) or (name is not None and not callable(name)):
        raise TrainingError("hyperparameter_search: hp_space and hp_name are functions of a trial")
    if backend not in (None, "optuna"):
        raise TrainingError(f"hyperparameter_search: backend {backend!r} is not supported here; leave it out for optuna")
    if not isinstance(n_trials, int) or n_trials < 1:
        raise TrainingError(f"hyperparameter_search: n_trials {n_trials!r} is not 1 or more")
    if n_jobs != 1:
        raise TrainingError("hyperparameter_search: n_jobs: one trainer trains one trial at a time; leave it out")
    for each in direction if isinstance(direction, list) else [direction]:
        if each not in DIRECTIONS:
            raise TrainingError(f"hyperparameter_search: direction {each!r} is not one of {', '.join(DIRECTIONS)}")


def with_changes(given: TranslationConfig, before: TranslationConfig, now: TranslationConfig) -> TranslationConfig:
    """The configuration that was given, with what has been set since; checked.

    Raises:
        TrainingError: a value does not fit.
    """
    found = copy.copy(given)
    for item in dataclasses.fields(given):
        if getattr(now, item.name) != getattr(before, item.name):
            setattr(found, item.name, getattr(now, item.name))
    found.check()
    return found


def trial_arguments(
    args: TranslationConfig, trial: Any, space: Callable[[Any], dict[str, Any]], name: Callable[[Any], str] | None
) -> TranslationConfig:
    """The configuration with what a trial has chosen, checked, in a run folder of its own.

    Raises:
        TrainingError: an argument is unknown, or its value does not fit.
    """
    found, chosen = copy.copy(args), space(trial)
    if not isinstance(chosen, Mapping):
        raise TrainingError(f"hp_space: returned {chosen!r}; return a dictionary of arguments and their values")
    known = {item.name for item in dataclasses.fields(args)}
    for field, value in chosen.items():
        if field not in known:
            raise TrainingError(f"hp_space: {field!r} is no argument of {type(args).__name__}")
        if field == "output_dir":
            raise TrainingError("hp_space: output_dir: every trial has a folder of its own; give hp_name to name it")
        if reason := {**REFUSED, **FIXED, **IDLE}.get(field):
            raise TrainingError(f"hp_space: {field}: {reason}")
        setattr(found, field, value)
    found.output_dir = str(Path(str(args.output_dir)) / str(name(trial) if name else f"run-{trial.number}"))
    found.__post_init__()
    return found

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

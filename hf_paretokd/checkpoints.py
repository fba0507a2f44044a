"""Folders of weights and training state: safetensors for every model, nothing pickled but what the Trainer must keep."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from hf_paretokd.data.sampling import MicroBatchStream, SamplerState
from hf_paretokd.errors import ModelError
from hf_paretokd.quiet import quiet_files

WEIGHTS = "model.safetensors"
TOKENIZER_SETTINGS = "tokenizer_config.json"
LOCAL_KEYS = ("is_local", "local_files_only", "name_or_path")
SAMPLER_STATE = "sampler_state.json"
logger = logging.get_logger(__name__)


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, folder: Path) -> None:
    """Writes a plain checkpoint: weights, configuration, generation configuration, tokenizer."""
    using_cache = model.config.use_cache
    model.config.use_cache = True  # the Trainer switches it off for training; whoever loads the checkpoint wants it
    try:
        with quiet_files():
            model.save_pretrained(folder)
    finally:
        model.config.use_cache = using_cache
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes a tokenizer that tells nothing of this machine."""
    tokenizer.save_pretrained(folder)
    settings = folder / TOKENIZER_SETTINGS
    settings.write_text(without_local_keys(settings.read_text("utf-8")), "utf-8")


def without_local_keys(settings: str) -> str:
    """A tokenizer's settings without what transformers notes about the machine they were loaded on."""
    kept = {key: value for key, value in json.loads(settings).items() if key not in LOCAL_KEYS}
    return json.dumps(kept, indent=2, ensure_ascii=False) + "\n"


def load_weights(model: PreTrainedModel, folder: Path) -> None:
    """Replaces the weights of `model` by those in `folder`, in place.

    Raises:
        ModelError: the file is missing, corrupt, or belongs to another model.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise ModelError(f"{path}: no such file; {folder} is not a checkpoint of this training")
    try:
        weights = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: corrupt ({error}); take another checkpoint") from None
    own = model.state_dict()
    shared = {tensor.data_ptr() for name, tensor in own.items() if name in weights}
    recomputed = model._keys_to_ignore_on_save or ()
    lacking = [
        name
        for name, tensor in own.items()
        if name not in weights and tensor.data_ptr() not in shared and name not in recomputed
    ]
    unfit = [name for name, tensor in weights.items() if name not in own or own[name].shape != tensor.shape]
    if lacking or unfit:
        raise ModelError(f"{path}: belongs to another model (first difference: {(lacking + unfit)[0]})")
    for name, tensor in weights.items():
        own[name].copy_(tensor)


def checkpoint_folders(folder: Path) -> list[Path]:
    """`checkpoint-N` folders in ascending order of N."""
    found = [
        (int(match[1]), path)
        for path in folder.glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name)) and path.is_dir()
    ]
    return [path for _, path in sorted(found)]


def set_aside(folder: Path, start: Path | None) -> None:
    """Renames checkpoints newer than `start` (None: all): a training from there would take them for its own."""
    found = checkpoint_folders(folder.resolve())
    own = start is not None and start.resolve() in found
    for path in found[found.index(start.resolve()) + 1 :] if own else found:
        aside = path.with_name(f"{path.name}.set-aside")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        logger.warning(f"{path}: renamed to {aside.name}, because the training starts before it")


def save_json(value: Any, path: Path) -> None:
    """Writes a small piece of training state."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")


def load_json(path: Path) -> Any:
    """Reads what `save_json` wrote.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); take another checkpoint") from None


def save_sampler(streams: Sequence[MicroBatchStream], states: Sequence[SamplerState], folder: Path) -> None:
    """Writes the positions of the streams and the states of their distributions."""
    save_json(
        [
            {**asdict(state), "distribution": stream.distribution.state_dict()}
            for stream, state in zip(streams, states, strict=True)
        ],
        folder / SAMPLER_STATE,
    )


def load_sampler(streams: Sequence[MicroBatchStream], folder: Path) -> list[SamplerState]:
    """Reads the positions of the streams and puts their distributions into the states they were in.

    Raises:
        ModelError: the file is missing or damaged.
        TrainingError: the distributions are others than those of the checkpoint.
    """
    path = folder / SAMPLER_STATE
    saved = load_json(path)
    if not isinstance(saved, list) or len(saved) != len(streams):
        raise ModelError(f"{path}: is not the state of {len(streams)} streams; take another checkpoint")
    try:
        states = [SamplerState(each["number"], each["draws"]) for each in saved]
        distributions = [each["distribution"] for each in saved]
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path}: cannot be read ({error!r}); take another checkpoint") from None
    for stream, state in zip(streams, distributions, strict=True):
        stream.distribution.load_state_dict(state)
    return states

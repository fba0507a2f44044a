"""Plain checkpoints and tokenizers, to and from disk: safetensors only, nothing pickled."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hf_paretokd.data.tokenizer_json import write_tokenizer_json
from hf_paretokd.errors import ModelError, TokenizerError
from hf_paretokd.layout import (
    CONFIG,
    MODEL,
    PEERS,
    PICKLED_WEIGHTS,
    PLAIN_CHECKPOINT,
    SOURCE_PIECES,
    TARGET_PIECES,
    TEACHER,
    TOKENIZER_SETTINGS,
    VOCABULARY,
    WEIGHTS,
)
from hf_paretokd.models.head import is_marian
from hf_paretokd.utils.quiet import quiet_files

LOCAL_KEYS = ("is_local", "local_files_only", "name_or_path")
LISTED, LISTED_BEFORE = "extra_special_tokens", "additional_special_tokens"
LONGEST = 512  # tokens of a text for models whose positions do not bound it


# ---- reading


def load_model(name: str | Path) -> PreTrainedModel:
    """A checkpoint from a folder or the Hub, safetensors only; no code that may lie beside it is run.

    Raises:
        ModelError: it is missing, corrupt or incomplete.
    """
    try:
        with quiet_files():
            model, found = AutoModelForSeq2SeqLM.from_pretrained(
                name,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:  # transformers, safetensors and the Hub client raise many kinds for a bad checkpoint
        raise ModelError(f"model {name}: no usable checkpoint ({reason_of(name, error)})") from error
    check_fit(found, f"model {name}")
    check_finite(model, f"model {name}")
    return model


def check_fit(found: Mapping[str, Any], what: str) -> None:
    """Raises a ModelError if weights that were loaded are not those of the configuration: what is missing would be random."""
    for name, theirs, ours in sorted(found["mismatched_keys"]):
        shapes = f"{list(theirs)} in the weights and {list(ours)} by {CONFIG}"
        raise ModelError(f"{what}: no usable checkpoint ({name} has the shape {shapes}: they do not belong together)")
    if lacking := sorted(found["missing_keys"]):
        more = f" and {len(lacking) - 1} more" if lacking[1:] else ""
        raise ModelError(f"{what}: no usable checkpoint (its weights lack {lacking[0]}{more}, which {CONFIG} has)")


def check_finite(model: PreTrainedModel, what: str) -> None:
    """Raises a ModelError if a weight is infinite or not a number; a buffer may hold −∞ for what is never predicted."""
    for name, each in model.named_parameters():
        if not each.isfinite().all():
            raise ModelError(f"{what}: no usable checkpoint ({name} holds values that are no finite numbers)")


def load_pickled(folder: Path) -> PreTrainedModel:
    """A checkpoint whose weights are pickled: tensors are read and nothing else, no code is run.

    Raises:
        ModelError: it holds anything else, is corrupt, or belongs to another model.
    """
    path = folder / PICKLED_WEIGHTS
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model = AutoModelForSeq2SeqLM.from_config(AutoConfig.from_pretrained(folder, trust_remote_code=False))
        missing, _ = model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
    except Exception as error:  # pickle, zip and torch raise many kinds
        raise ModelError(f"{path}: its weights cannot be used ({first_line(error)})") from error
    recomputed = model._keys_to_ignore_on_save or ()
    if lacking := [name for name in missing if name not in recomputed]:
        raise ModelError(f"{path}: belongs to another model (first difference: {lacking[0]})")
    check_finite(model, str(path))
    return model


def local_checkpoint(
    name: str, revision: str | None = None, subfolder: str | None = None, patterns: Sequence[str] = PLAIN_CHECKPOINT
) -> str:
    """The folder of a checkpoint: as it is named, or downloaded from the Hub.

    Args:
        name: folder or Hub id.
        revision: branch, tag or commit on the Hub.
        subfolder: inside the folder or repository.
        patterns: of the files that are downloaded.

    Raises:
        ModelError: there is no such repository, revision or folder, or the Hub cannot be reached and nothing is in the cache.
    """
    folder, inside = Path(name), f"{subfolder}/" if subfolder else ""
    if folder.is_dir():
        if revision:
            raise ModelError(f"model.revision: {name} is a folder; revisions are of models on the Hub")
    elif name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise ModelError(f"model {name}: there is no such folder")
    else:
        wanted = [f"{inside}{pattern}" for pattern in patterns]
        try:
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
        except Exception as error:  # the Hub client has as many kinds
            at = f" at revision {revision}" if revision else ""
            raise ModelError(f"model {name}: cannot be had from the Hub{at} ({first_line(error)})") from error
    if subfolder and not (folder / subfolder / CONFIG).is_file():
        raise ModelError(f"model {name}: has no checkpoint in {subfolder} (model.subfolder)")
    return str(folder / subfolder if subfolder else folder)


def load_config(name: str | Path) -> PreTrainedConfig:
    """The configuration of a checkpoint in a folder or on the Hub.

    Raises:
        ModelError: it is missing or corrupt.
    """
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # as many kinds as below
        raise ModelError(f"model {name}: no usable checkpoint ({reason_of(name, error)})") from error


def load_tokenizer(name: str | Path) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder or the Hub.

    Raises:
        TokenizerError: it is missing or corrupt.
    """
    try:
        with quiet_files():
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # as many kinds
        reason = missing_part(Path(name)) or reason_of(name, error)
        raise TokenizerError(f"tokenizer {name}: cannot be loaded ({reason})") from error
    limit = tokenizer.model_max_length
    if not isinstance(limit, int | float) or not limit > 1:
        raise TokenizerError(
            f"tokenizer {name}: model_max_length is {limit!r}, and not 2 tokens or more ({TOKENIZER_SETTINGS})"
        )
    return tokenizer


def missing_part(folder: Path) -> str | None:
    """Which file of a tokenizer is missing, or damaged; None where that is not the reason."""
    if not folder.is_dir():
        return None
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            return f"{path.name} is damaged"
    config = json.loads((folder / CONFIG).read_text("utf-8")) if (folder / CONFIG).is_file() else None
    marian = isinstance(config, dict) and config.get("model_type") == "marian"
    for name in (SOURCE_PIECES, TARGET_PIECES, VOCABULARY) if marian else ():
        if not (folder / name).is_file():
            return f"{name} is missing"
    return None


def save_parameters(parameters: Mapping[str, Tensor], path: Path) -> None:
    """Writes parameters by their names, beside a plain checkpoint of the same model."""
    safetensors.torch.save_file({name: each.detach().contiguous() for name, each in parameters.items()}, path)


@torch.no_grad()
def load_parameters(parameters: Mapping[str, Tensor], path: Path) -> None:
    """Fills parameters from a file.

    Raises:
        ModelError: the file is missing or of other parameters.
    """
    try:
        found = safetensors.torch.load_file(path)
        for name, parameter in parameters.items():
            parameter.copy_(found[name])
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise ModelError(f"{path}: its weights cannot be used ({str(error).splitlines()[0]})") from error


def model_folders(name: str | Path) -> list[str]:
    """The models of a run (its teacher, its model, or its peers), or the one checkpoint that a folder or Hub id names.

    Raises:
        ModelError: a folder holds neither.
    """
    folder = Path(name)
    if not folder.is_dir() or (folder / CONFIG).is_file():
        return [str(name)]
    peers = sorted((path for path in (folder / PEERS).glob("*") if path.name.isdecimal()), key=lambda path: int(path.name))
    found = [str(path) for path in (folder / TEACHER, folder / MODEL, *peers) if (path / CONFIG).is_file()]
    if not found:
        raise ModelError(f"{name}: holds no checkpoint, and is no run with finished models")
    return found


def load_checkpoint(name: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model and its tokenizer, which belong together.

    Raises:
        ModelError, TokenizerError: one of them is missing or corrupt, or they do not.
    """
    model, tokenizer = load_model(name), load_tokenizer(name)
    check_vocabulary(model, tokenizer)
    return model, tokenizer


def first_line(error: Exception) -> str:
    """What an error says, without the advice below it."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def reason_of(name: str | Path, error: Exception) -> str:
    """Why something cannot be loaded: what is no folder was looked for on the Hub."""
    return first_line(error) if Path(name).exists() else f"no such folder here; on the Hub: {first_line(error)}"


def check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises a ModelError if model and tokenizer do not belong together."""
    embeddings: Any = model.get_input_embeddings()
    rows = embeddings.weight.shape[0]
    if len(tokenizer) != rows if is_marian(model) else len(tokenizer) > rows:
        raise ModelError(f"the tokenizer has {len(tokenizer)} entries, the model {rows}: they do not belong together")
    for name in ("pad_token_id", "eos_token_id"):
        ours, theirs = getattr(model.config, name), target_id(tokenizer, name)
        if ours != theirs:
            raise ModelError(f"{name} is {ours} in the model and {theirs} in the tokenizer: they do not belong together")


def target_id(tokenizer: Any, name: str) -> int | None:
    """The id of a special token such as `pad_token_id`, on the target side of a Marian tokenizer with two vocabularies."""
    if getattr(tokenizer, "separate_vocabs", False):
        return tokenizer.target_encoder.get(getattr(tokenizer, name.removesuffix("_id")))
    return getattr(tokenizer, name)


def position_limit(config: Any) -> int | None:
    """The longest text in tokens for which a model has positions; None if they do not bound it."""
    return getattr(config, "max_position_embeddings", None)


def usable_length(config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """The longest text in tokens that a model is given and may make: what its positions and its tokenizer are made for.

    Args:
        config: the model's, or what has its `max_position_embeddings`; None for a converted one, whose tokenizer was saved
            with this length.
        tokenizer: the model's; one that was told no limit says 10³⁰.
    """
    return int(min((config and position_limit(config)) or LONGEST, tokenizer.model_max_length))


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
        raise ModelError(f"{path}: corrupt ({error}); take another checkpoint") from error
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


def check_weights(folder: Path) -> None:
    """Raises a ModelError if the weights of a checkpoint are cut off or no safetensors."""
    path = folder / WEIGHTS
    try:
        with safetensors.safe_open(path, "pt"):  # compares the length of the file with what its header says
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: corrupt ({error}); take another checkpoint") from error


# ---- writing


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, folder: Path) -> None:
    """Writes a plain checkpoint: weights, configuration, generation configuration, tokenizer.

    The Trainer switches the cache off for training, and a foreign checkpoint may allow longer text than it has positions for:
    whoever loads what is written gets the cache, and no text that the model cannot take.
    """
    config, generation = model.config, model.generation_config
    kept = config.use_cache, generation and generation.max_length
    config.use_cache = True
    if tokenizer is not None and generation is not None and (generation.max_length or position_limit(config)):
        longest = usable_length(config, tokenizer)
        generation.max_length = min(generation.max_length or longest, longest)
    try:
        with quiet_files():
            model.save_pretrained(folder)
    finally:
        config.use_cache = kept[0]
        if generation is not None:
            generation.max_length = kept[1]
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder, config)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, config: PreTrainedConfig) -> None:
    """Writes a tokenizer that cuts text where its model ends, and tells nothing of this machine; also for other runtimes."""
    tokenizer.save_pretrained(folder)
    path = folder / TOKENIZER_SETTINGS
    settings = json.loads(portable_settings(path.read_text("utf-8")))
    settings["model_max_length"] = usable_length(config, tokenizer)
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")
    write_tokenizer_json(tokenizer, folder)


def portable_settings(settings: str) -> str:
    """A tokenizer's settings as transformers 4 can read them too, and without what is noted of the machine here."""
    kept = {key: value for key, value in json.loads(settings).items() if key not in LOCAL_KEYS}
    if isinstance(kept.get(LISTED), list):  # transformers 4 wants a dictionary there, and a list under the older name
        kept[LISTED_BEFORE] = list(dict.fromkeys([*(kept.get(LISTED_BEFORE) or ()), *kept.pop(LISTED)]))
    return json.dumps(kept, indent=2, ensure_ascii=False) + "\n"

"""CTranslate2: conversion of a plain checkpoint, and decoding with what comes out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from hf_paretokd.data.languages import PREFIXES, Direction, starts_as_usual, target_token
from hf_paretokd.errors import ModelError
from hf_paretokd.layout import CONFIG, GENERATION_SETTINGS
from hf_paretokd.models.files import load_tokenizer
from hf_paretokd.utils.choices import QUANTIZATIONS
from hf_paretokd.utils.files import load_json, save_json
from hf_paretokd.utils.quiet import quiet_files

# ids of a batch, longest output, beams, what is told -> ids, which may still be in the making until they are asked for
Decoder = Callable[[list[list[int]], int, int, Direction], Iterable[Sequence[int]]]
FORCED_END = "forced_eos_token_id"


def check_installed() -> None:
    """Raises a ModelError if CTranslate2 is missing."""
    if find_spec("ctranslate2") is None:
        raise ModelError("CTranslate2 is not installed (pip install 'hf_paretokd[export]')")


def check_quantization(quantization: str) -> None:
    """Raises a ModelError if CTranslate2 is missing, or knows no such quantization."""
    check_installed()
    if quantization not in QUANTIZATIONS:
        raise ModelError(f"quantization: {quantization!r} is not one of {', '.join(QUANTIZATIONS)}")


def convert(checkpoint: Path, folder: Path, quantization: str = "float32") -> None:
    """Converts a plain checkpoint; `folder` must not be there yet.

    A converted Marian model adds the `</s>` of the source itself (`add_source_eos`), so that clients give it the pieces of
    SentencePiece as they are. Its configuration keeps of the model's what is to stand before the source, and whether `generate`
    forces the end where the room ends.

    Raises:
        ModelError: CTranslate2 is missing, or knows no such quantization or architecture.
    """
    check_quantization(quantization)
    import ctranslate2

    try:
        with quiet_files():
            ctranslate2.converters.TransformersConverter(str(checkpoint)).convert(str(folder), quantization=quantization)
    except (ValueError, NotImplementedError, AttributeError) as error:  # the last where its configuration lacks a field
        raise ModelError(f"{checkpoint}: CTranslate2 cannot convert it ({' '.join(str(error).split())})") from error
    config = load_json(checkpoint / CONFIG)
    generation = checkpoint / GENERATION_SETTINGS
    settings = {**config, **(load_json(generation) if generation.is_file() else {})}
    changed: dict[str, Any] = {name: settings[name] for name in (*PREFIXES, FORCED_END) if settings.get(name) is not None}
    if config["model_type"] == "marian":
        changed["add_source_eos"] = True
    elif config["model_type"] == "mbart":  # told apart by a field that not all configurations have
        tokenizer = load_tokenizer(checkpoint)
        changed["decoder_start_token"] = tokenizer.eos_token if starts_as_usual(tokenizer) else None
    if changed:
        save_json({**load_json(folder / CONFIG), **changed}, folder / CONFIG)


def convert_each(checkpoint: Path, folders: Mapping[str, Path]) -> None:
    """Converts a plain checkpoint to several quantizations, each into its folder."""
    for quantization, folder in folders.items():
        convert(checkpoint, folder, quantization)


def ctranslate_decoder(folder: Path, tokenizer: PreTrainedTokenizerBase, one_by_one: bool = False) -> Decoder:
    """A decoder by the converted model in `folder`, with as many threads as torch has; it keeps no file open.

    Each thread works on a batch of its own, because small models gain little from several; with `one_by_one` all work on the
    same batch, as is best where there is but one sentence at a time.
    """
    check_installed()
    import ctranslate2

    config = load_json(folder / CONFIG)
    ends, forced = config.get("add_source_eos", False), config.get(FORCED_END) is not None  # those of others do not say
    uncounted = (config.get("decoder_start_token", "") is not None) + forced  # tokens, when it counts how long an output is
    threads = torch.get_num_threads()
    workers = 1 if one_by_one else threads
    try:
        translator = ctranslate2.Translator(
            str(folder), device="cpu", inter_threads=workers, intra_threads=threads // workers, max_queued_batches=2 * workers
        )
    except (RuntimeError, ValueError) as error:  # a file is missing or damaged
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{folder}: CTranslate2 cannot load it ({reason}); export the model again") from error
    torch.set_num_threads(threads)  # the translator has taken its own number for that of the whole process
    names = Remembered(tokenizer.convert_ids_to_tokens)
    numbers = Remembered(tokenizer.convert_tokens_to_ids)

    def decode(ids: list[list[int]], longest: int, beams: int, direction: Direction) -> Iterable[Sequence[int]]:
        sources = [each[:-1] if ends and each[-1] == tokenizer.eos_token_id else each for each in ids]
        pieces = [[names[entry] for entry in each] for each in sources]
        first = target_token(tokenizer, direction)
        prefix = None if first is None else [[tokenizer.convert_ids_to_tokens(first)]] * len(pieces)
        room = max(1, longest - uncounted)
        results = translator.translate_batch(
            pieces, target_prefix=prefix, beam_size=beams, max_decoding_length=room, asynchronous=True
        )
        hypotheses = (list(finished(result).hypotheses[0]) for result in results)
        return ([numbers[token] for token in tokens] for tokens in hypotheses)

    return decode


class Remembered(dict):
    """What a tokenizer says of each entry, asked once: tokenizers in Python take their time."""

    def __init__(self, ask: Callable[[Any], Any]) -> None:
        super().__init__()
        self.ask = ask

    def __missing__(self, entry: Any) -> Any:
        self[entry] = found = self.ask(entry)
        return found


def finished(result: Any) -> Any:
    """What a translation begun before has come to.

    Raises:
        ModelError: CTranslate2 could not do it, as where a text is longer than the model's positions.
    """
    try:
        return result.result()
    except RuntimeError as error:
        raise ModelError(f"CTranslate2: {error} (a folder that is exported again knows how long text may be)") from error

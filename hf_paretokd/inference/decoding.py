"""Translation of many sentences: batched by length, in the order given, by transformers or CTranslate2."""

import tempfile
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.data.batches import cut_sorted
from hf_paretokd.data.languages import UNTOLD, Direction, asked, check_text_tags, encode, generation_arguments
from hf_paretokd.errors import RecipeError
from hf_paretokd.inference.ctranslate import Decoder, check_installed, convert, ctranslate_decoder
from hf_paretokd.models.files import save_model, usable_length
from hf_paretokd.utils.choices import ENGINES
from hf_paretokd.utils.progress import Progress

MOST_BEAMS = 100
AHEAD = 2 * torch.get_num_threads()  # batches begun before the first is asked for: an engine may work on several


def check_beams(num_beams: int, section: str = "--") -> None:
    """Raises a RecipeError if so many hypotheses of every sentence cannot be kept, or would only take memory."""
    if num_beams < 1:
        raise RecipeError(f"{section}num_beams: {num_beams} is not 1 or more")
    if num_beams > MOST_BEAMS:
        raise RecipeError(f"{section}num_beams: {num_beams} is more than {MOST_BEAMS}; 4 or 5 is usual, more hardly helps")


def check_engine(engine: str, quantization: str, section: str = "--") -> None:
    """Raises a RecipeError if there is no such engine, or it has no such quantization; names options, or a section's fields."""
    if engine not in ENGINES:
        raise RecipeError(f"{section}engine: {engine!r} is not one of {', '.join(ENGINES)}")
    if engine == "transformers" and quantization != "float32":
        raise RecipeError(f"{section}quantization {quantization}: needs {section}engine ctranslate2")


def decoder_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, engine: str, quantization: str = "float32"
) -> Decoder:
    """What turns source ids into target ids: `generate` with its cache, or the model converted to CTranslate2.

    Raises:
        ModelError: CTranslate2 is not installed or cannot convert the model.
    """
    if engine == "transformers":
        return partial(generate, model, tokenizer)
    check_installed()
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, tokenizer, Path(folder) / "model")
        convert(Path(folder) / "model", Path(folder) / "converted", quantization)
        return ctranslate_decoder(Path(folder) / "converted", tokenizer)


def encode_sources(
    tokenizer: PreTrainedTokenizerBase, sources: Sequence[str], limit: int, direction: Direction = UNTOLD
) -> list[list[int]]:
    """Source ids, special tokens included; longer text is cut to `limit` tokens."""
    return encode(tokenizer, direction, sources, truncation=True, max_length=limit)["input_ids"]


def longest_output(sources: Sequence[Sequence[int]], limit: int) -> int:
    """Tokens after which a model that has not learnt to stop is stopped."""
    return min(limit, 2 * max(map(len, sources)) + 20)


# whatever a model's generation_config.json says of how many, of what, and how long
ONE_EACH = {"do_sample": False, "num_return_sequences": 1, "return_dict_in_generate": False, "max_new_tokens": None}


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: list[list[int]],
    longest: int,
    beams: int,
    direction: Direction = UNTOLD,
) -> Sequence[Sequence[int]]:
    """Target ids of one batch by the model itself, special tokens included."""
    batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(model.device)
    generating: Any = model
    told = generation_arguments(tokenizer, direction)
    made = generating.generate(**batch, num_beams=beams, max_length=longest, **ONE_EACH, **told)
    pad = model.config.pad_token_id
    if pad == tokenizer.pad_token_id:
        return made
    return [[token for token in row if token != pad] for row in made.tolist()]  # to the tokenizer it is the source's alone


def decode_all(
    decoder: Decoder,
    ids: Sequence[list[int]],
    limit: int,
    num_beams: int = 1,
    max_tokens: int = 4096,
    description: str | None = None,
    direction: Direction = UNTOLD,
) -> list[list[int]]:
    """Target ids of every source, in batches of similar length, in the order given.

    Args:
        decoder: see `decoder_of`.
        ids: source ids, special tokens included.
        limit: longest output in tokens.
        num_beams: 1 for greedy search.
        max_tokens: source tokens in a batch, padding included.
        description: label of the progress bar; None for no bar.
        direction: what the model is told of the languages.
    """
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    cuts = [*cut_sorted([len(ids[index]) for index in order], max_tokens), len(ids)]
    output: list[list[int]] = [[] for _ in ids]
    with Progress(len(ids), desc=description, disable=description is None, leave=False, unit=" sentences") as bar:

        def finish(rows: Sequence[int], found: Iterable[Sequence[int]]) -> None:
            for row, tokens in zip(rows, found, strict=True):
                output[row] = [int(token) for token in tokens]
            bar.update(len(rows))

        begun: deque[tuple[Sequence[int], Iterable[Sequence[int]]]] = deque()
        for start, end in pairwise(cuts):
            rows = order[start:end]
            sources = [ids[row] for row in rows]
            begun.append((rows, decoder(sources, longest_output(sources, limit), num_beams, direction)))
            if len(begun) > AHEAD:
                finish(*begun.popleft())
        for each in begun:
            finish(*each)
    return output


def translate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str],
    num_beams: int = 1,
    max_tokens: int = 4096,
    description: str | None = None,
    decoder: Decoder | None = None,
    direction: Direction | None = None,
) -> list[str]:
    """Translations of `sentences`, one each.

    Args:
        model: any sequence-to-sequence model.
        tokenizer: its tokenizer; sentences longer than that or the model takes are cut.
        sentences: source text, with target tags if the model is told languages by them.
        num_beams: 1 for greedy search.
        max_tokens: source tokens in a batch, padding included.
        description: label of the progress bar; None for no bar.
        decoder: what does the work, see `decoder_of`; default: the model's `generate`.
        direction: what the model is told of the languages, see `asked`; default: what it was left with.

    Raises:
        TokenizerError: a sentence starts with a tag the tokenizer does not know, or the model has to be told its languages.
    """
    if not sentences:
        return []
    direction = direction or asked(tokenizer, model.config.to_dict())
    check_text_tags(tokenizer, sentences)
    decoder = decoder or decoder_of(model, tokenizer, "transformers")
    limit = usable_length(model.config, tokenizer)
    ids = encode_sources(tokenizer, sentences, limit, direction)
    was_training = model.training
    model.eval()
    found = decode_all(decoder, ids, limit, num_beams, max_tokens, description, direction)
    model.train(was_training)
    return tokenizer.batch_decode(found, skip_special_tokens=True)

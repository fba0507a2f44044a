"""Translation of many sentences: batched by length, in the order given, by transformers or CTranslate2."""

import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.checkpoints import save_model
from hf_paretokd.data.batches import cut_sorted
from hf_paretokd.data.tokenizer import check_text_tags
from hf_paretokd.errors import RecipeError

ENGINES = ("transformers", "ctranslate2")
Decoder = Callable[[list[list[int]], int, int], Sequence[Sequence[int]]]  # ids, longest output, beams -> ids


def decoder_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, engine: str) -> Decoder:
    """What turns source ids into target ids: `generate` with its cache, or the model converted to CTranslate2 in float32.

    Raises:
        RecipeError: CTranslate2 is not installed.
    """
    if engine == "transformers":
        return lambda ids, longest, beams: generate(model, tokenizer, ids, longest, beams)
    if find_spec("ctranslate2") is None:
        raise RecipeError("evaluation.engine: CTranslate2 is not installed (pip install 'hf_paretokd[export]')")
    return converted(model, tokenizer)


@torch.inference_mode()
def generate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ids: list[list[int]], longest: int, beams: int
) -> Sequence[Sequence[int]]:
    """Target ids of one batch by the model itself, special tokens included."""
    batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(model.device)
    return model.generate(**batch, num_beams=beams, do_sample=False, max_length=longest)


def converted(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Decoder:
    """A decoder by CTranslate2, which reads the model from a folder that is gone afterwards."""
    import ctranslate2

    with tempfile.TemporaryDirectory() as folder:
        save_model(model, tokenizer, Path(folder) / "model")
        converter = ctranslate2.converters.TransformersConverter(str(Path(folder) / "model"))
        translator = ctranslate2.Translator(
            converter.convert(str(Path(folder) / "converted")), device="cpu", intra_threads=torch.get_num_threads()
        )

    def decode(ids: list[list[int]], longest: int, beams: int) -> Sequence[Sequence[int]]:
        pieces = [tokenizer.convert_ids_to_tokens(each) for each in ids]
        # the start token, which `generate` counts, is not among those CTranslate2 counts
        results = translator.translate_batch(pieces, beam_size=beams, max_decoding_length=longest - 1)
        return [tokenizer.convert_tokens_to_ids(result.hypotheses[0]) for result in results]

    return decode


def translate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str],
    num_beams: int = 1,
    max_tokens: int = 4096,
    description: str | None = None,
    decoder: Decoder | None = None,
) -> list[str]:
    """Translations of `sentences`, one each.

    Args:
        model: any sequence-to-sequence model.
        tokenizer: its tokenizer; longer sentences are cut to its `model_max_length`.
        sentences: source text, with target tags if the model needs them.
        num_beams: 1 for greedy search.
        max_tokens: source tokens in a batch, padding included.
        description: label of the progress bar; None for no bar.
        decoder: what does the work, see `decoder_of`; default: the model's `generate`.

    Raises:
        TokenizerError: a sentence starts with a tag the tokenizer does not know.
    """
    if not sentences:
        return []
    check_text_tags(tokenizer, sentences)
    decoder = decoder or decoder_of(model, tokenizer, "transformers")
    limit = model.config.max_position_embeddings if hasattr(model.config, "max_position_embeddings") else 512
    ids = tokenizer(list(sentences), truncation=True, max_length=limit, return_attention_mask=False)["input_ids"]
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    cuts = [*cut_sorted([len(ids[index]) for index in order], max_tokens), len(ids)]
    output = [""] * len(ids)
    was_training = model.training
    model.eval()
    with tqdm(total=len(ids), desc=description, disable=description is None, leave=False, unit=" sentences") as bar:
        for start, end in pairwise(cuts):
            rows = order[start:end]
            sources = [ids[row] for row in rows]
            longest = min(limit, 2 * max(map(len, sources)) + 20)  # a model that has not learnt to stop is stopped
            found = decoder(sources, longest, num_beams)
            for row, text in zip(rows, tokenizer.batch_decode(found, skip_special_tokens=True), strict=True):
                output[row] = text
            bar.update(len(rows))
    model.train(was_training)
    return output

"""Translation of many sentences: batched by length, in the order given."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.data.batches import cut_sorted
from hf_paretokd.data.tokenizer import check_text_tags


@torch.inference_mode()
def translate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str],
    num_beams: int = 1,
    max_tokens: int = 4096,
    description: str | None = None,
) -> list[str]:
    """Translations of `sentences`, one each.

    Args:
        model: any sequence-to-sequence model.
        tokenizer: its tokenizer; longer sentences are cut to its `model_max_length`.
        sentences: source text, with target tags if the model needs them.
        num_beams: 1 for greedy search.
        max_tokens: source tokens in a batch, padding included.
        description: label of the progress bar; None for no bar.

    Raises:
        TokenizerError: a sentence starts with a tag the tokenizer does not know.
    """
    if not sentences:
        return []
    check_text_tags(tokenizer, sentences)
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
            batch = tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt").to(model.device)
            longest = min(limit, 2 * batch["input_ids"].shape[1] + 20)  # a model that has not learnt to stop is stopped
            tokens = model.generate(**batch, num_beams=num_beams, do_sample=False, max_length=longest)
            for row, text in zip(rows, tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True):
                output[row] = text
            bar.update(len(rows))
    model.train(was_training)
    return output

"""The output head of a model, and Marian's rule for the row of `<pad>`."""

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from hf_paretokd.errors import ModelError
from hf_paretokd.losses import OutputHead

logger = logging.get_logger(__name__)
NEVER = -1e4  # added to the logit of <pad>, so that generation agrees with losses that leave <pad> out


def is_marian(model: PreTrainedModel) -> bool:
    """Whether the conventions for Marian apply."""
    return model.config.model_type == "marian"


def output_head(model: PreTrainedModel) -> OutputHead:
    """The head as the losses use it: for Marian without the row of `<pad>`, for other families whole.

    Marian starts decoding from the zero vector of `<pad>`, and runtimes such as CTranslate2 drop that row and start
    from a hard zero. A loss that contains it would train it away from zero and spoil every exported model.
    """
    head = model.get_output_embeddings()
    bias, entries = getattr(head, "bias", None), None
    extra = getattr(model, "final_logits_bias", None)
    if extra is not None:
        bias = extra[0] if bias is None else bias + extra[0]
    if is_marian(model):
        entries = model.config.pad_token_id
        bias = None if bias is None else bias[:entries]
    scaled = getattr(model.config, "scale_decoder_outputs", False)  # T5 with tied embeddings
    return OutputHead(head.weight, bias, model.config.d_model**-0.5 if scaled else 1.0, entries)


def secure_pad_row(model: Any) -> None:
    """Makes sure that `<pad>` is the last entry of a Marian model and its embedding zero; repairs what is only drift.

    Raises:
        ModelError: `<pad>` is not the last id, which no repair can change.
    """
    if not is_marian(model):
        return
    pad, size = model.config.pad_token_id, model.config.decoder_vocab_size or model.config.vocab_size
    if pad != size - 1:
        raise ModelError(f"Marian checkpoint: <pad> has id {pad}, but must be the last of {size} entries; convert it first")
    with torch.no_grad():
        for embedding in (model.get_encoder().embed_tokens, model.get_decoder().embed_tokens):
            if embedding.weight[-1].any():  # the source's own, where the sides have vocabularies of different sizes
                embedding.weight[-1] = 0
                logger.warning("the embedding of <pad> was not zero; it was set to zero (see Marian's convention in the docs)")
        model.final_logits_bias[0, pad] = NEVER

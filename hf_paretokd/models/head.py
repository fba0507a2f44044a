"""The output head of a model, and Marian's rule for the row of `<pad>`."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

from hf_paretokd.errors import ModelError

logger = logging.get_logger(__name__)
NEVER = -1e4  # added to the logit of <pad>, so that generation agrees with losses that leave <pad> out


@dataclass(frozen=True)
class OutputHead:
    """The map from hidden states to logits: `scale · hidden · weightᵀ + bias`, over the entries that can be predicted.

    Args:
        weight: [rows, width], a row for every entry that can be predicted and perhaps more.
        bias: [entries] or None.
        scale: factor on the hidden states (T5 scales when its embeddings are tied).
        entries: how many of the rows, from the first, can be predicted (default: all); for Marian all but the row of
            `<pad>`, which must stay zero. The losses leave the others out themselves: to slice the matrix before would
            cost another matrix of gradients.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    entries: int | None = None

    @property
    def matrix(self) -> Tensor:
        """The rows that can be predicted [entries, width]."""
        return self.weight[: self.entries]

    def constant(self) -> "OutputHead":
        """The same head, taking no gradient."""
        return replace(self, weight=self.weight.detach(), bias=None if self.bias is None else self.bias.detach())


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


def secure_pad_row(model: PreTrainedModel) -> None:
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
            if embedding.weight[pad].any():
                embedding.weight[pad] = 0
                logger.warning("the embedding of <pad> was not zero; it was set to zero (see Marian's convention in the docs)")
        model.final_logits_bias[0, pad] = NEVER

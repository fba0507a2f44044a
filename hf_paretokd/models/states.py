"""Hidden states of the target positions for many depths of one model, sharing every common prefix."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_paretokd.data.batches import IGNORED
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.slicing import first_layers

FINAL_NORMS = ("layer_norm", "final_layer_norm")  # mBART, M2M100, Pegasus …; T5


def depth_states(
    model: PreTrainedModel, batch: Mapping[str, Tensor], depths: Iterable[Depth]
) -> Iterator[tuple[Depth, Tensor]]:
    """Hidden states that go into the output head, for every depth asked for.

    The encoder runs once for all depths and the decoder once for each encoder depth, so that all have the same dropout masks.

    Args:
        model: the full model.
        batch: `input_ids`, `attention_mask` [rows, source] and `labels` [rows, target] (-100 for padding).
        depths: the models wanted.

    Yields:
        (depth, states [target tokens, width]), deepest encoders first.
    """
    labels = batch["labels"]
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    decoder_inputs = shifted_right(model, labels)
    real = labels != IGNORED
    decoders: dict[int, set[int]] = defaultdict(set)
    for depth in depths:
        decoders[depth.encoder].add(depth.decoder)
    encoded_by_depth = run_prefixes(model.get_encoder(), set(decoders), **inputs)
    for encoder in sorted(decoders, reverse=True):
        encoded = encoded_by_depth.pop(encoder)
        decoded = run_decoder(model, decoders[encoder], decoder_inputs, encoded, batch["attention_mask"])
        for decoder in sorted(decoders[encoder], reverse=True):
            yield Depth(encoder, decoder), decoded.pop(decoder)[real]


def target_tokens(batch: Mapping[str, Tensor]) -> Tensor:
    """The labels [target tokens] without padding, in the order of the hidden states."""
    return batch["labels"][batch["labels"] != IGNORED]


def shifted_right(model: Any, labels: Tensor) -> Tensor:
    """The decoder's input for teacher forcing, as the model's own forward makes it from labels."""
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        return model.prepare_decoder_input_ids_from_labels(labels=labels)
    start = labels.new_full((len(labels), 1), model.config.decoder_start_token_id)  # M2M100 has no such method
    shifted = torch.cat([start, labels[:, :-1]], dim=1)
    return shifted.masked_fill(shifted == IGNORED, model.config.pad_token_id)


def run_decoder(
    model: PreTrainedModel, counts: set[int], input_ids: Tensor, encoded: Tensor, mask: Tensor
) -> dict[int, Tensor]:
    """Outputs [rows, target, width] of the decoder's first `counts` layers, reading the encoder states `encoded`."""
    return run_prefixes(
        model.get_decoder(),
        counts,
        input_ids=input_ids,
        encoder_hidden_states=encoded,
        encoder_attention_mask=mask,
        use_cache=False,
    )


def run_prefixes(stack: nn.Module, counts: set[int], **inputs: Tensor | bool) -> dict[int, Tensor]:
    """One pass through a stack as deep as the largest of `counts`; its output after each of those numbers of layers."""
    deepest = max(counts)
    with first_layers(stack, deepest) as layers, recorded(layers, counts - {deepest}) as outputs:
        last: Any = stack(**inputs, return_dict=True)
    finished = {count: finish(stack, state) for count, state in outputs.items()}
    return {**finished, deepest: last.last_hidden_state}


@contextmanager
def recorded(layers: nn.ModuleList, counts: set[int]) -> Iterator[dict[int, Tensor]]:
    """Collects the outputs of the layers number `counts` (from 1) while they run."""
    outputs: dict[int, Tensor] = {}

    def keep(count: int) -> Callable[[nn.Module, tuple, Tensor | tuple], None]:
        def hook(_module: nn.Module, _inputs: tuple, output: Tensor | tuple) -> None:
            outputs[count] = output if isinstance(output, torch.Tensor) else output[0]

        return hook

    handles = [layers[count - 1].register_forward_hook(keep(count)) for count in counts]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def finish(stack: nn.Module, state: Tensor) -> Tensor:
    """What a stack does after its last layer: its final norm (and T5's dropout), if the family has one."""
    for name in FINAL_NORMS:
        norm = getattr(stack, name, None)
        if norm is not None:
            state = norm(state)
            dropout = getattr(stack, "dropout", None)
            return dropout(state) if isinstance(dropout, nn.Module) else state
    return state

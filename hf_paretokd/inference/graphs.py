"""ONNX graphs of a sequence-to-sequence model: an encoder, and a decoder whose two forms share their weights.

Names of inputs and outputs are those of optimum's exports, which transformers.js reads, too.
"""

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from onnx import GraphProto, ModelProto, NodeProto, helper
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from hf_paretokd.errors import ModelError

OPSET = 18
LARGEST = 2_000_000_000  # bytes of a graph with its weights in one file
SIDES, PARTS = ("decoder", "encoder"), ("key", "value")
FIRST, LATER = "first", "later"  # the decoder's forms: without and with what earlier steps have left
CHOICE = "use_cache_branch"  # which of both is run


class Encoder(nn.Module):
    """The encoder alone."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """States [rows, source, width]."""
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


class Decoder(nn.Module):
    """The decoder with the head.

    Args:
        model: the whole model.
        cached: whether it goes on from what earlier steps have left.
    """

    def __init__(self, model: PreTrainedModel, cached: bool) -> None:
        super().__init__()
        self.model, self.cached = model, cached

    def forward(
        self, encoder_attention_mask: Tensor, input_ids: Tensor, encoder_hidden_states: Tensor, past: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """Logits [rows, target, entries], and keys and values of every layer: of both sides, or of the target if `cached`."""
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        for layer in range(len(past) // 4):
            own_key, own_value, cross_key, cross_value = past[4 * layer : 4 * layer + 4]
            cache.self_attention_cache.update(own_key, own_value, layer)
            cache.cross_attention_cache.update(cross_key, cross_value, layer)
            cache.is_updated[layer] = True
        made = self.model(
            attention_mask=encoder_attention_mask,
            encoder_outputs=BaseModelOutput(encoder_hidden_states),
            decoder_input_ids=input_ids,
            past_key_values=cache,
            use_cache=True,
        )
        sides: list[Any] = [cache.self_attention_cache.layers, cache.cross_attention_cache.layers]
        grown = [layers[: 1 if self.cached else 2] for layers in zip(*sides, strict=True)]
        return made.logits, *(state for layers in grown for each in layers for state in (each.keys, each.values))


def export_graphs(model: PreTrainedModel) -> dict[str, ModelProto]:
    """The `encoder` and both forms of the decoder (`first`, `later`), in float32.

    Raises:
        ModelError: torch cannot export the model, or it is too large for one file.
    """
    size = sum(each.numel() * 4 for each in model.parameters())
    if size > LARGEST:
        raise ModelError(f"ONNX: a model of {size / 1e9:.1f} GB does not fit one file of 2 GB; take a smaller student")
    copied = copy.deepcopy(model).eval().float()
    copied.set_attn_implementation("eager")
    try:
        with quiet_export(), torch.no_grad():
            return exported(copied)
    except Exception as error:  # whatever torch meets inside a model that it cannot trace
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise ModelError(f"ONNX: torch cannot export {model.config.model_type} ({lines[0].strip()[:200]})") from error


def exported(model: PreTrainedModel) -> dict[str, ModelProto]:
    """The three graphs, by running the model on made-up ids."""
    rows, source, target, past = (
        torch.export.Dim(name)
        for name in ("batch_size", "encoder_sequence_length", "decoder_sequence_length", "past_decoder_sequence_length")
    )
    ids = torch.arange(14).view(2, 7) % (model.config.vocab_size - 1)
    mask, start = torch.ones_like(ids), ids[:, :3].contiguous()
    encoder = Encoder(model)
    states = encoder(ids, mask)
    parts = Decoder(model, False)(mask, start, states, [])[1:]
    layers, common = len(parts) // 4, ({0: rows, 1: source}, {0: rows, 1: target}, {0: rows, 1: source})
    grown = [{0: rows, 2: past}] * 2 + [{0: rows, 2: source}] * 2
    inputs = ["encoder_attention_mask", "input_ids", "encoder_hidden_states"]
    return {
        "encoder": graph(encoder, (ids, mask), common[::2], ["input_ids", "attention_mask"], ["last_hidden_state"]),
        FIRST: graph(
            Decoder(model, False),
            (mask, start, states, []),
            (*common, []),
            inputs,
            ["logits", *names("present", layers, SIDES)],
        ),
        LATER: graph(
            Decoder(model, True),
            (mask, start[:, :1], states, list(parts)),
            (common[0], {0: rows}, common[2], grown * layers),
            [*inputs, *names("past_key_values", layers, SIDES)],
            ["logits", *names("present", layers, SIDES[:1])],
        ),
    }


def names(before: str, layers: int, sides: Sequence[str]) -> list[str]:
    """Names of keys and values, layer by layer."""
    return [f"{before}.{layer}.{side}.{part}" for layer in range(layers) for side in sides for part in PARTS]


def graph(module: nn.Module, arguments: tuple, shapes: tuple, inputs: Sequence[str], outputs: Sequence[str]) -> ModelProto:
    """One module as torch exports it."""
    program = torch.onnx.export(
        module.eval(),
        arguments,
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_shapes=shapes,
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    return program.model_proto


@contextmanager
def quiet_export() -> Iterator[None]:
    """Without what torch says of packages that nothing here needs, and of names that it has given already."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


# ---- one decoder of two forms


def merged(first: ModelProto, later: ModelProto) -> ModelProto:
    """Both forms of the decoder as the branches of one graph, chosen by `use_cache_branch`; weights they share are there once.

    The inputs are those of `later`; `first` looks at nothing of the past, which may be empty then. Keys and values of the
    source, which do not change, come out of `later` as they went in.
    """
    weights: dict[bytes, str] = {}
    kept: list[onnx.TensorProto] = []
    outputs = [each.name for each in first.graph.output]
    inputs = {each.name for each in later.graph.input}
    branches = [branch(each.graph, name, weights, kept, inputs, outputs) for each, name in ((later, LATER), (first, FIRST))]
    choice = helper.make_node("If", [CHOICE], outputs, then_branch=branches[0], else_branch=branches[1])
    given = [free_lengths(each) for each in later.graph.input]
    choosing = helper.make_tensor_value_info(CHOICE, onnx.TensorProto.BOOL, [1])
    whole = helper.make_graph([choice], "merged", [*given, choosing], list(first.graph.output), kept)
    opsets = {each.domain: each for model in (first, later) for each in model.opset_import}
    made = helper.make_model(whole, opset_imports=list(opsets.values()), ir_version=first.ir_version)
    functions = {(each.domain, each.name): each for model in (first, later) for each in model.functions}
    made.functions.extend(functions.values())
    return made


def branch(
    graph: GraphProto,
    name: str,
    weights: dict[bytes, str],
    kept: list[onnx.TensorProto],
    inputs: set[str],
    outputs: Sequence[str],
) -> GraphProto:
    """One form as a branch: its weights go into `kept` unless they are there, all else gets names of its own."""
    renamed = {each: each for each in inputs} | {"": ""}
    for tensor in graph.initializer:
        original = tensor.name
        tensor.name = ""
        key = tensor.SerializeToString()
        if key not in weights:
            weights[key] = f"weight.{len(kept)}"
            kept.append(onnx.TensorProto.FromString(key))
            kept[-1].name = weights[key]
        renamed[original] = weights[key]
    nodes = [moved(node, name, renamed) for node in graph.node]
    made = {each.name for each in graph.output}
    for each in outputs:
        if each not in made:  # of the source, handed on
            nodes.append(helper.make_node("Identity", [each.replace("present", "past_key_values", 1)], [f"{name}/{each}"]))
    results = [onnx.ValueInfoProto(name=f"{name}/{each}") for each in outputs]
    by_name = {each.name: each for each in graph.output}
    for result, each in zip(results, outputs, strict=True):
        if each in by_name:
            result.type.CopyFrom(by_name[each].type)
    return helper.make_graph(nodes, name, [], results)


def moved(node: NodeProto, name: str, renamed: dict[str, str]) -> NodeProto:
    """A node whose values have the names that they have in a branch."""
    for values in (node.input, node.output):
        for place, value in enumerate(values):
            values[place] = renamed.setdefault(value, f"{name}/{value}")
    node.name = f"{name}/{node.name}"
    return node


def free_lengths(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """An input whose lengths are its own: what is there of the past may be empty, whatever the text's length."""
    dims = value.type.tensor_type.shape.dim
    if value.name.startswith("past_key_values"):
        side = "encoder" if ".encoder." in value.name else "decoder"
        dims[2].dim_param = f"past_{side}_sequence_length"
    elif value.name == "input_ids":
        dims[1].dim_param = "decoder_sequence_length"
    return value

"""What a processor allows a decoder at most: weights read from memory, and multiply-adds."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

CROSS = ("encoder_attn", "EncDecAttention")  # attention to the source, as Marian and its kin, and T5, call it
ROWS, WIDTH, INNER = 512, 512, 2048  # of the product that is timed
SECONDS = 0.3  # that a rate is looked for
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Weights:
    """Entries of the matrices that a model multiplies with.

    Args:
        source: once a source token: the encoder, and the decoder's keys and values of the source.
        target: once a target token: everything else of the decoder, and the output matrix.
    """

    source: int
    target: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Weights":
        """Those of an encoder-decoder model."""
        source, target = 0, model.get_output_embeddings().weight.numel()
        for name, module in model.get_decoder().named_modules():
            if isinstance(module, nn.Linear):
                of_source = any(f"{each}.{side}" in name for each in CROSS for side in ("k", "v"))
                source, target = source + of_source * module.weight.numel(), target + (not of_source) * module.weight.numel()
        encoder = (module for module in model.get_encoder().modules() if isinstance(module, nn.Linear))
        return cls(source + sum(module.weight.numel() for module in encoder), target)


@dataclass(frozen=True)
class Text:
    """What is translated: sentences, and tokens of both sides."""

    sentences: int
    source: int
    target: int


@dataclass(frozen=True)
class Processor:
    """What a processor does with some threads.

    Args:
        read: bytes a second, over and over, of as many bytes as are said; what fits its cache is read faster.
        multiply: multiply-adds a second by bytes of a weight: 4 for float32, 1 for int8.
    """

    read: Callable[[int], float]
    multiply: dict[int, float]

    def one_by_one(self, weights: Weights, text: Text, width: int) -> float:
        """Seconds for sentences one after the other: every matrix is read for every token, the encoder's once a sentence.

        Args:
            weights: of the model.
            text: what is translated.
            width: bytes of a weight.
        """
        rate = self.multiply[width]
        encoder = max(
            text.sentences * weights.source * width / self.read(weights.source * width), text.source * weights.source / rate
        )
        decoder = text.target * max(weights.target * width / self.read(weights.target * width), weights.target / rate)
        return encoder + decoder

    def together(self, weights: Weights, text: Text, width: int) -> float:
        """Seconds for all sentences at once: multiply-adds alone, without those of attention, which are few."""
        return (text.source * weights.source + text.target * weights.target) / self.multiply[width]


def measured_processor(threads: int) -> Processor:
    """What this machine does with so many threads."""
    known: dict[int, float] = {}

    def read(count: int) -> float:
        if count not in known:
            given = torch.ones(max(1, count // 4))
            known[count] = 4 * given.numel() / quickest(given.sum)
        return known[count]

    left, right = torch.ones(ROWS, WIDTH), torch.ones(WIDTH, INNER)
    times = {4: quickest(lambda: left @ right), 1: quickest(integer_product(threads))}
    return Processor(read, {width: ROWS * WIDTH * INNER / seconds for width, seconds in times.items()})


def quickest(action: Callable[[], object]) -> float:
    """Seconds of the quickest of many turns."""
    best, end = float("inf"), time.perf_counter() + SECONDS
    while (start := time.perf_counter()) < end:
        action()
        best = min(best, time.perf_counter() - start)
    return best


def integer_product(threads: int) -> Callable[[], object]:
    """A product of 8-bit matrices by ONNX Runtime; torch has none that is public."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((WIDTH, INNER), np.int8), "right")
    given = helper.make_tensor_value_info("left", TensorProto.UINT8, [ROWS, WIDTH])
    made = helper.make_tensor_value_info("product", TensorProto.INT32, [ROWS, INNER])
    node = helper.make_node("MatMulInteger", ["left", "right"], ["product"])
    graph = helper.make_graph([node], "product", [given], [made], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    left = np.ones((ROWS, WIDTH), np.uint8)
    return lambda: session.run(None, {"left": left})

"""How long a training will take here: a few updates of its shape on random text, timed."""

import resource
import sys
from dataclasses import dataclass

import torch

from hf_paretokd.bench.shapes import Shape
from hf_paretokd.bench.steps import Options, all_in_one_step, micro_batches
from hf_paretokd.models.depth import Depth
from hf_paretokd.training.arguments import has_bf16
from hf_paretokd.utils.machine import fastest_device
from hf_paretokd.utils.timing import interleaved_medians


@dataclass(frozen=True)
class Estimate:
    """Seconds of an update, and gigabytes of memory: of the GPU where there is one, else of the process."""

    seconds: float
    gigabytes: float


def estimated(shape: Shape, max_tokens: int, repeats: int = 2) -> Estimate:
    """One update of All-in-One KD with two students.

    Args:
        shape: of the model.
        max_tokens: of an update.
        repeats: timed turns, after one that does not count.
    """
    device = fastest_device()
    options = Options(bf16=has_bf16(device.type == "cpu"))
    students = [Depth(shape.layers, 2), Depth(2, 2)]
    step = all_in_one_step(shape, micro_batches(shape, max_tokens, 1), lambda: students, 0.5, options)
    seconds = interleaved_medians({"update": step}, repeats, progress=False)["update"]
    if device.type == "cuda":
        return Estimate(seconds, torch.cuda.max_memory_allocated() / 1e9)
    unit = 1e9 if sys.platform == "darwin" else 1e6
    return Estimate(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)

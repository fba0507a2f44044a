"""torch.compile for the layers of models."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from hf_paretokd.models.slicing import layer_list


@contextmanager
def compiled_layers(models: Iterable[PreTrainedModel], backend: str, mode: str | None) -> Iterator[None]:
    """Compiles every encoder and decoder layer inside the block.

    A layer is the largest piece that all depths of a model have in common; compiling whole models would take one
    compilation for every draw of students.

    Args:
        models: what is trained.
        backend: as in `torch.compile`.
        mode: the same.
    """
    stacks = [stack for model in models for stack in (model.get_encoder(), model.get_decoder())]
    layers = [layer for stack in stacks for layer in getattr(stack, layer_list(stack))]
    for layer in layers:
        layer.forward = torch.compile(layer.forward, backend=backend, mode=mode, dynamic=True)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the method of the class shows again

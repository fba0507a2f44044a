"""Any encoder-decoder of transformers, seen as the family of its first layers."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_paretokd.errors import ModelError
from hf_paretokd.models.depth import Depth
from hf_paretokd.utils.machine import moved

LAYER_LISTS = ("layers", "block")  # Marian, Bart and kin; T5 and kin
DEPTH_FIELDS = (("encoder_layers", "decoder_layers"), ("num_layers", "num_decoder_layers"))


def layer_list(stack: nn.Module) -> str:
    """Name of the attribute that holds a stack's layers.

    Raises:
        ModelError: the model family has no such list.
    """
    for name in LAYER_LISTS:
        if isinstance(getattr(stack, name, None), nn.ModuleList):
            return name
    raise ModelError(f"{type(stack).__name__}: models of this family cannot be sliced (no list of layers was found)")


def model_depth(model: PreTrainedModel) -> Depth:
    """Layers of a whole model."""
    stacks = (model.get_encoder(), model.get_decoder())
    return Depth(*(len(getattr(stack, layer_list(stack))) for stack in stacks))


def config_depth(config: Mapping[str, Any]) -> Depth:
    """Layers of a model by the content of its `config.json`.

    Raises:
        ModelError: it does not say.
    """
    for encoder, decoder in DEPTH_FIELDS:
        if encoder in config and decoder in config:
            for name in (encoder, decoder):
                if type(config[name]) is not int or config[name] < 1:
                    raise ModelError(
                        f"configuration of a {config.get('model_type')}: {name} is {config[name]!r}, no number of layers"
                    )
            return Depth(config[encoder], config[decoder])
    raise ModelError(f"configuration of a {config.get('model_type')}: it does not say how many layers the model has")


@contextmanager
def first_layers(stack: nn.Module, count: int) -> Iterator[nn.ModuleList]:
    """A stack that runs only its first `count` layers inside the `with`; yields them."""
    name = layer_list(stack)
    full = getattr(stack, name)
    first = stack._modules[name] = nn.ModuleList(full[:count])
    try:
        yield first
    finally:
        stack._modules[name] = full


@contextmanager
def sliced(model: PreTrainedModel, depth: Depth) -> Iterator[PreTrainedModel]:
    """The model itself, acting inside the `with` as its student of `depth` (forward and `generate`)."""
    depth.within(model_depth(model))
    with first_layers(model.get_encoder(), depth.encoder), first_layers(model.get_decoder(), depth.decoder):
        yield model


def extract_student(model: PreTrainedModel, depth: str | Depth) -> PreTrainedModel:
    """A new, plain model of the same class that holds the first layers of `model`; its logits equal the slice's bits.

    Args:
        model: a teacher; it is not changed.
        depth: such as `"6-2"`.

    Raises:
        ModelError: the depth is malformed or deeper than the model, or the family cannot be sliced.
    """
    depth = Depth.parse(depth).within(model_depth(model))
    config = copy.deepcopy(model.config)
    fields = next((pair for pair in DEPTH_FIELDS if all(hasattr(config, name) for name in pair)), None)
    if fields is None:
        raise ModelError(f"{type(model).__name__}: its configuration does not say how many layers it has")
    for name, count in zip(fields, (depth.encoder, depth.decoder), strict=True):
        setattr(config, name, count)
    config.num_hidden_layers = depth.encoder
    config.use_cache = True
    with torch.random.fork_rng(devices=[]):  # the new model's throw-away initialisation must not move the caller's state
        student = type(model)(config)
    wanted, have = student.state_dict(), model.state_dict()
    moved(student, model.dtype).load_state_dict({name: have[name] for name in wanted})
    student.generation_config = copy.deepcopy(model.generation_config)
    return moved(student, model.device).eval()

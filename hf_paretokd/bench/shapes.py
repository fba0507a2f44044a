"""Models and data to time: random ids in sentences of realistic lengths."""

from dataclasses import dataclass

import datasets
import numpy as np
from transformers import PreTrainedModel

from hf_paretokd.errors import RecipeError
from hf_paretokd.models.building import ModelConfig, new_model, prepare_for_training


@dataclass(frozen=True)
class Shape:
    """A Marian model with equal sides."""

    layers: int
    width: int
    inner: int
    heads: int
    vocabulary: int


SHAPES = {
    "tiny": Shape(3, 32, 64, 2, 500),
    "small": Shape(6, 128, 512, 4, 4000),
    "iwslt": Shape(6, 512, 1024, 4, 8000),
    "base": Shape(6, 512, 2048, 8, 32000),
}


def shape_named(name: str) -> Shape:
    """One of `SHAPES`.

    Raises:
        RecipeError: there is no such shape.
    """
    if name not in SHAPES:
        raise RecipeError(f"--shape: {name!r} is not one of {', '.join(SHAPES)}")
    return SHAPES[name]


def random_model(shape: Shape, dropout: float = 0.1, vocabulary: int | None = None) -> PreTrainedModel:
    """A new model of a shape; its vocabulary may be another."""
    config = ModelConfig(
        d_model=shape.width,
        encoder_layers=shape.layers,
        decoder_layers=shape.layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=shape.inner,
        decoder_ffn_dim=shape.inner,
        dropout=dropout,
        max_position_embeddings=128,
    )
    model = new_model(config, vocabulary or shape.vocabulary, eos_token_id=0, seed=0)
    prepare_for_training(model)
    return model


def random_pairs(shape: Shape, sizes: dict[str, int], seed: int) -> datasets.DatasetDict:
    """Sentence pairs of random ids, about 25 tokens a side as in talks, `sizes[pair]` of each pair."""
    generator = np.random.default_rng(seed)

    def sentences(count: int) -> list[list[int]]:
        lengths = np.clip(generator.lognormal(3.1, 0.5, count).astype(int), 4, 100)
        return [[*generator.integers(1, shape.vocabulary - 1, length).tolist(), 0] for length in lengths]

    return datasets.DatasetDict(
        {
            pair: datasets.Dataset.from_dict({"input_ids": sentences(count), "labels": sentences(count)})
            for pair, count in sizes.items()
        }
    )

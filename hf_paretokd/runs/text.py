"""The text of a recipe as a tokenizer and token ids on disk: what a training reads, and what can be made before it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from hf_paretokd.data.corpus import load_text
from hf_paretokd.data.encoding import encode_told
from hf_paretokd.data.languages import Direction
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.shards import Counted, Job
from hf_paretokd.data.stores import split_jobs, stored_split, stored_tokenizer
from hf_paretokd.data.streams import encoded_stream
from hf_paretokd.errors import ModelError, RecipeError
from hf_paretokd.models.depth import Depth, candidate_depths
from hf_paretokd.models.files import load_config, usable_length
from hf_paretokd.models.slicing import config_depth
from hf_paretokd.runs.recipe import Recipe

SPLITS = ("train", "validation")  # that a training reads


@dataclass(frozen=True)
class TrainingText:
    """The text of a training.

    Args:
        counted: what was read, kept and left out, by split and pair.
        encoded: token ids, by split and pair: a `Dataset`, or an `IterableDataset` of text that is streamed.
        directions: what the model is told of each pair.
    """

    counted: dict[str, dict[LanguagePair, Counted]]
    encoded: dict[str, dict[str, Any]]
    directions: dict[LanguagePair, Direction]


def existing_tokenizer(recipe: Recipe) -> str | None:
    """Folder or Hub id of the tokenizer that a recipe takes from elsewhere; None if it has one trained."""
    sources = recipe.trainer_class.sources(recipe.training)
    return recipe.tokenizer.from_pretrained or recipe.model.checkpoint or next(iter(sources), None)


def new_tokenizer(recipe: Recipe) -> Path:
    """The folder of a tokenizer of the recipe's training text.

    Raises:
        DataError, TokenizerError: as `stored_tokenizer`.
    """
    return stored_tokenizer(recipe.data, recipe.tokenizer, recipe.model.max_position_embeddings)


def prepare_text(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> TrainingText:
    """Token ids of all that a training reads; also reads the other text that will be scored.

    Raises:
        DataError, RecipeError, TokenizerError: the text breaks a rule, or the recipe does not fit it.
    """
    for split in set(recipe.evaluation.splits) - set(SPLITS):
        load_text(recipe.data, split)  # whatever is wrong with it is better known now
    told, max_length = encoding_of(recipe, tokenizer)
    counted: dict[str, dict[LanguagePair, Counted]] = {}
    encoded: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        counted[split], encoded[split] = token_ids(recipe, split, tokenizer, told, max_length)
    return TrainingText(counted, encoded, told)


def encoding_of(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> tuple[dict[LanguagePair, Direction], int]:
    """What the model is told of each pair, and the longest side in tokens.

    Raises:
        RecipeError: a student that is to be scored is no slice of the model.
    """
    named = recipe.model.checkpoint
    shape = load_config(named) if named else recipe.model
    full = config_depth(shape.to_dict() if isinstance(shape, PreTrainedConfig) else asdict(shape))
    check_depths(recipe, full)
    check_trained(recipe, full)
    told = recipe.directions(tokenizer, shape if isinstance(shape, PreTrainedConfig) else None)
    return told, recipe.data.max_length or usable_length(shape, tokenizer)


def text_jobs(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> list[tuple[Job, Path]]:
    """All that is prepared for a training, and the folders for it."""
    told, max_length = encoding_of(recipe, tokenizer)
    return [job for split in SPLITS for job in split_jobs(recipe.data, split, tokenizer, told, max_length)]


def check_depths(recipe: Recipe, full: Depth) -> None:
    """Raises a RecipeError if a student that is to be scored is no slice of the model."""
    for text in recipe.evaluation.depths or ():
        try:
            Depth.parse(text).within(full)
        except ModelError as error:
            raise RecipeError(f"evaluation.depths: {error}") from error


def check_trained(recipe: Recipe, full: Depth) -> None:
    """Raises a RecipeError if a student that is to be scored is none of those that are trained."""
    if not hasattr(recipe.training, "candidates"):
        return
    trained = candidate_depths(full, recipe.training.candidates)
    for text in recipe.evaluation.depths or ():
        if (depth := Depth.parse(text)) not in (full, *trained):
            raise RecipeError(
                f"evaluation.depths: {depth} is not trained, only {', '.join(map(str, trained))}; "
                f"name all that are to be as {recipe.method}.candidates"
            )


def token_ids(
    recipe: Recipe,
    split: str,
    tokenizer: PreTrainedTokenizerBase,
    told: Mapping[LanguagePair, Direction],
    max_length: int,
) -> tuple[dict[LanguagePair, Counted], dict[str, Any]]:
    """What became of the rows of a split, and their token ids; text that a model has made is checked in memory.

    Nobody knows what becomes of a stream.
    """
    if split == "train" and recipe.data.streaming:
        return {}, {str(pair): encoded_stream(recipe.data, pair, tokenizer, told[pair], max_length) for pair in told}
    if split == "train" and recipe.data.distilled_dir:
        texts = load_text(recipe.data, split)
        encoded = dict(encode_told(texts, tokenizer, told, max_length))
        return {pair: Counted.of(text) for pair, text in texts.items()}, encoded
    found = stored_split(recipe.data, split, tokenizer, told, max_length)
    return {pair: each.counted for pair, each in found.items()}, {str(pair): each.dataset for pair, each in found.items()}

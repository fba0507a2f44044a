"""Train a recipe: `paretokd train recipe.yaml --max_steps 100`, or `torchrun … recipes/train.py recipe.yaml`.

Text → tokenizer → token ids → model → trainer → students on disk → scores. Copy it and change what you like.
"""

import sys

from rich.console import Console

from hf_paretokd.data.corpus import load_text
from hf_paretokd.data.encoding import encode_split
from hf_paretokd.data.pairs import source_tags
from hf_paretokd.errors import ParetoKDError
from hf_paretokd.models.building import build_model
from hf_paretokd.recipe import Recipe, load_recipe
from hf_paretokd.runs import finish_run, prepare_run, prepare_tokenizer, report_skips


def train(recipe: Recipe, resume: bool = False, overwrite: bool = False) -> None:
    """Runs a recipe from text to scored students."""
    prepare_run(recipe, resume, overwrite)

    texts = {split: load_text(recipe.data, split) for split in ("train", "validation")}
    tokenizer = prepare_tokenizer(recipe, texts["train"])
    tags = source_tags(recipe.data.parsed_pairs, recipe.data.target_tags)
    length = tokenizer.model_max_length
    train_data = encode_split(texts["train"], tokenizer, tags, length)
    validation_data = encode_split(texts["validation"], tokenizer, tags, length)
    report_skips(texts)

    trainer = recipe.trainer_class(
        model=build_model(recipe.model, tokenizer, recipe.training.seed),
        args=recipe.training,
        train_dataset=train_data,
        eval_dataset=validation_data,
        processing_class=tokenizer,
    )
    trainer.train(resume_from_checkpoint=resume)
    finish_run(recipe, trainer)


def main(words: list[str]) -> int:
    """The command line; returns the exit code."""
    flags = {flag: flag in words for flag in ("--resume", "--overwrite")}
    words = [word for word in words if word not in flags]
    try:
        if not words or words[0].startswith("-"):
            raise ParetoKDError("give a recipe first: paretokd train recipe.yaml [--resume] [--overwrite] [--field value …]")
        train(load_recipe(words[0], words[1:]), resume=flags["--resume"], overwrite=flags["--overwrite"])
    except ParetoKDError as error:
        Console(stderr=True).print(f"error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

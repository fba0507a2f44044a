"""Train a recipe: `paretokd train recipe.yaml --max_steps 100`, or `torchrun … recipes/train.py recipe.yaml`.

Text → tokenizer → token ids → model → trainer → students on disk → scores. Copy it and change what you like.
"""

import sys

from hf_paretokd.data.corpus import load_text
from hf_paretokd.data.encoding import encode_split
from hf_paretokd.errors import RecipeError, reported
from hf_paretokd.models.building import build_model
from hf_paretokd.recipe import Recipe, describe_fields, load_recipe
from hf_paretokd.runs import finish_run, group_pairs, prepare_run, prepare_tokenizer, report_skips


def train(recipe: Recipe, resume: bool = False, overwrite: bool = False) -> None:
    """Runs a recipe from text to scored students."""
    prepare_run(recipe, resume, overwrite)

    texts = {split: load_text(recipe.data, split) for split in ("train", "validation")}
    tokenizer = prepare_tokenizer(recipe, texts["train"])
    options = {"target_tags": recipe.data.target_tags, "max_length": recipe.data.max_length}
    encoded = {split: encode_split(text, tokenizer, **options) for split, text in texts.items()}
    report_skips(texts)
    group_pairs(recipe, texts["train"])

    models = [build_model(recipe.model, tokenizer, seed) for seed in recipe.peer_seeds]
    trainer = recipe.trainer_class(
        model=models if len(models) > 1 else models[0],
        args=recipe.training,
        train_dataset=encoded["train"],
        eval_dataset=encoded["validation"],
        processing_class=tokenizer,
    )
    trainer.train(resume_from_checkpoint=resume)
    finish_run(recipe, trainer)


def run(words: list[str]) -> None:
    """The command line: RECIPE [--resume] [--overwrite] [--field value …]."""
    if not words or words[0].startswith("-"):
        raise RecipeError("give a recipe first: paretokd train recipe.yaml [--resume] [--overwrite] [--field value …]")
    if "--help" in words:
        print(describe_fields(words[0]))
        return
    fields = [word for word in words[1:] if word not in ("--resume", "--overwrite")]
    train(load_recipe(words[0], fields), resume="--resume" in words, overwrite="--overwrite" in words)


if __name__ == "__main__":
    sys.exit(reported(lambda: run(sys.argv[1:])))

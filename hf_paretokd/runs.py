"""A run's folder: what is made before training, and what is written after it."""

import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import PartialState
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hf_paretokd import checkpoints
from hf_paretokd.data.corpus import ParallelText, load_text
from hf_paretokd.data.pairs import LanguagePair, source_tags
from hf_paretokd.data.tokenizer import train_tokenizer
from hf_paretokd.delivery.extract import save_students
from hf_paretokd.errors import ModelError, TokenizerError, TrainingError
from hf_paretokd.evaluation.results import ResultRow, results_table, score_model, write_results
from hf_paretokd.models.building import load_model
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.slicing import extract_student, model_depth
from hf_paretokd.recipe import Recipe, load_recipe
from hf_paretokd.trainer import TranslationTrainer

RECIPE, RESULTS, TOKENIZER, TIMES = "recipe.yaml", "results.json", "tokenizer", "times.json"
console = Console()


def prepare_run(recipe: Recipe, resume: bool, overwrite: bool) -> None:
    """Makes the run folder and writes the recipe into it, from the main process.

    Raises:
        TrainingError: the folder holds a run that neither `resume` nor `overwrite` allows to touch.
    """
    folder = recipe.run_folder
    state = PartialState()
    finished, started = (folder / RESULTS).exists(), (folder / RECIPE).exists()
    state.wait_for_everyone()  # everyone has looked before the main process changes anything
    if finished and not overwrite:
        raise TrainingError(f"{folder}: holds a finished run; give --overwrite to replace it, or another --output_dir")
    if started and not (resume or overwrite):
        raise TrainingError(f"{folder}: holds an unfinished run; give --resume to go on, or --overwrite to start anew")
    if state.is_main_process:
        if overwrite and not resume and folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        recipe.save(folder / RECIPE)
    state.wait_for_everyone()


def prepare_tokenizer(recipe: Recipe, texts: Mapping[LanguagePair, ParallelText]) -> PreTrainedTokenizerBase:
    """The run's tokenizer: an existing one, or trained once by the main process and kept in the run folder."""
    config, length = recipe.tokenizer, recipe.model.max_position_embeddings
    if config.from_pretrained or recipe.model.from_pretrained:
        return load_tokenizer(config.from_pretrained or recipe.model.from_pretrained)
    folder = recipe.run_folder / TOKENIZER
    with PartialState().main_process_first():
        if not (folder / "vocab.json").exists():
            tagged = any(source_tags(texts, recipe.data.target_tags).values())
            train_tokenizer(
                [source for text in texts.values() for source in text.sources],
                [target for text in texts.values() for target in text.targets], folder,
                vocab_size=config.vocab_size, target_languages=[pair.target for pair in texts] if tagged else [],
                joint=config.joint, byte_fallback=config.byte_fallback, character_coverage=config.character_coverage,
                max_length=length,
            )
        return load_tokenizer(folder)


def load_tokenizer(name: str | Path) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder or the Hub.

    Raises:
        TokenizerError: it is missing or corrupt.
    """
    try:
        return AutoTokenizer.from_pretrained(name)
    except Exception as error:  # transformers and the Hub client raise many kinds for a bad folder
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TokenizerError(f"tokenizer {name}: cannot be loaded ({reason})") from None


def report_skips(texts: Mapping[str, Mapping[LanguagePair, ParallelText]]) -> None:
    """Prints how many sentence pairs each split has and what was left out, from the main process."""
    if not PartialState().is_main_process:
        return
    table = Table("pair", "split", "sentence pairs", "left out", title="Text")
    for split, pairs in texts.items():
        for pair, text in pairs.items():
            reasons = [f"{count} × {reason}" + (f" (first: {text.examples[reason]})" if reason in text.examples else "")
                       for reason, count in text.skipped.items()]
            table.add_row(str(pair), split, f"{len(text):,}", "; ".join(reasons) or "–")
    console.print(table)


def finish_run(recipe: Recipe, trainer: TranslationTrainer) -> None:
    """Writes the models, scores them, and prints the results table; the main process does it all."""
    if not trainer.is_world_process_zero():
        return
    folder = recipe.run_folder
    trainer.save_model(str(folder))
    (folder / TIMES).write_text(json.dumps(training_times(trainer), indent=1) + "\n", "utf-8")
    teacher, depths = trainer.model.main_model, list(trainer.validation_depths())
    if recipe.method != "plain":
        save_students(
            teacher, trainer.processing_class, depths, folder / "students", recipe.method, recipe.data.parsed_pairs, overwrite=True
        )
    evaluate_run(folder)


def training_times(trainer: TranslationTrainer) -> dict[str, float | int | str]:
    """Updates, seconds of training (all parts of a resumed run) and the machine's share in them."""
    state = trainer.state
    return {
        "updates": state.global_step, "passes": round(state.epoch or 0, 2), "seconds": round(trainer.seconds_trained, 1),
        "best_update": state.best_global_step or state.global_step, "processes": trainer.args.world_size,
        "device": trainer.args.device.type, "threads": torch.get_num_threads(), "torch": torch.__version__,
        "transformers": version("transformers"), "hf_paretokd": version("hf_paretokd"),
    }


def evaluate_run(folder: Path) -> list[ResultRow]:
    """Scores all models of a finished run on its recipe's splits; writes `results.json` and prints the table.

    Raises:
        ModelError: the folder holds no finished training.
    """
    recipe = load_recipe(folder / RECIPE)
    main = next((folder / name for name in ("teacher", "model") if (folder / name / checkpoints.WEIGHTS).is_file()), None)
    if main is None:
        raise ModelError(f"{folder}: has no teacher or model yet; was the training finished? (paretokd train … --resume)")
    model, tokenizer = load_model(main), load_tokenizer(main)
    tags = source_tags(recipe.data.parsed_pairs, recipe.data.target_tags)
    students = [Depth.parse(path.name) for path in (folder / "students").glob("*-*")]
    wanted = [Depth.parse(text) for text in recipe.evaluation.depths] if recipe.evaluation.depths is not None else students
    rows: list[ResultRow] = []
    for split in recipe.evaluation.splits:
        texts = load_text(recipe.data, split)
        found = score_model(main.name, str(model_depth(model)), model, tokenizer, texts, tags, recipe.evaluation.num_beams)
        for depth in sorted(wanted, reverse=True):
            student = extract_student(model, depth)
            found += score_model("student", str(depth), student, tokenizer, texts, tags, recipe.evaluation.num_beams)
        rows += found
        console.print(results_table(found))
    write_results(rows, folder / RESULTS)
    return rows


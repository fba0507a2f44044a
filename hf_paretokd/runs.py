"""A run's folder: what is made before training, and what is written after it."""

import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import PartialState
from rich.table import Table
from transformers import PreTrainedTokenizerBase, pipeline

from hf_paretokd.checkpointing import CHECKPOINTS
from hf_paretokd.data.corpus import ParallelText, load_text
from hf_paretokd.data.pairs import LanguagePair, source_tags
from hf_paretokd.data.tokenizer import train_tokenizer
from hf_paretokd.delivery.extract import save_students
from hf_paretokd.delivery.hub import check_names
from hf_paretokd.errors import TrainingError
from hf_paretokd.evaluation.outputs import System
from hf_paretokd.evaluation.results import AVERAGE, ResultRow, read_results
from hf_paretokd.models.building import check_vocabulary, load_model
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.recipe import Recipe, load_recipe, parse_overrides
from hf_paretokd.record import STATE, read_run
from hf_paretokd.scoring import (
    COMPARISONS,
    CONTAMINATION,
    FRONTIER,
    PLOTS,
    RECIPE,
    RESCORED,
    RESULTS,
    TRANSLATIONS,
    console,
    draw_run,
    load_tokenizer,
    main_folders,
    read_baseline,
    score_run,
)
from hf_paretokd.sharing.cards import write_card, write_cards
from hf_paretokd.sharing.push import push_run
from hf_paretokd.sharing.report import REPORT, write_report
from hf_paretokd.trainer import TranslationTrainer
from hf_paretokd.weighting.rules import HISTORY

TOKENIZER = "tokenizer"
FILES = (RECIPE, RESULTS, FRONTIER, HISTORY, COMPARISONS, CONTAMINATION, STATE, "latency*.json", REPORT)
FOLDERS = (CHECKPOINTS, TOKENIZER, "teacher", "model", "students", "peers", PLOTS, TRANSLATIONS)


def prepare_run(recipe: Recipe, resume: bool, overwrite: bool) -> None:
    """Makes the run folder and writes the recipe into it, from the main process.

    Raises:
        TrainingError: the folder holds a run that neither `resume` nor `overwrite` allows to touch.
        RecipeError, UploadError: a baseline has no results, or the models could not be uploaded under the name given; better
            known now than after the training.
    """
    if recipe.training.push_to_hub:
        check_names([recipe.training.hub_model_id or ""])
    for baseline in recipe.evaluation.baselines:
        read_baseline(baseline)
    folder = recipe.run_folder
    state = PartialState()
    finished, started = (folder / RESULTS).exists(), (folder / RECIPE).exists()
    state.wait_for_everyone()  # everyone has looked before the main process changes anything
    if finished and not overwrite:
        raise TrainingError(f"{folder}: holds a finished run; give --overwrite to replace it, or another --output_dir")
    if started and not (resume or overwrite):
        raise TrainingError(f"{folder}: holds an unfinished run; give --resume to go on, or --overwrite to start anew")
    if state.is_main_process:
        if overwrite and not resume:
            for name in FOLDERS:  # whatever else is there is not ours to delete
                shutil.rmtree(folder / name, ignore_errors=True)
            for name in FILES:
                for path in folder.glob(name):
                    path.unlink()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            recipe.save(folder / RECIPE)
        except OSError as error:
            raise TrainingError(f"training.output_dir: {folder} cannot be written ({error.strerror}); choose another") from None
    state.wait_for_everyone()


def prepare_tokenizer(recipe: Recipe, texts: Mapping[LanguagePair, ParallelText]) -> PreTrainedTokenizerBase:
    """The run's tokenizer: an existing one, or trained once by the main process and kept in the run folder."""
    config, length = recipe.tokenizer, recipe.model.max_position_embeddings
    if config.from_pretrained or recipe.model.from_pretrained:
        return load_tokenizer(config.from_pretrained or recipe.model.from_pretrained)
    folder = recipe.run_folder / TOKENIZER
    with PartialState().main_process_first():
        if not folder.exists():
            written = folder.with_name(f"{TOKENIZER}.unfinished")
            train_tokenizer(
                texts,
                written,
                config.vocab_size,
                recipe.data.target_tags,
                config.joint,
                config.byte_fallback,
                config.character_coverage,
                length,
            )
            written.rename(folder)
        return load_tokenizer(folder)


def report_skips(texts: Mapping[str, Mapping[LanguagePair, ParallelText]]) -> None:
    """Prints how many sentence pairs each split has and what was left out, from the main process."""
    if not PartialState().is_main_process:
        return
    table = Table("pair", "split", "sentence pairs", "left out", title="Text")
    for split, pairs in texts.items():
        for pair, text in pairs.items():
            reasons = [
                f"{count} × {reason}" + (f" (first: {text.examples[reason]})" if reason in text.examples else "")
                for reason, count in text.skipped.items()
            ]
            table.add_row(str(pair), split, f"{len(text):,}", "; ".join(reasons) or "–")
    console.print(table)


def group_pairs(recipe: Recipe, texts: Mapping[LanguagePair, ParallelText]) -> None:
    """Settles which pairs are high-resource and writes it into the run's recipe, from the main process."""
    recipe.split_by_size({str(pair): len(text) for pair, text in texts.items()})
    if PartialState().is_main_process:
        recipe.save(recipe.run_folder / RECIPE)


def finish_run(recipe: Recipe, trainer: TranslationTrainer) -> None:
    """Writes the models, scores them, prints the results table and draws the plots; the main process does it all."""
    if not trainer.is_world_process_zero():
        return
    folder = recipe.run_folder
    trainer.save_model(str(folder))
    if trainer.student_depths():
        save_students(
            trainer.model.main_model,
            trainer.processing_class,
            trainer.student_depths(),
            folder / "students",
            recipe.method,
            recipe.data.parsed_pairs,
            overwrite=True,
        )
    saved = load_recipe(folder / RECIPE)
    trainer.save_state()
    training, scores = training_rows(trainer), score_run(folder, saved)
    scores.write(folder, saved, training)
    report_run(folder)
    if trainer.args.push_to_hub:
        for address in push_run(folder, trainer.args.hub_model_id or "", private=trainer.args.hub_private_repo is not False):
            console.print(address, highlight=False, soft_wrap=True)


def report_run(folder: Path) -> None:
    """Draws the plots, writes report and cards of a run that has results."""
    record = read_run(folder)
    draw_run(folder, record.rows, record.recipe)
    if record.systems:
        show(write_report(record))
    else:
        console.print("no report: nothing was scored (evaluation.splits)")
    write_cards(record)


def show(path: Path) -> None:
    """Prints where something is."""
    console.print(str(path), highlight=False, soft_wrap=True)


def evaluate_run(folder: str, overrides: Sequence[str]) -> None:
    """Scores a run again, with fields of its recipe overridden.

    Overrides that change what is measured (text, beams, engine, splits) only print the table, unless the run was cut off
    before it had results; else `results.json` and what belongs to it are written anew, and the recipe keeps the overrides.
    """
    path = Path(folder)
    recipe = load_recipe(path / RECIPE, overrides)
    scores = score_run(path, recipe)
    old = read_results(path / RESULTS) if (path / RESULTS).is_file() else []
    changed = [name for section, name, _ in parse_overrides(overrides) if section != "evaluation" or name not in RESCORED]
    if old and changed:
        console.print(f"{path / RESULTS}: left as it is, because other things were measured ({', '.join(changed)})")
        return
    recipe.save(path / RECIPE)
    scores.write(path, recipe, [row for row in old if row.split == "train"])
    report_run(path)


def training_rows(trainer: TranslationTrainer) -> list[ResultRow]:
    """What the training took, over all parts of a resumed run."""
    state, (name, model) = trainer.state, next(trainer.model.named_models())
    processes, device = trainer.args.world_size, trainer.args.device.type
    threads = torch.get_num_threads() if device == "cpu" else 1
    versions = ", ".join(f"{name} {version(name)}" for name in ("hf_paretokd", "torch", "transformers"))
    cores = f"{threads} thread{'s' if threads > 1 else ''}" if device == "cpu" else accelerator_name(device)
    machine = f"{processes} × {device}, {cores}; {versions}"
    seconds, signature = round(trainer.seconds_trained, 1), trainer.signature()
    figures = {
        "updates": (state.global_step, signature),
        "best_update": (state.best_global_step or state.global_step, signature),
        "passes": (round(state.epoch or 0.0, 2), signature),
        "training_seconds": (seconds, machine),
        "core_hours" if device == "cpu" else "gpu_hours": (seconds * processes * threads / 3600, machine),
    }
    if state.best_metric is not None:
        figures["validation_loss"] = (state.best_metric, signature)
    kind, depth = name.split("/")[0].removesuffix("s"), str(model_depth(model))
    return [ResultRow(kind, depth, None, AVERAGE, "train", metric, value, text) for metric, (value, text) in figures.items()]


def accelerator_name(device: str) -> str:
    """What a GPU is called, as far as torch tells."""
    return torch.cuda.get_device_name() if device == "cuda" else device


def extract_depths(source: str, depths: Sequence[str], output: Path, overwrite: bool) -> None:
    """Writes students of a run's teacher, or of any checkpoint, as plain checkpoints.

    Raises:
        ModelError: a depth does not fit, or a folder is in the way.
    """
    wanted = [Depth.parse(depth) for depth in depths]
    main = next(iter(main_folders(Path(source))), source)
    recipe = Path(source) / RECIPE
    known = load_recipe(recipe) if recipe.is_file() else None
    teacher, tokenizer = load_model(main), load_tokenizer(main)
    check_vocabulary(teacher, tokenizer)
    pairs = known.data.parsed_pairs if known else ()
    record = read_run(source) if (Path(source) / RESULTS).is_file() else None
    for path in save_students(teacher, tokenizer, wanted, output, known.method if known else "", pairs, overwrite):
        system = System("student", path.name)
        if record and system in record.systems:
            write_card(record, system, path)
        show(path)


def show_translations(folder: Path, model: str, count: int = 2) -> None:
    """Prints a few test sentences of each pair, translated through `pipeline("translation")` by a model of the run.

    `model` is its folder inside the run, such as `students/2-2`.
    """
    recipe = load_recipe(folder / RECIPE)
    tags = source_tags(recipe.data.parsed_pairs, recipe.data.target_tags)
    translator = pipeline("translation", str(folder / model))
    table = Table("pair", "source", "translation", "reference", title=f"Unseen phrases, {model}", show_lines=True)
    for position, (pair, text) in enumerate(load_text(recipe.data, "test").items()):
        chosen = slice(position * count, (position + 1) * count)
        results = translator([tags[pair] + source for source in text.sources[chosen]])
        for source, result, target in zip(text.sources[chosen], results, text.targets[chosen], strict=True):
            table.add_row(str(pair), source, result["translation_text"], target)
    console.print(table)

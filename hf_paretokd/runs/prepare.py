"""From a recipe to a trainer: the run folder, the text, the tokenizer, the models; and what is written when it has trained."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accelerate import PartialState
from datasets import DatasetDict
from transformers import PreTrainedTokenizerBase, TrainerCallback

from hf_paretokd.data.corpus import ParallelText, load_text
from hf_paretokd.data.encoding import encode_split
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.tokenizer import train_tokenizer
from hf_paretokd.errors import TrainingError
from hf_paretokd.hub.upload import check_names
from hf_paretokd.layout import STUDENTS, RunLayout
from hf_paretokd.models.building import build_model
from hf_paretokd.models.files import load_tokenizer
from hf_paretokd.runs.recipe import Recipe
from hf_paretokd.runs.run import Run, read_baseline
from hf_paretokd.training.trainer import TranslationTrainer


@dataclass(frozen=True)
class Prepared:
    """All that a training needs but its models: text and token ids of `train` and `validation`."""

    recipe: Recipe
    texts: dict[str, dict[LanguagePair, ParallelText]]
    encoded: dict[str, DatasetDict]
    tokenizer: PreTrainedTokenizerBase

    def trainer(self, callbacks: Sequence[TrainerCallback] = ()) -> TranslationTrainer:
        """The method's trainer with new models, or those that the recipe starts from."""
        models: list[Any] = [build_model(self.recipe.model, self.tokenizer, seed) for seed in self.recipe.peer_seeds]
        trainer_class: Any = self.recipe.trainer_class  # each method takes what it needs for a model
        return trainer_class(
            model=models if len(models) > 1 else models[0],
            args=self.recipe.training,
            train_dataset=self.encoded["train"],
            eval_dataset=self.encoded["validation"],
            processing_class=self.tokenizer,
            callbacks=list(callbacks),
        )


def prepare(recipe: Recipe, resume: bool = False, overwrite: bool = False) -> Prepared:
    """Makes the run folder, reads and encodes the text, and settles which pairs are high-resource.

    Raises:
        TrainingError, RecipeError, DataError, TokenizerError: as `prepare_run`, `load_text`, `prepare_tokenizer`.
    """
    prepare_run(recipe, resume, overwrite)
    texts = {split: load_text(recipe.data, split) for split in ("train", "validation")}
    tokenizer = prepare_tokenizer(recipe, texts["train"])
    target_tags, max_length = recipe.data.target_tags, recipe.data.max_length
    encoded = {split: encode_split(text, tokenizer, target_tags, max_length) for split, text in texts.items()}
    group_pairs(recipe, texts["train"])
    return Prepared(recipe, texts, encoded, tokenizer)


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
    layout, state = RunLayout(recipe.run_folder), PartialState()
    finished, started = layout.results.exists(), layout.recipe.exists()
    state.wait_for_everyone()  # everyone has looked before the main process changes anything
    if finished and not overwrite:
        raise TrainingError(f"{layout.folder}: holds a finished run; give --overwrite to replace it, or another --output_dir")
    if started and not (resume or overwrite):
        raise TrainingError(f"{layout.folder}: holds an unfinished run; give --resume to go on, or --overwrite to start anew")
    if state.is_main_process:
        if overwrite and not resume:
            remove_run(layout)
        try:
            layout.folder.mkdir(parents=True, exist_ok=True)
            recipe.save(layout.recipe)
        except OSError as error:
            raise TrainingError(
                f"training.output_dir: {layout.folder} cannot be written ({error.strerror}); choose another"
            ) from error
    state.wait_for_everyone()


def remove_run(layout: RunLayout) -> None:
    """Deletes what a run may have written; whatever else is there is not ours to delete."""
    folders, files = layout.written_by_runs()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    for pattern in files:
        for path in layout.folder.glob(pattern):
            path.unlink()


def prepare_tokenizer(recipe: Recipe, texts: Mapping[LanguagePair, ParallelText]) -> PreTrainedTokenizerBase:
    """The run's tokenizer: an existing one, or trained once by the main process and kept in the run folder."""
    config, length = recipe.tokenizer, recipe.model.max_position_embeddings
    existing = config.from_pretrained or recipe.model.from_pretrained
    if existing:
        return load_tokenizer(existing)
    folder = RunLayout(recipe.run_folder).tokenizer
    with PartialState().main_process_first():
        if not folder.exists():
            written = folder.with_name(f"{folder.name}.unfinished")
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


def group_pairs(recipe: Recipe, texts: Mapping[LanguagePair, ParallelText]) -> None:
    """Settles which pairs are high-resource and writes it into the run's recipe, from the main process."""
    recipe.split_by_size({str(pair): len(text) for pair, text in texts.items()})
    if PartialState().is_main_process:
        recipe.save(RunLayout(recipe.run_folder).recipe)


def keep_models(recipe: Recipe, trainer: TranslationTrainer) -> Run:
    """Writes the trained models, their students and the log into the run folder; to be called by the main process."""
    run = Run(recipe.run_folder, recipe)
    with run.writing():
        trainer.save_model(str(run.folder))
        depths = trainer.student_depths()
        if depths:
            place = run.folder if len(trainer.model.models()) > 1 else run.folder / STUDENTS
            trainer.save_students(depths, place, overwrite=True, pairs=recipe.data.parsed_pairs)
        trainer.save_state()
    return run

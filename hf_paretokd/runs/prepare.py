"""From a recipe to a trainer: the run folder, the text, the tokenizer, the models; and what is written when it has trained."""

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import PreTrainedTokenizerBase, TrainerCallback

from hf_paretokd.data.corpus import text_places
from hf_paretokd.data.distilled import read_provenance
from hf_paretokd.data.languages import tell
from hf_paretokd.errors import ModelError, TrainingError
from hf_paretokd.hub.card import check_card_languages
from hf_paretokd.hub.upload import check_names
from hf_paretokd.layout import IDENTITY, LOCK, MANIFEST, STUDENTS, RunLayout, StartLayout, checkpoint_step
from hf_paretokd.models.building import build_model
from hf_paretokd.models.files import load_tokenizer
from hf_paretokd.runs.fields import field_defaults, typed_fields
from hf_paretokd.runs.recipe import Recipe, load_recipe
from hf_paretokd.runs.run import Run, read_baseline
from hf_paretokd.runs.text import TrainingText, existing_tokenizer, new_tokenizer, prepare_text
from hf_paretokd.training.checkpointing import checkpoint_folders
from hf_paretokd.training.identity import deciding_arguments, differences, read_identity
from hf_paretokd.training.trainer import TranslationTrainer
from hf_paretokd.utils.files import check_apart, claimed, save_json, whole_files, write_whole


@dataclass(frozen=True)
class Prepared:
    """All that a training needs but its models."""

    recipe: Recipe
    text: TrainingText
    tokenizer: PreTrainedTokenizerBase
    start: "StartOfRun"

    def trainer(self, callbacks: Sequence[TrainerCallback] = ()) -> TranslationTrainer:
        """The method's trainer with new models, or those that the recipe starts from."""
        models: list[Any] = [build_model(self.recipe.model, self.tokenizer, seed) for seed in self.recipe.peer_seeds]
        for model in models:
            tell(model, self.tokenizer, self.text.directions)
        trainer_class: Any = self.recipe.trainer_class  # each method takes what it needs for a model
        return trainer_class(
            model=models if len(models) > 1 else models[0],
            args=self.recipe.training,
            train_dataset=self.text.encoded["train"],
            eval_dataset=self.text.encoded["validation"],
            processing_class=self.tokenizer,
            callbacks=[*callbacks, self.start, LogFile(self.start.layout)],
        )


class StartOfRun(TrainerCallback):
    """Writes a run's recipe and tokenizer, and removes the run that was there, when all checks stand and training begins.

    Until then nothing is changed, so that a start that failed is in nobody's way and a resume that failed changes nothing.
    """

    def __init__(self, recipe: Recipe, overwrite: bool) -> None:
        self.recipe, self.overwrite = recipe, overwrite
        self.layout = RunLayout(recipe.run_folder)
        self.begun = False
        self.claims = ExitStack()

    def claim(self) -> None:
        """Takes the folder for this training, in the main process.

        Raises:
            TrainingError: it cannot be written, or another process is training there.
        """
        if PartialState().is_main_process:
            self.claims.enter_context(claimed(self.layout.folder))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begins the run; the recipe of one that is made longer says so."""
        if args.max_steps != self.recipe.training.max_steps > 0:
            method = self.recipe.method
            home = method if "max_steps" in (self.recipe.raw.get(method) or {}) else "training"
            self.recipe.raw[home] = {**(self.recipe.raw.get(home) or {}), "max_steps": args.max_steps}
        self.begin()

    def begin(self) -> None:
        """Does what is to be done, once, in the main process."""
        if self.begun or not PartialState().is_main_process:
            return
        self.begun = True
        if self.overwrite:
            remove_run(self.layout)
        self.recipe.save(self.layout.recipe)
        if folder := self.recipe.data.distilled_dir:
            save_json(asdict(read_provenance(Path(folder))), self.layout.distilled)
        start = StartLayout.of(self.layout.folder)
        if self.recipe.model.from_pretrained == str(start.model) and start.record.is_file():
            write_whole(self.layout.shrunk, start.record.read_bytes())
        if self.layout.new_tokenizer.exists():
            if self.layout.tokenizer.exists():  # what is left there is of others
                with whole_files(self.layout.tokenizer) as beside:
                    shutil.copytree(self.layout.new_tokenizer, beside, dirs_exist_ok=True)
                shutil.rmtree(self.layout.new_tokenizer)
            else:
                self.layout.new_tokenizer.rename(self.layout.tokenizer)

    def release(self) -> None:
        """Lets others have the folder; one in which no training has begun is left as it was."""
        if not self.begun and PartialState().is_main_process:
            shutil.rmtree(self.layout.new_tokenizer, ignore_errors=True)
            if self.layout.folder.is_dir() and [path.name for path in self.layout.folder.iterdir()] == [LOCK]:
                shutil.rmtree(self.layout.folder)
        self.claims.close()


class LogFile(TrainerCallback):
    """Writes the figures of a training to `log.jsonl` as they come, one object a line; a resumed one goes on where it was."""

    def __init__(self, layout: RunLayout) -> None:
        self.layout = layout

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begins with what the checkpoint knows."""
        if state.is_world_process_zero:
            write_whole(self.layout.log, "".join(f"{json.dumps(entry)}\n" for entry in state.log_history))

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Adds the newest line."""
        if state.is_world_process_zero and state.log_history:
            with self.layout.log.open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps(state.log_history[-1])}\n")


def prepare(recipe: Recipe, resume: bool = False, overwrite: bool = False) -> Prepared:
    """Reads and encodes the text, and settles which pairs are high-resource; nothing of a run that is there is changed.

    Raises:
        TrainingError, RecipeError, DataError, TokenizerError: as `check_start`, `check_folder`, `load_text`,
            `prepare_tokenizer`.
    """
    check_start(recipe)
    start = StartOfRun(recipe, overwrite and not resume)
    try:
        start.claim()
        check_folder(recipe, resume, overwrite)
        tokenizer = prepare_tokenizer(recipe, start, resume)
        text = prepare_text(recipe, tokenizer)
        recipe.split_by_size({str(pair): len(each) for pair, each in text.counted["train"].items()})
    except BaseException:
        start.release()
        raise
    return Prepared(recipe, text, tokenizer, start)


def check_start(recipe: Recipe) -> None:
    """Raises an error if the result of a training could not be kept; better known now than after it.

    Raises:
        RecipeError, UploadError: a baseline has no results, the run would be written over what it reads, or the models could
            not be uploaded under the name given.
    """
    if recipe.training.push_to_hub:
        check_names([recipe.training.hub_model_id or ""])
        check_card_languages(recipe.data.parsed_pairs, recipe.card.languages)
    for baseline in recipe.evaluation.baselines:
        read_baseline(baseline)
    read = recipe.trainer_class.sources(recipe.training)
    models = (recipe.model.from_pretrained, recipe.tokenizer.from_pretrained, *read)
    check_apart(recipe.run_folder, [*text_places(recipe.data), *models, *recipe.evaluation.baselines], "training.output_dir")


def check_folder(recipe: Recipe, resume: bool, overwrite: bool) -> None:
    """Raises an error if a training could not begin with what is in the run folder.

    Raises:
        TrainingError: it holds a run that neither `resume` nor `overwrite` allows to touch, or another one than is resumed.
    """
    layout, state = RunLayout(recipe.run_folder), PartialState()
    finished = layout.results.exists() and not (resume and goes_on(layout))
    started = layout.recipe.exists() or bool(resume and checkpoint_folders(layout.checkpoints))
    files = (path for path in layout.folder.glob("*") if layout.has_written(path))
    foreign = [path for path in (*layout.folders, *files) if path.exists()]
    around = next((each for each in layout.folder.resolve().parents if holds(RunLayout(each), layout.folder.resolve())), None)
    state.wait_for_everyone()  # everyone has looked before the main process changes anything
    if finished and not overwrite:
        raise TrainingError(
            f"{layout.folder}: holds a finished run; give --extend UPDATES to train it longer, --overwrite to replace it, or "
            "another --output_dir"
        )
    if started and not (resume or overwrite):
        raise TrainingError(f"{layout.folder}: holds an unfinished run; give --resume to go on, or --overwrite to start anew")
    if around:
        raise TrainingError(f"training.output_dir: {layout.folder} lies inside the run {around}; choose another")
    if not started and foreign:
        raise TrainingError(f"{foreign[0]}: is there already, but {layout.folder} is no run; choose another output_dir")
    if resume and layout.recipe.exists():
        check_resumed(recipe, layout)
    state.wait_for_everyone()


def holds(layout: RunLayout, folder: Path) -> bool:
    """Whether a folder lies where a run keeps what it has written."""
    return layout.recipe.is_file() and any(folder.is_relative_to(each) for each in layout.folders)


def goes_on(layout: RunLayout) -> bool:
    """Whether the newest checkpoint is of a training that was planned to be longer, as when an extension was cut off."""
    newest = next(reversed(checkpoint_folders(layout.checkpoints)), None)
    if newest is None or not (newest / IDENTITY).is_file():
        return False
    try:
        planned = read_identity(newest / IDENTITY).decides["max_steps"]
    except ModelError:
        return False
    return planned > (checkpoint_step(newest.name) or 0)


def check_resumed(recipe: Recipe, layout: RunLayout) -> None:
    """Raises a TrainingError if the run in the folder is another by its recipe, as far as no checkpoint's record says it."""
    kept = load_recipe(layout.recipe, trainable=False)
    newest = next(reversed(checkpoint_folders(layout.checkpoints)), None)
    recorded = newest is None or (newest / IDENTITY).is_file()
    if changed := differences(described(kept, recorded), described(recipe, recorded)):
        raise TrainingError(f"{layout.recipe}: is of another training: {'; '.join(changed)}; keep what was, or start a new run")


def described(recipe: Recipe, recorded: bool) -> dict[str, Any]:
    """What decides a run by its recipe, beside where text and models are; with a record only what is not in that."""
    sections = {"tokenizer": asdict(recipe.tokenizer)}
    if not recipe.model.from_pretrained:
        sections["model"] = {"initialisation": recipe.model.initialisation}
    if not recorded:
        kind = recipe.trainer_class.config_class
        arguments = {**field_defaults(kind), **typed_fields(kind, recipe.training_fields, "training")}
        training = {name: arguments[name] for name in (*deciding_arguments(kind), "bf16", "fp16")}
        sections |= {"data": asdict(recipe.data), "model": asdict(recipe.model), "training": training}
    found = {f"{section}.{name}": value for section, fields in sections.items() for name, value in fields.items()}
    for place in ("tokenizer.from_pretrained", "model.from_pretrained", "data.data_dir"):
        found.pop(place, None)
    return found if recorded else {"method": recipe.method, **found}


def remove_run(layout: RunLayout) -> None:
    """Deletes what a run may have written, and folders that are empty then; whatever else is there is not ours to delete."""
    places = (layout.folder.glob("*"), *(folder.rglob("*") for folder in layout.folders))
    for path in [path for place in places for path in place if layout.has_written(path)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for folder in layout.folders:
        for path in sorted((path for path in (folder, *folder.rglob("*")) if path.is_dir()), reverse=True):
            if not path.is_symlink() and not any(path.iterdir()):
                path.rmdir()


def prepare_tokenizer(recipe: Recipe, start: StartOfRun, resume: bool) -> PreTrainedTokenizerBase:
    """The run's tokenizer: an existing one, that of a resumed run, or one that is trained."""
    if existing := existing_tokenizer(recipe):
        return load_tokenizer(existing)
    if resume and start.layout.tokenizer.exists():
        return load_tokenizer(start.layout.tokenizer)
    folder = new_tokenizer(recipe)
    if PartialState().is_main_process:
        shutil.rmtree(start.layout.new_tokenizer, ignore_errors=True)
        shutil.copytree(folder, start.layout.new_tokenizer, ignore=shutil.ignore_patterns(MANIFEST))
    return load_tokenizer(folder)


def keep_models(recipe: Recipe, trainer: TranslationTrainer) -> Run:
    """Has the main process write the trained models, their students and the log into the run folder; called by all."""
    run = Run(recipe.run_folder, recipe)
    with run.writing() if trainer.is_world_process_zero() else nullcontext():
        trainer.save_model(str(run.folder))
        depths = trainer.student_depths()
        if depths:
            place = run.folder if len(trainer.model.models()) > 1 else run.folder / STUDENTS
            trainer.save_students(depths, place, overwrite=True, pairs=recipe.data.parsed_pairs)
        trainer.save_state()
    return run

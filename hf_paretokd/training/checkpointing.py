"""Checkpoints that are whole or not there, and trainings that go on from them exactly."""

import math
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerState
from transformers.trainer_utils import TrainOutput
from transformers.utils import logging

from hf_paretokd.errors import ModelError, TrainingError, TrainingInterrupted
from hf_paretokd.layout import LIVE_WEIGHTS, SET_ASIDE, TRAINER_STATE, RunLayout, checkpoint_step
from hf_paretokd.models.files import load_weights, save_model
from hf_paretokd.models.joint import JointModel
from hf_paretokd.training.arguments import TranslationConfig
from hf_paretokd.training.averaging import WeightAverage
from hf_paretokd.training.callbacks import CheckpointEvents
from hf_paretokd.training.processes import agreed, lost_processes_told, of_backend, send_folder
from hf_paretokd.training.sharding import WholeCopy, is_sharded, settle_sharding
from hf_paretokd.training.stock import StockTrainer
from hf_paretokd.utils.files import (
    WRITE_ERRORS,
    claimed,
    damage,
    discarded_on_error,
    publish,
    whole_files,
)
from hf_paretokd.utils.interruption import StopRequest

logger = logging.get_logger(__name__)
MEANINGLESS = ("train_samples_per_second", "train_steps_per_second", "total_flos")  # of micro-batches filled by tokens


class CheckpointedTrainer(StockTrainer):
    """A trainer that owns its checkpoints: written beside and renamed, verified before they are used.

    `checkpoint-N` folders hold every model as a plain checkpoint, the training state, and a manifest with sizes and
    checksums. A stop request (SIGTERM, Ctrl-C) saves at the end of the update and raises TrainingInterrupted.
    """

    args: TranslationConfig
    model: JointModel

    def __init__(self, **kwargs: Any) -> None:
        self.stop_request, self.stopping = StopRequest(), False
        self.begun = False  # whether these models have been trained here
        self.elsewhere = False  # whether the training goes on from a checkpoint of another folder
        self.copy: WholeCopy | None = None  # where the models are divided among processes
        self.average: WeightAverage | None = None  # while `ema_decay` asks for one
        self._to_begin: Callable[[], None] | None = None  # what changes the run folder, when the first update begins
        super().__init__(**kwargs)
        self.add_callback(CheckpointEvents(self))

    @property
    def layout(self) -> RunLayout:
        """The paths of the run folder."""
        return RunLayout(Path(str(self.args.output_dir)))

    @property
    def checkpoint_folder(self) -> Path:
        """Where `checkpoint-N` folders are."""
        return self.layout.checkpoints

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint after update `step`."""
        return self.layout.checkpoint(step)

    def last_checkpoint(self) -> str:
        """The newest checkpoint, for messages."""
        return str(next(reversed(checkpoint_folders(self.checkpoint_folder)), "none"))

    def create_accelerator_and_postprocess(self) -> None:
        """As in the Trainer, with what FSDP2 has to know if the launcher asks for it."""
        super().create_accelerator_and_postprocess()
        settle_sharding(self.accelerator)

    # ---- Hooks of subclasses --------------------------------------------------------------------------------------

    def best_steps(self) -> list[int]:
        """The updates whose checkpoints have to stay: here the best one, so far as there is one."""
        return [] if self.state.best_global_step is None else [self.state.best_global_step]

    def load_training_state(self, folder: Path) -> None:
        """Takes up all models and what `save_training_state` wrote."""
        self._load_models(folder)
        if self.args.ema_decay is not None:
            self.average = WeightAverage(self.model, self.args.ema_decay)
            with self.taking_up() as joint:
                self.average.load(joint, folder / LIVE_WEIGHTS)

    def save_training_state(self, folder: Path) -> None:
        """Adds the weights as they are trained, where the models of a checkpoint are their average."""
        if self.average:
            with self.whole_models(averaged=False) as joint:
                if self.args.should_save:
                    self.average.save(joint, folder / LIVE_WEIGHTS)

    @contextmanager
    def whole_models(self, averaged: bool = True) -> Iterator[JointModel]:
        """The models as a whole, for the block; to be asked for by all processes.

        Args:
            averaged: they are the average of their weights, if there is one.
        """
        with self.average.applied() if self.average and averaged else nullcontext():
            yield self.copy.gather(self.model) if self.copy and is_sharded(self.model) else self.model

    @contextmanager
    def taking_up(self) -> Iterator[JointModel]:
        """Whole models for the block; what they are at its end the training goes on with."""
        with self.whole_models(averaged=False) as joint:
            yield joint
        if self.copy and is_sharded(self.model):
            self.copy.scatter(self.model)

    def before_training(self, trial: Any) -> None:
        """Called first of all when a training is asked for, with the trial of a search if it is for one."""

    def check_resumable(self, folder: Path, state: TrainerState, extend: int = 0) -> None:
        """Raises a TrainingError if the training cannot go on from this checkpoint, `extend` updates longer than planned."""

    # ---- Training -------------------------------------------------------------------------------------------------

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
        extend: int = 0,
    ) -> TrainOutput:
        """Trains; `resume_from_checkpoint=True` continues from the newest whole checkpoint if there is one.

        Args:
            resume_from_checkpoint: a checkpoint to go on from, or whether to look for one.
            trial, ignore_keys_for_eval: as in the Trainer.
            extend: how many updates longer than it was planned the resumed training is to be.

        Raises:
            ModelError: the checkpoint named is not whole.
            TrainingError: it belongs to another training, a checkpoint could not be written, or another process is training
                in the run folder.
            TrainingInterrupted: SIGTERM or Ctrl-C came; the training was saved and can be resumed.
        """
        self.before_training(trial)
        others = {"trial": trial, "ignore_keys_for_eval": ignore_keys_for_eval}
        with claimed(self.layout.folder) if self.is_world_process_zero() else nullcontext():
            return self._start(resume_from_checkpoint, extend, others)

    def _start(self, resume_from_checkpoint: str | bool | None, extend: int, others: Mapping[str, Any]) -> TrainOutput:
        """Training, in a run folder that is this process's own."""
        folder = self._starting_point(resume_from_checkpoint)
        self.elsewhere = folder is not None and folder.resolve().parent != self.checkpoint_folder.resolve()
        if extend < 0:
            raise TrainingError(f"extend: a training can be made longer, not shorter ({extend})")
        if folder is None:
            if self.begun and self.model_init is None:
                raise TrainingError(
                    "train: these models have been trained by this trainer already; make a new trainer, or give "
                    "resume_from_checkpoint"
                )
            if extend:
                raise TrainingError(f"extend: there is no checkpoint in {self.checkpoint_folder} to go on from")
            return self._train(None, **others)
        self.have_everywhere(folder)
        state = TrainerState.load_from_json(str(folder / TRAINER_STATE))
        self.check_resumable(folder, state, extend)
        if state.global_step < self.args.max_steps:
            return self._train(folder, resume_from_checkpoint=str(folder), **others)
        self.state = state  # all updates are done, only the end was cut off
        self.load_training_state(folder)
        self.find_best()
        if self.average:
            self.average.settle()
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint:
            self.load_best()
        return TrainOutput(state.global_step, math.nan, {})

    def _train(self, start: Path | None, **kwargs: Any) -> TrainOutput:
        """Training without the Trainer's own rotation, which knows of one best model only."""
        self._to_begin = partial(set_aside, self.checkpoint_folder, start) if self.is_world_process_zero() else None
        self._checkpoints_kept, self.args.save_total_limit = self.args.save_total_limit, None
        self.stopping, self.begun, self.average = False, True, None
        if self.accelerator.is_fsdp2 and not is_sharded(self.model):
            self.copy = WholeCopy(self.model)
        try:
            with self.stop_request.listening(), lost_processes_told(self.args.world_size > 1, self.last_checkpoint):
                output = super().train(**kwargs)
        finally:
            self.args.save_total_limit = self._checkpoints_kept
        for name in MEANINGLESS:
            output.metrics.pop(name, None)
        output = TrainOutput(output.global_step, output.metrics["train_loss"], output.metrics)
        asked = self.stopping or self.stop_request.received
        if asked and self.checkpoint(self.state.global_step).is_dir():  # else there is nothing to resume from
            raise TrainingInterrupted(
                f"stopped by {self.stop_request.name} after update {self.state.global_step}, which is saved; resume to go on",
                self.stop_request.signal or signal.SIGTERM,
            )
        return output

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list, Any]:
        """The micro-batches of an update; all processes agree here whether it is the last one before a stop.

        What a training from here would mix up is set aside now and no earlier, when nothing can fail any more.
        """
        if self._to_begin is not None:
            self._to_begin()
            self._to_begin = None
        received = self.stop_request.received
        if self.args.world_size > 1:
            received = self.accelerator.reduce(torch.tensor(float(received), device=self.args.device)).item() > 0
        self.stopping = received
        return super().get_batch_samples(*args, **kwargs)

    # ---- Resuming -------------------------------------------------------------------------------------------------

    def _starting_point(self, wanted: str | bool | None) -> Path | None:
        """The checkpoint to go on from, found by the main process."""

        def find() -> Path | str | None:
            try:
                return self._whole_checkpoint(wanted)
            except ModelError as error:
                return str(error)

        found = agreed(find)
        if isinstance(found, str):
            raise ModelError(found)
        return found

    def _whole_checkpoint(self, wanted: str | bool | None) -> Path | None:
        shutil.rmtree(self.layout.unfinished, ignore_errors=True)  # a save that was cut off
        if not wanted:
            return None
        if wanted is not True:
            if problem := damage(Path(wanted)):
                raise ModelError(f"{wanted}: not a whole checkpoint ({problem}); resume from another")
            return Path(wanted)
        for folder in reversed(checkpoint_folders(self.checkpoint_folder)):
            problem = damage(folder)
            if problem is None:
                return folder
            logger.warning(f"{folder}: not a whole checkpoint ({problem}); the one before it is taken, or the start")
        logger.warning(f"{self.checkpoint_folder}: no whole checkpoint to go on from; the training starts at update 0")
        return None

    def find_best(self) -> None:
        """Looks for the best checkpoint, also in a run folder that was moved; if it is gone, the next best counts."""
        step = self.state.best_global_step
        self.state.best_model_checkpoint = None if step is None else str(self.checkpoint(step))
        for lost in self.best_steps():
            if not self.elsewhere and not agreed(partial(damage, self.checkpoint(lost))):
                continue
            logger.warning(f"{self.checkpoint(lost)}: a best checkpoint is lost or damaged; the best from here on will count")
            self.forget_best(lost)

    def forget_best(self, step: int) -> None:
        """Has the best from here on count, because the checkpoint after update `step` is gone."""
        if step == self.state.best_global_step:
            self.state.best_metric = self.state.best_global_step = self.state.best_model_checkpoint = None

    def load_best(self) -> None:
        """Takes up the best models; the average of their weights goes on from there."""
        self.load_best_models()
        if self.average:
            self.average.follow()

    def load_best_models(self) -> None:
        """Takes up the models of the best checkpoint."""
        self._load_models(Path(self.state.best_model_checkpoint or ""))

    def have_everywhere(self, folder: Path) -> None:
        """Has every node hold a checkpoint, which the main process has written; one without that disk is sent it."""
        self.accelerator.wait_for_everyone()  # the main process may still be writing it
        send_folder(folder, self.args.world_size, self.args.local_process_index)

    def _load_models(self, folder: Path) -> None:
        self.have_everywhere(folder)
        with self.taking_up() as joint:
            for name, model in joint.named_models():
                load_weights(model, folder / name)

    # ---- Saving ---------------------------------------------------------------------------------------------------

    def after_best(self, metrics: dict[str, float]) -> None:
        """Has a new best model written, which could not be loaded again otherwise."""
        if self.is_in_train and self.state.global_step in self.best_steps():
            self.control.should_save = True

    def checkpoint_parent(self) -> Path:
        """The Trainer writes beside the checkpoints."""
        return self.layout.unfinished

    def save_checkpoint(self, write: Callable[[], None]) -> None:
        """Has a checkpoint written beside, then gives it its name."""
        step = self.state.global_step
        folder, written = self.checkpoint(step), self.layout.unfinished / self.checkpoint(step).name
        try:
            with discarded_on_error(written):
                write()
                best = self.state.best_global_step
                self.state.best_model_checkpoint = None if best is None else str(self.checkpoint(best))
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    self.state.save_to_json(str(written / TRAINER_STATE))  # again, with the best's final name
                    publish(written, folder)
                self.accelerator.wait_for_everyone()
                shutil.rmtree(written.parent, ignore_errors=True)  # also what others have written on disks of their own
                self.accelerator.wait_for_everyone()
        except WRITE_ERRORS as error:
            if self.args.world_size > 1 and of_backend(error):  # it is not the disk
                raise
            reason = " ".join(str(error).split())
            raise TrainingError(
                f"{folder}: could not be written ({reason}); the last whole checkpoint is {self.last_checkpoint()}; make room "
                "and resume"
            ) from error
        if self.args.should_save:
            self._rotate(folder)

    def _rotate(self, newest: Path) -> None:
        """Deletes the oldest checkpoints beyond the limit, but neither the newest nor a best one."""
        if not self._checkpoints_kept:
            return
        found = checkpoint_folders(self.checkpoint_folder)
        kept = {newest, *map(self.checkpoint, self.best_steps())}
        spare = [folder for folder in found if folder not in kept]
        for folder in spare[: max(0, len(found) - max(self._checkpoints_kept, len(kept)))]:
            shutil.rmtree(folder)

    def save_models(self, folder: Path) -> None:
        """Has the main process write all models below `folder`."""
        with self.whole_models() as joint:
            if self.args.should_save:
                self.write_models(joint, folder)

    def write_models(self, joint: JointModel, folder: Path) -> None:
        """Writes every model as a plain checkpoint into its folder below `folder`."""
        for name, model in joint.named_models():
            save_model(model, self.processing_class, folder / name)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Writes every model as a plain checkpoint below `output_dir` (default: the run folder), from the main process.

        Where models are divided among processes all have to call it.
        """
        folder = Path(output_dir) if output_dir else self.layout.folder
        if _internal_call or not self.args.should_save:  # a checkpoint, which is written beside as a whole
            self.save_models(folder)
        else:
            with whole_files(folder) as beside:
                self.save_models(beside)

    def save_state(self) -> None:
        """Writes the Trainer's state into the run folder, from the main process."""
        if self.args.should_save:
            with whole_files(self.layout.folder) as beside:
                self.state.save_to_json(str(beside / TRAINER_STATE))


def checkpoint_folders(folder: Path) -> list[Path]:
    """`checkpoint-N` folders in ascending order of N."""
    steps = {path: checkpoint_step(path.name) for path in folder.glob("*") if path.is_dir()}
    found = [(step, path) for path, step in steps.items() if step is not None]
    return [path for _, path in sorted(found)]


def set_aside(folder: Path, start: Path | None) -> None:
    """Renames checkpoints newer than `start` (None: all): a training from there would take them for its own."""
    found = checkpoint_folders(folder.resolve())
    if start is not None and start.resolve() in found:
        found = found[found.index(start.resolve()) + 1 :]
    for path in found:
        aside = path.with_name(f"{path.name}{SET_ASIDE}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        logger.warning(f"{path}: renamed to {aside.name}, because the training starts before it")

"""Checkpoints that are whole or not there, and trainings that go on from them exactly."""

import math
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor
from transformers import Seq2SeqTrainer, TrainerCallback, TrainerState
from transformers.trainer_utils import TrainOutput
from transformers.utils import logging

from hf_paretokd import checkpoints
from hf_paretokd.errors import ModelError, TrainingError, TrainingInterrupted
from hf_paretokd.interruption import StopRequest
from hf_paretokd.manifest import WRITE_ERRORS, damage, discarded_on_error, publish

CHECKPOINTS = "checkpoints"
UNFINISHED = "unfinished"  # the folder beside the checkpoints in which the next one is written
logger = logging.get_logger(__name__)


class CheckpointedTrainer(Seq2SeqTrainer):
    """A `Seq2SeqTrainer` that owns its checkpoints: written beside and renamed, verified before they are used.

    `checkpoint-N` folders hold every model as a plain checkpoint, the training state, and a manifest with sizes and
    checksums. A stop request (SIGTERM) saves at the end of the update and raises TrainingInterrupted.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.stop_request, self.stopping = StopRequest(), False
        self.lost_steps: set[int] = set()  # their checkpoints were best but are damaged
        super().__init__(*args, **kwargs)
        self.add_callback(CheckpointEvents(self))

    @property
    def checkpoint_folder(self) -> Path:
        """Where `checkpoint-N` folders are."""
        return Path(self.args.output_dir) / CHECKPOINTS

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint after update `step`."""
        return self.checkpoint_folder / f"checkpoint-{step}"

    def last_checkpoint(self) -> str:
        """The newest checkpoint, for messages."""
        return str(next(reversed(checkpoints.checkpoint_folders(self.checkpoint_folder)), "none"))

    # ---- Hooks of subclasses --------------------------------------------------------------------------------------

    def best_steps(self) -> list[int]:
        """The updates whose checkpoints have to stay: here the best one, so far as there is one."""
        return [] if self.state.best_global_step is None else [self.state.best_global_step]

    def save_training_state(self, folder: Path) -> None:
        """Adds to a checkpoint what the Trainer does not know of; called by all processes."""

    def load_training_state(self, folder: Path) -> None:
        """Takes up all models and what `save_training_state` wrote."""
        self._load_models(folder)

    def check_resumable(self, folder: Path, state: TrainerState) -> None:
        """Raises a TrainingError if the training cannot go on from this checkpoint."""

    # ---- Training -------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> TrainOutput:
        """Trains; `resume_from_checkpoint=True` continues from the newest whole checkpoint if there is one.

        Raises:
            ModelError: the checkpoint named is not whole.
            TrainingError: it belongs to another training, or a checkpoint could not be written.
            TrainingInterrupted: SIGTERM came; the training was saved and can be resumed.
        """
        folder = self._starting_point(resume_from_checkpoint)
        if folder is None:
            return self._train(**kwargs)
        state = TrainerState.load_from_json(str(folder / "trainer_state.json"))
        self.check_resumable(folder, state)
        if state.global_step < self.args.max_steps:
            return self._train(resume_from_checkpoint=str(folder), **kwargs)
        self.state = state  # all updates are done, only the end was cut off
        self.find_best()
        self.load_training_state(folder)
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint:
            self._load_best_model()
        return TrainOutput(state.global_step, math.nan, {})

    def _train(self, **kwargs: Any) -> TrainOutput:
        """Training without the Trainer's own rotation, which knows of one best model only."""
        self._checkpoints_kept, self.args.save_total_limit = self.args.save_total_limit, None
        self.stopping = False
        try:
            with self.stop_request.listening():
                output = super().train(**kwargs)
        finally:
            self.args.save_total_limit = self._checkpoints_kept
        asked = self.stopping or self.stop_request.received
        if asked and self.checkpoint(self.state.global_step).is_dir():  # else there is nothing to resume from
            raise TrainingInterrupted(
                f"stopped by SIGTERM after update {self.state.global_step}, which is saved; resume to go on"
            )
        return output

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list, Tensor]:
        """The micro-batches of an update; all processes agree here whether it is the last one before a stop."""
        received = self.stop_request.received
        if self.args.world_size > 1:
            received = self.accelerator.reduce(torch.tensor(float(received), device=self.args.device)).item() > 0
        self.stopping = received
        return super().get_batch_samples(*args, **kwargs)

    # ---- Resuming -------------------------------------------------------------------------------------------------

    def _starting_point(self, wanted: str | bool | None) -> Path | None:
        """The checkpoint to go on from, found by the main process; what a training from there would mix up is set aside."""
        found: list[Path | str | None] = [None]
        if self.is_world_process_zero():
            try:
                found = [self._whole_checkpoint(wanted)]
                checkpoints.set_aside(self.checkpoint_folder, found[0])
            except ModelError as error:
                found = [str(error)]
        if self.args.world_size > 1:
            broadcast_object_list(found)
        if isinstance(found[0], str):
            raise ModelError(found[0])
        return found[0]

    def _whole_checkpoint(self, wanted: str | bool | None) -> Path | None:
        shutil.rmtree(self.checkpoint_folder / UNFINISHED, ignore_errors=True)  # a save that was cut off
        if not wanted:
            return None
        if wanted is not True:
            if problem := damage(Path(wanted)):
                raise ModelError(f"{wanted}: not a whole checkpoint ({problem}); resume from another")
            return Path(wanted)
        for folder in reversed(checkpoints.checkpoint_folders(self.checkpoint_folder)):
            problem = damage(folder)
            if problem is None:
                return folder
            logger.warning(f"{folder}: not a whole checkpoint ({problem}); the one before it is taken, or the start")
        return None

    def find_best(self) -> None:
        """Looks for the best checkpoint, also in a run folder that was moved; if it is gone, the next best counts."""
        step = self.state.best_global_step
        self.state.best_model_checkpoint = None if step is None else str(self.checkpoint(step))
        for lost in [step for step in self.best_steps() if damage(self.checkpoint(step))]:
            logger.warning(f"{self.checkpoint(lost)}: a best checkpoint is lost or damaged; the best from here on will count")
            self.lost_steps.add(lost)
            if lost == step:
                self.state.best_metric = self.state.best_global_step = self.state.best_model_checkpoint = None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.load_training_state(Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with usable(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_scaler(self, checkpoint: str | None) -> None:
        with usable(checkpoint):
            super()._load_scaler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with usable(checkpoint):
            super()._load_rng_state(checkpoint)

    def _load_best_model(self) -> None:
        self._load_models(Path(self.state.best_model_checkpoint))

    def _load_models(self, folder: Path) -> None:
        self.accelerator.wait_for_everyone()  # the main process may still be writing it
        for name, model in self.model.named_models():
            checkpoints.load_weights(model, folder / name)

    # ---- Saving ---------------------------------------------------------------------------------------------------

    def _determine_best_metric(self, metrics: Mapping[str, float], trial: Any) -> bool:
        best = super()._determine_best_metric(metrics, trial)
        if self.is_in_train and self.state.global_step in self.best_steps():
            self.control.should_save = True  # a best model that was never written could not be loaded again
        return best

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.checkpoint_folder / UNFINISHED)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        step = self.state.global_step
        folder, written = self.checkpoint(step), self.checkpoint_folder / UNFINISHED / self.checkpoint(step).name
        try:
            with discarded_on_error(written):
                super()._save_checkpoint(model, trial)
                best = self.state.best_global_step
                self.state.best_model_checkpoint = None if best is None else str(self.checkpoint(best))
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    self.state.save_to_json(str(written / "trainer_state.json"))  # again, with the best's final name
                    publish(written, folder)
                    shutil.rmtree(written.parent, ignore_errors=True)
                self.accelerator.wait_for_everyone()
        except WRITE_ERRORS as error:
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
        found = checkpoints.checkpoint_folders(self.checkpoint_folder)
        kept = {newest, *map(self.checkpoint, self.best_steps())}
        spare = [folder for folder in found if folder not in kept]
        for folder in spare[: max(0, len(found) - max(self._checkpoints_kept, len(kept)))]:
            shutil.rmtree(folder)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        for name, model in self.model.named_models():
            checkpoints.save_model(model, self.processing_class, folder / name)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Writes every model as a plain checkpoint below `output_dir` (default: the run folder), from the main process."""
        if self.args.should_save:
            self._save(output_dir)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        self.save_training_state(Path(output_dir))


@contextmanager
def usable(checkpoint: str | None) -> Iterator[None]:
    """Turns what torch says of a file it refuses, or that belongs to another training, into a ModelError."""
    try:
        yield
    except (pickle.UnpicklingError, RuntimeError, ValueError, KeyError) as error:
        raise ModelError(f"{checkpoint}: its training state cannot be used ({str(error).splitlines()[0]})") from None


class CheckpointEvents(TrainerCallback):
    """What a training's events mean for its checkpoints."""

    def __init__(self, trainer: CheckpointedTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Looks for the best checkpoint of a resumed training."""
        self.trainer.find_best()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Saves and ends the training after the update at which all processes learnt of a stop request."""
        if self.trainer.stopping:
            control.should_save = control.should_training_stop = True

"""Every private hook and attribute of transformers' Trainer that this library touches, under public names of its own.

No other class overrides a name of the Trainer that begins with an underscore; `tests/test_contract.py` looks at all of them.
"""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from transformers import Seq2SeqTrainer
from transformers.trainer import FSDP_MODEL_NAME, OPTIMIZER_NAME, OPTIMIZER_NAME_BIN

from hf_paretokd.errors import ModelError


class StockTrainer(Seq2SeqTrainer):
    """A `Seq2SeqTrainer` with hooks that have names.

    Layers are compiled, not whole models, and losses are divided by the target tokens of the whole update, which
    `target_tokens` counts.
    """

    optimizer: Any
    lr_scheduler: Any
    processing_class: Any

    def __init__(self, *, args: Any, **kwargs: Any) -> None:
        backend, args.torch_compile_backend = args.torch_compile_backend, None  # accelerate would compile whole models
        super().__init__(args=args, **kwargs)
        args.torch_compile_backend = backend
        self.between_updates = False  # whether a validation is the training's own
        self.model_accepts_loss_kwargs = True  # have the Trainer count target tokens over the whole update
        self.loss_is_scaled_for_ga = True  # compute_loss divides by that count

    # ---- Hooks ----------------------------------------------------------------------------------------------------

    def target_tokens(self, samples: list, device: torch.device) -> Any:
        """What the losses of an update are divided by; `samples` are its micro-batches of this process."""
        return super()._get_num_items_in_batch(samples, device)

    def clip(self, model: torch.nn.Module) -> Any:
        """Clips the gradients of an update and returns their norm."""
        return super()._clip_grad_norm(model)

    def checked_gradient(self, model: torch.nn.Module, norm: Tensor) -> Tensor:
        """Called after the gradients are complete and before they are used; returns the norm that is logged."""
        return norm

    def after_best(self, metrics: dict[str, float]) -> None:
        """Called when the figures of a validation have been compared with the best so far."""

    def checkpoint_parent(self) -> Path:
        """The folder in which the Trainer writes `checkpoint-N`."""
        return Path(super()._get_output_dir(None))

    def save_checkpoint(self, write: Callable[[], None]) -> None:
        """Saves; `write` has the Trainer write `checkpoint-N`."""
        write()

    def save_models(self, folder: Path) -> None:
        """Has the main process write all models below a folder; called by all."""
        super()._save(str(folder))

    def save_training_state(self, folder: Path) -> None:
        """Adds to a checkpoint what the Trainer does not know of; called by all processes."""

    def load_training_state(self, folder: Path) -> None:
        """Takes up all models and what `save_training_state` wrote."""

    def load_best(self) -> None:
        """Takes up the best models."""
        super()._load_best_model()

    # ---- Attributes -----------------------------------------------------------------------------------------------

    @property
    def loss_since_log(self) -> Tensor:
        """Sum of the losses of this process since the last log line."""
        return self._tr_loss

    @property
    def last_logged(self) -> int:
        """The update after which the last log line was written."""
        return self._globalstep_last_logged

    def take_up_log(self, loss: float, last_logged: int) -> None:
        """Goes on with a sum of losses and a last log line from before a stop."""
        self._tr_loss += loss
        self._globalstep_last_logged = last_logged

    def take_scheduler(self, scheduler: LRScheduler) -> None:
        """Has the training use a schedule that was made here."""
        self.lr_scheduler = scheduler
        self._created_lr_scheduler = True

    def on_device(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """A micro-batch on the training's device."""
        return self._prepare_inputs(inputs)

    # ---- What the Trainer calls -----------------------------------------------------------------------------------

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Any:
        return self.target_tokens(batch_samples, device)

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        return self.clip(model)

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Tensor | float | None = None) -> Tensor:
        known = self.clip(model) if grad_norm is None else grad_norm  # without a limit nobody has asked for it yet
        return self.checked_gradient(model, torch.as_tensor(super()._get_grad_norm(model, known)))

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        best = super()._determine_best_metric(metrics, trial)
        self.after_best(metrics)
        return best or self.control.should_save  # what is due for another reason is saved with `save_strategy: best`, too

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        if skip_scheduler and self.state.global_step > 0:  # `eval_on_start` at a resume, which is no start
            return {}
        self.between_updates = True
        try:
            return super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)
        finally:
            self.between_updates = False

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.checkpoint_parent())

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        write = super()._save_checkpoint
        self.save_checkpoint(lambda: write(model, trial))

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        self.save_models(Path(str(output_dir or self.args.output_dir)))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        (Path(output_dir) / f"{FSDP_MODEL_NAME}.bin").unlink(missing_ok=True)  # the models are there as plain checkpoints
        self.save_training_state(Path(output_dir))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Does nothing: models go to the Hub when they are finished."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.load_training_state(Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        wanted, other = (OPTIMIZER_NAME, OPTIMIZER_NAME_BIN)[:: -1 if self.is_fsdp_enabled else 1]
        if checkpoint and (Path(checkpoint) / other).is_file() and not (Path(checkpoint) / wanted).is_file():
            how = "without" if self.is_fsdp_enabled else "with"
            raise ModelError(f"{checkpoint}: was written {how} FSDP, which keeps the optimizer in a way of its own; go on so")
        with usable(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_scaler(self, checkpoint: str | None) -> None:
        with usable(checkpoint):
            super()._load_scaler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with usable(checkpoint):
            super()._load_rng_state(checkpoint)

    def _load_best_model(self) -> None:
        self.load_best()


@contextmanager
def usable(checkpoint: str | None) -> Iterator[None]:
    """Turns what torch says of a file it refuses, or that belongs to another training, into a ModelError."""
    try:
        yield
    except (pickle.UnpicklingError, RuntimeError, ValueError, KeyError) as error:
        raise ModelError(f"{checkpoint}: its training state cannot be used ({str(error).splitlines()[0]})") from error

"""What becomes of a training when one of its processes is gone, or when its launcher asks for what it cannot do."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from hf_paretokd.errors import TrainingError
from hf_paretokd.layout import MANIFEST
from hf_paretokd.utils.files import damage, put_in_place

Value = TypeVar("Value")

BACKENDS = ("gloo", "NCCL")  # one of which stands in what they say, if only as the place in their source
PIECE = 1 << 26  # bytes of a file that are sent at once
ENGINES = {  # by what launchers say in the environment
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism_config",
}


def asked_for(variable: str) -> bool:
    """Whether a launcher has switched something on in the environment."""
    return os.environ.get(variable, "").lower() in ("true", "1", "yes")


def check_engine() -> None:
    """Raises a TrainingError if the launcher asks for an engine that wants to compute gradients and updates itself.

    The joint model's losses are divided, clipped and checked by its trainer; gradients are summed by DDP, or by FSDP2.
    """
    if asked_for("ACCELERATE_USE_FSDP") and os.environ.get("FSDP_VERSION", "1") != "2":
        raise TrainingError("accelerate's configuration asks for FSDP 1: set fsdp_version to 2, or use torchrun")
    for variable, engine in ENGINES.items():
        if asked_for(variable):
            raise TrainingError(
                f"accelerate's configuration asks for {engine}, which computes updates by itself, and here the trainer does: "
                "use torchrun, or accelerate launch --multi_gpu, or --use_fsdp --fsdp_version 2"
            )


def join_processes(backend: str | None, seconds: float) -> None:
    """Joins the other processes of a launch on CPUs, for which transformers takes no notice of `ddp_timeout`."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.distributed.is_initialized():
        PartialState(cpu=True, backend=backend, timeout=timedelta(seconds=seconds))


def agreed(find: Callable[[], Value]) -> Value:
    """What the main process finds, in all processes."""
    state = PartialState()
    found: list[Any] = [find() if state.is_main_process else None]
    if state.num_processes > 1:
        broadcast_object_list(found)
    value: Value = found[0]
    return value


def send_folder(folder: Path, processes: int, place: int) -> None:
    """Sends a published folder from the main process to nodes that do not have it, or another one in its place.

    Args:
        folder: its path, the same everywhere.
        processes: how many there are.
        place: of this process on its node; the first one writes.
    """
    if processes == 1:
        return
    manifest = folder / MANIFEST
    wanted = agreed(manifest.read_bytes)
    writes = place == 0 and not PartialState().is_main_process
    lacking = writes and not (manifest.is_file() and manifest.read_bytes() == wanted and damage(folder) is None)
    if not any(gather_object([lacking])):
        return
    beside = folder.with_name(f".{folder.name}.sent")
    if lacking:
        shutil.rmtree(beside, ignore_errors=True)  # what was sent before a process was lost
    for name, piece in whole(folder):
        if lacking:
            path = beside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(piece)
    if lacking:
        put_in_place(beside, folder)
    PartialState().wait_for_everyone()


def whole(folder: Path) -> Iterator[tuple[str, bytes]]:
    """All files of the main process's folder in pieces, in all processes."""
    pieces = read_pieces(folder)
    while (piece := agreed(lambda: next(pieces, None))) is not None:
        yield piece


def read_pieces(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Files with their names, in pieces."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                while True:
                    piece = file.read(PIECE)
                    yield path.relative_to(folder).as_posix(), piece
                    if len(piece) < PIECE:
                        break


def of_backend(error: BaseException) -> bool:
    """Whether an error is of what connects the processes."""
    return isinstance(error, torch.distributed.DistError) or any(name in str(error) for name in BACKENDS)


@contextmanager
def lost_processes_told(several: bool, last: Callable[[], str]) -> Iterator[None]:
    """Turns what a backend says when another process is gone into one line.

    Args:
        several: whether there are others.
        last: the newest whole checkpoint.

    Raises:
        TrainingError: one is gone.
    """
    try:
        yield
    except RuntimeError as error:
        if not several or not of_backend(error):
            raise
        how = "has not answered for ddp_timeout seconds" if "imed out" in str(error) else "is gone"
        raise TrainingError(
            f"another process of the training {how}; the last whole checkpoint is {last()}: start all again with --resume"
        ) from error

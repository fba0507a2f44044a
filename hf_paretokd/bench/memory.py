"""Peak memory of an action."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import torch


def peak_memory(action: Callable[..., None], *arguments: object) -> float:
    """Peak memory in GB of an action in a fresh process: allocated on the GPU if there is one, else resident."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(measured, (action, *arguments))


def measured(action: Callable[..., None], *arguments: object) -> float:
    """Runs an action and tells the peak memory of the process so far, in GB."""
    action(*arguments)
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    status = Path("/proc/self/status")
    if status.is_file():  # `getrusage` would count what the parent had when it started this process
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024 / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9

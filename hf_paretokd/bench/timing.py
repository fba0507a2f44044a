"""Time and memory of training steps."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from tqdm.auto import tqdm


def interleaved_medians(actions: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of every action; all take turns, after one turn that does not count."""
    found: dict[str, list[float]] = {name: [] for name in actions}
    for turn in tqdm(range(repeats + 1), desc="timing", leave=False):
        for name, action in actions.items():
            seconds = timed(action)
            if turn:
                found[name].append(seconds)
    return {name: statistics.median(times) for name, times in found.items()}


def timed(action: Callable[[], None]) -> float:
    """Seconds an action takes; on a GPU between two CUDA events."""
    if torch.cuda.is_available():
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        action()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000
    before = time.perf_counter()
    action()
    return time.perf_counter() - before


def synchronise() -> None:
    """Waits for the accelerator, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


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

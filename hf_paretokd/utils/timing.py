"""How long things take, fairly: all in turns, medians."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch
from tqdm.auto import tqdm

Name = TypeVar("Name", bound=Hashable)


def interleaved_medians(actions: Mapping[Name, Callable[[], object]], repeats: int, progress: bool = True) -> dict[Name, float]:
    """Median seconds of every action; all take turns, after one turn that does not count."""
    found: dict[Name, list[float]] = {name: [] for name in actions}
    for turn in tqdm(range(repeats + 1), desc="timing", leave=False, disable=None if progress else True):
        for name, action in actions.items():
            seconds = timed(action)
            if turn:
                found[name].append(seconds)
    return {name: statistics.median(times) for name, times in found.items()}


def timed(action: Callable[[], object]) -> float:
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

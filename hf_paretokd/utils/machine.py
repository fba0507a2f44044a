"""What this machine is."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def fastest_device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


def moved(model: Model, to: torch.device | torch.dtype | str) -> Model:
    """`model.to(…)`, whose types transformers hides."""
    return nn.Module.to(model, to)


def accelerator_name(device: str) -> str:
    """What a GPU is called, as far as torch tells."""
    return torch.cuda.get_device_name() if device == "cuda" else device


def described(processes: int, device: str) -> str:
    """What some work was done with: `1 × cpu, 2 threads; hf_paretokd 0.1.0, torch …`."""
    threads = torch.get_num_threads()
    cores = f"{threads} thread{'s' if threads > 1 else ''}" if device == "cpu" else accelerator_name(device)
    versions = ", ".join(f"{name} {version(name)}" for name in ("hf_paretokd", "torch", "transformers"))
    return f"{processes} × {device}, {cores}; {versions}"


def machine_name() -> str:
    """The processor, on which latencies are measured whatever else there is."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

import pytest
import torch

from hf_paretokd.bench.memory import peak_memory


def fill(gigabytes):
    torch.ones(round(gigabytes * 1e9 / 4))


def test_memory_is_that_of_the_action_alone():
    held = torch.ones(100_000_000)  # 0.4 GB that the fresh process must not count
    small, large = peak_memory(fill, 0.01), peak_memory(fill, 0.31)
    assert large - small == pytest.approx(0.3, abs=0.05)
    assert held.sum() > 0

import numpy as np
import pytest


@pytest.fixture
def lengths():
    generator = np.random.default_rng(0)
    source = generator.integers(2, 60, 1000)
    return source, np.clip(source + generator.integers(-8, 9, 1000), 2, 64)

import datasets
import numpy as np
import pytest


@pytest.fixture
def lengths():
    generator = np.random.default_rng(0)
    source = generator.integers(2, 60, 1000)
    return source, np.clip(source + generator.integers(-8, 9, 1000), 2, 64)


@pytest.fixture
def text(lengths):
    """Token ids of as many rows."""
    return of_lengths(*lengths)


def of_lengths(sources, targets):
    return datasets.Dataset.from_dict(
        {"input_ids": [[1] * each for each in sources], "labels": [[1] * each for each in targets]}
    )

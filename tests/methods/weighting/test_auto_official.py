import math

import pytest

from hf_paretokd.methods.weighting.auto_official import (
    clipped_move,
    epoch_step_size,
    trial_updates,
    update_sources,
)


def test_the_official_step_sizes():
    """D-7."""
    for epoch, expected in {5: 1, 6: 0.992727, 20: 0.884652, 40: 0.701964, 73: 0.120386, 74: 0}.items():
        assert epoch_step_size(epoch, 74, 5, 1.0) == pytest.approx(expected, abs=1e-6)
    assert epoch_step_size(74, 74, 5, 0.8) == pytest.approx(0.2)
    for epoch, expected in {40: 0.595184, 59: 0.060746, 60: 0}.items():
        assert epoch_step_size(epoch, 74, 5, 1.2) == pytest.approx(expected, abs=1e-6)
    assert epoch_step_size(40, 74, 5, 0.0) == 1


def test_the_official_clip():
    """D-6."""
    assert clipped_move(0.99, 0.0) == pytest.approx(0.98)
    assert math.log(clipped_move(0.99, 0.0) / (1 - clipped_move(0.99, 0.0))) == pytest.approx(3.8918203, abs=1e-7)
    assert clipped_move(0.97, 1.0) == pytest.approx(0.9887503, abs=1e-7)
    assert clipped_move(clipped_move(0.97, 1.0), -1.0) == pytest.approx(0.9474406, abs=1e-7)


def test_official_trials():
    """D-17."""
    assert [trial_updates(length, 0.1) for length in (100, 101, 37)] == [11, 11, 4]
    assert update_sources(0, 5) == [1, 0, 1, 0, 1]
    assert update_sources(1, 5) == [1, 1, 1, 1, 1]

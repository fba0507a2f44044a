import pytest

from hf_paretokd.methods.weighting.actions import act, best_action, moved, scheduled_step_size

ACTIONS = ("increase", "keep", "decrease")


@pytest.mark.parametrize(
    ("weight", "step_size", "up", "down"),
    [
        (0.1, 1, 0.2319693, 0.0392703),
        (0.5, 1, 0.7310586, 0.2689414),
        (0.9, 1, 0.9607297, 0.7680307),
        (0.1, 0.5, 0.1548281, 0.0631373),
    ],
)
def test_actions(weight, step_size, up, down):
    """D-4."""
    found = [act(weight, action, step_size) for action in ACTIONS]
    assert found == pytest.approx([up, weight, down], abs=1e-7)
    assert act(found[0], "decrease", step_size) == pytest.approx(weight, abs=1e-12)


def test_actions_in_a_row_and_at_the_ends():
    """D-4, and D-6 for the paper's form: nothing is clipped."""
    weight, path = 0.1, []
    for _ in range(5):
        weight = act(weight, "increase", 1.0)
        path.append(weight)
    assert path == pytest.approx([0.231969, 0.450853, 0.690568, 0.858486, 0.942826], abs=1e-6)
    assert moved(moved(0.97, 1.0), -1.0) == pytest.approx(0.97, abs=1e-12)
    assert moved(0.0, 1.0) == 0.0
    assert moved(1.0, -1.0) == 1.0


def test_the_papers_step_size_schedules():
    """D-7 (PMD Eq. 12, Tab. 3)."""
    assert [scheduled_step_size(1.0, 1.0, t, 70) for t in (0, 35, 70)] == pytest.approx([1, 0.7071068, 0], abs=1e-7)
    assert scheduled_step_size(1.0, 0.8, 70, 70) == pytest.approx(0.4472136, abs=1e-7)
    assert scheduled_step_size(1.0, 1.2, 8333, 10_000) > 0
    assert scheduled_step_size(1.0, 1.2, 8334, 10_000) == 0
    assert {scheduled_step_size(1.0, 0.0, t, 70) for t in range(71)} == {1.0}
    assert scheduled_step_size(0.5, 1.0, 35, 70) == pytest.approx(0.5 * 0.7071068, abs=1e-7)


def test_ties():
    assert best_action(dict.fromkeys(ACTIONS, 1.0)) == "keep"
    assert best_action({"increase": 1.0, "keep": 2.0, "decrease": 1.0}) == "increase"
    assert best_action(dict.fromkeys(ACTIONS, 1.0), ACTIONS) == "increase", "the official order"

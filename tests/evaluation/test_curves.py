"""Whether a training was long enough."""

import pytest

from hf_paretokd.evaluation.curves import judged
from hf_paretokd.evaluation.plots import curve_name, labelled


def log(*losses: float) -> list[dict]:
    return [{"step": 100 * number, "eval_loss": loss} for number, loss in enumerate(losses, 1)]


@pytest.mark.parametrize(
    ("losses", "wanted"),
    [
        (
            (4.0, 3.5, 3.2, 3.0, 2.9, 2.85, 2.75, 2.7),
            "undertrained: the validation loss fell by 5.3% in the last quarter, after 2.5",
        ),
        ((4.0, 3.0, 2.5, 2.4, 2.39, 2.38, 2.379, 2.378), "long enough: the validation loss fell by 0.1% in the last quarter"),
        ((5.0, 4.0, 3.0, 3.05, 3.06, 3.06, 3.04, 3.01), "long enough"),  # nothing new came of the last quarter
        ((4.0, 3.0, 2.5, 2.45, 2.46, 2.5, 2.55, 2.6), "over-fitted after update 400: the validation loss rose by 6.1% since"),
        ((4.0, 3.0, 2.5, 2.45, 2.4, 2.38, 2.36, 2.37), "long enough"),  # a best in the first nine tenths, hardly left
    ],
)
def test_curves_are_judged(losses, wanted):
    found = judged(log(*losses), 2.5)
    assert found.finding.startswith(wanted)
    assert bool(found.advice) == (not wanted.startswith("long"))


def test_too_few_validations_say_nothing():
    assert judged(log(4.0, 3.0, 2.5)) is None
    assert judged([{"step": 1, "loss": 3.0}]) is None
    assert judged(log(4.0, 3.0, float("nan"), 2.2)) is None
    assert "passes" not in judged(log(4.0, 3.0, 2.5, 2.2)).finding


def test_a_training_that_has_not_seen_all_of_its_text_was_not_long_enough():
    flat = log(4.0, 3.0, 2.5, 2.4, 2.39, 2.38, 2.379, 2.378)
    assert judged(flat, 0.12).finding == (
        "undertrained: the validation loss fell by 0.1% in the last quarter, after 0.12 passes"
    )
    assert judged(flat, 1.0).finding.startswith("long enough")


@pytest.mark.parametrize(
    ("figure", "name"),
    [
        ("loss_teacher", "teacher"),
        ("loss_students", "students, mean"),
        ("nll", "model"),
        ("peer2_nll", "peer 2"),
        ("eval_loss", "model"),
        ("eval_loss_6-2", "6-2"),
        ("eval_peer1_loss", "peer 1"),
        ("eval_peer1_loss_6-2", "peer 1, 6-2"),
    ],
)
def test_curves_are_called_by_what_they_are_of(figure, name):
    assert curve_name(figure) == name


def test_labels_do_not_cover_each_other():
    assert labelled([1.0, 2.0, 3.0]) == [True, False, True]
    crowd = labelled([0.0, 1.0, 1.1, 1.2, 1.3, 100.0])
    assert crowd == [True, False, None, None, None, True]
    assert labelled([]) == []
    assert labelled([5.0, 5.0]) == [True, False]

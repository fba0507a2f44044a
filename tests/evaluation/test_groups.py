"""Groups of models that are equal within noise, beside a slow search of their own definition."""

import numpy as np

from hf_paretokd.evaluation.bootstrap import holm, paired_test
from hf_paretokd.evaluation.groups import equal_to_best, grouped, numbered


def scores(value, spread, seed):
    """A score with resamples around it; the first is that of the text."""
    return np.concatenate([[value], value + spread * np.random.default_rng(seed).standard_normal(1000)])


def test_equals_of_the_best_are_those_that_no_corrected_test_tells_from_it():
    shared = np.concatenate([[0.0], 1.5 * np.random.default_rng(9).standard_normal(1000)])  # sentences that are hard for all
    found = {
        "large": 30.0 + shared,
        "near": scores(29.8, 0.3, 1) + shared,
        "small": scores(28.0, 0.3, 2) + shared,
        "far": scores(20.0, 0.3, 3) + shared,
        "close to far": scores(19.9, 0.3, 4) + shared,
    }
    assert equal_to_best(found) == ["large", "near"], "though each alone has an interval of three points either way"
    others = ["near", "small", "far", "close to far"]
    slow = holm([paired_test(found[name], found["large"]).p_value for name in others])
    assert [name for name, p_value in zip(others, slow, strict=True) if p_value >= 0.05] == ["near"]
    assert grouped(found) == [["large", "near"], ["small"], ["far", "close to far"]]
    assert numbered(grouped(found)) == {"large": 1, "near": 1, "small": 2, "far": 3, "close to far": 3}


def test_many_comparisons_need_more_evidence():
    base = np.concatenate([[0.0], np.random.default_rng(5).standard_normal(1000)])
    one = {"best": base * 0 + 30.0, "other": 29.0 + 0.45 * base}
    assert equal_to_best(one) == ["best"], "p is about 0.03"
    many = {**one, **{f"equal {number}": scores(29.99, 0.5, number) for number in range(10)}}
    assert "other" in equal_to_best(many)


def test_few_models():
    assert grouped({}) == []
    assert grouped({"one": np.ones(1001)}) == [["one"]]

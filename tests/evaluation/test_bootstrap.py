"""Joint resampling: against sacreBLEU's own test where there is one model and one text, and by hand where there are several."""

import random

import numpy as np
import pytest
from sacrebleu.significance import PairedTest

from hf_paretokd.evaluation.bootstrap import SEED, Estimate, draws, estimate, holm, mean, paired_test, resampled
from hf_paretokd.evaluation.metrics import scorers


def noisy(lines, rate, seed):
    """Lines with some words lost."""
    chance = random.Random(seed)
    return [" ".join(word for word in line.split() if chance.random() > rate) or "nothing" for line in lines]


@pytest.fixture(scope="module")
def references(texts):
    return next(iter(texts["train"].values())).targets[:120]


def by_hand(lines, references, metric, rows):
    """Slow reference: the score of every resample from its sentences."""
    scorer = scorers("en")[metric]
    return [scorer.corpus_score([lines[i] for i in row], [[references[i] for i in row]]).score for row in rows]


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_scores_of_resamples_are_those_of_their_sentences(metric, references):
    lines = noisy(references, 0.2, 1)
    counts = draws(len(lines))
    found = resampled(lines, references, "en", metric, counts)
    chosen = np.random.default_rng(SEED).choice(len(lines), size=(1000, len(lines)), replace=True)
    assert found[1:8] == pytest.approx(by_hand(lines, references, metric, chosen[:7]), abs=1e-6)
    assert found[0] == pytest.approx(scorers("en")[metric].corpus_score(lines, [references]).score, abs=1e-9)
    assert len(found) == 1001
    assert (counts.sum(1) == len(lines)).all()


def test_the_draws_and_scores_are_those_of_sacrebleus_test(references):
    """Its interval and, where a difference is clear, twice its p: it counts one tail."""
    one, two = noisy(references, 0.10, 1), noisy(references, 0.13, 2)
    counts = draws(len(references))
    first, second = (resampled(lines, references, "en", "bleu", counts) for lines in (one, two))
    test = PairedTest(
        [("one", one), ("two", two)], {"bleu": scorers("en")["bleu"]}, [references], test_type="bs", n_samples=1000
    )
    _, results = test()
    theirs = results["BLEU"] if "BLEU" in results else results[next(key for key in results if key != "System")]
    assert second[1:].mean() == pytest.approx(theirs[1].mean, abs=1e-3)
    assert np.abs(second[1:] - second[1:].mean()).max() > 0
    found = paired_test(second, first)
    assert found.value == pytest.approx(theirs[1].score - theirs[0].score)
    samples = np.abs(second[1:] - first[1:])
    one_tail = (np.sum(samples - samples.mean() > abs(found.value)) + 1) / 1001
    assert one_tail == pytest.approx(theirs[1].p_value, abs=2e-3), "sacreBLEU sums in single precision"


def test_p_and_intervals_by_hand():
    differences = np.array([1.0, -1.0, 0.0, 1.0, 2.0, 3.0])  # the text, and five resamples around 1
    found = paired_test(differences + 7, np.full(6, 7.0))
    assert found.value == 1.0
    assert found.p_value == pytest.approx((4 + 1) / 6), "|-2|, |-1|, |1| and |2| are at least 1"
    assert (found.low, found.high) == (pytest.approx(-0.9), pytest.approx(2.9))
    same = paired_test(np.full(6, 3.0), np.full(6, 3.0))
    assert (same.value, same.p_value, same.significant) == (0.0, 1.0, False)
    assert estimate(differences).low == pytest.approx(-0.9)


def test_a_difference_is_found_where_there_is_one_and_rarely_where_there_is_none(references):
    """Of comparisons of equals about a twentieth has p < 0.05; means over seeds narrow the interval."""
    counts = draws(len(references))
    made = [resampled(noisy(references, 0.15, seed), references, "en", "bleu", counts) for seed in range(24)]
    worse = resampled(noisy(references, 0.25, 99), references, "en", "bleu", counts)
    assert paired_test(made[0], worse).p_value < 0.01
    false = [paired_test(made[i], made[i + 1]).p_value < 0.05 for i in range(0, 24, 2)]
    assert sum(false) <= 2
    alone = [paired_test(made[i], made[i + 12]) for i in range(12)]
    joint = paired_test(mean(made[:12]), mean(made[12:]))
    widths = [test.high - test.low for test in alone]
    assert joint.high - joint.low < 0.5 * sum(widths) / len(widths)
    assert joint.value == pytest.approx(sum(test.value for test in alone) / 12)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_texts_are_drawn_apart():
    assert not np.array_equal(draws(40, SEED), draws(40, SEED + 1))
    assert np.array_equal(draws(40, SEED), draws(40, SEED))


def test_a_value_outside_of_its_interval_has_no_negative_spread():
    """Near 0 BLEU most resamples score nothing, and the text itself something."""
    assert Estimate(0.5, 0.0, 0.2).spread == (0.5, 0.0)
    assert Estimate(1.0, 0.5, 2.0).spread == (0.5, 1.0)

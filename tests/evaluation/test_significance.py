import random
from dataclasses import replace

import numpy as np
import pytest
import sacrebleu

from hf_paretokd.evaluation import significance
from hf_paretokd.evaluation.significance import Comparison, comparisons, paired_bootstrap
from hf_paretokd.utils.files import read_rows, write_rows

WORDS = [
    "a",
    "man",
    "walks",
    "his",
    "dog",
    "through",
    "the",
    "park",
    "while",
    "two",
    "children",
    "play",
    "with",
    "red",
    "ball",
    "on",
    "green",
    "grass",
]


@pytest.fixture(scope="module")
def outputs() -> tuple[dict[str, list[str]], list[str]]:
    """Three systems of falling quality, a twin of the first, and 60 references."""
    draw = random.Random(3)
    references = [" ".join(draw.choices(WORDS, k=draw.randint(5, 14))) for _ in range(60)]

    def noisy(share: float) -> list[str]:
        return [" ".join(draw.choice(WORDS) if draw.random() < share else w for w in line.split()) for line in references]

    good = noisy(0.1)
    return {"teacher": good, "twin": good, "close": [*noisy(0.1)[:5], *good[5:]], "poor": noisy(0.5)}, references


def resampled_scores(lines: list[str], references: list[str], resamples: int) -> np.ndarray:
    """BLEU of each resample, from the sentences themselves."""
    rows = np.random.default_rng(12345).choice(len(lines), size=(resamples, len(lines)), replace=True)
    return np.array([sacrebleu.corpus_bleu([lines[i] for i in row], [[references[i] for i in row]]).score for row in rows])


def test_intervals_and_p_values_are_those_of_resampled_sentences(outputs, monkeypatch):
    monkeypatch.setattr(significance, "RESAMPLES", 80)
    systems, references = outputs
    found = paired_bootstrap(systems, references, "en")
    scores = {name: resampled_scores(lines, references, 80) for name, lines in systems.items()}
    for name, values in scores.items():
        ranked, score = np.sort(values), found.scores["bleu"][name]
        half = (ranked[80 - 80 // 40 - 1] - ranked[80 // 40]) / 2
        assert (score.low, score.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-3)
        assert score.value == pytest.approx(sacrebleu.corpus_bleu(systems[name], [references]).score)
    for name in ("close", "poor"):
        differences = np.abs(scores[name] - scores["teacher"])
        real = abs(found.scores["bleu"][name].value - found.scores["bleu"]["teacher"].value)
        expected = (np.sum(differences - differences.mean() > real) + 1) / 81
        assert found.p_values["bleu"][name] == pytest.approx(expected, abs=1 / 81), name


def test_equal_output_is_no_difference_and_poor_output_is_one(outputs):
    """The test itself would call a difference of exactly nothing rare: p = 0.001."""
    systems, references = outputs
    found = paired_bootstrap(systems, references, "en")
    assert "teacher" not in found.p_values["bleu"]
    assert found.p_values["bleu"]["twin"] == found.p_values["chrf"]["twin"] == 1.0
    rows = {(row.metric, row.system): row for row in comparisons(found, "test", "de-en")}
    assert not rows["bleu", "twin"].significant
    assert rows["bleu", "poor"].significant
    assert rows["bleu", "poor"].difference < -10
    assert {row.against for row in rows.values()} == {"teacher"}


def test_the_level_of_significance():
    row = Comparison("test", "de-en", "bleu", "a", "b", -0.5, 0.0499)
    assert row.significant
    assert not replace(row, p_value=0.0501).significant


def test_comparisons_come_back_from_disk(tmp_path):
    rows = [Comparison("test", "de-en", "bleu", "student-6-2", "other: model", -0.5, 0.03)]
    write_rows(rows, tmp_path / "comparisons.json")
    assert read_rows(Comparison, tmp_path / "comparisons.json") == rows
    assert read_rows(Comparison, tmp_path / "none.json") is None

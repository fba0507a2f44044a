"""Intervals, paired tests, contamination, signatures and COMET's files, each beside a slow, obvious reference."""

import json
import random

import datasets
import numpy as np
import pytest
import sacrebleu

from hf_paretokd import AllInOneConfig, LanguagePair, ParetoMutualConfig, PlainConfig
from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.errors import DataError
from hf_paretokd.evaluation import significance
from hf_paretokd.evaluation.comet import comet_rows
from hf_paretokd.evaluation.contamination import Contamination, contamination, normalised
from hf_paretokd.evaluation.outputs import System, one_line, read_translations, write_translations
from hf_paretokd.evaluation.significance import Comparison, comparisons, paired_bootstrap
from hf_paretokd.manifest import read_rows, write_rows
from hf_paretokd.signature import data_hash, training_signature

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
DE_EN, FR_EN = LanguagePair("de", "en"), LanguagePair("fr", "en")


@pytest.fixture(scope="module")
def outputs() -> tuple[dict[str, list[str]], list[str]]:
    """Three systems of falling quality, a twin of the first, and 60 references."""
    draw = random.Random(3)
    references = [" ".join(draw.choices(WORDS, k=draw.randint(5, 14))) for _ in range(60)]

    def noisy(share: float) -> list[str]:
        return [" ".join(draw.choice(WORDS) if draw.random() < share else w for w in line.split()) for line in references]

    good = noisy(0.1)
    return {"teacher": good, "twin": good, "close": [*noisy(0.1)[:5], *good[5:]], "poor": noisy(0.5)}, references


# ---- bootstrap


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


def test_comparisons_come_back_from_disk(tmp_path):
    rows = [Comparison("test", "de-en", "bleu", "student-6-2", "other: model", -0.5, 0.03)]
    write_rows(rows, tmp_path / "comparisons.json")
    assert read_rows(Comparison, tmp_path / "comparisons.json") == rows
    assert read_rows(Comparison, tmp_path / "none.json") is None


# ---- contamination


def text(pair: LanguagePair, split: str, *rows: tuple[str, str]) -> ParallelText:
    return ParallelText(pair, split, [row[0] for row in rows], [row[1] for row in rows])


def test_contamination_counts_sides_pairs_and_normalised_text():
    training = {
        DE_EN: text(DE_EN, "train", ("Ein Hund.", "A dog."), ("Zwei Katzen", "Two cats")),
        FR_EN: text(FR_EN, "train", ("Un chien !", "One more dog!")),
    }
    test = {
        DE_EN: text(
            DE_EN,
            "test",
            ("Ein Hund.", "A dog."),  # both sides as they are
            ("Ein Hund.", "A hound."),  # source only
            ("zwei  KATZEN!", "two cats..."),  # both, normalised only
            ("Ein Vogel", "One more dog!"),  # the target is in the text of another pair
            ("Neu", "New"),
            ("!!!", "???"),  # nothing is left of it: cannot be found
        )
    }
    (found,) = contamination(training, test)
    assert (found.sources, found.targets, found.both) == (2, 2, 1)
    assert (found.normalised_sources, found.normalised_targets, found.normalised_both) == (3, 3, 2)
    assert (found.sentences, found.example) == (6, "Ein Hund.")


def test_contamination_equals_comparing_everything_with_everything(texts, tmp_path):
    """On real phrases, half of them of the training text, some with the partner of another."""
    mixed = {}
    for pair, train in texts["train"].items():
        test = texts["test"][pair]
        sources = [*test.sources[:20], *train.sources[:20]]
        targets = [*test.targets[:20], *train.targets[:10], *train.targets[30:40]]
        mixed[pair] = ParallelText(pair, "test", sources, targets)
    english = [line for each in texts["train"].values() for line in each.targets]
    found = contamination(texts["train"], mixed)
    for row, (pair, test) in zip(found, mixed.items(), strict=True):
        left = [line in texts["train"][pair].sources for line in test.sources]
        right = [line in english for line in test.targets]
        assert (row.sources, row.targets) == (sum(left), sum(right))
        assert row.both == sum(one and other for one, other in zip(left, right, strict=True)) >= 20
        loose = {normalised(line) for line in english}
        assert row.normalised_targets == sum(normalised(line) in loose for line in test.targets) >= row.targets
    write_rows(found, tmp_path / "contamination.json")
    assert read_rows(Contamination, tmp_path / "contamination.json") == found


def test_normalised_text_keeps_letters_marks_and_digits():
    assert normalised("Ｄer  2. „HUND“—läuft!") == "der2hundläuft"
    assert normalised("Straße") == normalised("STRASSE")
    assert normalised("हिन्दी में।") == "हिन्दीमें"


# ---- signatures


def ids(*rows: tuple[list[int], list[int]]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"input_ids": [row[0] for row in rows], "labels": [row[1] for row in rows]})


def test_the_data_hash_depends_on_every_token_and_on_nothing_else():
    first, second = ids(([1, 2], [3]), ([4], [5, 6])), ids(([7], [8]))
    base = data_hash({"de-en": first, "fr-en": second})
    assert len(base) == 8
    assert data_hash({"fr-en": second, "de-en": first}) == base
    others = [
        {"de-en": first},
        {"de-en": ids(([1, 2], [3]), ([4], [5, 7])), "fr-en": second},
        {"de-en": ids(([1, 2], [3, 5]), ([4], [6])), "fr-en": second},  # the same ids, another boundary
        {"de-en": ids(([4], [5, 6]), ([1, 2], [3])), "fr-en": second},
        {"fr-en": first, "de-en": second},
    ]
    assert len({base, *map(data_hash, others)}) == 6
    assert data_hash({"de-en": first.select([0, 1]), "fr-en": second}) == base, "however the rows are stored"


def test_signatures_name_what_makes_a_training(tmp_path):
    config = AllInOneConfig(output_dir=str(tmp_path), max_steps=100, max_tokens=512, learning_rate=1e-3, seed=7)
    signature = training_signature({"method": "all_in_one", **config.signature_fields()}, "1f3a9c2b")
    assert signature.startswith("method:all_in_one|K:2|alpha:5.5|beta:0.5|eta:1.1|stage2:0.5|tau:1|updates:100|lr:0.001|")
    assert signature.endswith("|seed:7|tokens:512x1|data:1f3a9c2b|version:0.1.0")
    changed = AllInOneConfig(output_dir=str(tmp_path), detach_senior=True, candidates=["3-2", "2-2"]).signature_fields()
    assert (changed["detach_senior"], changed["candidates"]) == (True, ["3-2", "2-2"])
    peers = ParetoMutualConfig(output_dir=str(tmp_path), strategy="bi", update_interval=50).signature_fields()
    assert (peers["rule"], peers["alpha"], peers["tau"], peers["update_interval"]) == ("bi", 0.4, [1.0, 5.0], 50)
    assert "loss_memory" not in PlainConfig(output_dir=str(tmp_path), loss_memory=2.0).signature_fields()


# ---- translations and COMET


def test_translations_stay_one_line_each(tmp_path):
    sources = ["one", "two", ""]
    hypotheses = ["a\nb", "c\u2028d\x0be", ""]
    write_translations(tmp_path, {DE_EN: ParallelText(DE_EN, "test", sources, sources)}, {"teacher": {DE_EN: hypotheses}})
    assert read_translations(tmp_path, "test", "de-en") == {
        "teacher": ["a b", "c d e", ""],
        "source": sources,
        "reference": sources,
    }
    assert one_line("a\r\nb\x85c") == "a b c"


def test_comet_scores_are_read_from_its_files(tmp_path):
    """The form is that of comet-score --to_json: files, and in each a score a sentence."""
    folder = tmp_path / "test.de-en"
    folder.mkdir()
    sentence = {"src": "x", "mt": "y", "ref": "z"}
    content = {
        "teacher.txt": [{**sentence, "COMET": 0.8}, {**sentence, "COMET": 0.9}],
        "student-6-2.txt": [{**sentence, "COMET": 0.5}, {**sentence, "COMET": 0.6}],
        "someone-else.txt": [{**sentence, "COMET": 0.1}],
    }
    (folder / "wmt22-comet-da.json").write_text(json.dumps(content))
    systems = {system.name: system for system in (System("teacher", "6-6"), System("student", "6-2"))}
    rows = comet_rows(tmp_path, systems, "test", ["de-en", "fr-en"])
    assert [(row.system.name, row.metric, row.pair, row.signature) for row in rows] == [
        ("teacher", "comet", "de-en", "wmt22-comet-da"),
        ("student-6-2", "comet", "de-en", "wmt22-comet-da"),
    ]
    assert [row.value for row in rows] == pytest.approx([0.85, 0.55])
    (folder / "other.json").write_text("[1, 2]")
    with pytest.raises(DataError, match=r"other\.json: not a file that comet-score"):
        comet_rows(tmp_path, systems, "test", ["de-en"])

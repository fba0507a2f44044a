import json

import evaluate
import pytest
import sacrebleu

from hf_paretokd import Chrf, SacreBleu
from hf_paretokd.evaluation.frontier import FrontierPoint, frontier_points, hull, undominated, write_frontier
from hf_paretokd.evaluation.metrics import bleu_tokenizer
from hf_paretokd.evaluation.results import (
    AVERAGE,
    HIGH,
    LOW,
    ResultRow,
    group_averages,
    read_results,
    results_table,
    write_results,
)
from hf_paretokd.evaluation.significance import paired_bootstrap

HYPOTHESES = ["in 3 hours and 2 kilograms", "France, 12 euros", "a man walks his dog"]
REFERENCES = ["in 3 hours and 2 kilogrammes", "France and 12 euros", "a man is walking his dog"]


def test_scores_are_sacrebleus_own_with_signature():
    scores = {name: each["a"] for name, each in paired_bootstrap({"a": HYPOTHESES}, REFERENCES, "en").scores.items()}
    assert scores["bleu"].value == sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score
    assert scores["chrf"].value == sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score
    assert scores["bleu"].signature.startswith("nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert scores["chrf"].signature.startswith("nrefs:1|bs:1000|seed:12345|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


@pytest.mark.parametrize(
    ("language", "tokenizer"), [("en", "13a"), ("zh", "zh"), ("zho_Hans", "zh"), ("ja", "char"), ("ko", "char")]
)
def test_the_tokenizer_follows_the_target_language(language, tokenizer):
    assert bleu_tokenizer(language) == tokenizer
    found = paired_bootstrap({"a": ["一二三四五"] * 3}, ["一二三四五"] * 3, language)
    assert f"tok:{tokenizer}" in found.scores["bleu"]["a"].signature


def test_metrics_combine_and_take_several_references():
    combined = evaluate.combine([SacreBleu(), Chrf()])
    found = combined.compute(predictions=HYPOTHESES, references=REFERENCES)
    assert {name for name in found if name.endswith("score")} == {"SacreBleu_0_score", "Chrf_1_score"} or len(found) == 4
    several = SacreBleu().compute(
        predictions=HYPOTHESES, references=[[r, h] for r, h in zip(REFERENCES, HYPOTHESES, strict=True)]
    )
    assert several["score"] == pytest.approx(100)
    metric = SacreBleu()
    for hypothesis, reference in zip(HYPOTHESES, REFERENCES, strict=True):
        metric.add(prediction=hypothesis, reference=reference)
    assert metric.compute()["score"] == sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score


def test_results_round_trip_and_table(tmp_path):
    rows = [
        ResultRow("teacher", "4-4", None, pair, "test", metric, value, "sig", "greedy", 1.0)
        for pair, value in (("fr-en", 80.0), ("bs-en", 60.0), (AVERAGE, 70.0))
        for metric in ("bleu", "chrf")
    ]
    rows += [
        ResultRow("teacher", "4-4", None, AVERAGE, "test", "sentences_per_second", 123.0),
        ResultRow("teacher", "4-4", None, AVERAGE, "test", "parameters", 1.5e6),
    ]
    write_results(rows, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == rows
    table = results_table(rows)
    headings = ["depth", "param.\n(M)", "fr", "bs", "mean", "chrF", "sent.\n/s"]
    assert [column.header for column in table.columns] == headings
    assert table.title == "test, greedy: BLEU of … → en"
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == ["4-4 teacher", "1.50", "80.0", "60.0", "70.0", "70.0", "123"]


# ---- high- and low-resource pairs ---------------------------------------------------------------------------------------


def test_averages_over_groups_of_pairs():
    """D-26: the paper's averages, to the precision of its tables."""
    auto = {"fr": 34.09, "de": 28.77, "zh": 14.05, "et": 19.22, "ro": 26.62, "tr": 11.60}
    found = group_averages(auto, ["fr", "de", "zh"])
    assert found["average"] == pytest.approx(22.392, abs=1e-3)
    assert (found["HRL"], found["LRL"]) == pytest.approx((25.637, 19.147), abs=1e-3)
    assert group_averages(auto, []) == {"average": found["average"]}


def point(name, high, low):
    return FrontierPoint("run", name, high, low, (high + low) / 2)


def test_the_frontier_and_its_hull():
    best = [point("a", 1, 9), point("b", 5, 8), point("c", 6, 5), point("d", 9, 1)]
    rest = [point("e", 1, 8), point("f", 4, 4), point("g", 9, 0)]
    assert undominated([*rest, *reversed(best)]) == best
    assert [corner.name for corner in hull([*rest, *best])] == ["a", "b", "d"], "c lies inside"
    assert undominated([point("a", 1, 1), point("b", 1, 1)])[0].high == 1, "equals do not beat each other"
    assert len(hull([point("a", 1, 2)])) == 1


def test_frontier_points_of_a_run(tmp_path):
    rows = [
        ResultRow("peer", "2-2", peer, pair, "test", "bleu", value + peer)
        for peer in (1, 2)
        for pair, value in ((AVERAGE, 20.0), (HIGH, 30.0), (LOW, 10.0), ("fr-en", 31.0))
    ]
    points = frontier_points("run", rows, "test")
    assert [(each.name, each.high, each.low, each.average) for each in points] == [
        ("peer 1", 31.0, 11.0, 21.0),
        ("peer 2", 32.0, 12.0, 22.0),
    ]
    assert frontier_points("run", rows, "validation") == []
    write_frontier(points, "test", "bleu", tmp_path / "frontier.json")
    content = json.loads((tmp_path / "frontier.json").read_text())
    assert [each["on_frontier"] for each in content["points"]] == [False, True]
    assert content["hull"] == [[32.0, 12.0]]

import evaluate
import pytest
import sacrebleu

from hf_paretokd import Chrf, SacreBleu
from hf_paretokd.evaluation.metrics import bleu_tokenizer, score_translations
from hf_paretokd.evaluation.results import AVERAGE, ResultRow, read_results, results_table, write_results

HYPOTHESES = ["in 3 hours and 2 kilograms", "France, 12 euros", "a man walks his dog"]
REFERENCES = ["in 3 hours and 2 kilogrammes", "France and 12 euros", "a man is walking his dog"]


def test_scores_are_sacrebleus_own_with_signature():
    scores = score_translations(HYPOTHESES, REFERENCES, "en")
    assert scores["bleu"]["score"] == sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score
    assert scores["chrf"]["score"] == sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score
    assert scores["bleu"]["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert scores["chrf"]["signature"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


@pytest.mark.parametrize(
    ("language", "tokenizer"), [("en", "13a"), ("zh", "zh"), ("zho_Hans", "zh"), ("ja", "char"), ("ko", "char")]
)
def test_the_tokenizer_follows_the_target_language(language, tokenizer):
    assert bleu_tokenizer(language) == tokenizer
    assert f"tok:{tokenizer}" in score_translations(["一二三四五"], ["一二三四五"], language)["bleu"]["signature"]


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
    headings = ["depth", "million\nparam.", "fr", "bs", "mean", "chrF", "sent.\n/s"]
    assert [column.header for column in table.columns] == headings
    assert table.title == "test, greedy: BLEU of … → en"
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == ["4-4 teacher", "1.50", "80.0", "60.0", "70.0", "70.0", "123"]

import evaluate
import pytest
import sacrebleu
from sacrebleu.metrics.ter import TER

from hf_paretokd import Chrf, Depth, LanguagePair, Member, SacreBleu
from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.evaluation import significance
from hf_paretokd.evaluation.metrics import SacreMetric, bleu_tokenizer
from hf_paretokd.evaluation.results import Outputs, score_outputs
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
    assert found["sacre_bleu_score"] == sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score
    assert found["chrf_score"] == sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score
    several = SacreBleu().compute(
        predictions=HYPOTHESES, references=[[r, h] for r, h in zip(REFERENCES, HYPOTHESES, strict=True)]
    )
    assert several["score"] == pytest.approx(100)
    metric = SacreBleu()
    for hypothesis, reference in zip(HYPOTHESES, REFERENCES, strict=True):
        metric.add(prediction=hypothesis, reference=reference)
    assert metric.compute()["score"] == sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score


# ---- a metric of one's own, as CONTRIBUTING describes it


class Ter(SacreMetric):
    """TER by sacrebleu."""

    def scorer(self, **options):
        return TER(**options)


def test_a_metric_of_ones_own(monkeypatch):
    own = sacrebleu.corpus_ter(HYPOTHESES, [REFERENCES]).score
    assert Ter().compute(predictions=HYPOTHESES, references=REFERENCES)["score"] == pytest.approx(own)
    known = significance.scorers
    monkeypatch.setattr(significance, "scorers", lambda language: {**known(language), "ter": Ter().scorer()})
    pair, member = LanguagePair("de", "en"), Member("model", Depth(2, 2))
    texts = {pair: ParallelText(pair, "test", REFERENCES, REFERENCES)}
    rows, _ = score_outputs({member: Outputs({pair: HYPOTHESES}, {pair: 1.0}, "greedy", 10)}, texts)
    (row,) = (row for row in rows if row.metric == "ter" and row.pair == "de-en")
    assert row.value == pytest.approx(own)
    assert row.signature.startswith("nrefs:1|bs:1000|")
    assert row.low <= row.value <= row.high

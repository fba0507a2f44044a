"""sacreBLEU and chrF as `evaluate.Metric`s that need no network, always with a signature."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from transformers import EvalPrediction, PreTrainedTokenizerBase

from hf_paretokd.utils.text import one_line

CHARACTER_LANGUAGES = {"ja", "ko", "th", "lo", "km", "my"}  # no spaces or clitics; `13a` would count whole phrases


def bleu_tokenizer(language: str) -> str:
    """The sacreBLEU tokenizer for a target language: `zh`, `char` for languages without spaces, else `13a`."""
    base = language.split("_")[0].lower()
    return "zh" if base in ("zh", "zho", "cmn") else "char" if base in CHARACTER_LANGUAGES else "13a"


class SacreMetric(evaluate.Metric):
    """Base of both metrics: a corpus score between 0 and 100 with its signature."""

    def _info(self) -> evaluate.MetricInfo:
        features = [
            datasets.Features({"predictions": datasets.Value("string"), "references": datasets.List(datasets.Value("string"))}),
            datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")}),
        ]
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation="Post (2018), A Call for Clarity in Reporting BLEU Scores",
            inputs_description="predictions and references: detokenised text",
            features=features,
        )

    def scorer(self, **options: Any) -> BLEU | CHRF:
        """The sacrebleu metric that does the work."""
        raise NotImplementedError

    def _compute(
        self, predictions: Sequence[str], references: Sequence[str | list[str]], **options: str
    ) -> dict[str, float | str]:
        listed = [[each] if isinstance(each, str) else each for each in references]
        scorer = self.scorer(**options)
        score = scorer.corpus_score(list(predictions), [list(column) for column in zip(*listed, strict=True)])
        return {"score": score.score, "signature": str(scorer.get_signature())}


class SacreBleu(SacreMetric):
    """BLEU by sacrebleu; option `tokenize` as there (default `13a`)."""

    def scorer(self, tokenize: str = "13a", **options: Any) -> BLEU:
        """A BLEU scorer."""
        return BLEU(tokenize=tokenize, **options)


class Chrf(SacreMetric):
    """chrF by sacrebleu."""

    def scorer(self, **options: Any) -> CHRF:
        """A chrF scorer."""
        return CHRF(**options)


def scorers(language: str) -> dict[str, BLEU | CHRF]:
    """The metrics of sacreBLEU for text in a target language, which decides the tokenizer of BLEU."""
    return {"bleu": SacreBleu().scorer(bleu_tokenizer(language)), "chrf": Chrf().scorer()}


class PairPrediction(EvalPrediction):
    """What `compute_metrics` is given: ids [rows, longest], filled up with -100, and the language pair, as `de-en`."""

    def __init__(self, predictions: np.ndarray, label_ids: np.ndarray, pair: str) -> None:
        super().__init__(predictions, label_ids)
        self.pair = pair


class TranslationMetrics:
    """A `compute_metrics` for `predict_with_generate`: BLEU and chrF by sacrebleu, between 0 and 100.

    ```python
    trainer = PlainTrainer(model, PlainConfig(predict_with_generate=True, metric_for_best_model="bleu"),
                           compute_metrics=TranslationMetrics(tokenizer), …)
    ```

    It serves the stock `Seq2SeqTrainer` as well, which tells no pair: name the target language there.

    Args:
        tokenizer: of the models.
        language: target language, by which BLEU splits words; default: that of the pair.
    """

    names = ("bleu", "chrf")

    def __init__(self, tokenizer: PreTrainedTokenizerBase, language: str | None = None) -> None:
        self.tokenizer, self.language = tokenizer, language

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """`bleu` and `chrf` of translations against labels."""
        pair = getattr(prediction, "pair", "")
        made, wanted = (self.texts(ids) for ids in (prediction.predictions, prediction.label_ids))
        found = scorers(self.language or pair.rpartition("-")[2])
        return {name: found[name].corpus_score(made, [wanted]).score for name in self.names}

    def texts(self, ids: Any) -> list[str]:
        """Text of ids, special tokens and padding left out."""
        known = np.where(np.asarray(ids) < 0, self.tokenizer.pad_token_id, ids)
        return [one_line(text) for text in self.tokenizer.batch_decode(known, skip_special_tokens=True)]


__all__ = ["Chrf", "PairPrediction", "SacreBleu", "TranslationMetrics", "bleu_tokenizer", "scorers"]

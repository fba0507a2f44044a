"""How sure a score is, and whether two models differ: sacreBLEU's bootstrap intervals and paired bootstrap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sacrebleu.significance import PairedTest

from hf_paretokd.evaluation.metrics import scorers

RESAMPLES = 1000
LEVEL = 0.05  # p-values below it are called significant


@dataclass(frozen=True)
class Score:
    """A corpus score between 0 and 100 with its signature and the bounds of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    signature: str


@dataclass(frozen=True)
class Comparison:
    """Two models on the same sentences: `difference` is the score of `system` less that of `against`.

    `p_value` is that of sacreBLEU's paired bootstrap test; a model of another run is named `run: model`.
    """

    split: str
    pair: str
    metric: str
    system: str
    against: str
    difference: float
    p_value: float

    @property
    def significant(self) -> bool:
        """Whether chance is an unlikely explanation (p < 0.05)."""
        return self.p_value < LEVEL


@dataclass(frozen=True)
class PairedScores:
    """Scores by metric and model, and the p-values of every model but the first, compared with the first."""

    scores: dict[str, dict[str, Score]]
    p_values: dict[str, dict[str, float]]


def paired_bootstrap(outputs: Mapping[str, Sequence[str]], references: Sequence[str], language: str) -> PairedScores:
    """Scores the translations of several models and compares all with the first.

    Args:
        outputs: the translations of every model, by its name.
        references: one reference a sentence.
        language: target language.
    """
    metrics = scorers(language)
    systems: list[tuple[str, Sequence[str]]] = [(name, list(lines)) for name, lines in outputs.items()]
    test = PairedTest(systems, metrics, [list(references)], test_type="bs", n_samples=RESAMPLES)
    signatures, results = test()
    found = PairedScores({}, {})
    for metric, title in zip(metrics, test.metrics, strict=True):  # sacreBLEU calls them by titles of its own
        rows: dict[str, Any] = dict(zip(outputs, results[title], strict=True))
        first = next(iter(rows.values())).score
        found.scores[metric] = {
            name: Score(float(row.score), float(row.mean - row.ci), float(row.mean + row.ci), str(signatures[title]))
            for name, row in rows.items()
        }
        found.p_values[metric] = {  # the test takes a difference of exactly nothing for a rare one
            name: 1.0 if row.score == first else float(row.p_value) for name, row in rows.items() if row.p_value is not None
        }
    return found


def comparisons(found: PairedScores, split: str, pair: str, against: str | None = None) -> list[Comparison]:
    """The models of `found` beside the first of them, which is called `against` (default: its own name)."""
    rows = []
    for metric, scores in found.scores.items():
        first = next(iter(scores))
        for name, p_value in found.p_values[metric].items():
            difference = scores[name].value - scores[first].value
            rows.append(Comparison(split, pair, metric, name, against or first, difference, p_value))
    return rows

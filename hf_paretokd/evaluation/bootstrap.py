"""Means of scores over seeds, depths and language pairs, resampled jointly over sentences (Koehn, 2004).

The sentences of a language pair are drawn once and serve all models, so that models that translated the same text are compared
on the same draw; different language pairs are drawn independently.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_paretokd.evaluation.metrics import scorers
from hf_paretokd.evaluation.significance import LEVEL, RESAMPLES

SEED = 12345  # sacreBLEU's
TAIL = 2.5  # per cent on either side of a 95 % interval
Scores = NDArray[np.float64]  # of the text itself first, then of every resample: [1 + RESAMPLES]


@dataclass(frozen=True)
class Estimate:
    """A score or a difference of scores, with the bounds of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def spread(self) -> tuple[float, float]:
        """How far the interval reaches below and above; a value near 0 BLEU may lie outside of its own interval."""
        return max(0.0, self.value - self.low), max(0.0, self.high - self.value)


@dataclass(frozen=True)
class Difference(Estimate):
    """A difference from a baseline; `p_value` is two-sided."""

    p_value: float

    @property
    def significant(self) -> bool:
        """Whether chance is an unlikely explanation (p < 0.05), where this is the only comparison."""
        return self.p_value < LEVEL


def draws(sentences: int, seed: int = SEED) -> NDArray[np.int32]:
    """How often each sentence is in the text and in every resample [1 + RESAMPLES, sentences]."""
    chosen = np.random.default_rng(seed).choice(sentences, size=(RESAMPLES, sentences), replace=True)
    counts = [np.bincount(row, minlength=sentences) for row in chosen]
    return np.stack([np.ones(sentences, np.int64), *counts]).astype(np.int32)


def joint_seeds(texts: Mapping[str, tuple[Sequence[str], Sequence[str]]]) -> dict[str, int]:
    """Seeds of the draws of several texts: alike for those that share a side, as text aligned in several languages does.

    Args:
        texts: sources and references by name.
    """
    known, found = list(texts.values()), {}
    for name, (source, reference) in texts.items():
        found[name] = SEED + next(at for at, other in enumerate(known) if source == other[0] or reference == other[1])
    return found


def joint_draws(texts: Mapping[str, tuple[Sequence[str], Sequence[str]]]) -> dict[str, NDArray[np.int32]]:
    """The draws of several texts, see `joint_seeds`."""
    return {name: draws(len(texts[name][1]), seed) for name, seed in joint_seeds(texts).items()}


def resampled(lines: Sequence[str], references: Sequence[str], language: str, metric: str, counts: NDArray[np.int32]) -> Scores:
    """Scores of translations on the text and on its resamples [1 + RESAMPLES].

    Args:
        lines: translations.
        references: one a sentence.
        language: target language.
        metric: `bleu` or `chrf`.
        counts: see `draws`.
    """
    scorer = scorers(language)[metric]
    statistics = np.array(scorer._extract_corpus_statistics(list(lines), [list(references)]), dtype=np.int64)
    return np.array([scorer._compute_score_from_stats(sums.tolist()).score for sums in counts @ statistics])


def mean(scores: Sequence[Scores]) -> Scores:
    """The mean over seeds, depths or language pairs, on the text and on every resample."""
    return np.mean(np.stack(scores), axis=0)


def estimate(scores: Scores) -> Estimate:
    """The value and its percentile interval."""
    low, high = np.percentile(scores[1:], [TAIL, 100 - TAIL])
    return Estimate(float(scores[0]), float(low), float(high))


def paired_test(scores: Scores, against: Scores) -> Difference:
    """Paired bootstrap test of a difference of exactly nothing.

    p is the share of resamples whose difference, centred, is at least as large as that on the text, either way. (sacreBLEU's
    test counts large absolute differences on one side, which for clear differences is half as much.)
    """
    differences = scores - against
    found = estimate(differences)
    centred = np.abs(differences[1:] - differences[1:].mean())
    beyond = np.sum(centred >= abs(found.value)) + 1
    return Difference(found.value, found.low, found.high, float(beyond / len(differences)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of m comparisons made at once, adjusted by Holm (1979): the k-th smallest times m − k + 1, never falling."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted

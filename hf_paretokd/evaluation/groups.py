"""Which of several models are equal within noise: paired bootstrap of their scores, Holm's correction."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from hf_paretokd.evaluation.bootstrap import Scores, holm, paired_test
from hf_paretokd.evaluation.significance import LEVEL

Name = TypeVar("Name", bound=Hashable)


def equal_to_best(scores: Mapping[Name, Scores]) -> list[Name]:
    """The best and those that are not worse beyond noise (p ≥ 0.05 after Holm), the best first.

    Args:
        scores: of every model on the text and on its resamples, drawn jointly.
    """
    ranked = sorted(scores, key=lambda name: -scores[name][0])
    best, others = ranked[:1], ranked[1:]
    adjusted = holm([paired_test(scores[name], scores[best[0]]).p_value for name in others])
    return [*best, *(name for name, p_value in zip(others, adjusted, strict=True) if p_value >= LEVEL)]


def grouped(scores: Mapping[Name, Scores]) -> list[list[Name]]:
    """All in groups: the best and its equals, then the best of the others and its equals, and so on."""
    left, found = dict(scores), []
    while left:
        found.append(equal_to_best(left))
        left = {name: values for name, values in left.items() if name not in found[-1]}
    return found


def numbered(groups: Sequence[Sequence[Name]]) -> dict[Name, int]:
    """The number of everyone's group, from 1."""
    return {name: number for number, names in enumerate(groups, 1) for name in names}

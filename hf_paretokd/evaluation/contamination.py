"""Test sentences that occur in training text: they make scores look better than the model is."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.data.pairs import LanguagePair


@dataclass(frozen=True)
class Contamination:
    """How many test sentences of a pair occur in training text of any pair, as they are or normalised.

    `sources` and `targets` count sentences that training text of the same language holds, whatever their partner there;
    `both` those whose two sides occur. Normalised text has compatible characters made equal (NFKC), case folded, and
    everything but letters, marks and digits left out. `example` is the first sentence found, as the test has it.
    """

    pair: str
    split: str
    sentences: int
    sources: int
    targets: int
    both: int
    normalised_sources: int
    normalised_targets: int
    normalised_both: int
    example: str | None = None


def normalised(text: str) -> str:
    """`text` in NFKC, case-folded, letters, marks and digits only."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in folded if unicodedata.category(character)[0] in "LMN")


def contamination(
    training: Mapping[LanguagePair, ParallelText], test: Mapping[LanguagePair, ParallelText]
) -> list[Contamination]:
    """Looks for the sentences of `test` in all of `training`; takes memory for the test text only."""
    wanted: dict[str, set[str]] = {}
    for pair, text in test.items():
        wanted.setdefault(pair.source, set()).update(text.sources)
        wanted.setdefault(pair.target, set()).update(text.targets)
    plain = {language: {normalised(text) for text in texts} for language, texts in wanted.items()}
    exact: dict[str, set[str]] = {language: set() for language in wanted}
    loose: dict[str, set[str]] = {language: set() for language in wanted}
    for pair, text in training.items():
        for language, lines in ((pair.source, text.sources), (pair.target, text.targets)):
            for line in lines if language in wanted else ():
                if line in wanted[language]:
                    exact[language].add(line)
                if (short := normalised(line)) and short in plain[language]:
                    loose[language].add(short)
    return [compared(pair, text, exact, loose) for pair, text in test.items()]


def compared(
    pair: LanguagePair, text: ParallelText, exact: Mapping[str, set[str]], loose: Mapping[str, set[str]]
) -> Contamination:
    """The counts of one pair, from the test sentences that were found in training text."""
    found = {"exact": [0, 0, 0], "loose": [0, 0, 0]}
    example = None
    for source, target in zip(text.sources, text.targets, strict=True):
        same = source in exact[pair.source], target in exact[pair.target]
        alike = normalised(source) in loose[pair.source], normalised(target) in loose[pair.target]
        for name, (left, right) in (("exact", same), ("loose", alike)):
            for position, hit in enumerate((left, right, left and right)):
                found[name][position] += hit
        if example is None and any(alike):
            example = source if alike[0] else target
    (sources, targets, both), (loose_sources, loose_targets, loose_both) = found["exact"], found["loose"]
    return Contamination(
        str(pair), text.split, len(text), sources, targets, both, loose_sources, loose_targets, loose_both, example
    )

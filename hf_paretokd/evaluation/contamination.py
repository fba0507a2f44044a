"""Test sentences that occur in training text: they make scores look better than the model is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.data.hashing import Keys, keys_of
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.utils.text import normalised


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


def contamination(
    training: Mapping[LanguagePair, Iterable[Keys]], tests: Sequence[Mapping[LanguagePair, ParallelText]]
) -> list[Contamination]:
    """Looks for test sentences in all of the training text, by keys of 64 bits; takes memory for the test text only.

    Args:
        training: keys of the text of every pair, some rows at a time: `row_keys` but for the first line.
        tests: the texts that are looked for.
    """
    wanted: dict[str, set[str]] = {}
    for test in tests:
        for pair, text in test.items():
            wanted.setdefault(pair.source, set()).update(text.sources)
            wanted.setdefault(pair.target, set()).update(text.targets)
    exact = {language: Sought(texts) for language, texts in wanted.items()}
    loose = {language: Sought(set(map(normalised, texts))) for language, texts in wanted.items()}
    for pair, shards in training.items():
        for keys in shards:
            for number, language in enumerate((pair.source, pair.target)):
                if language in wanted:
                    exact[language].look_in(keys[number])
                    loose[language].look_in(keys[number + 2])
    found = [{language: each.found() for language, each in sought.items()} for sought in (exact, loose)]
    return [compared(pair, text, *found) for test in tests for pair, text in test.items()]


class Sought:
    """Texts that are looked for, by their keys."""

    def __init__(self, texts: set[str]) -> None:
        self.texts = sorted(texts)
        self.keys = keys_of(self.texts)
        self.there = np.zeros(len(self.texts), bool)

    def look_in(self, keys: Keys) -> None:
        """Looks for all of them in some text."""
        self.there |= np.isin(self.keys, keys)

    def found(self) -> set[str]:
        """Those that were there."""
        return {text for text, there in zip(self.texts, self.there, strict=True) if there}


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

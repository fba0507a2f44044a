"""A corpus: cleaned parallel text of one or more language pairs, with a count of everything left out.

Rules, in the order they are applied to a row:

| what | training | validation and test |
|---|---|---|
| not UTF-8, NUL, half a character, wrong columns, missing fields, unequal line counts | error with file and line | the same |
| a side is empty or blank | skipped, counted | skipped, counted |
| a side holds `</s>`, `<unk>`, `<pad>` or `▁`, or starts as a tag does for Marian | skipped, counted | skipped, counted |
| the same pair of texts again | skipped, counted | kept |
| more rows than `max_sentence_pairs` allows for the pair | a seeded random choice is kept, the rest counted | kept |
| more tokens than `max_length` | skipped, counted | kept out of the loss, counted; the source is cut for translation |
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_paretokd.data.distilled import distilled_rows
from hf_paretokd.data.hashing import KeySet, keys_of
from hf_paretokd.data.pairs import LanguagePair, filled_in, like_a_tag, source_tags
from hf_paretokd.data.readers import (
    Row,
    Rows,
    find_aligned,
    format_of,
    read_aligned,
    read_hub,
    read_jsonl,
    read_parquet,
    read_tsv,
    record_row,
)
from hf_paretokd.data.seeds import derive_seed
from hf_paretokd.errors import DataError, RecipeError

CHUNK = 2000  # rows at a time
STREAM_SAMPLE = 1_000_000  # rows of a stream that a tokenizer is made from
SPECIAL, DUPLICATE, CAPPED = "special token in the text", "duplicate pair", "more than max_sentence_pairs"  # why rows go
DISTILLED = ("replace", "add")
SPECIAL_TOKENS = ("</s>", "<unk>", "<pad>", "\u2581")  # of tokenizers made here; `▁` is their space


@dataclass
class DataConfig:
    """Where the text is. Exactly one of `data_dir`, `hub`, or file patterns in the splits says how it is read.

    Args:
        pairs: directions to learn, such as `[de-en, fr-en]`.
        data_dir: folder with line-aligned files `[xx-en/]SPLIT.LANG[.gz]`.
        hub: id of a Hub data set whose rows have a field for each language or a `translation` field, or a mapping from
            pairs to such ids.
        hub_config: configuration of the Hub data set; `{pair}`, `{source}` and `{target}` are filled in.
        streaming: the training text of a Hub data set is read as it comes, never loaded whole: nothing is left out for being
            repeated, `max_sentence_pairs` keeps the first rows, and passes are not counted.
        train: split name, or a `.tsv`, `.jsonl` or `.parquet` file pattern in which `{pair}`, `{source}` and `{target}`
            are filled in.
        validation: the same for the validation text.
        test: the same for the test text.
        target_tags: `needed` puts `>>xx<<` on the source when there are several target languages, `always` every time; for
            models that are told languages by tags.
        source_prefix: words before the source, such as `translate {source} to {target}: `, for models that are told languages
            so (T5); default: those of the model's configuration.
        max_length: longest side in tokens, tag and `</s>` included; default: what the tokenizer was made for.
        max_sentence_pairs: for some language pairs, such as `{fr-en: 40000}`, how many training rows to keep, and how many of
            distilled text.
        distilled_dir: folder that `paretokd distill` has written, for sequence-level distillation.
        distilled: whether its text comes in the place of the training text (`replace`), or goes to it (`add`).
    """

    pairs: list[str] = field(default_factory=list)
    data_dir: str | None = None
    hub: dict[str, str] | str | None = None
    hub_config: str | None = None
    streaming: bool = False
    train: str = "train"
    validation: str = "validation"
    test: str = "test"
    target_tags: str = "needed"
    source_prefix: str | None = None
    max_length: int | None = None
    max_sentence_pairs: dict[str, int] = field(default_factory=dict)
    distilled_dir: str | None = None
    distilled: str = "replace"

    def __post_init__(self) -> None:
        if not self.pairs:
            raise RecipeError("data.pairs: name at least one language pair, such as [de-en]")
        self.parsed_pairs = [LanguagePair.parse(text) for text in self.pairs]
        for pair, count in Counter(self.parsed_pairs).items():
            if count > 1:
                raise RecipeError(f"data.pairs: {pair} is named {count} times")
        source_tags(self.parsed_pairs, self.target_tags)
        filled_in(self.source_prefix or "", self.parsed_pairs[0], "data.source_prefix")
        for split in ("train", "validation", "test", "hub_config"):
            filled(self, split, self.parsed_pairs[0])
        if self.max_length is not None and self.max_length < 2:
            raise RecipeError(f"data.max_length: {self.max_length} leaves no room for a word and </s>")
        check_pair_values(self.max_sentence_pairs, self.pairs, "data.max_sentence_pairs", int, lambda count: count > 0)
        if isinstance(self.hub, Mapping):
            check_pair_values(self.hub, self.pairs, "data.hub", str, bool)
            missing = [pair for pair in self.pairs if pair not in self.hub]
            if missing:
                raise RecipeError(f"data.hub: names no data set for {missing[0]}")
        if self.distilled not in DISTILLED:
            raise RecipeError(f"data.distilled: {self.distilled!r} is not one of {', '.join(DISTILLED)}")
        if self.data_dir and self.hub:
            raise RecipeError("data: data_dir and hub exclude each other")
        if self.streaming and (not self.hub or format_of(self.train)):
            raise RecipeError("data.streaming: is for Hub data sets; files are prepared once and mapped, whatever their size")
        if self.streaming and self.distilled_dir:
            raise RecipeError("data.streaming: distilled text is compared with the whole training text; leave one of both out")


@dataclass
class ParallelText:
    """Aligned sentences of one pair and split, after cleaning.

    `sources` carry no tags; `skipped` counts the rows left out by reason, `examples` names one place for each reason.
    """

    pair: LanguagePair
    split: str
    sources: list[str]
    targets: list[str]
    skipped: Counter = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sources)


def by_pair(texts: Mapping[LanguagePair, ParallelText] | ParallelText) -> Mapping[LanguagePair, ParallelText]:
    """Texts by their pairs; one may stand alone."""
    return {texts.pair: texts} if isinstance(texts, ParallelText) else texts


def filled(config: DataConfig, field_name: str, pair: LanguagePair) -> str:
    """A field, or nothing, with `{pair}`, `{source}` and `{target}` filled in.

    Raises:
        RecipeError: another name stands in braces.
    """
    return filled_in(getattr(config, field_name) or "", pair, f"data.{field_name}")


def open_rows(config: DataConfig, split: str, pair: LanguagePair) -> Rows:
    """The raw rows of one pair and split (`train`, `validation` or `test`), of a stream the first `STREAM_SAMPLE`."""
    if config.hub and not format_of(filled(config, split, pair)):
        rows = read_hub(*hub_set(config, split, pair), pair, config.streaming and split == "train")
        return Rows(islice(rows, STREAM_SAMPLE) if config.streaming and split == "train" else rows)
    files = row_files(config, split, pair)
    kind = format_of(files[0].name)
    if kind == "tsv":
        others = [filled(config, split, each) for each in config.parsed_pairs if each != pair]
        return Rows(read_tsv(files[0], pair, filled(config, split, pair) in others))
    if kind == "jsonl":
        return Rows(read_jsonl(files[0], pair))
    return Rows(read_parquet(files[0], pair)) if kind else read_aligned(files[0], files[1])


def hub_set(config: DataConfig, split: str, pair: LanguagePair) -> tuple[str, str | None, str]:
    """Id, configuration and split of the Hub data set with the text of a pair."""
    name = config.hub[str(pair)] if isinstance(config.hub, Mapping) else str(config.hub)
    return name, filled(config, "hub_config", pair) or None, filled(config, split, pair)


def row_files(config: DataConfig, split: str, pair: LanguagePair) -> list[Path]:
    """The file with the text of a pair, or the two that are line-aligned.

    Raises:
        DataError: these are missing.
        RecipeError: no folder is named for them.
    """
    name = filled(config, split, pair)
    if format_of(name):
        return [Path(config.data_dir or ".") / name]
    if not config.data_dir:
        advice = "convert it" if Path(name).is_file() else "give data.data_dir or data.hub"
        raise RecipeError(f"data.{split}: {name!r} is no .tsv, .jsonl or .parquet file; {advice}")
    return [*find_aligned(Path(config.data_dir), name, pair)]


def text_places(config: DataConfig) -> list[Path]:
    """The folders and files that the text is read from, so far as it is read from here."""
    named = (filled(config, split, pair) for split in ("train", "validation", "test") for pair in config.parsed_pairs)
    files = {Path(config.data_dir or ".") / name for name in named if format_of(name)}
    return [*(Path(folder) for folder in (config.data_dir, config.distilled_dir) if folder), *sorted(files)]


def check_pair_values(
    values: Mapping[str, Any], pairs: Sequence[str], where: str, kind: type, fits: Callable[[Any], bool]
) -> None:
    """Raises a RecipeError unless `values` maps some of `pairs` to values of a kind that fit."""
    if not isinstance(values, Mapping):
        raise RecipeError(f"{where}: expected a mapping from language pairs, not {values!r}")
    for name, value in values.items():
        if name not in pairs:
            raise RecipeError(f"{where}: {name!r} is not one of the pairs {', '.join(pairs)}")
        if not isinstance(value, kind) or isinstance(value, bool) or not fits(value):
            raise RecipeError(f"{where}: {value!r} is out of range for {name}")


def capped(text: ParallelText, limit: int | None) -> ParallelText:
    """At most `limit` rows, a choice that depends on the pair and the number of rows alone, in their old order."""
    if limit and len(text) > limit:
        kept = chosen_rows(text.pair, len(text), limit)
        text.skipped[CAPPED] += len(text) - limit
        text.sources, text.targets = [text.sources[row] for row in kept], [text.targets[row] for row in kept]
    return text


def chosen_rows(pair: LanguagePair, rows: int, limit: int) -> NDArray[np.int64]:
    """Which of the rows of a pair are kept under a limit, ascending."""
    generator = np.random.default_rng(derive_seed("max_sentence_pairs", str(pair), rows))
    return np.sort(generator.choice(rows, limit, replace=False))


def refused(source: str, target: str) -> str | None:
    """Why a row, its sides stripped, is nothing to learn from by itself; None if it may be."""
    if not source or not target:
        return "empty side"
    for side in (source, target):
        if "<" not in side and "\u2581" not in side:  # what nearly all are, and every special token has one
            continue
        if like_a_tag(side) or any(token in side for token in SPECIAL_TOKENS):
            return SPECIAL
    return None


def clean(rows: Iterable[Row], pair: LanguagePair, split: str) -> ParallelText:
    """Applies the rules at the top of this module.

    Raises:
        DataError: no row is left.
    """
    text = ParallelText(pair, split, [], [])
    seen: set[tuple[str, str]] = set()
    for row in rows:
        source, target = row.source.strip(), row.target.strip()
        reason = refused(source, target)
        if not reason and split == "train" and (source, target) in seen:
            reason = DUPLICATE
        if not reason:
            seen.add((source, target))
            text.sources.append(source)
            text.targets.append(target)
            continue
        text.skipped[reason] += 1
        text.examples.setdefault(reason, row.place)
    if not text.sources:
        raise nothing_usable(pair, split, text.skipped, text.examples)
    return text


def nothing_usable(pair: object, split: str, skipped: Mapping[str, int], examples: Mapping[str, str]) -> DataError:
    """What is said of text of which everything was left out: the reasons counted, with a place of each."""
    reasons = [f"{count:,} {reason}, first at {examples[reason]}" for reason, count in skipped.items()]
    return DataError(f"{pair}, split {split!r}: no usable sentence pair ({'; '.join(reasons) or 'the files are empty'})")


def load_text(config: DataConfig, split: str) -> dict[LanguagePair, ParallelText]:
    """All pairs of one split (`train`, `validation` or `test`), cleaned.

    Raises:
        DataError: a language has no data, a file breaks a rule, or distilled text is of other text; names file and line.
    """
    limits = config.max_sentence_pairs if split == "train" else {}
    texts = {
        pair: capped(clean(open_rows(config, split, pair), pair, split), limits.get(str(pair))) for pair in config.parsed_pairs
    }
    if split == "train" and config.distilled_dir:
        folder, add = Path(config.distilled_dir), config.distilled == "add"
        return {pair: with_distilled(text, folder, add, limits.get(str(pair))) for pair, text in texts.items()}
    return texts


@dataclass(frozen=True)
class StreamedText:
    """Cleaned training text of one pair that is read anew whenever it is asked for, and never held.

    Args:
        config: where it is.
        pair: of languages.
    """

    config: DataConfig
    pair: LanguagePair

    @property
    def sources(self) -> Iterator[str]:
        """One side, without tags."""
        return (source for source, _ in self.rows())

    @property
    def targets(self) -> Iterator[str]:
        """The other."""
        return (target for _, target in self.rows())

    def rows(self) -> Iterator[tuple[str, str]]:
        """Both sides, as `load_text` would have them."""
        limit = self.config.max_sentence_pairs.get(str(self.pair))
        if not limit:
            return self.every()
        rows = sum(1 for _ in self.every())
        if rows <= limit:
            return self.every()
        chosen = np.zeros(rows, bool)
        chosen[chosen_rows(self.pair, rows, limit)] = True
        return compress(self.every(), chosen)

    def every(self) -> Iterator[tuple[str, str]]:
        """All of them, each pair of texts once, by its key.

        Raises:
            DataError: there are none.
        """
        rows = open_rows(self.config, "train", self.pair)
        skipped: Counter[str] = Counter()  # so long as nothing is left
        examples: dict[str, str] = {}
        with tempfile.TemporaryDirectory() as folder:
            seen = KeySet(Path(folder) / "seen")
            while chunk := list(islice(rows, CHUNK)):
                sides = [(row.source.strip(), row.target.strip()) for row in chunk]
                good = [each for each in sides if not refused(*each)]
                if not seen.count and not good:
                    for row, each in zip(chunk, sides, strict=True):
                        reason = str(refused(*each))
                        skipped[reason] += 1
                        examples.setdefault(reason, row.place)
                yield from compress(good, seen.add(keys_of(f"{source}\0{target}" for source, target in good)))
            if not seen.count:
                raise nothing_usable(self.pair, "train", skipped, examples)


def stream_text(config: DataConfig) -> dict[LanguagePair, StreamedText]:
    """The training text of all pairs, which is read whenever it is asked for."""
    return {pair: StreamedText(config, pair) for pair in config.parsed_pairs}


def text_of(rows: Iterable[Mapping[str, Any]], pair: str | LanguagePair, split: str = "train") -> ParallelText:
    """Text of one language pair that is in memory, such as a `datasets.Dataset`, by the same rules as text from files.

    Args:
        rows: with a field for each language, or a `translation` field that holds them.
        pair: such as `fr-en`.
        split: what it is for; duplicates are left out of `train`.

    Raises:
        RecipeError: `pair` is no language pair.
        DataError: a row lacks a language or holds something else than text, or no row is left.
    """
    of = pair if isinstance(pair, LanguagePair) else LanguagePair.parse(pair)
    return clean((record_row(dict(row), of, f"row {number}") for number, row in enumerate(rows, 1)), of, split)


def with_distilled(text: ParallelText, folder: Path, add: bool, limit: int | None) -> ParallelText:
    """The training text of a pair with the targets that a teacher has made (Kim and Rush, 2016), or with these added.

    Args:
        text: the training text.
        folder: of the distilled corpus.
        add: whether the training text stays.
        limit: of distilled rows.

    Raises:
        DataError: as `distilled_rows`.
    """
    made = capped(clean(distilled_rows(folder, text.pair, text.sources), text.pair, text.split), limit)
    if not add:
        return made
    sides = zip(text.sources + made.sources, text.targets + made.targets, strict=True)
    both = clean((Row(*each, f"{folder}: {text.pair}") for each in sides), text.pair, text.split)
    both.skipped, both.examples = text.skipped + made.skipped + both.skipped, both.examples | made.examples | text.examples
    return both

"""Cleaned text to token ids: one `datasets.DatasetDict` a split, keyed by language pair."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.compute
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from hf_paretokd.data.batches import IGNORED
from hf_paretokd.data.cache import cached_dataset, digest, tokenizer_digest
from hf_paretokd.data.corpus import CHUNK, SPECIAL, ParallelText, by_pair
from hf_paretokd.data.facts import known_facts
from hf_paretokd.data.languages import Direction, directions, encode, reserved, takes_for_text
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.pieces import BatchEncoder
from hf_paretokd.errors import DataError

Pairs = Mapping[str, datasets.Dataset]
FEATURES = datasets.Features(
    {
        "input_ids": datasets.List(datasets.Value("int32")),
        "labels": datasets.List(datasets.Value("int32")),
    }
)
TOO_LONG = "more tokens than max_length"


def encode_split(
    texts: Mapping[LanguagePair, ParallelText] | ParallelText,
    tokenizer: PreTrainedTokenizerBase,
    target_tags: str = "needed",
    max_length: int | None = None,
    source_prefix: str = "",
) -> datasets.DatasetDict:
    """Token ids of one split, languages told in the way of the tokenizer's family (see `hf_paretokd.data.languages`).

    Args:
        texts: cleaned text of each pair, or of one; sentences longer than `max_length` are added to its `skipped` counts.
        target_tags: `needed` puts `>>xx<<` before the source if there are several target languages, `always` in any case.
        max_length: longest side in tokens, tag and `</s>` included; default: what the tokenizer was made for.
        source_prefix: words before the source, as T5 has them; `{source}` and `{target}` are filled in.

    Returns:
        For each pair a data set with `input_ids` and `labels` (lists of ids that end in `</s>`), memory-mapped from the
        cache of `datasets`: the same text and tokenizer are encoded once.

    Raises:
        TokenizerError: a language is unknown to the tokenizer, or its family is not supported.
        DataError: no sentence of a pair is short enough.
    """
    texts = by_pair(texts)
    return encode_told(texts, tokenizer, directions(tokenizer, texts, target_tags, source_prefix), max_length)


def encode_told(
    texts: Mapping[LanguagePair, ParallelText],
    tokenizer: PreTrainedTokenizerBase,
    found_directions: Mapping[LanguagePair, Direction],
    max_length: int | None = None,
) -> datasets.DatasetDict:
    """As `encode_split`, with what the model is told of each pair."""
    max_length = max_length or tokenizer.model_max_length
    known, found, fits = tokenizer_digest(tokenizer), datasets.DatasetDict(), takes_for_text(tokenizer)
    for pair, text in texts.items():
        text, direction = plain_rows(text, fits), found_directions[pair]
        key = digest(known, str(direction), str(max_length), text.sources, text.targets)
        build = partial(encode_pair, text, tokenizer, direction, max_length)
        found[str(pair)] = encoded = cached_dataset(key, build)
        if len(encoded) < len(text):
            text.skipped[TOO_LONG] += len(text) - len(encoded)
    return found


def plain_rows(text: ParallelText, fits: Callable[[str], bool]) -> ParallelText:
    """The rows whose sides are text to the tokenizer; the others are added to the `skipped` counts, which are shared.

    `load_text` leaves out what tokenizers made here would misread; others have other special tokens.
    """
    rows = [row for row in zip(text.sources, text.targets, strict=True) if all(map(fits, row))]
    if len(rows) == len(text):
        return text
    text.skipped[SPECIAL] += len(text) - len(rows)
    sources, targets = zip(*rows, strict=True) if rows else ((), ())
    return replace(text, sources=list(sources), targets=list(targets))


def encode_pair(
    text: ParallelText, tokenizer: PreTrainedTokenizerBase, direction: Direction, max_length: int
) -> datasets.Dataset:
    """Token ids of one pair, over-long sentences left out.

    Raises:
        DataError: none is left.
    """
    tables = []
    for ids in encoded_columns(text, tokenizer, direction):
        longest = np.maximum(*(pyarrow.compute.list_value_length(column).to_numpy() for column in ids.values()))
        tables.append(pyarrow.table(ids).filter(longest <= max_length))
    if not text.sources:
        raise DataError(f"{text.pair}, split {text.split!r}: every sentence holds a special token of the tokenizer")
    whole = pyarrow.concat_tables(tables)
    if not len(whole):
        raise DataError(f"{text.pair}, split {text.split!r}: every sentence has more than {max_length} tokens (max_length)")
    return datasets.Dataset(whole.cast(FEATURES.arrow_schema))


class Encoder:
    """Token ids of many rows of a pair at once, as the tokenizer gives them at inference.

    Args:
        tokenizer: the tokenizer.
        direction: what the model is told of the languages.
        threads: of SentencePiece, for tokenizers it can batch for.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, direction: Direction, threads: int = 1) -> None:
        self.tokenizer, self.direction = tokenizer, direction
        self.fits = takes_for_text(tokenizer)
        self.special = reserved(tokenizer)
        self.batches = BatchEncoder(tokenizer, direction.before, threads) if BatchEncoder.suits(tokenizer) else None

    def columns(self, sources: Sequence[str], targets: Sequence[str]) -> dict[str, pyarrow.ListArray]:
        """`input_ids` and `labels` of rows that are text to the tokenizer."""
        if self.batches:
            return {"input_ids": self.batches.sources(sources), "labels": self.batches.targets(targets)}
        found = encode(self.tokenizer, self.direction, list(sources), list(targets), verbose=False)
        return {name: pyarrow.array(found[name], pyarrow.list_(pyarrow.int32())) for name in ("input_ids", "labels")}

    def doubtful(self, texts: Sequence[str]) -> bool:
        """Whether one of many texts may be no text to the tokenizer; looked for in all of them at once."""
        whole = "\n".join(texts)
        return ">>" in whole or any(each in whole for each in self.special)

    def batch(self, sources: Sequence[str], targets: Sequence[str]) -> pyarrow.RecordBatch:
        """The same of any rows, as `FEATURES` has it; those that are no text to the tokenizer get no ids."""
        if not self.doubtful(sources) and not self.doubtful(targets):
            fit = []
        else:
            fit = [self.fits(source) and self.fits(target) for source, target in zip(sources, targets, strict=True)]
        if all(fit):
            columns = self.columns(sources, targets)
        else:
            some = [[text for text, good in zip(side, fit, strict=True) if good] for side in (sources, targets)]
            made = {name: iter(column.to_pylist()) for name, column in self.columns(*some).items()} if some[0] else {}
            columns = {
                name: pyarrow.array([next(made[name]) if good else [] for good in fit], pyarrow.list_(pyarrow.int32()))
                for name in ("input_ids", "labels")
            }
        return pyarrow.RecordBatch.from_pydict(columns).cast(FEATURES.arrow_schema)


def encoded_columns(
    text: ParallelText, tokenizer: PreTrainedTokenizerBase, direction: Direction
) -> Iterator[dict[str, pyarrow.ListArray]]:
    """`input_ids` and `labels` of rows as the tokenizer gives them at inference, with a progress bar on long texts."""
    encoder = Encoder(tokenizer, direction)
    with tqdm(
        total=len(text), desc=f"tokenising {text.pair} {text.split}", disable=True if len(text) < 5000 else None, leave=False
    ) as bar:
        for start in range(0, len(text), CHUNK):
            sources, targets = (side[start : start + CHUNK] for side in (text.sources, text.targets))
            yield encoder.columns(sources, targets)
            bar.update(len(sources))


def as_pairs(
    dataset: datasets.Dataset | Pairs | None, columns: Sequence[str] = ("input_ids", "labels"), streams: bool = False
) -> dict[str, Any]:
    """A dictionary keyed by pair; a lone data set gets the name `corpus`. With `streams` some may be `IterableDataset`s.

    Raises:
        DataError: a data set is empty or lacks one of the columns.
    """
    if dataset is None:
        return {}
    pairs = dict(dataset) if isinstance(dataset, Mapping) else {"corpus": dataset}
    for name, each in pairs.items():
        if streams and isinstance(each, datasets.IterableDataset):
            check_columns(name, each.column_names or columns, columns)
            continue
        if not isinstance(each, datasets.Dataset):
            raise DataError(
                f"data set {name}: is a {type(each).__name__}; give a datasets.Dataset of token ids, as encode_split makes or "
                "Dataset.from_list and from_generator"
            )
        check_columns(name, each.column_names, columns)
        if len(each) == 0:
            raise DataError(f"data set {name}: has no rows")
    rows = {name: each for name, each in pairs.items() if isinstance(each, datasets.Dataset)}
    plain = {name: each.with_format(None) if each.format["type"] else each for name, each in rows.items()}
    return pairs | {name: trimmed(name, each) for name, each in plain.items()}


def check_columns(name: str, found: Sequence[str], wanted: Sequence[str]) -> None:
    """Raises a DataError if a column is not there."""
    if lacking := set(wanted) - set(found):
        raise DataError(f"data set {name}: column {sorted(lacking)[0]!r} is missing; encode_split makes the right ones")


def trimmed(name: str, dataset: datasets.Dataset) -> datasets.Dataset:
    """Rows without their padding: what the `attention_mask` leaves out of `input_ids`, and -100 at the end of `labels`.

    Raises:
        DataError: a mask is none of its row.
    """
    if known_facts(dataset):
        return dataset
    table = dataset.with_format("arrow")
    masked = "attention_mask" in dataset.column_names and sum(hides(name, batch) for batch in table.iter(10_000)) > 0
    labelled = "labels" in dataset.column_names
    if not masked and not (labelled and any(holds(batch["labels"], IGNORED) for batch in table.iter(10_000))):
        return dataset
    return dataset.map(without_padding, remove_columns=["attention_mask"] if masked else [], desc="trimming padded rows")


def hides(name: str, batch: Any) -> bool:
    """Whether the `attention_mask` of a piece of a table leaves something out.

    Raises:
        DataError: it is not a list of 0 and 1 for each row, as long as `input_ids`.
    """
    from pyarrow import compute, types

    mask, ids = (batch[column].combine_chunks() for column in ("attention_mask", "input_ids"))
    values = mask.flatten() if hasattr(mask.type, "value_type") else mask
    kind = values.type
    if not hasattr(mask.type, "value_type") or not (types.is_boolean(kind) or types.is_integer(kind)):
        raise DataError(f"data set {name}: attention_mask holds {mask.type}; give a list of 0 and 1 a row")
    if not hasattr(ids.type, "value_type"):
        return False  # which is said of the column itself
    alike = compute.equal(compute.list_value_length(mask), compute.list_value_length(ids))
    bounds = compute.min_max(values.cast("int64"))
    if mask.null_count or values.null_count or not compute.all(alike).as_py() or {*bounds.as_py().values()} - {0, 1, None}:
        raise DataError(f"data set {name}: an attention_mask is not 0 or 1 for each id of its row; leave the column out")
    return bounds["min"].as_py() == 0


def holds(column: Any, value: int) -> bool:
    """Whether a number stands anywhere in a column of lists."""
    import pyarrow.compute

    rows = column.combine_chunks()
    if not pyarrow.types.is_integer(getattr(rows.type, "value_type", pyarrow.null())):
        return False  # which `check_known` says
    return bool(pyarrow.compute.any(pyarrow.compute.equal(rows.flatten(), value)).as_py())


def without_padding(row: dict[str, Any]) -> dict[str, list[int]]:
    """One row, trimmed."""
    ids, columns = row["input_ids"], {}
    columns["input_ids"] = [each for each, kept in zip(ids, row.get("attention_mask") or [1] * len(ids), strict=True) if kept]
    if "labels" in row:
        columns["labels"] = labels = list(row["labels"] or [])
        while labels and labels[-1] == IGNORED:
            labels.pop()
    return columns


def check_known(pairs: Pairs, entries: int) -> None:
    """Raises a DataError unless all columns hold lists of whole numbers below `entries`; `check_no_padding` is about -100."""
    from pyarrow import compute, types

    for name, each in pairs.items():
        facts = known_facts(each)
        for column in (column for column in ("input_ids", "labels") if column in each.column_names):
            least, most = 0, facts.largest if facts else 0
            for batch in () if facts else each.with_format("arrow").iter(10_000):
                rows = batch[column].combine_chunks()
                if not hasattr(rows.type, "value_type") or not types.is_integer(rows.type.value_type):
                    raise DataError(f"data set {name}: column {column!r} holds {rows.type}; give a list of token ids a row")
                if (
                    rows.null_count
                    or rows.flatten().null_count
                    or compute.any(compute.equal(compute.list_value_length(rows), 0)).as_py()
                ):
                    raise DataError(
                        f"data set {name}: column {column!r} has rows without token ids, or all masked; leave them out"
                    )
                values = rows.flatten()
                if column == "labels":
                    values = values.filter(compute.not_equal(values, IGNORED))
                bounds = compute.min_max(values)
                least, most = min(least, bounds["min"].as_py() or 0), max(most, bounds["max"].as_py() or 0)
            if most >= entries or least < 0:
                wrong = most if most >= entries else least
                raise DataError(
                    f"data set {name}: column {column!r} holds the id {wrong}, the model knows 0 to {entries - 1}; is it of "
                    "another tokenizer?"
                )


def check_no_padding(pairs: Pairs, pad_id: int) -> None:
    """Raises a DataError if `<pad>` is among the labels, where it would be learnt, or -100 in their middle."""
    for name, each in pairs.items():
        if (facts := known_facts(each)) and facts.without == pad_id:
            continue
        wrong = [(pad_id, "the padding token"), (IGNORED, "-100 before their end")] if "labels" in each.column_names else []
        for batch in each.with_format("arrow").iter(10_000):
            for value, what in wrong:
                if holds(batch["labels"], value):
                    raise DataError(
                        f"data set {name}: labels hold {what} ({value}); leave padding out: micro-batches are padded later"
                    )
            if holds(batch["input_ids"], pad_id):
                raise DataError(
                    f"data set {name}: input_ids hold the padding token ({pad_id}) and no attention_mask says so; leave it out"
                )

"""Text of any size to token ids on disk: files are read once, a shard at a time, and nothing of them stays in memory.

A language pair of a split is prepared in two steps. First every `SHARD` rows of its text are cleaned and encoded, each shard
for itself and in any order, by any process that has its lease; what is there is not made again. Then the shards are put
together in their order: repeated pairs, rows beyond a limit and sentences that are too long go. What comes out equals
`load_text` and `encode_told`, in the same order.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from hf_paretokd.data.corpus import CAPPED, CHUNK, DUPLICATE, SPECIAL, ParallelText, chosen_rows, nothing_usable, refused
from hf_paretokd.data.encoding import FEATURES, TOO_LONG, Encoder
from hf_paretokd.data.facts import Facts, TokenIds, facts_of
from hf_paretokd.data.hashing import KEYS, Keys, KeySet, row_keys
from hf_paretokd.data.languages import Direction
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.readers import Row, Rows
from hf_paretokd.errors import DataError
from hf_paretokd.layout import StoreLayout
from hf_paretokd.utils.files import WRITE_ERRORS, checksum, damage, publish, save_json, typed_json
from hf_paretokd.utils.lease import GONE, age, leased, wait_while
from hf_paretokd.utils.progress import Progress

SHARD = 100_000  # rows
WORTH = 5000  # rows whose preparation is worth a bar
logger = logging.get_logger(__name__)


@dataclass
class Counted:
    """What became of the rows of one pair and split.

    Args:
        pair: such as `fr-en`.
        split: what they are for.
        rows: that were read.
        kept: that are text to learn from, also those that are too long.
        skipped: how many were left out, by reason.
        examples: one place for each reason.
    """

    pair: str
    split: str
    rows: int = 0
    kept: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, text: ParallelText) -> "Counted":
        """That of text in memory."""
        rows = len(text) + sum(count for reason, count in text.skipped.items() if reason != TOO_LONG)
        return cls(str(text.pair), text.split, rows, len(text), dict(text.skipped), dict(text.examples))

    def __len__(self) -> int:
        return self.kept


@dataclass
class Shard:
    """What is known of a finished shard: rows that were read, why some went, and the checksums of its files."""

    rows: int
    skipped: dict[str, int]
    examples: dict[str, str]
    sums: dict[str, str]


@dataclass(frozen=True)
class Job:
    """What is prepared.

    Args:
        pair: of languages.
        split: what it is for; repeated pairs are left out of `train`.
        rows: opens the text anew, from its start.
        tokenizer: whose ids are wanted.
        direction: what the model is told of the languages.
        max_length: longest side in tokens.
        limit: how many rows are kept, or all.
        total: tells how many rows there are, where that takes no more than a look at the file.
    """

    pair: LanguagePair
    split: str
    rows: Callable[[], Rows]
    tokenizer: PreTrainedTokenizerBase
    direction: Direction
    max_length: int
    limit: int | None = None
    total: Callable[[], int | None] = lambda: None


# ---- step one: shards


def make_shards(job: Job, layout: StoreLayout) -> int:
    """Makes every shard that is not there and that no other process is making; how many there are.

    Raises:
        DataError: a row breaks a rule, or the disk is full.
    """
    number, encoder = 0, Encoder(job.tokenizer, job.direction)
    layout.parts.mkdir(parents=True, exist_ok=True)
    total = job.total()
    small = total is not None and total < WORTH
    title = f"preparing {job.pair} {job.split}"
    with Progress(total, unit=" rows", desc=title, leave=False, unit_scale=True, disable=small) as bar:
        rows = job.rows()
        while True:
            count = None
            if not finished(layout, number):
                with leased(layout.lease(number)) as mine:
                    if mine:
                        count = make_shard(job, encoder, chunks(islice(rows, SHARD), bar), layout, number)
            if count is None:  # somebody else's
                bar.update(count := rows.skip(SHARD))
            number += 1
            if count < SHARD:
                return number


def chunks(rows: Iterator[Row], bar: Progress) -> Iterator[list[Row]]:
    """Some rows at a time, with the bar moved."""
    while chunk := list(islice(rows, CHUNK)):
        yield chunk
        bar.update(len(chunk))


def finished(layout: StoreLayout, number: int) -> bool:
    """Whether a shard is there, and as it was written; one that is damaged goes."""
    record = layout.record(number)
    if not record.is_file():
        return False
    try:
        sums = typed_json(Shard, record).sums
        problem = next((name for name, sum_ in sums.items() if checksum(layout.parts / name) != sum_), None)
    except (OSError, ValueError) as error:
        problem = f"{record.name}: {error}"
    if problem:
        logger.warning(f"{layout.parts}: {problem} is damaged; the shard is made anew")
        record.unlink(missing_ok=True)
    return problem is None


def make_shard(job: Job, encoder: Encoder, rows: Iterable[list[Row]], layout: StoreLayout, number: int) -> int:
    """Cleans and encodes some rows into files; how many were read."""
    skipped: Counter[str] = Counter()
    examples: dict[str, str] = {}
    count, found = 0, []
    unfinished = layout.ids(number).with_suffix(".unfinished")
    try:
        with pa.OSFile(str(unfinished), "wb") as file, pa.ipc.new_stream(file, FEATURES.arrow_schema) as stream:
            for chunk in rows:
                sources, targets, places = [], [], []
                for position, row in enumerate(chunk, count):
                    source, target = row.source.strip(), row.target.strip()
                    if reason := refused(source, target):
                        skipped[reason] += 1
                        examples.setdefault(reason, row.place)
                    else:
                        sources.append(source)
                        targets.append(target)
                        places.append(position)
                count += len(chunk)
                if sources:
                    stream.write_batch(encoder.batch(sources, targets))
                    found.append((np.array(places, np.int32), row_keys(sources, targets)))
        unfinished.replace(layout.ids(number))
        np.save(layout.places(number), np.concatenate([np.zeros(0, np.int32), *(each for each, _ in found)]))
        np.save(
            layout.keys(number), np.concatenate([np.zeros((len(KEYS), 0), np.uint64), *(each for _, each in found)], axis=1)
        )
    except WRITE_ERRORS as error:
        unfinished.unlink(missing_ok=True)
        raise full(layout, error) from error
    sums = {path.name: checksum(path) for path in (layout.ids(number), layout.places(number), layout.keys(number))}
    save_json(asdict(Shard(count, dict(skipped), examples, sums)), layout.record(number))
    return count


# ---- step two: a whole


def put_together(job: Job, layout: StoreLayout, shards: int) -> None:
    """Makes the folder of the shards: repeated pairs, rows beyond the limit and sentences that are too long are left out.

    Raises:
        DataError: nothing is left, or the disk is full.
    """
    counted = Counted(str(job.pair), job.split)
    kept = [np.ones(rows, bool) for rows in tally(layout, shards, counted)]
    if job.split == "train":
        leave_repeated_out(job, layout, kept, counted)
    counted.kept = int(sum(mask.sum() for mask in kept))
    if not counted.kept:
        raise nothing_usable(job.pair, job.split, counted.skipped, counted.examples)
    if job.limit and counted.kept > job.limit:
        counted.skipped[CAPPED] = counted.kept - job.limit
        limit_rows(kept, chosen_rows(job.pair, counted.kept, job.limit))
        counted.kept = job.limit
    written = Path(tempfile.mkdtemp(prefix=f"{layout.folder.name}-", dir=layout.folder.parent))
    try:
        left = 0
        for number, mask in enumerate(kept):
            left += write_shard(job, layout, number, mask, written, counted)
        if not left:
            raise DataError(
                f"{job.pair}, split {job.split!r}: every sentence has more than {job.max_length} tokens (max_length)"
                if TOO_LONG in counted.skipped
                else f"{job.pair}, split {job.split!r}: every sentence holds a special token of the tokenizer"
            )
        save_json(asdict(counted), written / layout.counted.name)
        save_json(asdict(facts_of(token_ids(written), job.tokenizer.pad_token_id)), written / layout.facts.name)
        publish(written, layout.folder)
    except WRITE_ERRORS as error:
        raise full(layout, error) from error
    finally:
        shutil.rmtree(written, ignore_errors=True)
    shutil.rmtree(layout.parts, ignore_errors=True)


def tally(layout: StoreLayout, shards: int, counted: Counted) -> Iterator[int]:
    """Adds up what is known of all shards; how many rows each has."""
    skipped: Counter[str] = Counter()
    for number in range(shards):
        record = typed_json(Shard, layout.record(number))
        counted.rows += record.rows
        skipped.update(record.skipped)
        counted.examples = {**record.examples, **counted.examples}
        yield len(np.load(layout.places(number), mmap_mode="r"))
    counted.skipped = dict(skipped)


def leave_repeated_out(job: Job, layout: StoreLayout, kept: Sequence[NDArray[np.bool_]], counted: Counted) -> None:
    """Takes every pair of texts out that stood before."""
    path = layout.parts / "seen.unfinished"
    seen, repeated, first = KeySet(path), 0, None
    for number, mask in enumerate(kept):
        mask &= seen.add(np.load(layout.keys(number), mmap_mode="r")[0])
        repeated += int((~mask).sum())
        if repeated and first is None:
            first = number * SHARD + int(np.load(layout.places(number))[np.argmin(mask)])
    if first is not None:
        counted.skipped[DUPLICATE] = repeated
        counted.examples[DUPLICATE] = next(islice(job.rows(), first, None)).place
    path.unlink(missing_ok=True)


def limit_rows(kept: Sequence[NDArray[np.bool_]], chosen: NDArray[np.int64]) -> None:
    """Keeps the chosen ones of all rows that are kept."""
    start = 0
    for mask in kept:
        places = np.flatnonzero(mask)
        mine = chosen[(chosen >= start) & (chosen < start + len(places))] - start
        mask[:] = False
        mask[places[mine]] = True
        start += len(places)


def write_shard(job: Job, layout: StoreLayout, number: int, mask: NDArray[np.bool_], written: Path, counted: Counted) -> int:
    """Writes what is kept of a shard; how many rows have token ids."""
    keys = np.load(layout.keys(number), mmap_mode="r")
    np.save(layout.keys(number, written), keys[1:, mask])
    left, start = 0, 0
    skipped = Counter(counted.skipped)
    source, target = layout.ids(number), layout.ids(number, written)
    with (
        pa.memory_map(str(source)) as file,
        pa.OSFile(str(target), "wb") as out,
        pa.ipc.open_stream(file) as stream,
        pa.ipc.new_stream(out, FEATURES.arrow_schema) as sink,
    ):
        for batch in stream:
            lengths = [pc.list_value_length(column).to_numpy(zero_copy_only=False) for column in batch.columns]
            mine = mask[start : start + len(batch)]
            text, short = lengths[0] > 0, np.maximum(*lengths) <= job.max_length
            skipped[SPECIAL] += int((mine & ~text).sum())
            skipped[TOO_LONG] += int((mine & ~short).sum())
            good = mine & text & short
            sink.write_batch(batch if good.all() else batch.filter(pa.array(good)))
            left, start = left + int(good.sum()), start + len(batch)
    counted.skipped = {reason: count for reason, count in skipped.items() if count}
    return left


def full(layout: StoreLayout, error: BaseException) -> DataError:
    """What a disk that cannot be written means here."""
    return DataError(
        f"{layout.folder}: token ids cannot be written ({getattr(error, 'strerror', None) or error}); what is finished stays: "
        "make room and start again, or set HF_DATASETS_CACHE to another folder"
    )


# ---- both


@dataclass(frozen=True)
class Stored:
    """Token ids on disk, and what became of the text.

    Args:
        dataset: with `input_ids` and `labels`, memory-mapped.
        counted: rows by what became of them.
        layout: where they are.
    """

    dataset: datasets.Dataset
    counted: Counted
    layout: StoreLayout

    def row_keys(self) -> Iterator[Keys]:
        """The keys of the text, a shard at a time, a line for each of `KEYS` but the first; memory-mapped."""
        for path in sorted(self.layout.folder.glob("*.keys.npy")):
            yield np.load(path, mmap_mode="r")


def store(job: Job, folder: Path) -> None:
    """Prepares a pair, unless that was done; with other processes that do the same, each shard once.

    Raises:
        DataError: the text breaks a rule, nothing of it is left, or the disk is full.
    """
    layout = StoreLayout(folder)
    if problem := damage(folder) if folder.is_dir() else None:
        logger.warning(f"{folder}: token ids were damaged ({problem}); they are made anew")
        shutil.rmtree(folder)
    while not folder.is_dir():
        try:
            shards = make_shards(job, layout)
            if all(layout.record(number).is_file() for number in range(shards)):
                with leased(layout.lease()) as mine:
                    if mine and not folder.is_dir():
                        put_together(job, layout, shards)
                        return
        except FileNotFoundError:  # another process has put all together in the meantime
            if not folder.is_dir():
                raise
        wait_while(lambda: not folder.is_dir() and alive(layout))


def alive(layout: StoreLayout) -> bool:
    """Whether another process is at work there."""
    return any((since := age(path)) is not None and since < GONE for path in layout.leases)


def opened(folder: Path) -> Stored:
    """What was prepared in a folder."""
    layout = StoreLayout(folder)
    dataset = TokenIds(token_ids(folder).data, typed_json(Facts, layout.facts))
    return Stored(dataset, typed_json(Counted, layout.counted), layout)


def token_ids(folder: Path) -> datasets.Dataset:
    """All shards of a folder as one data set, memory-mapped."""
    tables = [datasets.Dataset.from_file(str(path)) for path in sorted(folder.glob("*.arrow"))]
    return datasets.concatenate_datasets([each for each in tables if len(each)])

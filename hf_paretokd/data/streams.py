"""Micro-batches of text without an end: a bounded buffer is read, sorted, cut and shuffled like a window of text on disk."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from hf_paretokd.data.batches import PairBatches, side_lengths
from hf_paretokd.data.corpus import CHUNK, DataConfig, hub_set, refused
from hf_paretokd.data.encoding import FEATURES, Encoder
from hf_paretokd.data.languages import Direction
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.readers import load_hub, record_row
from hf_paretokd.errors import DataError

logger = logging.get_logger(__name__)
Check = Callable[[str, datasets.Dataset], datasets.Dataset]


@dataclass(frozen=True)
class Mark:
    """Where a buffer begins.

    Args:
        first: number of its first draw.
        buffer: its own number, from 0.
        turn: how often the stream was begun anew.
        state: of the stream there, as its `state_dict` says it; None at its start.
    """

    first: int = 0
    buffer: int = 0
    turn: int = 0
    state: dict[str, Any] | None = None


class StreamBatches:
    """Sentence pairs of a stream of one language pair in micro-batches, in seeded orders within a buffer.

    At its end the stream begins anew. Its own state is kept for the beginning of every buffer, so that a resumed training reads
    one buffer again and no more. It stands where `PairBatches` stands for text whose rows are known; every process reads all of
    the stream.

    Args:
        name: of the pair.
        dataset: rows of `input_ids` and `labels`.
        max_tokens: of a micro-batch; rows that exceed it alone are left out.
        buffer: rows that are read and shuffled together.
        check: gives the rows as they are trained on, or raises what is wrong with them.
        keys: what the orders are seeded with.
    """

    count = sentences = None  # of a pass, which nobody knows
    window = None
    rows: datasets.Dataset
    batches: PairBatches | None
    coming: Mark  # the next buffer

    def __init__(
        self, name: str, dataset: datasets.IterableDataset, max_tokens: int, buffer: int, check: Check, *keys: int | str
    ) -> None:
        self.name, self.dataset, self.max_tokens, self.buffer, self.check = name, dataset, max_tokens, buffer, check
        self.keys, self.warned = keys, False
        self.marks = [Mark()]  # of the present buffer, last, and of earlier ones
        self._stand()

    def rekeyed(self, *keys: int | str) -> "StreamBatches":
        """The same stream from its start, in orders seeded with other keys."""
        return StreamBatches(self.name, self.dataset, self.max_tokens, self.buffer, self.check, *keys)

    def draw(self, number: int) -> Mapping[str, Any]:
        """Columns of draw `number` (from 0).

        Raises:
            DataError: the stream has less than a micro-batch, or rows that nothing can be learnt from.
        """
        if number < self.marks[-1].first:
            self.marks = [mark for mark in self.marks if mark.first <= number] or [Mark()]
            self._stand()
        while self.batches is None or number >= self.coming.first:
            self._read()
        rows: Mapping[str, Any] = self.rows[self.batches.draw(number - self.marks[-1].first)]
        return rows

    def state_dict(self, number: int) -> dict[str, Any]:
        """What a checkpoint keeps that goes on with draw `number`; what was before is forgotten.

        Raises:
            DataError: the stream's state is nothing that can be written.
        """
        while len(self.marks) > 1 and self.marks[1].first <= number:
            self.marks.pop(0)
        try:
            return dict(json.loads(json.dumps(asdict(self.marks[0]))))
        except TypeError as error:
            raise DataError(f"{self.name}: the state of the stream cannot be saved as JSON ({error})") from error

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where a checkpoint was."""
        self.marks = [Mark(**state)]
        self._stand()

    def _begun(self, turn: int) -> datasets.IterableDataset:
        source = copy.deepcopy(self.dataset)
        source.set_epoch(turn)
        return source

    def _stand(self) -> None:
        """Goes to the beginning of the last buffer that is known, without reading it."""
        mark, self.batches = self.marks[-1], None
        self.source = self._begun(mark.turn)
        if mark.state is not None:
            self.source.load_state_dict(copy.deepcopy(mark.state))
        self.reading: Iterator[Mapping[str, Any]] = iter(self.source)

    def _read(self) -> None:
        """Reads the buffer that was gone to, or the one after it."""
        mark = self.marks.pop() if self.batches is None else self.coming
        while not (rows := self._some()):
            if mark.state is None:
                raise DataError(f"{self.name}: the stream has no rows")
            mark = Mark(mark.first, mark.buffer, mark.turn + 1)  # it was at its end
            self.source = self._begun(mark.turn)
            self.reading = iter(self.source)
        self.rows = self._fitting(self.check(self.name, datasets.Dataset.from_list(rows)))
        self.batches = PairBatches(self.name, self.rows, self.max_tokens, *self.keys, "buffer", mark.buffer)
        if len(rows) < self.buffer and not mark.buffer and len(self.batches) == 1:
            raise DataError(
                f"{self.name}: the stream ends after {len(rows)} sentence pairs, in its first micro-batch; give more, or a "
                "datasets.Dataset"
            )
        self.marks.append(mark)
        self.coming = Mark(mark.first + len(self.batches), mark.buffer + 1, mark.turn, copy.deepcopy(self.source.state_dict()))

    def _some(self) -> list[Mapping[str, Any]]:
        """The next rows of the stream.

        Raises:
            DataError: it cannot be read.
        """
        try:
            return list(islice(self.reading, self.buffer))
        except (OSError, ValueError) as error:  # of the network, or of a format
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{self.name}: the stream cannot be read any further ({reason}); resume when it can") from error

    def _fitting(self, rows: datasets.Dataset) -> datasets.Dataset:
        """Rows that a micro-batch holds.

        Raises:
            DataError: there are none.
        """
        longer = np.maximum(*side_lengths(rows.with_format("arrow"), slice(None)))
        kept = np.flatnonzero(longer <= self.max_tokens)
        if len(kept) == len(rows):
            return rows
        if not len(kept):
            raise DataError(f"{self.name}: {len(rows)} rows of the stream are all longer than max_tokens={self.max_tokens}")
        if not self.warned:
            logger.warning(f"{self.name}: rows of the stream that are longer than max_tokens={self.max_tokens} are left out")
            self.warned = True
        return rows.select(kept)


def encoded_stream(
    config: DataConfig, pair: LanguagePair, tokenizer: PreTrainedTokenizerBase, direction: Direction, max_length: int
) -> datasets.IterableDataset:
    """Token ids of the training text of a Hub data set, cleaned and encoded as it comes.

    Args:
        config: names the data set.
        pair: of languages.
        tokenizer: whose ids are wanted.
        direction: what the model is told of the languages.
        max_length: longest side in tokens; longer rows are left out.

    Raises:
        DataError: it cannot be had; while it is read, a row breaks a rule.
    """
    name, part, split = hub_set(config, "train", pair)
    encoder = Encoder(tokenizer, direction)

    def encode(columns: Mapping[str, list[Any]]) -> dict[str, list[list[int]]]:
        records = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        rows = (record_row(record, pair, f"{name}/{split}") for record in records)
        sides = [(row.source.strip(), row.target.strip()) for row in rows]
        good = [each for each in sides if not refused(*each)]
        ids = encoder.batch(*map(list, zip(*good, strict=True))).to_pylist() if good else []
        kept = [row for row in ids if row["input_ids"] and max(len(row["input_ids"]), len(row["labels"])) <= max_length]
        return {column: [row[column] for row in kept] for column in ("input_ids", "labels")}

    rows = load_hub(name, part, split, streaming=True)
    if limit := config.max_sentence_pairs.get(str(pair)):
        rows = rows.take(limit)
    names = rows.column_names or list(next(iter(rows), {}))
    found: datasets.IterableDataset = rows.map(encode, batched=True, batch_size=CHUNK, remove_columns=names, features=FEATURES)
    return found

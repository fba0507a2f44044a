"""Sentences of many requests in common batches."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field

from hf_paretokd.data.languages import Direction
from hf_paretokd.errors import ServingError
from hf_paretokd.inference.ctranslate import Decoder

GONE: ContextVar[threading.Event] = ContextVar("gone")  # set when nobody waits for a request any more


class Overloaded(ServingError):
    """More sentences wait than may."""


class Abandoned(ServingError):
    """Nobody waits for the request any more."""


@dataclass
class Wanted:
    """A sentence that waits for its translation."""

    ids: list[int]
    longest: int
    beams: int
    direction: Direction
    gone: threading.Event
    result: Future[Sequence[int]] = field(default_factory=Future)

    def goes_with(self, other: "Wanted") -> bool:
        """Whether both may be in one batch."""
        return (self.beams, self.direction) == (other.beams, other.direction)


class Batching:
    """A decoder for many threads at once: what waits while a batch is decoded makes the next one, in the order that it came.

    Args:
        decoder: what does the work.
        workers: batches at a time, each in a thread of its own.
        max_tokens: of a batch, padding included.
        most: sentences that may wait.
    """

    def __init__(self, decoder: Decoder, workers: int, max_tokens: int, most: int) -> None:
        self.decoder, self.max_tokens, self.most = decoder, max_tokens, most
        self.waiting: deque[Wanted] = deque()
        self.changed = threading.Condition()
        self.batches, self.sentences = 0, 0  # that were decoded
        for number in range(workers):
            threading.Thread(target=self.work, name=f"decoding-{number}", daemon=True).start()

    def __call__(self, ids: list[list[int]], longest: int, beams: int, direction: Direction) -> Iterator[Sequence[int]]:
        """As any decoder; sentences are queued at once, and waited for when they are asked for.

        Raises:
            Overloaded: too many wait already.
            Abandoned: nobody waits for the request any more.
        """
        gone = GONE.get(None) or threading.Event()
        wanted = [Wanted(each, longest, beams, direction, gone) for each in ids]
        with self.changed:
            if len(self.waiting) + len(wanted) > self.most:
                raise Overloaded(f"{len(self.waiting)} sentences wait already, {self.most} may; try again later")
            self.waiting.extend(wanted)
            self.changed.notify_all()
        return (each.result.result() for each in wanted)

    def take(self) -> list[Wanted]:
        """The next batch, waited for; those that nobody waits for are dropped."""
        with self.changed:
            while True:
                self.changed.wait_for(lambda: self.waiting)
                batch: list[Wanted] = []
                others: deque[Wanted] = deque()
                width = 0
                while self.waiting:
                    each = self.waiting.popleft()
                    if each.gone.is_set():
                        each.result.set_exception(Abandoned("nobody waits for the translation any more"))
                    elif not batch or (
                        each.goes_with(batch[0]) and max(width, len(each.ids)) * (len(batch) + 1) <= self.max_tokens
                    ):
                        batch.append(each)
                        width = max(width, len(each.ids))
                    else:
                        others.append(each)
                self.waiting.extend(others)
                if batch:
                    return batch

    def work(self) -> None:
        """Decodes one batch after the other."""
        while True:
            batch = self.take()
            first, longest = batch[0], max(each.longest for each in batch)
            try:
                found = list(self.decoder([each.ids for each in batch], longest, first.beams, first.direction))
            except Exception as error:  # of one batch: the others go on
                for each in batch:
                    each.result.set_exception(error)
                continue
            self.batches, self.sentences = self.batches + 1, self.sentences + len(batch)
            for each, ids in zip(batch, found, strict=True):
                each.result.set_result(ids)

"""Sentences of many requests in common batches."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from hf_paretokd.data.languages import Direction
from hf_paretokd.errors import ServingError
from hf_paretokd.inference.ctranslate import Decoder
from hf_paretokd.inference.decoding import longest_output

WORTH = 16  # sentences that are decoded together in hardly more time than one


class Overloaded(ServingError):
    """More sentences wait than may."""


class TooMany(ServingError):
    """More sentences at once than may ever wait."""


@dataclass(eq=False)
class Wanted:
    """A sentence that waits for its translation; one whose result was cancelled is not decoded."""

    ids: list[int]
    beams: int
    direction: Direction
    result: asyncio.Future[Sequence[int]]

    def goes_with(self, other: "Wanted") -> bool:
        """Whether both may be in one batch."""
        return (self.beams, self.direction) == (other.beams, other.direction)


class Batching:
    """What waits while batches are decoded makes the next ones. All of it is for one event loop.

    Args:
        decoder: what does the work, in a thread.
        limit: longest output in tokens.
        workers: batches at a time.
        max_tokens: of a batch, padding included.
        most: sentences that may wait.
    """

    def __init__(self, decoder: Decoder, limit: int, workers: int, max_tokens: int, most: int) -> None:
        self.decoder, self.limit, self.max_tokens, self.most = decoder, limit, max_tokens, most
        self.workers = self.idle = workers
        self.pool = ThreadPoolExecutor(workers, "decoding")
        self.waiting: list[Wanted] = []  # the oldest first
        self.batches, self.sentences = 0, 0  # that were decoded

    async def decode(self, ids: Sequence[list[int]], beams: int, direction: Direction) -> list[list[int]]:
        """Target ids of some sentences. Whoever is cancelled while waiting leaves nothing to be done.

        Raises:
            Overloaded, TooMany: too many wait already, or would even if none did.
        """
        loop = asyncio.get_running_loop()
        if len(ids) > self.most:
            raise TooMany(f"{len(ids)} sentences, {self.most} may wait; send less at a time")
        if len(self.waiting) + len(ids) > self.most:
            raise Overloaded(f"{len(self.waiting)} sentences wait already, {self.most} may; try again later")
        wanted = [Wanted(each, beams, direction, loop.create_future()) for each in ids]
        self.waiting += wanted
        loop.call_soon(self.start)  # after all that have come in the meantime
        try:
            return [list(await each.result) for each in wanted]
        finally:
            for each in wanted:
                each.result.cancel()

    def start(self) -> None:
        """Gives idle workers what waits."""
        while self.idle and (batch := self.take()):
            self.idle -= 1
            running = asyncio.get_running_loop().run_in_executor(self.pool, self.made, batch)
            running.add_done_callback(partial(self.finish, batch))

    def take(self) -> list[Wanted]:
        """The next batch, or nothing; those that nobody waits for are dropped.

        It has the sentence that has waited longest, and those whose lengths are nearest to its own: the worker's share of all,
        if that is worth a batch.
        """
        self.waiting = [each for each in self.waiting if not each.result.done()]
        if not self.waiting:
            return []
        first = self.waiting[0]
        alike = [each for each in self.waiting if each.goes_with(first)]
        alike.sort(key=lambda each: abs(len(each.ids) - len(first.ids)))
        batch = self.filled(alike[: max(WORTH, -(-len(alike) // self.workers))])
        chosen = set(batch)
        self.waiting = [each for each in self.waiting if each not in chosen]
        return batch

    def filled(self, candidates: Sequence[Wanted]) -> list[Wanted]:
        """As many of some sentences as fit a batch, the first in any case."""
        width = 0
        for count, each in enumerate(candidates):
            width = max(width, len(each.ids))
            if count and width * (count + 1) > self.max_tokens:
                return list(candidates[:count])
        return list(candidates)

    def made(self, batch: Sequence[Wanted]) -> list[Sequence[int]]:
        """What the decoder makes of a batch, in a thread."""
        ids, first = [each.ids for each in batch], batch[0]
        return list(self.decoder(ids, longest_output(ids, self.limit), first.beams, first.direction))

    def finish(self, batch: Sequence[Wanted], done: asyncio.Future[list[Sequence[int]]]) -> None:
        """Hands out what a batch has come to, and begins the next."""
        self.idle += 1
        error = done.exception()
        for place, each in enumerate(batch):
            if each.result.done():  # whoever wanted it has gone
                continue
            if error:
                each.result.set_exception(error)
            else:
                each.result.set_result(done.result()[place])
        self.batches, self.sentences = self.batches + 1, self.sentences + len(batch)
        self.start()

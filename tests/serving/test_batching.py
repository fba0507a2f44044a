"""Sentences of many requests in common batches."""

import asyncio
import threading

import pytest

from hf_paretokd.data.languages import UNTOLD, Direction
from hf_paretokd.serving import batching as module
from hf_paretokd.serving.batching import Batching, Overloaded

FRENCH, GERMAN = Direction("", "en", "fr"), Direction("", "en", "de")


class Recording:
    """A decoder that reverses ids, and waits for leave before its first batch."""

    def __init__(self):
        self.batches, self.leave = [], threading.Event()

    def __call__(self, ids, longest, beams, direction):
        self.leave.wait(10)
        self.batches.append(([list(each) for each in ids], longest, beams, direction))
        if [13] in ids:
            raise RuntimeError("a bad batch")
        return [each[::-1] for each in ids]


@pytest.fixture
def decoder():
    return Recording()


def told(decoder, asked, workers=1, max_tokens=100, most=100, before=lambda *_: None):
    """What requests get that wait while a worker is busy with another: (ids, beams, direction) each."""

    async def all_of_them():
        batching = Batching(decoder, 50, workers, max_tokens, most)
        busy = [asyncio.ensure_future(batching.decode([[1]], 1, UNTOLD)) for _ in range(workers)]
        await asyncio.sleep(0.05)
        tasks = [asyncio.ensure_future(batching.decode(*each)) for each in asked]
        await asyncio.sleep(0.05)
        before(*tasks)
        await asyncio.sleep(0)
        decoder.leave.set()
        await asyncio.gather(*busy)
        return await asyncio.gather(*tasks, return_exceptions=True), batching

    return asyncio.run(all_of_them())


def test_what_waits_while_a_batch_is_decoded_makes_the_next_one(decoder):
    asked = [([[number, 7], [number]], 1, UNTOLD) for number in range(3)]
    found, batching = told(decoder, asked, max_tokens=12)
    assert found == [[[7, number], [number]] for number in range(3)]
    assert [len(batch[0]) for batch in decoder.batches] == [1, 6], "six of two tokens are twelve"
    assert (batching.batches, batching.sentences, batching.idle) == (2, 7, 1)
    assert decoder.batches[1][1] == 24, "twice the source and 20"


def test_batches_are_filled_with_what_is_as_long_and_not_overfilled(decoder):
    found, _ = told(decoder, [([[1, 2, 3], [4] * 4, [8], [9] * 7, [5, 6]], 1, UNTOLD)], max_tokens=6)
    assert found == [[[3, 2, 1], [4] * 4, [8], [9] * 7, [6, 5]]]
    assert [batch[0] for batch in decoder.batches[1:]] == [[[1, 2, 3]], [[4] * 4], [[8], [5, 6]], [[9] * 7]]


def test_workers_share_what_is_worth_sharing(decoder, monkeypatch):
    """The two that came first are a batch; of the six others the idle worker takes half, and the other what is left by twos."""
    monkeypatch.setattr(module, "WORTH", 2)
    told(decoder, [([[number] for number in range(6)], 1, UNTOLD)], workers=2)
    assert sorted(len(batch[0]) for batch in decoder.batches) == [1, 2, 2, 3]


def test_beams_and_languages_are_kept_apart(decoder):
    asked = [([[0]], 1, FRENCH), ([[1]], 4, FRENCH), ([[2]], 1, GERMAN), ([[3]], 1, FRENCH)]
    found, _ = told(decoder, asked)
    assert found == [[[0]], [[1]], [[2]], [[3]]]
    assert [(batch[0], *batch[2:]) for batch in decoder.batches[1:]] == [
        ([[0], [3]], 1, FRENCH),
        ([[1]], 4, FRENCH),
        ([[2]], 1, GERMAN),
    ]


def test_more_than_may_wait_is_refused_at_once(decoder):
    found, _ = told(decoder, [([[1], [2]], 1, UNTOLD), ([[1], [2]], 1, UNTOLD)], most=3)
    assert found[0] == [[1], [2]]
    assert isinstance(found[1], Overloaded)
    assert str(found[1]) == "2 sentences wait already, 3 may; try again later"


def test_what_nobody_waits_for_is_not_decoded(decoder):
    found, batching = told(decoder, [([[5], [6]], 1, UNTOLD), ([[7]], 1, UNTOLD)], before=lambda first, _: first.cancel())
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1] == [[7]]
    assert [batch[0] for batch in decoder.batches] == [[[1]], [[7]]]
    assert batching.waiting == []


def test_a_batch_that_fails_fails_alone(decoder):
    found, batching = told(decoder, [([[13]], 1, FRENCH), ([[2]], 1, GERMAN)])
    assert str(found[0]) == "a bad batch"
    assert found[1] == [[2]]
    assert batching.idle == 1

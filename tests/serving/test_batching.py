"""Sentences of many threads in common batches."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hf_paretokd.data.languages import UNTOLD, Direction
from hf_paretokd.serving.batching import GONE, Abandoned, Batching, Overloaded


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


def waiting(batching, count):
    """Until so many sentences are queued."""
    end = time.monotonic() + 10
    while len(batching.waiting) != count and time.monotonic() < end:
        time.sleep(0.005)
    assert len(batching.waiting) == count


def begin(batching, pool, decoder):
    """Keeps the worker busy with one sentence, so that others have to wait."""
    first = pool.submit(lambda: list(batching([[1]], 5, 1, UNTOLD)))
    waiting(batching, 0)
    return first


def test_what_waits_while_a_batch_is_decoded_makes_the_next_one(decoder):
    batching = Batching(decoder, 1, max_tokens=12, most=100)
    with ThreadPoolExecutor(8) as pool:
        first = begin(batching, pool, decoder)
        others = [
            pool.submit(lambda number=number: list(batching([[number, 7], [number]], 9, 1, UNTOLD))) for number in range(3)
        ]
        waiting(batching, 6)
        decoder.leave.set()
        assert first.result() == [[1]]
        assert [each.result() for each in others] == [[[7, number], [number]] for number in range(3)]
    sizes = [len(batch[0]) for batch in decoder.batches]
    assert sizes == [1, 6], "six of two tokens are twelve"
    assert (batching.batches, batching.sentences) == (2, 7)
    assert decoder.batches[1][1] == 9


def test_batches_are_filled_and_not_overfilled(decoder):
    batching = Batching(decoder, 1, max_tokens=6, most=100)
    with ThreadPoolExecutor(2) as pool:
        begin(batching, pool, decoder)
        found = pool.submit(lambda: list(batching([[1, 2, 3], [4, 5, 6, 7], [8], [9, 9, 9, 9, 9, 9, 9]], 9, 1, UNTOLD)))
        waiting(batching, 4)
        decoder.leave.set()
        assert found.result() == [[3, 2, 1], [7, 6, 5, 4], [8], [9] * 7]
    assert [batch[0] for batch in decoder.batches[1:]] == [[[1, 2, 3], [8]], [[4, 5, 6, 7]], [[9] * 7]], "one too long is alone"


def test_beams_and_languages_are_kept_apart(decoder):
    batching = Batching(decoder, 1, max_tokens=100, most=100)
    french, german = Direction("", "en", "fr"), Direction("", "en", "de")
    with ThreadPoolExecutor(8) as pool:
        begin(batching, pool, decoder)
        asked = [(1, french), (4, french), (1, german), (1, french)]
        found = []
        for number, (beams, direction) in enumerate(asked):
            found.append(pool.submit(lambda n=number, b=beams, d=direction: list(batching([[n]], 9, b, d))))
            waiting(batching, number + 1)
        decoder.leave.set()
        assert [each.result() for each in found] == [[[0]], [[1]], [[2]], [[3]]]
    assert [(batch[0], batch[2], batch[3]) for batch in decoder.batches[1:]] == [
        ([[0], [3]], 1, french),
        ([[1]], 4, french),
        ([[2]], 1, german),
    ]


def test_more_than_may_wait_is_refused_at_once(decoder):
    batching = Batching(decoder, 1, max_tokens=100, most=3)
    with ThreadPoolExecutor(2) as pool:
        begin(batching, pool, decoder)
        kept = pool.submit(lambda: list(batching([[1], [2]], 9, 1, UNTOLD)))
        waiting(batching, 2)
        with pytest.raises(Overloaded, match="2 sentences wait already, 3 may; try again later"):
            batching([[1], [2]], 9, 1, UNTOLD)
        decoder.leave.set()
        assert kept.result() == [[1], [2]]


def test_what_nobody_waits_for_is_not_decoded(decoder):
    batching = Batching(decoder, 1, max_tokens=100, most=100)
    gone = threading.Event()

    def ask():
        GONE.set(gone)
        return list(batching([[5], [6]], 9, 1, UNTOLD))

    with ThreadPoolExecutor(3) as pool:
        begin(batching, pool, decoder)
        left = pool.submit(ask)
        waiting(batching, 2)
        kept = pool.submit(lambda: list(batching([[7]], 9, 1, UNTOLD)))
        waiting(batching, 3)
        gone.set()
        decoder.leave.set()
        with pytest.raises(Abandoned):
            left.result()
        assert kept.result() == [[7]]
    assert [batch[0] for batch in decoder.batches] == [[[1]], [[7]]]


def test_a_batch_that_fails_fails_alone(decoder):
    decoder.leave.set()
    batching = Batching(decoder, 1, max_tokens=1, most=100)
    assert list(batching([[1]], 9, 1, UNTOLD)) == [[1]]
    with pytest.raises(RuntimeError, match="a bad batch"):
        list(batching([[13]], 9, 1, UNTOLD))
    assert list(batching([[2]], 9, 1, UNTOLD)) == [[2]]

"""Budgets: the best, the smallest, and what comes nearest when nothing fits."""

import pytest

from hf_paretokd.delivery.choice import Budget, Candidate, choose
from hf_paretokd.errors import ModelError
from hf_paretokd.evaluation.latency import Cost, Protocol, measure_latencies, read_costs, spaced_by_length, write_costs
from hf_paretokd.evaluation.outputs import System

FAMILY = [
    Candidate(System("student", depth), milliseconds, megabytes, bleu)
    for depth, milliseconds, megabytes, bleu in (
        ("6-6", 60.0, 13.2, 36.0),
        ("6-2", 28.0, 9.0, 34.5),
        ("4-2", 27.0, 7.5, 34.5),
        ("2-2", 25.0, 5.8, 33.0),
    )
]


def chosen(prefer: str | None = None, **limits: float) -> str | None:
    found = choose(FAMILY, Budget(**limits), prefer).chosen
    return found and found.system.depth


def test_the_best_under_limits_of_time_and_size_the_smallest_under_one_of_quality():
    assert chosen() == "6-6"
    assert chosen(max_ms=30) == "4-2", "as good as 6-2 and smaller"
    assert chosen(max_ms=30, max_mb=6) == "2-2"
    assert chosen(min_bleu=34) == "4-2"
    assert chosen(min_bleu=30) == "2-2"
    assert chosen(max_ms=30, min_bleu=30) == "4-2"
    assert chosen("smallest", max_ms=30, min_bleu=30) == "2-2"
    assert chosen("fastest", min_bleu=34) == "4-2"
    assert chosen(max_ms=60.0, max_mb=13.2, min_bleu=36.0) == "6-6", "limits themselves are allowed"


def test_when_nothing_fits_the_nearest_says_what_it_lacks():
    found = choose(FAMILY, Budget(max_ms=26, min_bleu=36))
    assert found.chosen is None
    assert found.nearest.system.depth == "4-2", "4 % too slow and 4 % too bad; 2-2 is 8 % too bad"
    assert found.misses == ["27.0 ms instead of 26", "34.5 BLEU instead of 36"]
    with pytest.raises(ModelError, match="--max-ms: 0 is not positive"):
        choose(FAMILY, Budget(max_ms=0))
    with pytest.raises(ModelError, match="--prefer: 'cheapest'"):
        choose(FAMILY, Budget(), "cheapest")


def test_latencies_are_medians_of_medians_and_models_take_turns(monkeypatch):
    from hf_paretokd import timing

    calls = []

    def decoder(name: str, seconds: float):
        def decode(ids, longest, beams):
            calls.append((name, len(ids[0]), longest))
            decode.took = seconds * len(ids[0])
            return [[0]]

        return decode

    decoders = {"slow": decoder("slow", 3.0), "fast": decoder("fast", 1.0)}

    def timed(action):
        action()
        return decoders[calls[-1][0]].took

    monkeypatch.setattr(timing, "timed", timed)
    found = measure_latencies(decoders, [[1] * 2, [1] * 4, [1] * 9], limit=20, num_beams=1)
    assert found == {"slow": 12000.0, "fast": 4000.0}
    assert [name for name, length, _ in calls if length == 2] == ["slow", "fast"] * 4, "one turn does not count"
    assert {longest for _, _, longest in calls} == {20}


def test_measured_sentences_are_spaced_over_the_lengths(monkeypatch):
    monkeypatch.setattr("hf_paretokd.evaluation.latency.SENTENCES", 3)
    assert [len(ids) for ids in spaced_by_length([[1] * length for length in (9, 1, 5, 3, 7)])] == [1, 5, 9]
    assert len(spaced_by_length([[1]])) == 1


def test_costs_come_back_from_disk(tmp_path):
    protocol = Protocol("transformers", "float32", 1, 20, 3, 2, "a processor")
    costs = {System("student", "6-2"): Cost(28.0, 9.0), System("peer", "6-6", 2): Cost(60.0, 13.0)}
    write_costs(protocol, costs, tmp_path / "latency.json")
    assert read_costs(tmp_path / "latency.json") == (protocol, costs)
    assert str(protocol).startswith(
        "generate, float32, greedy, one sentence at a time, median of 20 sentences and 3 turns, 2 thr"
    )
    assert read_costs(tmp_path / "none.json") is None

from hf_paretokd.data.languages import UNTOLD
from hf_paretokd.evaluation.latency import (
    Cost,
    Protocol,
    Translator,
    measure_latencies,
    read_costs,
    spaced_by_length,
    write_costs,
)
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.member import Member


def test_latencies_are_medians_of_medians_and_models_take_turns(monkeypatch):
    from hf_paretokd.utils import timing

    calls = []

    def decoder(name: str, seconds: float):
        def decode(ids, longest, beams, direction):
            assert direction == UNTOLD
            calls.append((name, len(ids[0]), longest))
            decode.took = seconds * len(ids[0])
            return [[0]]

        return decode

    sources = [([1] * length, UNTOLD) for length in (2, 4, 9)]
    decoders = {"slow": decoder("slow", 3.0), "fast": decoder("fast", 1.0)}

    def timed(action):
        action()
        return decoders[calls[-1][0]].took

    monkeypatch.setattr(timing, "timed", timed)
    found = measure_latencies({name: Translator(decode, sources, 20) for name, decode in decoders.items()}, num_beams=1)
    assert found == {"slow": 12000.0, "fast": 4000.0}
    assert [name for name, length, _ in calls if length == 2] == ["slow", "fast"] * 4, "one turn does not count"
    assert {longest for _, _, longest in calls} == {20}


def test_measured_sentences_are_spaced_over_the_lengths(monkeypatch):
    monkeypatch.setattr("hf_paretokd.evaluation.latency.SENTENCES", 3)
    sources = [([1] * length, UNTOLD) for length in (9, 1, 5, 3, 7)]
    assert [len(sources[row][0]) for row in spaced_by_length(sources)] == [1, 5, 9]
    assert spaced_by_length(sources[:1]) == [0]


def test_costs_come_back_from_disk(tmp_path):
    protocol = Protocol("transformers", "float32", 1, 20, 3, 2, "a processor")
    costs = {Member("student", Depth(6, 2)): Cost(28.0, 9.0), Member("peer", Depth(6, 6), 2): Cost(60.0, 13.0)}
    write_costs(protocol, costs, tmp_path / "latency.json")
    assert read_costs(tmp_path / "latency.json") == (protocol, costs)
    assert str(protocol).startswith(
        "generate, float32, greedy, one sentence at a time, median of 20 sentences and 3 turns, 2 thr"
    )
    assert read_costs(tmp_path / "none.json") is None

import json

from hf_paretokd.evaluation.frontier import FrontierPoint, frontier_points, hull, undominated, write_frontier
from hf_paretokd.evaluation.results import AVERAGE, HIGH, LOW, ResultRow


def point(name, high, low):
    return FrontierPoint("run", name, high, low, (high + low) / 2)


def test_the_frontier_and_its_hull():
    best = [point("a", 1, 9), point("b", 5, 8), point("c", 6, 5), point("d", 9, 1)]
    rest = [point("e", 1, 8), point("f", 4, 4), point("g", 9, 0)]
    assert undominated([*rest, *reversed(best)]) == best
    assert [corner.name for corner in hull([*rest, *best])] == ["a", "b", "d"], "c lies inside"
    assert undominated([point("a", 1, 1), point("b", 1, 1)])[0].high == 1, "equals do not beat each other"
    assert len(hull([point("a", 1, 2)])) == 1


def test_frontier_points_of_a_run(tmp_path):
    rows = [
        ResultRow("peer", "2-2", peer, pair, "test", "bleu", value + peer)
        for peer in (1, 2)
        for pair, value in ((AVERAGE, 20.0), (HIGH, 30.0), (LOW, 10.0), ("fr-en", 31.0))
    ]
    points = frontier_points("run", rows, "test")
    assert [(each.name, each.high, each.low, each.average) for each in points] == [
        ("peer 1", 31.0, 11.0, 21.0),
        ("peer 2", 32.0, 12.0, 22.0),
    ]
    assert frontier_points("run", rows, "validation") == []
    write_frontier(points, "test", "bleu", tmp_path / "frontier.json")
    content = json.loads((tmp_path / "frontier.json").read_text())
    assert [each["on_frontier"] for each in content["points"]] == [False, True]
    assert content["hull"] == [[32.0, 12.0]]

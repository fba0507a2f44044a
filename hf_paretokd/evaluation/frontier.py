"""The trade-off between high- and low-resource pairs: which models no other beats in both."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from hf_paretokd.evaluation.results import AVERAGE, HIGH, LOW, ResultRow, called, sampled_by
from hf_paretokd.layout import PEER
from hf_paretokd.models.member import Member, distinct
from hf_paretokd.utils.files import save_json

Item = TypeVar("Item")


@dataclass(frozen=True)
class FrontierPoint:
    """One model's averages over HRL, LRL and all pairs; `family` is the run it comes from."""

    family: str
    name: str
    high: float
    low: float
    average: float


def frontier_points(family: str, rows: Iterable[ResultRow], split: str, metric: str = "bleu") -> list[FrontierPoint]:
    """A point for every model of a run whose pairs were grouped."""
    rows = list(rows)
    found: dict[Member, dict[str, float]] = {}
    for row in rows:
        if row.split == split and row.metric == metric and row.pair in (AVERAGE, HIGH, LOW):
            found.setdefault(row.member, {})[row.pair] = row.value
    points, sampled = [], sampled_by(rows)
    for member in distinct(found):
        values = found[member]
        if {HIGH, LOW, AVERAGE} <= set(values):
            name = called(member, sampled)
            name = name.removeprefix(f"{member.depth} ") if member.kind == PEER else name  # peers are of one depth
            points.append(FrontierPoint(family, name, values[HIGH], values[LOW], values[AVERAGE]))
    return points


def unbeaten(items: Sequence[Item], gains: Callable[[Item], tuple[float, ...]]) -> list[Item]:
    """The items whose `gains` (the more the better) no other equals or beats in all, beating them in one."""

    def beaten(own: tuple[float, ...]) -> bool:
        return any(other != own and all(left >= right for left, right in zip(other, own, strict=True)) for other in every)

    every = [gains(item) for item in items]
    return [item for item, own in zip(items, every, strict=True) if not beaten(own)]


def undominated(points: Sequence[FrontierPoint]) -> list[FrontierPoint]:
    """The points that no other equals or beats in both directions (beating it in one), by ascending HRL average."""
    best = unbeaten(points, lambda point: (point.high, point.low))
    return sorted(best, key=lambda point: (point.high, -point.low))


def hull(points: Sequence[FrontierPoint]) -> list[FrontierPoint]:
    """The corners of the upper right convex hull, by ascending HRL average."""
    corners: list[FrontierPoint] = []
    for point in undominated(points):
        while len(corners) > 1 and not turns_right(corners[-2], corners[-1], point):
            corners.pop()
        corners.append(point)
    return corners


def turns_right(first: FrontierPoint, middle: FrontierPoint, last: FrontierPoint) -> bool:
    """Whether the way over three points bends outwards at the middle one."""
    run, rise = middle.high - first.high, middle.low - first.low
    return run * (last.low - first.low) - rise * (last.high - first.high) < 0


def write_frontier(points: Sequence[FrontierPoint], split: str, metric: str, path: Path) -> None:
    """Writes `frontier.json`: all points, whether another beats them, and the corners of the hull."""
    best, corners = undominated(points), hull(points)
    content = {
        "split": split,
        "metric": metric,
        "points": [{**asdict(point), "on_frontier": point in best} for point in points],
        "hull": [[point.high, point.low] for point in corners],
    }
    save_json(content, path)

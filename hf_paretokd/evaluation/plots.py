"""Pictures of a run; matplotlib comes with the extra `plot`."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hf_paretokd.evaluation.bootstrap import Difference, Estimate
from hf_paretokd.evaluation.frontier import FrontierPoint, hull
from hf_paretokd.utils.files import write_whole

TRAINING_LINES = re.compile(r"loss_teacher|loss_students|(peer\d+_)?nll")
WIDTH, DPI, SMALL = 4.8, 220, 8  # inches, dots an inch, points of the smaller letters
COLOURS, STRIP = 10, 0.11  # that are told apart; inches of a strip
MARKERS = "os^Dv"  # of peers
LETTERS = 60  # of a legend's line
NAMED_LOSS = re.compile(r"(?:eval_)?(?:peer(?P<peer>\d+)_)?(?:nll|loss)(?:_(?P<what>.+))?")
VALIDATION_LINES = re.compile(r"eval_((peer\d+_)?loss_\d+-\d+|peer\d+_loss)")  # of models; their mean has no number


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def plot_frontier(points: Sequence[FrontierPoint], metric: str, path: Path) -> None:
    """HRL against LRL averages of all models, one colour a run, with the hull of all and that of each run of several."""
    figure, (axes,) = new_figure()
    families = list(dict.fromkeys(point.family for point in points))
    for number, family in enumerate(families):
        mine = [point for point in points if point.family == family]
        colour = f"C{number % 10}"
        axes.scatter([p.high for p in mine], [p.low for p in mine], color=colour, label=literal(shortened(family)), zorder=3)
        if len(mine) > 1:
            corners = hull(mine)
            axes.plot([p.high for p in corners], [p.low for p in corners], color=colour, linewidth=1)
            for point in mine:
                axes.annotate(point.name, (point.high, point.low), textcoords="offset points", xytext=(5, 4), fontsize=SMALL)
    corners = hull(points)
    if len(corners) > 1:
        axes.plot([p.high for p in corners], [p.low for p in corners], color="0.85", linewidth=6, label="hull", zorder=1)
    axes.set_xlabel(f"{label(metric)}, mean over high-resource pairs")
    axes.set_ylabel(f"{label(metric)}, mean over low-resource pairs")
    legend_above(axes)
    axes.margins(0.16, 0.12)
    finish(figure, path)


@dataclass(frozen=True)
class Decision:
    """Distillation weights α_i[ℓ] from an update on: by pair, a mapping for each peer."""

    update: int
    weights: list[dict[str, float]]


def plot_weights(
    history: Sequence[Decision],
    path: Path,
    last_update: int | None = None,
    sampled: Sequence[str] = (),
    what: str = "α",
) -> None:
    """α_i[ℓ] over updates, a panel for each peer, drawn on to the end of the training: a line for each pair, of many a strip.

    The same of the shares in which pairs are drawn.

    Args:
        history: all decisions.
        path: where the picture goes.
        last_update: of the training.
        sampled: what every peer samples by.
        what: the weights are.
    """
    from matplotlib.ticker import MaxNLocator

    pairs = list(history[0].weights[0])
    strips = len(pairs) > COLOURS
    figure, panels = new_figure(len(history[0].weights), height=STRIP * len(pairs) if strips else None)
    updates = [entry.update for entry in history]
    end = max(updates[-1], last_update or 0)
    for peer, axes in enumerate(panels):
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        how = f" ({sampled[peer]})" if peer < len(sampled) else ""
        axes.set_ylabel(f"{what} of peer {peer + 1}{how}" if len(panels) > 1 else f"{what}{how}")
        values = [[entry.weights[peer][pair] for entry in history] for pair in pairs]
        if strips:
            edges = [*updates, max(end, updates[-1] + 1)]
            mesh = axes.pcolormesh(edges, range(len(pairs) + 1), values, cmap="Blues", vmin=0, vmax=1)
            axes.set_yticks([row + 0.5 for row in range(len(pairs))], pairs, fontsize=SMALL - 2)
            axes.invert_yaxis()
            figure.colorbar(mesh, ax=axes, label=what, location="top", shrink=0.6)
            continue
        for number, (pair, mine) in enumerate(zip(pairs, values, strict=True)):
            axes.step([*updates, end], [*mine, mine[-1]], where="post", color=f"C{number}", label=pair)
            axes.plot(updates, mine, ".", color=f"C{number}")
        axes.set_ylim(-0.03, 1.03 if what == "α" else 1.1 * max(map(max, values)))
    panels[-1].set_xlabel("update")
    if not strips:
        legend_above(panels[0])
    finish(figure, path)


@dataclass(frozen=True)
class Tradeoff:
    """A model of the picture of quality against cost; `equal` says that it is equal to the best within noise."""

    name: str
    family: str  # models of one have the same marker
    cost: float
    score: Estimate
    equal: bool


def plot_tradeoff(models: Sequence[Tradeoff], cost: str, path: Path) -> None:
    """BLEU against what models cost, with 95 % intervals; those that are equal to the best within noise stand out.

    Args:
        models: the models.
        cost: what is counted, such as `megabytes on disk`.
        path: where the picture goes.
    """
    figure, (axes,) = new_figure()
    ranked = sorted(models, key=lambda each: each.cost)
    families = list(dict.fromkeys(each.family for each in sorted(models, key=lambda each: each.family)))
    for family in families:
        for equal, colour, text in ((True, "C0", "equal to the best within noise"), (False, "0.6", "worse")):
            mine = [each for each in ranked if each.equal == equal and each.family == family]
            if not mine:
                continue
            spread = list(zip(*(each.score.spread for each in mine), strict=True))
            places = ([each.cost for each in mine], [each.score.value for each in mine])
            marker, label = MARKERS[families.index(family) % len(MARKERS)], f"{family}: {text}" if family else text
            axes.errorbar(*places, yerr=spread, fmt=marker, color=colour, label=label, capsize=2, linewidth=1, markersize=5)
    above = labelled([each.cost for each in ranked])
    for each, over in zip(ranked, above, strict=True):
        if over is None:
            continue
        place, end, side = ((0, 4), each.score.high, "bottom") if over else ((0, -4), each.score.low, "top")
        style = {"textcoords": "offset points", "rotation": 90, "fontsize": SMALL, "color": "C0" if each.equal else "0.4"}
        axes.annotate(each.name, (each.cost, end), xytext=place, ha="center", va=side, **style)
    axes.set_xlabel(cost)
    axes.set_ylabel("BLEU, 95 % interval")
    legend_above(axes)
    axes.margins(0.12, 0.22)
    finish(figure, path)


def labelled(places: Sequence[float], near: float = 0.04) -> list[bool | None]:
    """Where labels of points go that stand in order: above or below in turns; None for those that would cover another.

    Args:
        places: of the points, ascending.
        near: share of the axis that a label takes.
    """
    room = near * (places[-1] - places[0]) if places else 0.0
    last = {True: -math.inf, False: -math.inf}
    found: list[bool | None] = []
    for place in places:
        free = [side for side in sorted(last, key=lambda each: (last[each], not each)) if place - last[side] >= room]
        found.append(free[0] if free else None)
        if free:
            last[free[0]] = place
    return found


@dataclass(frozen=True)
class Scored:
    """A model of a system: its score, how it differs from the baseline's, and what it cost, if it is a point of the picture."""

    system: str
    model: str
    score: Estimate
    difference: Difference | None
    cost: float | None


def plot_systems(scored: Sequence[Scored], metric: str, unit: str, baseline: str, path: Path) -> None:
    """Scores against cost with 95 % intervals, one colour a system, and beside them the differences from the baseline."""
    names = list(dict.fromkeys(each.system for each in scored))
    compared = [each for each in scored if each.difference]
    figure, panels = new_figure(2 if compared else 1, shared=False)
    axes = panels[0]
    for number, name in enumerate(names):
        mine = [each for each in scored if each.system == name and each.cost is not None]
        spread = list(zip(*(each.score.spread for each in mine), strict=True))
        places = ([each.cost for each in mine], [each.score.value for each in mine])
        axes.errorbar(
            *places, yerr=spread, fmt="o", color=f"C{number % 10}", label=literal(shortened(name)), capsize=2, linewidth=1
        )
        for each in mine:
            style = {"textcoords": "offset points", "xytext": (5, 0), "va": "center", "fontsize": SMALL}
            axes.annotate(each.model, (each.cost, each.score.value), color=f"C{number % 10}", **style)
    axes.set_xlabel(unit)
    axes.set_ylabel(metric)
    legend_above(axes)
    axes.margins(0.15)
    if compared:
        draw_differences(panels[1], compared, names, f"{metric}, less that of {literal(shortened(baseline))}")
    finish(figure, path)


def draw_differences(axes: Any, compared: Sequence[Scored], names: Sequence[str], title: str) -> None:
    """A line for each difference with its 95 % interval, from top to bottom."""
    for row, each in enumerate(compared):
        found = each.difference
        if found:
            spread = [[side] for side in found.spread]
            colour = f"C{names.index(each.system) % 10}"
            axes.errorbar([found.value], [row], xerr=spread, fmt="o", color=colour, capsize=2, linewidth=1)
    axes.axvline(0.0, color="0.5", linewidth=1)
    axes.set_yticks(
        range(len(compared)), [literal(shortened(f"{each.system}: {each.model}")) for each in compared], fontsize=SMALL
    )
    axes.invert_yaxis()
    axes.set_xlabel(title)


def plot_losses(log: Sequence[Mapping[str, Any]], training: Path, validation: Path, best: float | None = None) -> None:
    """Cross-entropies over updates, a line for each model.

    Args:
        log: lines of the training log.
        training, validation: where the pictures go.
        best: the update whose validation was best, by the figure that decided.
    """
    trained = [line for line in log if "loss" in line and "learning_rate" in line]
    plot_curves(trained, [name for name in last_names(trained) if TRAINING_LINES.fullmatch(name)], "training", training)
    validated = [line for line in log if "eval_loss" in line]
    several = [name for name in last_names(validated) if VALIDATION_LINES.fullmatch(name)]
    plot_curves(validated, several or ["eval_loss"], "validation", validation, best)


def curve_name(figure: str) -> str:
    """What a figure of the log is of: `teacher`, `students, mean`, `6-2`, `peer 1, 6-2`; `model` if it says nothing."""
    of = NAMED_LOSS.fullmatch(figure)
    peer, what = (of["peer"], of["what"]) if of else (None, figure)
    parts = [f"peer {peer}" if peer else "", {"students": "students, mean"}.get(what or "", what or "")]
    return ", ".join(part for part in parts if part) or "model"


def last_names(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The figures of the last line."""
    return list(lines[-1]) if lines else []


def plot_curves(
    lines: Sequence[Mapping[str, Any]], names: Sequence[str], title: str, path: Path, best: float | None = None
) -> None:
    """Figures over updates, if there are any, and where the best was."""
    if not lines or not names:
        return
    figure, (axes,) = new_figure()
    for number, name in enumerate(names):
        values = [
            (line["step"], line[name])
            for line in lines
            if all(isinstance(line.get(key), float | int) for key in ("step", name))
        ]
        colour = f"C{number}" if len(names) <= 10 else gradient(number / (len(names) - 1))
        axes.plot(
            [step for step, _ in values],
            [value for _, value in values],
            color=colour,
            label=curve_name(name),
            linewidth=1.3,
        )
    if best is not None:
        axes.axvline(best, color="0.6", linestyle=":", linewidth=1, label="best")
    axes.set_xlabel("update")
    axes.set_ylabel(f"{title}, nats a token")
    legend_above(axes)
    finish(figure, path)


def gradient(share: float) -> Any:
    """A colour between the first and the last of a family of lines."""
    from matplotlib import colormaps

    return colormaps["viridis"](0.9 * share)


def literal(name: str) -> str:
    """A name as it is: dollars would begin a formula, and a legend leaves names out that begin with `_`."""
    return ("\u200b" if name.startswith("_") else "") + name.replace("$", r"\$")


def shortened(name: str, most: int = 26) -> str:
    """The end of a long name, such as a path."""
    return name if len(name) <= most else f"…{name[1 - most :]}"


def label(metric: str) -> str:
    """The metric as it is written."""
    return {"bleu": "BLEU", "chrf": "chrF"}.get(metric, metric)


def new_figure(rows: int = 1, shared: bool = True, height: float | None = None) -> tuple[Any, Sequence[Any]]:
    """A figure of panels below each other, drawn without a display; they have the same horizontal axis if it is shared.

    Every panel may be given a height, in inches.

    It is as wide as a telephone shows it, so that the letters can be read there.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(WIDTH, (height + 1) * rows if height else 0.75 * WIDTH * rows**0.85), dpi=DPI, layout="constrained"
    )
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, 1, sharex=shared, squeeze=False)[:, 0].tolist()


def legend_above(axes: Any) -> None:
    """The legend above the panel, where it covers nothing."""
    _, names = axes.get_legend_handles_labels()
    columns = max(1, min(len(names), LETTERS // (9 + max(map(len, names), default=0))))
    axes.legend(fontsize=SMALL, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, columnspacing=1.2)


def finish(figure: Any, path: Path) -> None:
    """Writes the picture without grid noise on two sides."""
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = io.BytesIO()
    figure.savefig(picture)
    write_whole(path, picture.getvalue())

"""Pictures of a run; matplotlib comes with the extra `plot`."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hf_paretokd.evaluation.frontier import FrontierPoint, hull


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
        axes.scatter([p.high for p in mine], [p.low for p in mine], color=colour, label=family, zorder=3)
        if len(mine) > 1:
            corners = hull(mine)
            axes.plot([p.high for p in corners], [p.low for p in corners], color=colour, linewidth=1)
            for point in mine:
                axes.annotate(point.name, (point.high, point.low), textcoords="offset points", xytext=(5, 4), fontsize=8)
    corners = hull(points)
    axes.plot([p.high for p in corners], [p.low for p in corners], color="0.85", linewidth=6, label="hull", zorder=1)
    axes.set_xlabel(f"{label(metric)}, mean over high-resource pairs")
    axes.set_ylabel(f"{label(metric)}, mean over low-resource pairs")
    axes.legend(fontsize=8)
    axes.margins(0.12)
    finish(figure, path)


def plot_weights(history: Sequence[Mapping[str, Any]], path: Path, last_update: int | None = None) -> None:
    """α_i[ℓ] over updates, a panel for each peer and a line for each pair, drawn on to the end of the training."""
    from matplotlib.ticker import MaxNLocator

    figure, panels = new_figure(columns=len(history[0]["weights"]))
    updates = [entry["update"] for entry in history]
    end = max(updates[-1], last_update or 0)
    for peer, axes in enumerate(panels):
        for number, pair in enumerate(history[0]["weights"][peer]):
            values = [entry["weights"][peer][pair] for entry in history]
            axes.step([*updates, end], [*values, values[-1]], where="post", color=f"C{number % 10}", label=pair)
            axes.plot(updates, values, ".", color=f"C{number % 10}")
        axes.set_title(f"peer {peer + 1}")
        axes.set_xlabel("update")
        axes.set_ylim(-0.03, 1.03)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    panels[0].set_ylabel("distillation weight α")
    panels[-1].legend(fontsize=8)
    finish(figure, path)


def label(metric: str) -> str:
    """The metric as it is written."""
    return {"bleu": "BLEU", "chrf": "chrF"}.get(metric, metric)


def new_figure(columns: int = 1) -> tuple[Any, Sequence[Any]]:
    """A figure with one row of panels, drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.0 + 4.4 * columns, 4.4), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, sharey=True, squeeze=False)[0]


def finish(figure: Any, path: Path) -> None:
    """Writes the picture without grid noise on two sides."""
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)

"""What a study of this folder has kept: rows of its runs, their validations, BLEU of resampled sentences."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from study import kept

from hf_paretokd.evaluation.bootstrap import Difference, Scores, mean
from hf_paretokd.evaluation.plots import finish, legend_above, new_figure
from hf_paretokd.evaluation.results import signed

Row = dict[str, str | float | None]


class Figures:
    """The files of one study."""

    def __init__(self, name: str) -> None:
        self.path = Path(__file__).with_name(f"{name}.json")

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        """Rows of every run."""
        return kept(self.path)

    @cached_property
    def curves(self) -> dict[str, list[dict[str, float]]]:
        """Validations of every run."""
        return kept(self.path.with_stem(f"{self.path.stem}-curves"))

    @cached_property
    def archive(self) -> dict[str, Scores]:
        """Mean BLEU on the test text and its resamples by run, model and group of pairs."""
        path = self.path.with_suffix(".npz")
        return dict(np.load(path)) if path.exists() else {}

    def runs(self, system: str) -> list[str]:
        """Its repetitions, by ascending seed."""
        return sorted(name for name in self.rows if re.fullmatch(rf"{re.escape(system)}-\d", name))

    def training(self, run: str) -> dict[str, float]:
        """Updates, passes, hours and the validation figure of a training."""
        return {row["metric"]: row["value"] for row in self.rows[run] if row["split"] == "train"}

    def score(self, run: str, depth: str, pair: str, metric: str, decoding: str, peer: int | None = None) -> float:
        """A score on test text."""
        wanted = {"depth": depth, "pair": pair, "metric": metric, "decoding": decoding, "split": "test", "peer": peer}
        found = [row for row in self.rows[run] if all(row.get(key) == value for key, value in wanted.items())]
        return next(row["value"] for row in found if row["model"] != "teacher")  # who is a student of full depth, too

    def validation(self, run: str, names: Sequence[str]) -> float:
        """Validation cross-entropy of the update that was kept, with smoothing, by the first name that is there."""
        best = self.training(run)["best_update"]
        line = next(line for line in self.curves[run] if line["step"] == best)
        return next(line[name] for name in names if name in line)

    def resampled(self, runs: Sequence[str], stems: Sequence[str], group: str) -> Scores:
        """Mean BLEU of a group of pairs on the test text and its resamples, on average over runs."""
        return mean(
            [next(self.archive[key] for stem in stems if (key := f"{run}/{stem}/{group}") in self.archive) for run in runs]
        )


def of_seeds(runs: Sequence[str], seeds: set[str]) -> list[str]:
    """Those of some seeds."""
    return [run for run in runs if seed_of(run) in seeds]


def seed_of(run: str) -> str:
    """What its name ends with."""
    return run.rsplit("-", 1)[1]


def average(values: Sequence[float], digits: int = 1) -> str:
    """The mean over repetitions."""
    return f"{sum(values) / len(values):.{digits}f}"


def interval(found: Difference, p: float | None = None) -> str:
    """A difference with its 95 % interval and p, which may have been corrected."""
    return f"{signed(found.value)} [{signed(found.low)}, {signed(found.high)}], p = {found.p_value if p is None else p:.3f}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Of Markdown."""
    return "\n".join([f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *(f"| {' | '.join(row)} |" for row in rows)])


def draw_validations(
    curves: Mapping[str, Sequence[Mapping[str, float]]], what: str, path: Path, top: float | None = None
) -> None:
    """Draws validations of runs by title, with a dot where each is lowest: from there on it over-fits."""
    figure, (axes,) = new_figure()
    for number, (title, lines) in enumerate(curves.items()):
        steps, losses = [line["step"] for line in lines], [line["eval_loss"] for line in lines]
        axes.plot(steps, losses, color=f"C{number}", label=title, linewidth=1.3)
        axes.plot(steps[losses.index(min(losses))], min(losses), "o", color=f"C{number}")
    axes.set_xlabel("update; a dot where it is lowest")
    axes.set_ylabel(what)
    axes.set_ylim(top=top)
    legend_above(axes)
    finish(figure, path)

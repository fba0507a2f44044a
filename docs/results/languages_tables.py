"""Tables and pictures of what docs/results/languages.py has trained so far."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from languages import GRID, TEMPERATURES
from study import kept

from hf_paretokd.evaluation.bootstrap import Difference, Scores, mean, paired_test
from hf_paretokd.evaluation.frontier import FrontierPoint
from hf_paretokd.evaluation.plots import finish, legend_above, new_figure, plot_frontier
from hf_paretokd.evaluation.results import AVERAGE, HIGH, LOW, signed

FIGURES = Path(__file__).with_name("languages.json")
CURVES = FIGURES.with_name("languages-curves.json")
RESAMPLED = FIGURES.with_suffix(".npz")
FULL = "3-3"
SYSTEMS = {
    "plain": "plain, the best τ and dropout",
    "unimax": "UniMax",
    "r-drop": "R-Drop",
    "cutoff": "CutOff",
    "ibr": "χ-IBR",
    "uat": "MultiUAT",
    "lssd": "LSSD",
    "multi-distill": "Multi-Distill",
    "uni": "UNI-PMD",
    "mild": "UNI-PMD with τ = 1 and 2",
    "bi": "BI-PMD",
    "auto": "AUTO-PMD",
    "of-plain": "Word-KD from plain",
    "of-peers": "Word-KD from the peers",
    "of-mild": "Word-KD from the peers of τ = 1 and 2",
    "both": "both at once (UNI)",
}
SECOND = {"mild": 2}  # τ of the second peer, where it is not 5
OTHERS = (
    "r-drop",
    "multi-distill",
    "uni",
    "mild",
    "bi",
    "auto",
    "of-plain",
    "of-peers",
    "of-mild",
)  # beside what is drawn as a front
GROUPS = {AVERAGE: "all", HIGH: "high", LOW: "low"}  # of rows, and of what was resampled
STRATEGIES = ("uni", "mild", "bi", "of-peers", "of-mild")  # of primary comparison (c)


@dataclass(frozen=True)
class Model:
    """One model of a system, in all its repetitions: a peer or the whole, of a depth."""

    system: str
    peer: int | None
    depth: str = FULL

    @property
    def runs(self) -> list[str]:
        """Its repetitions, by ascending seed."""
        return sorted(name for name in kept(FIGURES) if re.fullmatch(rf"{self.system}-\d", name))

    @property
    def title(self) -> str:
        """What it is called in tables."""
        return SYSTEMS[self.system] + (f", peer {self.peer} ({self.tau})" if self.peer else "")

    @property
    def tau(self) -> str:
        """What a peer is sampled by."""
        return f"τ = {(1, SECOND.get(self.system, 5))[self.peer - 1]}" if self.peer else ""

    def scores(self, pair: str, metric: str = "bleu", decoding: str = "greedy") -> list[float]:
        """A score on test text in every repetition."""
        kinds = {None: ("model", "student"), 1: ("peer", "student"), 2: ("peer", "student")}[self.peer]
        wanted = (self.depth, pair, metric, decoding, "test", self.peer)
        return [
            next(
                row["value"]
                for row in rows
                if row["model"] in kinds
                and (*(row.get(key) for key in ("depth", "pair", "metric", "decoding", "split", "peer")),) == wanted
            )
            for rows in map(kept(FIGURES).__getitem__, self.runs)
        ]

    @property
    def validation(self) -> float:
        """Validation cross-entropy of the update that was kept, with smoothing, on average over repetitions."""
        found = []
        for run in self.runs:
            best = training(run)["best_update"]
            line = next(line for line in kept(CURVES)[run] if line["step"] == best)
            name = f"eval_peer{self.peer}_loss" if self.peer else "eval_loss"
            found.append(line.get(f"{name}_{self.depth}", line[name]))
        return sum(found) / len(found)

    def resampled(self, group: str, runs: Sequence[str] | None = None) -> Scores:
        """Mean BLEU of a group of pairs on the test text and its resamples, on average over repetitions."""
        stems = [f"peer-{self.peer}"] if self.peer else ["model"]
        stems = [f"{stems[0]}-student-{self.depth}" if self.peer else f"student-{self.depth}", *stems]
        archive = np.load(RESAMPLED)
        return mean(
            [
                archive[next(f"{run}/{stem}/{group}" for stem in stems if f"{run}/{stem}/{group}" in archive)]
                for run in runs or self.runs
            ]
        )

    def against(self, other: "Model", group: str) -> Difference:
        """The difference of two models' means over the seeds that both have."""
        seeds = {run.rsplit("-", 1)[1] for run in self.runs} & {run.rsplit("-", 1)[1] for run in other.runs}
        mine, others = ([run for run in each.runs if run.rsplit("-", 1)[1] in seeds] for each in (self, other))
        return paired_test(self.resampled(group, mine), other.resampled(group, others))


PLAIN = Model("plain", None)


def training(run: str) -> dict[str, float]:
    """Updates, passes, hours and the validation figure of a training."""
    return {row["metric"]: row["value"] for row in kept(FIGURES)[run] if row["split"] == "train"}


def models(system: str) -> list[Model]:
    """The models of full depth of a system; none while it is not trained."""
    whole = Model(system, None)
    peers = {row.get("peer") for run in whole.runs for row in kept(FIGURES)[run] if row["split"] == "test"}
    return [Model(system, peer) for peer in sorted(peers, key=lambda peer: peer or 0)]


def best(system: str) -> Model | None:
    """The one of a system's models that validates better."""
    return min(models(system), key=lambda model: model.validation, default=None)


def average(values: Sequence[float], digits: int = 1) -> str:
    """The mean over repetitions."""
    return f"{sum(values) / len(values):.{digits}f}"


def systems() -> str:
    """Scores of every model that has been trained."""
    pairs = [row["pair"] for row in kept(FIGURES)["plain-1"] if (row["metric"], row.get("decoding")) == ("bleu", "greedy")]
    pairs = [pair for pair in dict.fromkeys(pairs) if pair not in GROUPS]
    heads = ["system", "seeds", *(pair.split("-")[0] for pair in pairs), "HRL", "LRL", "all", "all, beam 5", "chrF"]
    heads += ["validation", "core hours"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for system in SYSTEMS:
        for model in models(system):
            hours = [training(run)["core_hours"] for run in model.runs]
            cells = [model.title, str(len(model.runs))]
            cells += [average(model.scores(pair)) for pair in (*pairs, HIGH, LOW, AVERAGE)]
            cells += [average(model.scores(AVERAGE, decoding="beam 5")), average(model.scores(AVERAGE, "chrf"))]
            cells += [f"{model.validation:.3f}", average(hours, 2) if model.peer in (None, 1) else ""]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def differences() -> str:
    """Every system's better model by validation, less the plain one, with intervals."""
    lines = ["| system | seeds | all pairs | HRL | LRL |", "|---|---|---|---|---|"]
    for system in SYSTEMS:
        model = best(system)
        if system == "plain" or model is None:
            continue
        cells = [interval(model.against(PLAIN, group)) for group in GROUPS.values()]
        lines.append(f"| {' | '.join([model.title, str(len(model.runs)), *cells])} |")
    return "\n".join(lines)


def interval(found: Difference) -> str:
    """A difference with its 95 % interval and p."""
    return f"{signed(found.value)} [{signed(found.low)}, {signed(found.high)}], p = {found.p_value:.3f}"


def depths() -> str:
    """Both methods at once beside plain models of the same depths."""
    both = best("both")
    if both is None:
        return ""
    lines = ["| depth | plain | both at once, the better peer | difference |", "|---|---|---|---|"]
    for depth in ("3-3", "3-2", "2-2"):
        alone = PLAIN if depth == FULL else Model(f"plain-{depth}", None, depth)
        mine = Model("both", both.peer, depth)
        if alone.runs:
            scores = [average(each.scores(AVERAGE)) for each in (alone, mine)]
            lines.append(f"| {' | '.join([depth, *scores, interval(mine.against(alone, 'all'))])} |")
    return "\n".join(lines)


def primary() -> str:
    """Comparison (c): what validates best of the peers and their student, less the plain model."""
    found = [model for system in STRATEGIES for model in models(system)]
    chosen = min(found, key=lambda model: model.validation)
    return f"{chosen.title}: {interval(chosen.against(PLAIN, 'all'))}"


def point(model: Model, family: str, name: str) -> FrontierPoint:
    """A model of a picture of high-resource against low-resource pairs."""
    values = [sum(found) / len(found) for found in (model.scores(group) for group in (HIGH, LOW, AVERAGE))]
    return FrontierPoint(family, name, *values)


def draw() -> None:
    """Draws high-resource against low-resource pairs, and validations."""
    points = [point(Model(f"tau-{tau}", None), "plain", f"τ = {tau}") for tau in TEMPERATURES if Model(f"tau-{tau}", None).runs]
    for system in OTHERS:
        for model in models(system):
            points.append(point(model, SYSTEMS[system], model.tau))
    plot_frontier(points, "bleu", FIGURES.with_name("languages-frontier.png"))
    figure, (axes,) = new_figure()
    for number, (tau, dropout) in enumerate(GRID):
        lines = kept(CURVES)[f"grid-{tau}-{dropout}"]
        steps, losses = [line["step"] for line in lines], [line["eval_loss"] for line in lines]
        axes.plot(steps, losses, color=f"C{number}", label=f"τ = {tau}, dropout {dropout}", linewidth=1.3)
        axes.plot(steps[losses.index(min(losses))], min(losses), "o", color=f"C{number}")
    axes.set_xlabel("update; a dot where it is lowest")
    axes.set_ylabel("validation, mean over pairs, nats a token")
    axes.set_ylim(top=4.2)
    legend_above(axes)
    finish(figure, FIGURES.with_name("languages-validation.png"))

"""Tables and pictures of what docs/results/languages.py has trained so far."""

from collections.abc import Sequence
from dataclasses import dataclass

from figures import Figures, average, draw_validations, interval, of_seeds, seed_of, table
from languages import GRID, TEMPERATURES

from hf_paretokd.evaluation.bootstrap import Difference, Scores, paired_test
from hf_paretokd.evaluation.frontier import FrontierPoint
from hf_paretokd.evaluation.plots import plot_frontier
from hf_paretokd.evaluation.results import AVERAGE, HIGH, LOW

LANGUAGES = Figures("languages")
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
        return LANGUAGES.runs(self.system)

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
        return [LANGUAGES.score(run, self.depth, pair, metric, decoding, self.peer) for run in self.runs]

    @property
    def validation(self) -> float:
        """Validation cross-entropy of the update that was kept, with smoothing, on average over repetitions."""
        name = f"eval_peer{self.peer}_loss" if self.peer else "eval_loss"
        found = [LANGUAGES.validation(run, (f"{name}_{self.depth}", name)) for run in self.runs]
        return sum(found) / len(found)

    def resampled(self, group: str, runs: Sequence[str] | None = None) -> Scores:
        """Mean BLEU of a group of pairs on the test text and its resamples, on average over repetitions."""
        stem = f"peer-{self.peer}" if self.peer else "model"
        student = f"student-{self.depth}"
        return LANGUAGES.resampled(runs or self.runs, (f"{stem}-{student}" if self.peer else student, stem), group)

    def against(self, other: "Model", group: str) -> Difference:
        """The difference of two models' means over the seeds that both have."""
        seeds = set(map(seed_of, self.runs)) & set(map(seed_of, other.runs))
        mine, others = (of_seeds(each.runs, seeds) for each in (self, other))
        return paired_test(self.resampled(group, mine), other.resampled(group, others))


PLAIN = Model("plain", None)


def models(system: str) -> list[Model]:
    """The models of full depth of a system; none while it is not trained."""
    whole = Model(system, None)
    peers = {row.get("peer") for run in whole.runs for row in LANGUAGES.rows[run] if row["split"] == "test"}
    return [Model(system, peer) for peer in sorted(peers, key=lambda peer: peer or 0)]


def best(systems: Sequence[str]) -> Model | None:
    """The one of some systems' models that validates best."""
    found = [model for system in systems for model in models(system)]
    return min(found, key=lambda model: model.validation, default=None)


def systems() -> str:
    """Scores of every model that has been trained."""
    pairs = [row["pair"] for row in LANGUAGES.rows["plain-1"] if (row["metric"], row.get("decoding")) == ("bleu", "greedy")]
    pairs = [pair for pair in dict.fromkeys(pairs) if pair not in GROUPS]
    heads = ["system", "seeds", *(pair.split("-")[0] for pair in pairs), "HRL", "LRL", "all", "all, beam 5", "chrF"]
    rows = []
    for system in SYSTEMS:
        for model in models(system):
            hours = [LANGUAGES.training(run)["core_hours"] for run in model.runs]
            cells = [model.title, str(len(model.runs))]
            cells += [average(model.scores(pair)) for pair in (*pairs, HIGH, LOW, AVERAGE)]
            cells += [average(model.scores(AVERAGE, decoding="beam 5")), average(model.scores(AVERAGE, "chrf"))]
            rows.append([*cells, f"{model.validation:.3f}", average(hours, 2) if model.peer in (None, 1) else ""])
    return table([*heads, "validation", "core hours"], rows)


def differences() -> str:
    """Every system's better model by validation, less the plain one, with intervals."""
    rows = []
    for system in SYSTEMS:
        model = best([system])
        if system != "plain" and model:
            differences = (interval(model.against(PLAIN, group)) for group in GROUPS.values())
            rows.append([model.title, str(len(model.runs)), *differences])
    return table(["system", "seeds", "all pairs", "HRL", "LRL"], rows)


def depths() -> str:
    """Both methods at once beside plain models of the same depths."""
    both, rows = best(["both"]), []
    for depth in ("3-3", "3-2", "2-2") if both else ():
        alone = PLAIN if depth == FULL else Model(f"plain-{depth}", None, depth)
        mine = Model("both", both.peer, depth)
        if alone.runs:
            scores = [average(each.scores(AVERAGE)) for each in (alone, mine)]
            rows.append([depth, *scores, interval(mine.against(alone, "all"))])
    return table(["depth", "plain", "both at once, the better peer", "difference"], rows)


def primary() -> tuple[str, Difference]:
    """Comparison (c): what validates best of the peers and their students, less the plain model."""
    chosen = best(STRATEGIES)
    return chosen.title, chosen.against(PLAIN, "all")


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
    plot_frontier(points, "bleu", LANGUAGES.path.with_name("languages-frontier.png"))
    curves = {f"τ = {tau}, dropout {dropout}": LANGUAGES.curves[f"grid-{tau}-{dropout}"] for tau, dropout in GRID}
    what = "validation, mean over pairs, nats a token"
    draw_validations(curves, what, LANGUAGES.path.with_name("languages-validation.png"), top=4.2)

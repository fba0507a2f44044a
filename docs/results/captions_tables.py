"""Tables and pictures of what docs/results/captions.py and captions128.py have trained so far."""

from collections.abc import Sequence
from dataclasses import dataclass

import languages_tables as languages
from captions import DEPTHS
from figures import Figures, average, draw_validations, interval, of_seeds, seed_of, table
from matplotlib.ticker import LogLocator

from hf_paretokd.evaluation.bootstrap import Difference, Estimate, Scores, estimate, holm, mean, paired_test
from hf_paretokd.evaluation.plots import finish, legend_above, new_figure
from hf_paretokd.models.depth import Depth, candidate_depths

PAIR = "de-en"
ALONE = {  # systems whose depths are trained one by one
    "plain": "trained alone",
    "long-plain": "trained alone, twice as long",
    "r-drop": "R-Drop",
    "word-kd": "Word-KD from 6-6",
    "seq-kd": "Seq-KD from 6-6",
}
FAMILIES = {  # systems whose depths come from one training
    "aio": "**All-in-One KD**",
    "two-views": "All-in-One KD, two views",
    "first": "All-in-One KD as it was shipped first",
    "paper": "All-in-One KD in the paper's form",
    "aio-seq-kd": "All-in-One KD + Seq-KD",
    "long-aio": "All-in-One KD, twice as long",
}
SYSTEMS = {**ALONE, **FAMILIES}
DEPTHS_SHOWN = list(reversed(DEPTHS))


@dataclass(frozen=True)
class Model:
    """A depth of a system, in all its repetitions."""

    study: Figures
    system: str
    depth: str

    @property
    def runs(self) -> list[str]:
        """Its repetitions, by ascending seed."""
        return self.study.runs(self.system if self.system in FAMILIES else f"{self.system}-{self.depth}")

    @property
    def seeds(self) -> set[str]:
        """Of its repetitions."""
        return set(map(seed_of, self.runs))

    def scores(self, metric: str, decoding: str) -> list[float]:
        """A score on test text in every repetition."""
        return [self.study.score(run, self.depth, PAIR, metric, decoding) for run in self.runs]

    @property
    def validation(self) -> float:
        """Validation cross-entropy of the update that was kept, with smoothing, on average over repetitions."""
        found = [self.study.validation(run, (f"eval_loss_{self.depth}", "eval_loss")) for run in self.runs]
        return sum(found) / len(found)

    def took(self, metric: str) -> list[float]:
        """A figure of the training in every repetition."""
        return [self.study.training(run)[metric] for run in self.runs]

    @property
    def hours(self) -> float:
        """Core hours to the best validation, on average over repetitions."""
        spent = zip(self.took("core_hours"), self.took("best_update"), self.took("updates"), strict=True)
        return sum(hours * best / updates for hours, best, updates in spent) / len(self.runs)

    def resampled(self, seeds: set[str]) -> Scores:
        """BLEU on the test text and its resamples, on average over repetitions."""
        return self.study.resampled(of_seeds(self.runs, seeds), (f"student-{self.depth}", "model"), "all")


SMALL, WIDE = Figures("captions128"), Figures("captions")


def of(system: str, study: Figures = SMALL) -> dict[str, Model]:
    """The depths of a system that have been trained."""
    found = {depth: Model(study, system, depth) for depth in DEPTHS}
    return {depth: model for depth, model in found.items() if model.runs}


def systems(study: Figures) -> str:
    """Scores of every model that has been trained, and what its training took."""
    rows = []
    for system, title in SYSTEMS.items():
        for depth, model in of(system, study).items():
            ways = (("bleu", "greedy"), ("bleu", "beam 5"), ("chrf", "greedy"))
            best = ", ".join(f"{update:,.0f}" for update in model.took("best_update"))
            minutes = average([seconds / 60 for seconds in model.took("training_seconds")])
            scores = [average(model.scores(*way)) for way in ways]
            rows.append([title, depth, str(len(model.runs)), *scores, best, minutes])
    return table(["system", "depth", "seeds", "BLEU, greedy", "BLEU, beam 5", "chrF", "best update", "minutes"], rows)


def short(study: Figures) -> str:
    """BLEU of three depths, greedy and beam 5, and the minutes of all models of a system."""
    rows = []
    for system in ("plain", "long-plain", "r-drop", "word-kd", "aio"):
        models = of(system, study)
        cells = [
            " / ".join(average(models[depth].scores("bleu", way)) for way in ("greedy", "beam 5")) if depth in models else ""
            for depth in DEPTHS
        ]
        minutes = {depth: sum(model.took("training_seconds")) / len(model.runs) / 60 for depth, model in models.items()}
        total, count = (minutes["6-6"], 15) if system in FAMILIES else (sum(minutes.values()), len(models))
        rows.append([SYSTEMS[system], *cells, f"{total:.1f} for {count}"])
    return table(["trained", *DEPTHS, "minutes"], rows)


# ---- the comparisons that were named in advance


def compared(ours: Sequence[Model], theirs: Sequence[Model]) -> Difference:
    """Mean BLEU of some models less that of others, over the seeds that all have."""
    seeds = set.intersection(*(model.seeds for model in (*ours, *theirs)))
    return paired_test(*(mean([model.resampled(seeds) for model in models]) for models in (ours, theirs)))


def primary() -> str:
    """All primary comparisons, by Holm's correction."""
    aio, plain, taught, r_drop = (of(system) for system in ("aio", "plain", "word-kd", "r-drop"))
    rival = min((plain["2-2"], taught["2-2"]), key=lambda model: model.validation)
    name, peers = languages.primary()
    found = {
        "(a) All-in-One KD less trained alone, mean of 6-6, 6-2, 2-2": compared(list(aio.values()), list(plain.values())),
        f"(b) its 2-2 less {SYSTEMS[rival.system]}, 2-2": compared([aio["2-2"]], [rival]),
        f"(c) {name} less plain, mean of eight pairs": peers,
        "(d) its 6-6 less R-Drop 6-6": compared([aio["6-6"]], [r_drop["6-6"]]),
    }
    corrected = holm([each.p_value for each in found.values()])
    rows = [[what, interval(each, p)] for (what, each), p in zip(found.items(), corrected, strict=True)]
    rows.append(["beside (b): its 2-2 less plain 2-2, p as it is", interval(compared([aio["2-2"]], [plain["2-2"]]))])
    return table(["comparison", "BLEU"], rows)


# ---- what families cost


def cost(system: str) -> tuple[float, float]:
    """Core hours of three depths and of all fifteen; of models that are trained alone interpolated, linearly in layers."""
    hours = [model.hours for model in of(system).values()]
    if system in FAMILIES:
        return hours[0], hours[0]
    most, fewer, least = hours
    decoder, encoder = (most - fewer) / 4, (fewer - least) / 4  # of a layer
    depths = candidate_depths(Depth(6, 6))
    return sum(hours), sum(least + encoder * (depth.encoder - 2) + decoder * (depth.decoder - 2) for depth in depths)


def families() -> dict[str, Estimate]:
    """Mean BLEU of three depths, of every system that has all of them."""
    found = {system: of(system) for system in SYSTEMS}
    return {
        system: estimate(mean([model.resampled(model.seeds) for model in models.values()]))
        for system, models in found.items()
        if len(models) == len(DEPTHS)
    }


def costs() -> str:
    """What every family costs and how good it is on average."""
    rows = []
    for system, score in families().items():
        three, fifteen = cost(system)
        spread = f"{score.value:.1f} [{score.low:.1f}, {score.high:.1f}]"
        rows.append([SYSTEMS[system], spread, f"{three:.2f}", f"{fifteen:.2f}"])
    return table(["trained", "mean BLEU of 6-6, 6-2, 2-2", "core hours of three", "of fifteen"], rows)


# ---- pictures


def draw() -> None:
    """Draws quality against what a family costs, quality by depth, and validations."""
    figure, (axes,) = new_figure()
    for number, (system, score) in enumerate(families().items()):
        three, fifteen = cost(system)
        style = {"color": f"C{number}", "capsize": 2, "linewidth": 1, "yerr": [[part] for part in score.spread]}
        axes.errorbar([fifteen], [score.value], fmt="o", label=plainly(system), **style)
        if three != fifteen:
            axes.errorbar([three], [score.value], fmt="o", markerfacecolor="white", **style)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("core hours of all fifteen depths; hollow: of three")
    axes.set_ylabel("BLEU, mean of 6-6, 6-2, 2-2")
    legend_above(axes)
    finish(figure, SMALL.path.with_name("captions-cost.png"))

    figure, (axes,) = new_figure()
    shown = [system for system in SYSTEMS if len(of(system)) > 1]
    for number, system in enumerate(shown):
        models, shift = of(system), 0.08 * (number - len(shown) / 2)
        scores = [estimate(model.resampled(model.seeds)) for model in models.values()]
        places = [DEPTHS_SHOWN.index(depth) + shift for depth in models]
        spread = list(zip(*(score.spread for score in scores), strict=True))
        values = [score.value for score in scores]
        axes.errorbar(places, values, yerr=spread, fmt="o-", label=plainly(system), capsize=2, linewidth=1, markersize=4)
    axes.set_xticks(range(len(DEPTHS_SHOWN)), DEPTHS_SHOWN)
    axes.set_xlabel("encoder and decoder layers")
    axes.set_ylabel("BLEU, 95 % interval")
    legend_above(axes)
    finish(figure, SMALL.path.with_name("captions-depth.png"))

    curves = {"plain 6-6": "plain-6-6-1", "plain 2-2": "plain-2-2-1", "R-Drop 6-6": "r-drop-6-6-1", "All-in-One KD": "aio-1"}
    found = {title: SMALL.curves[run] for title, run in curves.items() if run in SMALL.curves}
    draw_validations(found, "validation, nats a token", SMALL.path.with_name("captions-validation.png"))


def plainly(system: str) -> str:
    """Its name, for pictures."""
    return SYSTEMS[system].replace("*", "")

"""Systems side by side: what one training or several have come to, with what it cost and how sure the differences are."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.errors import RecipeError, TrainingError
from hf_paretokd.evaluation.bootstrap import (
    Difference,
    Estimate,
    Scores,
    estimate,
    holm,
    joint_draws,
    mean,
    paired_test,
    resampled,
)
from hf_paretokd.evaluation.plots import Scored, can_plot, label, plot_systems
from hf_paretokd.layout import REFERENCE, SOURCE, STUDENT, ComparisonLayout
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.member import Member, distinct
from hf_paretokd.runs.prepare import described
from hf_paretokd.runs.resolve import RUN, expect
from hf_paretokd.runs.run import Run
from hf_paretokd.training.identity import differences
from hf_paretokd.utils.files import save_json

MEAN = "mean"
HOURS = {"core_hours": "core-hours", "gpu_hours": "GPU-hours"}
OWN = ("seed", "record", "teachers")  # of a signature: what repetitions of a training may differ in
ASIDE = ("training.seed", "data.distilled_dir")  # of a recipe: the same


@dataclass
class System:
    """One run, or several that belong together: other depths or language pairs of a family, and the same with other seeds.

    Args:
        name: how tables call it.
        runs: finished runs.
    """

    name: str
    runs: list[Run] = field(default_factory=list)

    @cached_property
    def models(self) -> dict[Member, dict[str, list[tuple[Run, Member]]]]:
        """By student (a whole model is the student of its own depth) and language pair: the models, one a seed.

        Raises:
            RecipeError: models of the same depth are of trainings that differ in more than their seed.
        """
        found: dict[Member, dict[str, list[tuple[Run, Member]]]] = defaultdict(lambda: defaultdict(list))
        for run in self.runs:
            for member in distinct(run.trained):
                for pair in run.pairs:
                    found[member.student()][pair].append((run, member))
        for place, pairs in found.items():
            for models in pairs.values():
                for run, _ in models[1:]:
                    check_seeds(self.name, place, models[0][0], run)
        return found

    def updates(self, place: Member, metric: str) -> float | None:
        """`updates` or `best_update` of the trainings of one of its models, the mean over them."""
        runs = {run.folder: run for models in self.models[place].values() for run, _ in models}
        values = [run.training[metric].value for run in runs.values() if metric in run.training]
        return sum(values) / len(values) if values else None

    @property
    def hours(self) -> dict[str, float]:
        """`core_hours` or `gpu_hours` of the whole family, the mean over seeds; empty where a run does not say."""
        scored = [{(member.student(), pair) for member in run.trained for pair in run.pairs} for run in self.runs]
        found: dict[str, float] = defaultdict(float)
        for run, mine in zip(self.runs, scored, strict=True):
            unit = next((unit for unit in HOURS if unit in run.training), None)
            if unit is None:
                return {}
            found[unit] += run.training[unit].value / sum(bool(mine & others) for others in scored)
        return dict(found)


def check_seeds(name: str, place: Member, first: Run, other: Run) -> None:
    """Raises a RecipeError if two runs are no repetitions of each other."""
    signed = [dict(part.partition(":")[::2] for part in (run.signature or "").split("|")) for run in (first, other)]
    known = [{key: value for key, value in each.items() if key not in OWN} for each in signed if len(each) > 1]
    changed = differences(*known) if len(known) == 2 else []
    recipes = [described(run.recipe, recorded=False) for run in (first, other) if run.layout.recipe.is_file()]
    known = [{key: value for key, value in each.items() if key not in ASIDE} for each in recipes]
    changed += differences(*known) if len(known) == 2 else []
    if changed:
        raise RecipeError(
            f"{name}: {first.folder} and {other.folder} both have a {place.title} and differ in more than their seed "
            f"({changed[0]}); give them different names (NAME=RUN)"
        )


def systems_of(words: Sequence[str], baseline: str | None = None) -> tuple[list[System], str]:
    """Systems from words `RUN` and `NAME=RUN[,RUN…]`, and the name of that which others are compared with.

    Args:
        words: a run that stands alone is called by its folder; those of one name belong together.
        baseline: a name, or a run, which may be none of the words; default: the first.

    Raises:
        RecipeError: a word names no run, a run twice, or the baseline is none of them.
        TrainingError: a run is not finished.
    """
    named = [pair for word in words for pair in named_runs(word)]
    if baseline and baseline not in dict(named) and not any(same_folder(baseline, folder) for _, folder in named):
        if not Path(baseline).is_dir():
            raise RecipeError(f"--baseline: {baseline!r} is neither a run nor one of {', '.join(dict(named))}")
        named = [(baseline, baseline), *named]
    last = [Path(folder).resolve().name for name, folder in named if name == folder]
    found: dict[str, System] = {}
    for name, folder in named:
        short = Path(folder).resolve().name
        title = short if name == folder and last.count(short) == 1 else name
        system = found.setdefault(title, System(title))
        if any(same_folder(folder, run.folder) for run in system.runs):
            raise RecipeError(f"{folder}: is named twice")
        expect(folder, RUN)
        system.runs.append(Run(folder).finished())
    for title, system in found.items():
        if baseline == title or (baseline and len(system.runs) == 1 and same_folder(baseline, system.runs[0].folder)):
            return list(found.values()), title
    if baseline:
        raise RecipeError(f"--baseline: {baseline} is one of several runs of a system; give the system's name")
    return list(found.values()), next(iter(found))


def named_runs(word: str) -> list[tuple[str, str]]:
    """(name of the system, folder of the run) of one word; a run alone has its folder for a name.

    Raises:
        RecipeError: there is no such folder.
    """
    name, equals, folders = word.partition("=")
    alone = not equals or Path(word).is_dir()
    found = [(word, word)] if alone else [(name, folder) for folder in folders.split(",")]
    for _, folder in found:
        if not name or not folder or not Path(folder).is_dir():
            raise RecipeError(f"{word}: {folder!r} is no folder; give folders of finished runs, or NAME=RUN,RUN")
    return found


def same_folder(one: str | Path, other: str | Path) -> bool:
    """Whether two paths lead to one folder."""
    return Path(one).resolve() == Path(other).resolve()


@dataclass(frozen=True)
class Entry:
    """A line of a comparison: one model of a system, or the mean over several depths.

    Args:
        system: its name.
        model: depth and peer, or `mean`, over the depths that all systems share.
        score: mean over pairs and seeds.
        pairs: the same by language pair.
        seeds: how many trainings the score is a mean over, at least.
        difference: from the baseline's model of that depth; None for the baseline itself, or where it has none.
        adjusted: its p-value after Holm's correction over all differences of the comparison.
        by_pair: the differences by language pair.
        cost: on the axis asked for.
    """

    system: str
    model: str
    score: Estimate
    pairs: dict[str, Estimate]
    seeds: int
    difference: Difference | None = None
    adjusted: float | None = None
    by_pair: dict[str, Difference] = field(default_factory=dict)
    cost: float | None = None

    def wins(self, sign: int) -> tuple[int, int]:
        """On how many language pairs it is ahead (1) or behind (−1), and on how many of them p < 0.05 for the pair alone."""
        found = [each for each in self.by_pair.values() if each.value * sign > 0]
        return len(found), sum(each.significant for each in found)


@dataclass(frozen=True)
class SystemComparison:
    """Several systems on the same text.

    Args:
        split, metric, signatures, decoding: what was scored and how; signatures by language pair.
        axis, unit: what costs are of.
        baseline: the system that others are compared with.
        depths: those that `mean` is over, which all systems have.
        entries: all models, system by system.
        machines: what the trainings were done with.
    """

    split: str
    metric: str
    signatures: dict[str, str]
    decoding: str
    axis: str
    unit: str
    baseline: str
    depths: list[str]
    entries: list[Entry]
    machines: list[str]

    @property
    def resolution(self) -> float | None:
        """The smallest difference that this text resolves: half the widest 95 % interval of a difference."""
        widths = [(each.difference.high - each.difference.low) / 2 for each in self.entries if each.difference]
        return max(widths, default=None)


def compare_systems(systems: Sequence[System], baseline: str, axis: str = "updates", metric: str = "bleu") -> SystemComparison:
    """Scores of systems with intervals, and paired tests against one of them.

    Means over seeds, depths and language pairs are resampled jointly over sentences (`evaluation.bootstrap`).

    Args:
        systems: at least one.
        baseline: name of the one that others are compared with.
        axis: what cost is: `updates` of a model, `cost` of the whole family in hours, `best`, updates to the best validation.
        metric: `bleu` or `chrf`.

    Raises:
        RecipeError: the systems cannot be compared: other text, signatures, decoding, pairs, or units of cost.
    """
    base = next(system for system in systems if system.name == baseline)
    runs = [run for system in systems for run in system.runs]
    texts = check_same_text(runs, metric)
    unit = unit_of(systems, axis)
    scores = {system.name: scores_of(system, texts, metric) for system in systems}
    depths = depths_of_all(list(scores.values()))
    tables = [
        lines_of(system, scores[system.name], scores[base.name], depths, axis, unit, system is base) for system in systems
    ]
    entries = adjusted([entry for table in tables for entry in table])
    machines = list(dict.fromkeys(row.signature or "" for run in runs if (row := run.training.get("training_seconds"))))
    return SystemComparison(
        split=runs[0].split,
        metric=metric,
        signatures={pair: text.signature or "" for pair, text in texts.items()},
        decoding=next(iter(texts.values())).decoding or "",
        axis=axis,
        unit=unit_name(axis, unit),
        baseline=base.name,
        depths=list(map(str, depths)),
        entries=entries,
        machines=machines,
    )


@dataclass(frozen=True)
class ScoredText:
    """What all models have to share that are compared on a language pair."""

    signature: str | None
    decoding: str | None
    source: list[str]
    reference: list[str]


def check_same_text(runs: Sequence[Run], metric: str) -> dict[str, ScoredText]:
    """The text of the runs' language pairs, when all translated the same in the same way.

    Raises:
        RecipeError: they did not; names the runs and what differs.
    """
    seen: dict[str, tuple[Run, ScoredText]] = {}
    for run in runs:
        if run.split != runs[0].split:
            raise RecipeError(f"{run.folder}: scored its {run.split} text, {runs[0].folder} its {runs[0].split} text")
        if not run.scored:
            raise RecipeError(f"{run.folder}: its models were not scored: paretokd evaluate {run.folder}")
        for pair in run.pairs:
            kept = run.translations(pair)
            for member in distinct(run.trained):
                row = run.table.get((member, pair, metric))
                if row is None or not {SOURCE, REFERENCE, member.stem} <= set(kept):
                    raise RecipeError(
                        f"{run.folder}: keeps no translations of {pair} by {member.title}: paretokd evaluate {run.folder}"
                    )
                text = ScoredText(row.signature, row.decoding, kept[SOURCE], kept[REFERENCE])
                other, known = seen.setdefault(pair, (run, text))
                for name, value in vars(text).items():
                    if value != getattr(known, name):
                        what = differing(pair, name, value, getattr(known, name))
                        raise RecipeError(f"{run.folder} and {other.folder} cannot be compared: {what}")
    return {pair: text for pair, (_, text) in seen.items()}


def differing(pair: str, name: str, mine: Any, theirs: Any) -> str:
    """What two runs do not share."""
    if isinstance(mine, list) and isinstance(theirs, list):
        if len(mine) != len(theirs):
            return f"their text of {pair} has {len(mine)} and {len(theirs)} sentences"
        line = next(number for number, sides in enumerate(zip(mine, theirs, strict=True), 1) if sides[0] != sides[1])
        return f"their text of {pair} differs, first in line {line} of the {name}"
    return f"their {name} of {pair} is {mine!r} and {theirs!r}"


def unit_name(axis: str, hours: str) -> str:
    """What stands over costs."""
    return {"updates": "updates", "best": "updates to the best"}.get(axis) or f"{HOURS[hours]} of all its models"


def unit_of(systems: Sequence[System], axis: str) -> str:
    """The unit of hours, where these are asked for.

    Raises:
        RecipeError: a run does not say what it took, or some took hours of CPUs and others of GPUs.
    """
    if axis != "cost":
        return ""
    units: dict[str, str] = {}
    for system in systems:
        if not system.hours:
            raise RecipeError(f"--axis cost: a run of {system.name} does not say what its training took")
        units |= dict.fromkeys(system.hours, system.name)
    if len(units) > 1:
        there = ", ".join(f"{HOURS[unit]} ({name})" for unit, name in units.items())
        raise RecipeError(f"--axis cost: there are {there}; compare runs of one kind of machine")
    return next(iter(units))


def scores_of(system: System, texts: Mapping[str, ScoredText], metric: str) -> dict[Member, dict[str, Scores]]:
    """Scores of every model of a system on every pair and its resamples, means over seeds.

    Pairs that share a side, as of text that is aligned in several languages, are drawn alike, others independently.

    Raises:
        RecipeError: a model was not scored on a pair.
    """
    found: dict[Member, dict[str, Scores]] = {}
    drawn = joint_draws({pair: (text.source, text.reference) for pair, text in texts.items()})
    for place, models in system.models.items():
        if missing := [pair for pair in texts if pair not in models]:
            raise RecipeError(f"{system.name}: {place.title} was not scored on {missing[0]}, as others were")
        found[place] = {}
        for pair, text in texts.items():
            language = LanguagePair.parse(pair).target
            lines = [run.translations(pair)[member.stem] for run, member in models[pair]]
            found[place][pair] = mean([resampled(each, text.reference, language, metric, drawn[pair]) for each in lines])
    return found


def depths_of_all(scores: Sequence[Mapping[Member, dict[str, Scores]]]) -> list[Depth]:
    """The depths that every system has, of each of its peers."""
    families = [(found, peer) for found in scores for peer in {place.peer for place in found}]
    depths = sorted({place.depth for place in scores[0]}, key=lambda depth: (-depth.encoder, -depth.decoder))
    return [depth for depth in depths if all(Member(STUDENT, depth, peer) in found for found, peer in families)]


def counterpart(base: Mapping[Member, dict[str, Scores]], place: Member) -> dict[str, Scores] | None:
    """The baseline's model of the same depth, of the same peer if the baseline has peers."""
    return base.get(place) or base.get(replace(place, peer=None))


def lines_of(
    system: System,
    scores: Mapping[Member, dict[str, Scores]],
    base: Mapping[Member, dict[str, Scores]],
    depths: Sequence[Depth],
    axis: str,
    unit: str,
    is_base: bool,
) -> list[Entry]:
    """The models of a system and, for each of its peers, the mean over the depths that all systems share."""
    hours = system.hours.get(unit)
    metric = {"updates": "updates", "best": "best_update"}.get(axis)

    def entry(name: str, own: dict[str, Scores], other: dict[str, Scores] | None, places: Sequence[Member]) -> Entry:
        seeds = min(len(models) for place in places for models in system.models[place].values())
        costs = [system.updates(place, metric) if metric else hours for place in places]
        known = [cost for cost in costs if cost is not None]
        difference, by_pair = None, {}
        if other is not None and not is_base:
            difference = paired_test(mean(list(own.values())), mean(list(other.values())))
            by_pair = {pair: paired_test(own[pair], other[pair]) for pair in own} if len(own) > 1 else {}
        return Entry(
            system=system.name,
            model=name,
            score=estimate(mean(list(own.values()))),
            pairs={pair: estimate(values) for pair, values in own.items()},
            seeds=seeds,
            difference=difference,
            by_pair=by_pair,
            cost=sum(known) / len(known) if known else None,
        )

    entries = []
    for place, own in sorted(
        scores.items(), key=lambda item: (item[0].peer or 0, -item[0].depth.encoder, -item[0].depth.decoder)
    ):
        entries.append(entry(place.title, own, counterpart(base, place), [place]))
    if len(depths) > 1:
        for peer in dict.fromkeys(place.peer for place in scores):
            places = [Member(STUDENT, depth, peer) for depth in depths]
            name = f"{MEAN} of peer {peer}" if peer else MEAN
            theirs = [found for place in places if (found := counterpart(base, place))]
            others = mean_of(theirs) if len(theirs) == len(places) else None
            entries.append(entry(name, mean_of([scores[place] for place in places]), others, places))
    return entries


def mean_of(scores: Sequence[Mapping[str, Scores]]) -> dict[str, Scores]:
    """The mean over models, pair by pair."""
    return {pair: mean([found[pair] for found in scores]) for pair in scores[0]}


def adjusted(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with p-values after Holm's correction over all their differences."""
    compared = [entry for entry in entries if entry.difference]
    values = iter(holm([entry.difference.p_value for entry in compared if entry.difference]))
    return [Entry(**{**vars(entry), "adjusted": next(values)}) if entry.difference else entry for entry in entries]


# ---- to disk


def write_comparison(found: SystemComparison, folder: Path) -> list[Path]:
    """Writes `comparison.json`, and `comparison.png` where matplotlib is installed; returns what was written.

    Raises:
        TrainingError: the folder cannot be written.
    """
    place = ComparisonLayout(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_json({**asdict(found), "resolution": found.resolution}, place.results)
        if not can_plot():
            return [place.results]
        scored = [
            Scored(each.system, each.model, each.score, each.difference, None if each.model.startswith(MEAN) else each.cost)
            for each in found.entries
        ]
        plot_systems(scored, label(found.metric), found.unit, found.baseline, place.picture)
    except OSError as error:
        raise TrainingError(f"--output: {folder} cannot be written ({error.strerror}); choose another") from error
    return [place.results, place.picture]

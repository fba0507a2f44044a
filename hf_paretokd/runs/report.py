"""`report.html`: one self-contained page about a finished run, and the pictures in it."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jinja2

from hf_paretokd.evaluation.bootstrap import estimate
from hf_paretokd.evaluation.frontier import frontier_points, write_frontier
from hf_paretokd.evaluation.latency import Cost, Protocol
from hf_paretokd.evaluation.plots import Decision, Tradeoff, can_plot, plot_frontier, plot_losses, plot_tradeoff, plot_weights
from hf_paretokd.evaluation.results import AVERAGE, ResultRow, with_spread
from hf_paretokd.layout import ORIGINAL, PICTURE, REFERENCE, SOURCE
from hf_paretokd.models.member import Member, distinct
from hf_paretokd.runs.cards import own_references, write_cards
from hf_paretokd.runs.fields import write_yaml
from hf_paretokd.runs.measure import measure_run
from hf_paretokd.runs.run import INT8, Run, read_baseline
from hf_paretokd.runs.tables import MOST_COLUMNS, STARRED, Row, Table, models_table, paired_tests, training_cost
from hf_paretokd.utils.files import write_whole

TEMPLATE = "page.html"
SAMPLES = 8  # sentences shown, over all pairs


@dataclass(frozen=True)
class Report:
    """What was written about a run: pictures of the frontier and the weights, and the page; None if nothing was scored.

    `without_plots` says that there would be pictures, were matplotlib installed.
    """

    pictures: list[Path]
    without_plots: bool
    page: Path | None


def report_run(run: Run) -> Report:
    """Draws the plots, writes report and cards of a run that has results.

    Raises:
        TrainingError: there is no finished run, or its folder cannot be written.
    """
    with run.finished().writing():
        pictures, without_plots = draw_run(run)
        page = write_report(run) if run.scored else None
        write_cards(run)
    return Report(pictures, without_plots, page)


def draw_run(run: Run) -> tuple[list[Path], bool]:
    """Writes `frontier.json` and the plots: HRL against LRL, distillation weights and changing shares of pairs over time.

    Returns:
        The pictures drawn, and whether there would be some, were matplotlib installed.
    """
    wanted: list[tuple[Path, Callable[[Path], None]]] = []
    if history := run.weights_history:
        end = next((int(row.value) for row in run.rows if row.metric == "updates"), None)
        wanted.append((run.layout.plot("weights"), lambda path: plot_weights(history, path, end, run.sampled_by)))
    if drawn := run.shares_drawn:
        together = [Decision(each[0].update, [one.weights[0] for one in each]) for each in zip(*drawn.values(), strict=True)]
        by = [run.sampled_by[peer - 1] for peer in drawn] if run.sampled_by else []
        wanted.append((run.layout.plot("sampling"), lambda path: plot_weights(together, path, None, by, "share")))
    split = run.recipe.evaluation.splits[-1] if run.recipe.evaluation.splits else ""
    others = [name for name in run.recipe.evaluation.baselines if Path(name).resolve() != run.folder.resolve()]
    families: dict[str, list[ResultRow]] = {}
    for name, rows in [(run.folder.resolve().name, run.rows), *map(read_baseline, others)]:
        alike = sum(other == name or other.startswith(f"{name} (") for other in families)
        families[f"{name} ({alike + 1})" if alike else name] = rows
    points = [point for name, rows in families.items() for point in frontier_points(name, rows, split)]
    if points:
        write_frontier(points, split, "bleu", run.layout.frontier)
        wanted.append((run.layout.plot("frontier"), lambda path: plot_frontier(points, "bleu", path)))
    if not can_plot():
        return [], True
    for path, draw in wanted:
        draw(path)
    return [path for path, _ in wanted], False


def write_report(run: Run) -> Path:
    """Writes the page and its pictures, after measuring latencies if that was not done on this machine.

    Returns:
        The path of the page.
    """
    protocol, costs = measure_run(run)
    if run.recipe.evaluation.original and find_spec("ctranslate2"):  # what the family is made for
        measure_run(run, *INT8)
    draw_costs(run, costs)
    pictures = {path.stem: base64.b64encode(path.read_bytes()).decode() for path in run.layout.plots.glob(f"*{PICTURE}")}
    template = files("hf_paretokd.runs").joinpath(TEMPLATE).read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(template).render(**contents(run, protocol, costs), pictures=pictures)
    write_whole(run.layout.report, page)
    return run.layout.report


def draw_costs(run: Run, costs: dict[Member, Cost]) -> None:
    """The pictures that need more than results: the trade-off and the losses."""
    if not can_plot():
        return
    if differ_in_size(costs):
        scores = run.resampled()
        for name, field, title in (
            ("latency", "milliseconds", "milliseconds a sentence"),
            ("size", "megabytes", "megabytes on disk"),
        ):
            models = [
                Tradeoff(
                    *labels(run, member), getattr(costs[member], field), estimate(scores[member]), run.standing[member] == 1
                )
                for member in costs
                if member in scores
            ]
            if models:
                plot_tradeoff(models, title, run.layout.plot(name))
    if run.log:
        best = run.training.get("best_update")
        plot_losses(run.log, run.layout.plot("training"), run.layout.plot("validation"), best.value if best else None)


def labels(run: Run, member: Member) -> tuple[str, str]:
    """How a model is called in pictures, and the peer it is or is of."""
    if not member.peer:
        return run.called(member), ""
    sampled = run.sampled_by
    return str(member.depth), f"peer {member.peer}{f' ({sampled[member.peer - 1]})' if member.peer <= len(sampled) else ''}"


def differ_in_size(costs: dict[Member, Cost]) -> bool:
    """Whether there is anything to trade: peers are all of a size, and their latencies differ by chance."""
    return len({cost.megabytes for cost in costs.values()}) > 1


def contents(run: Run, protocol: Protocol, costs: dict[Member, Cost]) -> dict[str, Any]:
    """What the template is filled with."""
    rows = [
        row for row in run.table.values() if row.member == run.scored[0] and row.metric in ("bleu", "chrf") and row.signature
    ]
    seconds = run.training.get("training_seconds")
    return {
        "name": run.folder.resolve().name,
        "method": run.recipe.trainer_class.facts.title,
        "pairs": named_pairs(run.pairs),
        "references": own_references(run.shrunk) if run.shrunk and run.shrunk.own_references else "",
        "split": run.split,
        "decoding": next((row.decoding for row in rows), ""),
        "tiles": tiles(run, costs),
        "models": models_table(run, costs),
        "protocols": [str(protocol), *([str(run.int8_costs[0])] if run.int8_costs else [])],
        "signatures": list(dict.fromkeys(f"{row.metric}: {row.signature}" for row in rows)),
        "by_pair": pairs_table(run) if len(run.pairs) > 1 else None,
        "compared": comparisons_table(run),
        "cost": training_cost(run),
        "contamination": contamination_table(run),
        "samples": samples(run),
        "signature": run.signature,
        "machine": seconds.signature if seconds else "",
        "recipe": write_yaml(run.recipe.raw),
    }


def named_pairs(pairs: Sequence[str]) -> str:
    """All of them, or some of many."""
    if len(pairs) <= MOST_COLUMNS:
        return ", ".join(pairs)
    return f"{', '.join(pairs[:MOST_COLUMNS])} and {len(pairs) - MOST_COLUMNS} more"


def tiles(run: Run, costs: dict[Member, Cost]) -> list[tuple[str, str]]:
    """The figures at the top."""
    qualities = {member: quality for member in costs if (quality := run.quality(member)) is not None}
    made = sum(member.kind != ORIGINAL for member in costs)
    found = [("models from one training" if made > 1 else "model", str(made))]
    if qualities:
        best = max(qualities, key=qualities.__getitem__)
        equals = sum(number == 1 for number in run.standing.values()) - 1
        noise = f", {equals} equal within noise" if equals > 0 else ""
        found.append((f"BLEU, best: {run.called(best)}{noise}" if len(costs) > 1 else "BLEU", f"{qualities[best]:.1f}"))
    for field, unit, most in (("milliseconds", "ms a sentence", "fastest"), ("megabytes", "MB", "smallest")):
        least, figure = min(((member, getattr(cost, field)) for member, cost in costs.items()), key=lambda pair: pair[1])
        title = f"{unit}, {most}: {run.called(least)}" if differ_in_size(costs) else unit
        found.append((title, f"{figure:.1f}"))
    if row := run.training.get("training_seconds"):
        found.append(("minutes of training", f"{row.value / 60:.0f}"))
    return found


def pairs_table(run: Run) -> Table:
    """BLEU of every pair and model with the averages; no row for a teacher that is a student as well."""
    columns = [*run.groups, *run.pairs] if len(run.pairs) > MOST_COLUMNS else [*run.pairs, *run.groups]
    rows = [
        Row([run.called(member), *(with_spread(run.table.get((member, column, "bleu"))) for column in columns)])
        for member in distinct(run.scored)
    ]
    return Table(["BLEU", *(("mean" if column == AVERAGE else column) for column in columns)], rows, fixed=1)


def comparisons_table(run: Run) -> Table:
    """The paired tests against models of other runs, and between the models of this one where there are several pairs."""
    names = {member.stem: run.called(member) for member in run.scored}  # of other runs' models: as they are
    rows = [
        Row([names[member.stem], names.get(against, against), *cells])
        for member in distinct(run.scored)
        for against, *cells in paired_tests(run, member)
        if ": " in against or len(run.pairs) > 1  # else it stands in the table of models
    ]
    return Table(["model", "against", *run.pairs], rows, f"Differences in BLEU by paired bootstrap{STARRED}", 2)


def contamination_table(run: Run) -> Table | None:
    """Test sentences in training text."""
    found = run.contamination
    if found is None:
        return None
    headings = ["pair", "split", "sentences", "source", "target", "both", "source*", "target*", "both*"]
    caption = "Sentences that occur in training text as they are; * without case, punctuation and spaces"
    if len(found) > MOST_COLUMNS:
        free = [each for each in found if not each.normalised_sources and not each.normalised_targets]
        found = [each for each in found if each not in free]
        caption += f"; {len(free)} texts hold none and are left out" if free else ""
    rows = [
        Row(
            [
                each.pair,
                each.split,
                f"{each.sentences:,}",
                *(f"{count:,}" for count in (each.sources, each.targets, each.both)),
                *(f"{count:,}" for count in (each.normalised_sources, each.normalised_targets, each.normalised_both)),
            ]
        )
        for each in found
    ]
    return Table(headings, rows, caption)


def samples(run: Run) -> list[list[tuple[str, str]]]:
    """Sentences at even steps through each pair's text: source, reference, the first and the smallest model."""
    members = distinct(run.scored)
    shown = list(dict.fromkeys((members[0], members[-1])))
    found = []
    for pair in run.pairs[:: -(-len(run.pairs) // SAMPLES)]:
        lines = run.translations(pair, REFERENCE, *(member.stem for member in shown))
        if not {SOURCE, REFERENCE, *(member.stem for member in shown)} <= set(lines):
            continue
        total, count = len(lines[SOURCE]), max(1, SAMPLES // len(run.pairs))
        for number in range(count):
            row = (2 * number + 1) * total // (2 * count)
            cells = [(pair, lines[SOURCE][row]), ("reference", lines[REFERENCE][row])]
            found.append([*cells, *((run.called(member), lines[member.stem][row]) for member in shown)])
    return found

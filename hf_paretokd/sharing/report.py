"""`report.html`: one self-contained page about a finished run, and the pictures in it."""

import base64
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import yaml

from hf_paretokd.evaluation.latency import Cost, Protocol
from hf_paretokd.evaluation.outputs import REFERENCE, SOURCE, System, distinct
from hf_paretokd.evaluation.plots import can_plot, plot_losses, plot_tradeoff
from hf_paretokd.evaluation.results import AVERAGE, with_spread
from hf_paretokd.manifest import write_whole
from hf_paretokd.record import RunRecord
from hf_paretokd.scoring import PLOTS
from hf_paretokd.sharing.costs import measure_run
from hf_paretokd.sharing.tables import STARRED, Row, Table, models_table, paired_tests, training_cost

REPORT = "report.html"
SAMPLES = 8  # sentences shown, over all pairs
METHOD_TITLES = {
    "all_in_one": "All-in-One KD",
    "pareto_mutual": "Pareto mutual distillation",
    "plain": "Plain training",
}


def write_report(record: RunRecord) -> Path:
    """Writes the page and its pictures, after measuring latencies if that was not done on this machine.

    Returns:
        The path of the page.
    """
    protocol, costs = measure_run(record)
    draw(record, costs)
    pictures = {path.stem: base64.b64encode(path.read_bytes()).decode() for path in (record.folder / PLOTS).glob("*.png")}
    template = files("hf_paretokd.sharing").joinpath(REPORT).read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(template).render(**contents(record, protocol, costs), pictures=pictures)
    write_whole(record.folder / REPORT, page)
    return record.folder / REPORT


def draw(record: RunRecord, costs: dict[System, Cost]) -> None:
    """The pictures that need more than results: the trade-off and the losses."""
    if not can_plot():
        return
    plots = record.folder / PLOTS
    if differ_in_size(costs):
        scores = {system: record.quality(system) or 0.0 for system in costs}
        for name, field, title in (
            ("latency", "milliseconds", "milliseconds a sentence"),
            ("size", "megabytes", "megabytes on disk"),
        ):
            points = [(system.title, getattr(cost, field), scores[system]) for system, cost in costs.items()]
            plot_tradeoff(points, title, plots / f"{name}.png")
    if log := record.log:
        plot_losses(log, plots)


def differ_in_size(costs: dict[System, Cost]) -> bool:
    """Whether there is anything to trade: peers are all of a size, and their latencies differ by chance."""
    return len({cost.megabytes for cost in costs.values()}) > 1


def contents(record: RunRecord, protocol: Protocol, costs: dict[System, Cost]) -> dict[str, Any]:
    """What the template is filled with."""
    rows = [record.table[system, pair, "bleu"] for system in record.systems[:1] for pair in record.pairs]
    chrf = [record.table[system, pair, "chrf"] for system in record.systems[:1] for pair in record.pairs]
    seconds = record.training.get("training_seconds")
    return {
        "name": record.folder.resolve().name,
        "method": METHOD_TITLES[record.recipe.method],
        "pairs": record.pairs,
        "split": record.split,
        "decoding": next((row.decoding for row in rows), ""),
        "tiles": tiles(record, costs),
        "models": models_table(record, costs),
        "protocol": str(protocol),
        "signatures": list(dict.fromkeys(f"{row.metric}: {row.signature}" for row in (*rows, *chrf))),
        "by_pair": pairs_table(record) if len(record.pairs) > 1 else None,
        "compared": comparisons_table(record),
        "cost": training_cost(record),
        "contamination": contamination_table(record),
        "samples": samples(record),
        "signature": record.signature,
        "machine": seconds.signature if seconds else "",
        "recipe": yaml.safe_dump(record.recipe.raw, sort_keys=False, allow_unicode=True),
    }


def tiles(record: RunRecord, costs: dict[System, Cost]) -> list[tuple[str, str]]:
    """The figures at the top."""
    qualities = {system: quality for system in costs if (quality := record.quality(system)) is not None}
    best = max(qualities, key=qualities.__getitem__)
    found = [
        ("models from one training" if len(costs) > 1 else "model", str(len(costs))),
        (f"BLEU, best: {best.title}" if len(costs) > 1 else "BLEU", f"{qualities[best]:.1f}"),
    ]
    for field, unit, most in (("milliseconds", "ms a sentence", "fastest"), ("megabytes", "MB", "smallest")):
        least = min(costs, key=lambda each, field=field: getattr(costs[each], field))
        title = f"{unit}, {most}: {least.title}" if differ_in_size(costs) else unit
        found.append((title, f"{getattr(costs[least], field):.1f}"))
    if row := record.training.get("training_seconds"):
        found.append(("minutes of training", f"{row.value / 60:.0f}"))
    return found


def pairs_table(record: RunRecord) -> Table:
    """BLEU of every pair and model with the averages; no row for a teacher that is a student as well."""
    columns = [*record.pairs, *record.groups]
    rows = [
        Row([system.title, *(with_spread(record.table[system, column, "bleu"]) for column in columns)])
        for system in distinct(record.systems)
    ]
    return Table(["BLEU", *(("mean" if column == AVERAGE else column) for column in columns)], rows)


def comparisons_table(record: RunRecord) -> Table:
    """The paired tests against models of other runs, and between the models of this one where there are several pairs."""
    rows = [
        Row([system.name, *row])
        for system in distinct(record.systems)
        for row in paired_tests(record, system)
        if ": " in row[0] or len(record.pairs) > 1  # else it stands in the table of models
    ]
    return Table(["model", "against", *record.pairs], rows, f"Differences in BLEU by paired bootstrap{STARRED}")


def contamination_table(record: RunRecord) -> Table | None:
    """Test sentences in training text."""
    found = record.contamination
    if found is None:
        return None
    headings = ["pair", "split", "sentences", "source", "target", "both", "source*", "target*", "both*"]
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
    return Table(headings, rows, "Sentences that occur in training text as they are; * without case, punctuation and spaces")


def samples(record: RunRecord) -> list[list[tuple[str, str]]]:
    """Sentences at even steps through each pair's text: source, reference, the first and the smallest model."""
    systems = distinct(record.systems)
    shown = list(dict.fromkeys((systems[0], systems[-1])))
    found = []
    for pair in record.pairs:
        lines = record.translations(pair)
        if not {SOURCE, REFERENCE, *(system.name for system in shown)} <= set(lines):
            continue
        total, count = len(lines[SOURCE]), max(1, SAMPLES // len(record.pairs))
        for number in range(count):
            row = (2 * number + 1) * total // (2 * count)
            cells = [(pair, lines[SOURCE][row]), ("reference", lines[REFERENCE][row])]
            found.append([*cells, *((system.title, lines[system.name][row]) for system in shown)])
    return found

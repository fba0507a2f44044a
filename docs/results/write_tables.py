"""Writes the result tables of README.md and docs/, and the pictures beside them, from the JSON files in this folder."""

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

import captions_tables as captions
import languages_tables as languages
from rich.console import Console

from hf_paretokd.cli.show import results_table
from hf_paretokd.evaluation.frontier import FrontierPoint
from hf_paretokd.evaluation.latency import read_costs
from hf_paretokd.evaluation.plots import Decision, plot_frontier, plot_weights
from hf_paretokd.evaluation.results import (
    AVERAGE,
    GROUPS,
    HIGH,
    LOW,
    ResultRow,
    group_averages,
    read_results,
    with_spread,
)
from hf_paretokd.evaluation.significance import Comparison
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.member import Member
from hf_paretokd.runs.tables import difference
from hf_paretokd.utils.files import read_rows

HERE = Path(__file__).parent
README = HERE.parent.parent / "README.md"
MEASURED = HERE.parent / "measured.md"
TATOEBA = {
    "tatoeba8-plain-1": ("plain", (1,)),
    "tatoeba8-plain-5": ("plain", (5,)),
    "tatoeba8-vanilla": ("vanilla MD", (1, 1)),
    "tatoeba8-bi": ("BI-PMD", (1, 5)),
    "tatoeba8-uni": ("UNI-PMD", (1, 5)),
    "tatoeba8-auto": ("AUTO-PMD", (1, 5)),
}
SHRUNK = {  # of what docs/results/shrink.py trains
    "trimmed": "`shrink`, 4,000 pieces",
    "whole": "`shrink`, all pieces of the text",
    "seq-kd": "alone, on the translations",
    "pairs": "alone, on 2,000 pairs",
}
SMALL = {"small-trimmed": "`shrink`, 4,000 pieces", "small-whole": "`shrink`, all pieces of the text"}
TATOEBA_HIGH = ("fr-en", "mr-en")
BENCHES = (
    "bench-iwslt",
    "bench-base",
    "bench-methods",
    "bench-methods-h100",
    "bench-pareto",
    "bench-options-iwslt",
    "bench-options-small",
)
BASELINES = ("multi30k-plain-6-6", "multi30k-plain-6-2", "multi30k-plain-2-2")


def figures(rows: list[ResultRow]) -> dict[str, dict[str, float]]:
    """Test figures of every depth: BLEU and chrF of the single pair, parameters, sentences a second."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.split != "train" and row.pair == AVERAGE:
            found.setdefault(row.depth, {})[row.metric] = row.value
    return found


def training(rows: list[ResultRow]) -> dict[str, float]:
    """Updates, passes and seconds of a training."""
    return {row.metric: row.value for row in rows if row.split == "train"}


def multi30k() -> str:
    """The 15 depths of one All-in-One run beside the models trained alone, with intervals and paired tests."""
    rows = read_results(HERE / "multi30k-aio.json")
    students = figures(rows)
    alone = {name: read_results(HERE / f"{name}.json") for name in BASELINES}
    scores = {row.depth: row for row in rows if row.metric == "bleu" and row.low is not None}
    plain = {row.depth: row for each in alone.values() for row in each if row.metric == "bleu" and row.low is not None}
    tests = {
        each.system: each
        for each in read_rows(Comparison, HERE / "multi30k-aio-comparisons.json")
        if each.metric == "bleu" and each.against.endswith(": model") and each.system.startswith("student")
    }
    protocol, costs = read_costs(HERE / "multi30k-aio-latency.json")
    lines = [
        "| depth | million parameters | MB | ms | chrF | BLEU, All-in-One | BLEU, trained alone | difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for depth in sorted(students, key=lambda text: tuple(map(int, text.split("-"))), reverse=True):
        values, cost, test = students[depth], costs[Member("student", Depth.parse(depth))], tests.get(f"student-{depth}")
        cells = [depth, f"{values['parameters'] / 1e6:.2f}", f"{cost.megabytes:.1f}", f"{cost.milliseconds:.0f}"]
        cells += [f"{values['chrf']:.1f}", with_spread(scores[depth]), with_spread(plain[depth]) if depth in plain else ""]
        lines.append(f"| {' | '.join([*cells, difference(test.difference, test.p_value) if test else ''])} |")
    mean = sum(values["bleu"] for values in students.values()) / len(students)
    lines.append(f"| mean of {len(students)} | | | | | {mean:.1f} | | |")
    signature = next(row.signature for row in rows if row.metric == "bleu" and row.signature)
    cost = ["| training | updates | passes | minutes | minutes a model |", "|---|---|---|---|---|"]
    for name, each in {"multi30k-aio": rows, **alone}.items():
        took, models = training(each), 15 if each is rows else 1
        minutes = took["training_seconds"] / 60
        updates = f"{took['updates']:,.0f} | {took['passes']:.1f}"
        cost.append(f"| {name} | {updates} | {minutes:.0f} | {minutes / models:.1f} |")
    notes = f"Greedy search; signature `{signature}`. Latency: {protocol}."
    return "\n".join([*lines, "", notes, "", *cost, "", f"Machine: {machine(rows)}."])


def machine(rows: list[ResultRow]) -> str:
    """Processes, threads and versions of a training."""
    return next(row.signature for row in rows if row.metric == "training_seconds")


def first_recipe() -> str:
    """What `paretokd init` writes for 20,000 sentence pairs, without the time it was made."""
    return f"```yaml\n{(HERE / 'init.yaml').read_text('utf-8').rstrip()}\n```"


def demo() -> str:
    """The table the demo prints, as it came out."""
    rows = read_results(HERE / "demo.json")
    buffer = io.StringIO()
    Console(file=buffer, width=80).print(results_table([row for row in rows if row.split != "train"]))
    took = training(rows)
    table = "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())
    return f"```\n{table}\n```\n\n{took['updates']:.0f} updates in {took['training_seconds'] / 60:.1f} minutes."


def initialisation() -> str:
    """Validation loss and BLEU after the same updates from three initialisations."""
    lines = ["| initialisation | validation loss | BLEU |", "|---|---|---|"]
    for scheme in ("residual", "fairseq", "transformers"):
        rows = read_results(HERE / f"initialisation-{scheme}.json")
        bleu = figures(rows)["6-6"]["bleu"]
        lines.append(f"| `{scheme}` | {training(rows)['validation_loss']:.2f} | {bleu:.1f} |")
    return "\n".join(lines)


def sharing() -> str:
    """Mean and range over seeds of the validation loss, and BLEU of three depths, with shared and separate passes."""
    lines = ["| passes | seeds | validation loss, mean of 15 | 6-6 | 6-2 | 2-2 | minutes |", "|---|---|---|---|---|---|---|"]
    for kind in ("shared", "separate"):
        runs = [read_results(path) for path in sorted(HERE.glob(f"sharing-{kind}-?.json"))]
        losses = [training(rows)["validation_loss"] for rows in runs]
        minutes = [training(rows)["training_seconds"] / 60 for rows in runs]
        bleu = [spread([figures(rows)[depth]["bleu"] for rows in runs], 1) for depth in ("6-6", "6-2", "2-2")]
        cells = [kind, str(len(runs)), spread(losses, 3), *bleu, f"{sum(minutes) / len(minutes):.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float], digits: int) -> str:
    """Mean, lowest and highest."""
    mean = sum(values) / len(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def printed(name: str) -> str:
    """A table as a command printed it."""
    text = "\n".join(line.rstrip() for line in (HERE / f"{name}.txt").read_text("utf-8").splitlines())
    return f"```\n{text}\n```"


def growth() -> str:
    """Disk and time of preparing text of several sizes, from what `bench data` has measured."""
    text = (HERE / "bench-data.txt").read_text("utf-8")

    def figure(row: str) -> float:
        return float(re.search(rf"│ {row}[^│]*│ ([\d,.]+)", text)[1].replace(",", ""))

    rate = figure("sp.encode of both sides") * figure("all of preparing")
    passing, together, disk = figure("passing over") / 1e6, figure("putting shards") / 1e6, figure("on disk")
    lines = ["| pairs | on disk | one processor | 16 processors | ten machines of 16 |", "|---|---|---|---|---|"]
    for pairs in (5e6, 100e6, 1e9):
        cells = [f"{pairs / 1e6:,.0f} million", f"{disk * pairs / 1e9:,.0f} GB", hours(pairs / rate)]
        for count in (16, 160):
            cells.append(hours(pairs * ((1 / rate - together) / count + passing * (1 - 1 / count) + together)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def hours(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def tatoeba8() -> str:
    """BLEU of every pair and group for all systems that have been trained; draws the frontier and the weights."""
    lines, cost, points, signature = [], ["| system | updates | passes | minutes |", "|---|---|---|---|"], [], ""
    for name, (system, temperatures) in TATOEBA.items():
        if not (HERE / f"{name}.json").is_file():
            continue
        rows = read_results(HERE / f"{name}.json")
        took = training(rows)
        minutes = took["training_seconds"] / 60
        cost.append(f"| {system}, τ = {shown(temperatures)} | {took['updates']:,.0f} | {took['passes']:.1f} | {minutes:.0f} |")
        signature = next(row.signature for row in rows if row.metric == "bleu" and row.signature)
        for peer, temperature in enumerate(temperatures, 1):
            mine = [row for row in rows if row.metric == "bleu" and row.peer == (peer if len(temperatures) > 1 else None)]
            values = {row.pair: row.value for row in mine if row.pair not in GROUPS}
            groups = group_averages(values, TATOEBA_HIGH)
            if not lines:
                heads = [pair.split("-")[0] for pair in values]
                lines = [f"| system | τ | {' | '.join(heads)} | HRL | LRL | all |", "|---" * (len(heads) + 5) + "|"]
            figures = [*values.values(), groups[HIGH], groups[LOW], groups[AVERAGE]]
            lines.append(f"| {system} | {temperature} | {' | '.join(f'{value:.1f}' for value in figures)} |")
            family = system if system != "plain" else "plain, τ = 1 and 5"
            points.append(FrontierPoint(family, f"τ = {temperature}", groups[HIGH], groups[LOW], groups[AVERAGE]))
    plot_frontier(points, "bleu", HERE / "tatoeba8-frontier.png")
    weights = HERE / "tatoeba8-auto-weights.json"
    if weights.is_file():
        found = json.loads(weights.read_text("utf-8"))["history"]
        history = [Decision(entry["update"], entry["weights"]) for entry in found]
        plot_weights(history, HERE / "tatoeba8-auto-weights.png", int(took["updates"]))
    return "\n".join([*lines, "", f"Greedy search; signature `{signature}`.", "", *cost, "", f"Machine: {machine(rows)}."])


def shown(temperatures: tuple[int, ...]) -> str:
    """Temperatures as they are written."""
    return " and ".join(map(str, temperatures))


def family(named: Mapping[str, str]) -> str:
    """A model that existed, its family, and models of the same depths trained without it.

    Args:
        named: what is trained, by the start of the runs' names.
    """
    kept = json.loads((HERE / "shrink.json").read_text("utf-8"))
    heads = ["model", "depth", "million parameters", "MB", "MB, int8", "ms", "ms, int8", "BLEU", "chrF"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, title in named.items():
        for run, each in kept.items():
            if run != name and not re.fullmatch(rf"{name}-\d-\d", run):
                continue
            rows = [ResultRow(**{"peer": None, **row}) for row in each["rows"]]
            costs = [each["costs"].get(stem, {}).get("models", []) for stem in ("latency", "latency-ctranslate2-int8")]
            sizes = [{(cost["model"], cost["depth"]): cost["megabytes"] for cost in found} for found in costs]
            times = [  # of models that took turns
                {(cost["model"], cost["depth"]): cost["milliseconds"] for cost in found if len(found) > 1} for found in costs
            ]
            scores = {(row.model, row.depth): row for row in rows if row.metric == "bleu" and row.pair == "de-en"}
            for (model, depth), row in scores.items():
                if model == "teacher":  # the student of full depth is the same
                    continue
                of = {one.metric: one.value for one in rows if (one.model, one.depth) == (model, depth) and one.split == "test"}
                cells = [f"{found[model, depth]:.1f}" if (model, depth) in found else "" for found in (*sizes, *times)]
                what = "the original" if model == "original" else title
                cells = [what, depth, f"{of['parameters'] / 1e6:.2f}", *cells, with_spread(row), f"{of['chrf']:.1f}"]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(dict.fromkeys(lines))


def write(path: Path, name: str, table: str) -> None:
    """Replaces the part of a file between the markers of `name`."""
    text = re.sub(
        rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)",
        lambda match: match[1] + table + "\n" + match[2],
        path.read_text("utf-8"),
        flags=re.S,
    )
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    write(README, "init", first_recipe())
    write(README, "captions-short", captions.short(captions.WIDE))
    write(MEASURED, "captions", captions.systems(captions.WIDE))
    write(MEASURED, "demo", demo())
    write(MEASURED, "multi30k", multi30k())
    write(HERE.parent / "shrink.md", "family", family(SHRUNK))
    write(HERE.parent / "shrink.md", "family-small", family(SMALL))
    write(MEASURED, "languages", languages.systems())
    write(MEASURED, "languages-differences", languages.differences())
    languages.draw()
    write(MEASURED, "tatoeba8", tatoeba8())
    write(HERE.parent / "initialisation.md", "initialisation", initialisation())
    write(HERE.parent / "speed.md", "sharing", sharing())
    write(HERE.parent / "onnx.md", "conformance", printed("conformance"))
    write(HERE.parent / "serving.md", "bench-serving", printed("bench-serving"))
    write(HERE.parent / "sharing.md", "export", printed("export"))
    for name in BENCHES:
        write(HERE.parent / "speed.md", name, printed(name))
    write(HERE.parent / "scale.md", "bench-data", printed("bench-data"))
    write(HERE.parent / "scale.md", "growth", growth())

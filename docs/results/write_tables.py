"""Writes the result tables of README.md from the JSON files in this folder."""

import io
import re
from pathlib import Path

from rich.console import Console

from hf_paretokd.evaluation.results import AVERAGE, ResultRow, read_results, results_table

HERE = Path(__file__).parent
README = HERE.parent.parent / "README.md"
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
    """The 15 depths of one All-in-One run beside the models trained alone."""
    rows = read_results(HERE / "multi30k-aio.json")
    students = figures(rows)
    alone = {name: read_results(HERE / f"{name}.json") for name in BASELINES}
    plain = {depth: values for each in alone.values() for depth, values in figures(each).items()}
    lines = [
        "| depth | million parameters | BLEU, All-in-One | BLEU, trained alone | chrF, All-in-One |",
        "|---|---|---|---|---|",
    ]
    for depth in sorted(students, key=lambda text: tuple(map(int, text.split("-"))), reverse=True):
        values, other = students[depth], plain.get(depth)
        size, trained_alone = values["parameters"] / 1e6, f"{other['bleu']:.1f}" if other else ""
        lines.append(f"| {depth} | {size:.2f} | {values['bleu']:.1f} | {trained_alone} | {values['chrf']:.1f} |")
    mean = sum(values["bleu"] for values in students.values()) / len(students)
    lines.append(f"| mean of {len(students)} | | {mean:.1f} | | |")
    signature = next(row.signature for row in rows if row.metric == "bleu" and row.signature)
    cost = ["| training | updates | passes | minutes |", "|---|---|---|---|"]
    for name, each in {"multi30k-aio": rows, **alone}.items():
        took = training(each)
        cost.append(f"| {name} | {took['updates']:,.0f} | {took['passes']:.1f} | {took['training_seconds'] / 60:.0f} |")
    machine = next(row.signature for row in rows if row.metric == "updates")
    return "\n".join([*lines, "", f"Greedy search; signature `{signature}`.", "", *cost, "", f"Machine: {machine}."])


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
    write(README, "demo", demo())
    write(README, "multi30k", multi30k())
    write(HERE.parent / "initialisation.md", "initialisation", initialisation())

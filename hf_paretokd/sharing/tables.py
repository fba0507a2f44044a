"""Tables that the report and the cards share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hf_paretokd.evaluation.frontier import unbeaten
from hf_paretokd.evaluation.latency import Cost
from hf_paretokd.evaluation.outputs import System, distinct
from hf_paretokd.evaluation.results import AVERAGE, with_spread
from hf_paretokd.record import RunRecord
from hf_paretokd.scoring import main_folders

STARRED = "; * p < 0.05"


@dataclass(frozen=True)
class Row:
    """Cells of a table row; `best` rows stand out."""

    cells: Sequence[str]
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    headings: Sequence[str]
    rows: Sequence[Row]
    caption: str = ""


def models_table(record: RunRecord, costs: Mapping[System, Cost]) -> Table:
    """Size, time and scores of every model, and how it differs from the first one where there is a single pair."""
    single, first = len(record.pairs) == 1, record.systems[0]
    pair = record.pairs[0] if single else AVERAGE
    comet = any(metric == "comet" for _, _, metric in record.table)
    best = unbeaten(list(costs), lambda system: (-costs[system].milliseconds, record.quality(system) or 0.0))
    headings = ["model", "BLEU" if single else "BLEU, mean", "ms", "MB", "chrF", "sentences/s", "million parameters"]
    headings += ["COMET"] * comet + [f"against {first.title}"] * (single and len(record.systems) > 1)
    rows = []
    for system in distinct(record.systems):
        cells = [
            system.title,
            with_spread(record.table[system, pair, "bleu"]),
            f"{costs[system].milliseconds:.1f}",
            f"{costs[system].megabytes:.1f}",
            f"{record.table[system, pair, 'chrf'].value:.1f}",
            f"{record.table[system, AVERAGE, 'sentences_per_second'].value:.0f}",
            f"{record.table[system, AVERAGE, 'parameters'].value / 1e6:.2f}",
        ]
        if comet:
            found = [record.table[key].value for each in record.pairs if (key := (system, each, "comet")) in record.table]
            cells.append(f"{sum(found) / len(found):.4f}" if found else "–")
        if len(headings) > len(cells):
            tests = {row[0]: row[1] for row in paired_tests(record, system)}
            cells.append(tests.get(first.name, "–"))
        rows.append(Row(cells, system in best))
    return Table(headings, rows, "± is half the 95 % bootstrap interval, p that of a paired bootstrap test" if single else "")


def paired_tests(record: RunRecord, system: System) -> list[list[str]]:
    """A model's differences in BLEU: a row for each model it was compared with, its name first and then a cell a pair."""
    found: dict[str, dict[str, str]] = {}
    first = record.systems[0] if record.systems else system
    itself = "teacher" if system.depth == first.depth else ""  # the student as deep as its teacher is the teacher
    for pair in record.pairs:
        for test in record.against(system, pair):
            if test.against == itself:
                continue
            star = "*" if test.significant else ""
            short = f"{test.difference:+.1f}{star}".replace("-", "−")
            found.setdefault(test.against, {})[pair] = (
                short if len(record.pairs) > 1 else difference(test.difference, test.p_value)
            )
    return [[against, *(cells.get(pair, "") for pair in record.pairs)] for against, cells in found.items()]


def difference(value: float, p_value: float) -> str:
    """`−1.2 (p = 0.003)`."""
    return f"{value:+.1f} ({'p < 0.001' if p_value < 0.001 else f'p = {p_value:.3f}'})".replace("-", "−")


def training_cost(record: RunRecord) -> list[tuple[str, str]]:
    """Wall time, processor hours and what that makes for each model."""
    training = record.training
    models = len(list((record.folder / "students").glob("*-*"))) or len(main_folders(record.folder))
    found = []
    for metric, title in (("updates", "updates"), ("best_update", "best update"), ("passes", "passes over the text")):
        if metric in training:
            found.append((title, f"{training[metric].value:,g}"))
    if row := training.get("training_seconds"):
        found.append(("wall time", f"{row.value / 60:.1f} minutes, {row.value / 60 / models:.1f} for each of {models} models"))
    for metric, title in (("core_hours", "CPU core hours"), ("gpu_hours", "GPU hours")):
        if row := training.get(metric):
            found.append((title, f"{row.value:.2f}, {row.value / models:.3f} for each model"))
    return found

"""Tables that the report and the cards share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hf_paretokd.evaluation.latency import Cost
from hf_paretokd.evaluation.results import AVERAGE, MISSING, shown, signed, with_spread
from hf_paretokd.layout import PEER, TEACHER
from hf_paretokd.models.member import Member, distinct
from hf_paretokd.runs.run import Run

STARRED = "; * p < 0.05"
MOST_COLUMNS = 14  # that are taken in at once


@dataclass(frozen=True)
class Row:
    """Cells of a table row; `best` rows stand out."""

    cells: Sequence[str]
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the page; columns beyond the `fixed` ones can be chosen by the reader where they are many."""

    headings: Sequence[str]
    rows: Sequence[Row]
    caption: str = ""
    fixed: int = 0

    @property
    def filtered(self) -> bool:
        """Whether the reader is given fields to choose rows and columns."""
        return bool(self.fixed) and len(self.headings) > MOST_COLUMNS


def models_table(run: Run, costs: Mapping[Member, Cost]) -> Table:
    """Size, time and scores of every model, and how it differs from the first one where there is a single pair."""
    single, first = len(run.pairs) == 1, run.scored[0]
    pair = run.pairs[0] if single else AVERAGE
    comet = any(metric == "comet" for _, _, metric in run.table)
    headings = ["model", "BLEU" if single else "BLEU, mean", "ms", "MB"]
    small = run.int8_costs[1] if run.int8_costs else {}
    headings += ["int8 ms", "int8 MB"] * bool(small)
    headings += ["chrF", "sentences/s", "million parameters"]
    standing = run.standing
    headings += ["group"] * (len(standing) > 1)
    headings += ["COMET"] * comet + [f"against {run.called(first)}"] * (single and len(run.scored) > 1)
    rows = []
    for member in distinct(run.scored):
        cells = [
            run.called(member),
            with_spread(run.table.get((member, pair, "bleu"))),
            *cost_cells(costs.get(member)),
            *(cost_cells(small.get(member)) if small else ()),
            shown(run.table.get((member, pair, "chrf"))),
            shown(run.table.get((member, AVERAGE, "sentences_per_second")), 0),
            shown(run.table.get((member, AVERAGE, "parameters")), 2, 1e6),
            *([str(standing.get(member, MISSING))] if len(standing) > 1 else []),
        ]
        if comet:
            scores = [score for each in run.pairs if (score := run.quality(member, each, "comet")) is not None]
            cells.append(f"{sum(scores) / len(scores):.4f}" if scores else MISSING)
        if len(headings) > len(cells):
            tests = {row[0]: row[1] for row in paired_tests(run, member)}
            cells.append(tests.get(first.stem, MISSING))
        rows.append(Row(cells, standing.get(member) == 1))
    equal = "Models of a group are equal within noise: paired bootstrap, Holm" if len(standing) > 1 else ""
    tested = ", p that of a paired bootstrap test" if any("(p " in cell for row in rows for cell in row.cells) else ""
    spread = f"± is half the 95 % bootstrap interval{tested}" if single else ""
    return Table(headings, rows, ". ".join(text for text in (spread, equal) if text))


def cost_cells(cost: Cost | None) -> list[str]:
    """Milliseconds and megabytes; dashes for a student that was scored and not written."""
    return [f"{cost.milliseconds:.1f}", f"{cost.megabytes:.1f}"] if cost else [MISSING, MISSING]


def paired_tests(run: Run, member: Member) -> list[list[str]]:
    """A model's differences in BLEU: a row for each model it was compared with, its name first and then a cell a pair."""
    found: dict[str, dict[str, str]] = {}
    whole = [other for other in run.scored if other.kind in (TEACHER, PEER)]
    twin = next((other.stem for other in whole if other.student() == member), "")
    several = len(run.pairs) > 1
    for pair in run.pairs:
        for test in run.against(member, pair):
            if test.against == twin:  # the student as deep as its teacher is the teacher
                continue
            star = "*" if test.significant else ""
            short = f"{signed(test.difference)}{star}"
            found.setdefault(test.against, {})[pair] = short if several else difference(test.difference, test.p_value)
    return [[against, *(cells.get(pair, "") for pair in run.pairs)] for against, cells in found.items()]


def difference(value: float, p_value: float) -> str:
    """`−1.2 (p = 0.003)`."""
    return f"{signed(value)} ({'p < 0.001' if p_value < 0.001 else f'p = {p_value:.3f}'})"


def training_cost(run: Run) -> list[tuple[str, str]]:
    """Wall time, processor hours and what that makes for each model."""
    training, students = run.training, [member for member in run.members if not member.whole]
    models = len(students or run.members)
    found = []
    for metric, title in (("updates", "updates"), ("best_update", "best update"), ("passes", "passes over the text")):
        if metric in training:
            found.append((title, f"{training[metric].value:,g}"))
    if verdict := run.verdict:
        found.append(("verdict", verdict.finding))
    if row := training.get("training_seconds"):
        found.append(("wall time", f"{row.value / 60:.1f} minutes, {row.value / 60 / models:.1f} for each of {models} models"))
    if row := training.get("pairs_per_second"):
        tokens = [training[f"{side}_tokens_per_second"].value for side in ("source", "target")]
        found.append(
            ("speed", f"{row.value:,.0f} sentence pairs a second, {tokens[0]:,.0f} source and {tokens[1]:,.0f} target tokens")
        )
    for metric, title in (("core_hours", "CPU core hours"), ("gpu_hours", "GPU hours")):
        if row := training.get(metric):
            found.append((title, f"{row.value:.2f}, {row.value / models:.3f} for each model"))
    return found

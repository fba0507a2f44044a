"""Everything the command line prints: tables of what the library returned, and lines."""

import io
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState

from hf_paretokd.bench.tables import BenchTable
from hf_paretokd.data.distilled import Provenance
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.sampling import SamplingRow
from hf_paretokd.data.shards import Counted
from hf_paretokd.data.stores import cache_folder
from hf_paretokd.evaluation.bootstrap import Difference
from hf_paretokd.evaluation.curves import Verdict
from hf_paretokd.evaluation.latency import Protocol
from hf_paretokd.evaluation.plots import can_plot, label
from hf_paretokd.evaluation.proof import Proof
from hf_paretokd.evaluation.results import AVERAGE, GROUPS, HIGH, LOW, MISSING, ResultRow, shown, signed, with_spread
from hf_paretokd.hub.upload import Upload
from hf_paretokd.layout import ORIGINAL, WEIGHTS
from hf_paretokd.models.member import distinct
from hf_paretokd.runs.choose import Budget, Candidate, Choice
from hf_paretokd.runs.report import Report
from hf_paretokd.runs.run import Run
from hf_paretokd.runs.score import Kept, Scores
from hf_paretokd.runs.shrunk import Shrunk
from hf_paretokd.runs.systems import SystemComparison
from hf_paretokd.runs.tables import models_table
from hf_paretokd.runs.text import TrainingText

NO_PLOTS = "no plots: matplotlib is missing (pip install 'hf_paretokd[plot]')"
HEADINGS = {"sentences/s": "sent.\n/s", "million parameters": "param.\n(M)", "int8 ms": "int8\nms", "int8 MB": "int8\nMB"}


class Screen(Console):
    """Where everything is printed; whoever reads it may have had enough, which `main` knows how to end."""

    def on_broken_pipe(self) -> None:
        """Leaves it to the caller."""
        raise BrokenPipeError


class Unbreakable(io.TextIOBase):
    """The output of a training, which goes on when nobody reads it any more, or there is no room left for it."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.broken = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the output."""
        return self.file.encoding

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.file.isatty()

    def fileno(self) -> int:
        """Its number."""
        return self.file.fileno()

    def write(self, text: str) -> int:
        """Writes, if that can still be done."""
        self.try_to(lambda: self.file.write(text))
        return len(text)

    def flush(self) -> None:
        """Has it written now."""
        self.try_to(self.file.flush)

    def try_to(self, act: Callable[[], object]) -> None:
        """Does something, or says once that nothing more is shown."""
        if self.broken:
            return
        try:
            act()
        except (OSError, ValueError) as problem:
            self.broken = True
            warning(f"nothing more is shown: the output cannot be written ({problem}); the work goes on")


console = Screen(markup=False)  # paths and sentences may hold square brackets


@contextmanager
def unbreakable() -> Iterator[None]:
    """Work that is not stopped by an output that nobody reads: a training."""
    before: Any = sys.stdout
    sys.stdout = Unbreakable(before)
    try:
        yield
    finally:
        sys.stdout = before


def line(text: str) -> None:
    """One line, however long, as it is."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def error(text: str) -> None:
    """One line that says what went wrong."""
    Console(stderr=True).print(f"error: {text}", style="bold red", markup=False, highlight=False, soft_wrap=True)


def warning(text: str) -> None:
    """One line about what was not done."""
    Console(stderr=True).print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


# ---- trainings


def left_out(counted: Mapping[str, Mapping[LanguagePair, Counted]]) -> None:
    """What was left out of every split, and where it first stood; nothing if nothing was."""
    table = Table(title="Left out", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("pair", "split", "rows", "kept", "because"):
        table.add_column(heading, justify="right" if heading in ("rows", "kept") else "left", overflow="fold")
    for split, pairs in counted.items():
        for pair, each in pairs.items():
            for reason, count in each.skipped.items():
                place = f" (first: {each.examples[reason]})" if reason in each.examples else ""
                table.add_row(str(pair), split, f"{count:,}", f"{len(each):,}", Text(f"{reason}{place}"))
    if table.row_count:
        console.print(table)


def prepared(text: TrainingText, tokenizer: PreTrainedTokenizerBase) -> None:
    """How much was prepared, and where it is."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("pair", "split", "sentence pairs", "kept"):
        table.add_column(heading, justify="left" if heading in ("pair", "split") else "right")
    for split, pairs in text.encoded.items():
        for pair, encoded in pairs.items():
            table.add_row(pair, split, f"{text.counted[split][LanguagePair.parse(pair)].rows:,}", f"{len(encoded):,}")
    console.print(table)
    line(f"a vocabulary of {len(tokenizer):,} entries; all of it is in {cache_folder()}, where train finds it")


def shrunk(found: Shrunk) -> None:
    """What became of a vocabulary, and how much of the model's output stays as it was."""
    before, after = found.entries
    proof = found.proof
    line(
        f"{found.model}: {before:,} entries trimmed to {after:,}; of {proof.sentences:,} sentences {proof.equal:,} come out as "
        f"before, {proof.resegmented:,} are read in other pieces now, {proof.rechosen:,} would need a piece that went"
    )
    if 2 * proof.equal < proof.sentences:
        warning("most sentences come out otherwise; a larger --vocab_size keeps more pieces of the text")


class SamplingTable(TrainerCallback):
    """Shows what every peer will see of every language pair, when a training begins."""

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Takes the figures from the beginning of the log."""
        found: Any = next((entry["sampling"] for entry in state.log_history if "sampling" in entry), [])
        if state.is_world_process_zero and len(found) > 1:
            sampling([SamplingRow(**row) for row in found], args.sampling_names())


def sampling(rows: Sequence[SamplingRow], peers: Sequence[str]) -> None:
    """P(ℓ), expected passes and expected sentences of every pair, side by side for all peers."""
    table = Table(title="What is sampled", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("pair")
    for peer, sampled in enumerate(peers, 1):
        name = f"peer {peer}, " if len(peers) > 1 else ""
        for heading in (f"{name}{sampled}\nprobability", "\npasses", "\nsentences"):
            table.add_column(heading, justify="right")
    cells: dict[str, list[str]] = {}
    for row in rows:
        cells.setdefault(row.pair, []).extend(known(row))
    for pair, columns in cells.items():
        table.add_row(pair, *columns)
    console.print(table)


def known(row: SamplingRow) -> tuple[str, str, str]:
    """The figures of a row; those that a stream has not are dashes."""
    if row.passes is None or row.sentences is None:
        return f"{row.probability:.4f}", "–", "–"
    return f"{row.probability:.4f}", f"{row.passes:.2f}", f"{row.sentences:,.0f}"


def translations(rows: Sequence[tuple[str, str, str, str]], model: str) -> None:
    """Sentences translated by one model: pair, source, translation, reference."""
    table = Table("pair", "source", "translation", "reference", title=f"Unseen phrases, {model}", show_lines=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)


# ---- scores and reports


def scores(found: Scores, sampled: Sequence[str] = ()) -> None:
    """A table for every split; what peers sampled by below it."""
    for split in dict.fromkeys(row.split for row in found.rows):
        console.print(results_table(found.rows_of(split), sampled))


def results(run: Run) -> None:
    """The table of the split that reports quote."""
    if rows := [row for row in run.rows if row.split == run.split]:
        console.print(results_table(rows, run.sampled_by))


def results_table(rows: Sequence[ResultRow], sampled: Sequence[str] = ()) -> Table:
    """BLEU of every pair and on average, chrF and speed of every model; 80 columns hold eight languages.

    Where pairs are grouped by size there are columns for HRL and LRL, and that of the models' sizes goes if all are equal.
    Below it is what several peers sampled by.
    """
    pairs = list(dict.fromkeys(row.pair for row in rows if row.pair not in GROUPS))
    present = {row.pair for row in rows if row.metric == "bleu"}
    groups = {HIGH: "HRL", LOW: "LRL", AVERAGE: "mean"}
    averaged = {group: title for group, title in groups.items() if group in present and len(pairs) > 1}
    sized = len({row.value for row in rows if row.metric == "parameters"}) > 1 or HIGH not in averaged
    decoding = next((row.decoding for row in rows if row.decoding), "")
    table = Table(title=f"{rows[0].split}, {decoding}: BLEU of {common_side(pairs)}", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("depth")
    sizes = ["param.\n(M)"] if sized else []
    for heading in (*sizes, *short_names(pairs), *averaged.values(), "chrF", "sent.\n/s"):
        table.add_column(heading, justify="right")
    members = distinct(row.member for row in rows)
    if len(sampled) > 1:
        table.caption = ", ".join(f"peer {number}: {how}" for number, how in enumerate(sampled, 1))
    elif hidden := [row.depth for row in rows if row.member not in members]:
        table.caption = f"{hidden[0]} is the teacher"
    for member in members:
        mine = {(row.pair, row.metric): row for row in rows if row.member == member}
        bleu = [mine.get((pair, "bleu")) for pair in (*pairs, *averaged)]
        table.add_row(
            member.title,
            *(shown(mine.get((AVERAGE, "parameters")), 2, 1e6) for _ in sizes),
            *(with_spread(row) if len(pairs) == 1 else shown(row) for row in bleu),
            shown(mine.get((AVERAGE, "chrf"))),
            shown(mine.get((AVERAGE, "sentences_per_second")), 0),
        )
    return table


def short_names(pairs: Sequence[str]) -> list[str]:
    """Headings of pairs: only the side in which they differ, if there are several."""
    sources, targets = zip(*(pair.split("-") for pair in pairs), strict=True)
    if len(pairs) > 1 and len(set(targets)) == 1:
        return list(sources)
    return list(targets) if len(pairs) > 1 and len(set(sources)) == 1 else list(pairs)


def common_side(pairs: Sequence[str]) -> str:
    """What all pairs share, for the title: `… → en`, `en → …`, or the pairs' names."""
    sources, targets = zip(*(pair.split("-") for pair in pairs), strict=True)
    if len(pairs) == 1:
        return pairs[0]
    if len(set(targets)) == 1:
        return f"… → {targets[0]}"
    return f"{sources[0]} → …" if len(set(sources)) == 1 else "each pair"


def kept_scores(kept: Kept) -> None:
    """What was found beside the scores: baselines that do not compare, test sentences in the training text."""
    for each in kept.unmatched:
        console.print(
            f"{each.baseline}: no translations of this {each.split} text of {each.pair}; not compared", highlight=False
        )
    found = kept.contaminated
    if found.problem:
        line(f"contamination: not checked ({found.problem})")
    elif found.held:
        console.print(
            f"contamination: {found.held:,} of {found.sentences:,} scored sentences are in the training text, both sides"
        )


def comparison(found: SystemComparison, written: Sequence[Path]) -> None:
    """Systems side by side, their language pairs where there are several, and where all of it is."""
    metric, pairs = label(found.metric), list(found.signatures)
    several = len(pairs) > 1
    over = f"mean over {len(pairs)} pairs" if several else pairs[0]
    table = Table(title=f"{found.split}, {found.decoding}: {metric}, {over}", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    numbers = [
        metric,
        f"against {found.baseline}",
        "p\n(Holm)",
        *(["won–lost"] if several else []),
        found.unit.split()[0].replace("-", "-\n"),
    ]
    for heading in ("system", "model", *numbers):
        table.add_column(heading, justify="right" if heading in numbers else "left", no_wrap=heading in numbers[:2])
    repeated = any(each.seeds > 1 for each in found.entries)
    if repeated:
        table.add_column("seeds", justify="right")
    for each in found.entries:
        test = each.difference
        won, lost = each.wins(1), each.wins(-1)
        table.add_row(
            each.system,
            each.model,
            f"{each.score.value:.1f} ± {(each.score.high - each.score.low) / 2:.1f}",
            with_interval(test) if test else "",
            MISSING if each.adjusted is None else f"{each.adjusted:.3f}",
            *([f"{won[0]}–{lost[0]} ({won[1]}–{lost[1]})" if each.by_pair else ""] if several else []),
            MISSING if each.cost is None else f"{each.cost:.3g}" if found.axis == "cost" else f"{each.cost:,.0f}",
            *([str(each.seeds)] if repeated else []),
        )
    console.print(table)
    if several:
        console.print(pairs_of_systems(found, pairs))
    if without := [each for each in found.entries if each.difference is None and each.system != found.baseline]:
        names = ", ".join(f"{each.system} {each.model}" for each in without)
        line(f"not compared, because {found.baseline} has no model of that depth, or several: {names}")
    if len(found.depths) > 1:
        line(f"mean: over {', '.join(found.depths)}")
    if several:
        line("won–lost: language pairs, in brackets those with p < 0.05 for the pair alone")
    if found.resolution:
        line(f"resolved here: differences of {found.resolution:.1f} {metric}; intervals are 95 %, by bootstrap over sentences")
    if len(set(found.machines)) > 1:
        line(f"trained on different machines or versions: {' | '.join(found.machines)}")
    if not can_plot():
        line(NO_PLOTS)
    for path in written:
        line(str(path))


def with_interval(test: Difference) -> str:
    """`+0.8 [+0.3, +1.3]`."""
    return f"{signed(test.value)} [{signed(test.low)}, {signed(test.high)}]"


def pairs_of_systems(found: SystemComparison, pairs: Sequence[str]) -> Table:
    """Scores by language pair; * where the difference from the baseline has p < 0.05 for the pair alone."""
    title = f"{label(found.metric)} of {common_side(pairs)}; * p < 0.05 against {found.baseline}"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, heading in enumerate(("system", "model", *short_names(pairs))):
        table.add_column(heading, justify="left" if number < 2 else "right")
    for each in found.entries:
        stars = {pair: "*" if test.significant else "" for pair, test in each.by_pair.items()}
        table.add_row(each.system, each.model, *(f"{each.pairs[pair].value:.1f}{stars.get(pair, '')}" for pair in pairs))
    return table


def report(found: Report) -> None:
    """Where the report and its pictures are."""
    if found.without_plots:
        line(NO_PLOTS)
    for path in found.pictures:
        line(str(path))
    if found.page:
        line(str(found.page))
    else:
        console.print("no report: nothing was scored (evaluation.splits)")


def verdict(found: Verdict) -> None:
    """Whether the training was long enough, and what helps."""
    line("; ".join(text for text in (found.finding, found.advice) if text))


# ---- students


def members(run: Run) -> None:
    """All models of a run on one screen, and what can be done with them.

    Raises:
        TrainingError: none was scored.
    """
    run.check_scored()
    costs = run.costs
    found = models_table(run, costs[1] if costs else {})
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=f"{run.split} text of {common_side(run.pairs)}")
    for number, heading in enumerate(found.headings):
        table.add_column(HEADINGS.get(heading, heading), justify="right" if number else "left", overflow="fold")
    for row in found.rows:
        table.add_row(*row.cells, style="bold" if row.best else None)
    console.print(table)
    if found.caption:
        line(f"{found.caption}.")
    go_on(run)


def go_on(run: Run) -> None:
    """Where the models are, and three commands to go on with."""
    folders = [member.folder for member in run.members]
    smallest = min(reversed(run.members.values()), key=lambda place: (place / WEIGHTS).stat().st_size)
    costs = run.costs[1].values() if run.costs else ()
    budget = max(1, round(statistics.mean(cost.milliseconds for cost in costs))) if costs else 30
    place = shlex.quote(str(run.folder))
    some = folders if len(folders) <= 3 else [folders[0], "…", folders[-1]]
    line(f"models in {run.folder}: {', '.join(some)}; to go on:")
    for text in (
        f"choose {place} --max-ms {budget}",
        f"translate {shlex.quote(str(smallest))} FILE",
        f"push {place} --to user/name --dry-run",
    ):
        line(f"  paretokd {text}")


def choice(run: Run, protocol: Protocol, candidates: Sequence[Candidate], budget: Budget, found: Choice) -> None:
    """All models with what they cost, and which one fits."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("model")
    for heading in ("ms", "MB", "BLEU"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for each in candidates:
        misses = ", ".join(budget.misses(each))
        bleu = MISSING if each.bleu is None else f"{each.bleu:.1f}"
        mark = "← chosen" if each is found.chosen else Text(misses, style="dim")
        table.add_row(run.called(each.member), f"{each.milliseconds:.1f}", f"{each.megabytes:.1f}", bleu, mark)
    console.print(table)
    console.print(f"{protocol}; BLEU of the {run.split} text, float32", highlight=False)
    if found.chosen:
        member = found.chosen.member
        place = run.recipe.evaluation.original if member.kind == ORIGINAL else run.folder / member.folder
        line(f"{run.called(member)}: {place}")
        if found.best:
            best = found.best
            line(f"equal within noise to {best.member.title} ({best.bleu:.1f} BLEU, {best.megabytes:.1f} MB), and smaller")
    else:
        line(f"nothing fits; {found.nearest.member.title} comes nearest, with {' and '.join(found.misses)}")


def proof(found: Proof, output: Path) -> None:
    """What was compared when a model was converted."""
    equal = f"float32, greedy: {found.equal:,} of {found.sentences:,} sentences equal to generate's"
    console.print(f"{equal}, {len(found.ties)} differ in a tie", highlight=False)
    for tie in found.ties:
        console.print(f"  {tie.source!r}: {tie.original!r} | {tie.converted!r} ({tie.gap:.1e})", highlight=False, markup=False)
    if found.losses:
        table = Table("target", "sentences", "BLEU float32", f"BLEU {found.quantization}", "p")
        for loss in found.losses:
            cells = (f"{loss.float32:.2f}", f"{loss.quantized:.2f}", f"{loss.p_value:.3f}")
            table.add_row(loss.language, f"{loss.sentences:,}", *cells)
        console.print(table)
    line(f"{output}: {found.bytes / 1e6:.1f} MB")


def distilled(found: Provenance, folder: Path) -> None:
    """What a teacher has translated, and how to learn from it."""
    lines, minutes = sum(found.lines.values()), found.seconds / 60
    line(f"{folder}: {lines:,} sentence pairs, {found.of} by {found.model}, {found.decoding}, {minutes:.1f} minutes")
    line(f"train on it: --data.distilled_dir {folder} --data.distilled replace, or add")


def uploads(planned: Sequence[Upload], public: bool, cards: bool) -> None:
    """What would be uploaded: repositories, files, sizes and totals; the cards in full if they are asked for."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("repository", overflow="fold")
    for heading in ("files", "MB"):
        table.add_column(heading, justify="right")
    total = 0
    for upload in planned:
        sizes = [operation.upload_info.size for operation in upload.operations()]
        total += sum(sizes)
        table.add_row(upload.name, str(len(sizes)), f"{sum(sizes) / 1e6:.1f}")
        if cards:
            print(f"==== {upload.name}\n\n{upload.card}\n")
    console.print(table)
    kind = "public" if public else "private"
    line(f"{len(planned)} uploads, {total / 1e6:.1f} MB, {kind} where the repository is new; nothing was sent")


# ---- benches


def bench(found: BenchTable) -> None:
    """Timings."""
    table = Table(*found.headings, title=found.title)
    for row in found.rows:
        table.add_row(*row)
    console.print(table)

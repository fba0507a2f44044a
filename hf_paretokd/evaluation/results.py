"""Scores of many models as a flat list of rows, on disk (`results.json`) and as a table."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.sampling import SamplingRow
from hf_paretokd.evaluation.outputs import System, distinct, one_line
from hf_paretokd.evaluation.significance import Comparison, comparisons, paired_bootstrap
from hf_paretokd.evaluation.translation import decoder_of, translate
from hf_paretokd.manifest import read_rows, write_rows

AVERAGE, HIGH, LOW = "average", "HRL", "LRL"
GROUPS = (AVERAGE, HIGH, LOW)


@dataclass(frozen=True)
class ResultRow:
    """One figure of one model.

    `model` is `teacher`, `student`, `model` or `peer` (then `peer` is its number); `pair` is a language pair, `average` over
    all, or the average over the high- and low-resource pairs, `HRL` and `LRL`; `metric` is `bleu`, `chrf` (both with a
    sacreBLEU signature, and for single pairs the bounds `low` and `high` of the 95 % bootstrap interval), `parameters` or
    `sentences_per_second`; the split `train` holds `updates`, `best_update`, `validation_loss` (of that update) and `passes`
    with the training's signature, and `training_seconds` and `core_hours` or `gpu_hours` with machine and versions;
    `decoding` says how the text was made; `seconds` is the time the translations took.
    """

    model: str
    depth: str
    peer: int | None
    pair: str
    split: str
    metric: str
    value: float
    signature: str | None = None
    decoding: str | None = None
    seconds: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def system(self) -> System:
        """The model the figure belongs to."""
        return System(self.model, self.depth, self.peer)


@dataclass(frozen=True)
class Outputs:
    """What a model made of a split: translations of every pair, and the seconds they took."""

    translations: dict[LanguagePair, list[str]]
    seconds: dict[LanguagePair, float]
    decoding: str
    parameters: int


def translate_split(
    system: System,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Mapping[LanguagePair, ParallelText],
    tags: Mapping[LanguagePair, str],
    num_beams: int,
    engine: str = "transformers",
) -> Outputs:
    """Translates all pairs of a split with one model."""
    decoding = ("greedy" if num_beams == 1 else f"beam {num_beams}") + (" by CTranslate2" if engine == "ctranslate2" else "")
    found = Outputs({}, {}, decoding, model.num_parameters())
    decoder = decoder_of(model, tokenizer, engine)
    for pair, text in texts.items():
        start = time.perf_counter()
        sources = [tags[pair] + source for source in text.sources]
        lines = translate(model, tokenizer, sources, num_beams, 4096, f"{system.title} {pair}", decoder)
        found.translations[pair] = [one_line(line) for line in lines]
        found.seconds[pair] = time.perf_counter() - start
    return found


def score_outputs(
    outputs: Mapping[System, Outputs], texts: Mapping[LanguagePair, ParallelText], high_resource: Sequence[str] = ()
) -> tuple[list[ResultRow], list[Comparison]]:
    """Scores every model on every pair, averages over all, HRL and LRL pairs, and compares all models with the first."""
    by_pair = {
        pair: paired_bootstrap(
            {system.name: each.translations[pair] for system, each in outputs.items()}, text.targets, pair.target
        )
        for pair, text in texts.items()
    }
    split = next(iter(texts.values())).split
    rows: list[ResultRow] = []
    for system, each in outputs.items():
        own = (system.model, system.depth, system.peer)
        total = sum(each.seconds.values())
        for metric in ("bleu", "chrf"):
            scores = {pair: found.scores[metric][system.name] for pair, found in by_pair.items()}
            for pair, score in scores.items():
                spread, taken = (score.low, score.high), each.seconds[pair]
                rows.append(
                    ResultRow(*own, str(pair), split, metric, score.value, score.signature, each.decoding, taken, *spread)
                )
            values = {str(pair): score.value for pair, score in scores.items()}
            for group, value in group_averages(values, high_resource).items():
                rows.append(ResultRow(*own, group, split, metric, value, None, each.decoding, total))
        speed = sum(map(len, texts.values())) / total
        rows.append(ResultRow(*own, AVERAGE, split, "sentences_per_second", speed, None, each.decoding, total))
        rows.append(ResultRow(*own, AVERAGE, split, "parameters", each.parameters))
    return rows, [row for pair, found in by_pair.items() for row in comparisons(found, split, str(pair))]


def group_averages(values: Mapping[str, float], high_resource: Sequence[str]) -> dict[str, float]:
    """Means over all pairs, and over the high- and low-resource ones if there are both."""
    low_resource = [pair for pair in values if pair not in high_resource]
    groups = {AVERAGE: list(values)}
    if high_resource and low_resource:
        groups |= {HIGH: [pair for pair in values if pair in high_resource], LOW: low_resource}
    return {group: sum(values[pair] for pair in pairs) / len(pairs) for group, pairs in groups.items()}


def write_results(rows: Iterable[ResultRow], path: Path) -> None:
    """Writes `results.json`, whose presence says that a run is finished."""
    write_rows(rows, path)


def read_results(path: Path) -> list[ResultRow]:
    """Reads `results.json`.

    Raises:
        FileNotFoundError: there is none.
    """
    rows = read_rows(ResultRow, path)
    if rows is None:
        raise FileNotFoundError(f"{path}: no such file")
    return rows


def results_table(rows: Sequence[ResultRow]) -> Table:
    """BLEU of every pair and on average, chrF and speed of every model; 80 columns hold eight languages.

    Where pairs are grouped by size there are columns for HRL and LRL, and that of the models' sizes goes if all are equal.
    """
    pairs = list(dict.fromkeys(row.pair for row in rows if row.metric == "bleu" and row.pair not in GROUPS))
    present = {row.pair for row in rows if row.metric == "bleu"}
    groups = {HIGH: "HRL", LOW: "LRL", AVERAGE: "mean"}
    averaged = {group: title for group, title in groups.items() if group in present and len(pairs) > 1}
    sized = len({row.value for row in rows if row.metric == "parameters"}) > 1 or HIGH not in averaged
    decoding = next((row.decoding for row in rows if row.decoding), "")
    table = Table(title=f"{rows[0].split}, {decoding}: BLEU of {common_side(pairs)}", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("depth")
    sizes = ["param.\n(M)"] if sized else []
    for heading in (*sizes, *map(short_names(pairs).get, pairs), *averaged.values(), "chrF", "sent.\n/s"):
        table.add_column(heading, justify="right")
    shown = distinct(row.system for row in rows)
    if hidden := [row.depth for row in rows if row.system not in shown]:
        table.caption = f"{hidden[0]} is the teacher"
    for system in shown:
        mine = {(row.pair, row.metric): row for row in rows if row.system == system}
        scores = [mine[pair, "bleu"] for pair in (*pairs, *averaged)]
        table.add_row(
            system.title,
            *(f"{mine[AVERAGE, 'parameters'].value / 1e6:.2f}" for _ in sizes),
            *(with_spread(row) if len(pairs) == 1 else f"{row.value:.1f}" for row in scores),
            f"{mine[AVERAGE, 'chrf'].value:.1f}",
            f"{mine[AVERAGE, 'sentences_per_second'].value:.0f}",
        )
    return table


def with_spread(row: ResultRow) -> str:
    """A score with half its 95 % interval: `35.7 ± 1.2`."""
    return f"{row.value:.1f}" + ("" if row.low is None else f" ± {(row.high - row.low) / 2:.1f}")


def short_names(pairs: Sequence[str]) -> dict[str, str]:
    """Headings of pairs: only the side in which they differ, if there are several."""
    sources, targets = zip(*(pair.split("-") for pair in pairs), strict=True)
    if len(pairs) > 1 and len(set(targets)) == 1:
        return dict(zip(pairs, sources, strict=True))
    return dict(zip(pairs, targets, strict=True)) if len(pairs) > 1 and len(set(sources)) == 1 else {p: p for p in pairs}


def common_side(pairs: Sequence[str]) -> str:
    """What all pairs share, for the title: `… → en`, `en → …`, or the pairs' names."""
    sources, targets = zip(*(pair.split("-") for pair in pairs), strict=True)
    if len(pairs) == 1 or (len(set(sources)) > 1 and len(set(targets)) > 1):
        return ", ".join(pairs) if len(pairs) == 1 else "each pair"
    return f"… → {targets[0]}" if len(set(targets)) == 1 else f"{sources[0]} → …"


def print_sampling(rows: Sequence[SamplingRow], temperatures: Sequence[float]) -> None:
    """Prints P(ℓ), expected passes and expected sentences of every pair, side by side for all peers."""
    table = Table(title="What is sampled", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("pair")
    for peer, temperature in enumerate(temperatures, 1):
        name = f"peer {peer}, " if len(temperatures) > 1 else ""
        for heading in (f"{name}τ = {temperature:g}\nprobability", "\npasses", "\nsentences"):
            table.add_column(heading, justify="right")
    cells: dict[str, list[str]] = {}
    for row in rows:
        cells.setdefault(row.pair, []).extend((f"{row.probability:.4f}", f"{row.passes:.2f}", f"{row.sentences:,.0f}"))
    for pair, columns in cells.items():
        table.add_row(pair, *columns)
    Console().print(table)

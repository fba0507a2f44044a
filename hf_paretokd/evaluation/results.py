"""Scores of many models as a flat list of rows, on disk (`results.json`) and as a table."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.sampling import SamplingRow
from hf_paretokd.evaluation.metrics import score_translations
from hf_paretokd.evaluation.translation import decoder_of, translate
from hf_paretokd.manifest import write_whole

AVERAGE, HIGH, LOW = "average", "HRL", "LRL"
GROUPS = (AVERAGE, HIGH, LOW)


@dataclass(frozen=True)
class ResultRow:
    """One figure of one model.

    `model` is `teacher`, `student`, `model` or `peer` (then `peer` is its number); `pair` is a language pair, `average` over
    all, or the average over the high- and low-resource pairs, `HRL` and `LRL`; `metric` is `bleu`, `chrf` (both with a
    sacreBLEU signature), `parameters` or `sentences_per_second`; the split `train` holds `updates`, `best_update`,
    `validation_loss` (of that update), `passes` and `training_seconds`, with machine and versions as the signature;
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


def score_model(
    name: str,
    depth: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Mapping[LanguagePair, ParallelText],
    tags: Mapping[LanguagePair, str],
    num_beams: int,
    peer: int | None = None,
    high_resource: Sequence[str] = (),
    engine: str = "transformers",
) -> list[ResultRow]:
    """Translates a split with one model and scores every pair, and the averages over all, HRL and LRL pairs."""
    decoding = ("greedy" if num_beams == 1 else f"beam {num_beams}") + (" by CTranslate2" if engine == "ctranslate2" else "")
    rows, total, split = [], 0.0, ""
    decoder = decoder_of(model, tokenizer, engine)
    for pair, text in texts.items():
        split = text.split
        start = time.perf_counter()
        sources = [tags[pair] + source for source in text.sources]
        hypotheses = translate(model, tokenizer, sources, num_beams, 4096, f"{name} {depth} {pair}", decoder)
        seconds = time.perf_counter() - start
        total += seconds
        for metric, score in score_translations(hypotheses, text.targets, pair.target).items():
            value, signature = score["score"], score["signature"]
            rows.append(ResultRow(name, depth, peer, str(pair), split, metric, value, signature, decoding, seconds))
    for metric in ("bleu", "chrf"):
        values = {row.pair: row.value for row in rows if row.metric == metric}
        for group, value in group_averages(values, high_resource).items():
            rows.append(ResultRow(name, depth, peer, group, split, metric, value, None, decoding, total))
    speed = sum(map(len, texts.values())) / total
    rows.append(ResultRow(name, depth, peer, AVERAGE, split, "sentences_per_second", speed, None, decoding, total))
    rows.append(ResultRow(name, depth, peer, AVERAGE, split, "parameters", model.num_parameters()))
    return rows


def group_averages(values: Mapping[str, float], high_resource: Sequence[str]) -> dict[str, float]:
    """Means over all pairs, and over the high- and low-resource ones if there are both."""
    low_resource = [pair for pair in values if pair not in high_resource]
    groups = {AVERAGE: list(values)}
    if high_resource and low_resource:
        groups |= {HIGH: [pair for pair in values if pair in high_resource], LOW: low_resource}
    return {group: sum(values[pair] for pair in pairs) / len(pairs) for group, pairs in groups.items()}


def write_results(rows: Iterable[ResultRow], path: Path) -> None:
    """Writes `results.json`, whose presence says that a run is finished."""
    write_whole(path, json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False) + "\n")


def read_results(path: Path) -> list[ResultRow]:
    """Reads `results.json`."""
    return [ResultRow(**row) for row in json.loads(path.read_text("utf-8"))]


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
    sizes = ["million\nparam."] if sized else []
    for heading in (*sizes, *map(short_names(pairs).get, pairs), *averaged.values(), "chrF", "sent.\n/s"):
        table.add_column(heading, justify="right")
    for name, depth, peer in dict.fromkeys((row.model, row.depth, row.peer) for row in rows):
        mine = [row for row in rows if (row.model, row.depth, row.peer) == (name, depth, peer)]
        values = {(row.pair, row.metric): row.value for row in mine}
        table.add_row(
            f"{depth} teacher" if name == "teacher" else f"{depth} peer {peer}" if peer else depth,
            *(f"{values[AVERAGE, 'parameters'] / 1e6:.2f}" for _ in sizes),
            *(f"{values[pair, 'bleu']:.1f}" for pair in (*pairs, *averaged)),
            f"{values[AVERAGE, 'chrf']:.1f}",
            f"{values[AVERAGE, 'sentences_per_second']:.0f}",
        )
    return table


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

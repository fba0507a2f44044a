"""Scores of many models as a flat list of rows, on disk in `results.json`."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.data.languages import Direction
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.sampling import sampling_names
from hf_paretokd.errors import ModelError, RecipeError, TrainingError
from hf_paretokd.evaluation.significance import Comparison, comparisons, paired_bootstrap
from hf_paretokd.evaluation.translations import KeptLines
from hf_paretokd.inference.decoding import decoder_of, translate
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.member import Member
from hf_paretokd.utils.files import read_rows, write_rows

AVERAGE, HIGH, LOW = "average", "HRL", "LRL"
GROUPS = (AVERAGE, HIGH, LOW)
MISSING = "–"  # in tables


@dataclass(frozen=True)
class ResultRow:
    """One figure of one model.

    `model` is `teacher`, `student`, `model` or `peer` (then `peer` is its number); `pair` is a language pair, `average` over
    all, or the average over the high- and low-resource pairs, `HRL` and `LRL`; `metric` is `bleu`, `chrf` (both with a
    sacreBLEU signature, and for single pairs the bounds `low` and `high` of the 95 % bootstrap interval), `parameters` or
    `sentences_per_second`; the split `train` holds `updates`, `best_update`, `validation_loss` (of that update) and `passes`
    with the training's signature, and with machine and versions `training_seconds`, `core_hours` (of the processor, all
    processes) or `gpu_hours`, and `pairs_per_second`, `source_tokens_per_second` and `target_tokens_per_second`, of all peers;
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
    def member(self) -> Member:
        """The model the figure belongs to."""
        return Member(self.model, Depth.parse(self.depth), self.peer)


@dataclass(frozen=True)
class Outputs:
    """What a model made of a split: translations of every pair, and the seconds they took."""

    translations: Mapping[LanguagePair, list[str]]
    seconds: dict[LanguagePair, float]
    decoding: str
    parameters: int


def described_decoding(num_beams: int, engine: str = "transformers") -> str:
    """`greedy` or `beam 5`, and by what if not by transformers."""
    return ("greedy" if num_beams == 1 else f"beam {num_beams}") + (" by CTranslate2" if engine == "ctranslate2" else "")


def translate_split(
    member: Member,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Mapping[LanguagePair, ParallelText],
    directions: Mapping[LanguagePair, Direction],
    num_beams: int,
    engine: str,
    folder: Path,
) -> Outputs:
    """Translates all pairs of a split with one model, into files below a folder."""
    kept = KeptLines(folder, next(iter(texts.values())).split, member.stem)
    found = Outputs(kept, {}, described_decoding(num_beams, engine), model.num_parameters())
    decoder = decoder_of(model, tokenizer, engine)
    for pair, text in texts.items():
        start = time.perf_counter()
        what = f"{member.title} {pair}"
        kept.keep(pair, translate(model, tokenizer, text.sources, num_beams, 4096, what, decoder, directions[pair]))
        found.seconds[pair] = time.perf_counter() - start
    return found


def score_outputs(
    outputs: Mapping[Member, Outputs], texts: Mapping[LanguagePair, ParallelText], high_resource: Sequence[str] = ()
) -> tuple[list[ResultRow], list[Comparison]]:
    """Scores every model on every pair, averages over all, HRL and LRL pairs, and compares all models with the first."""
    by_pair = {}
    for pair, text in texts.items():
        lines = {member.stem: made.translations[pair] for member, made in outputs.items()}
        by_pair[pair] = paired_bootstrap(lines, text.targets, pair.target)
    split, metrics = next(iter(texts.values())).split, list(next(iter(by_pair.values())).scores)
    rows: list[ResultRow] = []
    for member, made in outputs.items():
        own = (member.kind, str(member.depth), member.peer)
        total = sum(made.seconds.values())
        for metric in metrics:
            scores = {pair: found.scores[metric][member.stem] for pair, found in by_pair.items()}
            for pair, score in scores.items():
                spread, taken = (score.low, score.high), made.seconds[pair]
                rows.append(
                    ResultRow(*own, str(pair), split, metric, score.value, score.signature, made.decoding, taken, *spread)
                )
            values = {str(pair): score.value for pair, score in scores.items()}
            for group, value in group_averages(values, high_resource).items():
                rows.append(ResultRow(*own, group, split, metric, value, None, made.decoding, total))
        speed = sum(map(len, texts.values())) / total
        rows.append(ResultRow(*own, AVERAGE, split, "sentences_per_second", speed, None, made.decoding, total))
        rows.append(ResultRow(*own, AVERAGE, split, "parameters", made.parameters))
    return rows, [row for pair, found in by_pair.items() for row in comparisons(found, split, str(pair))]


def group_averages(values: Mapping[str, float], high_resource: Sequence[str]) -> dict[str, float]:
    """Means over all pairs, and over the high- and low-resource ones if there are both."""
    low_resource = [pair for pair in values if pair not in high_resource]
    groups = {AVERAGE: list(values)}
    if high_resource and low_resource:
        groups |= {HIGH: [pair for pair in values if pair in high_resource], LOW: low_resource}
    return {group: sum(values[pair] for pair in pairs) / len(pairs) for group, pairs in groups.items()}


def sampled_by(rows: Iterable[ResultRow]) -> list[str]:
    """What every peer of a training sampled by, such as `τ = 5`, from its signature; nothing where none says so."""
    signature = next((row.signature for row in rows if row.split == "train" and row.metric == "updates" and row.signature), "")
    fields = dict(part.split(":", 1) for part in signature.split("|") if ":" in part)
    try:
        numbers = [[float(number) for number in fields.get(name, "").split(",") if number] for name in ("tau", "unimax_epochs")]
        kinds = ["schedule"] * len(numbers[0]) if "sampling_schedule" in fields else fields.get("samplers", "").split(",")
        return sampling_names(numbers[0], numbers[1], kinds if any(kinds) else None)
    except ValueError:  # of another hand
        return []


def called(member: Member, sampled: Sequence[str]) -> str:
    """A model's title, and of peers and their students what the peer sampled by."""
    return f"{member.title} ({sampled[member.peer - 1]})" if member.peer and member.peer <= len(sampled) else member.title


def write_results(rows: Iterable[ResultRow], path: Path) -> None:
    """Writes `results.json`, whose presence says that a run is finished."""
    write_rows(rows, path)


def read_results(path: Path) -> list[ResultRow]:
    """Reads `results.json`.

    Raises:
        FileNotFoundError: there is none.
        TrainingError: it is damaged.
    """
    rows = read_rows(ResultRow, path)
    if rows is None:
        raise FileNotFoundError(f"{path}: no such file")
    if not rows:
        raise TrainingError(f"{path}: holds no results; remove it and paretokd evaluate the run")
    try:
        for row in rows:
            check_row(row)
    except (ModelError, RecipeError) as error:
        raise TrainingError(f"{path}: cannot be read ({error}); remove it and paretokd evaluate the run") from error
    return rows


def check_row(row: ResultRow) -> None:
    """Raises a ModelError or RecipeError if a row is of no model, or of no language pair."""
    row.member  # noqa: B018 (reads the depth)
    if row.peer is not None and row.peer < 1:
        raise ModelError(f"peer {row.peer} is not 1 or more")
    if row.pair not in GROUPS:
        LanguagePair.parse(row.pair)


def shown(row: ResultRow | None, digits: int = 1, unit: float = 1.0) -> str:
    """A figure as a cell of a table, in multiples of `unit`; a dash where there is none."""
    return MISSING if row is None else f"{row.value / unit:.{digits}f}"


def signed(value: float) -> str:
    """A difference with its sign, to a tenth: `+0.8`, `−1.2`, `+0.0`."""
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")


def with_spread(row: ResultRow | None) -> str:
    """A score with half its 95 % interval: `35.7 ± 1.2`; a dash where there is none."""
    if row is None or row.low is None or row.high is None:
        return shown(row)
    return f"{row.value:.1f} ± {(row.high - row.low) / 2:.1f}"

"""Milliseconds a sentence and megabytes a model, measured on this machine."""

import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tqdm.auto import tqdm

from hf_paretokd.data.languages import Direction
from hf_paretokd.errors import ModelError
from hf_paretokd.inference.ctranslate import Decoder
from hf_paretokd.inference.decoding import longest_output
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.member import Member
from hf_paretokd.utils.files import save_json, typed_json
from hf_paretokd.utils.timing import interleaved_medians

SENTENCES, TURNS = 20, 3
Source = tuple[list[int], Direction]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Protocol:
    """How latencies were measured; figures of other protocols do not compare.

    Sentences are translated one at a time (batch of one), evenly spaced over the lengths of the text; models take turns
    sentence by sentence; the figure is the median over sentences of the medians over turns.
    """

    engine: str
    quantization: str
    num_beams: int
    sentences: int
    turns: int
    threads: int
    machine: str

    def __str__(self) -> str:
        decoding = "greedy" if self.num_beams == 1 else f"beam {self.num_beams}"
        engine = f"CTranslate2 {self.quantization}" if self.engine == "ctranslate2" else "generate, float32"
        return (
            f"{engine}, {decoding}, one sentence at a time, median of {self.sentences} sentences and {self.turns} turns, "
            f"{self.threads} {'thread' if self.threads == 1 else 'threads'}, {self.machine}"
        )


@dataclass(frozen=True)
class Cost:
    """What a model costs: median milliseconds a sentence, and megabytes (10⁶ bytes) of its weights on disk."""

    milliseconds: float
    megabytes: float


@dataclass(frozen=True)
class Translator:
    """A model that is timed.

    Args:
        decoder: what translates.
        sources: source ids, special tokens included, and what the model is told of their languages; the same sentences for all.
        limit: longest output in tokens.
    """

    decoder: Decoder
    sources: Sequence[Source]
    limit: int


def spaced_by_length(sources: Sequence[Source]) -> list[int]:
    """The places of twenty sentences (or all, if there are fewer) at even steps from the shortest to the longest."""
    ranked = sorted(range(len(sources)), key=lambda row: len(sources[row][0]))
    count = min(SENTENCES, len(ranked))
    return [ranked[round(step * (len(ranked) - 1) / max(count - 1, 1))] for step in range(count)]


def measure_latencies(translators: Mapping[Member, Translator], num_beams: int) -> dict[Member, float]:
    """Median milliseconds a sentence of every model, which take turns.

    Args:
        translators: what is timed; all have as many sentences.
        num_beams: 1 for greedy search.
    """
    found: dict[Member, list[float]] = {member: [] for member in translators}
    sentences = min(len(each.sources) for each in translators.values())
    for row in tqdm(range(sentences), desc="latency", unit=" sentences", leave=False, disable=None):
        actions = {member: partial(translate_one, each, row, num_beams) for member, each in translators.items()}
        for member, seconds in interleaved_medians(actions, TURNS, progress=False).items():
            found[member].append(1000 * seconds)
    return {member: statistics.median(times) for member, times in found.items()}


def translate_one(translator: Translator, row: int, num_beams: int) -> None:
    """Translates one of its sentences to the end."""
    ids, direction = translator.sources[row]
    list(translator.decoder([ids], longest_output([ids], translator.limit), num_beams, direction))


@dataclass(frozen=True)
class KeptCost(Cost):
    """A row of `latency.json`."""

    model: str
    depth: str
    peer: int | None


@dataclass(frozen=True)
class Kept:
    """The content of `latency.json`."""

    protocol: Protocol
    models: list[KeptCost]


def write_costs(protocol: Protocol, costs: Mapping[Member, Cost], path: Path) -> None:
    """Writes `latency.json`."""
    rows = [KeptCost(**asdict(cost), model=of.kind, depth=str(of.depth), peer=of.peer) for of, cost in costs.items()]
    save_json(asdict(Kept(protocol, rows)), path)


def read_costs(path: Path) -> tuple[Protocol, dict[Member, Cost]] | None:
    """Reads what `write_costs` wrote; None where nothing was measured, or the file is damaged: it can be measured again."""
    if not path.is_file():
        return None
    try:
        kept = typed_json(Kept, path, finite=True)
        costs = {
            Member(row.model, Depth.parse(row.depth), row.peer): Cost(row.milliseconds, row.megabytes) for row in kept.models
        }
        return kept.protocol, costs
    except (OSError, ValueError, ModelError):
        logger.warning("%s: damaged; what it held is measured anew where it is needed", path)
        return None

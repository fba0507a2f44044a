"""Milliseconds a sentence and megabytes a model, measured on this machine."""

import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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


def spaced_by_length(sources: Sequence[Source]) -> list[Source]:
    """Twenty sentences (or all, if there are fewer) at even steps from the shortest to the longest."""
    ranked = sorted(sources, key=lambda source: len(source[0]))
    count = min(SENTENCES, len(ranked))
    return [ranked[round(step * (len(ranked) - 1) / max(count - 1, 1))] for step in range(count)]


def measure_latencies(
    decoders: Mapping[Member, Decoder], sentences: Sequence[Source], limit: int, num_beams: int
) -> dict[Member, float]:
    """Median milliseconds a sentence of every decoder, which take turns.

    Args:
        decoders: what translates, by model.
        sentences: source ids, special tokens included, and what the models are told of their languages.
        limit: longest output in tokens.
        num_beams: 1 for greedy search.
    """
    found: dict[Member, list[float]] = {member: [] for member in decoders}
    for ids, direction in tqdm(sentences, desc="latency", unit=" sentences", leave=False):
        longest = longest_output([ids], limit)
        actions = {
            member: lambda decode=decode: list(decode([ids], longest, num_beams, direction))  # noqa: B023 (called at once)
            for member, decode in decoders.items()
        }
        for member, seconds in interleaved_medians(actions, TURNS, progress=False).items():
            found[member].append(1000 * seconds)
    return {member: statistics.median(times) for member, times in found.items()}


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

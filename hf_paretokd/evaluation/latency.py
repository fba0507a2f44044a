"""Milliseconds a sentence and megabytes a model, measured on this machine."""

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm.auto import tqdm

from hf_paretokd.evaluation.ctranslate import Decoder
from hf_paretokd.evaluation.outputs import System
from hf_paretokd.evaluation.translation import longest_output
from hf_paretokd.manifest import write_whole
from hf_paretokd.timing import interleaved_medians

SENTENCES, TURNS = 20, 3


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


def machine_name() -> str:
    """The processor, on which latencies are measured whatever else there is."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        names = [
            line.partition(":")[2].strip() for line in information.read_text().splitlines() if line.startswith("model name")
        ]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def spaced_by_length(ids: Sequence[list[int]]) -> list[list[int]]:
    """Twenty sentences (or all, if there are fewer) at even steps from the shortest to the longest."""
    ranked = sorted(ids, key=len)
    count = min(SENTENCES, len(ranked))
    return [ranked[round(step * (len(ranked) - 1) / max(count - 1, 1))] for step in range(count)]


def measure_latencies(
    decoders: Mapping[System, Decoder], sentences: Sequence[list[int]], limit: int, num_beams: int
) -> dict[System, float]:
    """Median milliseconds a sentence of every decoder, which take turns.

    Args:
        decoders: what translates, by model.
        sentences: source ids, special tokens included.
        limit: longest output in tokens.
        num_beams: 1 for greedy search.
    """
    found: dict[System, list[float]] = {system: [] for system in decoders}
    for ids in tqdm(sentences, desc="latency", unit=" sentences", leave=False):
        longest = longest_output([ids], limit)
        actions = {
            system: lambda decode=decode, ids=ids, longest=longest: list(decode([ids], longest, num_beams))
            for system, decode in decoders.items()
        }
        for system, seconds in interleaved_medians(actions, TURNS, progress=False).items():
            found[system].append(1000 * seconds)
    return {system: statistics.median(times) for system, times in found.items()}


def write_costs(protocol: Protocol, costs: Mapping[System, Cost], path: Path) -> None:
    """Writes `latency.json`."""
    models = [{**asdict(system), **asdict(cost)} for system, cost in costs.items()]
    write_whole(path, json.dumps({"protocol": asdict(protocol), "models": models}, indent=1, ensure_ascii=False) + "\n")


def read_costs(path: Path) -> tuple[Protocol, dict[System, Cost]] | None:
    """Reads what `write_costs` wrote; None where nothing was measured."""
    if not path.is_file():
        return None
    content = json.loads(path.read_text("utf-8"))
    costs = {
        System(each["model"], each["depth"], each["peer"]): Cost(each["milliseconds"], each["megabytes"])
        for each in content["models"]
    }
    return Protocol(**content["protocol"]), costs

"""Latency and size of a run's models."""

import logging
import tempfile
from pathlib import Path

import torch

from hf_paretokd.evaluation.latency import (
    TURNS,
    Cost,
    Protocol,
    measure_latencies,
    read_costs,
    spaced_by_length,
    write_costs,
)
from hf_paretokd.inference import ctranslate
from hf_paretokd.inference.ctranslate import Decoder
from hf_paretokd.inference.decoding import check_engine, decoder_of
from hf_paretokd.layout import CONVERTED_WEIGHTS, WEIGHTS
from hf_paretokd.models.files import usable_length
from hf_paretokd.models.member import Member, distinct
from hf_paretokd.runs.run import Run
from hf_paretokd.utils.machine import machine_name, moved

logger = logging.getLogger(__name__)


def measure_run(run: Run, engine: str = "transformers", quantization: str = "float32") -> tuple[Protocol, dict[Member, Cost]]:
    """Latency and size of the run's models on this machine; kept in `latency.json` and measured once for a protocol.

    Args:
        run: a finished run.
        engine: `transformers` (float32) or `ctranslate2`.
        quantization: of CTranslate2.

    Raises:
        RecipeError: there is no such engine, or it has no quantization.
        ModelError: CTranslate2 is missing.
        TrainingError: nothing was scored.
    """
    check_engine(engine, quantization)
    sources = spaced_by_length(run.source_ids())
    members = distinct(member for member in run.members if member in run.scored)
    limit = usable_length(run.config(members[-1]), run.tokenizer)
    beams = run.recipe.evaluation.num_beams
    protocol = Protocol(engine, quantization, beams, len(sources), TURNS, torch.get_num_threads(), machine_name())
    path = run.layout.latency(engine, quantization)
    known = read_costs(path)
    if known and known[0] == protocol and set(members) <= set(known[1]):
        return known
    decoders: dict[Member, Decoder] = {}
    megabytes: dict[Member, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for member in members:
            if engine == "transformers":
                decoders[member] = decoder_of(moved(run.model(member).eval(), "cpu"), run.tokenizer, engine)
                weights = run.members[member] / WEIGHTS
            else:
                converted = Path(temporary) / member.stem
                ctranslate.convert(run.members[member], converted, quantization)
                decoders[member] = ctranslate.ctranslate_decoder(converted, run.tokenizer, one_by_one=True)
                weights = converted / CONVERTED_WEIGHTS
            megabytes[member] = weights.stat().st_size / 1e6
    times = measure_latencies(decoders, sources, limit, beams)
    costs = {member: Cost(round(times[member], 3), round(megabytes[member], 3)) for member in members}
    try:
        write_costs(protocol, costs, path)
    except OSError as error:  # a folder that can only be read
        logger.warning("%s: not kept (%s)", path, error.strerror)
    return protocol, costs

"""Latency and size of a run's models."""

import logging
import tempfile
from pathlib import Path

import torch

from hf_paretokd.errors import ModelError
from hf_paretokd.evaluation.latency import (
    TURNS,
    Cost,
    Protocol,
    Translator,
    measure_latencies,
    read_costs,
    spaced_by_length,
    write_costs,
)
from hf_paretokd.inference import ctranslate
from hf_paretokd.inference.decoding import check_engine, decoder_of
from hf_paretokd.layout import CONVERTED_WEIGHTS, ORIGINAL, WEIGHTS
from hf_paretokd.models.files import save_model
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
    own_sources = run.source_ids()
    rows = spaced_by_length(own_sources)
    members = distinct(member for member in run.members if member in run.scored)
    originals = [member for member in run.scored if member.kind == ORIGINAL]
    beams = run.recipe.evaluation.num_beams
    protocol = Protocol(engine, quantization, beams, len(rows), TURNS, torch.get_num_threads(), machine_name())
    path = run.layout.latency(engine, quantization)
    known = read_costs(path)
    wanted = {*members, *(originals if engine == "transformers" else ())}  # which other engines may not take
    if known and known[0] == protocol and wanted <= set(known[1]):
        return known
    members = [*(originals if run.original else []), *members]
    translators: dict[Member, Translator] = {}
    megabytes: dict[Member, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for member in members:
            loaded, sources = run.loaded(member), run.source_ids(member) if member.kind == ORIGINAL else own_sources
            folder = run.members.get(member, Path(temporary) / ORIGINAL)
            if member.kind == ORIGINAL:  # which may lie in a cache, in other files
                save_model(loaded.model, loaded.tokenizer, folder)
            if engine == "transformers":
                decoder = decoder_of(moved(loaded.model.eval(), "cpu"), loaded.tokenizer, engine)
                own = Path(run.recipe.evaluation.original or "", WEIGHTS)  # may be in half precision
                weights = own if member.kind == ORIGINAL and own.is_file() else folder / WEIGHTS
            else:
                converted = Path(temporary) / f"{member.stem}-converted"
                try:
                    ctranslate.convert(folder, converted, quantization)
                except ModelError as error:
                    if member.kind != ORIGINAL:
                        raise
                    logger.warning("the original was not measured: %s", error)
                    continue
                decoder = ctranslate.ctranslate_decoder(converted, loaded.tokenizer, one_by_one=True)
                weights = converted / CONVERTED_WEIGHTS
            translators[member] = Translator(decoder, [sources[row] for row in rows], loaded.limit)
            megabytes[member] = weights.stat().st_size / 1e6
    times = measure_latencies(translators, beams)
    costs = {member: Cost(round(times[member], 3), round(megabytes[member], 3)) for member in translators}
    try:
        write_costs(protocol, costs, path)
    except OSError as error:  # a folder that can only be read
        logger.warning("%s: not kept (%s)", path, error.strerror)
    return protocol, costs

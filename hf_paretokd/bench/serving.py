"""How fast a run's student translates, as trained and converted, beside the teacher's `generate`."""

import tempfile
from pathlib import Path

import torch

from hf_paretokd.bench.tables import BenchTable
from hf_paretokd.errors import ModelError
from hf_paretokd.inference.ctranslate import convert, ctranslate_decoder
from hf_paretokd.inference.decoding import check_beams, decode_all, decoder_of
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.files import usable_length
from hf_paretokd.models.member import Member
from hf_paretokd.runs.run import Run
from hf_paretokd.utils.machine import machine_name
from hf_paretokd.utils.timing import interleaved_medians


def bench_serving(
    run: Run, student: str = "6-2", num_beams: int = 5, sentences: int = 200, max_tokens: int = 1024, repeats: int = 5
) -> BenchTable:
    """Sentences a second of the teacher and a student.

    Args:
        run: a finished run with students.
        student: its depth.
        num_beams: beam width.
        sentences: how many of the scored text, from its start.
        max_tokens: source tokens in a batch, the same for all.
        repeats: timed turns of each; medians are shown.

    Raises:
        RecipeError, ModelError, TrainingError: no such beam width, the run has no such student, or kept no text.
    """
    check_beams(num_beams)
    member = Member("student", Depth.parse(student))
    if member not in run.members:
        there = [str(each.depth) for each in run.members if each.kind == "student" and not each.peer] or ["none"]
        raise ModelError(f"{run.folder}: has no student {student}; there are {', '.join(there)}")
    (teacher, tokenizer), (model, _) = run.load(run.main), run.load(member)
    limit = usable_length(teacher.config, tokenizer)
    found = run.source_ids()
    direction = found[0][1]
    ids = [each for each, told in found if told.tgt_lang == direction.tgt_lang][:sentences]
    decoders = {
        f"{run.main.depth} teacher, generate": decoder_of(teacher.eval(), tokenizer, "transformers"),
        f"{student}, generate": decoder_of(model.eval(), tokenizer, "transformers"),
    }
    with tempfile.TemporaryDirectory() as temporary:
        for quantization in ("float32", "int8"):
            convert(run.members[member], Path(temporary) / quantization, quantization)
            decoder = ctranslate_decoder(Path(temporary) / quantization, tokenizer)
            decoders[f"{student}, CTranslate2 {quantization}"] = decoder
    actions = {
        name: lambda decoder=decoder: decode_all(decoder, ids, limit, num_beams, max_tokens, direction=direction)
        for name, decoder in decoders.items()
    }
    times = interleaved_medians(actions, repeats)
    what = f"{run.folder.name}, beam {num_beams}, {len(ids)} sentences, batches of {max_tokens} tokens"
    table = BenchTable(f"{what}, {torch.get_num_threads()} threads, {machine_name()}", ("model", "sentences/s", "× teacher"))
    first = next(iter(times.values()))
    for name, seconds in times.items():
        table.add(name, f"{len(ids) / seconds:.1f}", f"{first / seconds:.2f}")
    return table

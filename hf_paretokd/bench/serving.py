"""How fast a run's student translates, as trained and converted, beside the teacher's `generate`."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from hf_paretokd.evaluation.ctranslate import convert, ctranslate_decoder
from hf_paretokd.evaluation.latency import machine_name
from hf_paretokd.evaluation.translation import decode_all, decoder_of, position_limit
from hf_paretokd.models.building import load_model
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.record import read_run
from hf_paretokd.scoring import load_tokenizer, run_models
from hf_paretokd.sharing.costs import sample_sources
from hf_paretokd.timing import interleaved_medians


def main(words: Sequence[str]) -> None:
    """`paretokd bench serving`."""
    parser = argparse.ArgumentParser(prog="paretokd bench serving", description=__doc__)
    parser.add_argument("run", help="folder of a finished run with students")
    parser.add_argument("--student", default="6-2", help="its depth")
    parser.add_argument("--num_beams", type=int, default=5)
    parser.add_argument("--sentences", type=int, default=200, help="of the scored text, from its start")
    parser.add_argument("--max_tokens", type=int, default=1024, help="source tokens in a batch, the same for all")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each; medians are shown")
    options = parser.parse_args(words)
    record = read_run(options.run)
    main_folder = run_models(record.folder)[0][1]
    teacher, tokenizer = load_model(main_folder).eval(), load_tokenizer(main_folder)
    folder = record.folder / "students" / options.student
    student, limit = load_model(folder).eval(), position_limit(teacher)
    sources = sample_sources(record)[: options.sentences]
    ids = tokenizer(sources, truncation=True, max_length=limit, return_attention_mask=False)["input_ids"]
    decoders = {
        f"{model_depth(teacher)} teacher, generate": decoder_of(teacher, tokenizer, "transformers"),
        f"{options.student}, generate": decoder_of(student, tokenizer, "transformers"),
    }
    with tempfile.TemporaryDirectory() as temporary:
        for quantization in ("float32", "int8"):
            convert(folder, Path(temporary) / quantization, quantization)
            decoder = ctranslate_decoder(Path(temporary) / quantization, tokenizer)
            decoders[f"{options.student}, CTranslate2 {quantization}"] = decoder
    actions = {
        name: lambda decoder=decoder: decode_all(decoder, ids, limit, options.num_beams, options.max_tokens)
        for name, decoder in decoders.items()
    }
    times = interleaved_medians(actions, options.repeats)
    threads = torch.get_num_threads()
    title = f"{record.folder.name}, beam {options.num_beams}, {len(ids)} sentences, batches of {options.max_tokens} tokens, "
    table = Table("model", "sentences/s", "× teacher", title=f"{title}{threads} threads, {machine_name()}")
    first = next(iter(times.values()))
    for name, seconds in times.items():
        table.add_row(name, f"{len(ids) / seconds:.1f}", f"{first / seconds:.2f}")
    Console().print(table)

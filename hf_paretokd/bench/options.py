"""What the options of training are worth on this machine: attention, precision, compilation, optimizer."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from hf_paretokd.bench.arithmetic import typical_draw
from hf_paretokd.bench.shapes import shape_named
from hf_paretokd.bench.steps import Options, all_in_one_step, bench_parser, micro_batches, plain_step, title
from hf_paretokd.timing import interleaved_medians

KEPT = 1e3  # GB
OPTIONS = {
    "as trained in float32": Options(),
    "eager attention": Options(attention="eager"),
    "sdpa attention": Options(attention="sdpa"),
    "bf16, eager attention": Options(attention="eager", bf16=True),
    "bf16, sdpa attention": Options(attention="sdpa", bf16=True),
    "torch_compile": Options(compiled=True),
    "torch_compile and bf16": Options(compiled=True, bf16=True),
    "AdamW not fused": Options(fused=False),
}


def main(words: Sequence[str]) -> None:
    """`paretokd bench options`."""
    parser = bench_parser("Worth of the options of training, as ratios.", max_tokens=512, repeats=7)
    parser.add_argument("--no_compile", action="store_true", help="leave torch_compile out; it needs a C++ compiler")
    options = parser.parse_args(words)
    shape = shape_named(options.shape)
    batches, draw = micro_batches(shape, options.max_tokens, 4), typical_draw(shape, 2)
    table = Table(
        "speed beside float32 as trained",
        "plain",
        "All-in-One, K = 2",
        title=title(options),
    )
    chosen = {name: each for name, each in OPTIONS.items() if not (options.no_compile and each.compiled)}
    columns = []
    for make in (
        lambda each: plain_step(shape, batches, each),
        lambda each: all_in_one_step(shape, batches, lambda: draw, KEPT, each),
    ):
        times = interleaved_medians({name: make(each) for name, each in chosen.items()}, options.repeats)
        columns.append([times["as trained in float32"] / seconds for seconds in times.values()])
    for name, *speeds in zip(chosen, *columns, strict=True):
        table.add_row(name, *(f"{speed:.2f}" for speed in speeds))
    Console().print(table)

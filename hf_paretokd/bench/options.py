"""What the options of training are worth on this machine: attention, precision, compilation, optimizer."""

from hf_paretokd.bench.arithmetic import typical_draw
from hf_paretokd.bench.shapes import shape_named
from hf_paretokd.bench.steps import Options, Settings, all_in_one_step, micro_batches, plain_step
from hf_paretokd.bench.tables import BenchTable
from hf_paretokd.utils.timing import interleaved_medians

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


def bench_options(options: Settings, compiled: bool = True) -> BenchTable:
    """Speed with each option beside float32 as trained; `compiled` takes torch_compile along, which needs a C++ compiler.

    Raises:
        RecipeError: there is no such shape.
    """
    shape = shape_named(options.shape)
    batches, draw = micro_batches(shape, options.max_tokens, 4), typical_draw(shape, 2)
    chosen = {name: option for name, option in OPTIONS.items() if compiled or not option.compiled}
    columns = [
        speeds(interleaved_medians({name: make(option) for name, option in chosen.items()}, options.repeats))
        for make in (
            lambda option: plain_step(shape, batches, option),
            lambda option: all_in_one_step(shape, batches, lambda: draw, KEPT, option),
        )
    ]
    table = BenchTable(options.title, ("speed beside float32 as trained", "plain", "All-in-One, K = 2"))
    for name in chosen:
        table.add(name, *(f"{column[name]:.2f}" for column in columns))
    return table


def speeds(seconds: dict[str, float]) -> dict[str, float]:
    """Speed of every option beside the first."""
    first = next(iter(seconds.values()))
    return {name: first / taken for name, taken in seconds.items()}

"""What the methods cost in plain steps, each beside its bound by multiply-adds."""

from collections.abc import Sequence

from hf_paretokd.bench.arithmetic import shared_cost
from hf_paretokd.bench.sampling import bench_samplers, multi_distill_step
from hf_paretokd.bench.shapes import Shape, shape_named
from hf_paretokd.bench.steps import (
    SMOOTHING,
    Batch,
    Settings,
    Step,
    all_in_one_step,
    both_step,
    consistency_step,
    micro_batches,
    plain_step,
    sampled_step,
    taught_step,
    with_average,
)
from hf_paretokd.bench.tables import BenchTable
from hf_paretokd.bench.training import ALWAYS, Draws, Report, mean_over_draws
from hf_paretokd.models.depth import Depth, candidate_depths
from hf_paretokd.utils.timing import interleaved_medians

SMALLEST = Depth(2, 2)


def smallest_always(shape: Shape) -> list[list[Depth]]:
    """All draws of the default form of All-in-One KD: 2-2 and one of the others."""
    others = [depth for depth in candidate_depths(Depth(shape.layers, shape.layers)) if depth != SMALLEST]
    return [[SMALLEST, depth] for depth in others or [SMALLEST]]


def bench_forms(shape: Shape, batches: Sequence[Batch], options: Settings, report: Report) -> None:
    """All-in-One KD with the smallest student always drawn, in one view or two."""
    draws, full = Draws(smallest_always(shape)), Depth(shape.layers, shape.layers)
    steps = {views: all_in_one_step(shape, batches, draws, ALWAYS, views=views) for views in ("shared", "two")}
    steps["both"] = both_step(shape, batches, draws, ALWAYS)
    times, base = mean_over_draws(draws, steps, plain_step(shape, batches), options.repeats)
    one, count = shared_cost(shape, [full]), len(draws.all)
    bounds = {
        "shared": sum(shared_cost(shape, [full, *draw]) for draw in draws.all) / count / one,
        "two": 1 + sum(shared_cost(shape, draw) for draw in draws.all) / count / one,
    }
    for views, name in (("shared", "All-in-One, default form (K = 2, one of them 2-2)"), ("two", "  the same in two views")):
        report.ratio(f"{name} / plain step", bounds[views], times[views] / base)
    report.ratio("pareto_all_in_one, a peer's update / plain step", bounds["shared"] + 1 / 3, times["both"] / 2 / base)


def bench_others(shape: Shape, batches: Sequence[Batch], options: Settings, report: Report) -> None:
    """Consistency, averages, sampling, and a small student with a large teacher."""
    full, repeats = Depth(shape.layers, shape.layers), max(7, options.repeats)
    steps: dict[str, Step] = {
        "plain": plain_step(shape, batches),
        "r_drop": consistency_step(shape, batches, "r_drop"),
        "simcut": consistency_step(shape, batches, "simcut"),
        "average": with_average(shape, batches),
        "2-2": plain_step(shape, batches, depth=SMALLEST),
        "taught": taught_step(shape, batches, SMALLEST),
        "top": multi_distill_step(shape, batches, 4),
    }
    times = interleaved_medians(steps, repeats)
    report.ratio("R-Drop / plain step", 2.0, times["r_drop"] / times["plain"])
    report.ratio("SimCut / plain step", 2.0, times["simcut"] / times["plain"])
    report.ratio("plain step with averaged weights / plain step", 1.0, times["average"] / times["plain"])
    bound = (shared_cost(shape, [SMALLEST]) + shared_cost(shape, [full]) / 3) / shared_cost(shape, [full])
    whole = f"{full.encoder}-{full.decoder}"
    report.ratio(f"word_kd 2-2 from {whole} / plain step {whole}", bound, times["taught"] / times["plain"])
    report.ratio(
        f"word_kd 2-2 from {whole} / (2-2 step + a third of a {whole} step)",
        1.0,
        times["taught"] / (times["2-2"] + times["plain"] / 3),
    )
    report.ratio("multi_distill from 4 entries a token / plain step", 1.0, times["top"] / times["plain"])
    drawn = interleaved_medians({"τ": sampled_step(shape, 0.0), "UniMax": sampled_step(shape, 4.0)}, repeats)
    unimax, temperature = (times["plain"] + drawn[name] for name in ("UniMax", "τ"))
    report.ratio("plain step drawn by UniMax / by temperature", 1.0, unimax / temperature)


def bench_methods(options: Settings) -> BenchTable:
    """The table.

    Raises:
        RecipeError: there is no such shape.
    """
    shape = shape_named(options.shape)
    batches = micro_batches(shape, options.max_tokens, 1)
    report = Report(f"{options.title}, smoothing {SMOOTHING}")
    bench_others(shape, batches, options, report)
    bench_samplers(shape, batches, options, report)
    bench_forms(shape, batches, options, report)
    return report.table

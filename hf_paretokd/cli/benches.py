"""`paretokd bench` and its kinds."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from hf_paretokd.cli.parser import Parser, positive

SHAPES = ("iwslt", "base", "small", "tiny")
PARTS = ("students", "peers", "validation", "trainer", "loss", "memory")


def step_options(parser: Parser, max_tokens: int, repeats: int) -> None:
    """What all benches of training steps share, with these defaults."""
    parser.option("what", "--shape", default="iwslt", choices=SHAPES, help="of the models")
    parser.option("what", "--max_tokens", type=positive, default=max_tokens, metavar="N", help="tokens of a micro-batch")
    parser.option("what", "--repeats", type=positive, default=repeats, metavar="N", help="timed turns of every step")


def settings_of(options: Namespace) -> Any:
    """Shape, tokens and turns."""
    from hf_paretokd.bench.steps import Settings

    return Settings(options.shape, options.max_tokens, options.repeats)


def training_options(parser: Parser) -> None:
    """Of `paretokd bench`."""
    step_options(parser, 512, 1)
    parser.option("what", "--loss_tokens", type=positive, default=4096, metavar="N", help="for the memory of the loss alone")
    parser.option("what", "--parts", nargs="+", choices=PARTS, help="what is measured (default: all)")


def training(options: Namespace, _: list[str]) -> None:
    """`paretokd bench`: All-in-One KD."""
    from hf_paretokd.bench.training import TrainingSettings, bench_training
    from hf_paretokd.cli import show

    given = TrainingSettings(options.shape, options.max_tokens, options.repeats, options.loss_tokens)
    show.bench(bench_training(given, options.parts))


def methods_options(parser: Parser) -> None:
    """Of `paretokd bench methods`."""
    step_options(parser, 512, 3)


def methods(options: Namespace, _: list[str]) -> None:
    """`paretokd bench methods`."""
    from hf_paretokd.bench.methods import bench_methods
    from hf_paretokd.cli import show

    show.bench(bench_methods(settings_of(options)))


def pareto_options(parser: Parser) -> None:
    """Of `paretokd bench pareto`."""
    step_options(parser, 1024, 7)
    parser.option("what", "--updates", type=positive, default=10, metavar="N", help="of an epoch, for the searches")


def pareto(options: Namespace, _: list[str]) -> None:
    """`paretokd bench pareto`."""
    from hf_paretokd.bench.pareto import bench_pareto
    from hf_paretokd.cli import show

    show.bench(bench_pareto(settings_of(options), options.updates))


def options_options(parser: Parser) -> None:
    """Of `paretokd bench options`."""
    step_options(parser, 512, 7)
    parser.option("what", "--no_compile", action="store_true", help="leave torch_compile out; it needs a C++ compiler")


def options(given: Namespace, _: list[str]) -> None:
    """`paretokd bench options`."""
    from hf_paretokd.bench.options import bench_options
    from hf_paretokd.cli import show

    show.bench(bench_options(settings_of(given), compiled=not given.no_compile))


def data_options(parser: Parser) -> None:
    """Of `paretokd bench data`."""
    parser.option("what", "--rows", type=positive, nargs="+", default=[200_000, 800_000], metavar="N", help="sentence pairs")


def data(options: Namespace, _: list[str]) -> None:
    """`paretokd bench data`."""
    from hf_paretokd.bench.data import bench_data
    from hf_paretokd.cli import show

    show.bench(bench_data(options.rows))


def server_options(parser: Parser) -> None:
    """Of `paretokd bench server`."""
    parser.option("what", "export", type=Path, help="for CTranslate2, of one language pair")
    parser.option("what", "--text", type=Path, required=True, metavar="FILE", help="source text, a sentence a line")
    parser.option("how", "--requests", type=positive, default=10_000, metavar="N", help="of the most clients")
    parser.option("how", "--lines", type=positive, default=1, metavar="N", help="sentences of a request")
    parser.option("how", "--clients", type=positive, nargs="+", default=[1, 8, 32], metavar="N", help="that ask at a time")
    parser.option("how", "--num_beams", type=positive, default=1, metavar="N", help="beam width, 1 for greedy search")


def server(options: Namespace, _: list[str]) -> None:
    """`paretokd bench server`."""
    from hf_paretokd.bench.server import bench_server
    from hf_paretokd.cli import show

    show.bench(bench_server(**vars(options)))


def serving_options(parser: Parser) -> None:
    """Of `paretokd bench serving`."""
    parser.option("what", "run", nargs="?", help="a finished run with students (default: new models and made-up text)")
    parser.option("what", "--shape", default="base", choices=SHAPES, help="of new models")
    parser.option("what", "--student", default="6-2", metavar="E-D", help="its depth")
    parser.option("how", "--threads", type=positive, nargs="+", default=[1, 2], metavar="N", help="one after the other")
    parser.option("how", "--num_beams", type=positive, default=1, metavar="N", help="beam width, 1 for greedy search")
    parser.option("how", "--sentences", type=positive, default=200, metavar="N", help="of the text, from its start")
    parser.option(
        "how", "--max_tokens", type=positive, default=1024, metavar="N", help="source tokens of a batch, the same for all"
    )
    parser.option("how", "--repeats", type=positive, default=3, metavar="N", help="timed runs of each; medians are shown")


def serving(options: Namespace, _: list[str]) -> None:
    """`paretokd bench serving`."""
    from hf_paretokd.bench.serving import bench_serving, of_run, of_shape
    from hf_paretokd.cli import show
    from hf_paretokd.runs.resolve import RUN, expect
    from hf_paretokd.runs.run import Run

    given = vars(options)
    run, shape, student = (given.pop(name) for name in ("run", "shape", "student"))
    if run:
        expect(run, RUN)
    translated = of_run(Run(run).finished(), student) if run else of_shape(shape, student)
    show.bench(bench_serving(translated, **given))

"""`paretokd bench` and its kinds."""

import argparse

from hf_paretokd.bench import methods, pareto, serving, training
from hf_paretokd.bench import options as options_module
from hf_paretokd.bench.shapes import SHAPES
from hf_paretokd.bench.steps import Settings
from hf_paretokd.cli import show
from hf_paretokd.runs.run import Run


def bench(words: list[str]) -> None:
    """`paretokd bench`."""
    kinds = {"methods": bench_methods, "pareto": bench_pareto, "options": bench_options, "serving": bench_serving}
    if words[:1] and words[0] in kinds:
        kinds[words[0]](words[1:])
    else:
        bench_training(words)


def bench_parser(description: str, max_tokens: int, repeats: int) -> argparse.ArgumentParser:
    """The options that all benches of training steps share, with these defaults."""
    parser = argparse.ArgumentParser(prog="paretokd bench", description=description)
    parser.add_argument("--shape", default="iwslt", help=", ".join(SHAPES))
    parser.add_argument("--max_tokens", type=int, default=max_tokens, help="tokens of a micro-batch")
    parser.add_argument("--repeats", type=int, default=repeats, help="timed turns of every step")
    return parser


def bench_training(words: list[str]) -> None:
    """`paretokd bench`: All-in-One KD."""
    parser = bench_parser("Costs of All-in-One KD, as ratios.", max_tokens=512, repeats=1)
    parser.add_argument("--loss_tokens", type=int, default=4096, help="tokens for the memory of the loss alone")
    parser.add_argument("--parts", nargs="+", choices=training.PARTS, default=list(training.PARTS), help="what is measured")
    options = parser.parse_args(words)
    settings = training.TrainingSettings(options.shape, options.max_tokens, options.repeats, options.loss_tokens)
    show.bench(training.bench_training(settings, options.parts))


def bench_methods(words: list[str]) -> None:
    """`paretokd bench methods`."""
    parser = bench_parser("Costs of the methods in plain steps.", max_tokens=512, repeats=3)
    options = parser.parse_args(words)
    show.bench(methods.bench_methods(Settings(options.shape, options.max_tokens, options.repeats)))


def bench_pareto(words: list[str]) -> None:
    """`paretokd bench pareto`."""
    parser = bench_parser("Costs of Pareto mutual distillation.", max_tokens=1024, repeats=7)
    parser.add_argument("--updates", type=int, default=10, help="updates of an epoch, for the searches")
    options = parser.parse_args(words)
    show.bench(pareto.bench_pareto(Settings(options.shape, options.max_tokens, options.repeats), options.updates))


def bench_options(words: list[str]) -> None:
    """`paretokd bench options`."""
    parser = bench_parser("Worth of the options of training, as ratios.", max_tokens=512, repeats=7)
    parser.add_argument("--no_compile", action="store_true", help="leave torch_compile out; it needs a C++ compiler")
    options = parser.parse_args(words)
    settings = Settings(options.shape, options.max_tokens, options.repeats)
    show.bench(options_module.bench_options(settings, compiled=not options.no_compile))


def bench_serving(words: list[str]) -> None:
    """`paretokd bench serving`."""
    parser = argparse.ArgumentParser(prog="paretokd bench serving", description=serving.__doc__)
    parser.add_argument("run", help="folder of a finished run with students")
    parser.add_argument("--student", default="6-2", help="its depth")
    parser.add_argument("--num_beams", type=int, default=5)
    parser.add_argument("--sentences", type=int, default=200, help="of the scored text, from its start")
    parser.add_argument("--max_tokens", type=int, default=1024, help="source tokens in a batch, the same for all")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each; medians are shown")
    options = vars(parser.parse_args(words))
    show.bench(serving.bench_serving(Run(options.pop("run")).finished(), **options))

"""The command line `paretokd`; every command is a few lines over the library."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

USAGE = """usage: paretokd COMMAND …

  train RECIPE [--resume] [--overwrite] [--field value …]   text to trained, scored students; any field can be overridden
  demo [--method pareto|plain] [--folder DIR] [--resume] [--overwrite] [--field value …]
                                         the same on an embedded corpus, with five minutes of training
  evaluate RUN|MODEL [--field value …]   BLEU and chrF of a run, or of any checkpoint (--data.pairs de-en --data.data_dir …)
  extract RUN|MODEL DEPTH … --output DIR [--overwrite]   students as plain checkpoints, such as 6-2
  report RUN                             report.html and its pictures: all models, what they cost and what they are worth
  choose RUN [--max-ms N] [--max-mb N] [--min-bleu N] [--pair de-en]   the student that fits a device
  export MODEL --to ctranslate2 [--quantization int8] --output DIR   converted, and proved on the test text of its run
  translate MODEL [FILE] [--to de] [--output FILE]   a file or standard input, line by line
  push RUN --to user/name [--dry-run]    models and cards to the Hub
  bench [pareto|options] [--shape iwslt|base] [--max_tokens N]   what the methods cost on this machine, as ratios
  bench serving RUN [--student 6-2]      how fast a student translates, as it is and converted

Fields are written --section.field value, training arguments --field value; `paretokd train RECIPE --help` lists them.
"""


def train(words: list[str]) -> None:
    """`paretokd train`."""
    from hf_paretokd.recipes.train import run

    run(words)


def demo(words: list[str]) -> None:
    """`paretokd demo`: writes the corpus, runs the shipped recipe on it, translates unseen phrases with a saved student."""
    from importlib.resources import as_file, files

    from hf_paretokd.data.demo_corpus import write_demo_corpus
    from hf_paretokd.recipes.train import run
    from hf_paretokd.runs import show_translations

    parser = argparse.ArgumentParser(prog="paretokd demo", add_help=False)
    parser.add_argument("--folder", type=Path, default=Path("demo"))
    parser.add_argument("--method", default="all_in_one")
    options, words = parser.parse_known_args(words)
    text, shown = options.folder / "text", {"all_in_one": "students/2-2", "pareto_mutual": "peers/1", "plain": "model"}
    method = "pareto_mutual" if options.method == "pareto" else options.method
    folder = options.folder / ("run" if method == "all_in_one" else f"run-{method}")
    if not text.exists():
        write_demo_corpus(text)
    with as_file(files("hf_paretokd.recipes").joinpath("demo.yaml")) as recipe:
        run([str(recipe), f"--method={method}", f"--data.data_dir={text}", f"--output_dir={folder}", *words])
    show_translations(folder, shown[method])


def evaluate(words: list[str]) -> None:
    """`paretokd evaluate`."""
    from hf_paretokd.runs import evaluate_run
    from hf_paretokd.scoring import evaluate_model

    if not words or words[0].startswith("-"):
        usage("evaluate: give a run folder or a model")
    (evaluate_run if (Path(words[0]) / "recipe.yaml").is_file() else evaluate_model)(words[0], words[1:])


def extract(words: list[str]) -> None:
    """`paretokd extract`."""
    from hf_paretokd.runs import extract_depths

    parser = argparse.ArgumentParser(prog="paretokd extract", description="Write students as plain checkpoints.")
    parser.add_argument("source", help="a run folder, or any sequence-to-sequence checkpoint")
    parser.add_argument("depths", nargs="+", help="encoder-decoder layers, such as 6-2")
    parser.add_argument("--output", type=Path, required=True, help="folder for E-D subfolders")
    parser.add_argument("--overwrite", action="store_true", help="replace students that are there")
    options = parser.parse_args(words)
    extract_depths(options.source, options.depths, options.output, options.overwrite)


def report(words: list[str]) -> None:
    """`paretokd report`."""
    from hf_paretokd.runs import report_run

    parser = argparse.ArgumentParser(prog="paretokd report", description="Write report.html and the models' cards anew.")
    parser.add_argument("run", help="folder of a finished run")
    report_run(Path(parser.parse_args(words).run))


def choose(words: list[str]) -> None:
    """`paretokd choose`; exit code 1 if nothing fits."""
    from hf_paretokd.delivery.choice import PREFERENCES
    from hf_paretokd.evaluation.ctranslate import QUANTIZATIONS
    from hf_paretokd.evaluation.translation import ENGINES
    from hf_paretokd.sharing.costs import show_choice

    parser = argparse.ArgumentParser(prog="paretokd choose", description="Name the model of a run that fits a device.")
    parser.add_argument("run", help="folder of a finished run")
    parser.add_argument("--max-ms", type=float, help="milliseconds a sentence, one at a time, on this machine")
    parser.add_argument("--max-mb", type=float, help="megabytes of weights on disk")
    parser.add_argument("--min-bleu", type=float, help="BLEU in the run's results")
    parser.add_argument("--pair", help="whose BLEU counts (default: the mean over pairs)")
    parser.add_argument("--prefer", choices=PREFERENCES, help="among those that fit (default: best)")
    parser.add_argument("--engine", choices=ENGINES, default="transformers")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, default="float32", help="of CTranslate2")
    if not show_choice(**vars(parser.parse_args(words))):
        sys.exit(1)


def export(words: list[str]) -> None:
    """`paretokd export`."""
    from hf_paretokd.evaluation.ctranslate import QUANTIZATIONS
    from hf_paretokd.sharing.export import export

    parser = argparse.ArgumentParser(
        prog="paretokd export",
        description="Convert a model and prove that it translates as before; for a model outside a run, say where test text is "
        "(--data.pairs de-en --data.data_dir …).",
    )
    parser.add_argument("model", help="a student or another checkpoint")
    parser.add_argument("--to", choices=["ctranslate2"], required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder for the converted model")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, default="float32")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in the folder")
    options, overrides = parser.parse_known_args(words)
    export(options.model, options.output, options.quantization, options.overwrite, overrides)


def translate(words: list[str]) -> None:
    """`paretokd translate`."""
    from hf_paretokd.delivery.stream import LONG
    from hf_paretokd.evaluation.ctranslate import QUANTIZATIONS
    from hf_paretokd.evaluation.translation import ENGINES
    from hf_paretokd.sharing.export import translate_file

    parser = argparse.ArgumentParser(prog="paretokd translate", description="Translate line by line; blank lines stay blank.")
    parser.add_argument("model", help="a checkpoint, or a folder that `paretokd export` wrote")
    parser.add_argument("source", nargs="?", help="a text file (default: standard input)")
    parser.add_argument("--output", help="a file (default: standard output)")
    parser.add_argument("--to", help="target language, for models with several: puts >>de<< before each line")
    parser.add_argument("--engine", choices=ENGINES, help="default: transformers, or what the folder was exported for")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, default="float32", help="if CTranslate2 has to convert first")
    parser.add_argument("--num_beams", type=int, default=4, help="beam width, 1 for greedy search (default: 4)")
    parser.add_argument("--long", choices=LONG, default="split", help="lines longer than the model takes (default: split)")
    parser.add_argument("--buffer", type=int, default=256, help="lines translated together; 1 answers each line at once")
    parser.add_argument("--max_tokens", type=int, default=4096, help="source tokens in a batch")
    translate_file(**vars(parser.parse_args(words)))


def push(words: list[str]) -> None:
    """`paretokd push`."""
    from hf_paretokd.sharing.push import LAYOUTS, show_push

    parser = argparse.ArgumentParser(prog="paretokd push", description="Upload a run's models to the Hub, each with its card.")
    parser.add_argument("run", help="folder of a finished run")
    parser.add_argument("--to", required=True, help="user/name; models get user/name-6-2 and so on")
    parser.add_argument("--depths", nargs="+", help="only these, such as 6-2 2-2")
    parser.add_argument("--layout", choices=LAYOUTS, default="repositories", help="one repository a model, or one with folders")
    parser.add_argument("--public", action="store_true", help="make new repositories public (default: private)")
    parser.add_argument("--dry-run", action="store_true", help="print the cards and upload nothing")
    show_push(**vars(parser.parse_args(words)))


def bench(words: list[str]) -> None:
    """`paretokd bench`."""
    from hf_paretokd.bench import options, pareto, serving, training

    kinds = {"pareto": pareto.main, "options": options.main, "serving": serving.main}
    if words[:1] and words[0] in kinds:
        kinds[words[0]](words[1:])
    else:
        training.main(words)


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": train,
    "demo": demo,
    "evaluate": evaluate,
    "extract": extract,
    "report": report,
    "choose": choose,
    "export": export,
    "translate": translate,
    "push": push,
    "bench": bench,
}


def usage(problem: str) -> None:
    """Ends with the usage text and exit code 2."""
    sys.exit(f"{USAGE}\nerror: {problem}")


def main() -> int:
    """Runs one command; errors a user can mend are printed in one line, without a traceback."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if words else 2
    if words[0] not in COMMANDS:
        usage(f"unknown command {words[0]!r}")
    from hf_paretokd.errors import reported

    try:
        return reported(lambda: COMMANDS[words[0]](words[1:]))
    except BrokenPipeError:  # whoever read the output has had enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

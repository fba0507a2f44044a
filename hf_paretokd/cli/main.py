"""The command line `paretokd`: words to calls of the library, what they return to `show`, errors to exit codes."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_paretokd.errors import FolderReadOnly, ParetoKDError, RecipeError, TrainingInterrupted

if TYPE_CHECKING:
    from hf_paretokd.evaluation.results import ResultRow
    from hf_paretokd.runs.recipe import Recipe
    from hf_paretokd.runs.run import Run
    from hf_paretokd.runs.score import Scores
    from hf_paretokd.training.trainer import TranslationTrainer

INTERRUPTED = 75  # the exit code of an interrupted training: EX_TEMPFAIL, try again
UNFIT = (ValueError, TypeError, KeyError, ImportError, ArithmeticError, OSError, AttributeError)
CTRL_C = 130  # as shells have it: 128 and the number of SIGINT
USAGE = """usage: paretokd COMMAND …

  train RECIPE|RUN [--resume] [--overwrite] [--extend UPDATES] [--field value …]
                                         text to trained, scored students; any field can be overridden
  demo [--method pareto|plain] [--folder DIR] [--resume] [--overwrite] [--field value …]
                                         the same on an embedded corpus, with five minutes of training
  shrink MODEL --pairs fr-en --text FILE … --output RUN [--parallel DIR] [--vocab_size N] [--depths 6-2 …] [--field value …]
                                         a family of small models from one that exists
  evaluate RUN|MODEL [--field value …]   BLEU and chrF of a run, or of any checkpoint (--data.pairs de-en --data.data_dir …)
  extract RUN|MODEL DEPTH … --output DIR [--overwrite]   students as plain checkpoints, such as 6-2
  report RUN                             report.html and its pictures: all models, what they cost and what they are worth
  compare RUN … [--axis updates|cost|best] [--baseline RUN]
                                         runs side by side: scores with intervals, paired tests, cost
  choose RUN [--max-ms N] [--max-mb N] [--min-bleu N] [--pair de-en]   the student that fits a device
  export MODEL --to ctranslate2 [--quantization int8] --output DIR   converted, and proved on the test text of its run
  distill RUN|MODEL --output CORPUS [--text FILE …] [--engine ctranslate2] [--data.field value …]
                                         training sources, or other text, translated for students to learn from
  translate MODEL [FILE] [--to de] [--output FILE]   a file or standard input, line by line
  push RUN --to user/name [--dry-run]    models and cards to the Hub
  bench [pareto|options] [--shape iwslt|base] [--max_tokens N]   what the methods cost on this machine, as ratios
  bench serving RUN [--student 6-2]      how fast a student translates, as it is and converted

Fields are written --section.field value, training arguments --field value; `paretokd train RECIPE --help` lists them.
"""
RESCORED = ("baselines", "high_resource")  # evaluation fields that change what is compared, not what is measured


# ---- trainings


def train(words: list[str]) -> None:
    """`paretokd train`."""
    from hf_paretokd.cli import show
    from hf_paretokd.layout import RunLayout
    from hf_paretokd.runs.recipe import describe_fields, load_recipe

    if not words or words[0].startswith("-"):
        raise RecipeError("give a recipe first: paretokd train recipe.yaml [--resume] [--overwrite] [--field value …]")
    how, fields = start_options([word for word in words[1:] if word != "--help"])
    path, folder = Path(words[0]), RunLayout(Path(words[0]))
    if path.is_dir() and not folder.recipe.is_file():
        raise RecipeError(f"{path}: is no run ({folder.recipe.name} is missing); name a run, or a recipe")
    if folder.recipe.is_file():  # a run, wherever it lies by now
        path, fields = folder.recipe, [f"--output_dir={words[0]}", *fields]  # another may be given
    if "--help" in words:
        show.line(describe_fields(path, fields))
        return
    recipe = load_recipe(path, fields)
    elsewhere = recipe.run_folder.resolve() != folder.folder.resolve()
    if folder.recipe.is_file() and elsewhere and (how["resume"] or how["extend"]):
        raise RecipeError(f"--output_dir: {words[0]} goes on where it is; move or copy the folder, or leave --output_dir out")
    own = RunLayout(recipe.run_folder)
    if path.is_file() and own.recipe.resolve() == path.resolve() and not (own.checkpoints.exists() or own.results.exists()):
        raise RecipeError(f"{path}: is where the run would write its own recipe; move it, or choose another output_dir")
    train_recipe(recipe, **how)


def start_options(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """How a training starts, and the other words: overrides of fields."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--extend", action="append", nargs="?", const="", default=[])
    options, fields = parser.parse_known_args(words)
    extend = 0
    for number in options.extend:
        if not number.isdecimal() or int(number) < 1:
            raise RecipeError(f"--extend: {number!r} is not a number of further updates")
        extend += int(number)
    if len(options.extend) + options.resume + options.overwrite > 1 + bool(extend and options.resume):
        raise RecipeError("give one of --resume, --overwrite and --extend, once")
    return {"resume": options.resume, "overwrite": options.overwrite, "extend": extend}, fields


def train_recipe(recipe: "Recipe", resume: bool = False, overwrite: bool = False, extend: int = 0) -> "Run | None":
    """A recipe from text to scored students; returns the run in the main process."""
    from hf_paretokd.cli import show
    from hf_paretokd.layout import StartLayout
    from hf_paretokd.runs.prepare import check_folder, prepare
    from hf_paretokd.runs.shrink import begun
    from hf_paretokd.runs.shrunk import Shrunk
    from hf_paretokd.utils.files import typed_json

    if extend:
        resume = True  # only what is there can be made longer
    if recipe.raw.get("shrink") is not None:
        if not resume:
            check_folder(recipe, resume, overwrite)  # before anything is translated
        recipe = begun(recipe)
        if recipe.training.process_index == 0:
            show.shrunk(typed_json(Shrunk, StartLayout.of(recipe.run_folder).record))
    prepared = prepare(recipe, resume, overwrite or bool(extend))
    start, main_process = prepared.start, recipe.training.process_index == 0
    try:
        if main_process:
            show.text(prepared.texts)
        try:
            trainer = prepared.trainer([show.SamplingTable()])
            trainer.train(resume_from_checkpoint=resume, extend=extend)
        except TrainingInterrupted as error:
            raise TrainingInterrupted(f"{error}: paretokd train {start.layout.folder} --resume", error.signal) from error
        except UNFIT as error:
            if start.begun:
                raise
            reason = " ".join(str(error).split()) or type(error).__name__  # what torch, transformers say of arguments
            raise RecipeError(f"{recipe.where}: the training cannot begin ({type(error).__name__}: {reason})") from error
        start.begin()  # if there was nothing left to train
        return finish_run(recipe, trainer) if main_process else None
    finally:
        start.release()


def finish_run(recipe: "Recipe", trainer: "TranslationTrainer") -> "Run":
    """What comes after the last update, in the main process: the models are written, scored, reported and pushed."""
    from hf_paretokd.cli import show
    from hf_paretokd.runs.prepare import keep_models
    from hf_paretokd.runs.push import push_run
    from hf_paretokd.runs.score import score_run, training_rows

    run = keep_models(recipe, trainer)
    training, scores = training_rows(trainer), score_run(run)
    show.scores(scores)
    keep_and_report(run, scores, training)
    if trainer.args.push_to_hub:
        private, to = trainer.args.hub_private_repo is not False, trainer.args.hub_model_id or ""
        again = f"paretokd push {run.folder} --to {to}{'' if private else ' --public'}"
        for address in push_run(run, to, private=private, again=again):
            show.line(address)
    return run


def keep_and_report(run: "Run", scores: "Scores", training: Sequence["ResultRow"]) -> None:
    """Writes scores and what is made of them."""
    from hf_paretokd.cli import show
    from hf_paretokd.runs.report import report_run
    from hf_paretokd.runs.score import keep_scores

    show.kept_scores(keep_scores(run, scores, training))
    show.report(report_run(run))


def shrink(words: list[str]) -> None:
    """`paretokd shrink`: the shipped recipe of that name, its fields by words."""
    from importlib.resources import as_file, files

    from hf_paretokd.runs.recipe import load_recipe

    parser = argparse.ArgumentParser(
        prog="paretokd shrink",
        description="Make a family of small models from a Marian model that exists: it translates text for them, its "
        "vocabulary is cut to what that text needs, and All-in-One KD trains every depth from its layers. The same command "
        "with --resume goes on where it was cut off. Other fields are those of a recipe (--max_steps 5000 …).",
    )
    parser.add_argument("model", help="folder or Hub id")
    parser.add_argument("--pairs", nargs="+", required=True, help="such as fr-en")
    parser.add_argument("--text", nargs="+", default=[], help="text in the source language; {source} and {pair} are filled in")
    parser.add_argument("--parallel", help="folder with parallel text, SPLIT.LANG[.gz]: train, validation, test, or some")
    parser.add_argument("--vocab_size", type=int, help="entries of the smaller vocabulary (default: what the text needs)")
    parser.add_argument("--depths", nargs="+", help="students that are scored, such as 6-2 3-2 2-2 (default: all)")
    parser.add_argument("--output", required=True, help="the run; what comes before its training is beside it")
    options, rest = parser.parse_known_args(words)
    given = {
        "--model.from_pretrained": options.model,
        "--data.pairs": options.pairs,
        "--data.data_dir": options.parallel,
        "--shrink.text": options.text,
        "--shrink.vocab_size": options.vocab_size,
        "--evaluation.depths": options.depths,
        "--output_dir": options.output,
    }
    fields = [
        f"{name}={json.dumps(value) if isinstance(value, list) else 'null' if value is None else value}"
        for name, value in given.items()
    ]
    how, more = start_options(rest)
    with as_file(files("hf_paretokd.recipes").joinpath("shrink.yaml")) as path:
        recipe = load_recipe(path, [*fields, *more])
    train_recipe(recipe, **how)


def demo(words: list[str]) -> None:
    """`paretokd demo`: writes the corpus, runs the shipped recipe on it, translates unseen phrases with a saved student."""
    from importlib.resources import as_file, files

    from hf_paretokd.cli import show
    from hf_paretokd.data.demo_corpus import write_demo_corpus
    from hf_paretokd.methods.registry import DEFAULT
    from hf_paretokd.runs.recipe import load_recipe
    from hf_paretokd.runs.samples import sample_translations

    parser = argparse.ArgumentParser(prog="paretokd demo", add_help=False)
    parser.add_argument("--folder", type=Path, default=Path("demo"))
    parser.add_argument("--method", default=DEFAULT)
    options, words = parser.parse_known_args(words)
    text = options.folder / "text"
    method = "pareto_mutual" if options.method == "pareto" else options.method
    folder = options.folder / ("run" if method == DEFAULT else f"run-{method}")
    if not text.exists():
        write_demo_corpus(text)
    how, fields = start_options(words)
    with as_file(files("hf_paretokd.recipes").joinpath("demo.yaml")) as path:
        recipe = load_recipe(path, [f"--method={method}", f"--data.data_dir={text}", f"--output_dir={folder}", *fields])
    run = train_recipe(recipe, **how)
    if run:
        shown = list(run.members)[-1] if not list(run.members)[-1].whole else run.main
        show.translations(sample_translations(run, shown), shown.folder)


def evaluate(words: list[str]) -> None:
    """`paretokd evaluate`."""
    from hf_paretokd.cli import show
    from hf_paretokd.layout import RunLayout
    from hf_paretokd.runs.score import score_model

    if not words or words[0].startswith("-"):
        usage("evaluate: give a run folder or a model")
    if RunLayout(Path(words[0])).recipe.is_file():
        evaluate_run(words[0], words[1:])
    else:
        show.scores(score_model(words[0], words[1:]))


def evaluate_run(folder: str, overrides: Sequence[str]) -> None:
    """Scores a run again, with fields of its recipe overridden.

    Overrides that change what is measured (text, beams, engine, splits) only print the table, unless the run was cut off
    before it had results; else `results.json` and what belongs to it are written anew, and the recipe keeps the overrides.
    """
    from hf_paretokd.cli import show
    from hf_paretokd.evaluation.results import read_results
    from hf_paretokd.runs.recipe import load_recipe
    from hf_paretokd.runs.run import Run
    from hf_paretokd.runs.score import score_run

    layout = Run(folder).layout
    run = Run(folder, load_recipe(layout.recipe, overrides, trainable=False))
    scores = score_run(run)
    show.scores(scores)
    old = read_results(layout.results) if layout.results.is_file() else []
    changed = [name for section, name in run.recipe.overridden if section != "evaluation" or name not in RESCORED]
    if old and changed:
        show.line(f"{layout.results}: left as it is, because other things were measured ({', '.join(changed)})")
        return
    try:
        with run.writing():
            run.recipe.save(layout.recipe)
        keep_and_report(run, scores, [row for row in old if row.split == "train"])
    except FolderReadOnly as error:
        show.warning(f"not kept: {error}")


# ---- what becomes of a run


def extract(words: list[str]) -> None:
    """`paretokd extract`."""
    from hf_paretokd.cli import show
    from hf_paretokd.runs.extract import extract_depths

    parser = argparse.ArgumentParser(prog="paretokd extract", description="Write students as plain checkpoints.")
    parser.add_argument("source", help="a run folder, or any sequence-to-sequence checkpoint")
    parser.add_argument("depths", nargs="+", help="encoder-decoder layers, such as 6-2")
    parser.add_argument("--output", type=Path, required=True, help="folder for E-D subfolders")
    parser.add_argument("--overwrite", action="store_true", help="replace students that are there")
    for path in extract_depths(**vars(parser.parse_intermixed_args(words))):
        show.line(str(path))


def report(words: list[str]) -> None:
    """`paretokd report`."""
    from hf_paretokd.cli import show
    from hf_paretokd.runs.report import report_run
    from hf_paretokd.runs.run import Run

    parser = argparse.ArgumentParser(prog="paretokd report", description="Write report.html and the models' cards anew.")
    parser.add_argument("run", help="folder of a finished run")
    run = Run(parser.parse_args(words).run)
    try:
        show.report(report_run(run))
    except FolderReadOnly as error:
        show.results(run)
        show.warning(f"no report: {error}")


def compare(words: list[str]) -> None:
    """`paretokd compare`."""
    from hf_paretokd.cli import show
    from hf_paretokd.runs.systems import AXES, METRICS, compare_systems, systems_of, write_comparison
    from hf_paretokd.utils.files import check_apart

    parser = argparse.ArgumentParser(
        prog="paretokd compare",
        description="Scores of several runs on the same text, with intervals and paired tests against one of them. Runs that "
        "belong together, as other depths, other language pairs or other seeds, are one system: NAME=RUN,RUN,RUN.",
    )
    parser.add_argument("systems", nargs="+", metavar="RUN", help="a finished run, or NAME=RUN,RUN,…")
    parser.add_argument("--axis", choices=AXES, default="updates", help="what cost is (default: updates of a model)")
    parser.add_argument("--baseline", metavar="RUN", help="run or NAME that others are compared with (default: the first)")
    parser.add_argument("--metric", choices=METRICS, default="bleu")
    parser.add_argument("--output", type=Path, default=Path("comparison"), help="folder for comparison.json and the picture")
    options = parser.parse_args(words)
    systems, baseline = systems_of(options.systems, options.baseline)
    check_apart(options.output, [run.folder for system in systems for run in system.runs])
    found = compare_systems(systems, baseline, options.axis, options.metric)
    show.comparison(found, write_comparison(found, options.output))


def choose(words: list[str]) -> None:
    """`paretokd choose`; exit code 1 if nothing fits."""
    from hf_paretokd.cli import show
    from hf_paretokd.inference.ctranslate import QUANTIZATIONS
    from hf_paretokd.inference.decoding import ENGINES
    from hf_paretokd.runs.choose import PREFERENCES, Budget, candidates_of
    from hf_paretokd.runs.choose import choose as choose_among
    from hf_paretokd.runs.run import Run

    parser = argparse.ArgumentParser(prog="paretokd choose", description="Name the model of a run that fits a device.")
    parser.add_argument("run", help="folder of a finished run")
    parser.add_argument("--max-ms", type=float, help="milliseconds a sentence, one at a time, on this machine")
    parser.add_argument("--max-mb", type=float, help="megabytes of weights on disk")
    parser.add_argument("--min-bleu", type=float, help="BLEU in the run's results")
    parser.add_argument("--pair", help="whose BLEU counts (default: the mean over pairs)")
    parser.add_argument("--prefer", choices=PREFERENCES, help="among those that fit (default: best)")
    parser.add_argument("--engine", choices=ENGINES, default="transformers")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, default="float32", help="of CTranslate2")
    options = parser.parse_args(words)
    run, budget = Run(options.run).finished(), Budget(options.max_ms, options.max_mb, options.min_bleu)
    protocol, candidates = candidates_of(run, options.pair, options.engine, options.quantization)
    found = choose_among(candidates, budget, options.prefer)
    show.choice(run, protocol, candidates, budget, found)
    if not found.chosen:
        sys.exit(1)


def export(words: list[str]) -> None:
    """`paretokd export`."""
    from hf_paretokd.cli import show
    from hf_paretokd.inference.ctranslate import QUANTIZATIONS
    from hf_paretokd.runs.export import export_checkpoint

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
    proof = export_checkpoint(options.model, options.output, options.quantization, options.overwrite, overrides)
    show.proof(proof, options.output)


def translate(words: list[str]) -> None:
    """`paretokd translate`."""
    from hf_paretokd.inference.ctranslate import QUANTIZATIONS
    from hf_paretokd.inference.decoding import ENGINES
    from hf_paretokd.inference.lines import BAD_LINES, LONG, translate_file
    from hf_paretokd.runs.run import check_model

    parser = argparse.ArgumentParser(prog="paretokd translate", description="Translate line by line; blank lines stay blank.")
    parser.add_argument("model", help="a checkpoint, or a folder that `paretokd export` wrote")
    parser.add_argument("source", nargs="?", help="a text file, also .gz or a pipe (default, or -: standard input)")
    parser.add_argument("--output", help="a file, packed if it is called .gz (default, or -: standard output)")
    parser.add_argument("--overwrite", action="store_true", help="replace the content of the output")
    parser.add_argument("--to", help="target language of lines without a tag such as >>de<<; none leaves them as they are")
    parser.add_argument("--from", dest="source_language", help="source language, for models that are told it (M2M100, NLLB …)")
    parser.add_argument("--engine", choices=ENGINES, help="default: transformers, or what the folder was exported for")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, help="if CTranslate2 has to convert first (default: float32)")
    parser.add_argument("--num_beams", type=int, default=4, help="beam width, 1 for greedy search (default: 4)")
    parser.add_argument("--long", choices=LONG, default="split", help="lines longer than the model takes (default: split)")
    parser.add_argument("--bad_lines", choices=BAD_LINES, default="stop", help="unknown tags, control tokens (default: stop)")
    parser.add_argument("--buffer", type=int, default=256, help="lines translated together; 1 answers each line at once")
    parser.add_argument("--max_tokens", type=int, default=4096, help="source tokens in a batch")
    options = parser.parse_intermixed_args(words)
    check_model(options.model)
    translate_file(**vars(options))


def distill(words: list[str]) -> None:
    """`paretokd distill`."""
    from hf_paretokd.cli import show
    from hf_paretokd.inference.ctranslate import QUANTIZATIONS
    from hf_paretokd.inference.decoding import ENGINES
    from hf_paretokd.runs.distill import distill as distill_text

    parser = argparse.ArgumentParser(
        prog="paretokd distill",
        description="Have a teacher translate the sources of its training text, or other text, for its students "
        "(sequence-level distillation); the same command again goes on where it was cut off. For a model outside a run, say "
        "which pairs and where their text is (--data.pairs de-en --data.data_dir …).",
    )
    parser.add_argument("model", help="a run with one teacher, a model of a run, or another checkpoint")
    parser.add_argument("--output", type=Path, required=True, help="folder for the corpus, for data.distilled_dir")
    parser.add_argument("--text", nargs="+", default=[], help="monolingual text; {source} and {pair} in names are filled in")
    parser.add_argument("--num_beams", type=int, default=5, help="beam width, 1 for greedy search (default: 5)")
    parser.add_argument("--engine", choices=ENGINES, default="transformers")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, default="float32", help="of CTranslate2")
    parser.add_argument("--max_tokens", type=int, default=4096, help="source tokens in a batch")
    parser.add_argument("--overwrite", action="store_true", help="begin anew, whatever corpus is in the output")
    options, overrides = parser.parse_known_args(words)
    show.distilled(distill_text(**vars(options), overrides=overrides), options.output)


def push(words: list[str]) -> None:
    """`paretokd push`."""
    from hf_paretokd.cli import show
    from hf_paretokd.hub.upload import push as upload
    from hf_paretokd.runs.push import LAYOUTS, planned_uploads

    parser = argparse.ArgumentParser(prog="paretokd push", description="Upload a run's models to the Hub, each with its card.")
    parser.add_argument("run", help="folder of a finished run")
    parser.add_argument("--to", required=True, help="user/name; models get user/name-6-2 and so on")
    parser.add_argument("--depths", nargs="+", help="only these, such as 6-2 2-2")
    parser.add_argument("--layout", choices=LAYOUTS, default="repositories", help="one repository a model, or one with folders")
    parser.add_argument("--public", action="store_true", help="make new repositories public (default: private)")
    parser.add_argument("--dry-run", action="store_true", help="print the cards and upload nothing")
    options = parser.parse_args(words)
    planned = planned_uploads(options.run, options.to, options.layout, options.depths)
    if options.dry_run:
        show.uploads(planned, options.public)
    else:
        for address in upload(planned, not options.public):
            show.line(address)


def bench(words: list[str]) -> None:
    """`paretokd bench`."""
    from hf_paretokd.cli.benches import bench as run_bench

    run_bench(words)


# ---- the command


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": train,
    "demo": demo,
    "shrink": shrink,
    "evaluate": evaluate,
    "extract": extract,
    "report": report,
    "compare": compare,
    "choose": choose,
    "export": export,
    "distill": distill,
    "translate": translate,
    "push": push,
    "bench": bench,
}


def usage(problem: str) -> None:
    """Ends with the usage text and exit code 1."""
    sys.exit(f"{USAGE}\nerror: {problem}")


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command; errors a user can mend are printed in one line, without a traceback.

    Args:
        words: the command and its words (default: those of the process).
    """
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(f"{USAGE}\n")
        return 0 if words else 2
    if words[0] not in COMMANDS:
        usage(f"unknown command {words[0]!r}")
    try:
        COMMANDS[words[0]](words[1:])
    except ParetoKDError as error:
        from hf_paretokd.cli import show

        show.error(str(error))
        if isinstance(error, TrainingInterrupted):
            return CTRL_C if error.signal == signal.SIGINT else INTERRUPTED
        return 1
    except BrokenPipeError:  # whoever read the output has had enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped by Ctrl-C\n")
        return CTRL_C
    return 0


if __name__ == "__main__":
    sys.exit(main())

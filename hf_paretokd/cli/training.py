"""Commands that train: `init`, `train`, `demo`, `shrink`."""

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_paretokd.cli.clusters import ray_cluster, ray_options
from hf_paretokd.cli.parser import Parser, UsageError, positive, whole
from hf_paretokd.errors import RecipeError, TrainingInterrupted
from hf_paretokd.layout import RunLayout

if TYPE_CHECKING:
    from hf_paretokd.evaluation.results import ResultRow
    from hf_paretokd.runs.recipe import Recipe
    from hf_paretokd.runs.run import Run
    from hf_paretokd.runs.score import Scores
    from hf_paretokd.training.trainer import TranslationTrainer

UNFIT = (ValueError, TypeError, KeyError, ImportError, ArithmeticError, OSError, AttributeError, RuntimeError, MemoryError)
OFTEN = """fields of the recipe that are given most often:
  --output_dir DIR        the run's folder
  --data.pairs de-en …    language pairs
  --data.data_dir DIR     folder with PAIR/SPLIT.LANG[.gz]
  --method NAME           all_in_one (default), plain, pareto_mutual …
  --max_steps N           updates (default: as --num_train_epochs 3 needs)
  --max_tokens N          tokens of a micro-batch (default: 4096); lower it if
                          memory runs out
  --learning_rate X       peak rate (default: 0.0005)
  --model.dropout X       share of activations that are dropped (default: 0.1)
  --seed N                of everything random (default: 42)
"""

PREPARED = """fields of the recipe that are given most often:
  --data.pairs de-en …      language pairs
  --data.data_dir DIR       folder with PAIR/SPLIT.LANG[.gz]
  --tokenizer.vocab_size N  entries of the vocabulary (default: 8000)
token ids are kept in the cache of datasets (HF_DATASETS_CACHE), where train
finds them; a preparation that was stopped goes on where it was
"""


def start_options(parser: Parser) -> None:
    """How a training starts."""
    parser.option("start", "--resume", action="store_true", help="go on where the training was stopped")
    parser.option("start", "--overwrite", action="store_true", help="replace the run that is in the folder")
    parser.option(
        "start", "--extend", type=positive, metavar="UPDATES", action="append", default=[], help="train a finished run longer"
    )


def start_of(options: Namespace) -> dict[str, Any]:
    """How a training starts, as `train_recipe` takes it.

    Raises:
        UsageError: two ways at once.
    """
    extend = sum(options.extend)
    if len(options.extend) + options.resume + options.overwrite > 1 + bool(extend and options.resume):
        raise UsageError("give one of --resume, --overwrite and --extend, once")
    return {"resume": options.resume, "overwrite": options.overwrite, "extend": extend}


# ---- init


def init_options(parser: Parser) -> None:
    """Of `paretokd init`."""
    parser.option(
        "what",
        "text",
        type=Path,
        nargs="+",
        help="a folder with PAIR/SPLIT.LANG[.gz], or SPLIT.LANG[.gz] of one pair; or files, such as train.tsv dev.tsv",
    )
    parser.option("what", "--pairs", nargs="+", default=[], metavar="PAIR", help="such as de-en (default: all that are there)")
    parser.option("where", "--recipe", type=Path, default=RunLayout(Path()).recipe, metavar="FILE", help="that is written")
    parser.option("where", "--output", default="runs/first", metavar="DIR", help="the run's folder")


def init(options: Namespace, _: list[str]) -> None:
    """`paretokd init`."""
    from hf_paretokd.cli import show
    from hf_paretokd.runs.init import check_recipe_place, find_text, planned, rules, save_recipe, written

    check_recipe_place(options.recipe)
    found = find_text(options.text, options.pairs)
    from hf_paretokd.bench.estimate import estimated
    from hf_paretokd.bench.shapes import Shape
    from hf_paretokd.cli.console import duration
    from hf_paretokd.utils.machine import fastest_device

    device = fastest_device().type
    plan = planned(found, device != "cpu")
    show.line(f"{found.pairs:,} sentence pairs of {', '.join(map(str, found.sizes))}; timing an update of the model …")
    took = estimated(Shape(6, plan.width, plan.inner, plan.heads, plan.rule["vocab_size"]), rules()["tokens"])
    length = duration(plan.updates * took.seconds)
    estimate = f"About {length} on this machine ({device}, {took.seconds:.2g} s an update), {took.gigabytes:.1f} GB of memory."
    save_recipe(written(plan, options.output, estimate), options.recipe)
    show.line(f"{options.recipe}: about {length} and {took.gigabytes:.1f} GB; change what you like, then")
    show.line(f"  paretokd train {options.recipe}")


# ---- train


def train_options(parser: Parser) -> None:
    """Of `paretokd train`."""
    parser.option("what", "recipe", help="a recipe (YAML), or a run to go on with")
    start_options(parser)
    parser.fields = OFTEN


def train(options: Namespace, fields: list[str]) -> None:
    """`paretokd train`."""
    from hf_paretokd.runs.recipe import load_recipe
    from hf_paretokd.runs.resolve import RECIPE, RUN, expect
    from hf_paretokd.runs.run import is_run

    expect(options.recipe, RECIPE, RUN)
    how = start_of(options)
    path, folder = Path(options.recipe), RunLayout(Path(options.recipe))
    if path.is_dir():  # a run, wherever it lies by now
        path, fields = folder.recipe, [f"--output_dir={options.recipe}", *fields]  # another may be given
    recipe = load_recipe(path, fields)
    elsewhere = recipe.run_folder.resolve() != folder.folder.resolve()
    if folder.folder.is_dir() and elsewhere and (how["resume"] or how["extend"]):
        raise RecipeError(
            f"--output_dir: {options.recipe} goes on where it is; move or copy the folder, or leave --output_dir out"
        )
    own = RunLayout(recipe.run_folder)
    if path.is_file() and own.recipe.resolve() == path.resolve() and not is_run(own.folder):
        raise RecipeError(f"{path}: is where the run would write its own recipe; move it, or choose another output_dir")
    train_recipe(recipe, **how)


def train_recipe(recipe: "Recipe", resume: bool = False, overwrite: bool = False, extend: int = 0) -> "Run | None":
    """A recipe from text to scored students, whoever reads the output; returns the run in the main process."""
    from hf_paretokd.cli import show

    with show.unbreakable():
        return trained(recipe, resume, overwrite, extend)


def trained(recipe: "Recipe", resume: bool, overwrite: bool, extend: int) -> "Run | None":
    """The same, if the output can be written."""
    from transformers import PrinterCallback, ProgressCallback

    from hf_paretokd.cli import show
    from hf_paretokd.cli.console import Watching
    from hf_paretokd.layout import StartLayout
    from hf_paretokd.runs.prepare import check_folder, keep_models, prepare
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
    watching = Watching(show.console, prepared)
    try:
        if main_process:
            show.left_out(prepared.text.counted)
        try:
            trainer = watching.trainer = prepared.trainer([watching, show.SamplingTable()])
            for kind in (ProgressCallback, PrinterCallback):  # a bar, and raw dictionaries
                trainer.remove_callback(kind)
            trainer.train(resume_from_checkpoint=resume, extend=extend)
        except TrainingInterrupted as error:
            raise TrainingInterrupted(f"{error}: paretokd train {start.layout.folder} --resume", error.signal) from error
        except UNFIT as error:
            if start.begun:
                raise
            reason = " ".join(str(error).split()) or type(error).__name__  # what torch, transformers say of arguments
            raise RecipeError(f"{recipe.where}: the training cannot begin ({type(error).__name__}: {reason})") from error
        start.begin()  # if there was nothing left to train
        run = keep_models(recipe, trainer)
        return finish_run(run, trainer) if main_process else None
    finally:
        watching.stop()
        start.release()


def finish_run(run: "Run", trainer: "TranslationTrainer") -> "Run":
    """What comes after the models are written, in the main process: they are scored, reported and pushed."""
    from hf_paretokd.cli import show
    from hf_paretokd.runs.push import push_run
    from hf_paretokd.runs.score import score_run, training_rows

    if splits := run.recipe.evaluation.splits:
        show.line(f"the models are written; now they translate the {' and '.join(splits)} text")
    training, scores = training_rows(trainer), score_run(run)
    show.scores(scores, trainer.args.sampling_names())
    keep_and_report(run, scores, training)
    if scores.rows:
        show.go_on(run)
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
    if run.verdict:
        show.verdict(run.verdict)


# ---- prepare


def prepare_options(parser: Parser) -> None:
    """Of `paretokd prepare`."""
    parser.option("what", "recipe", help="a recipe (YAML); several processes and machines with one cache may do it together")
    ray_options(parser)
    parser.fields = PREPARED


def prepare(options: Namespace, fields: list[str]) -> None:
    """`paretokd prepare`: what `train` would do first, without a process group that waits for it."""
    from hf_paretokd.cli import show
    from hf_paretokd.models.files import load_tokenizer
    from hf_paretokd.runs.cluster import prepare_on
    from hf_paretokd.runs.recipe import load_recipe
    from hf_paretokd.runs.resolve import RECIPE, expect
    from hf_paretokd.runs.text import existing_tokenizer, new_tokenizer, prepare_text

    expect(options.recipe, RECIPE)
    recipe = load_recipe(options.recipe, fields, trainable=False)
    if recipe.data.streaming:
        raise RecipeError("data.streaming: text that is read as it comes is not prepared; train reads it")
    cluster = ray_cluster(options)
    folder = existing_tokenizer(recipe) or new_tokenizer(recipe)
    tokenizer = load_tokenizer(folder)
    if cluster:
        prepare_on(cluster, recipe.raw, str(folder))
    text = prepare_text(recipe, tokenizer)
    show.left_out(text.counted)
    show.prepared(text, tokenizer)


# ---- shrink


def shrink_options(parser: Parser) -> None:
    """Of `paretokd shrink`."""
    parser.option("what", "model", help="the model that exists: a folder or a name on the Hub, of the Marian family")
    parser.option("what", "--pairs", nargs="+", required=True, metavar="PAIR", help="such as fr-en")
    parser.option("what", "--output", metavar="RUN", required=True, help="the run; what comes before its training is beside it")
    parser.option("text", "--text", nargs="+", default=[], metavar="FILE", help="in the source language; {source} is filled in")
    parser.option("text", "--parallel", metavar="DIR", help="parallel text, SPLIT.LANG[.gz]: train, validation, test, or some")
    parser.option(
        "size", "--vocab_size", type=whole, metavar="N", help="entries of the smaller vocabulary (default: as needed)"
    )
    parser.option("size", "--depths", nargs="+", metavar="E-D", help="students that are scored, such as 6-2 2-2 (default: all)")
    start_options(parser)
    parser.fields = "other words are fields of a recipe: --max_steps 5000, --shrink.num_beams 1 …"


def shrink(options: Namespace, fields: list[str]) -> None:
    """`paretokd shrink`: the shipped recipe of that name, its fields by words."""
    from importlib.resources import as_file, files

    from hf_paretokd.runs.recipe import load_recipe

    given = {
        "--model.from_pretrained": options.model,
        "--data.pairs": options.pairs,
        "--data.data_dir": options.parallel,
        "--shrink.text": options.text,
        "--shrink.vocab_size": options.vocab_size,
        "--evaluation.depths": options.depths,
        "--output_dir": options.output,
    }
    own = [
        f"{name}={json.dumps(value) if isinstance(value, list) else 'null' if value is None else value}"
        for name, value in given.items()
    ]
    with as_file(files("hf_paretokd.recipes").joinpath("shrink.yaml")) as path:
        recipe = load_recipe(path, [*own, *fields], where="command line")
    train_recipe(recipe, **start_of(options))


# ---- demo


def demo_options(parser: Parser) -> None:
    """Of `paretokd demo`."""
    parser.option("what", "--method", default="all_in_one", help="all_in_one, plain, pareto, or another")
    parser.option("what", "--folder", type=Path, default=Path("demo"), metavar="DIR", help="of corpus and run")
    start_options(parser)
    parser.fields = "other words are fields of its recipe, such as --max_steps 200"


def demo(options: Namespace, fields: list[str]) -> None:
    """`paretokd demo`: writes the corpus, runs the shipped recipe on it, translates unseen phrases with a saved student."""
    from importlib.resources import as_file, files

    from hf_paretokd.cli import show
    from hf_paretokd.data.demo_corpus import write_demo_corpus
    from hf_paretokd.methods.registry import DEFAULT
    from hf_paretokd.runs.recipe import load_recipe
    from hf_paretokd.runs.samples import sample_translations

    how, text = start_of(options), options.folder / "text"
    method = "pareto_mutual" if options.method == "pareto" else options.method
    folder = options.folder / ("run" if method == DEFAULT else f"run-{method}")
    if not text.exists():
        write_demo_corpus(text)
    with as_file(files("hf_paretokd.recipes").joinpath("demo.yaml")) as path:
        recipe = load_recipe(path, [f"--method={method}", f"--data.data_dir={text}", f"--output_dir={folder}", *fields])
    run = train_recipe(recipe, **how)
    if run:
        shown = list(run.members)[-1] if not list(run.members)[-1].whole else run.main
        show.translations(sample_translations(run, shown), shown.folder)

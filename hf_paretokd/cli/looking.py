"""Commands that look at models and runs: `evaluate`, `students`, `report`, `compare`, `choose`."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from hf_paretokd.cli.parser import Parser
from hf_paretokd.cli.training import keep_and_report
from hf_paretokd.errors import FolderReadOnly
from hf_paretokd.utils.choices import AXES, ENGINES, METRICS, PREFERENCES, QUANTIZATIONS

RESCORED = ("baselines", "high_resource")  # evaluation fields that change what is compared, not what is measured
TEXT = """which text, of a model outside a run:
  --data.pairs de-en …           language pairs
  --data.data_dir DIR            folder with PAIR/SPLIT.LANG[.gz]
how it is translated (of a run: as its recipe says):
  --evaluation.splits test       or validation
  --evaluation.num_beams N       beam width (default: 1, greedy)
  --evaluation.engine NAME       transformers (default), or ctranslate2
  --evaluation.depths 6-2 …      students (default: all)
  --evaluation.baselines RUN …   to be compared with
"""

CHOSEN = """without --prefer:
  the smallest of those that are equal within noise to the best, or
  the smallest of all if --min-bleu is the only limit
"""

# ---- evaluate


def evaluate_options(parser: Parser) -> None:
    """Of `paretokd evaluate`."""
    parser.option("what", "model", help="a run, or any model: a folder or a name on the Hub")
    parser.fields, parser.sections = TEXT, ("data", "evaluation")


def evaluate(options: Namespace, fields: list[str]) -> None:
    """`paretokd evaluate`."""
    from hf_paretokd.cli import show
    from hf_paretokd.runs.resolve import MODEL, RUN, expect
    from hf_paretokd.runs.score import score_model

    if expect(options.model, RUN, MODEL).kind == RUN:
        evaluate_run(options.model, fields)
    else:
        show.scores(score_model(options.model, fields))


def evaluate_run(folder: str, overrides: Sequence[str]) -> None:
    """Scores a run again, with fields of its recipe overridden.

    Overrides that change what is measured (text, beams, engine, splits) only print the table, unless nothing was scored before;
    else `results.json` and what belongs to it are written anew, and the recipe keeps the overrides.
    """
    from hf_paretokd.cli import show
    from hf_paretokd.evaluation.results import read_results
    from hf_paretokd.runs.recipe import load_recipe
    from hf_paretokd.runs.run import Run, read_baseline
    from hf_paretokd.runs.score import score_run

    layout = Run(folder).layout
    run = Run(folder, load_recipe(layout.recipe, overrides, trainable=False))
    for baseline in run.recipe.evaluation.baselines:
        read_baseline(baseline)  # before the work, and before it is kept
    scores = score_run(run)
    show.scores(scores, run.sampled_by)
    old = read_results(layout.results) if layout.results.is_file() else []
    changed = [name for section, name in run.recipe.overridden if section != "evaluation" or name not in RESCORED]
    if changed and any(row.split != "train" for row in old):
        show.line(f"{layout.results}: left as it is, because other things were measured ({', '.join(changed)})")
        return
    try:
        with run.writing():
            run.recipe.save(layout.recipe)
        keep_and_report(run, scores, [row for row in old if row.split == "train"])
    except FolderReadOnly as error:
        show.warning(f"not kept: {error}")


# ---- report


def report_options(parser: Parser) -> None:
    """Of `paretokd report`."""
    parser.option("what", "run", help="a finished run")


def report(options: Namespace, _: list[str]) -> None:
    """`paretokd report`."""
    from hf_paretokd.cli import show
    from hf_paretokd.runs.report import report_run
    from hf_paretokd.runs.resolve import RUN, expect
    from hf_paretokd.runs.run import Run

    expect(options.run, RUN)
    run = Run(options.run)
    try:
        show.report(report_run(run))
    except FolderReadOnly as error:
        show.results(run)
        show.warning(f"no report: {error}")


# ---- students


def students_options(parser: Parser) -> None:
    """Of `paretokd students`."""
    parser.option("what", "run", help="a finished run")


def students(options: Namespace, _: list[str]) -> None:
    """`paretokd students`."""
    from hf_paretokd.cli import show
    from hf_paretokd.runs.resolve import RUN, expect
    from hf_paretokd.runs.run import Run

    expect(options.run, RUN)
    show.members(Run(options.run).finished())


# ---- compare


def compare_options(parser: Parser) -> None:
    """Of `paretokd compare`."""
    parser.option("what", "systems", nargs="+", metavar="RUN", help="a finished run, or several that are one: NAME=RUN,RUN,…")
    parser.option("how", "--axis", choices=AXES, default="updates", help="what cost is")
    parser.option("how", "--baseline", metavar="RUN", help="run or NAME that others are compared with (default: the first)")
    parser.option("how", "--metric", choices=METRICS, default="bleu", help="that is compared")
    parser.option("what", "--output", type=Path, default=Path("comparison"), metavar="DIR", help="for table and picture")


def compare(options: Namespace, _: list[str]) -> None:
    """`paretokd compare`."""
    from hf_paretokd.cli import show
    from hf_paretokd.runs.systems import compare_systems, systems_of, write_comparison
    from hf_paretokd.utils.files import check_apart

    systems, baseline = systems_of(options.systems, options.baseline)
    check_apart(options.output, [run.folder for system in systems for run in system.runs])
    found = compare_systems(systems, baseline, options.axis, options.metric)
    show.comparison(found, write_comparison(found, options.output))


# ---- choose


def choose_options(parser: Parser) -> None:
    """Of `paretokd choose`."""
    parser.option("what", "run", help="a finished run")
    parser.option("budget", "--max-ms", type=float, metavar="X", help="milliseconds a sentence, one at a time, on this machine")
    parser.option("budget", "--max-mb", type=float, metavar="X", help="megabytes of weights on disk")
    parser.option("budget", "--min-bleu", type=float, metavar="X", help="BLEU in the run's results")
    parser.option("budget", "--pair", metavar="de-en", help="whose BLEU counts (default: the mean over pairs)")
    parser.option("budget", "--prefer", choices=PREFERENCES, help="of those that fit (default: see below)")
    parser.option("how it runs", "--engine", choices=ENGINES, default="transformers", help="that translates")
    parser.option("how it runs", "--quantization", choices=QUANTIZATIONS, default="float32", help="of CTranslate2")
    parser.epilog = CHOSEN


def choose(options: Namespace, _: list[str]) -> int:
    """`paretokd choose`; exit code 1 if nothing fits."""
    from hf_paretokd.cli import show
    from hf_paretokd.runs.choose import Budget, candidates_of
    from hf_paretokd.runs.choose import choose as choose_among
    from hf_paretokd.runs.resolve import RUN, expect
    from hf_paretokd.runs.run import Run

    expect(options.run, RUN)
    run, budget = Run(options.run).finished(), Budget(options.max_ms, options.max_mb, options.min_bleu)
    protocol, candidates = candidates_of(run, options.pair, options.engine, options.quantization)
    found = choose_among(candidates, budget, options.prefer, run.resampled(options.pair))
    show.choice(run, protocol, candidates, budget, found)
    return 0 if found.chosen else 1

"""Scores of the models of a run, or of any checkpoint, and the pictures made of them."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd import checkpoints
from hf_paretokd.data.corpus import load_text
from hf_paretokd.data.pairs import source_tags
from hf_paretokd.errors import ModelError, RecipeError, TokenizerError
from hf_paretokd.evaluation.frontier import frontier_points, write_frontier
from hf_paretokd.evaluation.plots import can_plot, plot_frontier, plot_weights
from hf_paretokd.evaluation.results import ResultRow, read_results, results_table, score_model, write_results
from hf_paretokd.models.building import check_vocabulary, load_model
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.slicing import extract_student, model_depth
from hf_paretokd.recipe import Recipe, build_recipe, load_recipe, parse_overrides
from hf_paretokd.weighting.rules import HISTORY

RECIPE, RESULTS, FRONTIER, PLOTS = "recipe.yaml", "results.json", "frontier.json", "plots"
console = Console()


def load_tokenizer(name: str | Path) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder or the Hub.

    Raises:
        TokenizerError: it is missing or corrupt.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # recommends sacremoses, which MarianTokenizer never calls
            return AutoTokenizer.from_pretrained(name)
    except Exception as error:  # transformers and the Hub client raise many kinds for a bad folder
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TokenizerError(f"tokenizer {name}: cannot be loaded ({reason})") from None


def main_folders(folder: Path) -> list[Path]:
    """The folders of a run's teacher, model or peers, as far as they have been written."""
    peers = sorted((folder / "peers").glob("[0-9]*"), key=lambda path: int(path.name))
    return [path for path in (folder / "teacher", folder / "model", *peers) if (path / checkpoints.WEIGHTS).is_file()]


@dataclass(frozen=True)
class ScoredModel:
    """A model under the name its result rows get."""

    name: str
    depth: str
    model: PreTrainedModel
    peer: int | None = None


def score_run(folder: Path, recipe: Recipe) -> list[ResultRow]:
    """Scores all models of a trained run on the recipe's splits and prints a table for each.

    Raises:
        ModelError: the folder holds no finished training.
    """
    found = main_folders(folder)
    if not found:
        raise ModelError(
            f"{folder}: has no teacher, model or peers yet; was the training finished? (paretokd train … --resume)"
        )
    tokenizer, models = load_tokenizer(found[0]), []
    for main in found:
        model, peer = load_model(main), int(main.name) if main.parent.name == "peers" else None
        models.append(ScoredModel("peer" if peer else main.name, str(model_depth(model)), model, peer))
    main = models[0].model
    students = [Depth.parse(path.name) for path in (folder / "students").glob("*-*")]
    chosen = recipe.evaluation.depths
    wanted = students if chosen is None else [Depth.parse(text).within(model_depth(main)) for text in chosen]
    models += [ScoredModel("student", str(depth), extract_student(main, depth)) for depth in sorted(wanted, reverse=True)]
    return score_models(models, tokenizer, recipe)


def score_models(models: Sequence[ScoredModel], tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> list[ResultRow]:
    """Scores models on the recipe's splits and prints a table for each split."""
    tags = source_tags(recipe.data.parsed_pairs, recipe.data.target_tags)
    options = recipe.evaluation
    rows: list[ResultRow] = []
    for split in recipe.evaluation.splits:
        texts = load_text(recipe.data, split)
        scored: list[ResultRow] = []
        for each in models:
            twin = [row for row in scored if (row.model, row.depth) == ("teacher", each.depth)]
            if twin:  # the student as deep as its teacher is the teacher
                scored += [replace(row, model=each.name) for row in twin]
            else:
                scored += score_model(
                    each.name,
                    each.depth,
                    each.model,
                    tokenizer,
                    texts,
                    tags,
                    options.num_beams,
                    each.peer,
                    options.high_resource or (),
                    options.engine,
                )
        console.print(results_table(scored))
        rows += scored
    return rows


def draw_run(folder: Path, rows: Sequence[ResultRow], recipe: Recipe) -> None:
    """Writes `frontier.json` and the plots: HRL against LRL, and the distillation weights over time."""
    history = folder / HISTORY
    wanted: list[tuple[Path, Callable[[Path], None]]] = []
    if history.is_file():
        entries = checkpoints.load_json(history)["history"]
        end = next((int(row.value) for row in rows if row.metric == "updates"), None)
        wanted.append((folder / PLOTS / "weights.png", lambda path: plot_weights(entries, path, end)))
    split = recipe.evaluation.splits[-1] if recipe.evaluation.splits else ""
    families = {folder.name: rows, **dict(map(read_baseline, recipe.evaluation.baselines))}
    points = [point for name, each in families.items() for point in frontier_points(name, each, split)]
    if points:
        write_frontier(points, split, "bleu", folder / FRONTIER)
        wanted.append((folder / PLOTS / "frontier.png", lambda path: plot_frontier(points, "bleu", path)))
    if wanted and not can_plot():
        console.print("no plots: matplotlib is missing (pip install 'hf_paretokd[plot]')")
        return
    for path, draw in wanted:
        draw(path)
        console.print(str(path), highlight=False, soft_wrap=True)


def read_baseline(name: str) -> tuple[str, list[ResultRow]]:
    """Name and rows of another run, from its folder or results file.

    Raises:
        RecipeError: there are no results.
    """
    path = Path(name)
    file = path / RESULTS if path.is_dir() else path
    try:
        return path.stem, read_results(file)
    except (OSError, ValueError, TypeError) as error:
        raise RecipeError(f"evaluation.baselines: {file}: no results ({error})") from None


def evaluate_run(folder: str, overrides: Sequence[str]) -> None:
    """Scores a run again, with fields of its recipe overridden; fills in `results.json` if the run was cut off before."""
    path = Path(folder)
    recipe = load_recipe(path / RECIPE, overrides)
    rows = score_run(path, recipe)
    if not (path / RESULTS).exists():
        write_results(rows, path / RESULTS)
    draw_run(path, rows, recipe)


def evaluate_model(name: str, overrides: Sequence[str]) -> None:
    """Scores any plain checkpoint; data and evaluation fields come from the command line."""
    raw: dict[str, dict] = {"method": "plain", "training": {"output_dir": "unused"}, "data": {}}
    for section, field, value in parse_overrides(overrides):
        raw.setdefault(section or "training", {})[field] = value
    recipe = build_recipe(raw, "command line")
    model, tokenizer = load_model(name), load_tokenizer(name)
    check_vocabulary(model, tokenizer)
    score_models([ScoredModel("model", str(model_depth(model)), model)], tokenizer, recipe)

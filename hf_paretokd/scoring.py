"""Scores of the models of a run, or of any checkpoint, and the pictures made of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd import checkpoints
from hf_paretokd.data.corpus import ParallelText, load_text
from hf_paretokd.data.pairs import LanguagePair, source_tags
from hf_paretokd.errors import DataError, ModelError, RecipeError, TokenizerError
from hf_paretokd.evaluation.contamination import contamination
from hf_paretokd.evaluation.frontier import frontier_points, write_frontier
from hf_paretokd.evaluation.outputs import REFERENCE, System, one_line, read_translations, write_translations
from hf_paretokd.evaluation.plots import can_plot, plot_frontier, plot_weights
from hf_paretokd.evaluation.results import (
    Outputs,
    ResultRow,
    read_results,
    results_table,
    score_outputs,
    translate_split,
    write_results,
)
from hf_paretokd.evaluation.significance import Comparison, comparisons, paired_bootstrap
from hf_paretokd.manifest import write_rows
from hf_paretokd.models.building import check_vocabulary, load_model
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.slicing import extract_student, model_depth
from hf_paretokd.quiet import quiet_files
from hf_paretokd.recipe import Recipe, build_recipe, parse_overrides
from hf_paretokd.weighting.rules import HISTORY

RECIPE, RESULTS, FRONTIER, PLOTS = "recipe.yaml", "results.json", "frontier.json", "plots"
COMPARISONS, CONTAMINATION, TRANSLATIONS = "comparisons.json", "contamination.json", "translations"
RESCORED = ("baselines", "high_resource")  # evaluation fields that change what is compared, not what is measured
console = Console()


def load_tokenizer(name: str | Path) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder or the Hub.

    Raises:
        TokenizerError: it is missing or corrupt.
    """
    try:
        with quiet_files():
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

    system: System
    model: PreTrainedModel


@dataclass
class Scores:
    """All that was found out about the models of a run, and the texts they were scored on."""

    rows: list[ResultRow] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    splits: list[tuple[dict[LanguagePair, ParallelText], dict[System, Outputs]]] = field(default_factory=list)

    def write(self, folder: Path, recipe: Recipe, training: Sequence[ResultRow]) -> None:
        """Writes translations, comparisons with the first model and with baselines, the contamination check, results."""
        compared = list(self.comparisons)
        for texts, outputs in self.splits:
            lines = {system.name: each.translations for system, each in outputs.items()}
            write_translations(folder / TRANSLATIONS, texts, lines)
            for baseline in recipe.evaluation.baselines:
                compared += compare_with(Path(baseline), texts, outputs)
        write_rows(compared, folder / COMPARISONS)
        check_contamination(folder, recipe, [texts for texts, _ in self.splits])
        write_results([*training, *self.rows], folder / RESULTS)


def run_models(folder: Path) -> list[tuple[System, Path]]:
    """The models of a trained run and their folders: teacher, model or peers first, then the students, deepest first.

    Raises:
        ModelError: the folder holds no finished training.
    """
    found = main_folders(folder)
    if not found:
        raise ModelError(
            f"{folder}: has no teacher, model or peers yet; was the training finished? (paretokd train … --resume)"
        )
    models = []
    for main in found:
        peer = int(main.name) if main.parent.name == "peers" else None
        models.append((System("peer" if peer else main.name, str(model_depth(load_model(main))), peer), main))
    students = sorted((Depth.parse(path.name) for path in (folder / "students").glob("*-*")), reverse=True)
    return models + [(System("student", str(depth)), folder / "students" / str(depth)) for depth in students]


def score_run(folder: Path, recipe: Recipe) -> Scores:
    """Scores all models of a trained run on the recipe's splits and prints a table for each.

    Raises:
        ModelError: the folder holds no finished training.
    """
    found = run_models(folder)
    main = load_model(found[0][1])
    models = [ScoredModel(system, load_model(path)) for system, path in found if system.model != "student"]
    chosen = recipe.evaluation.depths
    students = [Depth.parse(system.depth) for system, _ in found if system.model == "student"]
    wanted = (
        students if chosen is None else sorted((Depth.parse(text).within(model_depth(main)) for text in chosen), reverse=True)
    )
    models += [ScoredModel(System("student", str(depth)), extract_student(main, depth)) for depth in wanted]
    return score_models(models, load_tokenizer(found[0][1]), recipe)


def score_models(models: Sequence[ScoredModel], tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> Scores:
    """Scores models on the recipe's splits and prints a table for each split."""
    tags = source_tags(recipe.data.parsed_pairs, recipe.data.target_tags)
    options, found = recipe.evaluation, Scores()
    for split in options.splits:
        texts = load_text(recipe.data, split)
        outputs: dict[System, Outputs] = {}
        for each in models:
            each.model.to(recipe.training.device)
            twin = outputs.get(System("teacher", each.system.depth))  # a student as deep as its teacher is the teacher
            outputs[each.system] = twin or translate_split(
                each.system, each.model, tokenizer, texts, tags, options.num_beams, options.engine
            )
        rows, compared = score_outputs(outputs, texts, options.high_resource or ())
        console.print(results_table(rows))
        found.rows += rows
        found.comparisons += compared
        found.splits.append((texts, outputs))
    return found


def compare_with(
    baseline: Path, texts: Mapping[LanguagePair, ParallelText], outputs: Mapping[System, Outputs]
) -> list[Comparison]:
    """Models of a run beside those of the same depth of another run that translated the same sentences."""
    folder = (baseline if baseline.is_dir() else baseline.parent) / TRANSLATIONS
    systems = {row.system for row in read_baseline(str(baseline))[1]}
    rows: list[Comparison] = []
    for pair, text in texts.items():
        theirs = read_translations(folder, text.split, str(pair))
        if theirs.get(REFERENCE) != [one_line(line) for line in text.targets]:
            console.print(f"{baseline}: no translations of this {text.split} text of {pair}; not compared", highlight=False)
            continue
        for other in sorted(systems, key=lambda system: system.name):
            own = {system.name: each.translations[pair] for system, each in outputs.items() if system.depth == other.depth}
            if own and other.name in theirs:
                against = f"{baseline.stem}: {other.name}"
                found = paired_bootstrap({against: theirs[other.name], **own}, text.targets, pair.target)
                rows += comparisons(found, text.split, str(pair))
    return rows


def check_contamination(folder: Path, recipe: Recipe, scored: Sequence[Mapping[LanguagePair, ParallelText]]) -> None:
    """Writes which scored sentences the training text holds; where that text is gone, says so and writes nothing."""
    try:
        training = load_text(recipe.data, "train")
    except DataError as error:
        console.print(f"contamination: not checked ({error})", highlight=False, soft_wrap=True)
        return
    found = [row for texts in scored for row in contamination(training, texts)]
    write_rows(found, folder / CONTAMINATION)
    held, total = sum(row.normalised_both for row in found), sum(row.sentences for row in found)
    if held:
        console.print(f"contamination: {held:,} of {total:,} scored sentences are in the training text, both sides")


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


def evaluate_model(name: str, overrides: Sequence[str]) -> None:
    """Scores any plain checkpoint; data and evaluation fields come from the command line."""
    recipe = command_line_recipe(overrides)
    model, tokenizer = load_model(name), load_tokenizer(name)
    check_vocabulary(model, tokenizer)
    score_models([ScoredModel(System("model", str(model_depth(model))), model)], tokenizer, recipe)


def command_line_recipe(overrides: Sequence[str]) -> Recipe:
    """A recipe for work on a model without a run: data and evaluation fields from the command line."""
    raw: dict[str, dict] = {"method": "plain", "training": {"output_dir": "unused"}, "data": {}}
    for section, field_name, value in parse_overrides(overrides):
        raw.setdefault(section or "training", {})[field_name] = value
    return build_recipe(raw, "command line")

"""Scores of the models of a run, or of any checkpoint."""

import logging
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from hf_paretokd.data.corpus import ParallelText, load_text
from hf_paretokd.data.languages import check_tagged
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.evaluation.results import (
    AVERAGE,
    Outputs,
    ResultRow,
    described_decoding,
    score_outputs,
    translate_split,
    write_results,
)
from hf_paretokd.evaluation.significance import Comparison
from hf_paretokd.evaluation.translations import write_translations
from hf_paretokd.layout import MODEL, ORIGINAL, SOURCE
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.files import load_checkpoint, load_config
from hf_paretokd.models.member import Member
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.runs.compare import Contaminated, Unmatched, check_contamination, compare_with_baselines
from hf_paretokd.runs.recipe import EvaluationConfig, command_line_recipe
from hf_paretokd.runs.run import Loaded, Run, run_around
from hf_paretokd.training.callbacks import COUNTED
from hf_paretokd.training.trainer import TranslationTrainer
from hf_paretokd.utils.files import write_rows
from hf_paretokd.utils.machine import described, fastest_device, moved
from hf_paretokd.utils.text import one_line

logger = logging.getLogger(__name__)


@dataclass
class Scores:
    """All that was found out about some models, and the texts they were scored on; their translations are at a place."""

    rows: list[ResultRow] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    splits: list[tuple[Mapping[LanguagePair, ParallelText], dict[Member, Outputs]]] = field(default_factory=list)
    place: tempfile.TemporaryDirectory = field(kw_only=True)

    def rows_of(self, split: str) -> list[ResultRow]:
        """The rows of one split."""
        return [row for row in self.rows if row.split == split]


def score_run(run: Run) -> Scores:
    """Scores the models of a trained run on the recipe's splits: all of them, or the students that `depths` names.

    Raises:
        ModelError: the folder holds no finished training.
    """
    whole = [member for member in run.members if member.whole]
    students = [member for member in run.members if not member.whole]
    chosen = run.recipe.evaluation.depths
    if chosen is not None:
        full = run.main.depth
        peers = [member.peer for member in whole] if any(member.peer for member in students) else [None]
        depths = sorted((Depth.parse(text).within(full) for text in chosen), reverse=True)
        trained = {full, *(member.depth for member in students)}
        for depth in depths:
            if students and depth not in trained:
                logger.warning("evaluation.depths: %s was not trained; its layers were never the last ones", depth)
        students = [Member("student", depth, peer) for peer in peers for depth in depths]
    models: dict[Member, Callable[[], AbstractContextManager[Loaded]]]
    models = {member: partial(run.lent, member) for member in (*whole, *students)}
    texts = {split: run.text(split) for split in run.recipe.evaluation.splits}
    known: dict[str, dict[Member, Outputs]] = {}
    if run.original:
        models = {Member(ORIGINAL, model_depth(run.original.model)): run.original.lent, **models}
    elif run.recipe.evaluation.original:
        known = {split: kept_outputs(run, pairs) for split, pairs in texts.items()}
    return score_models(models, texts, run.recipe.evaluation, run.device, known)


def kept_outputs(run: Run, texts: Mapping[LanguagePair, ParallelText]) -> dict[Member, Outputs]:
    """What the original has made of a split, as the run has kept it; nothing if that was other text or other beams."""
    if not run.layout.results.is_file():
        return {}
    split = next(iter(texts.values())).split
    decoding = described_decoding(run.recipe.evaluation.num_beams, run.recipe.evaluation.engine)
    rows = [row for row in run.rows if row.model == ORIGINAL and row.split == split]
    scores = {row.pair: row for row in rows if row.metric == "bleu" and row.decoding == decoding}
    lines = {pair: run.kept(split, str(pair), ORIGINAL) for pair in texts}
    alike = all(lines[pair].get(SOURCE) == list(map(one_line, text.sources)) for pair, text in texts.items())
    if not alike or not all(str(pair) in scores and ORIGINAL in lines[pair] for pair in texts):
        return {}
    seconds = {pair: scores[str(pair)].seconds or math.nan for pair in texts}
    size = next(int(row.value) for row in rows if row.metric == "parameters")
    return {rows[0].member: Outputs({pair: lines[pair][ORIGINAL] for pair in texts}, seconds, decoding, size)}


def score_model(name: str, overrides: Sequence[str]) -> Scores:
    """Scores any plain checkpoint, on text of the command line's fields, or on that of the run in whose folder it lies."""
    load_config(name)  # whether it is there
    run = run_around(name, overrides)
    recipe = run.recipe if run else command_line_recipe(overrides)
    model, tokenizer = load_checkpoint(name)
    found = recipe.directions(tokenizer, model.config)
    check_tagged(tokenizer, found.values())
    texts = {split: run.text(split) if run else load_text(recipe.data, split) for split in recipe.evaluation.splits}
    models = {Member(MODEL, model_depth(model)): Loaded(model, tokenizer, found).lent}
    return score_models(models, texts, recipe.evaluation, fastest_device())


def score_models(
    models: Mapping[Member, Callable[[], AbstractContextManager[Loaded]]],
    texts: Mapping[str, Mapping[LanguagePair, ParallelText]],
    options: EvaluationConfig,
    device: torch.device,
    known: Mapping[str, Mapping[Member, Outputs]] | None = None,
) -> Scores:
    """Scores models on text, by split; a student as deep as its teacher is the teacher and translates once.

    Args:
        models: which, the first one being what the others are compared with; each is loaded when it is its turn.
        texts: the text by split.
        options: how they translate.
        device: where.
        known: what further models have made of the text before; they come first.
    """
    found = Scores(place=tempfile.TemporaryDirectory(prefix="translations-"))
    for split, pairs in texts.items():
        outputs: dict[Member, Outputs] = {**(known or {}).get(split, {})}
        made: dict[Member, Outputs] = {}
        for member, load in models.items():
            same = member if member.kind == ORIGINAL else member.student()
            if same not in made:
                with load() as each:
                    model = moved(each.model, device)
                    made[same] = translate_split(
                        *(member, model, each.tokenizer, pairs, each.directions, options.num_beams, options.engine),
                        Path(found.place.name),
                    )
            outputs[member] = made[same]
        rows, compared = score_outputs(outputs, pairs, options.high_resource or ())
        found.rows += rows
        found.comparisons += compared
        found.splits.append((pairs, outputs))
    return found


@dataclass(frozen=True)
class Kept:
    """What was found beside the scores when they were written."""

    unmatched: list[Unmatched]
    contaminated: Contaminated


def keep_scores(run: Run, scores: Scores, training: Sequence[ResultRow]) -> Kept:
    """Writes translations, comparisons with the first model and with baselines, the contamination check, results.

    Args:
        run: whose models were scored.
        scores: what was found out.
        training: the rows about the training.

    Raises:
        RecipeError: a baseline has no results.
        TrainingError: the folder cannot be written.
    """
    compared, unmatched = list(scores.comparisons), []
    with run.writing():
        for texts, outputs in scores.splits:
            lines = {member.stem: made.translations for member, made in outputs.items()}
            write_translations(run.layout.translations, texts, lines)
            more, missing = compare_with_baselines(run, texts, outputs)
            compared += more
            unmatched += missing
        write_rows(compared, run.layout.comparisons)
        contaminated = check_contamination(run, [texts for texts, _ in scores.splits])
        write_results([*training, *scores.rows], run.layout.results)
    run.forget_figures()
    return Kept(unmatched, contaminated)


def best_loss(trainer: TranslationTrainer) -> float | None:
    """The validation cross-entropy of the best update, by whatever it is the best; None if nothing was validated."""
    state, figure = trainer.state, (trainer.args.metric_for_best_model or "loss").removeprefix("eval_")
    if figure == "loss":
        return state.best_metric
    best = (line for line in state.log_history if line["step"] == state.best_global_step and "eval_loss" in line)
    return next((line["eval_loss"] for line in best), None)


def training_rows(trainer: TranslationTrainer) -> list[ResultRow]:
    """What the training took, over all parts of a resumed run."""
    state, (member, _) = trainer.state, next(trainer.model.members())
    processes, device = trainer.args.world_size, trainer.args.device.type
    hours = "core_hours" if device == "cpu" else "gpu_hours"
    machine = described(processes, device)
    seconds, signature = round(trainer.seconds_trained, 1), trainer.signature()
    end = next((line for line in reversed(state.log_history) if "train_runtime" in line), {})
    core_seconds = end.get("core_seconds", seconds * processes * torch.get_num_threads())  # older logs do not say
    figures: dict[str, tuple[float, str]] = {
        "updates": (state.global_step, signature),
        "best_update": (state.best_global_step or state.global_step, signature),
        **({} if trainer.text.streamed else {"passes": (round(state.epoch or 0.0, 2), signature)}),
        "training_seconds": (seconds, machine),
        hours: (core_seconds / 3600 if device == "cpu" else seconds * processes / 3600, machine),
    }
    figures |= {name: (end[name], machine) for name in COUNTED if name in end}
    if (loss := best_loss(trainer)) is not None:
        figures["validation_loss"] = (loss, signature)
    return [
        ResultRow(member.kind, str(member.depth), None, AVERAGE, "train", metric, value, text)
        for metric, (value, text) in figures.items()
    ]

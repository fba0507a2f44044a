"""A `Run` is a run folder: its members, the text it has kept, its figures; opened once and handed on."""

import errno
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.data.changing import SHARE
from hf_paretokd.data.corpus import ParallelText, load_text
from hf_paretokd.data.distilled import Provenance
from hf_paretokd.data.languages import Direction
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.errors import FolderReadOnly, ModelError, ParetoKDError, RecipeError, TokenizerError, TrainingError
from hf_paretokd.evaluation.bootstrap import Scores, draws, joint_seeds, mean, resampled
from hf_paretokd.evaluation.contamination import Contamination
from hf_paretokd.evaluation.curves import Verdict, judged
from hf_paretokd.evaluation.groups import grouped, numbered
from hf_paretokd.evaluation.latency import Cost, Protocol, read_costs
from hf_paretokd.evaluation.plots import Decision
from hf_paretokd.evaluation.results import AVERAGE, GROUPS, HIGH, LOW, ResultRow, called, read_results, sampled_by
from hf_paretokd.evaluation.significance import Comparison
from hf_paretokd.evaluation.translations import read_translations
from hf_paretokd.inference.decoding import encode_sources
from hf_paretokd.layout import (
    CONFIG,
    MEMBERS,
    ORIGINAL,
    REFERENCE,
    SOURCE,
    STUDENT,
    TRAINER_STATE,
    WEIGHTS,
    RunLayout,
    member_place,
)
from hf_paretokd.models.files import check_vocabulary, load_checkpoint, load_config, load_model, load_tokenizer, usable_length
from hf_paretokd.models.member import Member, distinct
from hf_paretokd.models.slicing import extract_student
from hf_paretokd.runs.comet import comet_rows
from hf_paretokd.runs.recipe import Recipe, load_recipe
from hf_paretokd.runs.shrunk import Shrunk
from hf_paretokd.training.checkpointing import checkpoint_folders
from hf_paretokd.utils.files import load_json, read_rows, typed_json
from hf_paretokd.utils.machine import fastest_device

Value = TypeVar("Value")
INT8 = ("ctranslate2", "int8")
STUDENTS_KEPT = 4  # in memory, once they were used
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Logged:
    """What is read of `trainer_state.json`."""

    log_history: list[dict[str, Any]]


@dataclass(frozen=True)
class Loaded:
    """A model with its tokenizer, and what it is told of each language pair."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    directions: dict[LanguagePair, Direction]

    @property
    def limit(self) -> int:
        """The longest text in tokens."""
        return usable_length(self.model.config, self.tokenizer)

    @contextmanager
    def lent(self) -> Iterator["Loaded"]:
        """Itself, as `Run.lent` gives others."""
        yield self


@dataclass(frozen=True)
class Weighted:
    """What is read of `distillation_weights.json`."""

    history: list[Decision]


class Run:
    """The folder of a training, whose models have been written or not yet.

    A run is complete: it can be moved, or copied to a machine without the training text or one that could not have trained
    it. Everything is read when it is asked for; models are loaded once and kept.

    ```python
    run = Run("runs/multi30k-aio")
    for member in run.members:
        print(member.title, run.quality(member))
    model, tokenizer = run.load(Member("student", Depth(6, 2)))
    ```

    Args:
        folder: the run's folder.
        recipe: what to take for its recipe (default: `recipe.yaml` in the folder).
    """

    def __init__(self, folder: str | Path, recipe: Recipe | None = None) -> None:
        self.folder = Path(folder)
        self.layout = RunLayout(self.folder)
        self._models: dict[Member, PreTrainedModel] = {}
        if recipe is not None:
            self.recipe = recipe

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe with all overrides.

        Raises:
            RecipeError: it is missing or malformed.
        """
        return load_recipe(self.layout.recipe, trainable=False)

    def finished(self) -> "Run":
        """The run itself, if its models have been scored.

        Raises:
            TrainingError: there is no finished run in the folder.
        """
        if not self.layout.results.is_file():
            trained = any(member.whole for member in find_members(self.folder))
            further = f"evaluate {self.folder} scores its models" if trained else f"train {self.folder} --resume goes on"
            raise TrainingError(f"{self.folder}: no finished run ({self.layout.results.name} is missing); paretokd {further}")
        return self

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turns what the system says of a folder that cannot be written into an error of ours.

        Raises:
            FolderReadOnly: the folder is there to be read only.
            TrainingError: it could not be written for another reason, such as a full disk.
        """
        try:
            yield
        except OSError as error:
            kind = FolderReadOnly if error.errno in READ_ONLY else TrainingError
            place = self.folder if kind is FolderReadOnly else error.filename or self.folder
            raise kind(f"{place}: cannot be written ({error.strerror or error})") from error

    # ---- Models ---------------------------------------------------------------------------------------------------

    @cached_property
    def members(self) -> dict[Member, Path]:
        """The models that have been written and their folders: teacher, model or peers first, then students, deepest first.

        Raises:
            ModelError: there are none.
        """
        found = find_members(self.folder)
        if not any(member.whole for member in found):
            raise ModelError(f"{self.folder}: {self.without_models()}")
        return found

    def without_models(self) -> str:
        """What is said of a run that has none, and what helps."""
        if not self.layout.results.is_file():
            return f"has no models yet; paretokd train {self.folder} --resume goes on"
        if checkpoint_folders(self.layout.checkpoints):
            again = f"paretokd train {self.folder} --resume writes them again from the last checkpoint"
            return f"its teacher, model or peers are gone; remove {self.layout.results}, and {again}"
        return f"its teacher, model or peers are gone; put them back, or train anew: paretokd train {self.folder} --overwrite"

    @property
    def main(self) -> Member:
        """The first model: the teacher, the model or the first peer."""
        return next(iter(self.members))

    def origin(self, member: Member) -> Member:
        """The model that a student is a slice of (the first one, if it names no peer); any other model is its own."""
        if member.whole:
            return member
        return next((other for other in self.members if other.whole and other.peer == member.peer), self.main)

    def model(self, member: Member) -> PreTrainedModel:
        """One of the models, checked with the run's tokenizer; also a student that was not written.

        Raises:
            ModelError, TokenizerError: it cannot be loaded, does not go with the tokenizer, or is no slice of its teacher.
        """
        if member not in self._models:
            if member in self.members:
                found = load_model(self.members[member])
            elif member.whole:
                there = ", ".join(each.title for each in self.members)
                raise ModelError(f"{self.folder}: has no {member.title}; there are {there}")
            else:
                found = extract_student(self.model(self.origin(member)), member.depth)
            check_vocabulary(found, self.tokenizer)
            self._models[member] = found
        return self._models[member]

    def config(self, member: Member) -> PreTrainedConfig:
        """The configuration of one of the models, also of a student that was not written."""
        if member in self._models:
            return self._models[member].config
        if member in self.members:
            return load_config(self.members[member])
        return self.model(member).config

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of all models."""
        return load_tokenizer(self.members[self.main])

    def load(self, member: Member) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """One of the models with its tokenizer; loaded once, so that all callers have the same model."""
        return self.model(member), self.tokenizer

    @cached_property
    def original(self) -> Loaded | None:
        """The model from which the training started, if it is to be scored and can be had; with a warning if it cannot."""
        if not (name := self.recipe.evaluation.original):
            return None
        try:
            model, tokenizer = load_checkpoint(name)
        except (ModelError, TokenizerError) as error:
            logger.warning("evaluation.original: %s", error)
            return None
        return Loaded(model, tokenizer, self.recipe.directions(tokenizer, model.config))

    def loaded(self, member: Member) -> Loaded:
        """One of the models, or the original, ready to translate.

        Raises:
            ModelError: it cannot be had.
        """
        if member.kind != ORIGINAL:
            return Loaded(self.model(member), self.tokenizer, self.directions)
        if self.original is None:
            raise ModelError(f"{self.folder}: the original cannot be loaded ({self.recipe.evaluation.original})")
        return self.original

    @contextmanager
    def lent(self, member: Member) -> Iterator[Loaded]:
        """The same for a while: of many students only some are kept for what comes after."""
        try:
            yield self.loaded(member)
        finally:
            students = [each for each in self._models if not each.whole]
            for each in students[STUDENTS_KEPT:]:
                del self._models[each]

    @property
    def device(self) -> torch.device:
        """Where models are scored: the accelerator, unless the recipe says otherwise."""
        return torch.device("cpu") if self.recipe.training_fields.get("use_cpu") else fastest_device()

    # ---- Text -----------------------------------------------------------------------------------------------------

    def text(self, split: str) -> dict[LanguagePair, ParallelText]:
        """The text of a split as the run has kept it; from where the recipe says if nothing was kept, or other text is meant.

        Raises:
            DataError: nothing was kept and there is no such text.
        """
        elsewhere = any(section == "data" and name != "pairs" for section, name in self.recipe.overridden)
        kept = {} if elsewhere else {pair: self.kept(split, str(pair), REFERENCE) for pair in self.recipe.data.parsed_pairs}
        if kept and all({SOURCE, REFERENCE} <= set(lines) for lines in kept.values()):
            return {pair: ParallelText(pair, split, lines[SOURCE], lines[REFERENCE]) for pair, lines in kept.items()}
        return load_text(self.recipe.data, split)

    def kept(self, split: str, pair: str, *names: str) -> dict[str, list[str]]:
        """Sources, references and translations of a pair that the run has kept, by file name, all or some; or nothing."""
        return read_translations(self.layout.translations, split, pair, *names)

    def translations(self, pair: str, *names: str) -> dict[str, list[str]]:
        """The same of the quoted split."""
        return self.kept(self.split, pair, *names)

    @cached_property
    def directions(self) -> dict[LanguagePair, Direction]:
        """What the models are told of each pair."""
        return self.recipe.directions(self.tokenizer, self.config(self.main))

    def source_ids(self, member: Member | None = None) -> list[tuple[list[int], Direction]]:
        """The source text of the quoted split, all pairs, as the run has kept it; each with what the model is told of it.

        Args:
            member: whose tokenizer is meant: the original's, or (default) that of all models of the run.

        Raises:
            TrainingError: the run has none.
        """
        self.check_scored()
        loaded, found = self.loaded(member or self.main), []
        for pair in self.pairs:
            direction, lines = loaded.directions[LanguagePair.parse(pair)], self.translations(pair, SOURCE).get(SOURCE)
            ids = encode_sources(loaded.tokenizer, lines, loaded.limit, direction) if lines else []
            found += [(each, direction) for each in ids]
        if not found:
            raise self.nothing_scored()
        return found

    def check_scored(self) -> None:
        """Raises a TrainingError if there are no scores of the quoted split, or some are of pairs that the recipe lacks."""
        if not self.pairs:
            raise self.nothing_scored()
        if foreign := next((pair for pair in self.pairs if pair not in self.recipe.data.pairs), None):
            raise TrainingError(
                f"{self.layout.results}: has scores of {foreign}, which {self.layout.recipe.name} does not name; score the "
                f"models anew: paretokd evaluate {self.folder}"
            )

    def nothing_scored(self) -> TrainingError:
        """What is said of a run without scores or scored text."""
        split = "" if self.recipe.evaluation.splits else " --evaluation.splits test"
        again = f"paretokd evaluate {self.folder}{split}"
        return TrainingError(f"{self.folder}: holds no scored text; score its models first: {again}")

    # ---- Figures --------------------------------------------------------------------------------------------------

    @property
    def split(self) -> str:
        """The split that reports and cards quote: the last one scored."""
        return self.recipe.evaluation.splits[-1] if self.recipe.evaluation.splits else "test"

    @cached_property
    def rows(self) -> list[ResultRow]:
        """All results, with COMET's where its files are beside the translations.

        Raises:
            TrainingError: there are none yet.
        """
        rows = read_results(self.finished().layout.results)
        members = {row.member.stem: row.member for row in rows if row.split == self.split}
        pairs = scored_pairs(rows, self.split)
        return [*rows, *comet_rows(self.layout.translations, members, self.split, pairs)]

    @cached_property
    def scored(self) -> list[Member]:
        """The models that were scored, in the order of the results."""
        return list(dict.fromkeys(row.member for row in self.rows if row.split == self.split))

    @property
    def trained(self) -> list[Member]:
        """Those of them that the training has made."""
        return [member for member in self.scored if member.kind != ORIGINAL]

    @cached_property
    def pairs(self) -> list[str]:
        """The language pairs that were scored."""
        return scored_pairs(self.rows, self.split)

    @cached_property
    def groups(self) -> list[str]:
        """Which averages over pairs there are: all, and HRL and LRL if pairs were grouped; none for a single pair."""
        found = {row.pair for row in self.rows if row.split == self.split and row.metric == "bleu"}
        return [group for group in (HIGH, LOW, AVERAGE) if group in found] if len(self.pairs) > 1 else []

    @cached_property
    def table(self) -> dict[tuple[Member, str, str], ResultRow]:
        """Rows of the quoted split by model, pair and metric."""
        return {(row.member, row.pair, row.metric): row for row in self.rows if row.split == self.split}

    @cached_property
    def training(self) -> dict[str, ResultRow]:
        """What the training took, by metric."""
        return {row.metric: row for row in self.rows if row.split == "train"}

    @property
    def verdict(self) -> Verdict | None:
        """Whether the training was long enough, by its validation curve; None where that cannot be told."""
        passes = self.training.get("passes")
        return judged(self.log, passes.value if passes else None)

    @property
    def sampled_by(self) -> list[str]:
        """What every peer sampled by, such as `τ = 5`; nothing before there are results."""
        return sampled_by(self.rows) if self.layout.results.is_file() else []

    def called(self, member: Member) -> str:
        """A model's title, and of peers and their students what the peer sampled by: `3-3 peer 2 (τ = 5)`."""
        return called(member, self.sampled_by)

    @property
    def signature(self) -> str | None:
        """The training's signature, if the run has one."""
        row = self.training.get("updates")
        return row.signature if row and row.signature and row.signature.startswith("method:") else None

    def quality(self, member: Member, pair: str | None = None, metric: str = "bleu") -> float | None:
        """A model's score on a pair, or on average."""
        row = self.table.get((member, pair or AVERAGE, metric))
        return row.value if row else None

    def resampled(self, pair: str | None = None) -> dict[Member, Scores]:
        """BLEU of the models on the quoted text and on its resamples, drawn jointly; without those whose output was not kept.

        Args:
            pair: a language pair; default: the mean over all.
        """
        if pair not in self._resampled:
            found: dict[Member, list[Scores]] = {}
            pairs = [pair] if pair else self.pairs
            texts = {name: self.translations(name, REFERENCE) for name in pairs}
            both = {name: (each[SOURCE], each[REFERENCE]) for name, each in texts.items() if {SOURCE, REFERENCE} <= set(each)}
            for name, seed in joint_seeds(both).items():
                references, language = both[name][1], LanguagePair.parse(name).target
                counts, lines = draws(len(references), seed), self.translations(name)
                for member in (each for each in distinct(self.scored) if each.stem in lines):
                    found.setdefault(member, []).append(resampled(lines[member.stem], references, language, "bleu", counts))
            self._resampled[pair] = {member: mean(each) for member, each in found.items() if len(each) == len(pairs)}
        return self._resampled[pair]

    @cached_property
    def _resampled(self) -> dict[str | None, dict[Member, Scores]]:
        return {}

    @cached_property
    def standing(self) -> dict[Member, int]:
        """The number of every model's group by mean BLEU, from 1; those of a group are equal within noise."""
        return numbered(grouped(self.resampled()))

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """The paired tests between the models and against baselines."""
        return optional(lambda: read_rows(Comparison, self.layout.comparisons)) or []

    def against(self, member: Member, pair: str, metric: str = "bleu") -> list[Comparison]:
        """The paired tests of one model on one pair."""
        return self._tests.get((self.split, pair, metric, member.stem), [])

    @cached_property
    def _tests(self) -> dict[tuple[str, str, str, str], list[Comparison]]:
        found: dict[tuple[str, str, str, str], list[Comparison]] = {}
        for test in self.comparisons:
            found.setdefault((test.split, test.pair, test.metric, test.system), []).append(test)
        return found

    @cached_property
    def contamination(self) -> list[Contamination] | None:
        """Test sentences that the training text holds; None if that was not checked."""
        return optional(lambda: read_rows(Contamination, self.layout.contamination))

    @cached_property
    def distilled(self) -> Provenance | None:
        """How the targets of the training text were made; None if no model has made them."""
        path = self.layout.distilled
        return optional(lambda: typed_json(Provenance, path), path) if path.is_file() else None

    @cached_property
    def shrunk(self) -> Shrunk | None:
        """What was done to the model that the training started from; None if it was not shrunk."""
        path = self.layout.shrunk
        return optional(lambda: typed_json(Shrunk, path), path) if path.is_file() else None

    @property
    def costs(self) -> tuple[Protocol, dict[Member, Cost]] | None:
        """Latency and size of the models; None if they were not measured."""
        return read_costs(self.layout.latency())

    @property
    def int8_costs(self) -> tuple[Protocol, dict[Member, Cost]] | None:
        """The same by CTranslate2 in int8; None if that was not measured."""
        return read_costs(self.layout.latency(*INT8))

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the training log, from the run or its last checkpoint."""
        folders = [self.folder, *reversed(checkpoint_folders(self.layout.checkpoints))]
        path = next((folder / TRAINER_STATE for folder in folders if (folder / TRAINER_STATE).is_file()), None)
        return optional(lambda: typed_json(Logged, path).log_history, path) or [] if path else []

    @cached_property
    def weights_history(self) -> list[Decision]:
        """The distillation weights over time, of peers that weight each other's lessons."""
        path = self.layout.weights_history
        return optional(lambda: typed_json(Weighted, path).history, path) or [] if path.is_file() else []

    @cached_property
    def shares_drawn(self) -> dict[int, list[Decision]]:
        """The shares in which pairs were drawn over time, for each peer (from 1) for which they changed."""
        found: dict[int, list[Decision]] = {}
        for line in self.log:
            for name, share in line.items():
                before, mark, pair = name.partition(SHARE)
                if mark and before in ("", *(f"peer{peer}_" for peer in range(1, 100))):
                    mine = found.setdefault(int(before[4:-1] or 1), [])
                    if not mine or mine[-1].update != line["step"]:
                        mine.append(Decision(line["step"], [{}]))
                    mine[-1].weights[0][pair] = share
        return found

    def forget_figures(self) -> None:
        """Has the figures read anew, because they have been written."""
        figures = ("rows", "scored", "pairs", "groups", "table", "training", "comparisons", "contamination", "standing")
        for name in (*figures, "_tests", "_resampled"):
            self.__dict__.pop(name, None)


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run: it holds a recipe, as many folders do, and something that a training has written."""
    layout = RunLayout(folder)
    written = (layout.log, layout.results, layout.trainer_state, layout.checkpoints)
    return layout.recipe.is_file() and (any(path.exists() for path in written) or bool(find_members(folder)))


def find_members(folder: Path) -> dict[Member, Path]:
    """The models in a run or checkpoint and their folders, as `Run.members` orders them; told by place and `config.json`."""
    found: dict[Member, Path] = {}
    for path in (path for pattern in MEMBERS for path in folder.glob(pattern)):
        if (path / CONFIG).is_file() and (path / WEIGHTS).is_file():
            place = path.relative_to(folder)
            try:
                member = Member.at(place, read_config(path / CONFIG))
            except ModelError as error:
                raise ModelError(f"{path / CONFIG}: {str(error).removeprefix(f'{path / CONFIG}: ')}") from error
            if member.folder == place.as_posix():  # and no copy of one, or one that was not finished
                found[member] = path

    def order(member: Member) -> tuple[bool, int, int, int]:
        return not member.whole, member.peer or 0, -member.depth.encoder, -member.depth.decoder

    return {member: found[member] for member in sorted(found, key=order)}


def optional(read: Callable[[], Value], path: Path | None = None) -> Value | None:
    """What is read of a file that reports and cards can do without; None, with a warning, where it is damaged.

    Args:
        read: reads it.
        path: the file, where errors do not name it.
    """
    try:
        return read()
    except (ParetoKDError, OSError, ValueError) as error:
        logger.warning("left out: %s%s", f"{path}: " if path else "", " ".join(str(error).split()))
        return None


def read_config(path: Path) -> dict[str, Any]:
    """The content of a `config.json`.

    Raises:
        ModelError: it is damaged.
    """
    content = load_json(path)
    if not isinstance(content, dict):
        raise ModelError(f"{path}: is no configuration of a model; take another checkpoint")
    return content


def scored_pairs(rows: Sequence[ResultRow], split: str) -> list[str]:
    """The language pairs with scores on a split."""
    found = dict.fromkeys(row.pair for row in rows if row.split == split)
    return [pair for pair in found if pair not in GROUPS]


def run_around(path: str | Path, overrides: Sequence[str] = ()) -> Run | None:
    """The run that a model's folder lies in, if it lies in one, with its recipe overridden.

    Raises:
        RecipeError: an override does not fit the recipe.
    """
    place = Path(path).resolve()
    if not place.is_dir():  # a name on the Hub, which lies nowhere
        return None
    kind, peer = member_place(place.parts)
    for folder in list(place.parents)[: 4 if kind == STUDENT and peer else 2]:
        if is_run(folder):
            return Run(folder, load_recipe(RunLayout(folder).recipe, overrides, trainable=False))
    return None


def read_baseline(name: str) -> tuple[str, list[ResultRow]]:
    """Name and rows of another run, from its folder or results file.

    Raises:
        RecipeError: there are no results.
    """
    path = Path(name)
    file = RunLayout(path).results if path.is_dir() else path
    try:
        return path.resolve().name if path.is_dir() else path.stem, read_results(file)
    except (OSError, TrainingError) as error:
        raise RecipeError(f"evaluation.baselines: {file}: no results ({error})") from error

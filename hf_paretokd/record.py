"""What a finished run has on disk, in one object for reports, cards and choices."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hf_paretokd import checkpoints
from hf_paretokd.checkpointing import CHECKPOINTS
from hf_paretokd.errors import TrainingError
from hf_paretokd.evaluation.comet import comet_rows
from hf_paretokd.evaluation.contamination import Contamination
from hf_paretokd.evaluation.latency import Cost, Protocol, read_costs
from hf_paretokd.evaluation.outputs import System, read_translations
from hf_paretokd.evaluation.results import AVERAGE, GROUPS, HIGH, LOW, ResultRow, read_results
from hf_paretokd.evaluation.significance import Comparison
from hf_paretokd.manifest import read_rows
from hf_paretokd.recipe import Recipe, load_recipe
from hf_paretokd.scoring import COMPARISONS, CONTAMINATION, RECIPE, RESULTS, TRANSLATIONS

LATENCY, STATE = "latency.json", "trainer_state.json"  # other engines have files of their own, latency-ENGINE-….json


@dataclass(frozen=True)
class RunRecord:
    """A finished run: its folder, recipe, figures, and the paired tests between its models and against baselines."""

    folder: Path
    recipe: Recipe
    rows: list[ResultRow]
    comparisons: list[Comparison]

    @property
    def split(self) -> str:
        """The split that reports and cards quote: the last one scored."""
        return self.recipe.evaluation.splits[-1] if self.recipe.evaluation.splits else "test"

    @cached_property
    def systems(self) -> list[System]:
        """The models, in the order of the results."""
        return list(dict.fromkeys(row.system for row in self.rows if row.split == self.split))

    @cached_property
    def pairs(self) -> list[str]:
        """The language pairs that were scored."""
        found = dict.fromkeys(row.pair for row in self.rows if row.split == self.split and row.metric == "bleu")
        return [pair for pair in found if pair not in GROUPS]

    @cached_property
    def groups(self) -> list[str]:
        """Which averages over pairs there are: all, and HRL and LRL if pairs were grouped; none for a single pair."""
        found = dict.fromkeys(row.pair for row in self.rows if row.split == self.split and row.metric == "bleu")
        return [group for group in (HIGH, LOW, AVERAGE) if group in found] if len(self.pairs) > 1 else []

    @cached_property
    def table(self) -> dict[tuple[System, str, str], ResultRow]:
        """Rows of the quoted split by model, pair and metric."""
        return {(row.system, row.pair, row.metric): row for row in self.rows if row.split == self.split}

    @cached_property
    def training(self) -> dict[str, ResultRow]:
        """What the training took, by metric."""
        return {row.metric: row for row in self.rows if row.split == "train"}

    @property
    def signature(self) -> str | None:
        """The training's signature, if the run has one."""
        row = self.training.get("updates")
        return row.signature if row and row.signature and row.signature.startswith("method:") else None

    @cached_property
    def contamination(self) -> list[Contamination] | None:
        """Test sentences that the training text holds; None if that was not checked."""
        return read_rows(Contamination, self.folder / CONTAMINATION)

    @property
    def costs(self) -> tuple[Protocol, dict[System, Cost]] | None:
        """Latency and size of the models; None if they were not measured."""
        return read_costs(self.folder / LATENCY)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the training log, from the run or its last checkpoint."""
        folders = checkpoints.checkpoint_folders(self.folder / CHECKPOINTS)
        places = [folder / STATE for folder in (self.folder, *reversed(folders))]
        found = next((path for path in places if path.is_file()), None)
        return checkpoints.load_json(found)["log_history"] if found else []

    def translations(self, pair: str) -> dict[str, list[str]]:
        """Sources, references and the models' translations of a pair, by file name; empty if nothing was kept."""
        return self._translations.get(pair, {})

    @cached_property
    def _translations(self) -> dict[str, dict[str, list[str]]]:
        return {pair: read_translations(self.folder / TRANSLATIONS, self.split, pair) for pair in self.pairs}

    def against(self, system: System, pair: str, metric: str = "bleu") -> list[Comparison]:
        """The paired tests of one model on one pair."""
        wanted = (self.split, pair, metric, system.name)
        return [each for each in self.comparisons if (each.split, each.pair, each.metric, each.system) == wanted]

    def quality(self, system: System, pair: str | None = None, metric: str = "bleu") -> float | None:
        """A model's score on a pair, or on average."""
        row = self.table.get((system, pair or AVERAGE, metric))
        return row.value if row else None


def read_run(folder: str | Path) -> RunRecord:
    """Reads a finished run.

    Raises:
        TrainingError: there is no finished run in the folder.
    """
    path = Path(folder)
    if not (path / RESULTS).is_file():
        raise TrainingError(f"{path}: no finished run ({RESULTS} is missing); train it first, or paretokd evaluate {path}")
    recipe = load_recipe(path / RECIPE)
    record = RunRecord(path, recipe, read_results(path / RESULTS), read_rows(Comparison, path / COMPARISONS) or [])
    by_name = {system.name: system for system in record.systems}
    record.rows.extend(comet_rows(path / TRANSLATIONS, by_name, record.split, record.pairs))
    return record

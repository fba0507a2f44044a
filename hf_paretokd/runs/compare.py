"""Models of a run beside those of other runs, and its test text beside its training text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.stores import training_keys
from hf_paretokd.errors import DataError
from hf_paretokd.evaluation.contamination import contamination
from hf_paretokd.evaluation.results import Outputs
from hf_paretokd.evaluation.significance import Comparison, comparisons, paired_bootstrap
from hf_paretokd.evaluation.translations import read_translations
from hf_paretokd.layout import REFERENCE, RunLayout
from hf_paretokd.models.files import usable_length
from hf_paretokd.models.member import Member
from hf_paretokd.runs.run import Run, read_baseline
from hf_paretokd.utils.files import write_rows
from hf_paretokd.utils.text import one_line


@dataclass(frozen=True)
class Unmatched:
    """A baseline that did not translate the same text of a pair."""

    baseline: str
    split: str
    pair: LanguagePair


def compare_with_baselines(
    run: Run, texts: Mapping[LanguagePair, ParallelText], outputs: Mapping[Member, Outputs]
) -> tuple[list[Comparison], list[Unmatched]]:
    """Paired tests of models beside those of the same depth of the recipe's baselines, where they translated the same text."""
    rows: list[Comparison] = []
    unmatched: list[Unmatched] = []
    for baseline in map(Path, run.recipe.evaluation.baselines):
        kept = RunLayout(baseline if baseline.is_dir() else baseline.parent).translations
        name, rows_of_baseline = read_baseline(str(baseline))
        members = sorted({row.member for row in rows_of_baseline}, key=lambda member: member.stem)
        for pair, text in texts.items():
            theirs = read_translations(kept, text.split, str(pair))
            if theirs.get(REFERENCE) != [one_line(line) for line in text.targets]:
                unmatched.append(Unmatched(str(baseline), text.split, pair))
                continue
            for other in members:
                own = {member.stem: made.translations[pair] for member, made in outputs.items() if member.depth == other.depth}
                if own and other.stem in theirs:
                    against = f"{name}: {other.stem}"
                    found = paired_bootstrap({against: theirs[other.stem], **own}, text.targets, pair.target)
                    rows += comparisons(found, text.split, str(pair))
    return rows, unmatched


@dataclass(frozen=True)
class Contaminated:
    """How many scored sentences the training text holds with both sides, or why that was not checked."""

    held: int = 0
    sentences: int = 0
    problem: str | None = None


def check_contamination(run: Run, scored: Sequence[Mapping[LanguagePair, ParallelText]]) -> Contaminated:
    """Writes which scored sentences the training text holds; where that text is gone, says so and writes nothing."""
    limit = run.recipe.data.max_length or usable_length(run.config(run.main), run.tokenizer)
    try:
        found = contamination(training_keys(run.recipe.data, run.tokenizer, run.directions, limit), scored)
    except DataError as error:
        return Contaminated(problem=str(error))
    write_rows(found, run.layout.contamination)
    return Contaminated(sum(row.normalised_both for row in found), sum(row.sentences for row in found))

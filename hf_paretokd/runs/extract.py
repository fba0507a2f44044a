"""Students of a run's teacher, or of any checkpoint, as plain checkpoints."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.data.corpus import text_places
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.errors import ModelError
from hf_paretokd.hub.students import write_students
from hf_paretokd.methods.registry import DEFAULT, facts_of
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.files import load_checkpoint
from hf_paretokd.models.member import Member
from hf_paretokd.runs.cards import write_card
from hf_paretokd.runs.run import Run, find_members, is_run, optional
from hf_paretokd.utils.files import check_apart


def save_students(
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    depths: Iterable[str | Depth],
    folder: str | Path,
    method: str = DEFAULT,
    pairs: Sequence[LanguagePair] = (),
    overwrite: bool = False,
) -> list[Path]:
    """Writes `folder/E-D` for every depth: safetensors, tokenizer, generation configuration, a short card.

    Raises:
        ModelError: a depth does not fit the teacher, or a folder is there already and `overwrite` is not set.
    """
    return write_students(teacher, tokenizer, depths, Path(folder), facts_of(method), pairs, overwrite)


def extract_depths(source: str, depths: Sequence[str], output: Path, overwrite: bool) -> list[Path]:
    """Writes students of a run's teacher, or of any checkpoint; those that were scored get a card with their figures.

    Raises:
        RecipeError: the output is, contains or lies inside the source.
        ModelError: a depth does not fit, a folder is in the way, or the run has several models that students are made of.
    """
    wanted = [Depth.parse(depth) for depth in depths]
    check_apart(output, [source])
    members = find_members(Path(source))
    whole = [path for member, path in members.items() if member.whole]
    if len(whole) > 1:
        raise ModelError(f"{source}: has several models; name the one whose students are wanted: {', '.join(map(str, whole))}")
    run = Run(source)
    main = run.members[run.main] if is_run(run.folder) else next(iter(members.values()), source)
    recipe = optional(lambda: run.recipe) if is_run(run.folder) else None
    check_apart(output, text_places(recipe.data) if recipe else [])
    teacher, tokenizer = load_checkpoint(main)
    method, pairs = (recipe.method, recipe.data.parsed_pairs) if recipe else ("", ())
    written = save_students(teacher, tokenizer, wanted, output, method, pairs, overwrite)
    scored = optional(lambda: run.scored) or [] if recipe and run.layout.results.is_file() else []
    for path in written:
        member = Member("student", Depth.parse(path.name))
        if member in scored:
            write_card(run, member, path)
    return written

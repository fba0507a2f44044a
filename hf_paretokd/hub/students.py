"""Students as plain checkpoints on disk, each with a card."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.data.languages import UNTOLD, coded_directions, known_tags, told_on_card
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.errors import ModelError
from hf_paretokd.hub.card import CardFacts, MethodFacts, render_card
from hf_paretokd.layout import CARD, PLAIN_CHECKPOINT
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.files import save_model, usable_length
from hf_paretokd.models.slicing import extract_student, model_depth
from hf_paretokd.utils.files import whole_files, whole_folder


def write_students(
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    depths: Iterable[str | Depth],
    folder: Path,
    method: MethodFacts,
    pairs: Sequence[LanguagePair] = (),
    overwrite: bool = False,
    in_run: bool = False,
) -> list[Path]:
    """Writes `folder/E-D` for every depth: safetensors, tokenizer, generation configuration, a short card.

    Args:
        teacher, tokenizer, depths, folder: of which students are written where.
        method, pairs: for the cards.
        overwrite: replace students that are there.
        in_run: the folder is a run's, in which files of others stay beside the students.

    Raises:
        ModelError: a depth does not fit the teacher, or a folder is there already and `overwrite` is not set, or it holds more
            than a student.
    """
    full = model_depth(teacher)
    if folder.exists() and not folder.is_dir():
        raise ModelError(f"{folder}: is a file; give another output folder")
    wanted = list(dict.fromkeys(Depth.parse(depth) for depth in ([depths] if isinstance(depths, str) else depths)))
    for depth in wanted:
        depth.within(full)
        place = folder / str(depth)
        if place.exists() and not overwrite:
            raise ModelError(f"{place}: exists already; give --overwrite (overwrite=True) or another output folder")
        if place.exists() and not holds_a_student_alone(place) and not in_run:
            raise ModelError(f"{place}: holds more than a student and is not replaced; give another output folder")
    written = []
    for depth in wanted:
        student, place = extract_student(teacher, depth), folder / str(depth)
        alone = not place.exists() or holds_a_student_alone(place)
        with whole_folder(place) if alone else whole_files(place) as beside:
            save_model(student, tokenizer, beside)
            facts = short_facts(student, depth, full, tokenizer, method, pairs)
            (beside / CARD).write_text(render_card(facts), "utf-8")
        written.append(place)
    return written


def holds_a_student_alone(folder: Path) -> bool:
    """Whether all that is in a folder, if anything, are files of a checkpoint and its card."""
    known = (*PLAIN_CHECKPOINT, CARD)
    return folder.is_dir() and all(
        path.is_file() and any(fnmatch(path.name, pattern) for pattern in known) for path in folder.iterdir()
    )


def short_facts(
    model: PreTrainedModel,
    depth: Depth,
    teacher_depth: Depth,
    tokenizer: PreTrainedTokenizerBase,
    method: MethodFacts,
    pairs: Sequence[LanguagePair],
) -> CardFacts:
    """What is known of a model that nobody has scored yet."""
    told = next(iter(coded_directions(tokenizer, map(str, pairs)).values()), UNTOLD)
    return CardFacts(
        str(depth),
        str(teacher_depth),
        method,
        model.num_parameters(),
        pairs,
        known_tags(tokenizer),
        told,
        told_on_card(tokenizer, told),
        model.config.model_type,
        usable_length(model.config, tokenizer),
    )

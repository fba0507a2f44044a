"""Students as plain checkpoints on disk."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.checkpoints import save_model
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.tokenizer import target_tags
from hf_paretokd.delivery.card import CardFacts, render_card
from hf_paretokd.errors import ModelError
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.slicing import extract_student, model_depth


def save_students(
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    depths: Iterable[str | Depth],
    folder: str | Path,
    method: str = "all_in_one",
    pairs: Sequence[LanguagePair] = (),
    overwrite: bool = False,
) -> list[Path]:
    """Writes `folder/E-D` for every depth: safetensors, tokenizer, generation configuration, a short card.

    Raises:
        ModelError: a depth does not fit the teacher, or a folder is there already and `overwrite` is not set.
    """
    full, folder = model_depth(teacher), Path(folder)
    depths = [Depth.parse(depth) for depth in depths]
    for depth in depths:
        depth.within(full)
        if (folder / str(depth)).exists() and not overwrite:
            raise ModelError(f"{folder / str(depth)}: exists already; give --overwrite or another output folder")
    return [
        save_student(extract_student(teacher, depth), depth, full, tokenizer, folder / str(depth), method, pairs)
        for depth in depths
    ]


def save_student(
    student: PreTrainedModel,
    depth: Depth,
    teacher_depth: Depth,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    method: str,
    pairs: Sequence[LanguagePair],
) -> Path:
    """Writes one plain checkpoint with its card, replacing what was there."""
    if folder.exists():
        shutil.rmtree(folder)
    save_model(student, tokenizer, folder)
    facts = short_facts(student, depth, teacher_depth, tokenizer, method, pairs)
    (folder / "README.md").write_text(render_card(facts), "utf-8")
    return folder


def short_facts(
    model: PreTrainedModel,
    depth: Depth,
    teacher_depth: Depth,
    tokenizer: PreTrainedTokenizerBase,
    method: str,
    pairs: Sequence[LanguagePair],
) -> CardFacts:
    """What is known of a model that nobody has scored yet."""
    return CardFacts(
        str(depth),
        str(teacher_depth),
        method,
        model.num_parameters(),
        pairs,
        target_tags(tokenizer),
        model.config.model_type,
        getattr(model.config, "max_position_embeddings", None),
    )

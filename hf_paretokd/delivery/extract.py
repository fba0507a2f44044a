"""Students as plain checkpoints on disk."""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paretokd.checkpoints import save_model
from hf_paretokd.data.pairs import TAG, LanguagePair
from hf_paretokd.delivery.card import CardFacts, render_card
from hf_paretokd.errors import ModelError
from hf_paretokd.models.depth import Depth
from hf_paretokd.models.slicing import extract_student, model_depth

LOCAL_KEYS = ("is_local", "local_files_only", "name_or_path")  # what a re-saved tokenizer tells about this machine


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
    settings = folder / "tokenizer_config.json"
    kept = {key: value for key, value in json.loads(settings.read_text("utf-8")).items() if key not in LOCAL_KEYS}
    settings.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", "utf-8")
    tags = sorted(token for token in tokenizer.get_vocab() if TAG.fullmatch(token))
    facts = CardFacts(str(depth), str(teacher_depth), method, student.num_parameters(), pairs, tags)
    (folder / "README.md").write_text(render_card(facts), "utf-8")
    return folder

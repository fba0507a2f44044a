"""What a frozen teacher makes of training text, cut to its k best entries a token and kept beside the run, memory-mapped."""

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel
from transformers.utils import logging

from hf_paretokd.data.batches import BLOCK, IGNORED, PairBatches
from hf_paretokd.data.sampling import TOP_IDS, TOP_LOGITS, MicroBatch, PairDataset
from hf_paretokd.errors import TrainingError
from hf_paretokd.layout import TopLayout
from hf_paretokd.models.head import output_head
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.models.states import depth_states
from hf_paretokd.utils.files import load_json, put_in_place, save_json

logger = logging.get_logger(__name__)
FEATURES = datasets.Features(
    {TOP_IDS: datasets.List(datasets.Value("int32")), TOP_LOGITS: datasets.List(datasets.Value("float16"))}
)


@dataclass(frozen=True)
class Source:
    """What entries are of: a teacher and a text by their hashes, and how many of a token."""

    teacher: str
    text: str
    top_k: int


@torch.no_grad()
def top_logits(teacher: PreTrainedModel, batch: Mapping[str, Any], count: int) -> tuple[Tensor, Tensor]:
    """The ids and logits [target tokens, k] of a teacher's best entries for every token of a micro-batch."""
    ((_, states),) = depth_states(teacher, batch, [model_depth(teacher)])
    head = output_head(teacher)
    found = F.linear(states * head.scale, head.matrix, head.bias).topk(count)
    return found.indices, found.values.float()


def with_top_entries(
    name: str,
    text: datasets.Dataset,
    teacher: PreTrainedModel,
    source: Source,
    layout: TopLayout,
    max_tokens: int,
    pad_id: int,
) -> datasets.Dataset:
    """The text with two more columns, of k entries for every target token after each other; blocks that are there are kept.

    The processes of a node share the work; a node without a common disk does it for itself.

    Args:
        name: the language pair.
        text: its token ids.
        teacher: where the training is, in evaluation mode.
        source: what the entries are of.
        layout: of the folder.
        max_tokens: of a micro-batch.
        pad_id: of the tokenizer.

    Raises:
        TrainingError: the folder holds those of another teacher or text.
    """
    check_source(source, layout)
    folders = [layout.block(number) for number in range(-(-len(text) // BLOCK))]
    place, processes = (int(os.environ.get(key, each)) for key, each in (("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1")))
    mine = [number for number in range(place, len(folders), processes) if not whole(folders[number], text, number)]
    start, tokens = time.perf_counter(), 0
    for number in tqdm(mine, desc=f"top {source.top_k} entries of {name}", unit="block", disable=not mine):
        rows = text.select(range(number * BLOCK, min((number + 1) * BLOCK, len(text))))
        tokens += write_block(name, rows, teacher, source.top_k, folders[number], max_tokens, pad_id)
    if tokens:
        rate = tokens / (time.perf_counter() - start)
        size = sum(path.stat().st_size for number in mine for path in folders[number].glob("*.arrow"))
        logger.warning(
            f"{name}: top {source.top_k} entries of {tokens:,} tokens, {size / tokens:.1f} bytes each, {rate:,.0f} a second"
        )
    wait_for(folders, text)
    entries = datasets.concatenate_datasets([datasets.load_from_disk(str(folder)) for folder in folders])
    return datasets.concatenate_datasets([text, entries], axis=1)


def write_block(
    name: str, rows: datasets.Dataset, teacher: PreTrainedModel, count: int, folder: Path, max_tokens: int, pad_id: int
) -> int:
    """Writes the entries of some rows as one folder; how many tokens they have."""
    data, ids, logits = PairDataset({name: rows}, pad_id), [[]] * len(rows), [[]] * len(rows)  # type: ignore[var-annotated]
    for chosen in PairBatches(name, rows, max_tokens).in_order():
        batch = data.fetch(MicroBatch(0, name, chosen))
        moved = {key: each.to(teacher.device) for key, each in batch.items() if isinstance(each, Tensor)}
        lengths = (batch["labels"] != IGNORED).sum(1).tolist()
        found = [each.cpu().split(lengths) for each in top_logits(teacher, moved, count)]
        for row, entries, values in zip(chosen.tolist(), *found, strict=True):
            ids[row], logits[row] = entries.flatten().numpy().astype(np.int32), values.flatten().numpy().astype(np.float16)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    datasets.Dataset.from_dict({TOP_IDS: ids, TOP_LOGITS: logits}, FEATURES).save_to_disk(str(beside))
    put_in_place(beside, folder)
    return sum(len(each) for each in ids) // count


def check_source(source: Source, layout: TopLayout) -> None:
    """Writes down what a new folder is of.

    Raises:
        TrainingError: an old one is of something else.
    """
    if not layout.record.is_file():
        layout.folder.mkdir(parents=True, exist_ok=True)
        mine = layout.record.with_name(f".{layout.record.name}.{os.getpid()}")  # other processes write it at the same time
        save_json(asdict(source), mine)
        mine.replace(layout.record)
        return
    found, wanted = load_json(layout.record), asdict(source)
    if changed := next((key for key in wanted if found.get(key) != wanted[key]), None):
        raise TrainingError(
            f"{layout.folder}: holds a teacher's entries of something else ({changed} was {found.get(changed)}, now it is "
            f"{wanted[changed]}); name another top_dir, or delete it"
        )


def whole(folder: Path, text: datasets.Dataset, number: int) -> bool:
    """Whether a block is there, with as many rows as the text has."""
    try:
        return len(datasets.load_from_disk(str(folder))) == min(BLOCK, len(text) - number * BLOCK)
    except (OSError, ValueError):
        return False


def wait_for(folders: list[Path], text: datasets.Dataset) -> None:
    """Returns when other processes of the node have made their blocks."""
    while not all(whole(folder, text, number) for number, folder in enumerate(folders)):
        time.sleep(0.5)

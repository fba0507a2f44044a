"""The text of a configuration as token ids on disk, made once: by the first process of a node, for all that come after it."""

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import datasets
from accelerate import PartialState
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from hf_paretokd.data.cache import digest, tokenizer_digest
from hf_paretokd.data.corpus import CHUNK, DataConfig, StreamedText, hub_set, load_text, open_rows, row_files, stream_text
from hf_paretokd.data.distilled import read_provenance
from hf_paretokd.data.hashing import Keys, row_keys
from hf_paretokd.data.languages import Direction
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.data.readers import format_of, load_hub
from hf_paretokd.data.shards import Job, Stored, alive, opened, store
from hf_paretokd.data.tokenizer import TokenizerConfig, train_tokenizer
from hf_paretokd.errors import DataError
from hf_paretokd.layout import StoreLayout, leases_in
from hf_paretokd.utils.files import damage, naming, publish
from hf_paretokd.utils.lease import GONE, age, leased, wait_while

logger = logging.get_logger(__name__)
BLOCK = 1 << 22  # bytes
FORM = "shards 2"  # to be raised when what is stored changes


def stored_split(
    config: DataConfig,
    split: str,
    tokenizer: PreTrainedTokenizerBase,
    directions: Mapping[LanguagePair, Direction],
    max_length: int,
) -> dict[LanguagePair, Stored]:
    """Token ids of one split, prepared first where that was not done.

    The first process of every node prepares; the others wait as long as it gives signs of life, without a collective operation
    that could time out.

    Args:
        config: where the text is.
        split: `train`, `validation` or `test`.
        tokenizer: whose ids are wanted.
        directions: what the model is told of each pair.
        max_length: longest side in tokens.

    Raises:
        DataError: a language has no text, a file breaks a rule, or the process that prepares is gone.
    """
    state, found = PartialState(), {}
    for job, folder in split_jobs(config, split, tokenizer, directions, max_length):
        if state.is_local_main_process:
            make_room(folder)
            store(job, folder)
        else:
            wait_for(folder)
        found[job.pair] = opened(folder)
    state.wait_for_everyone()
    return found


def split_jobs(
    config: DataConfig,
    split: str,
    tokenizer: PreTrainedTokenizerBase,
    directions: Mapping[LanguagePair, Direction],
    max_length: int,
) -> Iterator[tuple[Job, Path]]:
    """What is to be done for every pair of a split, and the folder for it."""
    known = tokenizer_digest(tokenizer)
    for pair in config.parsed_pairs:
        job = job_of(config, split, pair, tokenizer, directions[pair], max_length)
        yield job, store_folder(config, job, known)


def job_of(
    config: DataConfig,
    split: str,
    pair: LanguagePair,
    tokenizer: PreTrainedTokenizerBase,
    direction: Direction,
    max_length: int,
) -> Job:
    """What is to be done for one pair."""
    limit = config.max_sentence_pairs.get(str(pair)) if split == "train" else None
    return Job(
        pair,
        split,
        partial(open_rows, config, split, pair),
        tokenizer,
        direction,
        max_length,
        limit,
        partial(rows_in, config, split, pair),
    )


def rows_in(config: DataConfig, split: str, pair: LanguagePair) -> int | None:
    """Lines of the file of a pair, or of one of two, for an estimate; None where these would have to be unpacked or loaded."""
    if config.hub and not format_of(getattr(config, split)):
        return None
    path = row_files(config, split, pair)[0]
    if path.suffix in (".gz", ".parquet") or not path.is_file():
        return None
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(partial(file.read, BLOCK), b""))


def store_folder(config: DataConfig, job: Job, tokenizer: str) -> Path:
    """Where the token ids of a job are: in the cache of `datasets`, under a key of all that decides them.

    Files are told by name, size and time of change, as `make` does it.

    Args:
        config: where the text is.
        job: what is done with it.
        tokenizer: its digest.
    """
    rules = (FORM, str(job.pair), job.split, tokenizer, str(job.direction), str(job.max_length), str(job.limit))
    key = digest(*rules, identities(config, job.split, job.pair))
    return cache_folder() / key


def cache_folder() -> Path:
    """Where token ids and tokenizers are kept."""
    return Path(datasets.config.HF_DATASETS_CACHE) / "hf_paretokd"


def identities(config: DataConfig, split: str, pair: LanguagePair) -> Iterator[str]:
    """What tells the files of a pair from others."""
    if config.streaming and split == "train":
        yield str(hub_set(config, split, pair))
        yield from (f"{row.source}\t{row.target}" for row in islice(open_rows(config, split, pair), CHUNK))
        return
    if config.hub and not format_of(getattr(config, split)):
        rows = load_hub(*hub_set(config, split, pair))
        yield f"{hub_set(config, split, pair)} {rows.num_rows} {rows.info.splits}"
        files = [Path(each["filename"]) for each in rows.cache_files]
    else:
        files = row_files(config, split, pair)
    for path in files:
        try:
            found = path.stat()
        except OSError as error:
            raise DataError(f"{path}: no such file") from error
        yield f"{path.resolve()} {found.st_size} {found.st_mtime_ns}"


def make_room(folder: Path) -> None:
    """Makes the folder that token ids are kept in.

    Raises:
        DataError: it cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{folder.parent}: token ids cannot be kept there ({error.strerror or error}); set HF_DATASETS_CACHE to a folder "
            "that can be written"
        ) from error


def stored_tokenizer(config: DataConfig, options: TokenizerConfig, max_length: int) -> Path:
    """The folder of the tokenizer of a configuration's training text, trained first where that was not done.

    Args:
        config: where the text is.
        options: of the tokenizer.
        max_length: longest input in tokens.

    Raises:
        DataError, TokenizerError: the text breaks a rule or does not fit the options, or the process that prepares is gone.
    """
    made = "" if config.distilled_dir is None else str(read_provenance(Path(config.distilled_dir)))
    rules = (FORM, version("sentencepiece"), str(options), config.target_tags, str(max_length), made, config.distilled)
    text = (
        each
        for pair in config.parsed_pairs
        for each in (str(pair), str(config.max_sentence_pairs.get(str(pair))), *identities(config, "train", pair))
    )
    folder = cache_folder() / digest(*rules, text)
    if not PartialState().is_local_main_process:
        wait_for(folder)
        return folder
    make_room(folder)
    layout = StoreLayout(folder)
    if folder.is_dir() and (problem := damage(folder)):
        logger.warning(f"{folder}: the tokenizer was damaged ({problem}); it is trained anew")
        shutil.rmtree(folder)
    while not folder.is_dir():
        layout.parts.mkdir(exist_ok=True)
        with leased(layout.lease()) as mine:
            if mine and not folder.is_dir():
                try:
                    texts = load_text(config, "train") if config.distilled_dir else stream_text(config)
                    with naming(folder):
                        train_tokenizer(
                            texts,
                            layout.parts / folder.name,
                            options.vocab_size,
                            config.target_tags,
                            options.joint,
                            options.byte_fallback,
                            options.character_coverage,
                            max_length,
                            options.cipher_keys,
                        )
                        publish(layout.parts / folder.name, folder)
                finally:
                    shutil.rmtree(layout.parts, ignore_errors=True)
        if not mine:
            wait_while(lambda: not folder.is_dir() and alive(layout))
    return folder


def wait_for(folder: Path) -> None:
    """Waits for what another process prepares, as long as that gives signs of life.

    Raises:
        DataError: there was none for a minute.
    """
    last = time.monotonic()
    while not folder.is_dir():
        time.sleep(0.2)
        beats = (age(path) for path in leases_in(folder.parent))
        if any(since is not None and since < GONE for since in beats):
            last = time.monotonic()
        elif time.monotonic() - last > GONE:
            raise DataError(
                f"{folder}: the process that prepares the text has given no sign of life for {GONE:.0f} seconds; what it "
                "has finished is kept"
            )


def training_keys(
    config: DataConfig, tokenizer: PreTrainedTokenizerBase, directions: Mapping[LanguagePair, Direction], max_length: int
) -> dict[LanguagePair, Iterable[Keys]]:
    """Keys of the training text of every pair, from where its token ids are, else from the text.

    Raises:
        DataError: the text is gone.
    """
    if config.streaming:
        raise DataError("the training text was read as a stream, which is not searched")
    if config.distilled_dir:
        return {pair: [row_keys(text.sources, text.targets)[1:]] for pair, text in load_text(config, "train").items()}
    return {
        job.pair: opened(folder).row_keys() if folder.is_dir() else streamed_keys(StreamedText(config, job.pair))
        for job, folder in split_jobs(config, "train", tokenizer, directions, max_length)
    }


def streamed_keys(text: StreamedText) -> Iterator[Keys]:
    """Keys of text that is read for them."""
    rows = text.rows()
    while chunk := list(islice(rows, CHUNK)):
        yield row_keys(*zip(*chunk, strict=True))[1:]

"""Token ids on disk: made once, memory-mapped by every process and by every later run on the same text."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
from accelerate import PartialState
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from hf_paretokd.errors import DataError
from hf_paretokd.utils.files import damage, discarded_on_error, publish

logger = logging.get_logger(__name__)
FORM = "2"  # to be raised when what is stored changes


def cached_dataset(key: str, build: Callable[[], datasets.Dataset]) -> datasets.Dataset:
    """The data set stored under `key` in the cache of `datasets` (`HF_DATASETS_CACHE`), built by the main process first.

    What is there is verified by sizes and checksums, in the main process; if it is damaged it is built anew.
    """
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    try:
        return stored_dataset(cache / "hf_paretokd" / key, build)
    except OSError as error:
        raise DataError(
            f"{cache}: token ids cannot be kept there ({error.strerror or error}); set HF_DATASETS_CACHE to a folder "
            "that can be written"
        ) from error


def stored_dataset(folder: Path, build: Callable[[], datasets.Dataset]) -> datasets.Dataset:
    """The data set in a folder, built first if need be."""
    state = PartialState()
    with state.main_process_first():
        problem = damage(folder) if state.is_main_process and folder.is_dir() else None
        if problem:
            logger.warning(f"{folder}: token ids were damaged ({problem}); they are made anew")
        if problem or not folder.is_dir():
            built = build()  # before anything is written: it may find nothing to keep
            folder.parent.mkdir(parents=True, exist_ok=True)
            beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
            with discarded_on_error(beside):
                with no_bars():  # tokenising, which takes longer, has its own
                    built.save_to_disk(beside)
                if problem or not folder.is_dir():
                    publish(beside, folder)
            shutil.rmtree(beside, ignore_errors=True)  # if another run was faster
        return datasets.load_from_disk(str(folder))


@contextmanager
def no_bars() -> Iterator[None]:
    """Keeps `datasets` from showing bars inside the `with`."""
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def digest(*parts: str | Iterable[str]) -> str:
    """A key that depends on every string, in order, and on where each of `parts` ends."""
    found = hashlib.blake2b(FORM.encode(), digest_size=16)
    for part in parts:
        for text in (part,) if isinstance(part, str) else part:
            found.update(text.encode())
            found.update(b"\0")
        found.update(b"\1")
    return found.hexdigest()


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """A key that depends on everything a tokenizer is saved with, and not on where it came from."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return digest(*(f"{path.name} {path.read_bytes().hex()}" for path in sorted(Path(folder).iterdir())))

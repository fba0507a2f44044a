"""Silence for progress bars that say nothing to the user."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def no_file_bars() -> Iterator[None]:
    """Without transformers' bars for every small file: they would hide those of long work."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

"""Silence for progress bars that say nothing to the user."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def quiet_files() -> Iterator[None]:
    """Without transformers' bars for every small file, and its advice to install sacremoses, which nothing here calls."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        if shown:
            logging.enable_progress_bar()

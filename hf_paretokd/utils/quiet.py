"""Silence for what says nothing to the user."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging import Filter, LogRecord

from transformers.utils import logging


@contextmanager
def quiet_files() -> Iterator[None]:
    """Without transformers' bars for every small file, its tables of weights, which are checked here, and its advice to install
    sacremoses, which nothing here calls.
    """
    shown, tables = logging.is_progress_bar_enabled(), logging.get_logger("transformers.modeling_utils")
    without = NoTables()
    logging.disable_progress_bar()
    tables.addFilter(without)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        tables.removeFilter(without)
        if shown:
            logging.enable_progress_bar()


class NoTables(Filter):
    """Lets pass what is none of transformers' tables of weights."""

    def filter(self, record: LogRecord) -> bool:
        """Whether a line does."""
        return "LOAD REPORT" not in record.getMessage()

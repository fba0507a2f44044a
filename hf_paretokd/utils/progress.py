"""Progress of long work: a bar on a terminal, a plain line now and then where nobody watches."""

import sys
from typing import Any

from tqdm.auto import tqdm

SELDOM = 30.0  # seconds between lines


class Progress(tqdm):
    """A bar on standard error; where that is no terminal, lines without control characters.

    Args:
        total: of what is done.
        options: of tqdm.
    """

    def __init__(self, total: int | None, **options: Any) -> None:
        self.plain = not sys.stderr.isatty()
        if self.plain:
            plain = "{desc}: {n_fmt} of {total_fmt}{unit}, {elapsed} gone, {remaining} to go"
            if total is None:
                plain = "{desc}: {n_fmt}{unit}, {elapsed} gone"
            options |= {"mininterval": SELDOM, "miniters": 1, "bar_format": plain, "delay": SELDOM, "leave": False}
        super().__init__(total=total, file=sys.stderr, **options)

    def display(self, *words: Any, **options: Any) -> bool | None:
        """Shows where it stands."""
        if not self.plain:
            return super().display(*words, **options)
        self.fp.write(f"{self}\n")
        return True

    def close(self) -> None:
        """Ends it; lines stay as they are."""
        if self.plain:
            self.disable = True
        super().close()

"""Text as it is written to lines: of a file, of a screen."""

import shutil
import unicodedata


def screen_width() -> int:
    """Columns for text: those of the terminal, of which very narrow ones break lines themselves."""
    return min(100, max(40, shutil.get_terminal_size().columns))


def one_line(text: str) -> str:
    """`text` with a space for everything that any reader might take for the end of a line."""
    return " ".join(text.splitlines())


def cleaned(line: str) -> str:
    """A line with spaces for control characters and line separators, and none at its ends."""
    return "".join(" " if unicodedata.category(each) in ("Cc", "Zl", "Zp") else each for each in line).strip()

"""Text as it is written to lines of a file."""

import unicodedata


def one_line(text: str) -> str:
    """`text` with a space for everything that any reader might take for the end of a line."""
    return " ".join(text.splitlines())


def cleaned(line: str) -> str:
    """A line with spaces for control characters and line separators, and none at its ends."""
    return "".join(" " if unicodedata.category(each) in ("Cc", "Zl", "Zp") else each for each in line).strip()

"""Text as it is written to lines: of a file, of a screen."""

import shutil
import unicodedata


def screen_width() -> int:
    """Columns for text: those of the terminal, of which very narrow ones break lines themselves."""
    return min(100, max(40, shutil.get_terminal_size().columns))


def one_line(text: str) -> str:
    """`text` with a space for everything that any reader might take for the end of a line."""
    return " ".join(text.splitlines())


class _Kept(dict[int, int | None]):
    """For `str.translate`: letters, marks and digits stay; filled as characters are met."""

    def __missing__(self, point: int) -> int | None:
        self[point] = found = point if unicodedata.category(chr(point))[0] in "LMN" else None
        return found


_KEPT = _Kept()
_DROPPED = bytes(point for point in range(128) if not chr(point).isalnum())


def normalised(text: str) -> str:
    """`text` in NFKC, case-folded, letters, marks and digits only."""
    if text.isascii():
        return text.lower().encode().translate(None, _DROPPED).decode()
    return unicodedata.normalize("NFKC", text).casefold().translate(_KEPT)


def cleaned(line: str) -> str:
    """A line with spaces for control characters and line separators, and none at its ends."""
    return "".join(" " if unicodedata.category(each) in ("Cc", "Zl", "Zp") else each for each in line).strip()

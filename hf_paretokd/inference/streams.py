"""Lines from files and pipes and to them: what has been written is whole lines, whatever happens next."""

import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hf_paretokd.errors import DataError

STANDARD = "-"  # standard input or output, as elsewhere
FIRST = 3  # lines that are looked at
CONVERT = "convert it first (iconv -f {0} -t UTF-8)"
MARKS = (  # what a file begins with that is no UTF-8 text, and what to do about it
    (b"\xff\xfe\0\0", "UTF-32", CONVERT),
    (b"\0\0\xfe\xff", "UTF-32", CONVERT),
    (b"\xff\xfe", "UTF-16", CONVERT),
    (b"\xfe\xff", "UTF-16", CONVERT),
    (b"\x1f\x8b", "packed (gzip)", "unpack it first, or name it .gz"),
    *((mark, "packed", "unpack it first") for mark in (b"PK\x03\x04", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")),
)


def source_name(source: str | None) -> str:
    """How a source of lines is called in messages."""
    return "standard input" if source in (None, STANDARD) else str(source)


def open_source(source: str | None) -> tuple[Iterator[bytes], int | None]:
    """The lines of a file, plain or `.gz`, of a pipe, or of standard input (None or `-`); and how many, where that is known.

    Raises:
        DataError: it is missing, closed, no text, or cannot be read to its end; names file and line.
    """
    name = source_name(source)
    if source is None or source == STANDARD:
        if sys.stdin is None:
            raise DataError("standard input: is closed; name a file")
        return read_lines(sys.stdin.buffer, name), None
    path = Path(source)
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a file")
    try:
        plain, packed = stat.S_ISREG(path.stat().st_mode), path.suffix == ".gz"
        total = count_lines(path) if plain and not packed else None
        file = gzip.open(path, "rb") if packed else open(path, "rb")  # noqa: SIM115 (closed where it has been read)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return read_lines(file, name), total


def read_lines(file: BinaryIO | gzip.GzipFile, name: str) -> Iterator[bytes]:
    """The lines of an open file, which is closed at their end."""
    number = 0
    try:
        with file:
            for number, line in enumerate(whole_lines(file, name), 1):
                if number <= FIRST and (found := foreign(line)):
                    form, remedy = found
                    raise DataError(f"{name}: is {form}; {remedy.format(form)}")
                yield line
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: cannot be read after line {number} ({error})") from error


def whole_lines(file: BinaryIO | gzip.GzipFile, name: str) -> Iterator[bytes]:
    """The lines of a file, unless it is all one line for want of newlines."""
    lines = iter(file)
    for first in lines:
        if b"\r" in first.rstrip(b"\r\n"):
            second = next(lines, None)
            if second is None:
                raise DataError(f"{name}: all one line, with CR alone between what may be lines; convert it to newlines")
            yield from (first, second)
        else:
            yield first
        break
    yield from lines


def foreign(line: bytes) -> tuple[str, str] | None:
    """What a file is that has this among its first lines and is no UTF-8 text, and what to do about it; None for text."""
    for mark, form, remedy in MARKS:
        if line.startswith(mark):
            return form, remedy
    if len(line) > 16:  # without a mark: by the bytes that are zero
        quarters, halves = ([set(line[start:-4:step]) for start in range(step)] for step in (4, 2))
        if {0} == quarters[0] == quarters[1] or {0} == quarters[2] == quarters[3]:
            return "UTF-32", CONVERT
        if {0} in halves and not all(0 in half for half in halves):
            return "UTF-16", CONVERT
    return ("no UTF-8 text", "it holds bytes that are zero; name or make a text file") if b"\0" in line else None


def count_lines(path: Path) -> int:
    """Lines of a file, a last one without a newline included."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


class LineWriter:
    """Writes whole lines: those that are waiting go out together, and what a full disk cut off is taken back.

    Args:
        file: unbuffered.
        name: of the file, in errors.
        packed: write gzip.
    """

    def __init__(self, file: io.FileIO, name: str, packed: bool = False) -> None:
        self.file, self.name = file, name
        self.buffer = io.BufferedWriter(file)  # of packed bytes, which come in crumbs
        self.packed = gzip.GzipFile(fileobj=self.buffer, mode="wb", mtime=0) if packed else None
        self.waiting: list[bytes] = []

    def write(self, line: bytes) -> None:
        """Takes one line."""
        self.waiting.append(line)

    def flush(self) -> None:
        """Writes what is waiting.

        Raises:
            DataError: the disk is full, or the file cannot be written for another reason.
            BrokenPipeError: nobody reads any more.
        """
        lines, self.waiting = self.waiting, []
        if lines:
            self.attempt(lambda: self.put(b"".join(lines)))

    def close(self) -> None:
        """Writes what is waiting and ends the file; raises as `flush`."""
        self.flush()
        if self.packed:
            self.attempt(self.packed.close)
            self.attempt(self.buffer.flush)

    def put(self, data: bytes) -> None:
        """Writes all of it, or raises an OSError."""
        if self.packed:
            self.packed.write(data)
            return
        done = 0
        try:
            while done < len(data):
                done += self.file.write(data[done:])
        except OSError:
            surplus = done - (data[:done].rfind(b"\n") + 1)
            if surplus and stat.S_ISREG(os.fstat(self.file.fileno()).st_mode):
                self.file.truncate(self.file.tell() - surplus)
            raise

    def attempt(self, action: Callable[[], None]) -> None:
        """Does it; what the file system has against it becomes a DataError."""
        try:
            action()
        except BrokenPipeError:
            raise
        except OSError as error:
            there = "it ends in the middle" if self.packed else "what is there are whole lines"
            self.packed = None  # it could not be ended either
            raise DataError(f"{self.name}: cannot be written ({error.strerror}); {there}") from error


def check_free(output: str, overwrite: bool) -> None:
    """Raises a DataError if a file with content is where the output is to go and is not to be replaced."""
    path = Path(output)
    if not overwrite and path.is_file() and path.stat().st_size:
        raise DataError(f"{path}: exists already; give --overwrite or another --output")


@contextmanager
def open_sink(output: str | None) -> Iterator[LineWriter]:
    """A file, packed if it is called `.gz`, or standard output (None or `-`), which stays open.

    Raises:
        DataError: it cannot be written, or is closed.
    """
    standard = output is None or output == STANDARD
    if standard and sys.stdout is None:
        raise DataError("standard output: is closed; give --output FILE")
    name = "standard output" if standard else str(output)
    try:
        file = io.FileIO(os.dup(sys.stdout.fileno()) if standard else name, "wb")
    except OSError as error:
        raise DataError(f"{name}: cannot be written ({error.strerror})") from error
    with file:
        writer = LineWriter(file, name, packed=name.endswith(".gz"))
        try:
            yield writer
        finally:
            writer.close()

"""Parallel text from files and data sets, one reader a format; every row knows where it stands.

Text is taken literally: quotes and words such as `NA` have no meaning, only the newline ends a line, and a carriage
return before it or a byte order mark at the start of a file is dropped. A first line of a TSV that names both languages of
the pair, or `source` and `target`, is its header and says which column is which. Blank lines of TSV and JSON lines are rows
without text.
"""

import gzip
import json
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.errors import DataError

SUFFIXES = {".tsv": "tsv", ".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
CODE = re.compile(r"[a-z]{2,3}([_-][a-z0-9]{2,8})?")  # of a language, without regard to case
SIDES = ("source", "target")  # what columns may be called, where only one pair is read


def format_of(name: str) -> str | None:
    """The format of a file by its name, `.gz` aside; None for what is no file of several columns."""
    return SUFFIXES.get(Path(name.lower().removesuffix(".gz")).suffix)


def check_file(path: Path) -> None:
    """Raises a DataError unless a path is that of a file."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a file in it, or put its files together into one")
    if not path.is_file():
        raise DataError(f"{path}: is no regular file, and text is read more than once; write it into one")


def unread(path: Path) -> DataError:
    """What is said of a file in a format that is not read."""
    return DataError(f"{path}: its format is not read; convert it to one of {', '.join(SUFFIXES)}, plain or with .gz")


class Row(NamedTuple):
    """One sentence pair and the place it came from, such as `train.de:17`."""

    source: str
    target: str
    place: str


class Lines:
    """Numbered lines (from 1) of a UTF-8 text file, plain or gzip, some of which may be passed over.

    Raises:
        DataError: the file is missing, is not readable gzip, or holds a line that is not UTF-8 or has a NUL byte.
    """

    def __init__(self, path: Path) -> None:
        check_file(path)
        self.path, self.number = path, 0  # of the last line that was read
        with self.reading():
            self.file: Any = gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # noqa: SIM115 (closed when read)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        name = str(self.path)
        with self.reading(), self.file:
            for raw in self.file:
                self.number = number = self.number + 1
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(f"{name}:{number}: not UTF-8 (byte {error.start}); convert the file first") from error
                line = line.rstrip("\n").removesuffix("\r")
                if "\0" in line:
                    checked(line, f"{name}:{number}")
                if number == 1 and "\r" in line and not self.file.peek(1):
                    raise DataError(f"{name}: all one line, with CR alone between what may be lines; convert it to newlines")
                yield number, line

    def skip(self, count: int) -> int:
        """Passes over lines without looking at them; how many there were."""
        with self.reading():
            passed = sum(1 for _ in islice(self.file, count))
        self.number += passed
        return passed

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Names the file in what goes wrong with it."""
        try:
            yield
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{self.path}: cannot be read after line {self.number}: {error}") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """All lines of a file, see `Lines`."""
    yield from Lines(path)


class Rows(Iterator[Row]):
    """Rows in their order, some of which may be passed over.

    Args:
        rows: all of them.
        files: line-aligned files that they are read from, where lines can be passed over without looking at them.
    """

    def __init__(self, rows: Iterator[Row], *files: Lines) -> None:
        self.rows, self.files = rows, files

    def __iter__(self) -> Iterator[Row]:
        return self.rows

    def __next__(self) -> Row:
        return next(self.rows)

    def skip(self, count: int) -> int:
        """Passes over rows; how many there were.

        Raises:
            DataError: one file ends before the other.
        """
        if not self.files:
            return sum(1 for _ in islice(self.rows, count))
        source, target = (file.skip(count) for file in self.files)
        if source != target:
            raise not_aligned(*self.files)
        return source


def read_aligned(source: Path, target: Path) -> Rows:
    """Rows of two files whose line *n* translate each other.

    Raises:
        DataError: the files have different numbers of lines, or as `Lines`.
    """
    files = Lines(source), Lines(target)
    return Rows(aligned(*files), *files)


def aligned(source: Lines, target: Lines) -> Iterator[Row]:
    """Rows of two files, see `read_aligned`."""
    sources, targets, name = iter(source), iter(target), str(source.path)
    while True:
        left, right = next(sources, None), next(targets, None)
        if left and right:
            yield Row(left[1], right[1], f"{name}:{left[0]}")
        elif left or right:
            raise not_aligned(source, target)
        else:
            return


def not_aligned(source: Lines, target: Lines) -> DataError:
    """What is said of files of which one has ended before the other."""
    for file in (source, target):
        if not file.file.closed:
            file.skip(sys.maxsize)
    longer, shorter = sorted((source, target), key=lambda file: -file.number)
    return DataError(
        f"{longer.path}:{shorter.number + 1}: no partner line; {longer.path.name} has {longer.number} lines and "
        f"{shorter.path.name} has {shorter.number}: the files are not aligned"
    )


def checked(text: str, place: str) -> str:
    """The text itself, whatever format it comes from.

    Raises:
        DataError: it holds a NUL, or half of a surrogate pair, which is no character.
    """
    if "\0" in text:
        raise DataError(f"{place}: holds a NUL character; is this a text file?")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{place}: holds half of a surrogate pair, which is no character; mend or remove it") from error
    return text


def read_tsv(path: Path, pair: LanguagePair, shared: bool = False) -> Iterator[Row]:
    """Rows of a file with the source, a tab and the target on each line, or with a header that names the columns.

    Args:
        path: the file.
        pair: names the columns in a header.
        shared: whether other pairs are read from it too, so that it has to have a header.

    Raises:
        DataError: a line has other columns, a header is not clear, or a shared file has none; and as `read_lines`.
    """
    source, target, count = 0, 1, 2
    for number, line in read_lines(path):
        columns = line.split("\t")
        if number == 1 and (named := named_columns(columns, pair, f"{path}:1", shared)):
            (source, target), count = named, len(columns)
            continue
        if number == 1 and shared:
            raise DataError(
                f"{path}:1: several pairs are read from this file, and no header says which column is {pair.source} and which "
                f"{pair.target}; put {{pair}} into its name, or the languages into its first line"
            )
        if not line.strip():
            columns = [""] * count
        if len(columns) != count:
            wanted = "source<TAB>target" if count == 2 else f"the {count} columns of the header"
            raise DataError(f"{path}:{number}: expected {wanted}, found {len(columns)} column(s)")
        yield Row(columns[source], columns[target], f"{path}:{number}")


def named_columns(columns: Sequence[str], pair: LanguagePair, place: str, shared: bool) -> tuple[int, int] | None:
    """The places of source and target in a header; None for a first line that is none.

    Args:
        columns: of the first line.
        pair: whose languages are looked for, without regard to case.
        place: of the line.
        shared: whether other pairs are read from the file, too.

    Raises:
        DataError: it names a side twice, or only one of them beside other languages.
    """
    names = [column.strip().casefold() for column in columns]
    languages = (pair.source.casefold(), pair.target.casefold())
    for wanted in (languages,) if shared else (languages, SIDES):
        if set(wanted) <= set(names):
            for name in wanted:
                if names.count(name) > 1:
                    raise DataError(f"{place}: the header has two columns {name}; call one of them otherwise")
            return names.index(wanted[0]), names.index(wanted[1])
    lacking = [name for name in languages if name not in names]
    if len(lacking) == 1 and all(CODE.fullmatch(name) for name in names):
        raise DataError(
            f"{place}: seems to be a header, and has no column {lacking[0]}; name the languages of {pair}, or put such a "
            "header above it if it is text"
        )
    return None


def read_jsonl(path: Path, pair: LanguagePair) -> Iterator[Row]:
    """Rows of JSON lines: `{"de": …, "en": …}`, or the same inside a `translation` field."""
    for number, line in read_lines(path):
        if not line.strip():
            yield Row("", "", f"{path}:{number}")
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not JSON ({error.msg}); one object a line is expected") from error
        except (ValueError, RecursionError) as error:  # numbers of thousands of digits, thousands of brackets
            raise DataError(f"{path}:{number}: not JSON that can be read ({error})") from error
        yield record_row(record, pair, f"{path}:{number}")


def read_parquet(path: Path, pair: LanguagePair) -> Iterator[Row]:
    """Rows of a parquet file with a column for each language, or a `translation` column that holds both."""
    import pyarrow
    import pyarrow.parquet

    check_file(path)
    try:
        table = pyarrow.parquet.ParquetFile(path)
        number = 0
        for batch in table.iter_batches():
            for record in batch.to_pylist():
                number += 1
                yield record_row(record, pair, f"{path}: row {number}")
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as parquet ({error})") from error


def read_hub(name: str, config: str | None, split: str, pair: LanguagePair, streaming: bool = False) -> Iterator[Row]:
    """Rows of one split of a Hub data set, which is loaded whole or read as it comes."""
    for number, record in enumerate(load_hub(name, config, split, streaming), 1):
        yield record_row(record, pair, f"{name}/{split}: row {number}")


def load_hub(name: str, config: str | None, split: str, streaming: bool = False) -> Any:
    """One split of a Hub data set: a `Dataset`, memory-mapped, or an `IterableDataset`.

    Raises:
        DataError: it cannot be had.
    """
    import datasets

    try:
        return datasets.load_dataset(name, config, split=split, streaming=streaming)
    except Exception as error:  # the Hub client raises many kinds; the user needs the name and the reason
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"Hub data set {name!r} (config {config}, split {split}): {reason}") from error


def record_row(record: object, pair: LanguagePair, place: str) -> Row:
    """The two texts of `pair` in a record.

    Raises:
        DataError: a language is missing or its value is not text.
    """
    fields = record.get("translation", record) if isinstance(record, dict) else record
    if not isinstance(fields, dict):
        raise DataError(f"{place}: expected an object with the fields {pair.source!r} and {pair.target!r}")
    for language in (pair.source, pair.target):
        if not isinstance(fields.get(language), str):
            raise DataError(f"{place}: field {language!r} is {'not text' if language in fields else 'missing'}")
    return Row(checked(fields[pair.source], place), checked(fields[pair.target], place), place)


def find_aligned(folder: Path, split: str, pair: LanguagePair) -> tuple[Path, Path]:
    """The two files `[xx-en/]SPLIT.LANG[.gz]` of a pair below `folder`.

    Raises:
        DataError: the folder or one of the files is missing; says which names were tried.
    """
    if not folder.is_dir():
        raise DataError(f"data.data_dir: {folder} is not a folder")
    if (folder / split).is_file():
        raise unread(folder / split)
    places = [folder / str(pair), folder / f"{pair.target}-{pair.source}", folder]
    for place in places:
        source, target = (
            next((path for path in candidates(place, split, language) if path.is_file()), None)
            for language in (pair.source, pair.target)
        )
        if source and target:
            return source, target
        if source or target:
            lacking = pair.target if source else pair.source
            raise DataError(f"{source or target}: its other side {split}.{lacking}[.gz] is missing in {place}")
    tried = ", ".join(str(place / f"{split}.{pair.source}[.gz]") for place in places)
    raise DataError(f"no text for {pair}, split {split!r}; looked for {tried}")


def candidates(place: Path, split: str, language: str) -> list[Path]:
    """File names a side may have, in order of preference."""
    return [place / f"{split}.{language}", place / f"{split}.{language}.gz"]

"""Files and folders that are whole or not there: written beside, flushed to disk, then renamed."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError

from hf_paretokd.errors import ModelError, RecipeError, TrainingError
from hf_paretokd.layout import LOCK, MANIFEST

Row = TypeVar("Row")
WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)  # torch.save raises RuntimeError where a disk is full


def check_apart(output: str | Path, inputs: Iterable[str | Path | None], option: str = "--output") -> None:
    """Refuses an output that is, contains or lies inside an input, symbolic links resolved; inputs may be ids or None.

    Raises:
        RecipeError: names `option`, the output and the input.
    """
    place = Path(output).resolve()
    for each in inputs:
        if each is None or not Path(each).exists():
            continue
        found = Path(each).resolve()
        same = place == found or (place.exists() and place.samefile(found))  # two names of one file
        if same or place in found.parents or found in place.parents:
            how = "is" if same else "contains" if place in found.parents else "lies inside"
            raise RecipeError(f"{option}: {output} {how} {each}, which is read here; choose another place")


def damage(folder: Path) -> str | None:
    """What is wrong with a published folder, or None if every file is as it was written."""
    path = folder / MANIFEST
    if not path.is_file():
        return f"{MANIFEST} is missing"
    try:
        files = json.loads(path.read_text("utf-8"))["files"]
        for name, expected in files.items():
            file = folder / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != expected["bytes"]:
                return f"{name} has {file.stat().st_size} bytes instead of {expected['bytes']}"
            if checksum(file) != expected["sha256"]:
                return f"the checksum of {name} is wrong"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read ({error!r})"
    return None


def listed(folder: Path) -> set[str]:
    """The files that the manifest of a published folder names; none where it cannot be read."""
    try:
        return set(json.loads((folder / MANIFEST).read_text("utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish(written: Path, folder: Path) -> None:
    """Adds the manifest to a finished folder, flushes all of it to disk and gives it its name.

    What had that name before is deleted only when the new folder is in its place.

    Args:
        written: the finished folder, on the same file system.
        folder: its name from now on.
    """
    files = {
        path.relative_to(written).as_posix(): {"bytes": path.stat().st_size, "sha256": checksum(path)}
        for path in sorted(written.rglob("*"))
        if path.is_file()
    }
    (written / MANIFEST).write_text(json.dumps({"files": files}, indent=1), "utf-8")
    put_in_place(written, folder)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new, empty folder to be filled in the block; it gets the name `folder` at the end, replacing what had it before.

    If the block fails nothing is left of the new folder and the old one is as it was.
    """
    written = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir(parents=True)
    try:
        with naming(folder):
            yield written
            put_in_place(written, folder)
    except BaseException:
        shutil.rmtree(written, ignore_errors=True)
        raise


@contextmanager
def whole_files(folder: Path) -> Iterator[Path]:
    """An empty folder to be filled in the block; its files, each whole, then go into `folder`, where other files stay."""
    written = folder / ".unfinished"
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir(parents=True)
    try:
        with naming(folder):
            yield written
            for path in sorted(path for path in written.rglob("*") if path.is_file()):
                flush(path)
                place = folder / path.relative_to(written)
                place.parent.mkdir(parents=True, exist_ok=True)
                path.replace(place)
    finally:
        shutil.rmtree(written, ignore_errors=True)


def put_in_place(written: Path, folder: Path) -> None:
    """Flushes a finished folder to disk and gives it its name; what had that name goes last."""
    for path in (*written.rglob("*"), written):
        flush(path)
    before = written.with_name(f"{written.name}.replaced")
    if folder.exists():
        folder.rename(before)
    written.rename(folder)
    flush(folder.parent)
    shutil.rmtree(before, ignore_errors=True)


def flush(path: Path) -> None:
    """Has a file or the entries of a folder written to disk."""
    if os.name == "nt" and path.is_dir():
        return  # folders cannot be opened there
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file that others take for finished as soon as it is there; text in UTF-8."""
    written = path.with_name(f".{path.name}.unfinished")
    with naming(path):
        try:
            written.write_bytes(content.encode() if isinstance(content, str) else content)
            flush(written)
            written.replace(path)
        except OSError:
            written.unlink(missing_ok=True)  # a full disk needs the room
            raise


@contextmanager
def naming(place: Path) -> Iterator[None]:
    """Has what goes wrong with writing in the block name the place that is written, and be an OSError."""
    try:
        yield
    except SafetensorError as error:
        full = f"(os error {errno.ENOSPC})" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error).splitlines()[0], str(place)) from error
    except OSError as error:
        if error.filename is None or ".unfinished" in str(error.filename):
            error.filename = str(place)
        raise


def save_json(value: Any, path: Path) -> None:
    """Writes a value as readable JSON."""
    write_whole(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def load_json(path: Path) -> Any:
    """Reads what `save_json` wrote.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); take another checkpoint") from error


def write_rows(rows: Iterable[Any], path: Path) -> None:
    """Writes instances of a dataclass as a JSON list."""
    save_json([asdict(row) for row in rows], path)


def read_rows(kind: type[Row], path: Path) -> list[Row] | None:
    """Reads what `write_rows` wrote, each value of its type; None if there is no such file.

    Raises:
        TrainingError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        return typed_json(list[kind], path, finite=True)  # type: ignore[valid-type]
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise TrainingError(f"{path}: cannot be read ({reason}); remove it and paretokd evaluate the run") from error


def typed_json(kind: Any, path: Path, finite: bool = False) -> Any:
    """The content of a JSON file as a type; dataclasses in it are made, keys that they do not know are left out.

    Args:
        kind: the type.
        path: the file.
        finite: refuse NaN and infinities.

    Raises:
        OSError, ValueError: it cannot be read, is no JSON, or has values of other types.
    """

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no number")

    try:
        return TypeAdapter(kind).validate_python(json.loads(path.read_text("utf-8"), parse_constant=refuse if finite else None))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}") from error


@contextmanager
def claimed(folder: Path, option: str = "output_dir") -> Iterator[None]:
    """Has a folder, made if need be, for this process alone; whoever has it may claim it again.

    Args:
        folder: the folder.
        option: that names it, in errors.

    Raises:
        TrainingError: another process has it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.resolve() / LOCK, timeout=0, is_singleton=True).acquire()
    except Timeout as error:
        raise TrainingError(f"{folder}: another process is at work there; wait for it, or choose another folder") from error
    except OSError as error:
        raise TrainingError(f"{option}: {folder} cannot be written ({error.strerror}); choose another") from error
    with lock:
        yield


@contextmanager
def discarded_on_error(folder: Path) -> Iterator[None]:
    """Deletes an unfinished folder if the block fails to write it; a full disk needs the room."""
    try:
        yield
    except WRITE_ERRORS:
        shutil.rmtree(folder, ignore_errors=True)
        raise

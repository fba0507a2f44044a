"""Work that one process does and others wait for, also on several machines with one folder: a file with a heartbeat."""

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BEAT, GONE = 5.0, 60.0  # seconds between two signs of life, and without one until whoever had the work counts as dead


def age(path: Path) -> float | None:
    """Seconds since the last sign of life by the clock of the file system; None if nobody has the lease.

    Without end if whoever had it was a process of this machine and is not there any more.
    """
    if dead(path):
        return math.inf
    probe = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}")
    try:
        there = path.stat().st_mtime
        probe.touch()
        return max(0.0, probe.stat().st_mtime - there)
    except FileNotFoundError:
        return None
    finally:
        probe.unlink(missing_ok=True)


def here() -> str:
    """Name of the machine, or of the part of it whose processes have numbers of their own."""
    space = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {os.readlink(space) if space.exists() else ''}".strip()


def dead(path: Path) -> bool:
    """Whether a lease names a process of this machine that is gone."""
    try:
        _, number, _, machine = path.read_text("utf-8").split(" ", 3)
        if machine != here():
            return False
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):  # there is none, it is being written, or the process is somebody else's
        return False
    return False


@contextmanager
def leased(path: Path) -> Iterator[bool]:
    """Whether this process has the lease, until the block ends; that of a process which is gone is taken over."""
    taken = take(path)
    if not taken:
        yield False
        return
    stop = threading.Event()
    beats = threading.Thread(target=beat, args=(path, stop), daemon=True)
    beats.start()
    try:
        yield True
    finally:
        stop.set()
        beats.join()
        path.unlink(missing_ok=True)


def take(path: Path) -> bool:
    """Makes the file, if nobody has it; removes one without life first."""
    since = age(path)
    if since is not None:
        if since < GONE:
            return False
        with suppress(FileNotFoundError):  # somebody else was faster
            aside = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.gone")
            path.rename(aside)
            aside.unlink()
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f"process {os.getpid()} on {here()}")
    return True


def beat(path: Path, stop: threading.Event) -> None:
    """Gives a sign of life now and then."""
    while not stop.wait(BEAT):
        with suppress(OSError):  # a full disk, a share that is away for a moment
            os.utime(path)


def wait_while(condition: Callable[[], bool], pause: float = 0.5) -> None:
    """Waits as long as something holds.

    Args:
        condition: what.
        pause: seconds between two looks.
    """
    while condition():
        time.sleep(pause)

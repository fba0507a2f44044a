"""Stopping in good order when the system asks for it (SIGTERM: pre-emption, shutdown, a scheduler's time limit) or Ctrl-C."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


class StopRequest:
    """Whether SIGTERM or SIGINT has come, and which; the training reads it once an update. A second SIGINT stops at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def received(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    @property
    def name(self) -> str:
        """What has come; SIGTERM if another process was asked."""
        return NAMES[signal.Signals(self.signal or signal.SIGTERM)]

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signals as requests inside the block; only the main thread can be asked."""
        self.signal, owner = None, os.getpid()
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, _frame: FrameType | None) -> None:
            if os.getpid() != owner:  # a loader worker, which lives as long as its parent wants
                if number != signal.SIGINT:
                    signal.signal(number, signal.SIG_DFL)
                    os.kill(os.getpid(), number)
            elif number == signal.SIGINT and self.signal == signal.SIGINT:
                raise KeyboardInterrupt
            else:
                self.signal = number

        before = {number: signal.signal(number, note) for number in NAMES}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

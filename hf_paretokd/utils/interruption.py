"""Stopping in good order when the system asks for it (SIGTERM: pre-emption, shutdown, a scheduler's time limit)."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether SIGTERM has come; the training reads it once an update."""

    def __init__(self) -> None:
        self.received = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes SIGTERM as a request inside the block; only the main thread can be asked."""
        self.received, owner = False, os.getpid()
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, _frame: FrameType | None) -> None:
            if os.getpid() == owner:
                self.received = True
            else:  # a loader worker, which must die when its parent wants it to
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)

        before = signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

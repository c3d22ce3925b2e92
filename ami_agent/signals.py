"""Stopping without losing work: the first SIGINT or SIGTERM asks, the second one ends the process at once."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a signal asked the loop to finish its step, save and end."""

    def __init__(self) -> None:
        self.requested = 0  # the signal's number, 0 while none came

    @property
    def exit_code(self) -> int:
        """130 after SIGINT, 143 after SIGTERM, 0 if nothing came."""
        return 128 + self.requested if self.requested else 0


@contextmanager
def graceful() -> Iterator[Stop]:
    """Turn SIGINT and SIGTERM into ``stop.requested`` while the block runs, also where SIGINT came ignored.

    Handlers are put back at the end. Outside the main thread signals cannot be caught, and none is.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop.requested = int(number)
        for each in SIGNALS:  # from here on the kernel itself ends the process, even inside a long C call
            signal.signal(each, signal.SIG_DFL)
        if sys.stderr is not None:  # where it is closed, descriptor 2 may be anything
            with suppress(OSError):  # not by print, which may be what was interrupted
                os.write(2, b"\nstopping as soon as this step is done; once more ends it at once\n")

    previous = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def end_with(parent: int) -> None:
    """From here on the kernel kills this process when the thread of `parent` that launched it ends, however it does."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it ended before that
        sys.exit(f"process {parent}, which launched this one, has ended")

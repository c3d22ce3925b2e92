"""The process of one piece: it ends with the one that launched it, and is ended where it hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ami_agent.console import say

STOPPED = (-signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM)  # exit codes
GRACE = 30.0  # seconds to come to an end in, once asked to


class Process:
    """A piece at work; all that it does it writes: points to its file, runs and a log to its scratch folder.

    A Ctrl-C does not reach it: `end_all` asks it to end. Where it writes nothing for `patience` seconds, it hangs, and
    is killed; 0 waits for ever.
    """

    def __init__(self, path: Path, scratch: Path, patience: float) -> None:
        self.path, self._scratch, self._patience = path, scratch, patience
        self._log = scratch / "log.txt"
        with self._log.open("a") as log:
            self.child = subprocess.Popen(
                command(path, scratch), stdout=log, stderr=log, env=one_thread(), start_new_session=True
            )
        self._written, self._looked = self._newest(), time.monotonic()
        self._moved, self._hung = self._looked, False

    def poll(self) -> int | None:
        """Its exit code; None while it is at work."""
        if self.child.poll() is None and self._hangs():
            self._hung = True
            self.kill()
        return self.child.returncode

    def kill(self) -> None:
        """At once, and with it what it has launched."""
        os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()

    @property
    def killed(self) -> bool:
        """Whether a signal ended it that did not come from here."""
        return not self._hung and (self.child.returncode < 0 or self.child.returncode in STOPPED)

    def last_words(self) -> str:
        """Why it ended, where it did not say so itself."""
        if self._hung:
            return f"it wrote nothing for {self._patience:g} s, and was ended"
        code, lines = self.child.returncode, self._log.read_text(errors="replace").strip().splitlines()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return f"its process {how}" + (f": {lines[-1]}" if lines else "")

    def _hangs(self) -> bool:
        """Looked at ten times in `patience` seconds."""
        now = time.monotonic()
        if not self._patience or now < self._looked + self._patience / 10:
            return False
        written, self._looked = self._newest(), now
        if written != self._written:
            self._written, self._moved = written, now
        return now >= self._moved + self._patience

    def _newest(self) -> float:
        """When it wrote last, by the files' own clock."""
        times = [0.0]
        scratch = (Path(folder, name) for folder, _, names in os.walk(self._scratch) for name in names)
        for file in (self.path, *scratch):
            with suppress(OSError):  # replaced or removed meanwhile
                times.append(file.stat().st_mtime)
        return max(times)


def end_all(processes: Iterable[Process]) -> None:
    """Ask them to end; kill those that have not after `GRACE` seconds."""
    asked = list(processes)
    for process in asked:
        process.child.terminate()
    deadline = time.monotonic() + GRACE
    for process in asked:
        try:
            process.child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            say(f"{process.path.stem}: killed, it did not stop within {GRACE:g} s; the same command goes on")


def command(path: Path, scratch: Path) -> list[str]:
    files = [str(path.absolute()), str(scratch.absolute())]
    return [sys.executable, "-m", "ami_agent.bench.work", *files, str(os.getpid())]


def one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

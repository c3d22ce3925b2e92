"""One process a home: an flock that the kernel frees with its holder, however that dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import time
from io import BufferedRandom
from pathlib import Path

from ami_agent.errors import LockedError
from ami_agent.memory.database import named_errors


class HomeLock:
    """Exclusive hold on a folder, taken when made; `release()` or the end of a `with` block lets go of it.

    The file `lock` in the folder says who holds it (pid, command, host, start in Unix seconds) and stays behind when
    released: only the kernel's lock counts. A forked child shares the hold; a program it executes does not.
    Raises LockedError naming the holder, MissingError or ResourceError if the folder cannot be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "lock"
        with named_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BufferedRandom = open(self.path, "a+b")  # noqa: SIM115 - held until release
            try:
                self._take()
            except BaseException:
                self._file.close()
                raise

    def _take(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(f"{self.path.parent} is in use by {self._holder()}") from None
        me = {"pid": os.getpid(), "command": sys.argv, "host": socket.gethostname(), "started": time.time()}
        self._file.truncate(0)
        self._file.write(json.dumps(me).encode())
        self._file.flush()

    def _holder(self) -> str:
        self._file.seek(0)
        try:
            who = json.loads(self._file.read())
            command = " ".join(who["command"])
            started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(who["started"]))
            return f"process {who['pid']} on {who['host']} ({command}), since {started}"
        except (ValueError, KeyError, TypeError):  # it has only just taken the lock and has not said yet
            return "another process"

    def release(self) -> None:
        """Let go; releasing twice is harmless."""
        if not self._file.closed:
            fcntl.flock(self._file, fcntl.LOCK_UN)  # closing alone would leave it with a forked child
            self._file.close()

    def __enter__(self) -> HomeLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

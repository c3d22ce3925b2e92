"""One piece in a process of its own: `python -m ami_agent.bench.work FILE SCRATCH PARENT`.

FILE says what to do; SCRATCH is the piece's own folder, with its runs and its log; PARENT is the process that launched
it, and that it ends with.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import torch

from ami_agent.bench.contenders import contender
from ami_agent.bench.judge import Interrupted
from ami_agent.bench.piece import OpenPiece, fail, read
from ami_agent.bench.schema import UNFINISHED
from ami_agent.errors import LockedError
from ami_agent.memory.lock import HomeLock
from ami_agent.signals import Stop, end_with, graceful


def main(path: Path, scratch: Path) -> int:
    """Run a piece to its end, or until a signal comes. One that another process has is left to it."""
    torch.set_num_threads(1)
    with graceful() as stop:
        try:
            with HomeLock(scratch):
                if read(path)["status"] == UNFINISHED:  # or another process has brought it to its end meanwhile
                    _run(path, scratch, stop)
        except LockedError as error:
            print(error, file=sys.stderr)
            return error.exit_code
        return stop.exit_code


def _run(path: Path, scratch: Path, stop: Stop) -> None:
    """A fault is kept in the piece's file, whatever it is: the other pieces go on."""
    try:
        who = contender(read(path)["agent"])
        if who.learns:
            torch.optim.Adam([torch.zeros(1)])  # what torch imports for its first optimiser is not learning
        who.run(OpenPiece(path, scratch, stop, who.at_once))
    except Interrupted:
        pass
    except Exception as error:
        traceback.print_exc()
        fail(path, f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    end_with(int(sys.argv[3]))
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))

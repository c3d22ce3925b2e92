"""What a person sees while work goes on. Results go to stdout, all else to stderr."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ami_agent.files import plain

PLAIN_EVERY = 5.0  # seconds between progress lines where there is no terminal
RECENT = 30.0  # seconds that the rate, and so the time left, is taken over: work's first steps may be quicker


class _Console(Console):
    """Rich's console, whose closed pipe (`| head`) is left to the command line's own handling."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        raise BrokenPipeError


out = _Console(highlight=False)  # tables and results
err = _Console(stderr=True, highlight=False)  # everything else

_json_stdout: TextIO | None = None  # the real stdout while `json_only`, where nothing but `emit` may write


@contextmanager
def json_only() -> Iterator[None]:
    """Keep stdout for `emit`: whatever else prints, libraries included, goes to stderr; no progress is shown."""
    global _json_stdout
    with _own_stdout() as _json_stdout, redirect_stdout(sys.stderr):
        try:
            yield
        finally:
            _json_stdout = None


@contextmanager
def _own_stdout() -> Iterator[TextIO | None]:
    """stdout, for nobody else: what C code writes to descriptor 1 goes to stderr meanwhile."""
    stdout = sys.__stdout__
    if stdout is None or sys.stderr is None or sys.stdout is not stdout or stdout.fileno() != 1:
        yield sys.stdout
        return
    stdout.flush()
    with open(os.dup(1), "w", encoding="utf-8") as own:
        os.dup2(2, 1)
        try:
            yield own
        finally:
            with suppress(OSError, ValueError):  # what was printed by an older name of it
                stdout.flush()
            ctypes.CDLL(None).fflush(None)  # what C's own streams still hold
            os.dup2(own.fileno(), 1)


def emit(value: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout (see `ami_agent.files.plain` for what it may hold)."""
    print(json.dumps(plain(value), allow_nan=False), file=_json_stdout or sys.stdout, flush=True)


def say(text: str) -> None:
    """One line to the person, on stderr."""
    err.print(text, markup=False, soft_wrap=True)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f}/s")


@contextmanager
def progress(total: int, description: str, done: int = 0) -> Iterator[Callable[..., None]]:
    """Show how far work is, of which `done` was done before; call what it yields as ``advance(n=1, text="")``.

    A bar with rate and time left on a terminal, a line every few seconds elsewhere, nothing under `json_only`.
    """
    if _json_stdout is not None:
        yield lambda n=1, text="": None
    elif err.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
        words = TextColumn("{task.fields[text]}", markup=False)
        with Progress(*columns, words, console=err, speed_estimate_period=RECENT) as bar:
            task = bar.add_task(description, total=total, completed=done, text="")
            yield lambda n=1, text="": bar.update(task, advance=n, text=text)
    else:
        yield _PlainProgress(total, description, done)


class _PlainProgress:
    """Lines instead of a bar."""

    def __init__(self, total: int, description: str, done: int = 0) -> None:
        self.total, self.description, self.done = total, description, done
        self.last = time.monotonic()
        self.told = deque([(self.last, done)], maxlen=round(RECENT / PLAIN_EVERY))  # when, and how much was done

    def __call__(self, n: int = 1, text: str = "") -> None:
        self.done += n
        now = time.monotonic()
        if now - self.last < PLAIN_EVERY and self.done < self.total:
            return
        self.last = now
        then, done = self.told[0]
        self.told.append((now, self.done))
        rate = (self.done - done) / max(now - then, 1e-9)
        left = max(self.total - self.done, 0) / rate if rate else 0.0
        say(f"{self.description}: {self.done}/{self.total}, {rate:.1f}/s, {left:.0f} s left {text}".rstrip())

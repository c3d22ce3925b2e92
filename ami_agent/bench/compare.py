"""The gate before a merge: is what comes (B) worse than what was (A), beyond chance?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import comb
from pathlib import Path

from ami_agent.bench.names import OURS
from ami_agent.bench.results import Piece, load
from ami_agent.bench.standings import CLAIM, Entry, Estimate, shared_scores
from ami_agent.bench.suites import SUITES, Suite, Task
from ami_agent.errors import ArtefactError, UsageError
from ami_agent.evaluation.statistics import difference_of_means, permutation_test, probability_of_improvement

RISK = 0.05  # of calling worse what is as good, a suite
WORSE = ArtefactError.exit_code  # what the gate ends with: a check that failed


@dataclass(frozen=True)
class Change:
    """Of one task, at equal env steps: scores before and after."""

    task: Task
    before: list[float]
    after: list[float]
    looks: int  # questions that are asked of chance together

    @cached_property
    def p(self) -> float:
        return permutation_test([self.before], [self.after])

    @property
    def tells(self) -> bool:
        """Whether there are seeds enough to find it worse at all."""
        return self.looks / comb(len(self.before) + len(self.after), len(self.before)) <= RISK

    @property
    def worse(self) -> bool:
        """Beyond chance, though as much is looked at (Bonferroni)."""
        return self.p * self.looks <= RISK

    @property
    def line(self) -> str:
        told = " to ".join(_interval(Estimate.of([scores])) for scores in (self.before, self.after))
        return f"  {self.task.short:<28} {told}, p {self.p:.3f}{'  WORSE' if self.worse else ''}"


@dataclass(frozen=True)
class Comparison:
    """Of one suite: B less A in interquartile mean, and how likely a run of B is above one of A, with intervals."""

    suite: Suite
    changes: tuple[Change, ...]
    gain: tuple[float, float, float]
    improvement: tuple[float, float, float]
    p: float  # of all tasks together, as of one

    @property
    def worse(self) -> bool:
        """As a whole, or on a task."""
        return self.p * _looks(len(self.changes)) <= RISK or any(change.worse for change in self.changes)

    @property
    def seeds(self) -> int:
        return min(min(len(change.before), len(change.after)) for change in self.changes)

    @property
    def text(self) -> str:
        mean, low, high = self.gain
        lines = [
            f"{self.suite.name}, {len(self.changes)} of {len(self.suite.tasks)} tasks, at equal env steps",
            f"  B - A {mean:+.3f} ({low:+.3f} to {high:+.3f}), p {self.p:.3f}; "
            "P(B > A) {:.2f} ({:.2f} to {:.2f})".format(*self.improvement),
            *(change.line for change in self.changes),
        ]
        if self.seeds < CLAIM:
            lines.append(f"  warning: as few as {self.seeds} seeds, a claim needs {CLAIM}")
        if not any(change.tells for change in self.changes):
            lines.append("  so few seeds cannot tell that a single task is worse")
        if self.worse:
            names = [change.task.short for change in self.changes if change.worse]
            lines.append("  B is WORSE than A, beyond chance" + (f": on {', '.join(names)}" if names else ""))
        elif low > 0:
            lines.append("  B is better than A")
        else:
            lines.append(f"  B was not shown to be worse than A; a loss of {max(-low, 0):.3f} could be")
        return "\n".join(lines)


def compare(before: Iterable[Piece], after: Iterable[Piece]) -> tuple[list[Comparison], list[str]]:
    """By suite, over the tasks that both have with two seeds or more; and why others that A has are left out. Each is
    one agent's pieces.

    Raises UsageError if nothing is left, or a task was measured with other versions of MuJoCo.
    """
    was, now = _entries(before), _entries(after)
    lacks = {key: lack for key, entry in was.items() if (lack := _lack(entry, now.get(key)))}
    found = []
    for suite in SUITES.values():
        keys = [key for task in suite.tasks if (key := (suite.name, task.name)) in was and key not in lacks]
        if keys:
            found.append(_comparison(suite, [(was[key], now[key]) for key in keys]))
    left_out = [f"{task} of {suite}: {lack}" for (suite, task), lack in lacks.items()]
    if not found:
        raise UsageError(f"there is nothing to compare: {'; '.join(left_out) or 'A has no piece at its end'}")
    return found, left_out


def _comparison(suite: Suite, pairs: list[tuple[Entry, Entry]]) -> Comparison:
    for a, b in pairs:
        _comparable(a, b)
    scores = [shared_scores(a, b) for a, b in pairs]
    changes = (Change(a.task, *two, _looks(len(pairs))) for (a, _), two in zip(pairs, scores, strict=True))
    old, new = ([two[k] for two in scores] for k in (0, 1))
    gains = difference_of_means(new, old), probability_of_improvement(new, old)
    return Comparison(suite, tuple(changes), *gains, permutation_test(old, new))


def _looks(tasks: int) -> int:
    """Each task, and all of them together."""
    return tasks + (tasks > 1)


def _lack(a: Entry, b: Entry | None) -> str | None:
    """Why a task cannot be compared, if it cannot."""
    if b is None:
        return "B has no result"
    alone = next((name for name, entry in (("A", a), ("B", b)) if len(entry.pieces) < 2), None)
    return alone and f"{alone} has one seed alone, which tells nothing of chance"


def _comparable(a: Entry, b: Entry) -> None:
    versions = sorted({piece.mujoco or "unknown" for entry in (a, b) for piece in entry.pieces if piece.points})
    if len(versions) > 1:
        told = f"{a.task.name} was measured with MuJoCo {' and '.join(versions)}"
        raise UsageError(f"{told}, which cannot be compared; measure both with one")


def agent_in(where: str) -> list[Piece]:
    """The pieces of FOLDER:AGENT, or of ours in FOLDER. Raises UsageError where there are none, ArtefactError if any
    file there is no result."""
    path, _, agent = (where, "", OURS) if Path(where).exists() else where.rpartition(":")
    if not path:
        raise UsageError(f"{where} is not there; give FOLDER, or FOLDER:AGENT, of results")
    loaded = load([Path(path)])
    if loaded.faults:
        told = "; ".join(f"{name}: {', '.join(faults)}" for name, faults in loaded.faults.items())
        raise ArtefactError(f"{told}; `ami-agent leaderboard check {path}` says so, too")
    pieces = [piece for piece in loaded.pieces if piece.agent == agent]
    if not pieces:
        there = ", ".join(sorted({piece.agent for piece in loaded.pieces})) or "no results"
        raise UsageError(f"{path} has no results of {agent}; there is {there}")
    return pieces


def _entries(pieces: Iterable[Piece]) -> dict[tuple[str, str], Entry]:
    """By suite and task, those at their end."""
    found: dict[tuple[str, str], list[Piece]] = {}
    for piece in sorted(pieces, key=lambda piece: piece.seed):
        if piece.counts:
            found.setdefault((piece.suite.name, piece.task.name), []).append(piece)
    return {key: Entry(some[0].task, tuple(some)) for key, some in found.items()}


def _interval(it: Estimate) -> str:
    return f"{it.mean:.2f}" if it.low is None or it.high is None else f"{it.mean:.2f} ({it.low:.2f} to {it.high:.2f})"

"""What can go wrong for a user, each with the exit code the command line ends with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches


class AmiError(Exception):
    """A fault the user can understand: the message says what came, what was expected and what to do."""

    exit_code = 1


class UsageError(AmiError):
    """A wrong name, flag, value or configuration."""

    exit_code = 2


class WorldError(UsageError):
    """Someone else's environment raised in the middle of a life."""


class MissingError(AmiError):
    """Something this machine lacks: a package, a GPU, OpenGL, a writable folder."""

    exit_code = 3


class ArtefactError(AmiError):
    """A file that is corrupt, of another version, or unsafe."""

    exit_code = 4


class NumericalError(AmiError):
    """Numbers that are no longer finite."""

    exit_code = 5


class ResourceError(AmiError):
    """Out of disk or memory; or the server of a memory is lost."""

    exit_code = 6


class LockedError(AmiError):
    """Another process holds the home."""

    exit_code = 75


def check_ranges(config: object, limits: Mapping[str, tuple[float, float]]) -> None:
    """Raise UsageError, telling the range, unless each field of `config` lies within its (low, high)."""
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise UsageError(f"{name} must lie from {low} to {high}, not {value}")


def nearest(name: str, names: Iterable[str], n: int = 3, cutoff: float = 0.5) -> list[str]:
    """At most `n` of `names` that look like `name`, whatever the case, best first; fewer with a higher `cutoff`."""
    by_fold: dict[str, str] = {}
    for candidate in names:
        by_fold.setdefault(candidate.casefold(), candidate)
    wanted = name.casefold()
    words = [fold for fold in by_fold if wanted in re.split(r"[^a-z0-9]+", fold)]
    close = get_close_matches(wanted, by_fold, n, cutoff=cutoff)
    parts = [fold for fold in by_fold if wanted and wanted in fold]
    return [by_fold[fold] for fold in dict.fromkeys(words + close + parts)][:n]

"""What pieces were made with, in Markdown: machines, versions and commits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ami_agent.bench.results import Piece, by_seeds
from ami_agent.bench.standings import Row

COMMIT = 8  # letters of a commit


def made(rows: Sequence[Row]) -> Iterator[str]:
    """A line each; where they are not the same for all, a line for each that there is, and of which pieces it is."""
    for tell in (_machine, _versions, _commits):
        groups: dict[str, list[Piece]] = {}
        for piece in pieces_of(rows):
            if piece.points:
                groups.setdefault(tell(piece), []).append(piece)
        for what, some in groups.items():
            yield f"- {what}" + (f": {_named(some, rows)}" if len(groups) > 1 else "")


def pieces_of(rows: Sequence[Row]) -> Iterator[Piece]:
    return (piece for row in rows for piece in row.pieces)


def _machine(piece: Piece) -> str:
    return piece.machine or "unknown machine"


def _versions(piece: Piece) -> str:
    return ", ".join(f"{name} {version}" for name, version in piece.versions.items())


def _commits(piece: Piece) -> str:
    return f"commit {', '.join(commit[:COMMIT] for commit in piece.commits) or 'unknown'}"


def _named(pieces: Sequence[Piece], rows: Sequence[Row]) -> str:
    """Some of the rows' pieces in words; tasks are named where they are not all that an agent has."""
    keys, words = {piece.key for piece in pieces}, []
    for row in rows:
        for which, some in by_seeds(piece for piece in row.pieces if piece.key in keys).items():
            where = f" on {', '.join(some)}" if len(some) < len(row.entries) else ""
            words.append(f"{row.name}{where}, {which}")
    return "; ".join(words)

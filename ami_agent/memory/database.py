"""What the store asks of an engine, and which engine keeps what: a file (SQLite), or a server that many share."""

from __future__ import annotations

import errno
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from ami_agent.errors import ArtefactError, MissingError, ResourceError, UsageError

SCHEMA_VERSION = 3
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM}
URLS = ("postgresql://", "postgres://")


class DamagedMemory(ArtefactError):
    """The memory, or one episode of it, cannot be trusted. It was left as it was found."""

    def __init__(self, name: object, reason: str) -> None:
        super().__init__(f"memory {name} is damaged: {reason}. Nothing was changed; see: ami-agent memory verify")
        self.reason = reason


class Cursor(Protocol):
    """What a statement found or did."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Database(Protocol):
    """An open memory. Values stand in a statement as `?`; what both engines understand is all that it may say.

    Whatever fails is raised as DamagedMemory, MissingError, ResourceError (disk full, connection lost) or LockedError
    (another has held it for seconds), and then what was committed is intact.
    """

    @property
    def path(self) -> Path | None:
        """Of the file; None where a server keeps it."""
        ...

    @property
    def name(self) -> str:
        """The path or the URL: for messages, and to open it again."""
        ...

    @property
    def shared(self) -> bool:
        """Whether others may write at the same time."""
        ...

    @property
    def version(self) -> int:
        """Of the schema."""
        ...

    @property
    def own(self) -> str:
        """The condition of those rows of the tail that are this writer's."""
        ...

    def rows(self, query: str, *values: Any) -> list[tuple]: ...

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Cursor: ...

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None: ...

    def upsert(self, table: str, columns: str) -> str:
        """A statement that puts in a row of these columns, over one of the same key."""
        ...

    def transaction(self, durable: bool = True) -> AbstractContextManager[Database]:
        """All or nothing of what is executed. Once it ends it outlives this process; if `durable`, a power cut, too."""
        ...

    def tails(self) -> Generator[None, None, None]:
        """Make each tail whose writer is gone this writer's own, one after the other; the first is its own."""
        ...

    def forgetting(self) -> AbstractContextManager[bool]:
        """Whether, while this lasts, nobody else has asked for the same."""
        ...

    def size(self) -> int:
        """Bytes on the disk."""
        ...

    def occupied(self) -> int:
        """Of them those that hold something: what is free is used again before more is taken."""
        ...

    def compact(self) -> None:
        """Give back the room of what was deleted."""
        ...

    def check(self) -> list[str]:
        """What the engine itself finds wrong; it cannot see a flipped bit inside a value."""
        ...

    def close(self) -> None:
        """Let go of it; closing twice is harmless."""
        ...


def open_database(place: str | Path, read_only: bool, create: bool) -> Database:
    """The memory in a file or at a URL. Raises as `EpisodeStore` does, for a URL also as `check_url`."""
    if isinstance(place, str) and "://" in place:
        check_url(place)
        from ami_agent.memory.postgres import PostgresDatabase

        return PostgresDatabase(place, read_only, create)
    from ami_agent.memory.sqlite import SqliteDatabase

    return SqliteDatabase(Path(place), read_only, create)


def check_url(url: str) -> None:
    """Raise UsageError, which never quotes the URL, unless it is one of PostgreSQL and without a password: what stands
    in a command line is seen by all on this machine and kept with runs. Raises MissingError without psycopg.
    """
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as error:
        raise MissingError("a memory on a server needs psycopg; pip install 'ami-agent[postgres]'") from error
    try:
        told = conninfo_to_dict(url) if url.startswith(URLS) else None
    except psycopg.Error:  # its message may quote a password
        told = None
    if told is None:
        raise UsageError("the URL of a memory is like postgresql://USER@HOST:5432/DATABASE, and this is none")
    if not {"password", "sslpassword"}.isdisjoint(told):
        raise UsageError("the URL of a memory may not hold a password; set PGPASSWORD, or write it into ~/.pgpass")


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn what the system raises into errors a user can act on."""
    try:
        yield
    except OSError as error:
        kind = ResourceError if error.errno in NO_SPACE else MissingError
        raise kind(f"cannot use {path}: {error.strerror or error}") from error

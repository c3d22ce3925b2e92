"""A memory on a server of PostgreSQL, which many agents share; the tables are in a schema of their own, `ami_agent`.

A commit under synchronous_commit=on is on the server's disk when it returns. One under off is with the server: it
outlives this process at once, and the server's own end, or a power cut there, after at most 0.6 s (three times its
wal_writer_delay) or with the next commit under on. Both need a server with fsync=on, its default.

Whose steps are whose: each connection that writes has a number, and an advisory lock of that number, which the server
lets go of when the connection ends, however it does. Rows of the tail carry the number. So the connection must be the
server's own, or of a pool by session.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from ami_agent.errors import AmiError, ArtefactError, LockedError, MissingError, ResourceError
from ami_agent.memory.database import SCHEMA_VERSION, DamagedMemory

SCHEMA = f"""
CREATE TABLE about (version BIGINT NOT NULL);
INSERT INTO about VALUES ({SCHEMA_VERSION});
CREATE SEQUENCE writer AS INTEGER;
CREATE TABLE episode (
    id BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY, environment TEXT NOT NULL, session TEXT NOT NULL,
    seed BIGINT NOT NULL, steps BIGINT NOT NULL, episode_return DOUBLE PRECISION NOT NULL, success BIGINT,
    terminated BIGINT NOT NULL, truncated BIGINT NOT NULL, encoder TEXT NOT NULL, created DOUBLE PRECISION NOT NULL,
    task TEXT NOT NULL, checksum BYTEA NOT NULL);
CREATE TABLE chunk (
    episode BIGINT NOT NULL, part TEXT NOT NULL, checksum BYTEA NOT NULL, data BYTEA NOT NULL,
    PRIMARY KEY (episode, part));
CREATE TABLE latent (
    episode BIGINT NOT NULL, encoder TEXT NOT NULL, checksum BYTEA NOT NULL, data BYTEA NOT NULL,
    PRIMARY KEY (episode, encoder));
CREATE TABLE tail (
    writer INTEGER NOT NULL DEFAULT current_setting('ami_agent.writer')::INTEGER, environment TEXT NOT NULL,
    task TEXT NOT NULL, session TEXT NOT NULL, seed BIGINT NOT NULL, t BIGINT NOT NULL, checksum BYTEA NOT NULL,
    data BYTEA NOT NULL, PRIMARY KEY (writer, environment, task, session, seed, t));
CREATE TABLE note (
    environment TEXT NOT NULL, task TEXT NOT NULL, name TEXT NOT NULL, checksum BYTEA NOT NULL, data BYTEA NOT NULL,
    PRIMARY KEY (environment, task, name));
"""
TABLES = re.findall(r"CREATE TABLE (\w+)", SCHEMA)
LOCKS = 0x414D4945  # "AMIE": the first key of our advisory locks; the second is a writer's number, 0 to make tables
FORGETTING = LOCKS + 1  # the first key of another, of the one that forgets
SETTINGS = {  # so that a robot whose network is gone is noticed within a minute, by both sides
    "search_path": "ami_agent",
    "lock_timeout": "10s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60s",
}
CONNECTION: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
KINDS: dict[str, type[AmiError]] = {  # by the class of an SQLSTATE, or all of it
    "53": ResourceError,  # no room, no memory, too many connections
    "54": ResourceError,  # larger than the server takes
    "57": ResourceError,  # stopped by its administrator
    "58": ResourceError,  # its disk fails
    "42501": MissingError,  # no permission
    "25006": MissingError,  # only read
    "55P03": LockedError,  # waited for lock_timeout
    "40P01": LockedError,  # deadlock
    "XX001": DamagedMemory,  # the server's own checks
    "XX002": DamagedMemory,
    "42P01": DamagedMemory,  # no such table: our statements are sound
    "42703": DamagedMemory,  # no such column
}


class PostgresDatabase:
    """A Database on a server. Any number of connections write at once."""

    path, shared, own = None, True, "writer = current_setting('ami_agent.writer')::INTEGER"
    version = SCHEMA_VERSION

    def __init__(self, url: str, read_only: bool = False, create: bool = True) -> None:
        self.name, self.read_only = url, read_only
        defaults = {name: value for name, value in CONNECTION.items() if name not in conninfo_to_dict(url)}
        try:
            self._db = psycopg.connect(
                url, autocommit=True, client_encoding="UTF8", cursor_factory=psycopg.RawCursor, **defaults
            )
        except psycopg.Error as error:
            raise MissingError(
                f"cannot open the memory {url}: {error}. Is the server there, the database made (createdb), and the "
                "password in PGPASSWORD or ~/.pgpass?"
            ) from error
        try:
            with self._named():
                for name, value in SETTINGS.items():
                    self.rows("SELECT set_config(?, ?, FALSE)", name, value)
                self._find(create)
                if read_only:
                    self._db.execute("SET default_transaction_read_only = on")
                else:
                    self._writer = self.rows("SELECT nextval('writer')::INTEGER")[0][0]
                    self.rows("SELECT pg_advisory_lock(?, ?)", LOCKS, self._writer)
                    self._write_as(self._writer)
        except BaseException:
            self.close()
            raise

    def _find(self, create: bool) -> None:
        """Raise unless our tables are there; make them where there are none and it may be."""
        found = self._tables()
        if not found:
            if not create:
                raise ArtefactError(
                    f"there is no memory at {self.name}; if there was one, it is gone with its episodes"
                )
            if self.read_only:
                raise MissingError(f"there is no memory at {self.name}")
            self._make()
            found = self._tables()
        schema = self.rows("SELECT max(version) FROM ami_agent.about")[0][0] if "about" in found else None
        if schema != SCHEMA_VERSION:
            age = "a newer" if (schema or 0) > SCHEMA_VERSION else "an unknown"
            raise DamagedMemory(self.name, f"it has {age} schema {schema}, this ami-agent reads {SCHEMA_VERSION}")
        if missing := [table for table in TABLES if table not in found]:
            raise DamagedMemory(self.name, f"its schema lacks {', '.join(missing)}")

    def _tables(self) -> set[str]:
        return {name for (name,) in self.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'ami_agent'")}

    def _make(self) -> None:
        """All tables or none; of two that try at once the second waits, then finds the work done."""
        with self.transaction() as db:
            db.rows("SELECT pg_advisory_xact_lock(?, 0)", LOCKS)
            if not db.rows("SELECT FROM pg_namespace WHERE nspname = 'ami_agent'"):
                db.execute("CREATE SCHEMA ami_agent")
            if not self._tables():
                for statement in filter(str.strip, SCHEMA.split(";")):
                    db.execute(statement)

    def rows(self, query: str, *values: Any) -> list[tuple]:
        return self.execute(query, values).fetchall()

    def execute(self, statement: str, values: Sequence[Any] = ()) -> psycopg.Cursor[tuple]:
        with self._named():
            return self._db.execute(_numbered(statement), values or None, binary=True)

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._named(), self._db.cursor() as cursor:
            cursor.executemany(_numbered(statement), rows)

    def upsert(self, table: str, columns: str) -> str:
        places = ", ".join("?" * len(columns.split(",")))
        over = (
            f"ON CONFLICT ON CONSTRAINT {table}_pkey DO UPDATE SET checksum = EXCLUDED.checksum, data = EXCLUDED.data"
        )
        return f"INSERT INTO {table} ({columns}) VALUES ({places}) {over}"

    @contextmanager
    def transaction(self, durable: bool = True) -> Iterator[PostgresDatabase]:
        with self._named():
            self._db.execute(
                f"BEGIN; SET LOCAL synchronous_commit = {'on' if durable else 'off'}".encode(), prepare=False
            )
            try:
                yield self
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                    self._db.execute("ROLLBACK")
                raise

    def tails(self) -> Generator[None, None, None]:
        yield
        for (writer,) in self.rows("SELECT DISTINCT writer FROM tail WHERE writer != ?", self._writer):
            if self.rows("SELECT pg_try_advisory_lock(?, ?)", LOCKS, writer)[0][0]:  # it is gone
                try:
                    self._write_as(writer)
                    yield
                finally:
                    self._write_as(self._writer)
                    self.rows("SELECT pg_advisory_unlock(?, ?)", LOCKS, writer)

    @contextmanager
    def forgetting(self) -> Iterator[bool]:
        alone = self.rows("SELECT pg_try_advisory_lock(?, 0)", FORGETTING)[0][0]
        try:
            yield alone
        finally:
            if alone and not self._db.closed:
                self.rows("SELECT pg_advisory_unlock(?, 0)", FORGETTING)

    def _write_as(self, writer: int) -> None:
        self.rows("SELECT set_config('ami_agent.writer', ?, FALSE)", str(writer))

    def size(self) -> int:
        ours = "relnamespace = 'ami_agent'::regnamespace AND relkind = 'r'"
        return int(self.rows(f"SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE {ours}")[0][0])

    def occupied(self) -> int:
        each = [f"(SELECT coalesce(sum(length(data)), 0) FROM {table})" for table in ("chunk", "latent")]
        return int(self.rows(f"SELECT {' + '.join(each)}")[0][0])

    def others(self) -> int:
        """How many other connections write now."""
        theirs = "locktype = 'advisory' AND classid = ? AND objid != 0 AND pid != pg_backend_pid()"
        here = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        return self.rows(f"SELECT count(*) FROM pg_locks WHERE {theirs} AND {here}", LOCKS)[0][0]

    def compact(self) -> None:
        """Raises LockedError while others write: the tables are out of use until it is done."""
        if others := self.others():
            raise LockedError(f"memory {self.name} is in use by {others} others that write")
        for table in TABLES:
            self.execute(f"VACUUM (FULL, ANALYZE) {table}")

    def check(self) -> list[str]:
        return []  # the server checks its pages as it reads them

    def close(self) -> None:
        with suppress(psycopg.Error):  # where the connection is lost, so is the lock
            if not self._db.closed:
                self._db.execute("SELECT pg_advisory_unlock_all()")  # now: the server may end a moment later
        self._db.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turn what psycopg raises into errors a user can act on."""
        try:
            yield
        except psycopg.Error as error:
            named = self._name(error)
            if named is None:
                raise
            raise named from error

    def _name(self, error: psycopg.Error) -> AmiError | None:
        state, reason = error.sqlstate or "", error.diag.message_primary or str(error)
        if self._db.closed:
            return ResourceError(
                f"the connection to memory {self.name} is lost: {reason}. What was acknowledged is kept; what was just "
                "being written is there whole or not at all"
            )
        kind = KINDS.get(state) or KINDS.get(state[:2])
        if kind is DamagedMemory:
            return DamagedMemory(self.name, reason)
        return None if kind is None else kind(f"memory {self.name}: {reason}; what it held is intact")


@lru_cache
def _numbered(statement: str) -> bytes:
    """With $1, $2, ... in place of `?`."""
    number = itertools.count(1)
    return re.sub(r"\?", lambda _: f"${next(number)}", statement).encode()

"""A memory in one SQLite file: made crash-safely, judged before it is opened, its errors given our names.

In WAL mode a commit under synchronous=FULL is on the disk when it returns. One under NORMAL is with the system: it
outlives the process, and a power cut from the next commit under FULL on.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ami_agent.errors import AmiError, ArtefactError, LockedError, MissingError, ResourceError
from ami_agent.memory.database import SCHEMA_VERSION, DamagedMemory, named_errors
from ami_agent.memory.wal import lost_commits, lost_pages, set_aside, sync, unclean

log = logging.getLogger(__name__)

APPLICATION_ID = 0x414D4945  # "AMIE"
# Arrays stand in one chunk a part, not one every few steps: episodes arrive and are read whole, and a part can be left
# out (an index needs no pictures). Latents stand apart, keyed by encoder, so that vectors of two encoders never mix.
# A success of NULL: the environment does not tell. The task is the environment's options, none in what older
# versions kept. The tail holds the steps of episodes that still go on; a note, what is known of a task.
SCHEMA = """
CREATE TABLE episode (
    id INTEGER PRIMARY KEY AUTOINCREMENT, environment TEXT NOT NULL, session TEXT NOT NULL, seed INTEGER NOT NULL,
    steps INTEGER NOT NULL, episode_return REAL NOT NULL, success INTEGER, terminated INTEGER NOT NULL,
    truncated INTEGER NOT NULL, encoder TEXT NOT NULL, created REAL NOT NULL, task TEXT NOT NULL,
    checksum BLOB NOT NULL) STRICT;
CREATE TABLE chunk (
    episode INTEGER NOT NULL, part TEXT NOT NULL, checksum BLOB NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (episode, part)) STRICT;
CREATE TABLE latent (
    episode INTEGER NOT NULL, encoder TEXT NOT NULL, checksum BLOB NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (episode, encoder)) STRICT;
CREATE TABLE tail (
    environment TEXT NOT NULL, task TEXT NOT NULL, session TEXT NOT NULL, seed INTEGER NOT NULL, t INTEGER NOT NULL,
    checksum BLOB NOT NULL, data BLOB NOT NULL, PRIMARY KEY (environment, task, session, seed, t)) STRICT;
CREATE TABLE note (
    environment TEXT NOT NULL, task TEXT NOT NULL, name TEXT NOT NULL, checksum BLOB NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (environment, task, name)) STRICT;
"""
LATER = f"CREATE TABLE tail{SCHEMA.split('CREATE TABLE tail')[1]}"  # tables that came with version 3
SECOND_SCHEMA = SCHEMA.replace(LATER, "").replace(" task TEXT NOT NULL,\n    checksum", " checksum")
FIRST_SCHEMA = SECOND_SCHEMA.replace("success INTEGER,", "success INTEGER NOT NULL,")  # every success told
SMALL = ("episode", "tail", "note")  # tables
SCHEMAS = {1: FIRST_SCHEMA, 2: SECOND_SCHEMA, 3: SCHEMA}


def _renewed(schema: str, columns: str) -> str:
    """Statements that make the episode table anew by the schema's own words, for `connect` compares them; ids go on."""
    counted = "(SELECT seq FROM sqlite_sequence WHERE name = 'episode_before')"
    return f"""
ALTER TABLE episode RENAME TO episode_before;
{schema.split(";")[0]};
INSERT INTO episode SELECT {columns} FROM episode_before;
UPDATE sqlite_sequence SET seq = {counted} WHERE name = 'episode';
DROP TABLE episode_before;
"""


FACTS = "id, environment, session, seed, steps, episode_return, success, terminated, truncated, encoder, created"
MIGRATIONS = {  # from each version to the next
    1: f"{_renewed(SECOND_SCHEMA, '*')} PRAGMA user_version=2;",
    2: _renewed(SCHEMA, f"{FACTS}, '', checksum") + LATER + "PRAGMA user_version=3;",
}


class SqliteDatabase:
    """A Database in a file. One process writes (see `HomeLock`), any number read."""

    shared, own = False, "TRUE"

    def __init__(self, path: Path, read_only: bool = False, create: bool = True) -> None:
        self.path, self.name, self.read_only = path, str(path), read_only
        with _named(path):
            if not path.exists():
                if not create:
                    raise ArtefactError(f"there is no memory at {path}; if there was one, it is gone with its episodes")
                if read_only:
                    raise MissingError(f"there is no memory at {path}")
                make(path)
            judge(path)
            self._db = connect(path, read_only)
            self.version = version(self._db)

    def rows(self, query: str, *values: Any) -> list[tuple]:
        with _named(self.path):
            return self._db.execute(query, values).fetchall()

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        with _named(self.path):
            return self._db.execute(statement, values)

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with _named(self.path):
            self._db.executemany(statement, rows)

    def upsert(self, table: str, columns: str) -> str:
        return f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({', '.join('?' * len(columns.split(',')))})"

    @contextmanager
    def transaction(self, durable: bool = True) -> Iterator[SqliteDatabase]:
        with _named(self.path):
            self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk may have rolled back already
                    self._db.execute("ROLLBACK")
                raise

    def tails(self) -> Generator[None, None, None]:
        yield  # one process writes: whatever is there is its own

    @contextmanager
    def forgetting(self) -> Iterator[bool]:
        yield True

    def size(self) -> int:
        files = [self.path, Path(f"{self.path}-wal")]
        return sum(file.stat().st_size for file in files if file.exists())

    def occupied(self) -> int:
        pages, free, size = (
            self.rows(f"PRAGMA {name}")[0][0] for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def compact(self) -> None:
        with _named(self.path):
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def check(self) -> list[str]:
        lost = lost_commits(self.path)
        told = [f"its log is damaged: {lost} writes cannot be read; `{self.path}-wal` holds them"] if lost else []
        return told + quick_check(self._db)

    def close(self) -> None:
        """Fold the log into the file and let go of it; closing twice is harmless."""
        self._db.close()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system raise into errors a user can act on."""
    try:
        with named_errors(path):
            yield
    except sqlite3.Error as error:
        named = _name(error, path)
        if named is None:
            raise
        raise named from error
    except UnicodeDecodeError as error:  # SQLite's message quotes a schema that is no longer text
        raise DamagedMemory(path, "its schema is not readable") from error


def _name(error: sqlite3.Error, path: Path) -> AmiError | None:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind, the rest a detail of it
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DamagedMemory(path, str(error))
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM):
        return ResourceError(f"memory {path} could not be written or read: {error}; what it held is intact")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LockedError(f"memory {path} is in use by another process")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return MissingError(f"memory {path}: {error}")
    return None


def make(path: Path) -> None:
    """Make an empty memory: written aside, synced, renamed, so that kill -9 leaves either none or a whole one.

    Two processes may try at once: the second waits for the first on the file aside, then finds the work done.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".new")
    try:
        with open(aside, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists():
                return
            file.truncate(0)
            file.write(_image())
            file.flush()
            os.fsync(file.fileno())
            os.rename(aside, path)
        sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def _image() -> bytes:
    """The bytes of a database with our schema and no episode."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION}; {SCHEMA}")
        image = bytearray(db.serialize())
    image[18:20] = b"\2\2"  # file format 2 is WAL: so the file is never in any other journal mode
    return bytes(image)


def judge(path: Path) -> None:
    """Raise DamagedMemory if the file is not a memory that we can read. Reads only; never opens it with SQLite."""
    with open(path, "rb") as file:
        header = file.read(100)
        size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise DamagedMemory(path, "the file is empty (zero bytes)")
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise DamagedMemory(path, "its header is not that of a memory")
    application, schema = (int.from_bytes(header[at : at + 4], "big") for at in (68, 60))
    if application != APPLICATION_ID:
        raise DamagedMemory(path, f"the file belongs to another application (id {application:#x})")
    if not 1 <= schema <= SCHEMA_VERSION:
        age = "a newer" if schema > SCHEMA_VERSION else "an unknown"
        raise DamagedMemory(path, f"it has {age} schema {schema}, this ami-agent reads 1 to {SCHEMA_VERSION}")
    page = int.from_bytes(header[16:18], "big")
    expected = int.from_bytes(header[28:32], "big") * (65536 if page == 1 else page)
    if expected > size and not unclean(path):
        raise DamagedMemory(path, f"the file is cut short: {size} of {expected} bytes")


def connect(path: Path, read_only: bool) -> sqlite3.Connection:
    """Open a judged file; one of an older schema is migrated, unless it is only read.

    Raises DamagedMemory if its tables are not ours, or if it was left unclean and is corrupt.
    """
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
    if read_only and not os.access(path.parent, os.W_OK) and not unclean(path):
        uri += "&immutable=1"  # SQLite cannot make its shared-memory file there, and nobody can be writing
    lost = 0
    if not read_only and unclean(path):
        _probe(path)
        lost = lost_commits(path)
        if lost:
            copy = set_aside(path)
            log.warning("%s: its log is damaged, %d writes cannot be read; it is kept as %s", path, lost, copy)
    db = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        db.text_factory = _text
        db.execute("PRAGMA synchronous=FULL")  # in WAL mode: each commit is on the disk when it returns
        if lost:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if not read_only and version(db) < SCHEMA_VERSION:
            _migrate(db, path)
        _check_tables(db, path)
    except BaseException as error:
        db.close()
        # The statements above are sound, so that one that fails means a file that is not.
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
            raise DamagedMemory(path, str(error)) from error
        raise
    return db


def _probe(path: Path) -> None:
    """Look at an unclean memory read-only: a writer would copy the log into a file that may be damaged. What is large
    (chunks and latents) is not read through: it is checked whenever it is used. Raises DamagedMemory."""
    with closing(connect(path, read_only=True)) as probe:
        pages, size = (probe.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        faults = ["the file is cut short"] if lost_pages(path, pages, size) else []
        faults += [fault for table in SMALL for fault in quick_check(probe, table)]
    if faults:
        raise DamagedMemory(path, faults[0])


def version(db: sqlite3.Connection) -> int:
    """Of the schema. What `judge` saw in the header may be behind what still stands in the log."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _check_tables(db: sqlite3.Connection, path: Path) -> None:
    """Raise DamagedMemory unless every table of the file's schema is there, word for word."""
    found = {sql for (sql,) in db.execute("SELECT sql FROM sqlite_schema WHERE sql LIKE 'CREATE TABLE %'")}
    missing = [sql.split()[2] for sql in _statements(SCHEMAS[version(db)]) if sql not in found]
    if missing:
        raise DamagedMemory(path, f"its schema lacks {', '.join(missing)}")


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    """To SCHEMA_VERSION in one transaction, after a copy of the file as it was has been kept beside it.

    Whatever comes between, the file is of the one version or the other. Rows keep their checksums, which do not depend
    on the schema. Raises DamagedMemory for rows that cannot be copied.
    """
    _keep_copy(db, path, path.with_name(f"{path.name}.schema-{version(db)}"))
    db.execute("BEGIN IMMEDIATE")
    try:
        while (old := version(db)) < SCHEMA_VERSION:  # another process may have been first
            _check_tables(db, path)
            for statement in _statements(MIGRATIONS[old]):
                db.execute(statement)
        db.execute("COMMIT")
    except BaseException as error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        if isinstance(error, sqlite3.IntegrityError):
            raise DamagedMemory(path, f"its episodes cannot be read: {error}") from error
        raise


def _keep_copy(db: sqlite3.Connection, original: Path, path: Path) -> None:
    """Write the whole database, log included, to a file of its own; an earlier one is replaced."""
    aside = path.with_name(path.name + ".new")
    try:
        aside.unlink(missing_ok=True)
        with closing(sqlite3.connect(aside)) as copy:
            db.backup(copy)
        shutil.copymode(original, aside)
        os.replace(aside, path)
        sync(path.parent)
    finally:
        for remnant in (aside, aside.with_name(f"{aside.name}-journal")):
            remnant.unlink(missing_ok=True)


def _statements(sql: str) -> list[str]:
    return [statement.strip() for statement in sql.split(";") if statement.strip()]


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")  # a flipped bit must reach the checksum, not end in a decoding error


def quick_check(db: sqlite3.Connection, table: str = "") -> list[str]:
    """What SQLite itself finds wrong with the structure of the file, or of a table, if there is such; it cannot see a
    flipped bit inside a value."""
    try:
        if table and not db.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)).fetchone():
            return []
        found = [text for (text,) in db.execute("PRAGMA quick_check" + (f"({table})" if table else ""))]
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        return [str(error)]
    return [] if found == ["ok"] else found

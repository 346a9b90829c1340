"""The log's SQLite file: its tables, their versions, and how connections to it are opened.

    streams  one row per stream: name ↔ id, and where it ends. The end is kept twice, here and by the events
             themselves, so that a read that finds fewer events than the stream has says so.
    events   one row per event; `position` is the rowid, so the table itself is the log in order.
    losses   what was given up by opening with `accept_loss`.

The file's folder: `log.sqlite` (with SQLite's own `-wal` and `-shm`), `log.witness`, `log.lock`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import msgpack

from maquette.engine.errors import LogDamaged, LogError, LogTooNew, LogUnwritable
from maquette.engine.logs.disk import DISK, Disk

DATABASE = "log.sqlite"
WITNESS = "log.witness"
LOCK = "log.lock"

APPLICATION_ID = 0x4D415155
"""`MAQU`: SQLite's own field for telling whose file this is."""

Migration = Sequence[str]

MIGRATIONS: Sequence[Migration] = (
    (
        """CREATE TABLE streams (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL, position INTEGER NOT NULL,
            checksum INTEGER NOT NULL) STRICT""",
        """CREATE TABLE events (
            position INTEGER PRIMARY KEY, stream INTEGER NOT NULL, revision INTEGER NOT NULL, time INTEGER NOT NULL,
            id BLOB NOT NULL, type TEXT NOT NULL, schema INTEGER NOT NULL, actor BLOB NOT NULL, cause BLOB,
            data BLOB NOT NULL, salt BLOB, digest BLOB NOT NULL, chain BLOB NOT NULL, checksum INTEGER NOT NULL,
            UNIQUE (stream, revision), UNIQUE (stream, id)) STRICT""",
        """CREATE TABLE losses (
            time INTEGER NOT NULL, known INTEGER NOT NULL, found INTEGER NOT NULL) STRICT""",
        f"PRAGMA application_id = {APPLICATION_ID}",
    ),
)
"""MIGRATIONS[n] takes a log from format n to n + 1; format 0 is an empty file. Only ever add to its end."""

FORMAT = len(MIGRATIONS)

WRITER_CACHE_KIB = 64 * 1024
"""Holds the inner pages of both indexes of some ten million events, so that an append reads nothing from disk."""

PAGE = 4096
"""Bytes of a database page: SQLite's default, and what most disks and file systems write at once."""

WAL_PAGES = 16_000
"""Where SQLite folds the WAL by itself (64 MiB): the writer does it sooner, between two commits."""

BUSY_MS = 5_000
"""How long to wait for a foreign tool that holds SQLite's own lock (Maquette's processes never wait on each other)."""


def open_for_writing(
    folder: Path, migrations: Sequence[Migration] = MIGRATIONS, disk: Disk = DISK
) -> sqlite3.Connection:
    """The writer's connection, with the newest tables. Raises LogTooNew, LogDamaged, LogUnwritable."""
    path = folder / DATABASE
    with naming_faults(path):
        connection = disk.connect(path)
        try:
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            _require_known(connection, path, len(migrations))
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
            connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
            migrate(connection, migrations)
        except BaseException:
            connection.close()
            raise
    return connection


def open_for_reading(folder: Path) -> sqlite3.Connection:
    """A connection that cannot write, beside whoever does. Raises LogTooNew, LogDamaged, LogError for an older log."""
    path = folder / DATABASE
    if not path.exists():
        raise LogError(f"expected a log at {path}, got no such file")
    with naming_faults(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            _require_known(connection, path, FORMAT)
            _require_current(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    """Bring the log to format len(migrations), each step in a transaction of its own: a killed one starts again."""
    for version in range(_format(connection), len(migrations)):
        with transaction(connection):
            for statement in migrations[version]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version + 1}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing of what happens inside, on disk when it ends."""
    with _between(connection, "BEGIN IMMEDIATE"):
        yield


@contextmanager
def one_view(connection: sqlite3.Connection) -> Iterator[None]:
    """Every statement inside sees the same commit, whatever a writer does meanwhile."""
    with _between(connection, "BEGIN"):
        yield


@contextmanager
def _between(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself rolls back on some errors
            connection.execute("ROLLBACK")
        raise


def _format(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _require_known(connection: sqlite3.Connection, path: Path, newest: int) -> None:
    version = _format(connection)
    owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = int(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    if (version or tables) and owner != APPLICATION_ID:
        raise LogDamaged(str(path), f"a log (application id {APPLICATION_ID:#x})", f"application id {owner:#x}")
    if version > newest:
        raise LogTooNew(path, newest, version)


def _require_current(connection: sqlite3.Connection, path: Path) -> None:
    version = _format(connection)
    if version < FORMAT:
        raise LogError(f"expected {path} in log format {FORMAT}, got {version}: start the server once to bring it up")


def stream_checksum(number: int, name: str, revision: int, position: int) -> int:
    """The checksum of a row of `streams`: CRC-32 of the msgpack array of its other columns."""
    return crc32(msgpack.packb((number, name, revision, position)))


# --- what SQLite's errors mean here ----------------------------------------------------------------------------------

_DAMAGE = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_ERROR,
}


def fault(path: Path, error: sqlite3.Error) -> LogError:
    """What `error` means for whoever uses the log.

    Constraints count as damage: every append is decided before it is written, so a conflict inside SQLite means that
    an index and its table disagree. So do statements that do not fit the tables (SQLITE_ERROR): the tables changed.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)  # absent: text that is not UTF-8
    if code & 0xFF in _DAMAGE or code == sqlite3.SQLITE_IOERR_SHORT_READ:
        return LogDamaged(str(path), "a sound SQLite database", str(error))
    return LogUnwritable(f"{path}: expected to reach the disk, got {error} ({getattr(error, 'sqlite_errorname', '?')})")


@contextmanager
def naming_faults(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into the log's own."""
    try:
        yield
    except sqlite3.Error as error:
        raise fault(path, error) from error
    except UnicodeDecodeError as error:  # a damaged text that sqlite3 fails to quote in its message
        raise LogDamaged(str(path), "a sound SQLite database", f"text that is not UTF-8 ({error})") from error

"""One build of one projection: an SQLite file that holds its view, its checkpoint and its parked streams.

Rule 1: view, checkpoint and parked streams change in one transaction (V1); that is why they share a file.
Rule 2: one thread writes, a few read beside it (WAL); the event loop never waits for SQL.
Rule 3: its WAL is folded into it by us alone, behind a write or at the end, so that its sums hold (`sums.py`).
Rule 4: the file is disposable. `synchronous=NORMAL`: a power cut may roll it back to an older checkpoint, never to a
        half-applied one, and the log brings the rest again.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from maquette.projections.sums import Sums

T = TypeVar("T")

LOGGER = logging.getLogger(__name__)

BUSY_MS = 30_000
FOLD_BYTES = 4 << 20  # of WAL: SQLite's own default; pages that writes have in common go to the file once
FOLD_WAIT_MS = 1_000  # for readers of an older state to end; the next write tries again

READERS = 4  # SQL holds the GIL for much of its time: more threads than this only queue for it

bookkeeping = MetaData()

checkpoint = Table(
    "checkpoint",
    bookkeeping,
    Column("id", Integer, primary_key=True),  # always 1
    Column("version", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("event", LargeBinary),  # the id of the event at `position`: tells another log with as many positions
    Column("time", BigInteger, nullable=False),
)

parked = Table(
    "parked",
    bookkeeping,
    Column("stream", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),  # the newest revision that waits; the events themselves stay in the log
    Column("waiting", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
)


class Store:
    """The file at `path`, created when absent, with the tables of `metadata` beside the bookkeeping.

    `rolled_back` is called in the writer's thread after a write that was not committed.
    """

    def __init__(self, path: Path, metadata: MetaData, rolled_back: Callable[[], None]) -> None:
        self.path = path
        self._metadata = metadata
        self._rolled_back = rolled_back
        self._engine = _engine(path)
        self._sums = Sums(path)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix=f"{path.parent.name}-write")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix=f"{path.parent.name}-read")

    async def create(self, version: int) -> None:
        """Make what is missing of the tables; a new file starts at the beginning of the log, for `version`.

        Raises ViewDamaged when the file is not what was written.
        """
        await asyncio.get_running_loop().run_in_executor(self._writer, self._sums.check)
        await self.write(partial(_create, self._metadata, version))

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction in the writer's thread; it is rolled back when `work` raises.

        A caller that is cancelled leaves the transaction to end by itself, whole.
        """
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._change, work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a reader's thread on one consistent snapshot of the view."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._transact, work)

    async def close(self) -> None:
        """Let running work end, then close every connection."""
        await asyncio.to_thread(self._close)

    def _change(self, work: Callable[[Connection], T]) -> T:
        try:
            result = self._transact(work)
        except BaseException:
            self._rolled_back()
            raise
        if self._sums.waiting() > FOLD_BYTES:
            self._fold()
        return result

    def _transact(self, work: Callable[[Connection], T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)

    def _close(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        self._fold()
        self._engine.dispose()

    def _fold(self) -> None:
        """Empty the WAL. What keeps us from it is no harm: a file without sums is built anew, all others are whole."""
        if not self._sums.waiting():
            return
        try:
            changed = self._sums.take_away()
            if self._checkpoint():
                self._sums.renew(changed)
        except (OSError, sqlite3.Error, DBAPIError) as error:
            LOGGER.warning("%s: expected to fold the WAL, got %s", self.path, error)

    def _checkpoint(self) -> bool:
        connection = self._engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {FOLD_WAIT_MS}")
            busy, _, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            cursor.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            return not busy
        finally:
            connection.close()


def _create(metadata: MetaData, version: int, connection: Connection) -> None:
    bookkeeping.create_all(connection)
    metadata.create_all(connection)
    first = checkpoint.insert().prefix_with("OR IGNORE")
    connection.execute(first, {"id": 1, "version": version, "position": 0, "event": None, "time": 0})


def _engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=READERS + 1,
        connect_args={"check_same_thread": False, "timeout": BUSY_MS / 1_000},
        json_serializer=partial(json.dumps, ensure_ascii=False, separators=(",", ":"), default=_plain),
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: Any, _record: object) -> None:
    # pysqlite's own transactions begin late and leave savepoints and reads out of them; ours begin where we say
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _plain(value: object) -> object:
    """Yjs values are JSON but for byte arrays, which a view shows as base64."""
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    raise TypeError(f"expected a plain value, got {type(value).__name__}")

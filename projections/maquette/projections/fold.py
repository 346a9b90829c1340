"""Folding events into a view: one batch, one transaction; what raises is parked (rules V1 and V4).

Rule 1: the checkpoint moves past every event of a batch, wanted or not, in the transaction that applies the batch.
Rule 2: an event that raises is parked with its error, and its stream waits behind it, in this projection only.
        What waits is remembered by its first and last revision: the log keeps the events.
Rule 3: an event over which the server hung before is parked without another try.
Rule 4: the disk's faults are not the event's: they roll the whole batch back and park nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection, MetaData, bindparam, select
from sqlalchemy.exc import DBAPIError

from maquette.engine.events import Event, Position
from maquette.projections import store
from maquette.projections.guard import Guard

HUNG = "expected an event that can be folded, this one stopped the server before"
DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
MACHINE_FAULTS = DAMAGE | frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)


class Projection(Protocol):
    """A read model: tables, and how events change them. One instance serves one build, in one thread."""

    @property
    def name(self) -> str:
        """Its name in paths, metrics and the command line: `[a-z_]+`."""
        ...

    @property
    def version(self) -> int:
        """Raised when the same log would now give another view; older builds are then built again."""
        ...

    @property
    def metadata(self) -> MetaData:
        """Its tables. `checkpoint` and `parked` are taken."""
        ...

    def wants(self, event: Event) -> bool:
        """Whether `event` is this projection's business; others are passed over."""
        ...

    def apply(self, connection: Connection, events: Sequence[Event]) -> None:
        """Fold `events` into the tables, in order and all of them; the same view whatever the batches (V2).

        Raises when one of them cannot be folded; the caller rolls back, and calls again event by event.
        """
        ...

    def forget(self) -> None:
        """Drop whatever is kept in memory between calls: the tables were rolled back."""
        ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a view has read: the position, id and time (ms) of the last event, applied, parked or passed over."""

    version: int
    position: Position
    event: bytes | None
    time: int


@dataclass(frozen=True, slots=True)
class Parked:
    """A stream that stopped in one projection: the event that raised, and how many wait up to revision `last`."""

    stream: str
    position: Position
    revision: int
    last: int
    waiting: int
    error: str
    since: int


def read_checkpoint(connection: Connection) -> Checkpoint:
    """The checkpoint of this build."""
    table = store.checkpoint.c
    row = connection.execute(select(table.version, table.position, table.event, table.time)).one()
    return Checkpoint(row.version, Position(row.position), row.event, row.time)


def list_parked(connection: Connection) -> list[Parked]:
    """The parked streams in the order in which they stopped."""
    rows = connection.execute(select(store.parked).order_by(store.parked.c.position))
    return [Parked(**row._mapping) for row in rows]


def advance(
    projection: Projection, events: Sequence[Event], now: Callable[[], int], guard: Guard, connection: Connection
) -> Checkpoint:
    """Apply what of `events` is behind the checkpoint, park what raises, move the checkpoint; answer it."""
    before = read_checkpoint(connection)
    fresh = [event for event in events if event.position > before.position]
    if not fresh:
        return before
    blocked = {stream.stream for stream in list_parked(connection)}
    wanted = [event for event in fresh if projection.wants(event)]
    _wait(connection, [event for event in wanted if event.stream in blocked])
    _apply(projection, [event for event in wanted if event.stream not in blocked], now, guard, connection)
    after = Checkpoint(before.version, fresh[-1].position, fresh[-1].id.bytes, fresh[-1].time)
    values = {"position": after.position, "event": after.event, "time": after.time}
    connection.execute(store.checkpoint.update().values(values))
    return after


def retry(
    projection: Projection, events: Sequence[Event], now: Callable[[], int], guard: Guard, connection: Connection
) -> bool:
    """Apply `events`, the first that wait in a parked stream; True when the stream runs again or has more to give.

    False when one raised: it and what follows stay parked, with the new error.
    """
    row = store.parked
    done = 0
    for event in events:
        if projection.wants(event):
            error = _attempt(projection, [event], guard, connection)
            if error is not None:
                again = {"position": event.position, "revision": event.revision, "error": error, "since": now()}
                _shrink(connection, event.stream, done, again)
                return False
            done += 1
    stream, after = events[-1].stream, events[-1].revision + 1
    _shrink(connection, stream, done, {"revision": after})
    connection.execute(row.delete().where(row.c.stream == stream, row.c.last < after))
    return True


def _apply(
    projection: Projection, events: list[Event], now: Callable[[], int], guard: Guard, connection: Connection
) -> None:
    if not events:
        return
    if not any(map(guard.refuses, events)) and _attempt(projection, events, guard, connection) is None:
        return
    stopped: set[str] = set()
    for event in events:
        if event.stream in stopped:
            _wait(connection, [event])
            continue
        error = HUNG if guard.refuses(event) else _attempt(projection, [event], guard, connection)
        if error is not None:
            stopped.add(event.stream)
            _park(connection, event, error, now())


def _attempt(projection: Projection, events: Sequence[Event], guard: Guard, connection: Connection) -> str | None:
    """Apply `events` whole, or leave the tables as they were and say what was raised."""
    savepoint = connection.begin_nested()
    try:
        with guard.folding(events):
            projection.apply(connection, events)
        savepoint.commit()
    except Exception as error:
        projection.forget()
        if is_machine_fault(error):
            raise  # past the savepoint: SQLite ends the whole transaction by itself when the disk is full
        savepoint.rollback()
        return f"{type(error).__name__}: {error}"
    return None


def is_machine_fault(error: Exception) -> bool:
    """Whether `error` says nothing about an event, but that a disk is full, failed or damaged, or memory is short."""
    if isinstance(error, DBAPIError):
        return _code(error) in MACHINE_FAULTS
    return isinstance(error, MemoryError | OSError)


def is_damage(error: Exception) -> bool:
    """Whether `error` says that a view's file is not what was written: trying again is in vain, building it is not."""
    return isinstance(error, DBAPIError) and (_code(error) in DAMAGE or not is_machine_fault(error))


def _code(error: DBAPIError) -> int:
    return int(getattr(error.orig, "sqlite_errorcode", 0)) & 0xFF


def _park(connection: Connection, event: Event, error: str, now: int) -> None:
    row = {"stream": event.stream, "position": event.position, "revision": event.revision}
    connection.execute(
        store.parked.insert(), row | {"last": event.revision, "waiting": 1, "error": error, "since": now}
    )


def _wait(connection: Connection, events: Sequence[Event]) -> None:
    if not events:
        return
    row = store.parked
    statement = (
        row.update().where(row.c.stream == bindparam("of")).values(last=bindparam("to"), waiting=row.c.waiting + 1)
    )
    connection.execute(statement, [{"of": event.stream, "to": event.revision} for event in events])


def _shrink(connection: Connection, stream: str, done: int, values: dict[str, object]) -> None:
    row = store.parked
    connection.execute(row.update().where(row.c.stream == stream).values(waiting=row.c.waiting - done, **values))

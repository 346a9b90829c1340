"""Reading the database: one page at a time, each record checked (rule L6).

Rule 1: a page is one statement, so no transaction stays open between pages and SQLite can fold its WAL meanwhile.
Rule 2: positions and revisions are dense here, so a record that is not there is seen by its neighbours, or, at the
        end of a stream or log, by the end that is known otherwise.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from maquette.engine.errors import LogDamaged
from maquette.engine.events import Event
from maquette.engine.logs.record import LARGEST_INTEGER, Record, event_of, page_of
from maquette.engine.logs.schema import DATABASE, naming_faults, stream_checksum
from maquette.engine.logs.seal import Seal, intact

_FIELDS = len(Record._fields)
_COLUMNS = "e.revision, e.time, e.id, e.type, e.schema, e.actor, e.cause, e.data, e.salt, e.digest, e.chain, e.checksum"
_OF_LOG = f"""SELECT e.position, s.name, {_COLUMNS} FROM events e LEFT JOIN streams s ON s.id = e.stream
    WHERE e.position > ? AND e.position <= ? ORDER BY e.position"""
_OF_STREAM = f"""SELECT e.position, ?, {_COLUMNS} FROM events e
    WHERE e.stream = ? AND e.revision > ? AND e.revision <= ? ORDER BY e.revision"""


class Stored(NamedTuple):
    """A record and its seal as they came from the database."""

    record: Record
    seal: Seal


class StreamEnd(NamedTuple):
    """A row of `streams`: its number in the database, and the revision and position of its last event."""

    id: int
    revision: int
    position: int


ABSENT = StreamEnd(0, 0, 0)
"""Of a stream without events."""


@dataclass(frozen=True, slots=True)
class Span:
    """The revisions r with after < r <= until that are still to be read; None stands for the stream's end."""

    after: int
    until: int | None
    backwards: bool

    def bounded(self, end: int) -> Span:
        """This span within a stream of `end` revisions."""
        return Span(max(self.after, 0), end if self.until is None else min(self.until, end), self.backwards)

    def without(self, page: list[Event]) -> Span:
        """What is left behind `page`."""
        if not page:
            return Span(self.after, self.after, self.backwards)
        if self.backwards:
            return Span(self.after, page[-1].revision - 1, True)
        return Span(page[-1].revision, self.until, False)

    @property
    def wanted(self) -> range:
        """The revisions in the order of reading; the span must be bounded."""
        until = self.after if self.until is None else self.until
        return range(until, self.after, -1) if self.backwards else range(self.after + 1, until + 1)


def stream_end(connection: sqlite3.Connection, path: Path, name: str) -> StreamEnd:
    """Where the stream ends; ABSENT without events. Raises LogDamaged."""
    with naming_faults(path):
        row = connection.execute(
            "SELECT id, name, revision, position, checksum FROM streams WHERE name = ?", (name,)
        ).fetchone()
    return ABSENT if row is None else checked_end(path, row)


def checked_end(path: Path, row: tuple[Any, ...]) -> StreamEnd:
    """The end in a row (id, name, revision, position, checksum) of `streams`. Raises LogDamaged."""
    number, name, revision, position, checksum = row
    if stream_checksum(number, name, revision, position) != checksum:
        raise LogDamaged(f"{path}: entry of stream {name!r}", f"checksum {checksum}", "another")
    return StreamEnd(number, revision, position)


def stream_page(connection: sqlite3.Connection, path: Path, name: str, span: Span) -> tuple[list[Event], Span]:
    """The next page of a stream and the span behind it. Raises LogDamaged."""
    end = stream_end(connection, path, name)
    span = span.bounded(end.revision)
    wanted = span.wanted
    if not wanted:
        return [], span
    order = " DESC" if span.backwards else ""
    with naming_faults(path), closing(connection.cursor()) as cursor:
        cursor.execute(_OF_STREAM + order, (name, end.id, span.after, span.until))
        records = _in_order(path, f"stream {name!r}, revision", cursor, wanted, "revision")
        page = [_decoded(path, record) for record in page_of(records)]
    return page, span.without(page)


def log_page(connection: sqlite3.Connection, path: Path, after: int, until: int) -> list[Event]:
    """The next page of the whole log behind position `after`, not beyond `until`. Raises LogDamaged."""
    after, until = max(after, 0), min(until, LARGEST_INTEGER)
    with naming_faults(path), closing(connection.cursor()) as cursor:
        cursor.execute(_OF_LOG, (after, until))
        records = _in_order(path, "position", cursor, range(after + 1, until + 1), "position")
        return [_decoded(path, record) for record in page_of(records)]


def stored_after(connection: sqlite3.Connection, after: int, until: int) -> Generator[Stored, None, None]:
    """Records and seals with after < position <= until, unchecked: for those who check more than a read does."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(_OF_LOG, (after, until))
        yield from map(_stored, cursor)


def log_path(folder: Path) -> Path:
    """The database in a log's folder."""
    return folder / DATABASE


def place_of(path: Path, record: Record) -> str:
    """How messages name a record's place."""
    return f"{path}: stream {record.stream!r}, revision {record.revision}, position {record.position}"


def _stored(row: tuple[Any, ...]) -> Stored:
    return Stored(Record(*row[:_FIELDS]), Seal(*row[_FIELDS:]))


def _in_order(path: Path, what: str, cursor: sqlite3.Cursor, wanted: range, field: str) -> Iterator[Record]:
    index = Record._fields.index(field)
    for number in wanted:
        row = cursor.fetchone()
        if row is None:
            raise LogDamaged(f"{path}: {what} {number}", "a record", "none")
        if row[index] != number:
            raise LogDamaged(f"{path}: {what} {number}", "a record", f"the one at {field} {row[index]!r}")
        yield _checked(path, _stored(row))


def _checked(path: Path, stored: Stored) -> Record:
    record, mark = stored
    try:
        sound = intact(record, mark)
    except TypeError as error:  # a flipped type byte makes text of bytes, or nothing
        raise LogDamaged(place_of(path, record), "the stored types", str(error)) from error
    if not sound:
        raise LogDamaged(place_of(path, record), f"checksum {mark.checksum}", "another: the record was altered")
    return record


def _decoded(path: Path, record: Record) -> Event:
    try:
        return event_of(record)
    except Exception as error:  # the bytes are those that were stored, but not as this codec writes them
        raise LogDamaged(place_of(path, record), "an event", f"{type(error).__name__}: {error}") from error

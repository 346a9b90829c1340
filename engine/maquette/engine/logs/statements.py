"""The writer's SQL: each asks or stores many rows in one statement.

Python's sqlite3 gives up the interpreter's lock at each step of a statement, and gets it back from a busy event loop
only after up to 5 ms. A row per statement would so wait for the loop a hundred times per commit; many rows in one
statement wait once, and SQLite works beside the loop meanwhile.

The number of rows is always a power of two, so that a handful of statements serve all batches, prepared once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from maquette.engine.logs.decisions import Place
from maquette.engine.logs.pages import StreamEnd, checked_end

MOST_ROWS = 256
"""A prepared statement of 256 events takes about 0.5 MB; more rows gain nothing measurable."""

Row = Sequence[Any]


def find_ends(connection: sqlite3.Connection, path: Path, names: Sequence[str]) -> dict[str, StreamEnd]:
    """The ends of those `names` that have events. Raises LogDamaged."""
    ends = {}
    for chunk in _padded([(name,) for name in names], 1):
        sql = f"SELECT id, name, revision, position, checksum FROM streams WHERE name IN ({_values(1, len(chunk))})"
        for row in connection.execute(sql, _flat(chunk)).fetchall():
            ends[row[1]] = checked_end(path, row)
    return ends


def find_places(connection: sqlite3.Connection, keys: Sequence[tuple[int, bytes]]) -> dict[tuple[int, bytes], Place]:
    """The places of those (stream number, event id) that are stored."""
    places = {}
    for chunk in _padded(keys, 2):
        sql = f"""WITH asked (stream, id) AS (VALUES {_values(2, len(chunk))})
            SELECT e.stream, e.id, e.revision, e.position, e.time FROM asked CROSS JOIN events e USING (stream, id)"""
        for stream, id_, *place in connection.execute(sql, _flat(chunk)).fetchall():
            places[stream, id_] = Place(*place)
    return places


def insert_events(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Store rows of `events`, whole, in the order of its columns."""
    for chunk in _binary(rows):
        connection.execute(f"INSERT INTO events VALUES {_values(14, len(chunk))}", _flat(chunk))


def put_streams(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Store or move on rows of `streams`, whole, in the order of its columns."""
    for chunk in _binary(rows):
        connection.execute(
            f"""INSERT INTO streams VALUES {_values(5, len(chunk))} ON CONFLICT (id) DO UPDATE SET
                revision = excluded.revision, position = excluded.position, checksum = excluded.checksum""",
            _flat(chunk),
        )


def _binary(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """`rows` in chunks whose sizes are powers of two: 300 as 256 + 32 + 8 + 4."""
    start = 0
    while start < len(rows):
        size = min(MOST_ROWS, 1 << (len(rows) - start).bit_length() - 1)
        yield rows[start : start + size]
        start += size


def _padded(rows: Sequence[Row], width: int) -> Iterator[Sequence[Row]]:
    """`rows` in chunks filled up to a power of two with NULLs, which equal nothing."""
    for start in range(0, len(rows), MOST_ROWS):
        chunk = rows[start : start + MOST_ROWS]
        missing = (1 << (len(chunk) - 1).bit_length()) - len(chunk)
        yield [*chunk, *[(None,) * width] * missing]


def _flat(rows: Sequence[Row]) -> list[Any]:
    return list(chain.from_iterable(rows))


@lru_cache(maxsize=64)
def _values(width: int, count: int) -> str:
    return ",".join(["(" + ",".join("?" * width) + ")"] * count)

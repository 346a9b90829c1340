"""Events per second through the SQLite log, beside bare SQLite in the same run: `python benchmarks/log_append.py`.

Each writer awaits an append of one event before its next, as a connection does. Bare SQLite stores rows of the same
size in a table with the same indexes, as many per commit as there are writers, without records, seals or an event loop.
Absolute figures depend on the disk; the ratio is what our own work costs.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
import time
from pathlib import Path

from maquette.engine.events import Actor, NewEvent
from maquette.engine.logs.schema import open_for_writing
from maquette.engine.logs.sqlite import SqliteLog

ACTOR = Actor("ada000000000")
SECONDS = 2.0
WRITERS = (1, 10, 100, 1000)


def edit() -> NewEvent:
    """An event as a small edit makes it: some 200 bytes of data."""
    change = {"type": "node.changed", "id": "n0deid00000", "set": {"translation": [1.0, 2.0, 3.0]}, "unset": []}
    return NewEvent(
        "document.edited", ACTOR, {"update": os.urandom(60), "changes": [change], "describe": 1, "client": 7}
    )


async def log_appends(folder: Path, writers: int) -> tuple[int, float, int]:
    """Events stored, seconds taken and commits made by `writers` that append to a stream each."""
    log = await SqliteLog.open(folder)
    stop = time.perf_counter() + SECONDS

    async def write(number: int) -> int:
        count = 0
        while time.perf_counter() < stop:
            await log.append(f"tenant/space/document{number}@1", [edit()])
            count += 1
        return count

    began = time.perf_counter()
    total = sum(await asyncio.gather(*(write(number) for number in range(writers))))
    seconds, commits = time.perf_counter() - began, log.commits
    await log.close()
    return total, seconds, commits


def bare_appends(folder: Path, writers: int) -> float:
    """Rows per second of SQLite alone."""
    folder.mkdir()
    connection = open_for_writing(folder)
    insert = f"INSERT INTO events VALUES ({','.join('?' * 14)})"
    row = (b"\x81\xa2id\xacada000000000", None, os.urandom(200), os.urandom(16), os.urandom(32), os.urandom(32), 0)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        connection.execute("BEGIN IMMEDIATE")
        for number in range(writers):
            count += 1
            place = (count, number, count // writers + 1, 0, os.urandom(16), "document.edited", 1)
            connection.execute(insert, (*place, *row))
        connection.execute("COMMIT")
    seconds = time.perf_counter() - began
    connection.close()
    return count / seconds


async def log_reads(folder: Path) -> float:
    """Events per second of `read_all`."""
    log = await SqliteLog.open_readonly(folder)
    count, began = 0, time.perf_counter()
    async for page in log.read_all():
        count += len(page)
    seconds = time.perf_counter() - began
    await log.close()
    return count / seconds


def bare_reads(folder: Path) -> float:
    """Rows per second of SQLite alone, by pages of 1,000."""
    connection = sqlite3.connect(folder / "log.sqlite")
    count, began = 0, time.perf_counter()
    while page := connection.execute("SELECT * FROM events WHERE position > ? LIMIT 1000", (count,)).fetchall():
        count += len(page)
    seconds = time.perf_counter() - began
    connection.close()
    return count / seconds


def main() -> None:
    """Print a table."""
    print(f"{'':24}{'events/s':>12}{'per commit':>12}{'bare SQLite':>14}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        for writers in WRITERS:
            folder = Path(scratch) / str(writers)
            events, seconds, commits = asyncio.run(log_appends(folder, writers))
            bare = bare_appends(Path(scratch) / f"bare{writers}", writers)
            rate = events / seconds
            print(f"append, {writers:5} waiting   {rate:12,.0f}{events / commits:12.1f}{bare:14,.0f}{rate / bare:8.2f}")
        rate, bare = asyncio.run(log_reads(folder)), bare_reads(folder)
        print(f"read_all                {rate:12,.0f}{'':12}{bare:14,.0f}{rate / bare:8.2f}")


if __name__ == "__main__":
    main()

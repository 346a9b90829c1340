"""Logs on disk for tests: filling, copying, damaging them, and reading back all that they hold."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from maquette.engine.events import Event
from maquette.engine.logs.record import Clock, wall_clock
from maquette.engine.logs.schema import DATABASE
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.testing.log_contract import collected, note

CHILD = Path(__file__).with_name("log_child.py")


@asynccontextmanager
async def opened(folder: Path, *, accept_loss: bool = False, clock: Clock = wall_clock) -> AsyncIterator[SqliteLog]:
    """The log in `folder`, closed afterwards."""
    log = await SqliteLog.open(folder, accept_loss=accept_loss, clock=clock)
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def opened_readonly(folder: Path) -> AsyncIterator[SqliteLog]:
    """The log in `folder` beside its writer, closed afterwards."""
    log = await SqliteLog.open_readonly(folder)
    try:
        yield log
    finally:
        await log.close()


async def fill(log: SqliteLog, commits: int, *, streams: int = 7, size: int = 60) -> None:
    """One event in each of `commits` commits, in turn to `streams` streams."""
    for n in range(commits):
        await log.append(f"tenant/space/document{n % streams}@1", [note(str(n), update=bytes([n % 256]) * size)])


async def filled(folder: Path, commits: int = 100) -> list[Event]:
    """A closed log in `folder`, and what it holds."""
    async with opened(folder) as log:
        await fill(log, commits)
        return await collected(log.read_all())


async def everything(log: SqliteLog) -> list[Event]:
    """All events of the log, after reading each stream as well and finding the same there."""
    events = await collected(log.read_all())
    for stream in dict.fromkeys(event.stream for event in events):
        own = [event for event in events if event.stream == stream]
        assert await collected(log.read(stream)) == own
        assert await log.revision(stream) == len(own)
    return events


def copy_running(folder: Path, target: Path) -> Path:
    """A copy of an idle, open log as a power cut would leave it: database, WAL and witness, but no memory."""
    target.mkdir()
    for name in (DATABASE, f"{DATABASE}-wal", "log.witness"):
        if (folder / name).exists():
            shutil.copyfile(folder / name, target / name)
    return target


def names(folder: Path) -> list[str]:
    """What the folder holds."""
    return sorted(path.name for path in folder.iterdir())


def flip(path: Path, byte: int, bit: int = 0) -> None:
    """Turn one bit of the file."""
    with path.open("r+b") as file:
        file.seek(byte)
        old = file.read(1)[0]
        file.seek(byte)
        file.write(bytes([old ^ 1 << bit]))


def tamper(folder: Path, statement: str, *values: object) -> None:
    """Change the log's database behind its back."""
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as connection:
        assert connection.execute(statement, values).rowcount != 0


async def child(*arguments: str) -> asyncio.subprocess.Process:
    """A process of its own that runs `log_child.py`."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", str(CHILD), *arguments, stdin=pipe, stdout=pipe
    )


async def ended(process: asyncio.subprocess.Process) -> str:
    """What the process still wrote, when it has ended; its stdin is closed."""
    if process.stdin:
        process.stdin.close()
    rest, _ = await process.communicate()
    process._transport.close()  # type: ignore[attr-defined]  # else its __del__ may warn after the loop is closed
    return rest.decode()

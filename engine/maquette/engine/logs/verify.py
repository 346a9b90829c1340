"""The full check of a log: every record, its chain, the streams, the witness, and SQLite's own structure.

Reading checks what is read; this reads everything, and goes on behind a problem as far as it can. It works beside a
running server, and judges the log as it was when the check began.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from maquette.engine.errors import LogDamaged, MaquetteError
from maquette.engine.logs.opening import head_of
from maquette.engine.logs.pages import Stored, checked_end, place_of, stored_after
from maquette.engine.logs.record import PAGE_EVENTS, event_of
from maquette.engine.logs.schema import DATABASE, WITNESS, naming_faults, open_for_reading
from maquette.engine.logs.seal import GENESIS, genuine, intact
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.logs.witness import BEGINNING, Testimony, read_witness

MOST_PROBLEMS = 100
"""Enough to see what happened; a log with more is not read by a person line by line."""

Progress = Callable[[str, int, int], None]
"""Told (phase, done, total), on the event loop."""


def quiet(phase: str, done: int, total: int) -> None:
    """A progress that tells nobody."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it was written."""

    place: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return f"{self.place}: expected {self.expected}, got {self.actual}"


@dataclass(frozen=True, slots=True)
class Loss:
    """An opening with `accept_loss`, at `time`: the log had reached position `known`, and `found` was left."""

    time: int
    known: int
    found: int


@dataclass(frozen=True, slots=True)
class Report:
    """What the check saw. `problems` holds the first of them; a sound log has none."""

    head: int
    events: int
    streams: int
    losses: tuple[Loss, ...]
    problems: tuple[Problem, ...]

    @property
    def sound(self) -> bool:
        """Whether everything is as it was written."""
        return not self.problems


async def verify(source: Path | SqliteLog, progress: Progress = quiet) -> Report:
    """Check the log in the folder `source`, whether or not a server writes it. Raises LogTooNew, LogError."""
    loop = asyncio.get_running_loop()
    folder = source.folder if isinstance(source, SqliteLog) else source
    check = _Check(folder, lambda *step: loop.call_soon_threadsafe(progress, *step))
    try:
        return await asyncio.to_thread(check.run)
    except asyncio.CancelledError:
        check.stopped = True
        raise


class _Stopped(MaquetteError):
    """Nobody waits for the report any more."""


class _Check:
    def __init__(self, folder: Path, progress: Callable[[str, int, int], object]) -> None:
        self.stopped = False
        self._folder = folder
        self._path = folder / DATABASE
        self._progress = progress
        self._problems: list[Problem] = []
        self._revisions: dict[str, int] = {}
        self._events = 0
        self._head = 0
        self._losses: tuple[Loss, ...] = ()

    def run(self) -> Report:
        self._step(self._read)
        return Report(self._head, self._events, len(self._revisions), self._losses, tuple(self._problems))

    def _read(self) -> None:
        witness = self._witness()  # before the database: a witness never leads it
        with closing(open_for_reading(self._folder)) as connection:
            with naming_faults(self._path):
                self._head = head_of(connection).position
                self._losses = tuple(Loss(*row) for row in connection.execute("SELECT * FROM losses"))
            self._compare_head(witness)
            for step in (self._walk, self._check_streams, self._check_structure):
                self._step(partial(step, connection, witness))

    def _step(self, step: Callable[[], None]) -> None:
        try:
            step()
        except LogDamaged as error:
            self._note(error.place, error.expected, error.actual)

    def _note(self, place: str, expected: str, actual: str) -> None:
        if len(self._problems) < MOST_PROBLEMS:
            self._problems.append(Problem(place, expected, actual))

    def _tell(self, phase: str, done: int, total: int) -> None:
        if self.stopped:
            raise _Stopped
        self._progress(phase, done, total)

    def _witness(self) -> Testimony | None:
        try:
            witness = read_witness(self._folder / WITNESS)
        except LogDamaged as error:
            self._note(error.place, error.expected, error.actual)
            return None
        if witness is None:
            self._note(str(self._folder / WITNESS), "a witness", "no file")
        return witness

    def _compare_head(self, witness: Testimony | None) -> None:
        known = (witness or BEGINNING).position
        if self._head < known:
            self._note(
                str(self._path), f"a log that reaches its witness at position {known}", f"its end at {self._head}"
            )

    def _walk(self, connection: sqlite3.Connection, witness: Testimony | None) -> None:
        position, chain, time = 0, GENESIS, 0
        while position < self._head:
            self._tell("events", position, self._head)
            page = self._page(connection, position)
            for stored in page:
                self._check_place(stored, position, time)
                self._check_seal(stored, chain if stored.record.position == position + 1 else None, witness)
                position, chain, time = stored.record.position, stored.seal.chain, stored.record.time
            if not page:
                self._note(f"{self._path}: position {position + 1}", "a record", "none")
                return
        self._tell("events", self._head, self._head)

    def _page(self, connection: sqlite3.Connection, position: int) -> list[Stored]:
        page = []
        with naming_faults(self._path), closing(stored_after(connection, position, self._head)) as records:
            for stored in records:
                page.append(stored)
                if len(page) == PAGE_EVENTS:
                    break
        return page

    def _check_place(self, stored: Stored, position: int, time: int) -> None:
        record, place = stored.record, place_of(self._path, stored.record)
        self._events += 1
        if record.position != position + 1:
            self._note(f"{self._path}: position {position + 1}", "a record", f"the one at {record.position}")
        last = self._revisions.get(record.stream, 0)
        if record.revision != last + 1:
            self._note(place, f"revision {last + 1}", f"{record.revision}")
        if record.time < time:
            self._note(place, f"a time of {time} or later", f"{record.time}")
        self._revisions[record.stream] = record.revision

    def _check_seal(self, stored: Stored, chain: bytes | None, witness: Testimony | None) -> None:
        record, mark = stored
        place = place_of(self._path, record)
        try:
            if not intact(record, mark):
                self._note(place, f"checksum {mark.checksum}", "another: the record was altered")
            elif chain is not None and not genuine(record, mark, chain):
                self._note(place, "the record that was sealed here", "another, or one out of its chain")
            else:
                event_of(record)
        except Exception as error:  # types or encodings that a flipped bit made
            self._note(place, "an event", f"{type(error).__name__}: {error}")
        if witness and witness.position == record.position and witness.chain != mark.chain:
            self._note(place, f"the witness's chain {witness.chain.hex()}", mark.chain.hex())

    def _check_streams(self, connection: sqlite3.Connection, witness: Testimony | None) -> None:
        with naming_faults(self._path):
            for row in connection.execute("SELECT id, name, revision, position, checksum FROM streams"):
                end, walked = checked_end(self._path, row), self._revisions.get(row[1], 0)
                if end.position <= self._head and end.revision != walked:
                    self._note(f"{self._path}: stream {row[1]!r}", f"{end.revision} revisions", f"{walked}")

    def _check_structure(self, connection: sqlite3.Connection, witness: Testimony | None) -> None:
        self._tell("structure", 0, 1)
        with naming_faults(self._path):
            for (message,) in connection.execute(f"PRAGMA integrity_check({MOST_PROBLEMS})"):
                if message != "ok":
                    self._note(str(self._path), "a sound SQLite database", message)
        self._tell("structure", 1, 1)

"""The log in one SQLite file: for one server, which is its only writer, and any number of readers beside it."""

from __future__ import annotations

import asyncio
import sqlite3
from asyncio import Future
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from maquette.engine.errors import InvalidInput, LogClosed, LogUnwritable
from maquette.engine.events import START, Event, NewEvent, Position
from maquette.engine.log import Appended
from maquette.engine.logs.decisions import Proposal, settle
from maquette.engine.logs.disk import DISK, Disk
from maquette.engine.logs.lock import WriterLock
from maquette.engine.logs.opening import checked_head, head_of
from maquette.engine.logs.pages import Span, log_page, stream_end, stream_page
from maquette.engine.logs.reader import Reader
from maquette.engine.logs.record import Clock, drafts_of, wall_clock
from maquette.engine.logs.schema import DATABASE, LOCK, WITNESS, open_for_reading, open_for_writing
from maquette.engine.logs.witness import Testimony, Witness
from maquette.engine.logs.writer import Settlement, Writer

FOLLOW_SECONDS = 0.2
"""How often a read-only log looks for new events: SQLite has no way to tell another process."""


@dataclass(frozen=True, slots=True)
class _Files:
    """What the writer of a log holds open."""

    lock: WriterLock
    connection: sqlite3.Connection
    witness: Witness
    head: Testimony

    def close(self) -> None:
        self.witness.close()
        self.connection.close()
        self.lock.release()


class SqliteLog:
    """An `EventLog` on disk. Made by `open` and `open_readonly`; used on the event loop that opened it."""

    def __init__(self, folder: Path, head: int, files: _Files | None, clock: Clock) -> None:
        self.folder = folder
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(folder)
        self._head = head
        self._files = files
        self._writer = self._start(files, clock) if files else None
        self._writable = files is not None
        self._failures = 0
        self._waiting: list[Proposal] = []
        self._changed = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, folder: Path, *, accept_loss: bool = False, clock: Clock = wall_clock, disk: Disk = DISK
    ) -> SqliteLog:
        """Open the log in `folder` as its only writer; a folder without one gets an empty log.

        `accept_loss` is the caller's word that events which the witness knows and the database has lost are given up.
        Raises LogHeld (L5), LogLost and LogDamaged (L6), LogTooNew, LogUnwritable.
        """
        opening = asyncio.ensure_future(asyncio.to_thread(_open_files, folder, accept_loss, disk))
        try:
            files = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_discard)
            raise
        return cls(folder, files.head.position, files, clock)

    @classmethod
    async def open_readonly(cls, folder: Path) -> SqliteLog:
        """Open the log in `folder` for reading, whether or not another process writes it (L5).

        Raises LogLost and LogDamaged (L6), LogTooNew, LogError where there is no log.
        """
        head = await asyncio.to_thread(_check_readonly, folder)
        return cls(folder, head, None, wall_clock)

    @property
    def writable(self) -> bool:
        """Whether the last commit succeeded; False for a log that was opened read-only (L7)."""
        return self._writable

    @property
    def is_writer(self) -> bool:
        """Whether it was opened to be written."""
        return self._files is not None

    @property
    def commits(self) -> int:
        """How many commits this opening of the log has made."""
        return self._writer.commits if self._writer else 0

    async def until_writable(self) -> None:
        """Return when the log can write (again). Raises LogClosed when it closes first."""
        if self._files is None:
            raise InvalidInput(_READ_ONLY.format(self.folder))
        while True:
            self._reader.require_open()
            if self._writable:
                return
            await self._changed.wait()

    def append(self, stream: str, events: Sequence[NewEvent], expected: int | None = None) -> Future[Appended]:
        """See `EventLog.append`. Cancelling the future does not take the append back."""
        if self._writer is None:
            raise InvalidInput(_READ_ONLY.format(self.folder))
        drafts = drafts_of(stream, events)
        future: Future[Appended] = self._loop.create_future()
        if self._closing:
            future.set_exception(LogClosed(f"append to {self.folder}: expected an open log, it is closed"))
            return future
        if not self._waiting:  # at the end of this turn of the loop, so that all its appends share a commit
            self._loop.call_soon(self._hand_over)
        self._waiting.append(Proposal(stream, drafts, expected, self._failures, future))
        return future

    async def read(
        self, stream: str, *, after: int = 0, until: int | None = None, backwards: bool = False
    ) -> AsyncGenerator[Sequence[Event], None]:
        """See `EventLog.read`. Reads to where the stream ended when the first page was asked for."""
        span = Span(after, until, backwards)
        while True:
            page, span = await self._stream_page(stream, span)
            if page:
                yield page
            if not span.wanted:
                return

    def read_all(self, *, after: Position = START) -> AsyncGenerator[Sequence[Event], None]:
        """See `EventLog.read_all`."""
        self._reader.require_open()
        return self._read_until(after, self._head if self._writer else None)

    async def subscribe(self, *, after: Position = START) -> AsyncGenerator[Sequence[Event], None]:
        """See `EventLog.subscribe`."""
        self._reader.require_open()
        while not self._closing:
            changed = self._changed  # taken before the look at the head, so that no commit comes in between
            try:
                until = await self.head()
                page = await self._page(after, until) if after < until else []
            except LogClosed:
                return
            if page:
                yield page
                after = page[-1].position
            else:
                await self._change(changed)

    async def revision(self, stream: str) -> int:
        """See `EventLog.revision`."""
        return (await self._reader.run(lambda connection, path: stream_end(connection, path, stream))).revision

    async def head(self) -> Position:
        """See `EventLog.head`."""
        self._reader.require_open()
        if self._writer:
            return Position(self._head)
        return Position((await self._reader.run(lambda connection, _: head_of(connection))).position)

    async def close(self) -> None:
        """See `EventLog.close`."""
        if self._closing is None:
            self._hand_over()
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._reader.close()  # first, so that the writer is the last to leave, and SQLite folds its WAL away
        if self._writer and self._files:
            await asyncio.to_thread(self._writer.finish)
            self._files.lock.release()
        self._wake()

    def _start(self, files: _Files, clock: Clock) -> Writer:
        path = self.folder / DATABASE
        writer = Writer(path, files.connection, files.witness, files.head, clock, self._deliver)
        writer.start()
        return writer

    def _hand_over(self) -> None:
        if self._waiting and self._writer:
            proposals, self._waiting = self._waiting, []
            self._writer.inbox.put(proposals)

    def _deliver(self, settlement: Settlement) -> None:
        try:
            self._loop.call_soon_threadsafe(self._settle, settlement)
        except RuntimeError:  # the loop was closed with the log open: nobody is left to tell
            pass

    def _settle(self, settlement: Settlement) -> None:
        self._head = settlement.head
        self._failures = settlement.failures
        self._writable = settlement.writable
        settle(settlement.outcomes)
        self._wake()

    def _wake(self) -> None:
        self._changed, changed = asyncio.Event(), self._changed
        changed.set()

    async def _change(self, changed: asyncio.Event) -> None:
        if self._writer:
            await changed.wait()
        else:
            await asyncio.sleep(FOLLOW_SECONDS)

    async def _read_until(self, after: Position, until: int | None) -> AsyncGenerator[Sequence[Event], None]:
        until = await self.head() if until is None else until
        while after < until:
            page = await self._page(after, until)
            yield page
            after = page[-1].position

    async def _stream_page(self, stream: str, span: Span) -> tuple[Sequence[Event], Span]:
        return await self._reader.run(lambda connection, path: stream_page(connection, path, stream, span))

    async def _page(self, after: int, until: int) -> Sequence[Event]:
        return await self._reader.run(lambda connection, path: log_page(connection, path, after, until))


_READ_ONLY = "{}: expected a log that was opened for writing, this one was opened read-only"


@contextmanager
def _naming_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LogUnwritable(f"{folder}: expected to open a log, got {error}") from error


def _open_files(folder: Path, accept_loss: bool, disk: Disk) -> _Files:
    with _naming_disk(folder), ExitStack() as undo:
        folder.mkdir(parents=True, exist_ok=True)
        lock = WriterLock(folder / LOCK)
        undo.callback(lock.release)
        kept = undo.enter_context(_keep_wal(folder / DATABASE))
        connection = open_for_writing(folder, disk=disk)
        undo.callback(connection.close)
        head = checked_head(connection, folder, accept_loss=accept_loss)
        witness = Witness(folder / WITNESS, disk)
        undo.callback(witness.close)
        witness.write(head)  # before the first commit: a log with events and no witness has lost it
        witness.flush()
        for parent in (folder, folder.parent):  # SQLite flushes what is in its file, not that there is one
            disk.flush_folder(parent)
        kept.close()
        undo.pop_all()
    return _Files(lock, connection, witness, head)


def _keep_wal(path: Path) -> ExitStack:
    """Keep the WAL until this is closed: SQLite folds and deletes it when the last connection closes, also that of a
    log which is refused. What lies behind a damaged frame would be gone before anybody accepted its loss.
    """
    kept = ExitStack()
    if path.exists():
        with suppress(sqlite3.Error, UnicodeDecodeError):  # opening tells what is wrong
            reader = kept.enter_context(closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)))
            reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return kept


def _discard(opening: asyncio.Future[_Files]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _check_readonly(folder: Path) -> int:
    with _naming_disk(folder), closing(open_for_reading(folder)) as connection:
        return checked_head(connection, folder).position

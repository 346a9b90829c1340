"""The port to the append-only store of events (rules L1–L7 of docs/spec.md). Adapters live in `logs/`.

Rule 1: a stream's revisions are 1, 2, 3, … in commit order; 0 stands for a stream without events.
Rule 2: `append` takes its place in the queue when it is *called*, so calls in a row commit in that order without
        being awaited; an append that names an expected revision fails when one before it failed.
Rule 3: everything that reads gives pages (lists of events) and fetches the next one only when asked.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from maquette.engine.events import START, Event, NewEvent, Position


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an append landed: revisions `first` to `last` of its stream, the position and time of the last event."""

    first: int
    last: int
    position: Position
    time: int


class EventLog(Protocol):
    """An append-only store of events with one writer."""

    def append(self, stream: str, events: Sequence[NewEvent], expected: int | None = None) -> Future[Appended]:
        """Queue `events` for one atomic, durable append to `stream`; the future ends when they are on disk (L1).

        `expected` is the revision that the stream must have then, None for any. An event whose id the stream holds
        already is not stored again, and its first place is answered (L3).
        The future fails with WrongRevision, LogUnwritable, LogClosed; then nothing of this call was written.
        Raises InvalidInput at once for an empty stream name, no events, or data that msgpack does not know.
        """
        ...

    def read(
        self, stream: str, *, after: int = 0, until: int | None = None, backwards: bool = False
    ) -> AsyncGenerator[Sequence[Event], None]:
        """Pages of `stream`: the revisions r with after < r <= until, oldest first or, `backwards`, newest first.

        Raises LogDamaged at a record that is missing or altered (L6).
        """
        ...

    def read_all(self, *, after: Position = START) -> AsyncGenerator[Sequence[Event], None]:
        """Pages of the whole log behind `after`, in order of position, up to the head at the time of the call."""
        ...

    def subscribe(self, *, after: Position = START) -> AsyncGenerator[Sequence[Event], None]:
        """Pages of the whole log behind `after`, then each new commit as it becomes durable; ends when the log closes.

        Nothing is missed and nothing comes twice; a slow subscriber reads its pages from the log again, so that
        nothing is buffered without bound (L4). Close the iterator (`aclose`) to unsubscribe.
        """
        ...

    async def revision(self, stream: str) -> int:
        """The revision of the stream's last event; 0 when it has none."""
        ...

    async def head(self) -> Position:
        """The position of the last durable event; START in an empty log."""
        ...

    async def until_writable(self) -> None:
        """Return when appends can be tried: at once, or when a log that could not write can again (L7).

        Raises LogClosed when it closes first.
        """
        ...

    async def close(self) -> None:
        """Commit what waits, release the writer lock, end the subscriptions. Later calls raise LogClosed."""
        ...

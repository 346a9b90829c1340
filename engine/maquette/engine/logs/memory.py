"""The log in memory: for tests, for trying things out and as the reference of the port. Durable as long as it lives."""

from __future__ import annotations

import asyncio
from asyncio import Future
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

from maquette.engine.errors import LogClosed
from maquette.engine.events import START, Event, NewEvent, Position
from maquette.engine.log import Appended
from maquette.engine.logs.decisions import Failures, Ground, Place, Proposal, decide, settle
from maquette.engine.logs.record import Clock, Record, drafts_of, event_of, page_of, wall_clock


def dense() -> int:
    """The stride of a log without gaps."""
    return 1


class MemoryLog:
    """An `EventLog` in this process's memory.

    `stride` gives the distance of each position from the one before it (1 or more): pass `lambda: random.randint(1, 9)`
    for a log with gaps, as logs on PostgreSQL or KurrentDB have them.
    Appends are decided once per turn of the event loop, as those on disk are, so that callers meet the same order.
    """

    writable = True

    def __init__(self, *, stride: Callable[[], int] = dense, clock: Clock = wall_clock) -> None:
        self._stride = stride
        self._clock = clock
        self._records: list[Record] = []
        self._positions: list[int] = []
        self._streams: dict[str, list[Record]] = {}
        self._heads: dict[str, int] = {}
        self._places: dict[tuple[str, bytes], Place] = {}
        self._failures = Failures()
        self._waiting: list[Proposal] = []
        self._head = 0
        self._grown = asyncio.Event()
        self._closed = False

    def append(self, stream: str, events: Sequence[NewEvent], expected: int | None = None) -> Future[Appended]:
        """See `EventLog.append`."""
        drafts = drafts_of(stream, events)
        loop = asyncio.get_running_loop()
        future: Future[Appended] = loop.create_future()
        if self._closed:
            future.set_exception(LogClosed("append: expected an open log, it is closed"))
            return future
        if not self._waiting:
            loop.call_soon(self._commit)
        self._waiting.append(Proposal(stream, drafts, expected, self._failures.count, future))
        return future

    def read(
        self, stream: str, *, after: int = 0, until: int | None = None, backwards: bool = False
    ) -> AsyncGenerator[Sequence[Event], None]:
        """See `EventLog.read`."""
        self._require_open()
        records = self._streams.get(stream, [])
        first, last = max(after, 0), len(records) if until is None else min(until, len(records))
        indexes = range(last - 1, first - 1, -1) if backwards else range(first, last)
        return self._pages(records[index] for index in indexes)

    def read_all(self, *, after: Position = START) -> AsyncGenerator[Sequence[Event], None]:
        """See `EventLog.read_all`."""
        self._require_open()
        return self._pages(self._behind(after))

    def subscribe(self, *, after: Position = START) -> AsyncGenerator[Sequence[Event], None]:
        """See `EventLog.subscribe`."""
        self._require_open()
        return self._follow(after)

    async def revision(self, stream: str) -> int:
        """See `EventLog.revision`."""
        self._require_open()
        return self._heads.get(stream, 0)

    async def head(self) -> Position:
        """See `EventLog.head`."""
        self._require_open()
        return Position(self._head)

    async def until_writable(self) -> None:
        """See `EventLog.until_writable`."""
        self._require_open()

    async def close(self) -> None:
        """See `EventLog.close`."""
        self._commit()
        self._closed = True
        self._wake()

    def _commit(self) -> None:
        proposals, self._waiting = self._waiting, []
        if proposals:
            self._failures.forget(proposals[0].known)
        time = max(self._clock(), self._records[-1].time if self._records else 0)
        decisions = decide(proposals, Ground(self._heads, self._places, self._next_position, time), self._failures)
        for record in decisions.records:
            self._records.append(record)
            self._positions.append(record.position)
            self._streams.setdefault(record.stream, []).append(record)
        if decisions.failed:
            self._failures.record(decisions.failed)
        settle(decisions.outcomes)
        self._wake()

    def _next_position(self) -> int:
        self._head += self._stride()
        return self._head

    def _wake(self) -> None:
        self._grown, grown = asyncio.Event(), self._grown
        grown.set()

    def _behind(self, after: int) -> Iterator[Record]:
        start = bisect_right(self._positions, after)
        return (self._records[index] for index in range(start, len(self._records)))

    async def _pages(self, records: Iterator[Record]) -> AsyncGenerator[Sequence[Event], None]:
        while page := [event_of(record) for record in page_of(records)]:
            yield page
            await asyncio.sleep(0)  # a long read lets others have their turn, as one from disk does
            self._require_open()

    async def _follow(self, after: Position) -> AsyncGenerator[Sequence[Event], None]:
        while not self._closed:
            grown = self._grown
            if page := [event_of(record) for record in page_of(self._behind(after))]:
                yield page
                after = page[-1].position
                await asyncio.sleep(0)
            else:
                await grown.wait()

    def _require_open(self) -> None:
        if self._closed:
            raise LogClosed("expected an open log, it is closed")

"""Opening: a replica out of its snapshot and the tail of its stream, without keeping others from the event loop.

Rule 1: after each slice of work the loop is free, whatever the slice was of: pieces of a state, events.
Rule 2: what is decoded in Python alone is decoded in another thread, one large snapshot at a time: more threads would
        only queue for Python's lock, and the loop with them. pycrdt's documents stay in their thread, and pycrdt holds
        the lock while it works: these are what slices are for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from maquette.engine.events import Event
from maquette.engine.kinds.kind import Kind
from maquette.engine.log import EventLog
from maquette.engine.replica import Replica
from maquette.engine.snapshots import Kept, SnapshotStore

SLICE_SECONDS = 0.005  # of work, before others get the loop
LONG_EVENTS = 4_000  # behind a snapshot: 0.4 s of replaying; a worker needs as long to start, then thrice that
LONG_BYTES = 1 << 20  # of their updates, or a quarter of what is there
THREAD_BYTES = 64 << 10  # of a snapshot: smaller ones are decoded in less than a millisecond
_END = object()
_logger = logging.getLogger(__name__)


class Turns:
    """Takes turns with everybody else on the event loop."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    async def take(self) -> None:
        """Let others run, when it is their turn."""
        if time.monotonic() - self._begun >= SLICE_SECONDS:
            await asyncio.sleep(0)
            self._begun = time.monotonic()


class Opened(NamedTuple):
    """A replica, and the revision and size of the snapshot that it began with."""

    replica: Replica
    saved: int
    saved_size: int


class Opener:
    """Builds replicas out of `log` and `snapshots`; `replay` is how a replica takes in an event, its own way else.

    `loading` is around each piece of a snapshot that is applied: its stream, revision and bytes.
    """

    def __init__(
        self,
        log: EventLog,
        snapshots: SnapshotStore,
        *,
        replay: Callable[[Replica, Event], None] | None = None,
        loading: Callable[[str, int, int], AbstractContextManager[None]] = lambda *_: nullcontext(),
    ) -> None:
        self._log = log
        self._snapshots = snapshots
        self._replay = replay or _replay
        self._loading = loading
        self._large = asyncio.Lock()

    async def open(
        self, stream: str, kind: Kind, server: int, until: int, shorten: Callable[[], Awaitable[bool]] | None = None
    ) -> Opened:
        """The replica at the revision `until`.

        `shorten` is asked for a newer snapshot when the way from this one is long, and answers whether there is one.
        Raises ReplicaBroken and LogError.
        """
        turns = Turns()
        replica = await self._kept(stream, kind, server, until, turns)
        if shorten is not None and await self._is_long(stream, replica, until) and await shorten():
            replica = await self._kept(stream, kind, server, until, turns)
        saved, saved_size = replica.revision, replica.size
        async for page in self._log.read(stream, after=saved, until=until):
            for event in page:
                self._replay(replica, event)
                await turns.take()
        return Opened(replica, saved, saved_size)

    async def _is_long(self, stream: str, replica: Replica, until: int) -> bool:
        """Whether what is to be replayed is better replayed by a worker."""
        if until - replica.revision >= LONG_EVENTS:
            return True
        left = max(LONG_BYTES, replica.size // 4)
        async for page in self._log.read(stream, after=replica.revision, until=until):
            left -= sum(len(event.data["update"]) for event in page)
            if left <= 0:
                return True
        return False

    async def _kept(self, stream: str, kind: Kind, server: int, until: int, turns: Turns) -> Replica:
        replica = Replica(kind, server)
        kept = await self._read(stream, kind, until)
        if kept is None:
            return replica
        newest = await self.event_at(stream, kept.revision)
        if newest is None or newest.id != kept.last:  # of a history that was given up
            return replica
        try:
            await self._fill(replica, stream, kept, turns)
        except (ValueError, RuntimeError) as error:  # pycrdt's: a snapshot is a cache, the log has everything
            _logger.warning("the snapshot of %s cannot be applied and is left aside: %s", stream, error)
            return Replica(kind, server)
        return replica

    async def _fill(self, replica: Replica, stream: str, kept: Kept, turns: Turns) -> None:
        steps, more = kept.fill(replica), True
        while more:
            with self._loading(stream, kept.revision, kept.size):
                more = next(steps, _END) is not _END
            await turns.take()

    async def _read(self, stream: str, kind: Kind, until: int) -> Kept | None:
        if self._snapshots.size(stream) < THREAD_BYTES:
            return self._snapshots.read(stream, kind, until)
        async with self._large:
            return await asyncio.to_thread(self._snapshots.read, stream, kind, until)

    async def event_at(self, stream: str, revision: int) -> Event | None:
        """The event at `revision`; None for 0, and for one that is not there."""
        if revision > 0:
            async for page in self._log.read(stream, after=revision - 1, until=revision):
                return page[0]
        return None


def _replay(replica: Replica, event: Event) -> None:
    replica.replay(event)

"""A projection that is being served: its live build, the lock under which that changes, and who waits for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from maquette.engine.errors import LogLost
from maquette.engine.events import START, Event, Position
from maquette.engine.log import EventLog
from maquette.engine.pulse import Pulse
from maquette.projections import builds, fold
from maquette.projections.builds import Builds
from maquette.projections.errors import ProjectionBehind, ProjectionStopped, ViewDamaged
from maquette.projections.fold import Checkpoint, Parked, Projection
from maquette.projections.guard import Guard, Hung
from maquette.projections.store import Store

T = TypeVar("T")

LOGGER = logging.getLogger(__name__)

Progress = Callable[[Position, Position], None]
"""Called with the position reached and the position to reach, which may grow."""


@dataclass(slots=True)
class Build:
    """One build while it is open: the projection's instance, its file, and the checkpoint last seen there."""

    projection: Projection
    store: Store
    checkpoint: Checkpoint

    @classmethod
    async def open(cls, make: Callable[[], Projection], path: Path) -> Build:
        """Open or create the build at `path`."""
        projection = make()
        store = Store(path, projection.metadata, projection.forget)
        try:
            await store.create(projection.version)
            return cls(projection, store, await store.read(fold.read_checkpoint))
        except BaseException:
            await store.close()
            raise

    async def advance(self, events: Sequence[Event], guard: Guard) -> None:
        """Fold `events` in one transaction."""
        self.checkpoint = await self.store.write(partial(fold.advance, self.projection, events, now, guard))


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class View:
    """One projection over `log`, kept in `folder`. Made by the runner; readers keep it across rebuilds."""

    def __init__(
        self,
        log: EventLog,
        folder: Path,
        make: Callable[[], Projection],
        batch: int,
        hung: Sequence[Hung] = (),
        pulse: Pulse | None = None,
    ) -> None:
        self.name = make().name
        self._guard = Guard(self.name, pulse, tuple(one for one in hung if one.projection == self.name))
        self.error: str | None = None
        self.applied = 0  # events since this process began, for the metrics
        self._log = log
        self._make = make
        self._batch = 1 if self._guard.is_careful else batch
        self._builds = Builds(folder, self.name)
        self._build: Build | None = None
        self._changing = asyncio.Lock()
        self._moved = asyncio.Event()
        self._oldest_waiting: int | None = None

    @property
    def version(self) -> int:
        """The version of the build that is read."""
        return self._live.checkpoint.version if self.is_open else self._make().version

    @property
    def checkpoint(self) -> Position:
        """The last position whose event this view reflects."""
        return self._live.checkpoint.position if self.is_open else START

    @property
    def is_open(self) -> bool:
        """Whether it can be read: a disk that fails may keep it from being opened."""
        return self._build is not None

    @property
    def milliseconds_behind(self) -> int:
        """The age of the oldest event that was read from the log and is not applied yet; 0 when there is none."""
        return 0 if self._oldest_waiting is None else max(0, now() - self._oldest_waiting)

    async def open(self, accept_loss: bool, progress: Progress | None) -> None:
        """Open the live build; build it again when its version is not the code's or it followed another log.

        Raises LogLost when the log ends before its checkpoint, unless `accept_loss`; it is not open then.
        """
        self._builds.clean()
        self._build = await self._open_live()
        try:
            if not accept_loss:
                await self._require_log()
            if self._live.checkpoint.version != self._live.projection.version or not await self._is_known():
                await self.rebuild(progress)
        except BaseException:
            await self.close()
            raise

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on one snapshot of the view, in a thread."""
        return await self._live.store.read(work)

    async def follow(self, pages: AsyncIterator[Sequence[Event]]) -> None:
        """Apply `pages` as they come."""
        async for page in pages:
            self._oldest_waiting = page[0].time
            for events in _batches(page, self._batch):
                async with self._changing:
                    await self._live.advance(events, self._guard)
                self.error = None
                self._move(len(events))
            self._oldest_waiting = None

    async def wait_for(self, position: Position, timeout: float | None) -> None:  # noqa: ASYNC109 - the error tells how far we came
        """Return when the view reflects `position` (V5). Raises ProjectionBehind after `timeout` seconds,
        ProjectionStopped when the view cannot get there."""
        try:
            async with asyncio.timeout(timeout):
                while self.checkpoint < position:
                    if self.error is not None:
                        raise ProjectionStopped(self.name, self.error)
                    await self._moved.wait()
        except TimeoutError as error:
            raise ProjectionBehind(self.name, position, self.checkpoint, timeout) from error

    def stop(self, reason: str | None) -> None:
        """Say why the view no longer follows the log, None when it does again; whoever waits is told."""
        self.error = reason
        self._move(0)

    async def parked(self) -> list[Parked]:
        """The streams that stopped here (V4)."""
        if not self.is_open:
            return []
        return await self.read(fold.list_parked)

    async def retry(self, stream: str) -> bool:
        """Apply what waits in a parked `stream`, page by page; True when the stream runs again or was not parked."""
        async with self._changing:
            row = next((row for row in await self.parked() if row.stream == stream), None)
            if row is None:
                return True
            # live events of the stream wait for the lock: until `last` is all that there is
            async with closing(self._log.read(stream, after=row.revision - 1, until=row.last)) as pages:
                async for page in pages:
                    for events in _batches(page, self._batch):
                        work = partial(fold.retry, self._live.projection, events, now, self._guard)
                        if not await self._live.store.write(work):
                            return False
        return True

    async def rebuild(self, progress: Progress | None = None) -> None:
        """Build the view again from the whole log, beside the live one, which is read meanwhile; then swap.

        Whoever is killed or cancelled halfway leaves the live one as it was.
        """
        build = await Build.open(self._make, self._builds.next())
        try:
            await self._fill(build, await self._log.head(), progress)
            async with self._changing:
                await self._fill(build, await self._log.head(), progress)
                # in one turn of the loop: a cancellation in between would remove the build that the pointer names
                self._builds.swap(build.store.path)
                build, self._build = self._live, build
        finally:
            await build.store.close()
            if build.store.path != self._builds.live():  # a pointer that could not be flushed may name it all the same
                await asyncio.to_thread(builds.remove, build.store.path)
        self._move(0)

    async def close(self) -> None:
        """Let the running transaction end and close the file."""
        build, self._build = self._build, None
        if build is not None:
            await build.store.close()

    @property
    def _live(self) -> Build:
        if self._build is None:
            raise ProjectionStopped(self.name, self.error or "it is not open")
        return self._build

    async def _open_live(self) -> Build:
        path = self._builds.live()
        if path is None:
            return await self._first()
        try:
            return await Build.open(self._make, path)
        except (DatabaseError, ViewDamaged) as error:  # the view is disposable, the log is not: start over
            if isinstance(error, DatabaseError) and not fold.is_damage(error):
                raise
            LOGGER.warning("projection %r is built again: %s is not readable: %s", self.name, path, error)
            return await self._first()

    async def _first(self) -> Build:
        build = await Build.open(self._make, self._builds.next())
        self._builds.swap(build.store.path)
        return build

    async def _require_log(self) -> None:
        head = await self._log.head()
        if self.checkpoint > head:
            raise LogLost(f"projection {self.name!r}", self.checkpoint, head)

    async def _is_known(self) -> bool:
        """Whether the log holds the very event at the checkpoint: a restored log may have gone another way since."""
        checkpoint = self._live.checkpoint
        if checkpoint.event is None:
            return True
        async with closing(self._log.read_all(after=Position(checkpoint.position - 1))) as pages:
            async for page in pages:
                return page[0].position == checkpoint.position and page[0].id.bytes == checkpoint.event
        return False

    async def _fill(self, build: Build, head: Position, progress: Progress | None) -> None:
        async with closing(self._log.read_all(after=build.checkpoint.position)) as pages:
            async for page in pages:
                for events in _batches(page, self._batch):
                    await build.advance(events, self._guard)
                    if progress is not None:
                        progress(build.checkpoint.position, max(head, build.checkpoint.position))

    def _move(self, applied: int) -> None:
        self.applied += applied
        self._moved.set()
        self._moved = asyncio.Event()


def _batches(page: Sequence[Event], size: int) -> list[Sequence[Event]]:
    return [page[start : start + size] for start in range(0, len(page), size)]


@asynccontextmanager
async def closing(pages: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """`pages`, closed at the end of the block: the port promises iterators, and a loop that ends early must say so."""
    try:
        yield pages
    finally:
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()

"""Keeps every projection up with the log: opens them, follows the log, rebuilds, tells how far they are.

Rule 1: projections are independent: each has its own checkpoint, subscription, file and pace.
Rule 2: a projection that fails (a full disk, a damaged log) says so in its status and tries again from its
        checkpoint; the others and the server go on. So does one that its disk keeps from being opened.
Rule 3: stopping lets the transaction that runs end whole; the next start goes on from its checkpoint.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from maquette.engine.errors import LogClosed, NotFound
from maquette.engine.events import Position
from maquette.engine.log import EventLog
from maquette.engine.pulse import Pulse
from maquette.projections.fold import Parked, Projection, is_damage, is_machine_fault
from maquette.projections.guard import Hung
from maquette.projections.view import Progress, View, closing

LOGGER = logging.getLogger(__name__)

BATCH = 500  # events in a transaction: enough that its commit costs little, few enough that readers see progress
RETRY_AFTER = 5.0  # seconds before a projection that failed tries again: an operator frees a disk in minutes, not ms


@dataclass(frozen=True, slots=True)
class Status:
    """One projection, for metrics, `/readyz` and `doctor`.

    `behind` counts positions between checkpoint and head (an upper bound of events where positions have gaps),
    `milliseconds` is the age of the oldest event read and not yet applied, `error` says why it stopped.
    """

    name: str
    version: int
    position: Position
    behind: int
    milliseconds: int
    applied: int
    parked: int
    error: str | None


class Runner:
    """The projections of one log, in `folder`. Make it with `Runner.open`, end it with `close`."""

    def __init__(self, log: EventLog, views: Sequence[View], retry_after: float) -> None:
        self._log = log
        self._views = {view.name: view for view in views}
        self._retry_after = retry_after
        self._damaged: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls,
        log: EventLog,
        folder: Path,
        projections: Sequence[Callable[[], Projection]],
        *,
        accept_loss: bool = False,
        batch: int = BATCH,
        retry_after: float = RETRY_AFTER,
        progress: Progress | None = None,
        hung: Sequence[Hung] = (),
        pulse: Pulse | None = None,
    ) -> Runner:
        """Open the projections that the factories in `projections` make, without following the log yet.

        A projection whose version changed, or whose checkpoint is not an event of this log, is built again first.
        `hung` are folds that never ended in processes before this one; `pulse` is where folds are marked (G4).
        Raises LogLost, naming the projection, when the log ends before its checkpoint; `accept_loss` rebuilds it.
        """
        views = [View(log, folder, make, batch, hung, pulse) for make in projections]
        runner = cls(log, views, retry_after)
        try:
            for view in views:
                await runner._open(view, accept_loss, progress)
        except BaseException:
            await runner.close()
            raise
        return runner

    def start(self) -> None:
        """Follow the log from each checkpoint until `close`, or until the log closes."""
        self._tasks = [asyncio.create_task(self._run(view), name=view.name) for view in self._views.values()]

    def view(self, name: str) -> View:
        """The projection called `name`. Raises NotFound."""
        if name not in self._views:
            raise NotFound("projection", name)
        return self._views[name]

    @property
    def names(self) -> list[str]:
        """The names of the projections."""
        return list(self._views)

    async def wait_for(self, position: Position, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as in View
        """Return when every projection reflects `position` (V5); `timeout` in seconds.

        Raises ProjectionBehind, ProjectionStopped.
        """
        for view in self._views.values():
            await view.wait_for(position, timeout)

    async def rebuild(self, name: str, progress: Progress | None = None) -> None:
        """Build the projection `name` again from the log while the live one is read, then swap. Raises NotFound."""
        await self.view(name).rebuild(progress)

    async def parked(self, name: str) -> list[Parked]:
        """The streams that an event stopped in the projection `name` (V4). Raises NotFound."""
        return await self.view(name).parked()

    async def retry(self, name: str, stream: str) -> bool:
        """Apply what waits in a parked stream; False when it raised again and stays parked. Raises NotFound."""
        return await self.view(name).retry(stream)

    async def status(self) -> list[Status]:
        """Where each projection is (V5)."""
        head = await self._log.head()
        return [await self._status(view, head) for view in self._views.values()]

    async def close(self) -> None:
        """Stop following, let running transactions end, close the files. The log stays open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for view in self._views.values():
            await view.close()

    async def __aenter__(self) -> Runner:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _open(self, view: View, accept_loss: bool, progress: Progress | None) -> None:
        try:
            await view.open(accept_loss, progress)
        except Exception as error:
            if not is_machine_fault(error):
                raise
            LOGGER.error(
                "projection %r could not be opened; it tries again in %s s: %s", view.name, self._retry_after, error
            )
            view.stop(f"{type(error).__name__}: {error}")

    async def _run(self, view: View) -> None:
        while not await self._follow(view):  # noqa: ASYNC110 - a pause between attempts, nothing to wait for
            await asyncio.sleep(self._retry_after)

    async def _follow(self, view: View) -> bool:
        """Follow the log; True when it closed, False when the projection failed and shall try again."""
        try:
            await self._mend(view)
            async with closing(self._log.subscribe(after=view.checkpoint)) as pages:
                await view.follow(pages)
        except LogClosed:
            pass  # it closed before we subscribed, or while a page was read
        except Exception as error:  # whatever it is, this projection stops, says so, and the others go on
            LOGGER.exception("projection %r stopped; it tries again in %s s", view.name, self._retry_after)
            view.stop(f"{type(error).__name__}: {error}")
            if is_damage(error):
                self._damaged.add(view.name)
            return False
        view.stop("the log is closed")
        return True

    async def _mend(self, view: View) -> None:
        if not view.is_open:
            await view.open(False, None)
        elif view.name in self._damaged:
            await view.rebuild()
            self._damaged.remove(view.name)
        else:
            return
        view.stop(None)

    async def _status(self, view: View, head: Position) -> Status:
        return Status(
            view.name,
            view.version,
            view.checkpoint,
            max(0, head - view.checkpoint),
            view.milliseconds_behind,
            view.applied,
            len(await view.parked()),
            view.error,
        )

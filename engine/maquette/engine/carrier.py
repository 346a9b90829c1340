"""Carries what comes late to an epoch that is over into the one behind it (D9).

Rule 1: each late event leaves exactly one event in the next epoch's stream, by the same actor, with the late one as its
        cause: with what it still does there (`late`), or with nothing when that is nothing. `carried` in it tells how
        far the old stream has been read, so that a process that died in between goes on where it was.
Rule 2: events are taken in the order of the old stream, one after the other, and only committed ones.
Rule 3: into the next epoch only. When that is over too, its own carrier takes the event on.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from maquette.engine.document import Document
from maquette.engine.errors import LogError, MaquetteError, OpRefused
from maquette.engine.events import Event
from maquette.engine.late import fields_of, merge, touched
from maquette.engine.replica import Late, Replica

if TYPE_CHECKING:
    from maquette.engine.space import Space
    from maquette.engine.spaces import DocumentRecord

REST_SECONDS = 60.0  # without anything late, before the copy of the old epoch is let go
RETRY_SECONDS = 1.0
_logger = logging.getLogger(__name__)


class Carrier:
    """Of one epoch of a scene. Does nothing while that is the current one."""

    def __init__(self, space: Space, record: DocumentRecord, epoch: int) -> None:
        self._space = space
        self._record = record
        self._epoch = epoch
        self._stream = space.record.document_stream(record, epoch)
        self._old: Replica | None = None  # the old epoch as far as it is carried
        self._lock = asyncio.Lock()
        self._queued = False
        self._resting: asyncio.TimerHandle | None = None

    @property
    def is_over(self) -> bool:
        """Whether the epoch is over, and what comes late is carried on."""
        return self._epoch in self._record.over and self._epoch not in self._record.frozen

    async def carry(self) -> None:
        """Carry over all that the old stream holds by now. Raises LogError when the log cannot take it."""
        async with self._lock:
            self._queued = False
            if self.is_over:
                await self._carry(await self._space.engine.log.revision(self._stream))
                self._rest_soon()

    async def follow(self) -> None:
        """The same in the background: waits until the log can take it, and does not run twice at a time."""
        if self._queued:
            return
        self._queued = True
        while True:
            try:
                await self.carry()
                return
            except MaquetteError as error:
                _logger.warning("%s: what came late waits to be carried over: %s", self._stream, error)
                await asyncio.sleep(RETRY_SECONDS)
                await self._space.engine.log.until_writable()

    def _rest_soon(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
        self._resting = asyncio.get_running_loop().call_later(REST_SECONDS, self._rest)

    def _rest(self) -> None:
        self._old = None

    async def _carry(self, until: int) -> None:
        engine, target = self._space.engine, await self._target()
        after = target.replica.carried if self._old is None else self._old.revision
        if after >= until or target.frozen is not None:
            return
        if self._old is None:
            self._old = await engine.replica(self._space, self._record, self._epoch, revision=after)
        try:
            async for page in engine.log.read(self._stream, after=after, until=until):
                for event in page:
                    await self._bring(event, self._old)
        except BaseException:
            self._old = None  # it may be ahead of what was carried
            raise

    async def _target(self) -> Document:
        """The next epoch's document: asked for again for each event, because nobody may be watching it."""
        return await self._space.engine.document(self._space, self._record, self._record.behind(self._epoch))

    async def _bring(self, event: Event, old: Replica) -> None:
        changes = event.data["changes"]
        before = {record: fields_of(old.doc, record) for record in touched(changes)}
        old.replay(event)
        if not changes:
            return
        late, target = Late(event.id, self._epoch, event.revision), await self._target()
        pens = self._space.engine.pens(target)
        try:
            await pens.carry(event.actor, lambda doc: merge(changes, before, doc), late)
        except OpRefused as error:
            _logger.warning("%s: what came late is not carried over whole: %s", self._stream, error)
        if target.replica.carried < event.revision:
            await target.pass_over(event.actor, late).wait()
        if target.error is not None:
            raise LogError(f"expected {target.stream} to stay open, got {target.error}")

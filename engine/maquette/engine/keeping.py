"""When snapshots are made: while a document is open, when it is left, and before one with a long tail is opened.

Rule 1: nobody waits for a snapshot but who opens a document that is long to replay; there it is the shorter way.
Rule 2: a document that stays open gets one now and then too, so that a kill never leaves a long replay.
Rule 3: without a log on disk, or where no worker can be started, there are none: the log has everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from maquette.engine.document import Document
from maquette.engine.errors import MaquetteError
from maquette.engine.folds import Disagreement, Folds, Poisoned, Witness
from maquette.engine.kinds.kind import Kind
from maquette.engine.log import Appended
from maquette.engine.workers import STOPPED, JobFailed, WorkersClosed

AFTER = 200  # events since the last, when a document is left; replaying fewer costs less than a file
EVERY = 2_000  # events, while it is open: what a kill leaves to be replayed takes 0.2 s
BYTES = 64 << 10  # of updates count as much as AFTER events
EVERY_BYTES = 10 * BYTES  # as much as EVERY events
GROWTH = 4  # a large document, while it is open, gets one when it has grown by a quarter
CLOSE_SECONDS = 2.0  # for snapshots at the end; the next opening can write them
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Kept:
    """An open document and its newest snapshot."""

    document: Document
    kind: Kind
    server: int
    saved: int
    saved_size: int
    is_folding: bool = False

    @property
    def events(self) -> int:
        return self.document.replica.revision - self.saved

    @property
    def bytes(self) -> int:
        return self.document.replica.size - self.saved_size


class Keeper:
    """Looks after the snapshots of the documents of one engine. `folds` is None where there are none to be made."""

    def __init__(self, folds: Folds | None) -> None:
        self._folds = folds
        self._kept: dict[str, _Kept] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def done(self) -> int:
        """How many snapshots were made."""
        return 0 if self._folds is None else self._folds.done

    # --- opening -----------------------------------------------------------------------------------------------------

    async def shorten(self, stream: str, kind: Kind, server: int, until: int) -> bool:
        """Make a snapshot of what is about to be opened; whether there is one now. Raises Poisoned."""
        if self._folds is None:
            return False
        try:
            await self._folds.fold(stream, kind.name, server, until)
        except Poisoned:
            raise
        except (MaquetteError, OSError) as error:
            _logger.warning("%s is replayed without a snapshot: %s", stream, error)
            return False
        return True

    def watch(self, document: Document, server: int, saved: int, saved_size: int) -> None:
        """Keep snapshots of an open document, whose newest is of the revision `saved`."""
        if self._folds is not None:
            replica = document.replica
            self._kept[document.stream] = _Kept(document, replica.kind, server, saved, saved_size)
            document.on_committed = self._committed(document.stream, document.on_committed)

    # --- while it is open --------------------------------------------------------------------------------------------

    def _committed(self, stream: str, then: Callable[[Appended], None] | None) -> Callable[[Appended], None]:
        def look(place: Appended) -> None:
            if then is not None:
                then(place)
            kept = self._kept.get(stream)
            if kept is not None and not kept.is_folding and self._is_due(kept):
                kept.is_folding = True
                witness = Witness.of(kept.document.replica)
                kept.document.after_commit(lambda: self._start(self._keep(kept, witness)))

        return look

    def _is_due(self, kept: _Kept) -> bool:
        return kept.events >= EVERY or kept.bytes >= max(EVERY_BYTES, kept.saved_size // GROWTH)

    async def _keep(self, kept: _Kept, witness: Witness) -> None:
        size = kept.document.replica.size
        try:
            await self._fold(kept, witness)
        except Disagreement as error:
            kept.document.drop(error)
        finally:
            kept.saved, kept.saved_size, kept.is_folding = witness.revision, size, False

    async def _fold(self, kept: _Kept, witness: Witness) -> None:
        """Raises Disagreement; of what else can go wrong only the log of this server tells."""
        assert self._folds is not None
        stream = kept.document.stream
        try:
            await self._folds.fold(stream, kept.kind.name, kept.server, witness.revision, witness)
        except Disagreement:
            raise
        except (MaquetteError, OSError) as error:
            if isinstance(error, WorkersClosed) or (isinstance(error, JobFailed) and error.what == STOPPED):
                return  # everything ends, and the next opening can write it
            _logger.warning("no snapshot of %s at revision %d: %s", stream, witness.revision, error)

    # --- leaving -----------------------------------------------------------------------------------------------------

    def leave(self, document: Document) -> None:
        """The document is about to be closed with everything stored; it is made a snapshot of when that is worth it."""
        kept = self._kept.pop(document.stream, None)
        if kept is None or kept.document is not document or document.error is not None or kept.is_folding:
            return
        if kept.events >= AFTER or kept.bytes >= BYTES:
            self._start(self._last(kept, Witness.of(document.replica)))

    async def _last(self, kept: _Kept, witness: Witness) -> None:
        try:
            await self._fold(kept, witness)
        except Disagreement as error:  # nobody has it open any more
            _logger.error("%s was left: %s", kept.document.stream, error)

    def forget(self, document: Document) -> None:
        """The document was lost."""
        kept = self._kept.get(document.stream)
        if kept is not None and kept.document is document:
            del self._kept[document.stream]

    # --- ending ------------------------------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _logger.error("a snapshot failed", exc_info=task.exception())

    async def settled(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  (what is left goes on)
        """Wait until no snapshot is being written, at most `timeout` seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)

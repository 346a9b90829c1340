"""The intake of a document: how a large update gets in. It is tried in a worker, and then judged piece by piece.

Rule 1: what is carried over is one event, whatever its size, and was judged before (D9): it is not tried.
Rule 2: between the pieces others have their turn, and each is judged by the roles of its moment (G3).
Rule 3: where no worker can be started, a large update is judged here, whole, like any other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from maquette.engine.errors import MaquetteError
from maquette.engine.events import Actor
from maquette.engine.receipts import Receipt
from maquette.engine.trials import Tried, is_large
from maquette.engine.waiting import Submission
from maquette.engine.workers import JobFailed, NoWorker

if TYPE_CHECKING:
    from maquette.engine.document import Document

_logger = logging.getLogger(__name__)


class Intake:
    """Of one document, which is given to it each time: holding it would be a cycle, and keep its replica too long."""

    def __init__(self) -> None:
        self.on_large: Callable[[Document, bytes, Actor, int | None], Awaitable[Tried]] | None = None
        """Tries a large update; without it, everything is judged at once."""
        self._trials: set[asyncio.Task[None]] = set()

    @property
    def is_busy(self) -> bool:
        """Whether anything is being tried or taken."""
        return bool(self._trials)

    def wants(self, op: Submission) -> bool:
        """Whether `op` comes in by here."""
        return self.on_large is not None and op.late is None and not op.is_tried and is_large(op.data)

    def take(self, document: Document, op: Submission) -> None:
        """Let `op` be tried and come in; its receipt tells."""
        closed = str(document.frozen) if document.frozen is not None else document.shut(op.actor.id)
        if closed is not None:
            op.receipt.denied = closed
            document.settle_after_commit(op.receipt)
            return
        op.receipt.on_trial = True
        trial = asyncio.ensure_future(self._try(document, op))
        self._trials.add(trial)
        trial.add_done_callback(self._trials.discard)

    async def tried(self, timeout: float) -> None:  # noqa: ASYNC109  (what is left goes on)
        """Wait until no large update is being tried or taken, at most `timeout` seconds."""
        if self._trials:
            await asyncio.wait(self._trials, timeout=timeout)

    async def _try(self, document: Document, op: Submission) -> None:
        found = await self._found(document, op)
        if document.error is not None:
            op.receipt.fail(document.error)
        elif found.denied is not None:
            document.deny(op, found.denied)
        else:
            await self._take_pieces(document, op, found)
        op.receipt.judged()

    async def _found(self, document: Document, op: Submission) -> Tried:
        assert self.on_large is not None
        try:
            return await self.on_large(document, op.data, op.actor, op.own)
        except JobFailed as error:
            if not error.is_fatal:
                return self._untried(document, op, error)
            return Tried(f"expected an update that can be read, the one who tried {error.what}", [])
        except NoWorker as error:
            return self._untried(document, op, error)
        except Exception:
            _logger.exception("document %s: trying a large update failed", document.stream)
            return Tried("expected an update that can be tried, got an error that this server's log tells", [])

    def _untried(self, document: Document, op: Submission, error: MaquetteError) -> Tried:
        _logger.warning("document %s: a large update is judged untried: %s", document.stream, error)
        return Tried(None, [op.data])

    async def _take_pieces(self, document: Document, op: Submission, found: Tried) -> None:
        parts: list[Receipt] = []
        for piece in found.pieces:
            part = Receipt()
            parts.append(part)
            refused = any(one.refused for one in parts)
            document.judge(Submission(op.actor, op.roles, piece, op.own, part, is_tried=True, is_counted=refused))
            if document.error is not None or part.denied is not None:
                break
            await asyncio.sleep(0)
        receipt = op.receipt
        receipt.refused = tuple(dict.fromkeys(reason for part in parts for reason in part.refused))
        if parts:
            receipt.denied, receipt.for_role = parts[-1].denied, parts[-1].for_role
        receipt.hole = next((part.hole for part in parts if part.hole is not None and not part.settled), found.hole)
        if found.rest is not None and receipt.denied is None and document.error is None:
            document.let_wait(replace(op, data=found.rest, read=None))
        else:
            await _settle_with(document, receipt, parts)


async def _settle_with(document: Document, receipt: Receipt, parts: list[Receipt]) -> None:
    """Settle behind all parts; one waits longer when what it builds on was lost meanwhile (D3)."""
    waiting = [part for part in parts if part.hole is not None and not part.settled]
    if waiting:
        receipt.judged()
    try:
        for part in waiting:
            await part.wait()
    except MaquetteError as error:
        receipt.fail(error)
        return
    document.settle_after_commit(receipt)

"""The intake of a document: how a large update gets in. It is tried in a worker, and then judged piece by piece.

Rule 1: what is carried over is one event, whatever its size, and was judged before (D9): it is not tried.
Rule 2: between the pieces others have their turn, and each is judged by the roles of its moment (G3).
Rule 3: who may not write, whatever comes, is denied before that: at once when the beginning of the update is new, and
        else when a worker has read it, and applied it to nothing. What is known may always come again (D2).
Rule 4: nothing is tried for whoever is gone, or may not write any more, when its turn comes.
Rule 5: where no worker can be started, a large update is judged here, whole, like any other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from maquette.engine.errors import MaquetteError
from maquette.engine.receipts import Receipt
from maquette.engine.trials import Skimmed, Tried, is_large
from maquette.engine.waiting import Submission
from maquette.engine.workers import UNWANTED, JobFailed, NoWorker

if TYPE_CHECKING:
    from maquette.engine.document import Document

_logger = logging.getLogger(__name__)


class Trier(Protocol):
    """Looks at large updates elsewhere; see `Trials`. `begin` is called when it is an update's turn."""

    async def run(self, document: Document, op: Submission, begin: Callable[[], bool]) -> Tried: ...

    async def skim(self, document: Document, op: Submission, begin: Callable[[], bool]) -> Skimmed: ...


class Intake:
    """Of one document, which is given to it each time: holding it would be a cycle, and keep its replica too long."""

    def __init__(self) -> None:
        self.trier: Trier | None = None
        """Without it, everything is judged at once."""
        self._trials: set[asyncio.Task[None]] = set()
        self._in_line: set[asyncio.Task[None]] = set()

    @property
    def is_busy(self) -> bool:
        """Whether anything is being tried or taken."""
        return bool(self._trials)

    def wants(self, op: Submission) -> bool:
        """Whether `op` comes in by here."""
        return self.trier is not None and op.late is None and not op.is_tried and is_large(op.data)

    def take(self, document: Document, op: Submission) -> None:
        """Let `op` be tried and come in; its receipt tells."""
        closed = document.closed_to(op)
        if closed is not None and document.brings_new(op):
            document.deny(op, closed.reason, for_role=closed.for_role)
            return
        op.receipt.on_trial = True
        trial = asyncio.ensure_future(self._take(document, op))
        self._trials.add(trial)
        trial.add_done_callback(self._trials.discard)

    async def tried(self, timeout: float) -> None:  # noqa: ASYNC109  (what is left goes on)
        """Wait until no large update is being tried or taken, at most `timeout` seconds."""
        if self._trials:
            await asyncio.wait(self._trials, timeout=timeout)

    def dismiss(self) -> None:
        """Let nothing be tried that is still in line: the document is lost."""
        for trial in tuple(self._in_line):
            trial.cancel()

    async def _take(self, document: Document, op: Submission) -> None:
        try:
            found = await self._found(document, op)
        except asyncio.CancelledError:
            if document.error is None and not op.receipt.withdrawn:
                raise
            found = None
        if document.error is not None:
            op.receipt.fail(document.error)
        elif found is None:
            op.receipt.denied = "expected somebody who waits for a large update that is in line, got nobody"
            document.settle_after_commit(op.receipt)
        elif found.denied is not None:
            document.deny(op, found.denied, for_role=found.for_role)
        else:
            await self._take_pieces(document, op, found)
        op.receipt.judged()

    # --- in line -----------------------------------------------------------------------------------------------------

    async def _found(self, document: Document, op: Submission) -> Tried | None:
        """What a worker found; None when nobody waits for it any more."""
        try:
            while document.error is None and not op.receipt.withdrawn:
                found = await self._turn(document, op)
                if found is not None:
                    return found
            return None
        except JobFailed as error:
            if not error.is_fatal:
                return self._untried(document, op, error)
            return Tried(f"expected an update that can be read, the one who tried {error.what}", [])
        except NoWorker as error:
            return self._untried(document, op, error)
        except Exception:
            _logger.exception("document %s: trying a large update failed", document.stream)
            return Tried("expected an update that can be tried, got an error that this server's log tells", [])

    async def _turn(self, document: Document, op: Submission) -> Tried | None:
        """What a worker found; None when that was not to be asked any more when the turn came (rule 4)."""
        assert self.trier is not None
        leave = self._line_up(op.receipt)
        try:
            if document.closed_to(op) is not None:
                return self._judged(document, op, await self.trier.skim(document, op, leave))
            return await self.trier.run(document, op, lambda: leave() and document.closed_to(op) is None)
        except JobFailed as error:
            if error.what != UNWANTED:
                raise
            return None
        finally:
            leave()

    def _line_up(self, receipt: Receipt) -> Callable[[], bool]:
        """Let `receipt` be withdrawn until what this returns is called, which answers whether it was not."""
        trial = asyncio.current_task()
        assert trial is not None
        self._in_line.add(trial)
        receipt.on_withdrawn = trial.cancel

        def leave() -> bool:
            self._in_line.discard(trial)
            receipt.on_withdrawn = None
            return not receipt.withdrawn

        return leave

    def _judged(self, document: Document, op: Submission, found: Skimmed) -> Tried | None:
        """What becomes of an update by somebody who might not write when it was skimmed; None to try it."""
        if found.denied is not None:
            return Tried(found.denied, [])
        closed = document.closed_to(op)
        if closed is None:  # they may by now
            return None
        if any(document.is_new(op, client, end) for client, end in found.ends.items()):
            return Tried(closed.reason, [], for_role=closed.for_role)
        return Tried(None, [found.deletes])

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

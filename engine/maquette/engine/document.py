"""One document on its way between its connections, its replica and the log (docs/spec.md, "The way of an op").

    submit ─▶ replica.admit ─▶ log.append ─▶ (commit) ─▶ publish to every subscriber, the sender too

Rule 1: an op is applied when it comes and published when it is on disk (D1); several may be on their way at once, and
        they commit in the order in which they were applied.
Rule 2: everything computed from the replica leaves through `after_commit`: after the commit of all that it held.
Rule 3: when a commit fails, the replica is gone, and with it all that waited; subscribers are told to begin again.
Rule 4: an op with a hole waits outside the replica, bounded, and is tried again when what it lacks has come (D3). Its
        beginning, up to the hole, is integrated at once: others' ops may wait for just that.
Rule 5: a large update is tried elsewhere first, and enters in pieces, between which others have their turn (`intake`).
Rule 6: what one commit stored is shown in one turn: whoever shows much to many needs one call for all of it.
Rule 7: a subscriber that fails does not keep the others from being told.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import ceil
from typing import ParamSpec, Protocol
from uuid import UUID

from maquette.engine.errors import DocumentFrozen, LimitExceeded, LogError, MalformedUpdate, MaquetteError
from maquette.engine.events import SERVER, START, Actor
from maquette.engine.index import Hole
from maquette.engine.intake import Intake
from maquette.engine.kinds.kind import Op
from maquette.engine.log import Appended, EventLog
from maquette.engine.patience import Patience
from maquette.engine.pulse import Pulse
from maquette.engine.quarantine import Quarantine
from maquette.engine.receipts import Receipt
from maquette.engine.replica import NOTHING_NEW, Denied, Integrated, Late, Nothing, Outcome, Replica, ReplicaBroken
from maquette.engine.roles import Role, Roles
from maquette.engine.sync import SyncUpdate, write_frame
from maquette.engine.trials import DIRECT_BYTES
from maquette.engine.update import DEFAULT_LIMITS, Limits, Update, ends, read_update
from maquette.engine.waiting import MAX_WAITING, MAX_WAITING_BYTES, Submission, Waiting

_logger = logging.getLogger(__name__)
P = ParamSpec("P")


class Subscriber(Protocol):
    """Whoever shows a document: a connection, or an embedding application."""

    def deliver(self, frames: tuple[bytes, ...]) -> None:
        """Sync frames with updates that are on disk, in their order. The same object goes to all subscribers."""
        ...

    def lost(self, error: MaquetteError) -> None:
        """The replica is gone (rule 3); what was submitted and not answered is not in the log."""
        ...

    def moved(self, successor: str) -> None:
        """The document goes on under another name (D9), such as `chat@2`."""
        ...


@dataclass(slots=True)
class _Pending:
    """An op between the replica and the disk."""

    frame: bytes
    receipts: list[Receipt]
    appended: asyncio.Future[Appended] | None = None
    then: list[Callable[[], None]] = field(default_factory=list)


class Document:
    """A live document. Made by the engine, which opens its replica from the log; use it on one event loop only."""

    def __init__(
        self,
        stream: str,
        replica: Replica,
        log: EventLog,
        clock: Callable[[], int],
        *,
        limits: Limits = DEFAULT_LIMITS,
        patience: Patience | None = None,
        timer: Callable[[], float] = time.monotonic,
        pulse: Pulse | None = None,
    ) -> None:
        """`patience` is kept by whoever opens the document again; `timer` is its clock, in seconds."""
        self.stream = stream
        self.replica = replica
        self.limits = limits
        self.subscribers: set[Subscriber] = set()
        self.durable = replica.revision
        self.position = START
        self.error: MaquetteError | None = None
        self.frozen: DocumentFrozen | None = None
        """Why it takes no edits (G4); the replica then ends before the log does."""
        self.quarantine: Quarantine | None = None
        """What must not be judged in it again."""
        self.on_full: Callable[[], None] | None = None
        self.on_lost: Callable[[Document], None] | None = None
        self.on_committed: Callable[[Appended], None] | None = None
        self._log = log
        self._pulse = pulse
        self._clock = clock
        self._patience = Patience() if patience is None else patience
        self._timer = timer
        self._pending: deque[_Pending] = deque()
        self._stored: list[Appended] = []  # where the first of them are on disk, who are not shown yet
        self._appends: set[asyncio.Future[Appended]] = set()
        self._waiting = Waiting()
        self._told_full = False
        self.intake = Intake()
        """Of large updates."""

    # --- writing ---------------------------------------------------------------------------------------------------

    def submit(self, actor: Actor, roles: Callable[[], Roles], data: bytes, own: int | None = None) -> Receipt:
        """Judge the update `data` by `actor`, apply what is admitted and queue it for the log.

        `roles` is asked again whenever the op is judged (G3); `own` is the connection's own client id. The receipt
        settles when everything is on disk. Never raises for what the update holds.
        """
        return self._submit(Submission(actor, roles, data, own, Receipt()))

    def carry(self, actor: Actor, data: bytes, own: int, late: Late) -> Receipt:
        """Submit what `actor` did in the epoch before (D9). It was judged there by the roles of its moment."""
        return self._submit(Submission(actor, lambda: Role.OWNER, data, own, Receipt(), late=late))

    def _submit(self, op: Submission) -> Receipt:
        if self.error is not None:
            op.receipt.fail(self.error)
        else:
            self.judge(op)
        return op.receipt

    def pass_over(self, actor: Actor, late: Late) -> Receipt:
        """Log that nothing of a late edit by `actor` is carried over, so that it is not looked at again (D9)."""
        receipt = Receipt()
        if self.error is not None:
            receipt.fail(self.error)
        else:
            self._append(actor, None, NOTHING_NEW, receipt, late=late)
        return receipt

    def judge(self, op: Submission) -> None:
        """Judge and take `op`, and what waited for it."""
        self._take(op)
        self._take_ready()

    def _take_ready(self) -> None:
        while self.error is None and (ready := self._waiting.next_ready(self.replica.index)) is not None:
            self._take(ready)

    def _take(self, op: Submission) -> None:
        if self.frozen is not None and self.brings_new(op):
            self.deny(op, str(self.frozen))
            return
        if self.intake.wants(op):
            self.intake.take(self, op)
            return
        if self._pulse is None:
            self._admit(op)
            return
        self._pulse.judging(self.stream, self.replica.revision, op.actor.id, op.data)
        try:
            self._admit(op)
        finally:
            self._pulse.rest()

    def _admit(self, op: Submission) -> None:
        receipt = op.receipt
        try:
            outcome = self._outcome(op)
        except (MalformedUpdate, LimitExceeded) as error:
            outcome = Denied(str(error))
        except Exception as error:  # ours: nobody's bytes should come this far
            self._fail(receipt, error)
            return
        match outcome:
            case Nothing():
                self.settle_after_commit(receipt)
            case Denied():
                self.deny(op, outcome.reason, for_role=outcome.for_role)
            case Hole():
                receipt.hole = outcome
                self._wait(op)
            case Integrated():
                receipt.hole = outcome.hole
                if outcome.reasons:
                    receipt.refused = tuple(dict.fromkeys(receipt.refused + outcome.reasons))
                    self._count_refusal(op)
                self._append(op.actor, op.own, outcome, receipt if outcome.hole is None else None, late=op.late)
                self._look_after()
                if outcome.hole is not None:
                    self._wait(op)

    def deny(self, op: Submission, reason: str, *, for_role: bool = False) -> None:
        """Take nothing of `op`, and count that (G5 a)."""
        self._count_refusal(op)
        op.receipt.denied, op.receipt.for_role = reason, for_role
        self.settle_after_commit(op.receipt)

    def _outcome(self, op: Submission) -> Outcome:
        if self.quarantine is not None and (why := self.quarantine.why(op.actor.id, op.data)) is not None:
            return Denied(why)
        if self.frozen is not None:  # what it knows already may come again; nothing else is looked at
            is_known = self.replica.index.trim(read_update(op.data, self.limits)).is_empty
            return Nothing() if is_known else Denied(str(self.frozen))
        if op.read is None:
            op.read = read_update(op.data, self.limits)
        if self._patience.knows(self.stream, op.actor.id):
            return self._outcome_of_refused(op, op.read)
        return self.replica.admit(Op(op.actor, op.roles(), self._clock()), op.data, op.own, self.limits, op.read)

    def closed_to(self, op: Submission) -> Denied | None:
        """Why `op` is denied by now, whatever new it brings; None when it is to be judged."""
        if self.frozen is not None:
            return Denied(str(self.frozen))
        why = None if self.quarantine is None else self.quarantine.why(op.actor.id, op.data)
        why = why or self.shut(op.actor.id)
        return self.replica.closed_to(op.actor, op.roles()) if why is None else Denied(why)

    def brings_new(self, op: Submission) -> bool:
        """Whether `op` shows at its beginning that it brings what is not known here. What is malformed may not."""
        return any(self.is_new(op, client, end) for client, end in ends(op.data[:DIRECT_BYTES]))

    def is_new(self, op: Submission, client: int, end: int) -> bool:
        """Whether clocks of `client` before `end`, which came with `op`, are neither known nor cut out (D4)."""
        return end > self.replica.index.clock(client) and self.replica.claims.admits(client, op.actor.id, op.own)

    # --- patience with those who are refused (G5) --------------------------------------------------------------------

    def _outcome_of_refused(self, op: Submission, read: Update) -> Outcome:
        """What becomes of an op by somebody who was refused lately: see `patience`."""
        shut = self.shut(op.actor.id)
        logs = self._patience.logs(self.stream, op.actor.id, self.limits.refused, self._timer())
        judged = Op(op.actor, Role.VIEWER if shut else op.roles(), self._clock(), logs)
        outcome = self.replica.admit(judged, op.data, op.own, self.limits, read)
        return Denied(shut) if shut is not None and isinstance(outcome, Denied) else outcome

    def shut(self, actor: str) -> str | None:
        """Why and for how long `actor` may only read after too many refusals; None when it may write."""
        left = self._patience.shut(self.stream, actor, self._timer())
        if not left:
            return None
        return f"expected fewer edits that are refused, got too many: this actor only reads here for {ceil(left)} s"

    def pause(self, actor: str) -> float:
        """For how many seconds a connection of `actor` that was just refused something is not read."""
        return self._patience.pause(self.stream, actor, self.limits.refused, self._timer())

    def _count_refusal(self, op: Submission) -> None:
        if op.is_counted or self.frozen is not None or self.shut(op.actor.id) is not None:
            return  # one op counts once; the others are nobody's fault, or paid for
        self._patience.count(self.stream, op.actor.id, self.limits.refused, self._timer())

    def was_not_turned(self) -> None:
        """Nobody could do anything about a full page: the next op tells again that it is full."""
        self._told_full = False

    def _fail(self, receipt: Receipt, error: Exception) -> None:
        if not isinstance(error, MaquetteError):
            _logger.exception("document %s: judging an op failed", self.stream)
            error = ReplicaBroken(f"expected to judge an op, got {error!r}")
        receipt.fail(error)
        self._lose(error)

    def _append(
        self,
        actor: Actor,
        own: int | None,
        done: Integrated,
        receipt: Receipt | None,
        *,
        cause: UUID | None = None,
        late: Late | None = None,
    ) -> None:
        event = self.replica.event(actor, own, done, cause, late)
        pending = _Pending(write_frame(SyncUpdate(done.update)), [] if receipt is None else [receipt])
        self._pending.append(pending)
        try:
            appended = self._log.append(self.stream, [event], self.replica.revision)
        except MaquetteError as error:
            self._lose(error)
            return
        self.replica.revision += 1
        self.replica.last = event.id
        pending.appended = appended
        self._appends.add(appended)
        appended.add_done_callback(self._committed)

    def _look_after(self) -> None:
        """What the owner of a document does behind each op: repair it, and see whether it is full."""
        if self.error is not None:
            return
        try:
            repaired = self.replica.repair()
        except MaquetteError as error:
            self._lose(error)
            return
        if repaired is not None:
            self._append(SERVER, None, repaired, None, cause=self.replica.last)
        if not self._told_full and self.on_full is not None and self.replica.is_full():
            self._told_full = True
            self.on_full()

    # --- reading -----------------------------------------------------------------------------------------------------

    def reading(self) -> AbstractContextManager[None]:
        """For the time in which somebody reads what the replica holds: the supervisor knows of it (G4)."""
        if self._pulse is None:
            return nullcontext()
        return self._pulse.while_reading(self.stream, self.replica.revision, self.replica.size)

    # --- waiting for holes -------------------------------------------------------------------------------------------

    def let_wait(self, op: Submission) -> None:
        """Let `op` wait for what its receipt says that it lacks."""
        self._wait(op)
        self._take_ready()

    def _wait(self, op: Submission) -> None:
        if self.error is not None:
            op.receipt.fail(self.error)
            return
        if op.read is not None:
            op.read = self.replica.index.trim(op.read)
        for dropped in self._waiting.add(op):
            dropped.receipt.denied = (
                f"expected what this update builds on to arrive, got too much that waits: at most {MAX_WAITING} "
                f"updates or {MAX_WAITING_BYTES} bytes"
            )
            dropped.receipt.settle(self.position)

    # --- commits -----------------------------------------------------------------------------------------------------

    def _committed(self, appended: asyncio.Future[Appended]) -> None:
        self._appends.discard(appended)
        if self.error is not None:
            appended.cancelled() or appended.exception()  # the first failure was told already
            return
        error = LogError("the append was cancelled") if appended.cancelled() else appended.exception()
        if error is not None:
            self._lose(error if isinstance(error, MaquetteError) else LogError(repr(error)))
            return
        self._stored.append(appended.result())
        if not self._is_next_stored:
            self._publish()

    @property
    def _is_next_stored(self) -> bool:
        """Whether the same commit stored the next op too: then its turn comes at once, and both are shown in one."""
        following = self._pending[len(self._stored)] if len(self._stored) < len(self._pending) else None
        return following is not None and following.appended is not None and following.appended.done()

    def _publish(self) -> None:
        """Show what is on disk: as many ops at once as there are, and what was asked for between them in its place."""
        stored, self._stored = self._stored, []
        shown: list[tuple[_Pending, Appended]] = []
        for pending, place in [(self._pending.popleft(), place) for place in stored]:
            shown.append((pending, place))
            if pending.then:
                self._show(shown)
                shown = []
        if shown:
            self._show(shown)

    def _show(self, shown: list[tuple[_Pending, Appended]]) -> None:
        last = shown[-1][1]
        self.durable, self.position = last.last, last.position
        frames = tuple(pending.frame for pending, _ in shown)
        for subscriber in tuple(self.subscribers):
            self._tell(subscriber.deliver, frames)
        for pending, place in shown:
            for receipt in pending.receipts:
                self._tell(receipt.settle, place.position)
            for action in pending.then:
                self._tell(action)
            if self.on_committed is not None:
                self.on_committed(place)

    def _tell(self, action: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            action(*args, **kwargs)
        except Exception:
            _logger.exception("document %s: telling somebody failed", self.stream)

    def _lose(self, error: MaquetteError) -> None:
        if self.error is not None:
            return
        self.error = error
        self._publish()
        self.on_full = None  # it holds this document: a cycle, which would keep the replica until the next collection
        self.intake.dismiss()
        pending, self._pending = self._pending, deque()
        waiting = self._waiting.clear()
        if self.on_lost is not None:
            self.on_lost(self)
        for receipt in [receipt for one in pending for receipt in one.receipts] + [op.receipt for op in waiting]:
            self._tell(receipt.fail, error)
        for subscriber in tuple(self.subscribers):
            self._tell(subscriber.lost, error)

    def settle_after_commit(self, receipt: Receipt) -> None:
        """Settle `receipt` when everything that the replica holds now is on disk; fail it when the replica is lost."""
        if self.error is not None:
            receipt.fail(self.error)
        elif self._pending:
            self._pending[-1].receipts.append(receipt)
        else:
            receipt.settle(self.position)

    def after_commit(self, action: Callable[[], None]) -> None:
        """Run `action` when everything that the replica holds now is on disk: at once, when it is (D1).

        When a commit fails, and when the replica is lost already, the action never runs.
        """
        if self.error is not None:
            return
        if self._pending:
            self._pending[-1].then.append(action)
        else:
            action()

    def drop(self, error: MaquetteError) -> None:
        """Be lost for `error`: whoever watches opens it again from the log."""
        self._lose(error)

    def close(self) -> None:
        """Take no more: the document is evicted, and will be opened from the log by whoever comes."""
        self._lose(LogError(f"expected an open document, {self.stream} was closed because nobody watched it"))

    async def drained(self) -> None:
        """Wait until nothing of this document is on its way to the log; what failed has been told."""
        while self._appends:
            await asyncio.wait(self._appends)
        self._publish()

    @property
    def is_idle(self) -> bool:
        """Nobody watches, nothing is on its way. What waits for a hole is sent again by whoever it came from."""
        return not self.subscribers and not self._pending and not self.intake.is_busy

"""One WebSocket connection to one document: the y-websocket protocol on the wire, the gate behind it.

Rule 1: frames are handled in the order in which they came; what they cause leaves in that order too.
Rule 2: everything that was computed from the replica leaves after its commit (D1).
Rule 3: a denied connection is told why and reads on; when it goes on writing it is closed for good (G5 a).
Rule 4: a hole is asked for once, and not again until something of the connection was integrated (D3).
Rule 5: a reader who is too slow is closed and comes back by a sync; who does not read is not read either; nothing is
        buffered without bound.
Rule 6: when the document is lost, the connection stays, is not read until the document is back, and then begins anew.
Rule 7: a connection to an epoch that is over brings what it has, and is told then where the document goes on (D9). Who
        has nothing of that epoch is told at once.
Rule 8: while a large update is tried (`trials`), what comes behind it waits, so that no hole is asked for in vain.
"""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from collections import deque
from typing import Protocol

from maquette.engine.document import Document
from maquette.engine.errors import MalformedFrame, MaquetteError
from maquette.engine.receipts import Receipt
from maquette.engine.roles import Role
from maquette.engine.space import Resolved
from maquette.engine.sync import (
    AWARENESS,
    QUERY_AWARENESS,
    STEP1,
    SYNC,
    AwarenessUpdate,
    Message,
    Named,
    PermissionDenied,
    QueryAwareness,
    Refused,
    Stored,
    SyncStep1,
    SyncStep2,
    SyncUpdate,
    read_sent_frame,
    read_state_vector,
    write_frame,
    write_state_vector,
)
from maquette.server.acks import Acks
from maquette.server.auth import kept_out
from maquette.server.closing import MOVED, Close
from maquette.server.presence import EMPTY_FRAMES, Presence
from maquette.server.sessions import Session

MAX_BACKLOG = 16 << 20  # bytes waiting for one reader: the first sync of a large scene, and what happens meanwhile
MAX_UNREAD = 4 << 20  # bytes waiting for one reader; then it must read before it is read
MAX_UNSETTLED = 512  # updates of one connection on their way to the disk; then its socket is not read
MAX_UNSETTLED_BYTES = 8 << 20
MAX_STATE_VECTOR = 128 << 10  # bytes: 21,000 clients, 10 ms of reading. Opening such a document takes 0.4 s
FLIGHT_SECONDS = 2.0  # for what a client sent before it could know that it may not write any more
MAX_PRESENCE = 1 << 20  # bytes: two frames' worth of the largest states, which tabs relay


class Socket(Protocol):
    """What a connection needs of its WebSocket."""

    def write(self, frames: tuple[bytes, ...]) -> bool:
        """Send `frames` at once; False when they have to wait, or when only `send` can."""
        ...

    async def send(self, frame: bytes) -> None: ...

    async def close(self, close: Close) -> None: ...

    def abort(self) -> None:
        """End it without waiting for the other side."""
        ...


class Connection:
    """A subscriber of a document and a member of its presence. The endpoint feeds it frames and runs `write`."""

    def __init__(self, socket: Socket, session: Session, found: Resolved, presence: Presence, *, acks: bool) -> None:
        self.session = session
        self.found = found
        self.client: int | None = None
        self.closing: Close | None = None
        self.told_at = 0.0
        """When it was last sent something, on the loop's clock."""
        self.detached = asyncio.Event()
        """Set when the document is lost or goes on in another epoch, or the connection closes."""
        self.updates = 0
        """How many frames with updates have come."""
        self.seen = -1
        """The revision up to which a lost document had been shown; -1 when none was lost."""
        self.pause = 0.0
        """For how many seconds it should not be read, because of a refusal (G5)."""
        self._socket = socket
        self._presence = presence
        self._acks = Acks() if acks else None
        self._document: Document | None = None
        self._outbox: deque[bytes] = deque()
        self._backlog = 0
        self._owed = 0  # bytes of answers that wait for a commit
        self._now = get_running_loop().time
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._unsettled: dict[int, int] = {}  # number of an update → its bytes
        self._unsettled_bytes = 0
        self._settled = asyncio.Event()
        self._greeted = False
        self._held = False
        self._answered = False
        self._large: Receipt | None = None  # while it is on trial
        self._denied = False
        self._told_taken = False
        self._denied_for_role = False
        self._may_write = self._writes(session.role(found.space))
        self._lowered_at = -FLIGHT_SECONDS
        self._asked = False
        self._asked_in_vain = False

    # --- beginning and ending ----------------------------------------------------------------------------------------

    def attach(self, document: Document) -> None:
        """Begin to show `document`: ask the client for what we lack, and listen."""
        self._document = document
        self._asked = self._asked_in_vain = self._answered = self._held = False
        self.detached.clear()
        if self.client is not None:  # what presence announced is not in the log
            document.replica.claims.announce(self.client, self.session.actor.id)
        document.subscribers.add(self)
        if self._acks is not None:
            self.deliver((write_frame(Named(self.found.name)),))
        shut = document.shut(self.session.actor.id)
        if shut is not None:
            self.deliver((write_frame(PermissionDenied(shut)),))
        self._ask()
        self._room.set()
        if self.found.is_late:
            self.detached.set()

    def detach(self) -> None:
        """Stop listening; what was submitted goes on its way, but for a large update that is still in line.

        That of whoever is told where the document goes on stays there: it is carried over (D9).
        """
        if self._large is not None and (self.closing is None or self.closing.code != MOVED):
            self._large.withdraw()
        if self._document is not None:
            self._document.subscribers.discard(self)
            self._document = None

    def close(self, close: Close) -> None:
        """Close with `close` once everything before it is sent."""
        self.closing = self.closing or close
        self._wake.set()
        self._room.set()
        self._settled.set()
        self.detached.set()

    def cut_off(self) -> None:
        """End it now: the client does not read what waits for it."""
        self._socket.abort()

    def review(self) -> None:
        """See what its actor may do here now: nothing closes it, reading is told, writing begins with a sync (G3)."""
        role = self.session.role(self.found.space)
        before, self._may_write = self._may_write, self._writes(role)
        if role is None:
            self._put_out()
        elif before and not self._may_write:
            self._lowered_at = get_running_loop().time()
            self.deliver(
                (write_frame(PermissionDenied(f"expected a role that may write here, got {role.name.lower()}")),)
            )
        elif self._may_write and not before and (self._denied_for_role or not self._denied):
            self._denied = self._denied_for_role = False
            self._ask()  # what it wrote meanwhile is good now

    def _writes(self, role: Role | None) -> bool:
        return role is not None and role >= self.found.record.kind.writers

    def _put_out(self) -> None:
        why = kept_out(self.session, self.found.space)
        self.close(Close.forbidden("expected a role in the space, got none" if why is None else str(why)))

    # --- what the document says (Subscriber) -------------------------------------------------------------------------

    def deliver(self, frames: tuple[bytes, ...]) -> None:
        if self.closing is not None:
            return
        if not self._outbox and self._socket.write(frames):
            self.told_at = self._now()
            return
        self._outbox.extend(frames)
        self._backlog += sum(map(len, frames))
        if self._backlog > MAX_BACKLOG and len(self._outbox) > 1:
            self._outbox.clear()
            self.close(Close.TOO_SLOW)
        self._wake.set()

    def lost(self, error: MaquetteError) -> None:
        if self._document is not None:
            self.seen = self._document.durable
        self._document = None
        self._large = None
        self._owed = 0
        self._unsettled.clear()
        self._unsettled_bytes = 0
        if self._acks is not None:
            self._acks.lose()
        self._settled.set()
        self.detached.set()

    def moved(self, successor: str) -> None:
        if self.found.is_late:
            self.detached.set()
        elif self.found.alias:
            self.close(Close.moved(successor))

    # --- leaving an epoch that is over -------------------------------------------------------------------------------

    @property
    def is_leaving(self) -> bool:
        """Whether it shows an epoch that is over (rule 7)."""
        return self.closing is None and self._document is not None and self.found.is_late

    async def settled(self) -> None:
        """Return when the client has told what it had, and all that has come by now is on disk; or when it leaves."""
        until = self.updates
        while self.is_leaving and not (
            self._answered and self._large is None and all(n >= until for n in self._unsettled)
        ):
            self._settled.clear()
            await self._settled.wait()

    def hold(self) -> None:
        """Read nothing more until it is told where to go on."""
        self._held = True

    def leave(self) -> None:
        """Say where the document goes on."""
        self.close(Close.moved(self.found.current))

    # --- what presence asks (Member) ---------------------------------------------------------------------------------

    @property
    def identity(self) -> dict[str, str]:
        return {"id": self.session.actor.id, "name": self.session.name, "kind": self.session.actor.kind}

    @property
    def is_behind(self) -> bool:
        return bool(self._outbox)

    def announce(self, client: int) -> bool:
        if self._document is None:
            return False
        if not self._document.replica.claims.announce(client, self.session.actor.id):
            self._tell_taken(client)
            return False
        self.client = client
        return True

    def _tell_taken(self, client: int) -> None:
        """Say once that its presence and edits go nowhere: its id was claimed by somebody else (D4)."""
        if not self._told_taken:
            self._told_taken = True
            self._explain(
                f"expected a client id of your own, got {client}, which belongs to another participant: presence and "
                f"edits under it are taken from them only; begin with a fresh document"
            )

    # --- reading -----------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Bytes that it has not been sent yet."""
        return self._backlog + self._owed

    @property
    def audience(self) -> int:
        """How many hear what it says."""
        return 0 if self._document is None else len(self._document.subscribers)

    async def room(self) -> None:
        """Wait until a frame may be handled: rules 5 to 7, seen from the client's socket."""
        while self.closing is None and not self.has_room:
            self._room.clear()
            await self._room.wait()

    @property
    def has_room(self) -> bool:
        """Whether the next frame may be handled now."""
        return (
            self._document is not None
            and not self._held
            and self._large is None
            and self.waiting <= MAX_UNREAD
            and len(self._unsettled) < MAX_UNSETTLED
            and self._unsettled_bytes <= MAX_UNSETTLED_BYTES
        )

    def receive(self, frame: bytes) -> None:
        """Handle one frame, after `room`. What is wrong with it goes to the client; nothing is raised."""
        if self.session.role(self.found.space) is None:
            self._put_out()
            return
        limit = _most_bytes(frame)
        if limit is not None and len(frame) > limit:
            self.close(Close.too_large(f"expected at most {limit} bytes in such a frame, got {len(frame)}"))
            return
        try:
            message = read_sent_frame(frame, self.client)
            clocks = read_state_vector(message.state_vector) if isinstance(message, SyncStep1) else {}
        except MalformedFrame as error:
            self.close(Close.malformed(str(error)))
            return
        if self._document is not None:
            self._handle(message, clocks, self._document)

    def _handle(self, message: Message, clocks: dict[int, int], document: Document) -> None:
        match message:
            case SyncStep1():
                self._answer(clocks, document)
            case SyncStep2(update):
                self._submit(update, document, answer=True)
            case SyncUpdate(update):
                self._submit(update, document, answer=False)
            case AwarenessUpdate(states):
                self._presence.update(self, states)
            case QueryAwareness():
                self._presence.tell(self)
            case PermissionDenied() | Stored() | Refused() | Named():
                self.close(Close.malformed("expected a sync or awareness message, got one that servers send"))

    def _answer(self, clocks: dict[int, int], document: Document) -> None:
        index, found = document.replica.index, self.found
        if any(index.clock(client) == 0 for client in clocks.keys() & found.record.before(found.epoch)):
            self.leave()
            return
        if found.is_late and not any(index.clock(client) for client in clocks):
            self.leave()  # a new joiner: nothing of that epoch
            return
        self._greeted = True
        known = {client: min(clock, index.clock(client)) for client, clock in clocks.items() if index.clock(client)}
        with document.reading():
            missing = document.replica.diff(write_state_vector(known))
        self._deliver_after_commit(SyncStep2(missing), document)

    def _ask(self) -> None:
        if self._document is not None:
            self._deliver_after_commit(SyncStep1(self._document.replica.state_vector()), self._document)

    def _deliver_after_commit(self, message: Message, document: Document) -> None:
        frame = write_frame(message)
        self._owed += len(frame)

        def pay() -> None:
            self._owed -= len(frame)
            self.deliver((frame,))

        document.after_commit(pay)

    # --- writing -----------------------------------------------------------------------------------------------------

    def _submit(self, update: bytes, document: Document, *, answer: bool) -> None:
        if not self._greeted and self.found.epoch > 1:  # it may hold another epoch, and has not said so
            self.close(Close.malformed("expected sync step 1 first, got an update"))
            return
        self._answered = self._answered or answer
        before = document.replica.revision
        receipt = document.submit(self.session.actor, self._role, update, self.client)
        if self._acks is not None:
            self._acks.take(receipt, answer=answer)
            if self._acks.is_full:
                self.close(Close.unavailable("expected the edits that others owe, got too many that wait for them"))

        def take(receipt: Receipt) -> None:
            if self._document is document:
                self._large = None
                grown = document.replica.revision > before
                self._judged(receipt, document, len(update), answer=answer, integrated=grown)
                self._room.set()

        if receipt.on_trial:
            self._large = receipt
            receipt.on_judged = take
        else:
            take(receipt)

    def _judged(self, receipt: Receipt, document: Document, size: int, *, answer: bool, integrated: bool) -> None:
        """Go on behind an update of which is known whether it enters."""
        if receipt.error is not None:
            return  # the document is lost; the sync that follows brings the update once more
        self._mind_holes(receipt, answer=answer, integrated=integrated)
        if receipt.denied is not None or receipt.refused:
            self.pause = document.pause(self.session.actor.id)
        if receipt.denied is not None:
            self._deny(receipt)  # at once: what comes behind it must not enter
        self._track(receipt, size)

    def _role(self) -> Role:
        role = None if self._denied else self.session.role(self.found.space)
        return Role.VIEWER if role is None else role

    def _track(self, receipt: Receipt, size: int) -> None:
        number, denied = self.updates, receipt.denied is not None
        self.updates += 1

        def settle(receipt: Receipt) -> None:
            self._unsettled_bytes -= self._unsettled.pop(number, 0)
            self._room.set()
            self._tell(receipt, denied=denied)
            self._settled.set()

        if receipt.settled:
            settle(receipt)
            return
        receipt.on_settled = settle
        if receipt.hole is None:  # what waits for others must not keep them from being heard
            self._unsettled[number] = size
            self._unsettled_bytes += size
        self._settled.set()

    def _tell(self, receipt: Receipt, *, denied: bool) -> None:
        """What became of an update, once it is settled; `denied` when the client knows that already."""
        if receipt.error is not None:
            return
        if receipt.denied is not None and not denied:
            self._deny(receipt)
        if receipt.refused:
            self._explain("; ".join(receipt.refused))
        if self._acks is not None and self._acks.advance():
            self.deliver((write_frame(Stored(self._acks.settled, str(self._acks.position))),))

    def _explain(self, reason: str) -> None:
        """Tell why something was not taken, to a connection that goes on writing."""
        self.deliver((write_frame(Refused(reason) if self._acks is not None else PermissionDenied(reason)),))

    def _deny(self, receipt: Receipt) -> None:
        reason = str(receipt.denied)
        if receipt.for_role and get_running_loop().time() < self._lowered_at + FLIGHT_SECONDS:
            return  # it was on its way when its role was lowered, which it has been told
        shut = None if self._document is None else self._document.shut(self.session.actor.id)
        if shut is not None:
            self.deliver((write_frame(PermissionDenied(shut)),))  # our clients begin anew, as readers
        if self._denied or shut is not None:
            self.close(Close.forbidden(shut or reason))
            return
        self._denied, self._denied_for_role = True, receipt.for_role
        self.deliver((write_frame(PermissionDenied(reason)),))

    def _mind_holes(self, receipt: Receipt, *, answer: bool, integrated: bool) -> None:
        if integrated:
            self._asked_in_vain = False
        elif answer and (self._asked or receipt.hole is not None):
            self._asked_in_vain = True  # the client has told all it may tell: somebody else must bring the rest
        if answer:
            self._asked = False
        elif receipt.hole is not None and not self._asked and not self._asked_in_vain:
            self._asked = True
            self._ask()

    # --- sending -----------------------------------------------------------------------------------------------------

    async def write(self) -> None:
        """Send what waits until the connection closes."""
        while True:
            while self._outbox:
                frame = self._outbox[0]  # stays until it is sent: nothing may overtake it
                await self._socket.send(frame)
                if self._outbox:  # else it was too slow meanwhile
                    self._outbox.popleft()
                self._backlog -= len(frame)
                self._room.set()
                self.told_at = self._now()
            if self.closing is not None:
                await self._socket.close(self.closing)
                return
            self._presence.catch_up(self)
            if not self._outbox:
                self._wake.clear()
                await self._wake.wait()

    def keep_alive(self, silent_since: float) -> None:
        """Send an empty presence frame when nothing was sent since then (P3)."""
        if self.told_at <= silent_since and not self._outbox:
            self.deliver(EMPTY_FRAMES)


def is_op(frame: bytes) -> bool:
    """Whether a frame may bring an update: all but presence, questions for it, and sync step 1."""
    return not frame.startswith((bytes((AWARENESS,)), bytes((QUERY_AWARENESS,)), bytes((SYNC, STEP1))))


def _most_bytes(frame: bytes) -> int | None:
    """The most that a frame of its type may have; None for updates, which have limits of their own."""
    if frame.startswith(bytes((SYNC, STEP1))):
        return MAX_STATE_VECTOR
    return None if frame.startswith(bytes((SYNC,))) else MAX_PRESENCE

"""One WebSocket connection to one document: the y-websocket protocol on the wire, the gate behind it.

Rule 1: frames are handled in the order in which they came; what they cause leaves in that order too.
Rule 2: everything that was computed from the replica leaves after its commit (D1).
Rule 3: a denied connection is told why and reads on; when it goes on writing it is closed for good (G5 a).
Rule 4: a hole is asked for once, and not again until something of the connection was integrated (D3).
Rule 5: a reader who is too slow is closed and comes back by a sync; nothing is buffered without bound.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol

from maquette.engine.document import Document, Receipt
from maquette.engine.errors import LogError, MalformedFrame, MaquetteError
from maquette.engine.events import Position
from maquette.engine.roles import Role
from maquette.engine.space import Resolved
from maquette.engine.sync import (
    AwarenessUpdate,
    Message,
    PermissionDenied,
    QueryAwareness,
    Refused,
    Stored,
    SyncStep1,
    SyncStep2,
    SyncUpdate,
    read_frame,
    read_state_vector,
    write_frame,
    write_state_vector,
)
from maquette.server.closing import Close
from maquette.server.presence import EMPTY_FRAME, Presence
from maquette.server.sessions import Session

MAX_BACKLOG = 16 << 20  # bytes waiting for one reader: the first sync of a large scene, and what happens meanwhile
MAX_UNSETTLED = 512  # updates of one connection on their way to the disk; then its socket is not read


class Socket(Protocol):
    """What a connection needs of its WebSocket."""

    async def send(self, frame: bytes) -> None: ...

    async def close(self, close: Close) -> None: ...


class Connection:
    """A subscriber of a document and a member of its presence. The endpoint feeds it frames and runs `write`."""

    def __init__(self, socket: Socket, session: Session, found: Resolved, presence: Presence, *, acks: bool) -> None:
        self.session = session
        self.found = found
        self.client: int | None = None
        self.closing: Close | None = None
        self._socket = socket
        self._presence = presence
        self._acks = acks
        self._document: Document | None = None
        self._outbox: deque[bytes] = deque()
        self._backlog = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._unsettled: deque[Receipt] = deque()
        self._settled = 0
        self._denied = False
        self._asked = False
        self._asked_in_vain = False
        self.heard_at = 0.0
        self.reattach = asyncio.Event()
        """Set when the document is lost, or the connection closes."""
        self.seen = -1
        """The revision up to which a lost document had been shown; -1 when none was lost."""

    # --- beginning and ending ----------------------------------------------------------------------------------------

    def attach(self, document: Document) -> None:
        """Begin to show `document`: ask the client for what we lack, and listen."""
        self._document = document
        self._asked = self._asked_in_vain = False
        document.subscribers.add(self)
        self._presence.join(self)
        self._ask()

    def detach(self) -> None:
        """Stop listening; what was submitted goes on its way."""
        self._presence.leave(self)
        if self._document is not None:
            self._document.subscribers.discard(self)
            self._document = None

    def close(self, close: Close) -> None:
        """Close with `close` once everything before it is sent."""
        self.closing = self.closing or close
        self._wake.set()
        self._room.set()
        self.reattach.set()

    # --- what the document says (Subscriber) -------------------------------------------------------------------------

    def deliver(self, frame: bytes) -> None:
        if self.closing is not None:
            return
        self._outbox.append(frame)
        self._backlog += len(frame)
        if self._backlog > MAX_BACKLOG and len(self._outbox) > 1:
            self._outbox.clear()
            self.close(Close.TOO_SLOW)
        self._wake.set()

    def lost(self, error: MaquetteError) -> None:
        self.seen = self._document.durable if self._document is not None else self.seen
        self._document = None
        self._presence.leave(self)
        self._unsettled.clear()
        self._room.set()
        self.reattach.set()

    def moved(self, successor: str) -> None:
        if self.found.alias:
            self.close(Close.moved(successor))

    # --- what presence asks (Member) ---------------------------------------------------------------------------------

    @property
    def identity(self) -> dict[str, str]:
        return {"id": self.session.actor.id, "name": self.session.name, "kind": self.session.actor.kind}

    @property
    def is_behind(self) -> bool:
        return bool(self._outbox)

    def announce(self, client: int) -> bool:
        if self._document is None or not self._document.replica.claims.announce(client, self.session.actor.id):
            return False
        self.client = client
        return True

    # --- reading -----------------------------------------------------------------------------------------------------

    def receive(self, frame: bytes) -> None:
        """Handle one frame. What is wrong with it goes to the client; nothing is raised."""
        try:
            message = read_frame(frame)
            if isinstance(message, SyncStep1):
                read_state_vector(message.state_vector)
        except MalformedFrame as error:
            self.close(Close.malformed(str(error)))
            return
        self._handle(message)

    def _handle(self, message: Message) -> None:
        match message:
            case SyncStep1(state_vector):
                self._answer(read_state_vector(state_vector))
            case SyncStep2(update):
                self._asked = False
                self._submit(update, answer=True)
            case SyncUpdate(update):
                self._submit(update, answer=False)
            case AwarenessUpdate(states):
                self._presence.update(self, states)
            case QueryAwareness():
                self._presence.tell(self)
            case PermissionDenied() | Stored() | Refused():
                self.close(Close.malformed("expected a sync or awareness message, got one that servers send"))

    def _answer(self, clocks: dict[int, int]) -> None:
        document = self._document
        if document is None:
            return
        index = document.replica.index
        if any(index.clock(client) == 0 for client in clocks.keys() & self.found.record.before(self.found.epoch)):
            self.close(Close.moved(self.found.name))
            return
        known = {client: min(clock, index.clock(client)) for client, clock in clocks.items() if index.clock(client)}
        frame = write_frame(SyncStep2(document.replica.diff(write_state_vector(known))))
        document.after_commit(lambda: self.deliver(frame))

    def _ask(self) -> None:
        if self._document is not None:
            frame = write_frame(SyncStep1(self._document.replica.state_vector()))
            self._document.after_commit(lambda: self.deliver(frame))

    def _submit(self, update: bytes, *, answer: bool) -> None:
        document = self._document
        if document is None:
            return  # the replica is being opened again; the sync that follows brings the update once more
        receipt = document.submit(self.session.actor, self._role, update, self.client)
        if receipt.error is not None:
            if not isinstance(receipt.error, LogError):
                self.close(Close.malformed(str(receipt.error)))
            return
        if receipt.denied is not None:
            self._deny(receipt.denied)
        elif receipt.refused:
            self._tell_refusal("; ".join(receipt.refused))
        elif receipt.hole is not None:
            self._ask_for_hole(answer=answer)
        else:
            self._asked_in_vain = False
        self._track(receipt)

    def _role(self) -> Role:
        role = self.session.role(self.found.space)
        return Role.VIEWER if role is None else role

    def _deny(self, reason: str) -> None:
        if self._denied:
            self.close(Close.forbidden(reason))
            return
        self._denied = True
        self.deliver(write_frame(PermissionDenied(reason)))

    def _tell_refusal(self, reason: str) -> None:
        self.deliver(write_frame(Refused(reason) if self._acks else PermissionDenied(reason)))

    def _ask_for_hole(self, *, answer: bool) -> None:
        if answer:
            self._asked_in_vain = True  # the client has told all it may tell: somebody else must bring the rest
        elif not self._asked and not self._asked_in_vain:
            self._asked = True
            self._ask()

    # --- acknowledging -----------------------------------------------------------------------------------------------

    def _track(self, receipt: Receipt) -> None:
        self._unsettled.append(receipt)
        receipt.on_settled = self._on_settled
        if receipt.settled:
            self._on_settled(receipt)
        elif len(self._unsettled) > MAX_UNSETTLED and self._unsettled[0].hole is None:
            self._room.clear()

    def _on_settled(self, receipt: Receipt) -> None:
        newest: Position | None = None
        while self._unsettled and self._unsettled[0].settled:
            first = self._unsettled.popleft()
            self._settled += 1
            newest = first.position
        if len(self._unsettled) <= MAX_UNSETTLED:
            self._room.set()
        if newest is not None and self._acks:
            self.deliver(write_frame(Stored(self._settled, str(newest))))

    async def room(self) -> None:
        """Wait until the connection may send more (back-pressure on its socket)."""
        if len(self._unsettled) > MAX_UNSETTLED:
            await self._room.wait()

    # --- writing -----------------------------------------------------------------------------------------------------

    async def write(self, now: Any) -> None:
        """Send what waits until the connection closes. `now` is the loop's clock."""
        while True:
            while self._outbox:
                frame = self._outbox.popleft()
                self._backlog -= len(frame)
                await self._socket.send(frame)
                self.heard_at = now()
            if self.closing is not None:
                await self._socket.close(self.closing)
                return
            self._presence.catch_up(self)
            if not self._outbox:
                self._wake.clear()
                await self._wake.wait()

    def keep_alive(self, silent_since: float) -> None:
        """Send an empty presence frame when nothing was sent since then (P3)."""
        if self.heard_at <= silent_since and not self._outbox:
            self.deliver(EMPTY_FRAME)

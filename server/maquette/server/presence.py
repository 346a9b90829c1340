"""Presence of one document: who is here, where they point, what they drag. Never logged (rule P1).

Rule 1: a connection speaks for its own client id only, and the server says who it is (P2).
Rule 2: states are coalesced: each tick sends the newest states that changed, at most 30 in a frame, to everyone, their
        origin included (P3).
Rule 3: who reads slowly gets the newest states when it has read the rest, never a backlog.
Rule 4: a client that returns after it was taken away is shown at once: other clients ignore a clock that they have
        seen, so the server counts on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from maquette.engine.sync import AwarenessState, AwarenessUpdate, write_frame

MAX_STATES = 30  # in a frame
MAX_STATE_BYTES = 4_096  # a cursor, a camera, a selection of a hundred nodes
TICK_SECONDS = 1 / 15  # 10 to 20 a second look continuous; screens interpolate
EMPTY_FRAME = write_frame(AwarenessUpdate(()))


class Member(Protocol):
    """A connection as presence sees it."""

    client: int | None
    """Its own client id, once announced."""

    @property
    def identity(self) -> dict[str, str]:
        """What the server says of who this is: `id`, `name`, `kind`."""
        ...

    def announce(self, client: int) -> bool:
        """Claim `client` as its own; False when it is another's (D4)."""
        ...

    @property
    def is_behind(self) -> bool:
        """Whether frames wait to be sent."""
        ...

    def deliver(self, frame: bytes) -> None:
        """Send a frame."""
        ...


@dataclass(slots=True)
class _State:
    member: Member
    clock: int
    state: dict[str, Any] | None


class Presence:
    """The states of one document's connections."""

    def __init__(self) -> None:
        self._members: dict[Member, set[int]] = {}  # member → clients whose newest state it has missed
        self._states: dict[int, _State] = {}
        self._ahead: dict[int, int] = {}  # client → how far our clock is before its own
        self._dirty: dict[int, None] = {}  # in order of change, the newest last

    def join(self, member: Member) -> None:
        """Take a connection in and tell it who is here."""
        self._members[member] = set()
        self.tell(member)

    def tell(self, member: Member) -> None:
        """Send all states to `member`."""
        for frame in self._frames(self._states):
            member.deliver(frame)

    def leave(self, member: Member) -> None:
        """Take a connection away; the others see it go at the next tick."""
        self._members.pop(member, None)
        for client, held in self._states.items():
            if held.member is member and held.state is not None:
                held.state = None
                self._touch(client)

    def update(self, member: Member, states: Iterable[AwarenessState]) -> None:
        """Take in what `member` says of itself; what it says of others is dropped."""
        for state in states:
            if self._is_own(member, state.client):
                self._take(member, state)

    def _is_own(self, member: Member, client: int) -> bool:
        if member.client is None:
            return member.announce(client)
        return member.client == client

    def _take(self, member: Member, new: AwarenessState) -> None:
        if new.state is not None and len(repr(new.state)) > MAX_STATE_BYTES:
            return
        held = self._states.get(new.client)
        if held is None:
            held = self._states[new.client] = _State(member, -1, None)
        clock = new.clock + self._ahead.get(new.client, 0)
        if clock <= held.clock:
            if held.member is member and held.state is not None:
                return  # an older state, or the same again
            self._ahead[new.client] = held.clock + 1 - new.clock
            clock = held.clock + 1
        held.member, held.clock = member, clock
        held.state = None if new.state is None else _stamped(new.state, member.identity)
        self._touch(new.client)

    def _touch(self, client: int) -> None:
        self._dirty.pop(client, None)
        self._dirty[client] = None

    @property
    def is_dirty(self) -> bool:
        """Whether a tick has something to send."""
        return bool(self._dirty)

    @property
    def is_empty(self) -> bool:
        """Whether nobody is here."""
        return not self._members

    def tick(self) -> None:
        """Send the newest states that changed, at most one frame's worth; the rest at the next tick."""
        batch = list(self._dirty)[-MAX_STATES:]
        for client in batch:
            del self._dirty[client]
        frame = None
        for member, missed in self._members.items():
            if member.is_behind:
                missed.update(batch)
                continue
            frame = frame or next(self._frames(batch))
            member.deliver(frame)
        for client in batch:
            held = self._states[client]
            if held.state is None and held.member not in self._members:
                self._forget_later(client)

    def _forget_later(self, client: int) -> None:
        """Keep a short tail of those who left, so that their clocks go on where others saw them."""
        gone = [other for other, held in self._states.items() if held.state is None]
        for other in gone[: -10 * MAX_STATES]:
            del self._states[other]
            self._ahead.pop(other, None)

    def catch_up(self, member: Member) -> None:
        """Send a member what it missed while it was behind."""
        missed = self._members.get(member)
        if missed:
            clients = [client for client in missed if client in self._states]
            missed.clear()
            for frame in self._frames(clients):
                member.deliver(frame)

    def _frames(self, clients: Iterable[int]) -> Iterator[bytes]:
        states = [AwarenessState(client, self._states[client].clock, self._states[client].state) for client in clients]
        for start in range(0, len(states), MAX_STATES):
            yield write_frame(AwarenessUpdate(tuple(states[start : start + MAX_STATES])))


def _stamped(state: dict[str, Any], identity: dict[str, str]) -> dict[str, Any]:
    """The state with the server's word on who it is, also where stock applications look for a name."""
    stamped = {**state, "actor": identity}
    if isinstance(state.get("user"), dict):
        stamped["user"] = {**state["user"], "name": identity["name"]}
    return stamped

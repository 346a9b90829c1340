"""Presence of one document: who is here, where they point, what they drag. Never logged (rule P1).

Rule 1: a connection speaks for its own client id only, and the server says who it is (P2).
Rule 2: states are coalesced: each tick sends the newest states that changed, at most 30 in a frame, to everyone, their
        origin included (P3).
Rule 3: who reads slowly gets the newest states when it has read the rest, never a backlog.
Rule 4: a state is shown under the clock at which its client said it, or under the next one when the server changed it
        or when it is the first of a connection. Stock clients ignore what is not newer than what they have: so the
        origin takes over what the server says of it, unless it has moved meanwhile, and who returns is shown at once.
        Never later than the next one: a client that has moved would be set back, also by another tab that relays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from maquette.engine.sync import AwarenessState, awareness_entry, awareness_frame, awareness_text

MAX_STATES = 30  # in a frame
OLDEST_STATES = 5  # of them: where everybody moves, what changed once must not wait for ever
MAX_STATE_BYTES = 16 << 10  # of JSON: a cursor, a camera, a selection of some hundred nodes
MAX_CLOCK = 1 << 52  # the next one must stay below 2^53: a longer number stops stock clients
TICK_SECONDS = 1 / 15  # 10 to 20 a second look continuous; screens interpolate
EMPTY_FRAMES = (awareness_frame(()),)
_GONE = b"null"


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

    def deliver(self, frames: tuple[bytes, ...]) -> None:
        """Send frames. The same object goes to all who are told the same."""
        ...


@dataclass(slots=True)
class _State:
    """`told` is the clock at which the client said it, `clock` the one under which it is shown, `text` its JSON."""

    member: Member
    told: int
    clock: int
    text: bytes


class Presence:
    """The states of one document's connections. `on_change` is called whenever a tick has something to send."""

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self._on_change = on_change
        self._members: dict[Member, dict[int, int]] = {}  # member → what it has missed, as in `_dirty`
        self._states: dict[int, _State] = {}
        self._dirty: dict[int, int] = {}  # client → clock, in order of change, the newest last

    @property
    def is_dirty(self) -> bool:
        """Whether a tick has something to send."""
        return bool(self._dirty)

    @property
    def is_empty(self) -> bool:
        """Whether nobody is here."""
        return not self._members

    # --- coming and going ------------------------------------------------------------------------------------------

    def join(self, member: Member) -> None:
        """Take a connection in and tell it who is here."""
        self._members[member] = {}
        self.tell(member)

    def tell(self, member: Member) -> None:
        """Send all states to `member`."""
        self._send(member, {client: held.clock for client, held in self._states.items()})

    def leave(self, member: Member) -> None:
        """Take a connection away; the others see it go at the next tick."""
        self._members.pop(member, None)
        held = None if member.client is None else self._states.get(member.client)
        if member.client is not None and held is not None and held.member is member:
            self._remove(member.client, held)

    def _remove(self, client: int, held: _State) -> None:
        del self._states[client]
        self._touch(client, held.clock)

    def _touch(self, client: int, clock: int) -> None:
        self._dirty.pop(client, None)
        self._dirty[client] = clock
        self._on_change()

    # --- hearing -----------------------------------------------------------------------------------------------------

    def update(self, member: Member, states: Iterable[AwarenessState]) -> None:
        """Take in what `member` says of itself; what it says of others is dropped, as is what is too large."""
        for state in states:
            if state.clock < MAX_CLOCK and self._is_own(member, state.client):
                self._take(member, state)

    def _is_own(self, member: Member, client: int) -> bool:
        if member.client is None:
            return member.announce(client)
        return member.client == client

    def _take(self, member: Member, new: AwarenessState) -> None:
        held = self._states.get(new.client)
        if held is not None and held.member is not member:  # the same client over a newer connection
            held = None
        if held is not None and new.clock <= held.told:
            return  # an older state, or the same again
        if new.state is None:
            if held is not None:
                self._remove(new.client, held)
            return
        said, shown = _texts(new.state, member.identity)
        if len(shown) <= MAX_STATE_BYTES:
            self._show(member, new, held, said, shown)

    def _show(self, member: Member, new: AwarenessState, held: _State | None, said: bytes, shown: bytes) -> None:
        clock = new.clock if held is not None and said == shown else new.clock + 1
        if held is not None and said == held.text and new.clock <= held.clock:
            held.told = new.clock  # it repeats what it heard of itself, as stock clients do
            return
        if held is not None:
            clock = max(clock, held.clock + 1)
        self._states[new.client] = _State(member, new.clock, clock, shown)
        self._touch(new.client, clock)

    # --- telling -----------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Send the newest states that changed, at most one frame's worth; the rest at the next tick."""
        batch = self._next_batch()
        frames = (self._frame(batch),)
        for member, missed in self._members.items():
            if member.is_behind:
                missed.update(batch)
            else:
                member.deliver(frames)

    def catch_up(self, member: Member) -> None:
        """Send a member what it missed while it was behind."""
        missed = self._members.get(member)
        if missed:
            self._members[member] = {}
            self._send(member, missed)

    def _next_batch(self) -> dict[int, int]:
        waiting = list(self._dirty)
        if len(waiting) > MAX_STATES:
            waiting = waiting[:OLDEST_STATES] + waiting[OLDEST_STATES - MAX_STATES :]
        return {client: self._dirty.pop(client) for client in waiting}

    def _send(self, member: Member, clocks: Mapping[int, int]) -> None:
        rows = list(clocks.items())
        for start in range(0, len(rows), MAX_STATES):
            member.deliver((self._frame(dict(rows[start : start + MAX_STATES])),))

    def _frame(self, clocks: Mapping[int, int]) -> bytes:
        return awareness_frame([self._entry(client, clock) for client, clock in clocks.items()])

    def _entry(self, client: int, clock: int) -> bytes:
        """The newest state of `client`; `clock` is that of its last one when it has none any more."""
        held = self._states.get(client)
        return awareness_entry(client, clock, _GONE) if held is None else awareness_entry(client, held.clock, held.text)


def _texts(state: dict[str, Any], identity: Mapping[str, str]) -> tuple[bytes, bytes]:
    """A state as it was said, and with the server's word on who it is, also where stock applications look for a name.

    What is nested too deeply to be said again comes out larger than allowed.
    """
    stamped = {**state, "actor": identity}
    if isinstance(state.get("user"), dict):
        stamped["user"] = {**state["user"], "name": identity["name"]}
    try:
        return awareness_text(state), awareness_text(stamped)
    except RecursionError:
        return b"", bytes(MAX_STATE_BYTES + 1)

"""How fast connections may send: frames, bytes and ops per second, counted in a sliding window (G2).

Rule 1: nothing is thrown away. Who is too fast is read more slowly: its frames wait in its own socket.
Rule 2: a connection and an actor have limits of their own. What an address, a space or a tenant may do is shared by
        the actors there: above the limit, those wait who use more than their equal share of it, and nobody else.
Rule 3: who is held at its own limits for half of 20 s is a flood, and no longer somebody in a hurry.

The window slides as two slices of a second: this one, and the one before it by the part that still lies in the window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

MAX_PAUSE = 2.0  # seconds: by then the window is empty
FLOOD_SECONDS = 20.0  # who would send less than twice what is allowed is never held for half of it


@dataclass(frozen=True, slots=True)
class Pace:
    """The most per second."""

    frames: float
    bytes: float
    ops: float

    def shared(self, among: int) -> Pace:
        """The equal share of each of so many."""
        return Pace(self.frames / among, self.bytes / among, self.ops / among)


class Meter:
    """What came in a window of one second. `members` counts the connections of each actor who shares it."""

    __slots__ = ("_bytes", "_frames", "_old_bytes", "_old_frames", "_old_ops", "_ops", "_slot", "members", "pace")

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.members: Counter[str] = Counter()
        self._slot = 0
        self._frames = self._bytes = self._ops = 0
        self._old_frames = self._old_bytes = self._old_ops = 0

    def take(self, slot: int, rest: float, size: int, op: bool) -> bool:
        """Count a frame; whether that is more than allowed. `slot`: the second; `rest`: the part of it to come."""
        if slot != self._slot:
            self._turn(slot)
        self._frames += 1
        self._bytes += size
        self._ops += op
        pace = self.pace
        return (
            self._frames + self._old_frames * rest > pace.frames
            or self._bytes + self._old_bytes * rest > pace.bytes
            or self._ops + self._old_ops * rest > pace.ops
        )

    def excess(self, rest: float, pace: Pace) -> float:
        """How much more than `pace` came, as a part of it: 1.0 for twice as much, 0.0 and less for within."""
        return max(
            (self._frames + self._old_frames * rest) / pace.frames,
            (self._bytes + self._old_bytes * rest) / pace.bytes,
            (self._ops + self._old_ops * rest) / pace.ops,
        ) - 1.0  # fmt: skip

    def _turn(self, slot: int) -> None:
        if slot == self._slot + 1:
            self._old_frames, self._old_bytes, self._old_ops = self._frames, self._bytes, self._ops
        else:
            self._old_frames = self._old_bytes = self._old_ops = 0
        self._frames = self._bytes = self._ops = 0
        self._slot = slot


class Pacer:
    """One connection's way of being read: over its own meter, its actor's, and those that the actor shares."""

    __slots__ = ("_actor", "_held", "_own", "_shared", "_since", "is_flood")

    def __init__(self, pace: Pace, actor: Meter, shared: Sequence[Meter]) -> None:
        self.is_flood = False
        """Whether it was held at its own limits for half of FLOOD_SECONDS."""
        self._own = Meter(pace)
        self._actor = actor
        self._shared = tuple(shared)
        self._since = 0.0
        self._held = 0.0

    def take(self, now: float, size: int, op: bool) -> float:
        """Count a frame that came at `now`, in seconds; for how many seconds nothing more shall be read."""
        slot = int(now)
        rest = slot + 1 - now
        own = self._own.take(slot, rest, size, op) | self._actor.take(slot, rest, size, op)
        crowded = False
        for meter in self._shared:
            crowded |= meter.take(slot, rest, size, op)
        if not (own or crowded):
            return 0.0
        pause = self._own_pause(rest)
        self._mind_flood(now, pause)
        if crowded:
            pause = max(pause, self._shared_pause(rest))
        return min(pause, MAX_PAUSE)

    def _own_pause(self, rest: float) -> float:
        """As long as it takes, at the pace, to make up for what was too much."""
        own, actor = self._own, self._actor
        return max(0.0, own.excess(rest, own.pace), actor.excess(rest, actor.pace))

    def _shared_pause(self, rest: float) -> float:
        pauses = [
            self._actor.excess(rest, meter.pace.shared(max(1, len(meter.members))))
            for meter in self._shared
            if meter.excess(rest, meter.pace) > 0.0
        ]
        return max(pauses, default=0.0)

    def _mind_flood(self, now: float, pause: float) -> None:
        if now - self._since > FLOOD_SECONDS:
            self._since, self._held = now, 0.0
        self._held += min(pause, MAX_PAUSE)
        self.is_flood = self._held > FLOOD_SECONDS / 2

"""Whose turn it is: the event loop's time, shared among those who want more of it than there is (G2).

Rule 1: what counts is time. Each piece of work is charged with how long it took to its actor, address and tenant.
Rule 2: while the loop is contended, who used more than an equal share in the last second is over, and waits in line
        while there are others who need little; all others go on at once. Shares are those of tenants, within them of
        addresses, within those of actors; what somebody leaves of a share is divided among the rest.
Rule 3: of those in line one works at a time, for a slice: next is the tenant that used least, in it the address, in
        that the actor, whose connections take turns.
Rule 4: while others are at work too, those in line pause between their turns, the longer the later the loop is. Alone
        they have all of the time.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable
from time import perf_counter, thread_time
from weakref import WeakValueDictionary

MOST = 0.4  # of the time may be used before anybody has to wait: what is not measured takes about as much
LEAST = 0.1  # of the time, where the loop is always late: a thousand who come back after a restart take 10 s then
BEAT_SECONDS = 0.05  # between two looks at how late the loop is
LATE_SECONDS = 0.005  # that nobody feels
SHRINK, GROW = 0.6, 0.01  # what may be used, after a late beat and after one in time: one in ten may be late
SEAT = "maquette.seat"
"""The key in a connection's scope of its Seat."""
LIGHT = 0.01  # of the time: who needs no more never waits. A person who types and points takes 0.002 to 0.004
SLICE = 0.001  # seconds of work between two looks at who else is there
SHARE_WORK = 0.01  # seconds, after which shares are divided anew; a beat does that too
MAX_REST = 0.2  # seconds: one large piece of work must not keep all others in line from working
IDLE = 1e-4  # who used less in the last second is forgotten


class Party:
    """A tenant, an address there, or an actor there, and what it used in the last second, which fades away."""

    __slots__ = ("__weakref__", "_at", "_used", "active", "level", "line", "parent", "waiting")

    def __init__(self, parent: Party | None) -> None:
        self.parent = parent
        self.active: set[Party] = set()
        """Those within it who have worked lately."""
        self.waiting: set[Party] = set()
        """Those within it with somebody in line."""
        self.line: deque[asyncio.Future[None]] = deque()
        self.level = math.inf
        """What each within it may use."""
        self._used = 0.0
        self._at = 0.0

    def used(self, now: float) -> float:
        """Seconds of work in the second before `now`."""
        return self._used * math.exp(self._at - now)

    def charge(self, seconds: float, now: float) -> None:
        """Count work that ended at `now`, here and in all that it is within."""
        self._used = self.used(now) + seconds
        self._at = now
        if self.parent is not None:
            self.parent.active.add(self)
            self.parent.charge(seconds, now)

    def divide(self, time: float, now: float) -> None:
        """Give those within it equal shares of `time`, a part of each second; who needs less leaves it to the rest."""
        used = {child: child.used(now) for child in self.active}
        self.active = {child for child, seconds in used.items() if seconds > IDLE}
        self.level = _level(used.values(), time)
        for child, seconds in used.items():
            if child.active:
                child.divide(self.level if seconds > self.level else math.inf, now)

    def is_over(self, now: float) -> bool:
        """Whether it has to wait: it used more than its share, or others of it wait already, who came before.

        Shares of what is within a party are finite only when the party itself used more than its own.
        """
        used = self.used(now)
        return used > LIGHT and (bool(self.line) or (self.parent is not None and used > self.parent.level))

    def is_light(self, now: float) -> bool:
        """Whether it leaves at least half of its share to others: who works as much as all there are is no flood's
        victim, and a crowd of equals gains nothing by waiting for one another."""
        used = self.used(now)
        return used <= LIGHT or self.parent is None or used <= self.parent.level / 2

    # --- the line ----------------------------------------------------------------------------------------------------

    def queue(self, turn: asyncio.Future[None]) -> None:
        """Stand in line."""
        self.line.append(turn)
        party = self
        while party.parent is not None:
            party.parent.waiting.add(party)
            party = party.parent

    def next(self, now: float) -> asyncio.Future[None]:
        """Take out whose turn it is; somebody waits."""
        if not self.waiting:
            return self.line.popleft()
        child = min(self.waiting, key=lambda one: one.used(now))
        turn = child.next(now)
        if not (child.waiting or child.line):
            self.waiting.discard(child)
        return turn


def _level(used: Iterable[float], time: float) -> float:
    """The share that each may have at most for all to fit into `time`; infinite when they do."""
    rest = sorted(used)
    for number, seconds in enumerate(rest):
        share = time / (len(rest) - number)
        if seconds > share:
            return share
        time -= seconds
    return math.inf


class Turns:
    """Shares one event loop. `clock` and `work`, of this thread, are in seconds; `later` calls back after so many.

    `work` is time on the processor: what others on the machine take is nobody's fault here."""

    def __init__(
        self,
        clock: Callable[[], float] = perf_counter,
        work: Callable[[], float] = thread_time,
        later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self.clock = clock
        self.work = work
        self.waiting = 0
        """How many are in line."""
        self._later = later or _later
        self._all = Party(None)
        self._parties: WeakValueDictionary[tuple[str, ...], Party] = WeakValueDictionary()
        self.room = MOST
        """The part of the time that may be used: less where the loop is late."""
        self._undivided = 0.0  # seconds of work since shares were divided
        self._due = 0.0  # when the next beat is; 0.0 when none is
        self._free = 0.0  # when the next in line may work
        self._light: tuple[Party | None, float] = (None, -math.inf)  # who worked last without waiting, and when
        self._other = -math.inf  # when somebody else did
        self._serving = False

    def party(self, *names: str) -> Party:
        """The tenant, address and actor of these names, or the first of them; the same while anybody holds it."""
        if not names:
            return self._all
        party = self._parties.get(names)
        if party is None:
            party = self._parties[names] = Party(self.party(*names[:-1]))
        return party

    def charge(self, party: Party, seconds: float) -> None:
        """Count work that has just ended."""
        now = self.clock()
        party.charge(seconds, now)
        self._undivided += seconds
        if self._undivided > SHARE_WORK:
            self._divide(now)
        if not self._due:
            self._beat_soon(now)
        if party.is_light(now):
            self._see(party, now)
        elif party.is_over(now) and self._has_company(party, now):
            self._free = min(max(self._free, now) + seconds / self.room, now + MAX_REST)

    def _see(self, party: Party, now: float) -> None:
        last, when = self._light
        if last is not party:
            self._other = when
        self._light = (party, now)

    def _has_company(self, party: Party, now: float) -> bool:
        """Whether others have worked in the last second who need little."""
        last, when = self._light
        return now - (self._other if last is party else when) < 1.0

    def _divide(self, now: float) -> None:
        self._undivided = 0.0
        self._all.divide(self.room, now)

    def _beat_soon(self, now: float) -> None:
        self._due = now + BEAT_SECONDS
        self._later(BEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        """See how late the loop is, while there is work."""
        now = self.clock()
        late = now - self._due > LATE_SECONDS
        self.room = max(LEAST, self.room * SHRINK) if late else min(MOST, self.room + GROW)
        self._divide(now)
        self._due = 0.0
        if self._all.active or self.waiting:
            self._beat_soon(now)

    def is_over(self, party: Party) -> bool:
        """Whether `party` has to wait for its turn (rule 2)."""
        now = self.clock()
        return party.is_over(now) and self._has_company(party, now)

    def line_up(self, party: Party) -> asyncio.Future[None]:
        """Stand in line; done when it is the caller's turn. Cancel it to leave."""
        turn = asyncio.get_running_loop().create_future()
        party.queue(turn)
        self.waiting += 1
        if not self._serving:
            self._serving = True
            self._later(0.0, self._serve)
        return turn

    def _serve(self) -> None:
        """Let the next work, when it is time."""
        now = self.clock()
        while self.waiting and now >= self._free:
            turn = self._all.next(now)
            self.waiting -= 1
            if not turn.done():
                turn.set_result(None)
                break
        self._serving = self.waiting > 0
        if self._serving:
            self._later(max(0.0, self._free - now), self._serve)


def _later(seconds: float, action: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    if seconds > 0.0:
        loop.call_later(seconds, action)
    else:
        loop.call_soon(action)


class Seat:
    """One connection's part in its party's work."""

    __slots__ = ("_left", "_owed", "_turn", "_turns", "party", "work")

    def __init__(self, turns: Turns, party: Party) -> None:
        self.party = party
        """Who pays."""
        self.work = turns.work
        self._turns = turns
        self._turn: asyncio.Future[None] | None = None
        self._left = 0.0
        self._owed = 0.0

    @property
    def must_wait(self) -> bool:
        """Whether its slice is used up, and its party over."""
        return self._left <= 0.0 and self._turns.is_over(self.party)

    def charge(self, seconds: float) -> None:
        """Count work that has just ended, and what it owes."""
        seconds += self._owed
        self._owed = 0.0
        self._left -= seconds
        self._turns.charge(self.party, seconds)

    def owe(self, seconds: float) -> None:
        """Count work that others will do, when something is charged next."""
        self._owed += seconds

    def line_up(self) -> asyncio.Future[None]:
        """Stand in line; done when it is its turn. Cancel it to leave."""
        self._turn = self._turns.line_up(self.party)
        self._turn.add_done_callback(self._begin)
        return self._turn

    def move(self, party: Party) -> None:
        """From now on `party` pays; where the other one stood in line, it need not stand any more."""
        self.party = party
        if self._turn is not None:
            self._turn.cancel()

    async def turn(self) -> None:
        """Return when it may work: at once, unless its slice is used up; then others are let in first (rule 2)."""
        if self._left > 0.0:
            return
        if self.must_wait:
            await self.line_up()
        else:
            await asyncio.sleep(0)
            self._begin()

    def _begin(self, _: object = None) -> None:
        self._turn = None
        self._left = SLICE

"""Places that are few, and lines before them: one for each party, which take turns.

Rule 1: a place that becomes free goes to the group that had one longest ago, in it to the party that had one longest
        ago, in its line to who came first. Groups are tenants, parties their actors: more jobs bring them nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

_Line = deque[asyncio.Future[None]]


class Lanes:
    """At most `places` at once. Use it on one event loop."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._groups: OrderedDict[str, OrderedDict[str, _Line]] = OrderedDict()

    @asynccontextmanager
    async def place(self, group: str, party: str) -> AsyncGenerator[None, None]:
        """Wait for a place, and have it for the block."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(group, party)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, group: str, party: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._groups.setdefault(group, OrderedDict()).setdefault(party, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # it was given a place, and does not want it any more
            raise

    def _pass_on(self) -> None:
        for group, parties in tuple(self._groups.items()):
            for party, line in tuple(parties.items()):
                while line:
                    turn = line.popleft()
                    if not turn.done():
                        self._served(group, party)
                        turn.set_result(None)
                        return
                del parties[party]
            del self._groups[group]
        self._free += 1

    def _served(self, group: str, party: str) -> None:
        parties = self._groups[group]
        self._groups.move_to_end(group)
        parties.move_to_end(party)
        if not parties[party]:
            del parties[party]
        if not parties:
            del self._groups[group]

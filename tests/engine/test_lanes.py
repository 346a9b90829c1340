"""Lines before few places: who brings more waits longer, and keeps nobody else (G2)."""

from __future__ import annotations

import asyncio

from maquette.engine.lanes import Lanes


class Told:
    """Jobs that write down their names when they get a place, and go on when told."""

    def __init__(self, places: int) -> None:
        self.lanes = Lanes(places)
        self.began: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.jobs: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, group: str, party: str) -> None:
        self.ends[name] = asyncio.Event()
        self.jobs[name] = asyncio.ensure_future(self._work(name, group, party))
        await asyncio.sleep(0)

    async def _work(self, name: str, group: str, party: str) -> None:
        async with self.lanes.place(group, party):
            self.began.append(name)
            await self.ends[name].wait()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await self.jobs[name]
        for _ in range(3):
            await asyncio.sleep(0)


async def test_g2_a_tenant_with_many_jobs_keeps_another_waiting_for_one_of_them_at_most() -> None:
    told = Told(1)
    for number in range(5):
        await told.come(f"beta{number}", "beta", f"actor{number}")
    await told.come("dev", "dev", "ann")
    await told.end("beta0")
    assert told.began == ["beta0", "beta1"]  # who came first; from now on they take turns
    await told.end("beta1")
    assert told.began[2] == "dev"


async def test_g2_actors_of_a_tenant_take_turns() -> None:
    told = Told(1)
    for number in range(4):
        await told.come(f"eve{number}", "t", "eve")
    await told.come("ann", "t", "ann")
    await told.end("eve0")
    await told.end("eve1")
    assert told.began == ["eve0", "eve1", "ann"]


async def test_who_gives_up_waiting_leaves_its_place_to_the_next() -> None:
    told = Told(1)
    for name in ("one", "two", "three"):
        await told.come(name, "t", name)
    told.jobs["two"].cancel()
    await asyncio.sleep(0)
    await told.end("one")
    assert told.began == ["one", "three"]
    await told.end("three")
    await told.come("four", "t", "four")
    assert told.began[-1] == "four"

"""What large documents cost everybody else: python benchmarks/opening.py

One engine on a log in a temporary folder. For each thing that is large (opening a scene from its snapshot, opening a
text whose snapshots are gone, evicting, an offline diff of many nodes, of many characters, a rewrite) it prints how
long it took and the longest time for which the event loop answered nobody else. Ratios hold from machine to machine,
times do not.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pycrdt import Doc, Map, Text

from maquette.engine.engine import Engine
from maquette.engine.events import Actor
from maquette.engine.receipts import Receipt
from maquette.engine.roles import Role
from maquette.engine.space import Space

ADA = Actor("ada")
BATCH = 100  # nodes of an op, as an import makes them


async def watched(name: str, work: Callable[[], Awaitable[Any]]) -> Any:
    """Run `work` beside a ticker and print what it cost."""
    gaps: list[float] = []

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    ticker = asyncio.ensure_future(tick())
    await asyncio.sleep(0.05)
    gaps.clear()
    begun = time.perf_counter()
    result = await work()
    took = time.perf_counter() - begun
    await asyncio.sleep(0.02)
    ticker.cancel()
    print(f"{name:<58} {took:8.2f} s   longest stall {max(gaps) * 1e3:7.0f} ms", flush=True)
    return result


def node(number: int) -> Map[Any]:
    return Map(
        {
            "name": f"Chair {number}",
            "type": "mesh",
            "place": [None, f"a{number:06d}1"],
            "translation": [1.5, 2.5, float(number)],
            "rotation": [0.0, 0.0, 0.0, 1.0],
            "scale": [1.0, 1.0, 1.0],
            "visible": True,
            "locked": False,
        }
    )


async def fill_scene(space: Space, nodes: int) -> None:
    for first in range(0, nodes, BATCH):

        def add(doc: Doc[Any], first: int = first) -> None:
            root = doc.get("nodes", type=Map)
            for number in range(first, min(first + BATCH, nodes)):
                root[f"n{number:09d}"] = node(number)

        await space.write("scene", ADA, Role.OWNER, add)


async def fill_text(space: Space, events: int) -> None:
    """One event for each character typed, by a peer that is far ahead of the disk."""
    document = await space.open("text:notes", create_as=ADA)
    peer: Doc[Any] = Doc(client_id=77)
    text = peer.get("t", type=Text)
    receipt = Receipt()
    peer.observe(lambda event: made.append(event.update))
    made: list[bytes] = []
    for number in range(events):
        text.insert(number % 500 * (number // 500), "abcdefghij"[number % 10])
        receipt = document.submit(ADA, lambda: Role.EDITOR, made.pop(), 77)
        if number % 500 == 499:
            await receipt.wait()
    await receipt.wait()


def offline_scene(nodes: int) -> bytes:
    doc: Doc[Any] = Doc(client_id=88)
    root = doc.get("nodes", type=Map)
    with doc.transaction():
        for number in range(nodes):
            root[f"o{number:09d}"] = node(number)
    return doc.get_update()


def offline_text(characters: int) -> bytes:
    """Typed here and there, so that nothing joins to runs."""
    doc: Doc[Any] = Doc(client_id=99)
    text = doc.get("t", type=Text)
    with doc.transaction():
        for number in range(characters // 4):
            text.insert(number * 2 % 1999 if number else 0, "word")
    return doc.get_update()


async def submit(space: Space, name: str, update: bytes, client: int) -> None:
    document = await space.open(name, create_as=ADA)
    receipt = document.submit(ADA, lambda: Role.OWNER, update, client)
    await receipt.wait()
    assert (receipt.denied, receipt.refused) == (None, ()), (receipt.denied, receipt.refused[:3])


async def main(nodes: int, events: int, characters: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="opening"))
    try:
        async with await Engine.open(folder) as engine:
            space = await engine.create_space("t", "demo", ADA)
            await fill_scene(space, nodes)
            await fill_text(space, events)
            await evict(engine)
            await engine.keeper.settled()
        async with await Engine.open(folder) as engine:
            space = await engine.space("t", "demo")
            await watched(f"open a scene of {nodes} nodes, from its snapshot", lambda: space.open("scene"))
            await watched(f"open a text of {events} events, from its snapshot", lambda: space.open("text:notes"))
        shutil.rmtree(folder / "snapshots")
        async with await Engine.open(folder) as engine:
            space = await engine.space("t", "demo")
            await watched(f"open a scene of {nodes} nodes, without a snapshot", lambda: space.open("scene"))
            await watched(f"open a text of {events} events, without a snapshot", lambda: space.open("text:notes"))
            await watched("evict both", lambda: evict(engine))
            await engine.keeper.settled()
            update = offline_scene(nodes)
            name = f"an offline diff of {nodes} nodes ({len(update) >> 10} KiB)"
            await space.open("scene")
            await watched(name, lambda: submit(space, "scene", update, 88))
            update = offline_text(characters)
            name = f"an offline diff of {characters} characters ({len(update) >> 10} KiB)"
            await watched(name, lambda: submit(space, "text:paper", update, 99))
            await watched(f"rewrite a scene of {2 * nodes} nodes", lambda: space.rewrite("scene", ADA))
            await watched("evict all", lambda: evict(engine))
    finally:
        shutil.rmtree(folder)


async def evict(engine: Engine) -> None:
    engine.evict_idle(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=23_000)
    parser.add_argument("--characters", type=int, default=200_000)
    given = parser.parse_args()
    asyncio.run(main(given.nodes, given.events, given.characters))

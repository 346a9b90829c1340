"""Memory follows the documents that are in use (D7): what evicted ones took goes back to the system."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from maquette.engine import live
from maquette.engine.engine import Engine
from maquette.engine.events import Actor

ADA = Actor("ada")

MANY = """
import asyncio, gc, resource
from pathlib import Path
from pycrdt import Map
from maquette.engine.engine import Engine
from maquette.engine.events import Actor
from maquette.engine.roles import Role
from maquette.engine.trimming import give_back

def taken():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

def fill(doc):
    keys = doc.get("m", type=Map)
    for number in range(800):
        keys[f"k{number}"] = "x" * 200

async def main():
    async with await Engine.open() as engine:
        engine.log.append = forgetful(engine.log.append)
        space = await engine.create_space("t", "demo", Actor("ada"))
        before = taken()
        for number in range(60):
            await space.write(f"text:n{number}", Actor("ada"), Role.EDITOR, fill)
        full = taken()
        kept = [await space.open(f"text:n{number}") for number in range(0, 60, 20)]
        for document in kept:
            document.subscribers.add(object())
        engine.evict_idle(0)
        gc.collect()
        give_back()
        print(before, full, taken(), engine.open_documents)
        for document in kept:
            document.subscribers.clear()

def forgetful(append):
    # the log in memory keeps every update for ever, which is not what is measured
    import dataclasses
    def add(stream, events, expected=None):
        if "/n" in stream or stream.count("/") > 1:
            events = [dataclasses.replace(one, data={**one.data, "update": b""}) for one in events]
        return append(stream, events, expected)
    return add

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps freed memory to itself")
async def test_d7_the_memory_of_evicted_documents_goes_back_to_the_system() -> None:
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", MANY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, full, after, left = map(float, done.stdout.split())
    assert left == 3
    assert full - before > 20
    assert after - before < (full - before) / 2


async def test_d7_an_eviction_has_memory_given_back_soon_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def give_back() -> bool:
        given.append("back")
        loop.call_soon_threadsafe(told.set)
        return True

    monkeypatch.setattr(live, "TRIM_SECONDS", 0.01)
    monkeypatch.setattr(live, "give_back", give_back)
    async with await Engine.open() as engine:
        space = await engine.create_space("t", "demo", ADA)
        for number in range(3):
            await space.open(f"text:n{number}", create_as=ADA)
        assert engine.evict_idle(0) == 3
        await told.wait()
    assert given == ["back"]

"""SIGKILL of the real server while it rewrites a scene and carries over what comes late (D9)."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from tests.crash.kills import HurriedServer, impatient_clients

from maquette.client import RemoteScene
from maquette.engine.engine import Engine
from maquette.engine.kinds.kind import plain

POINTS = [
    "maquette.engine.rewrite:_begin:1:before",
    "maquette.engine.space:Space.begin:1:before",
    "maquette.engine.carrier:Carrier._bring:1:before",
    "maquette.engine.document:Document.carry:3:after",
]


async def edited(scene: RemoteScene, made: set[str], stop: asyncio.Event) -> None:
    """Add nodes until `stop`, ten in each commit or so."""
    while not stop.is_set():
        made.update(scene.add(name="more") for _ in range(10))
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.01)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("point", POINTS)
async def test_d9_a_kill_during_a_rewrite_loses_and_doubles_nothing(tmp_path: Path, point: str) -> None:
    server = HurriedServer(tmp_path / "data")
    await server.start(dies_at=point)
    try:
        with impatient_clients():
            made = await killed(server)
        assert await server.stop() == 0
    finally:
        await server.kill()
    await judged(tmp_path / "data", made)


async def killed(server: HurriedServer) -> set[str]:
    """Rewrite twice beside somebody who edits; the server dies in the first. The nodes that there must be."""
    path = "/v1/spaces/demo/documents/scene/rewrite?name=Ann"
    async with RemoteScene(server.url, "demo", "scene", name="Ann") as ann, httpx.AsyncClient(timeout=20) as http:
        made, stop = {ann.add(name="first")}, asyncio.Event()
        await ann.flush()
        editing = asyncio.ensure_future(edited(ann, made, stop))
        with suppress(httpx.TransportError):
            await http.post(server.url + path)
        await server.ended()
        stop.set()
        await editing
        await server.start()
        assert (await http.post(server.url + path)).status_code == 200
        await ann.flush()
        async with RemoteScene(server.url, "demo", "scene", name="Ben") as ben:
            await shown(ben, made)  # late edits are on disk in the old epoch first, and then carried over
            await shown(ann, made)
            assert ann.nodes() == ben.nodes()
    return made


async def shown(scene: RemoteScene, made: set[str]) -> None:
    """Return when the scene shows the nodes `made`; anything that is missing for good, or too much, is a failure."""
    with suppress(TimeoutError):
        async with asyncio.timeout(30):
            async for _ in scene.changes():
                if scene.nodes().keys() == made:
                    return
    assert scene.nodes().keys() == made


async def judged(folder: Path, made: set[str]) -> None:
    """Each late event was carried over once, and the log replays to what was made."""
    async with await Engine.open(folder) as engine:
        space = await engine.space("dev", "demo")
        record = space.record.documents["scene"]
        for epoch in record.over:
            stream = space.record.document_stream(record, epoch)
            late = [event.id async for page in engine.log.read(stream) for event in page]
            stream = space.record.document_stream(record, epoch + 1)
            events = [event async for page in engine.log.read(stream) for event in page]
            carried = Counter(event.cause for event in events if "carried" in event.data)
            begun = next(event.data["begins"]["from"][1] for event in events if "begins" in event.data)
            assert carried == Counter(late[begun:])
        replica = await engine.replica(space, record, record.current)
        assert plain(replica.shared("nodes")).keys() == made

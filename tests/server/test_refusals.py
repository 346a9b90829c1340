"""Who is refused again and again: read later, then denied, then shut out, over all connections together (G5)."""

from __future__ import annotations

from asyncio import get_running_loop, timeout
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pycrdt
import pytest
from tests.support.peer import Peer, peer
from tests.support.server import LocalServer, local_server
from websockets.exceptions import ConnectionClosed

from maquette.engine.sync import PermissionDenied
from maquette.server.limits import TenantLimits

CHAT = "demo/chat"
MOST = 5  # so that its doors shut after 8 refusals; the first two cost nothing


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with local_server(limits=TenantLimits(refused_per_document=MOST)) as one:
        yield one


async def trip(one: Peer) -> None:
    """Send a message in another's name, and wait for the answer."""
    fields = {"id": f"m{len(one.seen)}", "author": "somebody", "body": "x", "sent": 1, "reactions": pycrdt.Map()}
    await one.edit(lambda: one.doc.get("messages", type=pycrdt.Array).append(pycrdt.Map(fields)))
    await one.expect(PermissionDenied)


async def refusals(server: LocalServer) -> int:
    stream = (await server.engine.space("dev", "demo")).record.stream
    return len(
        [event async for page in server.engine.log.read(f"{stream}/chat@1") for event in page
         if event.type == "document.refused"]
    )  # fmt: skip


async def test_g5_each_refusal_is_read_later_than_the_one_before(server: LocalServer) -> None:
    async with peer(server.url, CHAT, name="Eve") as eve:
        gaps = []
        for _ in range(MOST):
            before = get_running_loop().time()
            await trip(eve)
            gaps.append(get_running_loop().time() - before)
    assert sum(gaps[3:]) > 0.12, gaps  # 50 and 100 ms behind the third and fourth, but for what has leaked
    assert await refusals(server) == MOST


async def test_g5_an_actor_is_shut_out_over_all_its_connections_and_reads_on(server: LocalServer) -> None:
    async with peer(server.url, CHAT, name="Eve") as waiting, peer(server.url, CHAT, name="Ann") as ann:
        for _ in range(9):
            async with peer(server.url, CHAT, name="Eve") as eve:
                with suppress(ConnectionClosed):  # the last is closed at once
                    await trip(eve)
        async with timeout(20), peer(server.url, CHAT, name="Eve") as late:
            told = next(message for message in late.seen if isinstance(message, PermissionDenied))
            assert "this actor only reads here for" in told.reason
            await ann.edit(lambda: ann.doc.get("messages", type=pycrdt.Array).append(message_of(server)))
            await late.until(lambda: len(late.doc.get("messages", type=pycrdt.Array)) == 1)
            for one in (late, waiting):
                await one.edit(lambda to=one: to.doc.get("messages", type=pycrdt.Array).append("x"))  # type: ignore[misc]
                code, reason = await one.end()
                assert (code, "only reads here" in reason) == (4403, True)
        assert ann.socket.close_code is None
    assert await refusals(server) == MOST


def message_of(server: LocalServer) -> pycrdt.Map[object]:
    [author] = {one.session.actor.id for one in server.hub.connections if one.session.name == "Ann"}
    return pycrdt.Map({"id": "good", "author": author, "body": "x", "sent": 1, "reactions": pycrdt.Map()})


async def test_g5_refusals_over_http_count_with_those_of_connections(server: LocalServer) -> None:
    async with peer(server.url, CHAT, name="Ann"):
        pass
    headers = {"Authorization": f"Bearer {server.token('eve', 'viewer')}"}
    async with httpx.AsyncClient(base_url=f"{server.url}/v1/spaces/demo", headers=headers) as http:
        details = []
        for _ in range(10):
            response = await http.post("/chat/messages", json={"body": "x"})
            assert response.status_code == 403
            details.append(response.json()["detail"])
    assert ["only reads here" in detail for detail in details] == [False] * 8 + [True] * 2
    assert await refusals(server) == 0

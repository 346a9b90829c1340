"""One connection and what the server decides about it while it is open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from tests.support.peer import Peer, peer
from tests.support.server import LocalServer, local_server

from maquette.engine.roles import Role
from maquette.engine.sync import AwarenessUpdate, PermissionDenied

NOTES = "demo/text:notes"


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with local_server() as one:
        yield one


def sees(one: Peer, client: int, cursor: int | None) -> bool:
    """Whether `one` was shown `client` at `cursor`, or gone with None."""
    states = [state for message in one.seen if isinstance(message, AwarenessUpdate) for state in message.states]
    return any(
        state.client == client and (None if state.state is None else state.state.get("cursor", 0)) == cursor
        for state in states
    )


async def test_g3_a_downgrade_counts_for_the_next_op_of_an_open_connection(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Ben") as ben:
        await ann.write("a")
        await ben.until_text("a")
        [connection] = (one for one in server.hub.connections if one.session.name == "Ann")
        connection.session = replace(connection.session, roles={"*": Role.VIEWER})
        await ann.write("b")
        assert "got viewer" in (await ann.expect(PermissionDenied)).reason
        await ben.write("c")
        await ann.until(lambda: "c" in str(ann.text))
        async with peer(server.url, NOTES, name="Cat") as cat:
            assert str(cat.text) == "ac"


async def test_p1_who_comes_moves_and_leaves_is_not_logged(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ben") as ben:
        async with peer(server.url, NOTES, name="Ann"):
            pass  # her name is recorded once
        before = await server.engine.log.head()
        async with peer(server.url, NOTES, name="Ann") as ann:
            for cursor in (1, 2):
                await ann.announce(cursor, cursor=cursor)
                await ben.until(lambda at=cursor: sees(ben, ann.doc.client_id, at))  # type: ignore[misc]
        await ben.until(lambda: sees(ben, ann.doc.client_id, None))
        await server.engine.settle()
        assert await server.engine.log.head() == before

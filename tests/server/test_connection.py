"""One connection and what the server decides about it while it is open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from tests.support.peer import Peer, peer
from tests.support.server import LocalServer, local_server

from maquette.engine.document import Document
from maquette.engine.roles import Role
from maquette.engine.sync import AwarenessState, AwarenessUpdate, PermissionDenied, SyncStep1
from maquette.engine.trials import DIRECT_BYTES
from maquette.engine.waiting import Submission
from maquette.engine.workers import MAX_WORKERS
from maquette.server.presence import MAX_STATES, TICK_SECONDS

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


async def test_p2_a_connection_cannot_speak_under_anothers_client(server: LocalServer) -> None:
    async with (
        peer(server.url, NOTES, name="Ben") as ben,
        peer(server.url, NOTES, name="Ann") as ann,
        peer(server.url, NOTES, name="Eve", sync=False) as eve,
    ):
        await ben.until(lambda: sees(ben, ann.doc.client_id, 0))
        await eve.send(AwarenessUpdate((AwarenessState(ann.doc.client_id, 9, {"cursor": 9}),)))
        await eve.announce(0, cursor=1)  # handled behind it
        await ben.until(lambda: sees(ben, eve.doc.client_id, 1) or sees(ben, ann.doc.client_id, 9))
        assert not sees(ben, ann.doc.client_id, 9)


def test_p3_presence_is_sent_ten_to_twenty_times_a_second() -> None:
    assert 10 <= 1 / TICK_SECONDS <= 20


async def test_p3_what_one_frame_does_not_take_follows_by_itself(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as here:
        crowd = [await here.enter_async_context(peer(server.url, NOTES)) for _ in range(MAX_STATES + 5)]
        monkeypatch.setattr(
            "maquette.server.sync.TICK_SECONDS", 0.3
        )  # long enough for all of them to come within one tick
        await asyncio.gather(*(one.announce(1, cursor=1) for one in crowd))
        watcher = crowd[0]
        async with asyncio.timeout(10):
            await watcher.until(lambda: all(sees(watcher, one.doc.client_id, 1) for one in crowd))


async def test_g2_what_comes_behind_a_large_update_waits_for_it_and_nothing_is_asked_for(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Ben") as ben:
        asked = sum(isinstance(message, SyncStep1) for message in ann.seen)
        await ann.write("x" * 3 * DIRECT_BYTES)
        for word in ("one", "two", "three"):
            await ann.write(word)
        await ben.until(lambda: "three" in str(ben.text))
        assert len(str(ben.text)) == 3 * DIRECT_BYTES + len("onetwothree")
        assert sum(isinstance(message, SyncStep1) for message in ann.seen) == asked
        assert not any(isinstance(message, PermissionDenied) for message in ann.seen)


async def test_g5_a_large_update_that_is_denied_is_told_before_anything_behind_it_is_read(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann:
        [connection] = server.hub.connections
        connection.session = replace(connection.session, roles={"*": Role.VIEWER})
        await ann.write("x" * 3 * DIRECT_BYTES)
        assert "got viewer" in (await ann.expect(PermissionDenied)).reason


async def test_g4_a_large_update_in_line_goes_with_its_connection(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = server.engine.workers
    async with AsyncExitStack() as places:
        for number in range(MAX_WORKERS):
            await places.enter_async_context(workers._lanes.place("others", f"{number}"))
        async with peer(server.url, NOTES, name="Ann") as ann:
            [document] = server.engine._live
            take, taken = document.intake.take, asyncio.Event()

            def take_and_tell(document: Document, op: Submission) -> None:
                take(document, op)
                taken.set()

            monkeypatch.setattr(document.intake, "take", take_and_tell)
            await ann.write("x" * 3 * DIRECT_BYTES)
            async with asyncio.timeout(10):
                await taken.wait()
        await document.intake.tried(10)
        assert not document.intake.is_busy
    assert (workers.started, document.replica.revision) == (0, 0)

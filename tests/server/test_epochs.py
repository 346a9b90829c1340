"""Epochs on the wire: stale clients are told where to go, late ones are heard, new ones are sent on (D9)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pycrdt
import pytest
from tests.server.test_stock_clients import BODIES, CUBE, ME, POST
from tests.support.peer import peer
from tests.support.server import LocalServer, local_server
from tests.support.tabs import Tab, browser
from websockets.exceptions import ConnectionClosed

from maquette.engine.events import Actor, Event
from maquette.engine.kinds.kind import plain
from maquette.engine.space import Space
from maquette.engine.sync import Named, Stored, SyncStep1, SyncUpdate, write_frame

OWNER = Actor("owner")
CLOSED = "return [tab.closed, provider.shouldConnect]"
NAMES = "Object.fromEntries([...doc.getMap('nodes')].map(([id, node]) => [id, node.get('name')]))"


async def demo(server: LocalServer) -> Space:
    return await server.engine.space("dev", "demo")


async def shown(space: Space) -> dict[str, Any]:
    """The nodes of the scene, by id."""
    nodes: dict[str, Any] = plain((await space.open("scene")).replica.shared("nodes"))
    return nodes


async def events_of(space: Space, name: str, epoch: int) -> list[Event]:
    stream = space.record.document_stream(space.record.documents[name], epoch)
    return [event async for page in space.engine.log.read(stream) for event in page]


async def one_cube(server: LocalServer, tab: Tab) -> Space:
    """A scene with a cube of the tab's; then the tab is away and the scene is rewritten."""
    await tab.wait("provider.synced")
    await tab.run(CUBE % "cube1")
    space = await demo(server)
    async with peer(server.url, "demo/scene", name="Ben") as ben:
        await ben.until(lambda: "cube1" in ben.doc.get("nodes", type=pycrdt.Map))
    await tab.run("provider.disconnect()")
    await space.rewrite("scene", OWNER)
    return space


async def come_back(tab: Tab, document: str) -> None:
    """Connect the same replica to `document`, as an application does that was told 4409."""
    await tab.run(f"provider.roomname = {document!r}; tab.closed = null; provider.connect()")
    await tab.wait("tab.closed")


async def test_d9_a_stale_stock_client_is_told_4409_and_doubles_nothing() -> None:
    async with local_server() as server, browser() as node:
        ann = await node.open(server.url, "demo/scene", tab="ann", name="Ann")
        space = await one_cube(server, ann)
        before, head = await shown(space), await server.engine.log.head()
        await ann.run(CUBE % "cube2" + "doc.getMap('nodes').get('cube1').set('name', 'late')")
        await ann.run("provider.connect()")
        await ann.wait("tab.closed")
        assert await ann.run(CLOSED) == [{"code": 4409, "reason": "scene@2"}, False]
        assert await shown(space) == before
        assert await server.engine.log.head() == head
        assert not server.hub.connections


async def test_d9_a_stock_client_brings_late_edits_to_the_old_name_and_goes_on_in_the_new_epoch() -> None:
    async with local_server() as server, browser() as node:
        ann = await node.open(server.url, "demo/scene", tab="ann", name="Ann")
        ben = await node.open(server.url, "demo/scene", tab="ben", name="Ben")
        space = await one_cube(server, ann)
        await ben.wait("tab.closed")  # connected all the time, with nothing to bring
        assert await ben.run(CLOSED) == [{"code": 4409, "reason": "scene@2"}, False]
        await ann.run(CUBE % "cube2" + "doc.getMap('nodes').get('cube1').set('name', 'late')")
        await come_back(ann, "demo/scene")
        await come_back(ann, "demo/scene@1")
        assert await ann.run(CLOSED) == [{"code": 4409, "reason": "scene@2"}, False]
        again = await node.open(server.url, "demo/scene", tab="again", name="Ann")
        await again.wait("provider.synced")
        assert await again.run(f"return {NAMES}") == {"cube1": "late", "cube2": "cube"}
        carried = [event for event in await events_of(space, "scene", 2) if "carried" in event.data]
        assert [event.actor.kind for event in carried] == ["person"]
        await come_back(ann, "demo/scene@1")  # once more, which brings nothing new
        assert len(await events_of(space, "scene", 2)) == 1 + len(carried) + 1


async def test_d9_a_stock_client_that_connects_by_the_epochs_name_needs_no_second_try() -> None:
    async with local_server() as server, browser() as node:
        ann = await node.open(server.url, "demo/scene@1", tab="ann", name="Ann")
        space = await one_cube(server, ann)
        await ann.run(CUBE % "cube2" + "provider.connect()")
        await ann.wait("tab.closed")
        assert await ann.run(CLOSED) == [{"code": 4409, "reason": "scene@2"}, False]
        assert (await shown(space)).keys() == {"cube1", "cube2"}


async def test_d9_a_stock_client_that_edits_while_the_scene_is_rewritten_loses_nothing() -> None:
    async with local_server() as server, browser() as node:
        ann = await node.open(server.url, "demo/scene", tab="ann", name="Ann")
        await ann.wait("provider.synced")
        await ann.run(CUBE % "cube")
        await ann.run(
            f"tab.made = 0; tab.timer = setInterval(() => {{ const id = 'n' + ++tab.made;{CUBE % 'X'} }}, 5)".replace(
                "'X'", "id"
            )
        )
        await ann.wait("tab.made > 20")
        space = await demo(server)
        await space.rewrite("scene", OWNER)
        await ann.wait("tab.closed")
        await ann.run("clearInterval(tab.timer)")
        await come_back(ann, "demo/scene@1")
        made = await ann.run("return tab.made")
        assert (await shown(space)).keys() == {"cube", *(f"n{number}" for number in range(1, made + 1))}


async def test_d9_an_old_epoch_takes_no_new_joiner() -> None:
    async with local_server() as server, browser() as node:
        ann = await node.open(server.url, "demo/scene", tab="ann", name="Ann")
        space = await one_cube(server, ann)
        new = await node.open(server.url, "demo/scene@1", tab="new", name="New")
        await new.run(CUBE % "foreign")
        await new.wait("tab.closed")
        assert await new.run(CLOSED) == [{"code": 4409, "reason": "scene@2"}, False]
        assert (await shown(space)).keys() == {"cube1"}
        assert len(await events_of(space, "scene", 1)) == 1


async def test_d9_a_client_of_the_new_epoch_does_not_get_into_the_old_one() -> None:
    async with local_server() as server, browser() as node:
        ann = await node.open(server.url, "demo/scene", tab="ann", name="Ann")
        space = await one_cube(server, ann)
        new = await node.open(server.url, "demo/scene", tab="new", name="New")
        await new.wait("provider.synced")
        await new.run("provider.disconnect(); doc.getMap('nodes').get('cube1').set('name', 'mine')")
        await come_back(new, "demo/scene@1")
        assert await new.run(CLOSED) == [{"code": 4409, "reason": "scene@2"}, False]
        assert len(await events_of(space, "scene", 1)) == 1
        await new.run("provider.roomname = 'demo/scene'; tab.closed = null; provider.connect()")
        await new.wait("provider.synced")
        assert (await shown(space))["cube1"]["name"] == "mine"


async def test_d9_who_asks_for_acknowledgements_is_told_the_epoch_and_that_late_edits_are_stored() -> None:
    async with local_server() as server, browser() as node:
        ann = await node.open(server.url, "demo/scene", tab="ann", name="Ann")
        async with peer(server.url, "demo/scene", name="Ben", acks="1") as ben:
            await ben.until(lambda: any(isinstance(one, Named) for one in ben.seen))
            assert Named("scene@1") in ben.seen
            await ann.wait("provider.synced")
            await ann.run(CUBE % "cube1")
            await ben.until(lambda: "cube1" in ben.doc.get("nodes", type=pycrdt.Map))
        await (await demo(server)).rewrite("scene", OWNER)
        ben.doc.get("nodes", type=pycrdt.Map)["cube1"]["name"] = "late"
        async with peer(server.url, "demo/scene@1", name="Ben", acks="1", doc=ben.doc) as late:
            assert await late.end() == (4409, "scene@2")
            assert [message.frames for message in late.seen if isinstance(message, Stored)] == [1]


async def test_d9_an_update_before_the_greeting_is_not_taken_behind_the_first_epoch() -> None:
    async with local_server() as server, browser() as node:
        ann = await node.open(server.url, "demo/scene", tab="ann", name="Ann")
        space = await one_cube(server, ann)
        head = await server.engine.log.head()
        async with peer(server.url, "demo/scene", name="Ben", sync=False) as ben:
            await ben.socket.send(write_frame(SyncUpdate(b"\x00\x00")))
            code, reason = await ben.end()
        assert (code, "sync step 1 first" in reason) == (4400, True)
        assert await server.engine.log.head() == head
        assert (await shown(space)).keys() == {"cube1"}


async def test_d9_who_does_not_bring_what_it_has_is_told_to_go_on_after_a_while() -> None:
    async with local_server() as server, browser() as node:
        server.hub.leave_seconds = 0.05
        ann = await node.open(server.url, "demo/scene", tab="ann", name="Ann")
        async with peer(server.url, "demo/scene", name="Ben", sync=False) as silent:
            await silent.send(SyncStep1(silent.doc.get_state()))
            await ann.wait("provider.synced")
            await ann.run(CUBE % "cube1")
            async with peer(server.url, "demo/scene", name="Cy") as other:
                await other.until(lambda: "cube1" in other.doc.get("nodes", type=pycrdt.Map))
            await (await demo(server)).rewrite("scene", OWNER)
            with suppress(ConnectionClosed):
                async for _ in silent.socket:  # reads, and answers nothing
                    pass
            assert (silent.socket.close_code, silent.socket.close_reason) == (4409, "scene@2")


@pytest.mark.parametrize("document", ["demo/chat", "demo/chat@1"])
async def test_d9_late_posts_edits_and_reactions_reach_an_older_page_of_the_chat(document: str) -> None:
    async with local_server() as server, browser() as node:
        ann = await node.open(server.url, document, tab="ann", name="Ann")
        await ann.wait(f"provider.synced && {ME}")
        await ann.run(POST % ("m1", "hello"))
        await ann.wait("doc.getArray('messages').get(0).get('stamp')")
        await ann.run("tab.me = awareness.getLocalState().actor.id; provider.disconnect()")
        space = await demo(server)
        found = await space.resolve("chat")
        await space.turn_page(found.record, 1, await space.open_resolved(found))
        await ann.run(
            "const one = doc.getArray('messages').get(0);"
            "doc.transact(() => { one.set('body', 'hello again'); one.set('edited', Date.now()) });"
            "one.get('reactions').set('👍\\u001f' + tab.me, true)"
        )
        await ann.run((POST % ("m2", "late")).replace("awareness.getLocalState().actor.id", "tab.me"))
        if document == "demo/chat":
            await ann.run("provider.connect()")
            await ann.wait("tab.closed")
            assert await ann.run(CLOSED) == [{"code": 4409, "reason": "chat@2"}, False]
        await ann.run("provider.roomname = 'demo/chat@1'; provider.connect()")
        await ann.wait(f"{BODIES}.length === 2 && doc.getArray('messages').get(1).get('stamp')")
        changes = [change for event in await events_of(space, "chat", 1) for change in event.data["changes"]]
        assert [change["type"] for change in changes[:1]] == ["message.posted"]
        assert {change["type"] for change in changes[1:]} == {"message.edited", "reaction.added", "message.posted"}
        page = await space.open("chat@1")
        assert [message["body"] for message in plain(page.replica.shared("messages"))] == ["hello again", "late"]
        await asyncio.wait_for(page.drained(), 5)

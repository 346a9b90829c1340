"""Stock y-websocket 3 with yjs 13 in Node against a real server."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from tests.support.rules import ROOT
from tests.support.server import ServerProcess, local_server
from tests.support.tabs import Tab, browser

from maquette.client import RemoteChat
from maquette.engine.engine import Engine
from maquette.engine.update import read_update

ME = "awareness.getLocalState().actor"
POST = """
const message = new Y.Map(Object.entries({
  id: %r, author: awareness.getLocalState().actor.id, body: %r, sent: Date.now(), reactions: new Y.Map(),
}))
doc.getArray('messages').push([message])
"""
CUBE = """
doc.getMap('nodes').set(%r, new Y.Map(Object.entries({
  name: 'cube', type: 'mesh', mesh: { shape: 'box' }, place: [null, 'V'], visible: true, locked: false,
  translation: [0, 1, 0], rotation: [0, 0, 0, 1], scale: [1, 1, 1],
})))
"""
BODIES = "doc.getArray('messages').map(message => message.get('body'))"
TEXT = "doc.getText('text').toString()"


async def test_two_stock_clients_chat_under_the_names_that_the_server_tells_them() -> None:
    async with local_server() as server, browser() as node:
        ann = await node.open(server.url, "demo/chat", tab="ann", name="Ann")
        ben = await node.open(server.url, "demo/chat", tab="ben", name="Ben")
        for tab in (ann, ben):
            await tab.wait(f"provider.synced && {ME}")
        await ann.run(POST % ("m1", "hello"))
        await ben.wait(f"{BODIES}.length === 1")
        await ben.run(POST % ("m2", "hi"))
        await ann.wait(f"{BODIES}.length === 2 && doc.getArray('messages').get(1).get('stamp')")
        assert await ann.run(f"return {BODIES}") == await ben.run(f"return {BODIES}") == ["hello", "hi"]
        assert await ann.run("return tab.warnings") == []
        assert (await ann.run(f"return {ME}"))["name"] == "Ann"


async def test_the_readmes_post_arrives_in_the_chat() -> None:
    blocks = re.findall(r"```js\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    [code] = [block for block in blocks if "doc.getArray('messages')" in block]
    async with local_server() as server, browser() as node:
        ann = await node.open(server.url, "demo/chat", tab="ann", name="Ann")
        await ann.wait(f"provider.synced && {ME}")
        await ann.run(f"{code}; post('from the README')")
        async with RemoteChat(server.url, "demo", "chat", name="Ben") as ben:
            async for _ in ben.changes():
                if ben.messages():
                    break
            assert [message["body"] for message in ben.messages()] == ["from the README"]


async def test_two_stock_clients_edit_a_scene() -> None:
    async with local_server() as server, browser() as node:
        ann = await node.open(server.url, "demo/scene", tab="ann", name="Ann")
        ben = await node.open(server.url, "demo/scene", tab="ben", name="Ben")
        await ann.wait("provider.synced")
        await ann.run(CUBE % "cube1")
        await ben.wait("doc.getMap('nodes').has('cube1')")
        await ben.run("doc.getMap('nodes').get('cube1').set('translation', [5, 0, 0])")
        await ann.wait("doc.getMap('nodes').get('cube1').get('translation')[0] === 5")


async def test_g5b_a_stock_client_whose_edit_is_refused_converges_and_its_later_edits_count() -> None:
    async with local_server() as server, browser() as node:
        ann = await node.open(server.url, "demo/scene", tab="ann", name="Ann")
        ben = await node.open(server.url, "demo/scene", tab="ben", name="Ben")
        await ann.wait("provider.synced")
        await ann.run(CUBE % "cube1")
        await ben.wait("doc.getMap('nodes').has('cube1')")
        await ann.run("doc.getMap('nodes').get('cube1').set('rotation', [9, 9, 9, 9])")
        await ann.wait("doc.getMap('nodes').get('cube1').get('rotation')[3] === 1")
        await ann.run("doc.getMap('nodes').get('cube1').set('name', 'later')")
        await ben.wait("doc.getMap('nodes').get('cube1').get('name') === 'later'")
        nodes = "return doc.getMap('nodes').toJSON()"
        assert await ann.run(nodes) == await ben.run(nodes)
        assert "rotation" in "".join(await ann.run("return tab.warnings"))
        assert await ann.run("return provider.shouldConnect")


@pytest.mark.parametrize(
    ("document", "token", "code"),
    [("demo/scene", "bad", 4401), ("demo/nothing", "", 4404)],
)
async def test_g2_a_stock_client_that_is_not_admitted_stops_trying(document: str, token: str, code: int) -> None:
    async with local_server() as server, browser() as node:
        tab = await node.open(server.url, document, tab="ann", token=token)
        await tab.wait("tab.closed")
        assert await tab.run("return [tab.closed.code, provider.shouldConnect]") == [code, False]


async def test_d9_a_stock_client_on_the_bare_name_is_told_the_next_page_and_stops() -> None:
    async with local_server() as server, browser() as node:
        ann = await node.open(server.url, "demo/chat", tab="ann", name="Ann")
        await ann.wait(f"provider.synced && {ME}")
        space = await server.engine.space("dev", "demo")
        found = await space.resolve("chat")
        await space.turn_page(found.record, 1, await space.open_resolved(found))
        await ann.wait("tab.closed")
        assert await ann.run("return tab.closed") == {"code": 4409, "reason": "chat@2"}


# --- presence --------------------------------------------------------------------------------------------------------


async def test_p3_who_leaves_and_comes_back_is_shown_at_once() -> None:
    async with local_server() as server, browser() as node:
        ann = await node.open(server.url, "demo/scene", tab="ann", name="Ann")
        ben = await node.open(server.url, "demo/scene", tab="ben", name="Ben")
        here = f"awareness.getStates().has({ben.client})"
        await ann.wait(here)
        for _ in range(3):
            await ben.wait(f"{ME}")
            await ben.run("provider.disconnect()")
            await ann.wait(f"!{here}")
            await ben.run("provider.connect()")
            await ann.wait(here)


async def test_p3_a_cursor_that_moves_is_never_set_back_though_tabs_relay() -> None:
    async with local_server() as server, browser() as node:
        ann = await node.open(server.url, "demo/scene", tab="ann", name="Ann", bc=True)
        ben = await node.open(server.url, "demo/scene", tab="ben", name="Ben", bc=True)
        await ann.wait(ME)
        await ann.run(
            "tab.back = 0; tab.step = 0;"
            "awareness.on('update', () => { if ((awareness.getLocalState().step ?? 0) < tab.step) tab.back += 1 });"
            "tab.timer = setInterval(() => awareness.setLocalStateField('step', ++tab.step), 3)"
        )
        seen = f"(awareness.getStates().get({ann.client}) ?? {{}}).step"
        await ben.wait(f"{seen} > 100")
        await ann.run("clearInterval(tab.timer)")
        last = await ann.run("return tab.step")
        await ben.wait(f"{seen} === {last}")
        assert await ann.run("return tab.back") == 0


# --- restarts --------------------------------------------------------------------------------------------------------


async def authors(folder: Path, *tabs: Tab) -> dict[int, set[str]]:
    """Client id → the actors under whom its structs are in the log."""
    found: dict[int, set[str]] = {tab.client: set() for tab in tabs}
    async with await Engine.open(folder) as engine:
        space = await engine.space("dev", "demo")
        resolved = await space.resolve("text:notes")
        stream = space.record.document_stream(resolved.record, 1)
        async for page in engine.log.read(stream):
            for event in page:
                for client in read_update(event.data["update"]).structs:
                    found[client].add(event.actor.id)
    return found


async def restarted_while_typing(server: ServerProcess, tabs: list[Tab]) -> None:
    """Each tab types ten letters before, while the server is killed, and after."""
    for tab in tabs:
        await tab.run(
            "tab.left = 30; tab.timer = setInterval(() => {"
            f" doc.getText('text').insert(0, '{tab.name}'); if (--tab.left === 0) clearInterval(tab.timer) }}, 20)"
        )
    await tabs[0].wait(f"{TEXT}.length > 5")
    await server.kill()
    await server.start()
    for tab in tabs:
        await tab.wait(f"{TEXT}.length === {30 * len(tabs)}")


async def test_a_killed_server_doubles_and_loses_nothing_of_stock_clients(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path) as server, browser() as node:
        tabs = [await node.open(server.url, "demo/text:notes", tab=letter, name=letter) for letter in "ab"]
        for tab in tabs:
            await tab.wait("provider.synced")
        await restarted_while_typing(server, tabs)
        texts = {await tab.run(f"return {TEXT}") for tab in tabs}
        assert len(texts) == 1
        await server.stop()
        found = await authors(tmp_path, *tabs)
    assert [len(actors) for actors in found.values()] == [1, 1]
    assert len(set.union(*found.values())) == 2


async def test_d4_two_tabs_that_share_broadcastchannel_outlive_a_restart_under_their_own_names(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path) as server, browser() as node:
        tabs = [await node.open(server.url, "demo/text:notes", tab=letter, bc=True, name=letter) for letter in "ab"]
        for tab in tabs:
            await tab.wait("provider.synced")
        witness = await node.open(server.url, "demo/text:notes", tab="w", name="w")
        await tabs[0].run("doc.getText('text').insert(0, 'x')")
        await witness.wait(f"{TEXT} === 'x'")  # by way of the disk: the log knows whose client id it is
        await witness.run("provider.destroy()")
        await tabs[1].wait(f"{TEXT} === 'x'")
        await server.kill()
        await tabs[0].wait("!provider.wsconnected")
        await tabs[0].run("doc.getText('text').insert(0, 'y')")
        await tabs[1].wait(f"{TEXT} === 'yx'")  # over the BroadcastChannel: there is no server
        await tabs[1].run("doc.getText('text').insert(0, 'z')")
        await server.start()
        for tab in tabs:
            await tab.wait("provider.synced")
            await tab.run("doc.getText('text').delete(0, doc.getText('text').length)")
        await restarted_while_typing(server, tabs)
        texts = {await tab.run(f"return {TEXT}") for tab in tabs}
        assert len(texts) == 1
        other = await node.open(server.url, "demo/text:notes", tab="c", name="c")
        await other.wait(f"provider.synced && {TEXT}.length === 60")  # on the server too, not only between the tabs
        assert {await other.run(f"return {TEXT}")} == texts
        assert await asyncio.gather(*(tab.run("return tab.closed") for tab in tabs)) == [None, None]
        await server.stop()
        found = await authors(tmp_path, *tabs)
    assert [len(actors) for actors in found.values()] == [1, 1]
    assert len(set.union(*found.values())) == 2

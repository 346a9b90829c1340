"""The Python client against a real server: syncing, flushing, refusals, reconnects, and what ends it."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from weakref import ref

import pycrdt
import pytest
from tests.support.server import LocalServer, ServerProcess, local_server
from websockets.asyncio.server import ServerConnection, serve

from maquette.client import ClientError, Closed, EditRefused, Moved, NotAdmitted, RemoteChat, RemoteScene, RemoteText
from maquette.client.remote import RemoteDocument
from maquette.engine.engine import Engine
from maquette.engine.events import Event
from maquette.engine.members import BanMember, SetMember
from maquette.engine.roles import Role
from maquette.engine.scene.tree import Tree
from maquette.engine.update import Limits
from maquette.server.limits import TenantLimits
from maquette.server.running import operator


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with local_server() as one:
        yield one


def notes(server: LocalServer, name: str, **options: Any) -> RemoteText:
    return RemoteText(server.url, "demo", "text:notes", name=name, **options)


async def until(document: RemoteDocument, condition: Any) -> None:
    """Wait until `condition` holds, looking at each change."""
    async for _ in document.changes():
        if condition():
            return


async def events_of(engine: Engine, name: str) -> list[Event]:
    space = await engine.space("dev", "demo")
    found = await space.resolve(name)
    stream = found.space.record.document_stream(found.record, found.epoch)
    return [event async for page in engine.log.read(stream) for event in page]


async def test_two_clients_chat(server: LocalServer) -> None:
    async with (
        RemoteChat(server.url, "demo", "chat", name="Ann") as ann,
        RemoteChat(server.url, "demo", "chat", name="Ben") as ben,
    ):
        hello = ann.post("hello")
        await ann.flush()
        await until(ben, lambda: len(ben.messages()) == 1)
        ben.react(hello, "👍")
        ben.post("hi", thread=hello)
        await ben.flush()
        await until(ann, lambda: len(ann.messages()) == 2)
        assert [message["body"] for message in ann.messages()] == ["hello", "hi"]
        assert ann.messages() == ben.messages()
        assert ann.actor != ben.actor


async def test_a_scene_is_edited_and_the_followers_tree_is_the_engines(server: LocalServer) -> None:
    async with (
        RemoteScene(server.url, "demo", "scene", name="Ann") as ann,
        RemoteScene(server.url, "demo", "scene", name="Ben") as ben,
    ):
        room = ann.add("group", "room")
        lamp, table = ann.add("light", "lamp"), ann.add("mesh", "table", mesh={"shape": "box"})
        ann.move(lamp, room)
        ann.move(table, room, 0)
        ann.change(table, translation=[1, 2, 3])
        ann.trash(lamp)
        await ann.flush()
        await until(ben, lambda: ben.nodes().get(lamp, {}).get("trashed") is not None)
        ben.restore(lamp)
        await ben.flush()
        await until(ann, lambda: ann.nodes() == ben.nodes())
        space = await server.engine.space("dev", "demo")
        tree: Tree = (await space.open("scene")).replica.memory.tree  # type: ignore[attr-defined]  # a scene's
        for one in (ann, ben):
            assert list(one.children(room)) == tree.children(room) == [table, lamp]
            assert list(one.children()) == tree.children(None)


async def test_positions_in_a_text_count_code_points(server: LocalServer) -> None:
    async with notes(server, "Ann") as ann, notes(server, "Ben") as ben:
        ann.insert(0, "a😀é!")
        ann.insert(2, "|")
        ann.insert(4, "👩‍🚀")
        ann.delete(0, 1)
        await ann.flush()
        await until(ben, lambda: str(ben) == str(ann))
        assert str(ben) == "😀|é👩‍🚀!"


async def test_flush_tells_the_position_behind_everything_edited(server: LocalServer) -> None:
    async with notes(server, "Ann") as ann:
        for _ in range(50):
            ann.insert(0, "x")
        position = await ann.flush()
        assert position is not None
        assert int(position) >= await server.engine.log.head()
        assert len(await events_of(server.engine, "text:notes")) == 50


async def test_flushes_of_many_tasks_all_return(server: LocalServer) -> None:
    async with notes(server, "Ann") as ann:

        async def write(letter: str) -> None:
            ann.insert(0, letter)
            await ann.flush()

        await asyncio.gather(*(write(letter) for letter in "abcdefghijklmnop"))
        assert len(await events_of(server.engine, "text:notes")) == 16


async def test_g5b_a_refused_edit_is_undone_and_raised_once(server: LocalServer) -> None:
    async with RemoteChat(server.url, "demo", "chat", name="Ann") as ann:
        ann.writer.post("forged", author="somebody")
        with pytest.raises(EditRefused, match="author"):
            await ann.flush()
        assert ann.messages() == []
        ann.post("mine")
        await ann.flush()
        assert [message["body"] for message in ann.messages()] == ["mine"]


async def test_g5a_after_a_denial_there_is_a_fresh_replica_under_another_client_id() -> None:
    async with local_server(await Engine.open(limits=Limits(string=1_000))) as server, notes(server, "Ann") as ann:
        ann.insert(0, "good")
        await ann.flush()
        before, resets = ann.doc, []
        ann.on_reset.append(lambda: resets.append(1))
        ann.insert(0, "x" * 1_001)
        with pytest.raises(EditRefused, match="1000"):
            await ann.flush()
        assert ann.doc is not before
        assert ann.doc.client_id != before.client_id
        assert (resets, str(ann)) == ([1], "good")
        before.get("text", type=pycrdt.Text).insert(0, "to nobody")
        ann.insert(4, "!")
        await ann.flush()
        assert str(ann) == "good!"


async def test_a_viewer_reads_and_what_it_edits_is_denied(server: LocalServer) -> None:
    async with notes(server, "Ann") as ann:
        ann.insert(0, "text")
        await ann.flush()
        async with RemoteText(server.url, "demo", "text:notes", token=server.token("Vic", "viewer")) as viewer:
            assert str(viewer) == "text"
            viewer.insert(0, "x")
            with pytest.raises(EditRefused, match="viewer"):
                await viewer.flush()
            assert str(viewer) == "text"


async def test_a_bad_token_is_not_admitted(server: LocalServer) -> None:
    with pytest.raises(NotAdmitted) as caught:
        async with RemoteText(server.url, "demo", "text:notes", token="nonsense"):
            pass
    assert caught.value.code == 4401


async def test_an_unknown_document_is_not_admitted(server: LocalServer) -> None:
    with pytest.raises(NotAdmitted) as caught:
        async with RemoteText(server.url, "demo", "nothing", name="Ann"):
            pass
    assert caught.value.code == 4404


async def test_a_server_without_this_path_is_not_admitted(server: LocalServer) -> None:
    with pytest.raises(NotAdmitted, match="expected a WebSocket, got HTTP status 403"):
        async with RemoteText(f"{server.url}/elsewhere", "demo", "chat", name="Ann"):
            pass


@pytest.mark.parametrize("url", ["ftp://host", "host:8000", "http://"])
def test_a_url_that_is_none_is_told_at_once(url: str) -> None:
    with pytest.raises(ClientError, match="url: expected http, https, ws or wss"):
        RemoteText(url, "demo", "text:notes")


async def test_a_server_that_speaks_nonsense_ends_the_connection_with_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def speak(socket: ServerConnection) -> None:
        await socket.send(b"\x63nonsense")
        await socket.wait_closed()

    async with serve(speak, "127.0.0.1", 0) as fake:
        port = next(iter(fake.sockets)).getsockname()[1]
        with caplog.at_level(logging.CRITICAL), pytest.raises(ClientError, match="expected message type 0"):
            async with RemoteText(f"http://127.0.0.1:{port}", "demo", "text:notes"):
                pass


async def test_d9_a_page_turn_raises_moved_and_follow_is_the_next_page(server: LocalServer) -> None:
    async with RemoteChat(server.url, "demo", "chat", name="Ann") as ann:
        ann.post("old")
        await ann.flush()
        with pytest.raises(ClientError, match="has moved"):
            ann.follow()
        space = await server.engine.space("dev", "demo")
        found = await space.resolve("chat")
        await space.turn_page(found.record, 1, await space.open_resolved(found))
        with pytest.raises(Moved) as caught:
            await until(ann, lambda: False)
        assert (caught.value.successor, ann.status) == ("chat@2", "closed")
        async with ann.follow() as page:
            assert page.messages() == []
            assert page.actor == ann.actor
            page.post("new")
            await page.flush()


async def test_presence_shows_others_and_who_the_server_says_they_are(server: LocalServer) -> None:
    async with notes(server, "Ann") as ann, notes(server, "Ben") as ben:
        heard = asyncio.Event()
        ann.presence.on_change.append(lambda clients: heard.set() if ben.doc.client_id in clients else None)
        ben.presence.set(cursor=[1, 2])
        while ann.presence.states.get(ben.doc.client_id, {}).get("cursor") != [1, 2]:
            await heard.wait()
            heard.clear()
        assert ann.presence.states[ben.doc.client_id]["actor"]["id"] == ben.actor


async def test_a_callback_that_fails_is_logged_and_disturbs_nothing(
    server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with notes(server, "Ann") as ann, notes(server, "Ben") as ben:
        calls: list[str] = []
        ann.on_change += [lambda: 1 / 0, lambda: calls.append(str(ann))]  # type: ignore[list-item]  # as users write them
        ben.insert(0, "hello")
        await ben.flush()
        await until(ann, lambda: str(ann) == "hello")
        assert calls == ["hello"]
    assert "a callback of the application failed" in caplog.text


async def test_after_close_everything_that_waits_raises_closed(server: LocalServer) -> None:
    ann = notes(server, "Ann")
    async with ann:
        before = ann.status
    ann.insert(0, "x")
    with pytest.raises(Closed):
        await ann.flush()
    assert (before, ann.status) == ("synced", "closed")
    assert [item async for item in ann.changes()] in ([], [None])


async def test_acknowledged_means_in_the_log_and_nothing_is_doubled_across_kills(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path) as server:
        ann = RemoteText(server.url, "demo", "text:notes", name="Ann")
        ben = RemoteText(server.url, "demo", "text:notes", name="Ben")
        ann._random = ben._random = lambda: 0.0
        async with ann, ben:
            for number in range(10):
                ann.insert(0, "a")
                ben.insert(0, "b")
                if number == 5:
                    await ann.flush()
            await server.kill()
            for _ in range(5):  # while there is no server
                ann.insert(0, "A")
                ben.insert(0, "B")
            await server.start()
            await asyncio.gather(ann.flush(), ben.flush())
            await until(ann, lambda: len(str(ann)) == 30)
            await until(ben, lambda: str(ben) == str(ann))
            assert {letter: str(ann).count(letter) for letter in "abAB"} == {"a": 10, "b": 10, "A": 5, "B": 5}
            assert ann.reconnects == ben.reconnects == 1
        await server.kill()
        engine = await Engine.open(tmp_path)
        async with engine:
            space = await engine.space("dev", "demo")
            document = await space.open("text:notes")
            text = document.replica.doc.get("text", type=pycrdt.Text)
            assert str(text) == str(ann)
            owners = {ann.doc.client_id: ann.actor, ben.doc.client_id: ben.actor}
            for event in await events_of(engine, "text:notes"):
                assert event.actor.id == owners[event.data["client"]]


async def test_flush_waits_for_what_was_edited_while_there_was_no_server(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path) as server:
        async with RemoteText(server.url, "demo", "text:notes", name="Ann") as ann:
            ann._random = lambda: 0.0
            ann.insert(0, "a")
            await ann.flush()
            await server.kill()
            while ann.status != "offline":
                async with ann._changed:
                    await ann._changed.wait()
            ann.insert(0, "b")
            flushing = asyncio.ensure_future(ann.flush())
            await asyncio.sleep(0)
            assert not flushing.done()
            await server.start()
            await flushing
        async with RemoteText(server.url, "demo", "text:notes", name="Ben") as ben:
            assert str(ben) == "ba"


async def test_waits_between_tries_grow_with_jitter() -> None:
    waits: list[float] = []

    class Done(Exception):
        pass

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 12:
            raise Done

    ann = RemoteText("http://127.0.0.1:1", "demo", "text:notes")
    ann._random = lambda: 0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maquette.client.remote.asyncio.sleep", sleep)
        with pytest.raises(Done):
            await ann._run()
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == 15.0


async def test_g5_whoever_wrote_is_called_with_the_reason(server: LocalServer) -> None:
    async with RemoteChat(server.url, "demo", "chat", name="Ann") as ann:
        reasons: list[str] = []
        ann.on_refused.append(reasons.append)
        ann.writer.post("forged", author="somebody")
        with pytest.raises(EditRefused):
            await ann.flush()
        assert len(reasons) == 1
        assert "message.author: expected" in reasons[0]
        assert ann.read_only is None
        assert ann.laid_aside is None


async def test_g5a_who_may_not_write_goes_on_as_a_reader_and_keeps_what_did_not_get_through(
    server: LocalServer,
) -> None:
    async with notes(server, "Ann") as ann:
        ann.insert(0, "text")
        await ann.flush()
        async with RemoteText(server.url, "demo", "text:notes", token=server.token("Vic", "viewer")) as viewer:
            reasons: list[str] = []
            viewer.on_refused.append(reasons.append)
            viewer.insert(0, "mine ")
            with pytest.raises(EditRefused, match="viewer"):
                await viewer.flush()
            assert "got viewer" in (viewer.read_only or "")
            assert reasons == [viewer.read_only]
            assert viewer.laid_aside is not None
            assert str(viewer.laid_aside.get("text", type=pycrdt.Text)) == "mine text"
            ann.insert(4, " on")
            await until(viewer, lambda: str(viewer) == "text on")


async def test_g3_a_client_whose_role_is_lowered_reads_on_with_its_replica_and_writes_when_it_is_raised(
    server: LocalServer,
) -> None:
    async with notes(server, "Ann") as ann, notes(server, "Ben") as ben:
        told = asyncio.Event()
        ben.on_refused.append(lambda reason: told.set())
        ben.insert(0, "b")
        await ben.flush()
        replica, space = ben.doc, await server.engine.space("dev", "demo")
        for role in (Role.VIEWER, Role.EDITOR):
            await space.change_member(operator(server.engine.node), Role.OWNER, SetMember(ben.actor, role))
            await told.wait()
            ann.insert(0, "a")
            await until(ben, lambda: str(ben).count("a") == (2 if role is Role.EDITOR else 1))  # noqa: B023  (awaited)
        assert "got viewer" in (ben.read_only or "")
        ben.insert(0, "c")
        await ben.flush()
        assert (ben.doc is replica, ben.read_only, str(ben)) == (True, None, "caab")


async def test_g5a_behind_a_shut_door_a_client_reads_on() -> None:
    async with (
        local_server(limits=TenantLimits(refused_per_document=2)) as server,  # shut behind the fourth
        RemoteChat(server.url, "demo", "chat", name="Ann") as ann,
        RemoteChat(server.url, "demo", "chat", name="Eve") as eve,
    ):
        for _ in range(6):
            eve.writer.post("forged", author="somebody")
            with pytest.raises(EditRefused):
                await eve.flush()
        assert "only reads here for" in (eve.read_only or "")
        ann.post("hello")
        await until(eve, lambda: len(eve.messages()) == 1)
        assert eve.status == "synced"


async def test_g3_who_is_banned_is_told_why_and_comes_no_more(server: LocalServer) -> None:
    async with notes(server, "Ben") as ben:
        space = await server.engine.space("dev", "demo")
        await space.change_member(operator(server.engine.node), Role.OWNER, BanMember(ben.actor, None, "spam"))
        with pytest.raises(NotAdmitted, match="banned: spam") as caught:
            async for _ in ben.changes():
                pass
        assert caught.value.code == 4403


# --- what is left behind ---------------------------------------------------------------------------------------------


async def freed(left: tuple[ref[object], ...]) -> None:
    for _ in range(10):  # asyncio lets go of what was cancelled in its next turns
        await asyncio.sleep(0)
    gc.collect()
    assert [one() for one in left] == [None] * len(left)


async def test_what_was_closed_is_freed_with_its_replica(server: LocalServer) -> None:
    async with RemoteScene(server.url, "demo", "scene", name="Ann") as ann:
        ann.add(name="box")
        await ann.flush()
    left: tuple[ref[object], ...] = (ref(ann), ref(ann.doc))
    del ann
    await freed(left)


async def test_what_could_not_be_opened_is_freed_too(server: LocalServer) -> None:
    nobody = RemoteScene(server.url, "demo", "nowhere", name="Ann")
    with pytest.raises(NotAdmitted):
        await nobody.__aenter__()
    left: tuple[ref[object], ...] = (ref(nobody), ref(nobody.doc))
    del nobody
    await freed(left)


async def test_a_closed_replica_can_be_read_and_edited_still(server: LocalServer) -> None:
    async with notes(server, "Ann") as ann:
        ann.text.insert(0, "one")
        await ann.flush()
    ann.text.insert(3, " two")
    await ann.close()
    assert str(ann.text) == "one two"

"""The WebSocket endpoint from outside, frame by frame, with an honest bystander in every bad-input test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pycrdt
import pytest
from tests.support.peer import Peer, peer
from tests.support.server import LocalServer, local_server
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from maquette.engine.engine import Engine
from maquette.engine.events import Actor, Event
from maquette.engine.log import EventLog
from maquette.engine.roles import Role
from maquette.engine.sync import (
    AwarenessState,
    AwarenessUpdate,
    PermissionDenied,
    QueryAwareness,
    Refused,
    Stored,
    SyncStep1,
    SyncStep2,
    SyncUpdate,
    varuint,
    write_frame,
)
from maquette.engine.update import Limits
from maquette.server.commands.serve import MAX_FRAME
from maquette.server.connection import MAX_PRESENCE, MAX_STATE_VECTOR
from maquette.server.tokens import Keyring

NOTES = "demo/text:notes"
EMPTY_UPDATE = b"\0\0"
SILENT: dict[str, Any] = {
    "compression": None, "proxy": None, "max_queue": 1, "ping_interval": None, "close_timeout": 0.1
}  # fmt: skip
"""Options of a client that reads no further than one message."""


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with local_server() as one:
        yield one


async def edits_pass(server: LocalServer, document: str = NOTES) -> None:
    """The honest bystander: two others, whose edits reach each other."""
    async with peer(server.url, document, name="Ann") as ann, peer(server.url, document, name="Ben") as ben:
        before = str(ben.text)
        await ann.write("!")
        await ben.until_text(before + "!")


async def stored(log: EventLog, stream: str) -> list[Event]:
    return [event async for page in log.read(stream) for event in page]


async def notes_stream(server: LocalServer) -> str:
    space = await server.engine.space("dev", "demo")
    record = (await space.resolve("text:notes")).record
    return space.record.document_stream(record, 1)


# --- the door --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "reason"),
    [("", "expected a token"), ("nonsense", "expected"), ("eyJhbGciOiJub25lIn0.e30.", "expected")],
)
async def test_who_brings_no_good_token_is_accepted_and_closed_with_4401(token: str, reason: str) -> None:
    async with local_server(dev=False) as server, peer(server.url, NOTES, sync=False, token=token) as stranger:
        code, said = await stranger.end()
    assert code == 4401
    assert reason in said


async def test_a_token_of_another_servers_key_is_closed_with_4401(server: LocalServer) -> None:
    async with local_server(dev=False) as other:
        token = other.keyring.sign("ann", "Ann", "dev", {"*": "editor"}, lifetime=600)
        async with peer(server.url, NOTES, sync=False, token=token) as foreign:
            assert (await foreign.end())[0] == 4401
    await edits_pass(server)


async def test_an_expired_token_is_closed_with_4401(server: LocalServer) -> None:
    then = Keyring([*server.keyring._keys.values()], clock=lambda: time.time() - 120)
    token = then.sign("old", "Old", "dev", {"*": "editor"}, lifetime=60)
    async with peer(server.url, NOTES, sync=False, token=token) as old:
        code, reason = await old.end()
    assert (code, "got one that expired at" in reason) == (4401, True)
    await edits_pass(server)


async def test_a_token_that_expires_ends_its_open_connections(server: LocalServer) -> None:
    await edits_pass(server)
    async with peer(server.url, NOTES, token=server.token("Old", lifetime=60)) as old:
        server.hub.watch(0.0, 2**40)
        code, reason = await old.end()
    assert (code, "expired" in reason) == (4401, True)
    await edits_pass(server)


@pytest.mark.parametrize("document", ["demo/nothing", "demo/scene@7", "demo/text:", "demo/scene/x", "de%20mo/scene"])
async def test_what_is_not_there_is_closed_with_4404(server: LocalServer, document: str) -> None:
    async with peer(server.url, document, sync=False, name="Eve") as lost:
        assert (await lost.end())[0] == 4404
    await edits_pass(server)


async def test_another_tenants_space_is_closed_with_4404(server: LocalServer) -> None:
    await edits_pass(server)
    async with peer(server.url, NOTES, sync=False, token=server.token("Eve", tenant="other")) as foreign:
        code, reason = await foreign.end()
    assert code == 4404
    assert "expected an existing space" in reason


async def test_a_viewer_cannot_make_a_document(server: LocalServer) -> None:
    await edits_pass(server)
    async with peer(server.url, "demo/text:other", sync=False, token=server.token("Vic", "viewer")) as viewer:
        assert (await viewer.end())[0] == 4404


# --- frames that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x00",
        b"\x00\x02\x05ab",
        b"\x00\x07\x00",
        b"\x09",
        b"\x00\x00\x03\x01\x02",
        b"\x01\x05\x01\x01\x00\x01x",
        b"\xff" * 20,
        write_frame(Stored(1, "1")),
        write_frame(PermissionDenied("no")),
        write_frame(QueryAwareness()) + b"\0",
        b"\x01\x0b\x01\x01\x01\x07" + b'{"a":1e999}'[:7],
    ],
)
async def test_what_is_no_frame_closes_with_4400_and_says_what_was_expected(server: LocalServer, frame: bytes) -> None:
    async with peer(server.url, NOTES, name="Eve") as eve:
        await eve.socket.send(frame)
        code, reason = await eve.end()
    assert code == 4400
    assert "expected" in reason
    await edits_pass(server)


async def test_a_text_frame_closes_with_4400(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Eve") as eve:
        await eve.socket.send("hello")
        assert await eve.end() == (4400, "expected a binary frame, got text")
    await edits_pass(server)


async def test_g2_a_frame_larger_than_any_may_be_closes_with_1009(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Eve") as eve:
        with suppress(ConnectionClosed):  # it closes before it has read it all
            await eve.socket.send(bytes(MAX_FRAME + 1))
        assert (await eve.end())[0] == 1009
    await edits_pass(server)


@pytest.mark.parametrize(
    "frame",
    [
        b"\x00\x00" + varuint(MAX_STATE_VECTOR) + bytes(MAX_STATE_VECTOR),
        b"\x01" + varuint(MAX_PRESENCE) + bytes(MAX_PRESENCE),
    ],
)
async def test_g2_a_frame_larger_than_its_type_may_be_closes_with_4413(server: LocalServer, frame: bytes) -> None:
    async with peer(server.url, NOTES, name="Eve") as eve:
        await eve.socket.send(frame)
        assert (await eve.end())[0] == 4413
    await edits_pass(server)


async def test_infinity_in_presence_closes_its_sender_and_reaches_nobody(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Eve") as eve:
        text = b'{"x":1e999}'
        state = varuint(1) + varuint(eve.doc.client_id) + varuint(9) + varuint(len(text)) + text
        await eve.socket.send(b"\x01" + varuint(len(state)) + state)
        assert (await eve.end())[0] == 4400
        await edits_pass(server)
        await ann.until_text("!")
    said = [one.state for message in ann.seen if isinstance(message, AwarenessUpdate) for one in message.states]
    assert all("x" not in state for state in said if state)


# --- updates that are refused ----------------------------------------------------------------------------------------


async def test_g5a_an_update_that_cannot_be_read_is_denied_and_going_on_is_4403(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Eve") as eve:
        await eve.send(SyncUpdate(b"\xff\xff\xff"))
        assert "expected" in (await eve.expect(PermissionDenied)).reason
        await eve.write("more")
        assert (await eve.end())[0] == 4403
    await edits_pass(server)


async def test_g5a_after_a_denial_nothing_is_taken_though_it_would_be_good(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann:
        async with peer(server.url, NOTES, name="Eve") as eve:
            frames = [SyncUpdate(b"\xff\xff\xff"), SyncUpdate(eve.change(lambda: eve.text.insert(0, "good")))]
            for frame in frames:
                await eve.send(frame)
            assert (await eve.end())[0] == 4403
        await edits_pass(server)
        await ann.until_text("!")


async def test_g5a_a_denied_connection_reads_on_and_may_say_what_is_known(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Eve") as eve:
        await eve.send(SyncUpdate(b"\xff\xff\xff"))
        await eve.expect(PermissionDenied)
        await ann.write("hello")
        await eve.until_text("hello")
        await eve.send(SyncUpdate(EMPTY_UPDATE))
        await ann.write(" again")
        await eve.until_text("hello again")


async def test_g5a_a_viewer_reads_and_its_edit_is_denied_then_4403() -> None:
    async with local_server() as server:
        await edits_pass(server)
        async with peer(server.url, NOTES, token=server.token("Vic", "viewer")) as viewer:
            assert str(viewer.text) == "!"
            await viewer.write("x")
            assert "viewer" in (await viewer.expect(PermissionDenied)).reason
            await edits_pass(server)
            await viewer.write("y")
            code, reason = await viewer.end()
        assert code == 4403
        assert "viewer" in reason
        await edits_pass(server)


async def test_g2_an_update_larger_than_the_limits_is_denied_with_the_limits_name() -> None:
    engine = await Engine.open(limits=Limits(string=1_000))
    async with local_server(engine) as server:
        async with peer(server.url, NOTES, name="Eve") as eve:
            await eve.write("x" * 1_001)
            assert "1000" in (await eve.expect(PermissionDenied)).reason
        await edits_pass(server)


async def test_g5b_a_refused_edit_is_reversed_at_its_sender_whose_later_edits_count(server: LocalServer) -> None:
    async with peer(server.url, "demo/chat", name="Ann") as ann, peer(server.url, "demo/chat", name="Ben") as ben:
        messages = ann.doc.get("messages", type=pycrdt.Array)
        seen = ben.doc.get("messages", type=pycrdt.Array)
        await ann.edit(lambda: messages.append(_message("m1", "somebody", "forged")))
        assert "author" in (await ann.expect(PermissionDenied)).reason
        assert len(messages) == 0
        await ann.until(lambda: bool(_present(ann)))
        await ann.edit(lambda: messages.append(_message("m2", ann_actor(ann), "mine")))
        await ben.until(lambda: len(seen) == 1)
        assert [message["body"] for message in seen] == ["mine"]


async def test_g5b_who_asked_for_acknowledgements_is_told_apart(server: LocalServer) -> None:
    async with peer(server.url, "demo/chat", name="Ann", acks="1") as ann:
        messages = ann.doc.get("messages", type=pycrdt.Array)
        await ann.edit(lambda: messages.append(_message("m1", "somebody", "forged")))
        assert "author" in (await ann.expect(Refused)).reason
        assert (await ann.expect(Stored)).frames == 2


def _message(id_: str, author: str, body: str) -> pycrdt.Map[Any]:
    return pycrdt.Map({"id": id_, "author": author, "body": body, "sent": 1, "reactions": pycrdt.Map()})


def ann_actor(one: Peer) -> str:
    """What the server says in presence of who we are."""
    states = [state for message in one.seen if isinstance(message, AwarenessUpdate) for state in message.states]
    return next(str(state.state["actor"]["id"]) for state in states if state.client == one.doc.client_id)


# --- holes and others' edits -----------------------------------------------------------------------------------------


async def test_d3_an_update_with_a_hole_is_asked_for_once_and_waits(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann", sync=False) as ann, peer(server.url, NOTES, name="Ben") as ben:
        await ann.announce()
        first = await ann.socket.recv()  # the server's own question at the start
        assert isinstance(first, bytes)
        made = [ann.change(lambda: ann.text.insert(len(ann.text), letter)) for letter in "abc"]  # noqa: B023  (called at once)
        await ann.send(SyncUpdate(made[1]))
        await ann.send(SyncUpdate(made[2]))
        await ann.send(SyncStep1(b"\0"))
        questions = 0
        while True:
            frame = await ann.socket.recv()
            assert isinstance(frame, bytes)
            questions += frame[:2] == b"\0\0"
            if frame[:2] == b"\0\1":
                break
        assert questions == 1
        await ann.send(SyncStep2(ann.doc.get_update()))
        await ben.until_text("abc")


async def test_d3_a_hole_that_its_sender_cannot_fill_is_not_asked_for_again(server: LocalServer) -> None:
    other: pycrdt.Doc[Any] = pycrdt.Doc()
    async with peer(server.url, NOTES, name="Eve") as eve:
        text = other.get("notes", type=pycrdt.Text)
        text.insert(0, "a")
        before = other.get_state()
        for letter in "bcdefgh":
            text.insert(len(text), letter)
            await eve.send(SyncUpdate(other.get_update(before)))
            await eve.send(SyncStep2(EMPTY_UPDATE))
        await eve.send(SyncStep1(b"\0"))
        await eve.expect(SyncStep2)
        assert sum(isinstance(message, SyncStep1) for message in eve.seen) == 2
    await edits_pass(server)


async def test_d4_structs_of_anothers_client_are_cut_out(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Eve") as eve:
        await ann.write("hello")
        await eve.until_text("hello")
        forged: pycrdt.Doc[Any] = pycrdt.Doc(client_id=ann.doc.client_id)
        forged.apply_update(ann.doc.get_update())
        text = forged.get("notes", type=pycrdt.Text)
        before = forged.get_state()
        text.insert(5, " forged")
        await eve.send(SyncUpdate(forged.get_update(before)))
        await eve.write(" from Eve")
        await ann.until_text("hello from Eve")
        await ann.write("!")
        await eve.until_text("hello from Eve!")
    actors = [event.actor.id for event in await stored(server.engine.log, await notes_stream(server))]
    assert len(actors) == 3
    assert actors[0] == actors[2] != actors[1]


@pytest.mark.parametrize(("acks", "kind"), [("", PermissionDenied), ("1", Refused)])
async def test_d4_whose_client_id_is_anothers_is_told_once_and_the_owner_goes_on(
    server: LocalServer, acks: str, kind: type[PermissionDenied | Refused]
) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann:
        await ann.write("hello")
        await ann.until_text("hello")
        same: pycrdt.Doc[Any] = pycrdt.Doc(client_id=ann.doc.client_id)
        async with peer(server.url, NOTES, name="Eve", doc=same, sync=False, acks=acks) as eve:
            for clock in (1, 2):
                await eve.announce(clock, cursor=clock)
            await eve.send(SyncStep1(b"\0"))
            await eve.expect(SyncStep2)
            [told] = [message for message in eve.seen if isinstance(message, kind)]
            assert f"expected a client id of your own, got {same.client_id}, which belongs" in told.reason
            await eve.write(" forged")
            await ann.write("!")
            await ann.until_text("hello!")


# --- acknowledgements ------------------------------------------------------------------------------------------------


async def test_acks_count_every_frame_with_an_update_in_order(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann", acks="1") as ann:
        await ann.send(SyncUpdate(EMPTY_UPDATE))
        await ann.write("a")
        await ann.write("b")
        await ann.send(SyncUpdate(ann.doc.get_update()))
        last = await ann.expect(Stored)
        while last.frames < 5:  # the answer at the start, and these four
            last = await ann.expect(Stored)
    head = await server.engine.log.head()
    assert int(last.position) == head
    counts = [message.frames for message in ann.seen if isinstance(message, Stored)]
    assert counts == sorted(set(counts))


async def test_acks_count_a_denied_frame(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann", acks="1") as ann:
        await ann.send(SyncUpdate(b"\xff\xff"))
        await ann.expect(PermissionDenied)
        assert (await ann.expect(Stored)).frames == 2


async def test_a_stock_client_never_sees_an_acknowledgement(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann:
        await ann.write("a")
        await edits_pass(server)
        await ann.until_text("a!")
        assert not [message for message in ann.seen if isinstance(message, Stored | Refused)]


# --- presence over the wire ------------------------------------------------------------------------------------------


async def test_who_leaves_is_gone_for_the_others_at_the_next_tick(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann:
        async with peer(server.url, NOTES, name="Ben") as ben:
            client = ben.doc.client_id
            await ann.until(lambda: client in _present(ann))
        await ann.until(lambda: client not in _present(ann))


async def test_connections_that_open_a_document_at_the_same_time_see_each_other(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann:  # makes others' rooms tick meanwhile
        for clock in range(1, 4):
            await ann.announce(clock, n=clock)
        async with peer(server.url, "demo/scene", name="Ben") as ben, peer(server.url, "demo/scene", name="Cat") as cat:
            await ben.until(lambda: cat.doc.client_id in _present(ben))
            await cat.until(lambda: ben.doc.client_id in _present(cat))


async def test_p1_presence_is_never_logged(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann:
        before = await server.engine.log.head()
        await ann.announce(1, cursor=[1, 2])
        await ann.until(lambda: _present(ann).get(ann.doc.client_id, {}).get("cursor") == [1, 2])
        assert await server.engine.log.head() == before


async def test_p3_who_hears_nothing_gets_an_empty_frame_in_time(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann:
        [connection] = server.hub.connections
        while not ann.seen or not _present(ann):
            await ann.receive()
        ann.seen.clear()
        server.hub.watch(connection.told_at + 14.9, 0.0)
        server.hub.watch(connection.told_at + 15.0, 0.0)
        assert await ann.receive() == AwarenessUpdate(())


def _present(one: Peer) -> dict[int, dict[str, object]]:
    present: dict[int, dict[str, object]] = {}
    for message in one.seen:
        if isinstance(message, AwarenessUpdate):
            for state in message.states:
                if state.state is None:
                    present.pop(state.client, None)
                else:
                    present[state.client] = state.state
    return present


# --- epochs ----------------------------------------------------------------------------------------------------------


async def test_d9_a_page_turn_tells_who_is_on_the_bare_name_where_the_document_goes_on(server: LocalServer) -> None:
    async with (
        peer(server.url, "demo/chat", name="Ann") as ann,
        peer(server.url, "demo/chat@1", name="Ben") as ben,
    ):
        space = await server.engine.space("dev", "demo")
        found = await space.resolve("chat")
        document = await space.open_resolved(found)
        messages = ann.doc.get("messages", type=pycrdt.Array)
        await ann.until(lambda: bool(_present(ann)))
        await ann.edit(lambda: messages.append(_message("m1", ann_actor(ann), "old")))
        old = ben.doc.get("messages", type=pycrdt.Array)
        await ben.until(lambda: len(old) == 1)
        await space.turn_page(found.record, 1, document)
        assert await ann.end() == (4409, "chat@2")
        await ben.until(lambda: bool(_present(ben)))
        await ben.edit(lambda: old.append(_message("m2", ann_actor(ben), "late")))
        await ben.until(lambda: "stamp" in old[1])
    async with peer(server.url, "demo/chat", doc=ann.doc, sync=False, name="Ann") as stale:
        await stale.send(SyncStep1(stale.doc.get_state()))
        assert await stale.end() == (4409, "chat@2")
    async with peer(server.url, "demo/chat", name="Cat") as fresh:
        assert len(fresh.doc.get("messages", type=pycrdt.Array)) == 0


# --- readers and writers out of step ---------------------------------------------------------------------------------


async def test_who_does_not_read_is_cut_off_and_nobody_else_waits(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maquette.server.connection.MAX_BACKLOG", 1_500_000)
    server.hub.close_seconds = 0.2
    address = f"{server.url.replace('http', 'ws')}/sync/{NOTES}?name=Slow"
    async with (
        peer(server.url, NOTES, name="Ann") as ann,
        connect(address, **SILENT) as slow,
        peer(server.url, NOTES, name="Ben") as ben,
    ):
        await slow.send(write_frame(SyncStep1(b"\0")))
        while len(server.hub.connections) == 3:
            await ann.write("x" * 1_000_000)
            await ben.until_text(str(ann.text))
        assert {connection.session.name for connection in server.hub.connections} == {"Ann", "Ben"}
        await ann.write("!")
        await ben.until_text(str(ann.text))


async def test_a_flood_of_updates_is_read_at_the_pace_of_the_disk(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maquette.server.connection.MAX_UNSETTLED", 5)
    unsettled: list[int] = []
    async with peer(server.url, NOTES, name="Ann", acks="1") as ann, peer(server.url, NOTES, name="Ben") as ben:
        [connection] = (one for one in server.hub.connections if one.session.name == "Ann")
        receive = connection.receive

        def watched(frame: bytes) -> None:
            receive(frame)
            unsettled.append(len(connection._unsettled))

        monkeypatch.setattr(connection, "receive", watched)
        for _ in range(300):
            await ann.write("x")
        while (await ann.expect(Stored)).frames < 301:
            pass
        await ben.until_text("x" * 300)
    assert max(unsettled) in range(1, 6)


async def test_a_flood_of_questions_from_who_does_not_read_is_not_answered_without_bound(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maquette.server.connection.MAX_UNREAD", 100_000)
    async with peer(server.url, NOTES, name="Ann") as ann:
        await ann.write("x" * 50_000)
        address = f"{server.url.replace('http', 'ws')}/sync/{NOTES}?name=Eve"
        async with connect(address, **SILENT) as eve:
            for _ in range(1_000):
                await eve.send(write_frame(SyncStep1(b"\0")))
            await edits_pass(server)
            await ann.until_text("x" * 50_000 + "!")
            [connection] = (one for one in server.hub.connections if one.session.name == "Eve")
            assert connection._backlog < 250_000
            assert connection.closing is None


async def test_a_defect_of_one_connection_ends_it_with_1011_and_no_other(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with peer(server.url, NOTES, name="Eve") as eve:
        [connection] = server.hub.connections

        def fail(frame: bytes) -> None:
            raise KeyError("a defect")

        monkeypatch.setattr(connection, "receive", fail)
        await eve.write("x")
        assert (await eve.end())[0] == 1011
    assert "a connection failed" in caplog.text
    await edits_pass(server)


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_at_the_end_what_was_sent_is_stored_and_echoed_then_1012(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann", acks="1") as ann:
        for letter in "abcdef":
            await ann.write(letter)
        draining = asyncio.ensure_future(server.hub.drain())
        code, _ = await ann.end()
        await draining
    assert code == 1012
    acknowledged = max([message.frames for message in ann.seen if isinstance(message, Stored)], default=0)
    log = await stored(server.engine.log, await notes_stream(server))
    assert len(log) >= acknowledged - 1


async def test_embedded_writers_and_connections_see_each_other(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann:
        space = await server.engine.space("dev", "demo")
        await space.write(
            "text:notes",
            Actor("bot", "bot"),
            Role.EDITOR,
            lambda doc: doc.get("notes", type=pycrdt.Text).insert(0, "embedded"),
        )
        await ann.until_text("embedded")


def test_states_are_frames() -> None:
    assert write_frame(AwarenessUpdate((AwarenessState(1, 2, {"a": 1}),))) == b"\x01\x0b\x01\x01\x02\x07" + b'{"a":1}'

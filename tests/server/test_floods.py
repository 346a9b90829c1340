"""Limits over the real socket (G2) and presence under attack (P2, P3), with honest bystanders in every test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Address
from tests.support.api import problem, serving
from tests.support.peer import Peer, peer
from tests.support.server import LocalServer, local_server
from websockets.exceptions import ConnectionClosed

from maquette.engine.events import Actor
from maquette.engine.sync import (
    AwarenessState,
    AwarenessUpdate,
    PermissionDenied,
    QueryAwareness,
    Stored,
    SyncUpdate,
    varuint,
)
from maquette.server.doorkeeper import Doorkeeper, Visit, address_of
from maquette.server.errors import LimitReached
from maquette.server.limits import LimitTable, TenantLimits
from maquette.server.presence import MAX_STATE_BYTES

NOTES = "demo/text:notes"
ELSEWHERE = "demo/text:elsewhere"


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with local_server() as one:
        yield one


async def edits_pass(server: LocalServer, document: str = NOTES) -> None:
    """The honest bystanders: two others, whose edits reach each other."""
    async with peer(server.url, document, name="Ann") as ann, peer(server.url, document, name="Ben") as ben:
        for _ in range(5):
            before = str(ben.text)
            await ann.write("!")
            await ben.until_text(before + "!")


# --- pace ------------------------------------------------------------------------------------------------------------


async def test_g2_a_flood_is_read_slowly_and_whole_while_others_edit() -> None:
    limits = TenantLimits(ops_per_connection=60)
    async with local_server(limits=limits) as server, peer(server.url, NOTES, name="Eve", acks="1") as eve:
        started = time.monotonic()
        for _ in range(240):
            await eve.write("x")
        await edits_pass(server, ELSEWHERE)
        while (await eve.expect(Stored)).frames < 241:  # the answer to the server's question counts too
            pass
        assert time.monotonic() - started > 1.5, "expected 120 at the border of two seconds, and 60 in each more"
        async with peer(server.url, NOTES, name="Cat") as cat:
            assert str(cat.text) == "x" * 240


async def test_g2_a_flood_that_goes_on_is_closed_with_1013_and_a_time_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("maquette.server.rates.FLOOD_SECONDS", 0.5)
    limits = TenantLimits(frames_per_connection=50)
    async with local_server(limits=limits) as server, peer(server.url, NOTES, name="Eve") as eve:
        flooding = asyncio.ensure_future(without_end(eve))
        await edits_pass(server)
        code, reason = await eve.end()
        await flooding
        await edits_pass(server)
    assert code == 1013
    assert "retry after" in reason


async def without_end(one: Peer) -> None:
    with suppress(ConnectionClosed):
        while True:
            await one.send(QueryAwareness())
            await asyncio.sleep(0)  # a send yields only when the socket is full


async def test_g2_questions_count_with_the_bytes_of_their_answers() -> None:
    limits = TenantLimits(bytes_per_connection=100_000)
    async with local_server(limits=limits) as server:
        async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Ben") as ben:
            await ann.write("x" * 60_000)
            await ben.until_text("x" * 60_000)
        async with peer(server.url, NOTES, name="Eve") as eve:  # its greeting was the first question
            answers = 0
            await eve.send(QueryAwareness())
            for _ in range(50):
                await eve.socket.send(b"\0\0\1\0")
            await edits_pass(server, ELSEWHERE)
            [connection] = [one for one in server.hub.connections if one.session.name == "Eve"]
            answers = connection.waiting // 60_000
    assert answers < 50


async def test_a_floods_pace_ends_with_its_connection_and_nothing_of_it_is_kept(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Eve") as eve:
        for _ in range(100):
            await eve.write("x")
        assert server.hub.doorkeeper._tenants
    await edits_pass(server)
    while server.hub.connections:  # noqa: ASYNC110  (a real socket closes when it does)
        await asyncio.sleep(0)
    assert server.hub.doorkeeper._tenants == {}


# --- the door --------------------------------------------------------------------------------------------------------


async def test_g2_an_actor_has_so_many_connections_and_one_that_leaves_makes_room() -> None:
    async with local_server(limits=TenantLimits(connections_per_actor=3)) as server, AsyncExitStack() as stack:
        mine = [await stack.enter_async_context(peer(server.url, NOTES, name="Eve")) for _ in range(3)]
        async with peer(server.url, NOTES, name="Eve", sync=False) as fourth:
            code, reason = await fourth.end()
        assert code == 1013
        assert "expected at most 3 open connections of one actor" in reason
        assert "retry after" in reason
        await edits_pass(server)
        await mine[0].socket.close()
        while len(server.hub.connections) > 2:  # noqa: ASYNC110  (a real socket closes when it does)
            await asyncio.sleep(0)
        async with peer(server.url, NOTES, name="Eve") as again:
            assert again.socket.close_code is None


@pytest.mark.parametrize("scope", ["address", "space", "tenant"])
async def test_g2_connections_have_a_limit_in_each_place(scope: str) -> None:
    limits = TenantLimits(**{f"connections_per_{scope}": 3})
    async with local_server(limits=limits) as server, AsyncExitStack() as stack:
        for name in ("Ann", "Ben", "Cat"):
            await stack.enter_async_context(peer(server.url, NOTES, name=name))
        async with peer(server.url, NOTES, name="Dan", sync=False) as fourth:
            code, reason = await fourth.end()
    assert code == 1013
    assert f"expected at most 3 open connections of one {scope}" in reason


async def test_g2_who_comes_too_often_is_told_when_to_come_back_and_others_come_in() -> None:
    ends = []
    async with local_server(limits=TenantLimits(accepts_per_actor=5)) as server:
        for _ in range(14):  # more than twice as many: the window may slide on meanwhile
            async with peer(server.url, NOTES, name="Eve", sync=False) as eve:
                with suppress(ConnectionClosed):
                    await eve.receive()  # the first question of who is let in, or the end
                ends.append((eve.socket.close_code, eve.socket.close_reason or ""))
        await edits_pass(server)
    refused = [reason for code, reason in ends if code == 1013]
    assert len(refused) >= 2
    assert all("connections in 10 s of one actor" in reason and "retry after" in reason for reason in refused)


async def test_g2_one_tenant_uses_up_nothing_of_anothers() -> None:
    async with local_server(limits=TenantLimits(connections_per_tenant=1)) as server, AsyncExitStack() as stack:
        await server.engine.create_space("other", "demo", Actor("zoe"))
        await stack.enter_async_context(peer(server.url, NOTES, name="Ann"))
        token = server.token("zoe", tenant="other")
        zoe = await stack.enter_async_context(peer(server.url, NOTES, token=token))
        await zoe.write("mine")
        async with peer(server.url, NOTES, name="Ben", sync=False) as ben:
            assert (await ben.end())[0] == 1013


def test_a_household_is_one_address() -> None:
    def of(host: str) -> str:
        return address_of(Address(host, 1))

    assert of("2001:db8:1:2::1") == of("2001:db8:1:2:ffff::9") != of("2001:db8:1:3::1")
    assert of("::ffff:192.0.2.1") == of("192.0.2.1") != of("192.0.2.2")
    assert of("fe80::1%eth0") == of("fe80::2")
    assert address_of(None) == ""


# --- documents -------------------------------------------------------------------------------------------------------


async def test_g2_a_text_document_too_many_is_4429_and_those_that_are_there_open() -> None:
    async with local_server(limits=TenantLimits(documents_per_space=2)) as server:
        for name in ("notes", "elsewhere"):
            await edits_pass(server, f"demo/text:{name}")
        async with peer(server.url, "demo/text:third", name="Eve", sync=False) as eve:
            code, reason = await eve.end()
        assert code == 4429
        assert "expected at most 2 text documents" in reason
        await edits_pass(server)
        async with peer(server.url, "demo/chat", name="Ann") as ann:
            assert ann.socket.close_code is None


async def test_g2_a_full_document_takes_deletions_and_tells_who_would_add() -> None:
    async with local_server(limits=TenantLimits(document_bytes=2_000)) as server:
        async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Ben") as ben:
            await ann.write("x" * 1_500)
            await ben.until_text("x" * 1_500)
            async with peer(server.url, NOTES, name="Eve") as eve:
                await eve.write("y" * 1_000)
                assert "expected at most 2000 bytes in a document" in (await eve.expect(PermissionDenied)).reason
                await eve.write("y")
                assert (await eve.end())[0] == 4403
            await ben.edit(lambda: ben.text.clear())
            await ann.until_text("")
        async with peer(server.url, NOTES, doc=ann.doc, name="Ann") as back:  # who brings only what is known is welcome
            await back.send(SyncUpdate(back.doc.get_update()))
            await back.write("z")
            await back.until(lambda: True)
        await edits_pass(server, ELSEWHERE)


# --- HTTP ------------------------------------------------------------------------------------------------------------


async def test_g2_requests_beyond_the_rate_are_429_with_what_the_client_needs_to_know(tmp_path: Path) -> None:
    limits = LimitTable(TenantLimits(requests_per_actor=5))
    async with serving("memory:", tmp_path, limits=limits) as api:
        answers = [await api.call("GET", "/spaces", sub="eve") for _ in range(12)]
        refused = [one for one in answers if one.status_code == 429]
        assert len(refused) >= 2
        told = problem(refused[-1], 429)
        assert told["type"].endswith(":too-many-requests")
        assert told["limit"] == 5
        assert int(refused[-1].headers["Retry-After"]) == told["retry"] >= 1
        assert refused[-1].headers["RateLimit-Policy"] == '"actor";q=5;w=60'
        assert refused[-1].headers["RateLimit"].startswith('"actor";r=0;t=')
        await api.done("GET", "/spaces", sub="ann")


async def test_every_answer_says_what_is_left(tmp_path: Path) -> None:
    async with serving("memory:", tmp_path) as api:
        first, second = [await api.call("GET", "/spaces") for _ in range(2)]
        assert first.headers["RateLimit-Policy"] == '"actor";q=1200;w=60'
        left = [int(one.headers["RateLimit"].split("r=")[1].split(";")[0]) for one in (first, second)]
        assert left[0] > left[1] > 1_190
        assert "RateLimit" not in (await api.http.get("/healthz")).headers


def test_a_visit_is_counted_in_its_tenant_only() -> None:
    keeper = Doorkeeper(LimitTable(TenantLimits(requests_per_address=2)))
    with pytest.raises(LimitReached, match="requests in 60 s of one address"):
        [keeper.request(Visit("a", f"actor{number}", "192.0.2.1")) for number in range(8)]
    assert keeper.request(Visit("b", "zoe", "192.0.2.1")).remaining > 0


# --- presence --------------------------------------------------------------------------------------------------------


def states_of(one: Peer, client: int) -> list[dict[str, Any] | None]:
    """What `one` has heard of the client, in order."""
    return [
        state.state
        for message in one.seen
        if isinstance(message, AwarenessUpdate)
        for state in message.states
        if state.client == client
    ]


async def heard(one: Peer, client: int, cursor: Any) -> None:
    await one.until(lambda: any(state and state.get("cursor") == cursor for state in states_of(one, client)))


async def test_p2_states_for_others_reach_nobody_over_the_wire(server: LocalServer) -> None:
    async with (
        peer(server.url, NOTES, name="Ann") as ann,
        peer(server.url, NOTES, name="Ben") as ben,
        peer(server.url, NOTES, name="Eve") as eve,
    ):
        victim = ann.doc.client_id
        for clock in range(1, 200):
            forged = [
                AwarenessState(victim, clock, {"cursor": "forged"}),
                AwarenessState(clock, 1, {"cursor": "made up"}),
            ]
            await eve.send(AwarenessUpdate((*forged, AwarenessState(victim, clock, None))))
        await eve.announce(5, cursor="last")
        await heard(ben, eve.doc.client_id, "last")
        await ann.announce(1, cursor="true")
        await heard(ben, victim, "true")
        heard_of = states_of(ben, victim) + [state for client in range(1, 200) for state in states_of(ben, client)]
        assert None not in heard_of
        assert {state.get("cursor") for state in heard_of if state} <= {None, "true"}
    await edits_pass(server)


async def test_p3_a_thousand_states_come_to_others_as_the_newest_of_each_tick(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ben") as ben, peer(server.url, NOTES, name="Eve") as eve:
        for clock in range(1, 1_001):
            await eve.announce(clock, cursor=clock)
        await heard(ben, eve.doc.client_id, 1_000)
        assert len(states_of(ben, eve.doc.client_id)) < 200
    await edits_pass(server)


async def test_p3_states_above_16_kb_are_dropped_and_smaller_ones_heard(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ben") as ben, peer(server.url, NOTES, name="Eve") as eve:
        for clock in range(1, 50):
            await eve.announce(clock, cursor="x" * MAX_STATE_BYTES)
        almost = "y" * (MAX_STATE_BYTES - 200)
        await eve.announce(60, cursor=almost)
        await heard(ben, eve.doc.client_id, almost)
        assert all(len(str(state)) <= MAX_STATE_BYTES for state in states_of(ben, eve.doc.client_id))
    await edits_pass(server)


async def test_p2_a_frame_of_ten_thousand_clients_shows_its_sender_alone(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ben") as ben, peer(server.url, NOTES, name="Eve") as eve:
        crowd = [AwarenessState(client, 1, {"cursor": "nobody"}) for client in range(1, 10_000)]
        await eve.send(AwarenessUpdate((*crowd, AwarenessState(eve.doc.client_id, 9, {"cursor": "own"}))))
        await heard(ben, eve.doc.client_id, "own")
        assert [state for client in range(1, 10_000) for state in states_of(ben, client)] == []
        assert sum(len(one._states) for one in server.hub._presences.values()) == 2
    await edits_pass(server)


@pytest.mark.parametrize(
    "text", [b'{"a":' * 3_000, b'{"a":"' + b"x" * 3_000, b"[" * 30_000], ids=["maps", "text", "lists"]
)
async def test_p3_a_state_that_never_ends_ends_its_connection_alone(server: LocalServer, text: bytes) -> None:
    async with peer(server.url, NOTES, name="Ben") as ben, peer(server.url, NOTES, name="Eve") as eve:
        state = varuint(1) + varuint(eve.doc.client_id) + varuint(9) + varuint(len(text)) + text
        await eve.socket.send(b"\x01" + varuint(len(state)) + state)
        assert (await eve.end())[0] == 4400
        await ben.until(lambda: None in states_of(ben, eve.doc.client_id))
    await edits_pass(server)

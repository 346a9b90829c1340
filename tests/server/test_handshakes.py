"""How sockets are read and written below the application (G2), over real ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import httpx
import pytest
from tests.support.peer import peer
from tests.support.server import LocalServer, local_server

from maquette.engine.sync import QueryAwareness, SyncUpdate, write_frame
from maquette.server import bodies, handshakes, sockets
from maquette.server.turns import Party, Turns

NOTES = "demo/text:notes"
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
UPGRADE = (
    b"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
HURRY = 0.2


class Slowed(Turns):
    """Turns where who is named in `over` waits until `let` is called."""

    def __init__(self) -> None:
        super().__init__(later=lambda _seconds, action: self.due.append(action))
        self.due: list[Callable[[], None]] = []
        self.over: set[Party] = set()
        self.came = asyncio.Event()

    def is_over(self, party: Party) -> bool:
        return party in self.over

    def line_up(self, party: Party) -> asyncio.Future[None]:
        self.came.set()
        return super().line_up(party)

    def let(self) -> None:
        due, self.due = self.due, []
        for action in due:
            action()


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with local_server() as one:
        one.hub.turns = Slowed()
        yield one


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "HEAD_SECONDS", HURRY)


def slowed(server: LocalServer) -> Slowed:
    assert isinstance(server.hub.turns, Slowed)
    return server.hub.turns


async def connected(server: LocalServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = server.url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server closes the connection."""
    async with asyncio.timeout(20):
        return await reader.read()


# --- half-open sockets -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("sent", [b"", b"GET", REQUEST], ids=["nothing", "a word", "all but the end"])
async def test_g2_who_begins_no_request_is_cut_off(server: LocalServer, sent: bytes) -> None:
    reader, writer = await connected(server)
    writer.write(sent)
    assert await ended(reader) == b""
    writer.close()


@pytest.mark.usefixtures("hurry")
async def test_g2_a_second_request_that_never_ends_is_cut_off_too(server: LocalServer) -> None:
    reader, writer = await connected(server)
    writer.write(REQUEST + b"\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    writer.write(REQUEST)
    assert await ended(reader) == b"ok\n"
    writer.close()


async def test_g2_a_body_that_comes_by_drops_is_answered_with_408(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "GRACE_SECONDS", HURRY)
    reader, writer = await connected(server)
    head = (
        b"POST /v1/spaces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n"
    )
    writer.write(head + b'{"slug":')
    answer = await ended(reader)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"body: expected 4096 bytes a second, got 8 bytes and then too few" in answer
    writer.close()


@pytest.mark.usefixtures("hurry")
async def test_who_has_asked_in_time_stays(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Ben") as ben:
        for _ in range(2):
            reader, writer = await connected(server)
            await ended(reader)  # for so long that who came before would be gone too
            writer.close()
        await ann.write("still here")
        await ben.until_text("still here")


@pytest.mark.usefixtures("hurry")
async def test_who_asked_in_time_and_had_to_wait_stays(server: LocalServer) -> None:
    turns = slowed(server)
    reader, writer = await connected(server)
    writer.write(REQUEST[:5])
    door = turns.party("", "127.0.0.1", "")
    while door.used(turns.clock()) <= handshakes.ACCEPT_SECONDS:  # noqa: ASYNC110  (until its first bytes are read)
        await asyncio.sleep(0)
    turns.over.add(door)
    writer.write(b"sync/demo/text:notes?name=Ann HTTP/1.1\r\n" + UPGRADE)
    await turns.came.wait()
    turns.over.clear()
    turns.let()
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    ending = asyncio.ensure_future(reader.read())
    for _ in range(2):
        another, its_writer = await connected(server)
        await ended(another)  # for so long that the time of who came before is over
        its_writer.close()
    assert not ending.done()
    writer.close()
    await ending


# --- turns -----------------------------------------------------------------------------------------------------------


async def test_g2_who_is_over_is_not_read_before_its_turn(server: LocalServer) -> None:
    turns = slowed(server)
    door = turns.party("", "127.0.0.1", "")
    turns.over.add(door)
    reader, writer = await connected(server)
    writer.write(REQUEST + b"\r\n")
    await turns.came.wait()
    assert turns.waiting == 1
    assert door.used(turns.clock()) < 2 * handshakes.ACCEPT_SECONDS  # nothing but the door was opened
    turns.let()
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_g2_a_flooding_socket_waits_and_loses_nothing(server: LocalServer) -> None:
    turns = slowed(server)
    async with peer(server.url, NOTES, name="Ben") as ben, peer(server.url, NOTES, name="Eve") as eve:
        [actor] = [one.session.actor.id for one in server.hub.connections if one.session.name == "Eve"]
        turns.over.add(turns.party("dev", "127.0.0.1", actor))
        for _ in range(200):
            await eve.write("x")
        await ben.write("!")
        await ben.until_text("!")
        turns.over.clear()
        turns.let()
        await ben.until(lambda: len(ben.text) == 201)


async def test_g2_what_came_before_a_pause_is_handled_in_its_turn_though_nothing_new_comes(server: LocalServer) -> None:
    turns = slowed(server)
    async with peer(server.url, NOTES, name="Ben") as ben, peer(server.url, NOTES, name="Eve") as eve:
        [connection] = [one for one in server.hub.connections if one.session.name == "Eve"]
        connection.pause = 0.5  # as behind a refusal
        for letter in "abc":
            update = eve.change(partial(eve.text.insert, 0, letter))
            eve.socket.protocol.send_binary(write_frame(SyncUpdate(update)))
        eve.socket.transport.write(b"".join(eve.socket.protocol.data_to_send()))
        await ben.until_text("a")
        turns.came.clear()
        turns.over.add(turns.party("dev", "127.0.0.1", connection.session.actor.id))
        await turns.came.wait()
        turns.over.clear()
        turns.let()
        await ben.until_text("cba")


async def test_g2_pings_are_work_too(server: LocalServer) -> None:
    turns = slowed(server)
    async with peer(server.url, NOTES, name="Eve") as eve:
        [actor] = [one.session.actor.id for one in server.hub.connections]
        party = turns.party("dev", "127.0.0.1", actor)
        before = party.used(turns.clock())
        for _ in range(50):
            await (await eve.socket.ping())
        assert party.used(turns.clock()) > before
        turns.over.add(party)
        turns.came.clear()
        for _ in range(50):
            await eve.socket.ping()
        await turns.came.wait()
        turns.over.clear()
        turns.let()
        await (await eve.socket.ping())


async def test_work_of_a_request_is_its_senders(server: LocalServer) -> None:
    turns = slowed(server)
    async with httpx.AsyncClient(base_url=server.url) as http:
        (await http.get("/v1/spaces", headers={"Authorization": f"Bearer {server.token('ann')}"})).raise_for_status()
        used = turns.party("dev", "127.0.0.1", "actor-ann").used(turns.clock())
    assert used > 0.0


# --- writing ---------------------------------------------------------------------------------------------------------


class Wire:
    """A transport that remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def close(self) -> None:
        self.calls.append("close")


async def test_what_is_written_in_one_turn_of_the_loop_leaves_at_once_and_in_order() -> None:
    wire = Wire()
    corked = sockets._Corked(wire, asyncio.get_running_loop())  # type: ignore[arg-type]  # the part that is used
    corked.write(b"a")
    corked.write(b"b")
    await asyncio.sleep(0)
    corked.write(b"c")
    corked.close()
    await asyncio.sleep(0)
    assert wire.calls == [b"ab", b"c", "close"]


async def test_much_that_is_written_in_one_turn_does_not_wait_for_its_end() -> None:
    wire = Wire()
    corked = sockets._Corked(wire, asyncio.get_running_loop())  # type: ignore[arg-type]  # the part that is used
    corked.write(bytes(sockets.MAX_CORKED))
    assert wire.calls == []
    corked.write(b"a")
    assert [len(call) for call in wire.calls] == [sockets.MAX_CORKED + 1]


async def test_large_frames_and_tiny_ones_arrive_in_pieces_of_any_size(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Ben") as ben:
        await ann.write("x" * 300_000)
        for _ in range(100):
            await ann.socket.send(write_frame(QueryAwareness()))
            await ann.write("y")
        await ben.until(lambda: len(ben.text) == 300_100)

"""A WebSocket as our own server reads and writes it: what goes by the short way, and what by uvicorn's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
import websockets
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from tests.support.peer import peer
from tests.support.server import LocalServer, local_server

from maquette.engine.sync import SyncUpdate, write_frame
from maquette.server import sockets
from maquette.server.handshakes import Door
from maquette.server.rates import Pacer
from maquette.server.sockets import Wire
from maquette.server.sync import _Socket

NOTES = "demo/text:notes"


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with local_server() as running:
        yield running


async def test_a_message_in_fragments_is_one_message_in_its_place(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Ben") as ben:
        frame = write_frame(SyncUpdate(ann.change(lambda: ann.text.insert(0, "whole"))))
        await ann.socket.send([frame[:3], frame[3:7], frame[7:]])
        await ann.write(" again")
        await ben.until_text("whole again")


async def test_a_message_amid_the_fragments_of_another_ends_the_connection_with_1002(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann:
        protocol = ann.socket.protocol
        protocol.send_binary(b"\x00", fin=False)
        begun = b"".join(protocol.data_to_send())
        protocol.expect_continuation_frame = False
        protocol.send_binary(b"\x00")
        ann.socket.transport.write(begun + b"".join(protocol.data_to_send()))
        assert (await ann.end())[0] == 1002


async def test_hundreds_of_messages_in_one_packet_are_handled_in_their_order(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Ben") as ben:

        def typed(number: int) -> bytes:
            return ann.change(lambda: ann.text.insert(len(ann.text), f"{number} "))

        updates = [typed(number) for number in range(400)]
        for update in updates:
            ann.socket.protocol.send_binary(write_frame(SyncUpdate(update)))
        ann.socket.transport.write(b"".join(ann.socket.protocol.data_to_send()))
        await ben.until_text("".join(f"{n} " for n in range(400)))


async def test_a_ping_among_messages_is_answered(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann:
        await ann.write("a")
        await (await ann.socket.ping())
        await ann.write("b")
        await ann.until_text("ab")


def wire_of(server: LocalServer) -> Wire:
    [connection] = server.hub.connections
    assert isinstance(connection._socket, _Socket)
    assert connection._socket._wire is not None
    return connection._socket._wire


async def test_g2_who_pings_and_does_not_read_is_owed_one_pong(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Eve") as eve:
        wire = wire_of(server)
        sent: list[bytes] = []
        wire.transport.write = sent.append  # type: ignore[method-assign,assignment]  # what goes out is looked at
        wire.pause_writing()
        for number in range(300):
            await eve.socket.ping(f"{number:0100}".encode())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):  # nobody is told of anything, which is the point
                await eve.receive()
        assert sent == []
        wire.resume_writing()
        [pong] = sent
        assert pong.endswith(f"{299:0100}".encode())


async def test_g2_pings_and_parts_of_messages_are_counted(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    take = Pacer.take

    def count(self: Pacer, now: float, size: int, op: bool) -> float:
        sizes.append(size)
        return take(self, now, size, op)

    async with peer(server.url, NOTES, name="Eve") as eve:
        await (await eve.socket.ping())
        monkeypatch.setattr(Pacer, "take", count)
        await eve.socket.ping(b"12")
        await eve.socket.send([bytes(4), b"", b"", b"!"])
        await (await eve.socket.ping())
    assert sizes[:4] == [8, 10, 6, 6]


async def test_g2_a_message_in_too_many_parts_is_closed_with_1009(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "MAX_PARTS", 8)
    async with peer(server.url, NOTES, name="Eve") as eve:
        protocol = eve.socket.protocol
        protocol.send_binary(b"", fin=False)
        for _ in range(8):
            protocol.send_continuation(b"", fin=False)
        eve.socket.transport.write(b"".join(protocol.data_to_send()))
        assert (await eve.end())[0] == 1009


async def test_an_application_that_does_not_listen_receives_as_on_uvicorn() -> None:
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        async for message in websocket.iter_bytes():
            await websocket.send_bytes(message)

    app = Starlette(routes=[WebSocketRoute("/", echo)])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = uvicorn.Server(uvicorn.Config(app, http=Door, ws=Wire, lifespan="off", log_level="error"))
        serving = asyncio.ensure_future(running.serve(sockets=[listener]))
        async with websockets.connect(f"ws://127.0.0.1:{listener.getsockname()[1]}/") as client:
            await client.send(b"first")
            await client.send([b"sec", b"ond"])
            assert [await client.recv(), await client.recv()] == [b"first", b"second"]
        running.should_exit = True
        await serving

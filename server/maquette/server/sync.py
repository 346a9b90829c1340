"""`GET /sync/{space}/{document}`: the WebSocket endpoint, and the hub that keeps its connections.

Rule 1: whoever comes is accepted first and refused then, because a refusal before accept is retried for ever (G2).
Rule 2: a refusal says what was expected and what came.
Rule 3: at shutdown, everything submitted is stored and its echo sent before the connections are closed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from maquette.engine.document import Document
from maquette.engine.engine import Engine
from maquette.engine.errors import DocumentMoved, InvalidInput, MaquetteError, NotFound
from maquette.engine.roles import Role
from maquette.engine.space import Resolved
from maquette.engine.sync import SyncUpdate, write_frame
from maquette.server.auth import Authenticator, enter
from maquette.server.closing import Close
from maquette.server.connection import Connection
from maquette.server.errors import Unauthenticated
from maquette.server.presence import TICK_SECONDS, Presence
from maquette.server.sessions import Session

SILENCE_SECONDS = 20.0  # y-websocket 3 reconnects after 30 s without a message
RETRY_SECONDS = 1.0  # after a failed commit, before the document is opened again
_logger = logging.getLogger(__name__)


class Hub:
    """All connections of one server, and the presence of the documents that they show."""

    def __init__(self, engine: Engine, authenticator: Authenticator) -> None:
        self.engine = engine
        self.connections: set[Connection] = set()
        self._authenticator = authenticator
        self._presences: dict[str, Presence] = {}
        self._draining = False
        self._ticking = False
        self._nobody = asyncio.Event()
        self._nobody.set()

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one WebSocket from accept to close."""
        await websocket.accept()
        socket = _Socket(websocket)
        try:
            session = self._authenticator.authenticate_connection(websocket)
            found = await self._find(websocket, session)
        except Unauthenticated as error:
            await socket.close(Close.unauthenticated(str(error)))
        except DocumentMoved as error:
            await socket.close(Close.moved(error.successor))
        except (NotFound, InvalidInput) as error:
            await socket.close(Close.unknown(str(error)))
        except MaquetteError as error:
            _logger.exception("sync: a document could not be found")
            await socket.close(Close.unavailable(str(error)))
        else:
            await self._run(websocket, socket, session, found)

    async def _find(self, websocket: WebSocket, session: Session) -> Resolved:
        space, role = await enter(self.engine, session, websocket.path_params["space"], join=True)
        writer = session.actor if role >= Role.EDITOR else None
        return await space.resolve(websocket.path_params["document"], create_as=writer)

    async def _run(self, websocket: WebSocket, socket: _Socket, session: Session, found: Resolved) -> None:
        stream = found.space.record.document_stream(found.record, found.epoch)
        presence = self._presences.setdefault(stream, Presence())
        acks = websocket.query_params.get("acks") == "1"
        connection = Connection(socket, session, found, presence, acks=acks)
        if self._draining:
            connection.close(Close.RESTART)
        self.connections.add(connection)
        self._nobody.clear()
        loop = asyncio.get_running_loop()
        attached = loop.create_future()
        work = (
            self._read(websocket, connection, attached),
            connection.write(loop.time),
            self._attach(connection, attached),
        )
        tasks = [asyncio.ensure_future(one) for one in work]
        try:
            await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_COMPLETED)
        finally:
            connection.close(Close.RESTART)
            connection.detach()
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception) and not _is_disconnect(result):
                    _logger.error("sync: a connection failed", exc_info=result)
            self.connections.discard(connection)
            if not self.connections:
                self._nobody.set()

    async def _read(self, websocket: WebSocket, connection: Connection, attached: asyncio.Future[None]) -> None:
        await attached  # a client's first message is its state vector, and it comes once
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            frame = message.get("bytes")
            if frame is None:
                connection.close(Close.malformed("expected a binary frame, got text"))
                frame = b""
            if connection.closing is None:
                connection.receive(frame)
                await connection.room()
            self._tick_soon()

    async def _attach(self, connection: Connection, attached: asyncio.Future[None]) -> None:
        """Open the document, and again whenever its replica is lost, until the connection closes."""
        while connection.closing is None:
            if attached.done():  # not the first time: the disk may need a moment
                await asyncio.sleep(RETRY_SECONDS * (0.5 + random.random()))
            try:
                document = await connection.found.space.open_resolved(connection.found)
            except MaquetteError as error:
                _logger.warning("sync: %s cannot be opened: %s", connection.found.name, error)
                connection.close(Close.unavailable(str(error)))
                return
            connection.reattach.clear()
            connection.attach(document)
            if connection.seen >= 0:
                await self._show_missed(connection, document)
            if not attached.done():
                attached.set_result(None)
            self._tick_soon()
            await connection.reattach.wait()

    async def _show_missed(self, connection: Connection, document: Document) -> None:
        """Send what was stored between the loss of a document and its return."""
        async for page in self.engine.log.read(document.stream, after=connection.seen, until=document.durable):
            for event in page:
                connection.deliver(write_frame(SyncUpdate(event.data["update"])))

    # --- time ------------------------------------------------------------------------------------------------------

    def _tick_soon(self) -> None:
        if not self._ticking and any(presence.is_dirty for presence in self._presences.values()):
            self._ticking = True
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        for stream, presence in tuple(self._presences.items()):
            if presence.is_empty:
                del self._presences[stream]
            elif presence.is_dirty:
                presence.tick()
        self._tick_soon()

    async def keep_alive(self) -> None:
        """Run beside the server: let nobody hear nothing for 20 s (P3)."""
        clock: Callable[[], float] = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(SILENCE_SECONDS / 4)
            for connection in tuple(self.connections):
                connection.keep_alive(clock() - SILENCE_SECONDS * 3 / 4)

    async def drain(self) -> None:
        """Store and echo what was submitted, then close every connection with 1012 (rule 3)."""
        self._draining = True
        await self.engine.settle()
        for connection in tuple(self.connections):
            connection.close(Close.RESTART)
        await self._nobody.wait()


class _Socket:
    """A Starlette WebSocket as connections see it."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def send(self, frame: bytes) -> None:
        await self._websocket.send_bytes(frame)

    async def close(self, close: Close) -> None:
        if self._websocket.application_state is not WebSocketState.DISCONNECTED:
            with suppress(RuntimeError, WebSocketDisconnect):  # the client was faster
                await self._websocket.close(close.code, close.reason)


def _is_disconnect(error: Exception) -> bool:
    return isinstance(error, (WebSocketDisconnect, RuntimeError)) and "websocket" in repr(error).lower()


def sync_route(hub: Hub) -> WebSocketRoute:
    """The route of the sync protocol, to mount in an application."""
    return WebSocketRoute("/sync/{space}/{document:path}", hub.serve)

"""`GET /sync/{space}/{document}`: the WebSocket endpoint, and the hub that keeps its connections.

Rule 1: whoever comes is accepted first and refused then, because a refusal before accept is retried for ever (G2).
Rule 2: a refusal says what was expected and what came.
Rule 3: at shutdown, everything submitted is stored and its echo sent before the connections are closed.
Rule 4: a connection that is to close gets a moment for it; who does not read then is cut off.
Rule 5: who sends faster than allowed is read at the allowed pace, and closed only when that goes on (G2, `rates`).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from maquette.engine.document import Document
from maquette.engine.engine import Engine
from maquette.engine.errors import (
    DocumentMoved,
    InvalidInput,
    LogError,
    MaquetteError,
    NotFound,
    TooManyDocuments,
)
from maquette.engine.roles import Role
from maquette.engine.space import Resolved, Space
from maquette.engine.sync import SyncUpdate, write_frame
from maquette.server.auth import Authenticator, enter, introduce
from maquette.server.closing import Close
from maquette.server.connection import Connection
from maquette.server.doorkeeper import Doorkeeper, Visit, address_of
from maquette.server.errors import Forbidden, LimitReached, Unauthenticated
from maquette.server.inflow import Inflow
from maquette.server.presence import TICK_SECONDS, Presence
from maquette.server.rates import Pacer
from maquette.server.sessions import Session
from maquette.server.sockets import WIRE, Wire
from maquette.server.turns import SEAT, Seat, Turns

SILENCE_SECONDS = 20.0  # y-websocket 3 reconnects after 30 s without a message
WATCH_SECONDS = SILENCE_SECONDS / 4  # between two looks at all connections
RETRY_SECONDS = 1.0  # after a document was lost, before it is opened again
HOLD_SECONDS = 3.0  # at most, before a connection too many is told so: who comes back at once comes less often
MAX_HELD = 500  # connections too many that wait for it, some 40 KiB each; more are told at once
LEAVE_SECONDS = 30.0  # for a client to bring what it has for an epoch that is over
LEAVE_ROUNDS = 2  # of carrying over; who edits on without a pause is not read in the last, and brings the rest later
CLOSE_SECONDS = 5.0  # for a client to read what waits for it and the reason of its end
_logger = logging.getLogger(__name__)


class Hub:
    """All connections of one server, and the presence of the documents that they show."""

    def __init__(self, engine: Engine, authenticator: Authenticator, doorkeeper: Doorkeeper | None = None) -> None:
        self.engine = engine
        self.doorkeeper = doorkeeper or Doorkeeper()
        self.turns = Turns()
        self.connections: set[Connection] = set()
        self.retry_seconds = RETRY_SECONDS
        self.close_seconds = CLOSE_SECONDS
        self.hold_seconds = HOLD_SECONDS
        self.leave_seconds = LEAVE_SECONDS
        self._held = 0
        self._ending = asyncio.Event()
        self._authenticator = authenticator
        self._presences: dict[str, Presence] = {}
        self._draining = False
        self._ticking = False
        self._nobody = asyncio.Event()
        self._nobody.set()
        engine.on_member.append(self._review)

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one WebSocket from accept to close."""
        socket = _Socket(websocket)
        try:
            await websocket.accept()
            refused = await self._admit(websocket, socket)
            if refused is not None:
                await socket.close(refused)
        except (_Gone, WebSocketDisconnect):
            pass  # the client was faster

    async def _admit(self, websocket: WebSocket, socket: _Socket) -> Close | None:
        """Serve the connection, or say why not."""
        with ExitStack() as held:
            try:
                session = self._authenticator.authenticate_connection(websocket)
                visit = Visit(session.tenant, session.actor.id, address_of(websocket.client))
                self.doorkeeper.knock(visit)
                found = await self._find(websocket, session)
                pacer = held.enter_context(self.doorkeeper.inside(visit, found.space.id))
                seat = self._seat(websocket, visit)
            except Unauthenticated as error:
                return Close.unauthenticated(str(error))
            except Forbidden as error:
                return Close.forbidden(str(error))
            except DocumentMoved as error:
                return Close.moved(error.successor)
            except (NotFound, InvalidInput) as error:
                return Close.unknown(str(error))
            except TooManyDocuments as error:
                return Close.too_many(str(error))
            except LimitReached as error:
                await self._hold()
                return Close.unavailable(str(error))
            except MaquetteError as error:
                _logger.exception("sync: a document could not be found")
                return _unavailable(error)
            await self._stay(websocket, socket, session, found, pacer, seat)
        return None

    def _seat(self, websocket: WebSocket, visit: Visit) -> Seat:
        """Where the connection's work is charged: that of its socket, when our own server reads it."""
        party = self.turns.party(visit.tenant, visit.address, visit.actor)
        seat: Seat = websocket.scope.get(SEAT) or Seat(self.turns, party)
        seat.move(party)
        return seat

    async def _hold(self) -> None:
        """Let a connection too many wait, and not all equally long: stock clients do not read when to come back."""
        if self._held >= MAX_HELD:
            return
        self._held += 1
        try:
            async with asyncio.timeout(self.hold_seconds * (0.5 + 0.5 * random.random())):
                await self._ending.wait()
        except TimeoutError:
            pass
        finally:
            self._held -= 1

    async def _stay(
        self, websocket: WebSocket, socket: _Socket, session: Session, found: Resolved, pacer: Pacer, seat: Seat
    ) -> None:
        stream = found.space.record.document_stream(found.record, found.epoch)
        presence = self._presences.setdefault(stream, Presence(self._tick_soon))
        acks = websocket.query_params.get("acks") == "1"
        connection = Connection(socket, session, found, presence, acks=acks)
        self._enter(connection, presence)
        try:
            await self._run(websocket, connection, pacer, seat)
        finally:
            self._leave(connection, presence, stream)

    async def _find(self, websocket: WebSocket, session: Session) -> Resolved:
        slug, document = _address(websocket.path_params["address"])
        space, role = await enter(self.engine, session, slug, join=True)
        try:
            await introduce(space, session, role)
        except LogError as error:  # a full disk keeps nobody from reading
            _logger.warning("sync: the name of %s could not be stored: %s", session.actor.id, error)
        writer = session.actor if role >= Role.EDITOR else None
        most = self.doorkeeper.table.of(session.tenant).documents_per_space
        return await space.resolve(document, create_as=writer, most=most, late=True)

    def _enter(self, connection: Connection, presence: Presence) -> None:
        self.connections.add(connection)
        self._nobody.clear()
        presence.join(connection)
        if self._draining:
            connection.close(Close.RESTART)

    def _review(self, space: Space, actor: str) -> None:
        """Let the connections of `actor` to `space` know at once what it may there now (G3)."""
        for connection in tuple(self.connections):
            if connection.session.actor.id == actor and connection.found.space is space:
                connection.review()

    def _leave(self, connection: Connection, presence: Presence, stream: str) -> None:
        presence.leave(connection)
        if presence.is_empty and self._presences.get(stream) is presence:
            del self._presences[stream]
        self.connections.discard(connection)
        if not self.connections:
            self._nobody.set()

    # --- one connection ----------------------------------------------------------------------------------------------

    async def _run(self, websocket: WebSocket, connection: Connection, pacer: Pacer, seat: Seat) -> None:
        """Read, write and keep the document, until one of them ends; then let the rest be written (rule 4)."""
        writing = asyncio.ensure_future(connection.write())
        others = [
            asyncio.ensure_future(Inflow(websocket, connection, pacer, seat, lambda: self._draining).read()),
            asyncio.ensure_future(self._keep(connection)),
        ]
        try:
            await asyncio.wait((writing, *others), return_when=asyncio.FIRST_COMPLETED)
            connection.close(Close.FAILED)  # nothing new to who is closing, or gone
            connection.detach()
            if not (await asyncio.wait((writing,), timeout=self.close_seconds))[0]:
                connection.cut_off()
        finally:
            connection.detach()
            await _end(writing, *others)

    async def _keep(self, connection: Connection) -> None:
        """Open the document, and again whenever it is lost, until the connection closes."""
        while connection.closing is None:
            try:
                await self._show(connection)
            except MaquetteError as error:
                _logger.warning("sync: %s cannot be opened: %s", connection.found.name, error)
                connection.close(_unavailable(error))
                return
            await connection.detached.wait()
            if connection.is_leaving:
                await self._see_off(connection)
            if connection.closing is None:
                await self._pause()

    async def _see_off(self, connection: Connection) -> None:
        """Take what the client has for an epoch that is over, carry it over, and tell where to go on (D9)."""
        found = connection.found
        try:
            async with asyncio.timeout(self.leave_seconds):
                for left in reversed(range(LEAVE_ROUNDS)):
                    if left == 0:
                        connection.hold()
                    before = connection.updates
                    await connection.settled()
                    await found.space.carry(found.record, found.epoch)
                    if connection.updates == before > 0:
                        break
            if connection.is_leaving:
                connection.leave()
        except TimeoutError:
            connection.leave()
        except MaquetteError as error:
            _logger.warning("sync: %s cannot be carried over now: %s", found.name, error)
            connection.close(_unavailable(error))

    async def _pause(self) -> None:
        """Wait until the log can write again, and not all at the same moment."""
        await asyncio.sleep(self.retry_seconds * (0.5 + random.random()))
        await self.engine.log.until_writable()

    async def _show(self, connection: Connection) -> None:
        """Open the document and show it, what was stored since its loss before anything newer. Raises MaquetteError."""
        while True:
            document = await connection.found.space.open_resolved(connection.found)
            await self._show_missed(connection, document)
            if document.error is None:  # else it was lost or evicted while we read
                connection.attach(document)  # in the same turn of the loop: nothing was stored since
                return

    async def _show_missed(self, connection: Connection, document: Document) -> None:
        while 0 <= connection.seen < document.durable:
            async for page in self.engine.log.read(document.stream, after=connection.seen, until=document.durable):
                for event in page:
                    connection.deliver((write_frame(SyncUpdate(event.data["update"])),))
                    connection.seen = event.revision

    # --- time ------------------------------------------------------------------------------------------------------

    def _tick_soon(self) -> None:
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        for presence in self._presences.values():
            if presence.is_dirty:
                presence.tick()
            if presence.is_dirty:  # more than a frame takes
                self._tick_soon()

    async def keep_alive(self) -> None:
        """Run beside the server: let nobody hear nothing for 20 s (P3), and nobody stay whose token has expired."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self.watch(asyncio.get_running_loop().time(), time.time())

    def watch(self, now: float, wall: float) -> None:
        """Look at all connections at `now` on the loop's clock, `wall` in seconds since 1970."""
        for connection in tuple(self.connections):
            expires = connection.session.expires
            if expires is not None and wall >= expires:
                connection.close(Close.unauthenticated("expected a token that holds, it expired meanwhile"))
            else:
                connection.keep_alive(now - SILENCE_SECONDS + WATCH_SECONDS)

    async def drain(self) -> None:
        """Read nothing more, store and echo what was submitted, then close every connection with 1012 (rule 3)."""
        self._draining = True
        self._ending.set()
        await self.engine.settle()
        for connection in tuple(self.connections):
            connection.close(Close.RESTART)
        await self._nobody.wait()


def _unavailable(error: MaquetteError) -> Close:
    """Why a document cannot be shown; where the log is and what it holds is for this server's log alone."""
    if isinstance(error, LogError):
        return Close.unavailable("expected to read the document, got an error that this server's log tells")
    return Close.unavailable(str(error))


class _Gone(Exception):
    """The client closed the connection, or the server below did."""


class _Socket:
    """A Starlette WebSocket as connections see it."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._wire: Wire | None = websocket.scope.get(WIRE)

    def write(self, frames: tuple[bytes, ...]) -> bool:
        return self._wire is not None and self._wire.write(frames)

    async def send(self, frame: bytes) -> None:
        await self._pass_on(self._websocket.send_bytes(frame))

    def abort(self) -> None:
        if self._wire is not None:
            self._wire.abort()

    async def close(self, close: Close) -> None:
        await self._pass_on(self._websocket.close(close.code, close.reason))

    async def _pass_on(self, sending: Coroutine[Any, Any, None]) -> None:
        try:
            await sending
        except (RuntimeError, WebSocketDisconnect) as error:  # RuntimeError: Starlette's and uvicorn's, once it closed
            raise _Gone from error


async def _end(*tasks: asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception) and not isinstance(result, _Gone):
            _logger.error("sync: a connection failed", exc_info=result)


class _Anything(PathConvertor):
    """Any rest of a path, line breaks too: what no route takes is refused before accept, against rule 1."""

    regex = "(?s:.*)"


register_url_convertor("anything", _Anything())


def sync_route(hub: Hub) -> WebSocketRoute:
    """The route of the sync protocol, to mount in an application."""
    return WebSocketRoute("/sync{address:anything}", hub.serve)


def _address(path: str) -> tuple[str, str]:
    """The names of space and document in what follows `/sync`. Raises NotFound."""
    match path.split("/", 2):
        case "", str(space), str(document) if document:
            return space, document
    raise NotFound("document at /sync/SPACE/DOCUMENT", f"/sync{path}")

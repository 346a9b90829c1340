"""uvicorn's protocols, with what they lack against floods (G2): for `uvicorn.Config(http=Door, ws=AnsweringProtocol)`.

Rule 1: what reading and answering cost is measured and charged (`turns`): to an address while nobody has said who
        comes, then to whom the application found there.
Rule 2: whoever is over waits unread: bytes stay in the kernel, nothing is parsed, and no task wakes up for it.
Rule 3: a request has to arrive within a time, the first one too.
Rule 4: what is written in one turn of the loop leaves by one call.
Rule 5: a handshake that cannot be read is answered. websockets 17 has the answer ready (a line above 8 KiB, too many
        headers, no HTTP at all); uvicorn 0.54 does not send it, and the client waits until it gives up.
"""

from __future__ import annotations

import asyncio
from asyncio import BaseTransport, Future, Transport
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, cast

import h11
from starlette.datastructures import Address
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from maquette.server.doorkeeper import address_of
from maquette.server.services import Services
from maquette.server.turns import SEAT, Seat, Turns

HEAD_SECONDS = 10.0  # for the lines of a request, over the slowest of lines
MAX_UNREAD = 1_000  # sockets of one address that wait for their first turn; more are cut off
ACCEPT_SECONDS = 0.0002  # that asyncio takes to accept a socket, which nobody can measure from here
LEAST_READ = 512  # bytes of one read
MOST_READ = 64 << 10
READ_SECONDS = 0.0004  # of parsing, which one read should take at most: 11,000 tiny frames in 256 KiB took 47 ms
MAX_CORKED = 64 << 10  # bytes: what asyncio takes before it says that the other side is slow


class _Reading:
    """How a socket is read: in pieces that parse fast, and while its party is over only in turn."""

    def __init__(self, transport: Transport, seat: Seat, handle: Callable[[bytes], None]) -> None:
        self.seat = seat
        self.handle = handle
        self.is_held = False
        self._transport = transport
        self._turn: Future[None] | None = None
        self._data = b""
        self._size = 0
        self._resize(2 * LEAST_READ)

    def _resize(self, size: int) -> None:
        self._size = size
        if hasattr(self._transport, "max_size"):  # asyncio's own transports look at it before each read
            self._transport.max_size = size

    def take(self, data: bytes) -> None:
        """Handle what came, at once or in turn; until then nothing more is read."""
        if self.seat.must_wait:
            self.hold(data)
        else:
            self._handle_now(data)

    def hold(self, data: bytes = b"") -> None:
        """Read nothing until its turn, and then handle `data` first."""
        self.is_held = True
        self._data += data
        self._transport.pause_reading()
        self._turn = self.seat.line_up()
        self._turn.add_done_callback(self._go_on)

    def _go_on(self, _: Future[None]) -> None:
        self._turn = None
        self.is_held = False
        self._transport.resume_reading()
        data, self._data = self._data, b""
        if data and not self._transport.is_closing():
            self._handle_now(data)

    def _handle_now(self, data: bytes) -> None:
        started = self.seat.work()
        self.handle(data)
        seconds = self.seat.work() - started
        self.seat.charge(seconds)
        if seconds > READ_SECONDS:
            self._resize(max(LEAST_READ, self._size // 2))
        elif len(data) == self._size and seconds < READ_SECONDS / 4:
            self._resize(min(MOST_READ, self._size * 2))

    def end(self) -> None:
        """The connection is gone."""
        self._data = b""
        if self._turn is not None:
            self._turn.cancel()


class Door(H11Protocol):
    """Requests, until one becomes a WebSocket."""

    _reading: _Reading | None = None
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Called when somebody comes."""
        super().connection_made(transport)
        turns = _turns_of(self.config.app)
        if turns is not None:
            seat = Seat(turns, turns.party("", address_of(Address(*self.client) if self.client else None), ""))
            seat.charge(ACCEPT_SECONDS)
            self._reading = _Reading(transport, seat, super().data_received)
            if len(seat.party.line) >= MAX_UNREAD:
                transport.abort()
                return
            if seat.must_wait:
                self._reading.hold()
            self.app = _Charged(self.app, seat)
            if self.ws_protocol_class is AnsweringProtocol:
                self.ws_protocol_class = partial(AnsweringProtocol, self._reading)  # type: ignore[assignment]
        self._mind_head()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with what came."""
        self._unset_keepalive_if_required()  # also where its turn comes later than uvicorn's 5 s
        if self._reading is None:
            super().data_received(data)
        else:
            self._reading.take(data)
        self._mind_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when it is gone."""
        self._forget_head()
        if self._reading is not None:
            self._reading.end()
        super().connection_lost(exc)

    @property
    def _awaits_head(self) -> bool:
        return (
            self.transport.get_protocol() is self
            and self.conn.their_state is h11.IDLE
            and self.timeout_keep_alive_task is None
        )

    def _mind_head(self) -> None:
        if not self._awaits_head:
            self._forget_head()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._lose_patience)

    def _forget_head(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _lose_patience(self) -> None:
        self._deadline = None
        if self._reading is not None and self._reading.is_held:
            self._mind_head()
        elif self._awaits_head and not self.transport.is_closing():  # what came late, in its turn, is there by now
            self.transport.close()


class AnsweringProtocol(WebSocketsSansIOProtocol):
    """A WebSocket, from its handshake on."""

    def __init__(self, reading: _Reading | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._reading = reading
        if reading is not None:
            reading.handle = self._receive
            self.app = _Charged(self.app, reading.seat)

    def connection_made(self, transport: BaseTransport) -> None:
        """Called when the handshake begins."""
        super().connection_made(cast(BaseTransport, _Corked(cast(Transport, transport), self.loop)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when it is gone."""
        if self._reading is not None:
            self._reading.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with what came."""
        if self._reading is None:
            self._receive(data)
        else:
            self._reading.take(data)

    def _receive(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()


class _Corked:
    """A transport whose writes leave together, at the end of this turn of the loop: a call to the kernel takes longer
    than all that is done for a frame before it."""

    def __init__(self, transport: Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._corked: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        if not self._corked:
            self._loop.call_soon(self._flush)
        self._corked.append(data)
        self._size += len(data)
        if self._size > MAX_CORKED:
            self._flush()

    def _flush(self) -> None:
        if self._corked:
            data = self._corked[0] if len(self._corked) == 1 else b"".join(self._corked)
            self._corked.clear()
            self._size = 0
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Charged:
    """An ASGI application whose work is charged to a seat, which it finds in its scope."""

    def __init__(self, app: Any, seat: Seat) -> None:
        self._app = app
        self._seat = seat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[SEAT] = self._seat
        await _Measured(self._app(scope, receive, send), self._seat)


class _Measured:
    """Awaits a coroutine, and charges each of its steps."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], seat: Seat) -> None:
        self._coroutine = coroutine
        self._seat = seat

    def __await__(self) -> Generator[Any, Any, None]:
        seat, given = self._seat, cast(Any, None)
        step: Callable[[Any], Any] = self._coroutine.send
        while True:
            started = seat.work()
            try:
                awaited = step(given)
            except StopIteration:
                return
            finally:
                seat.charge(seat.work() - started)
            try:
                given = yield awaited
                step = self._coroutine.send
            except GeneratorExit:
                self._coroutine.close()
                raise
            except BaseException as error:  # a cancellation, mostly
                given, step = error, self._coroutine.throw


def _turns_of(app: object) -> Turns | None:
    """The turns of the server that the application is; None where it is mounted in another."""
    services = getattr(getattr(app, "state", None), "maquette", None)
    return services.hub.turns if isinstance(services, Services) else None

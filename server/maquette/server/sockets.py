"""A WebSocket on uvicorn, from its handshake on: frames go in and out without a task, a queue or a copy between.

uvicorn's own path through ASGI takes two system calls, a generator and two turns of the event loop for each message
that comes, and a coroutine for each that goes. Here whoever serves the connection is called with each (`listen`), and
writes the same bytes to all who are told the same (`write`). Handshake, pings, fragments, errors and the end stay
uvicorn's and the library's. Where the application does not listen, all is as uvicorn does it.

Rule 1: what is written in one turn of the loop leaves by one call.
Rule 2: a handshake that cannot be read is answered. websockets 17 has the answer ready (a line above 8 KiB, too many
        headers, no HTTP at all); uvicorn 0.54 does not send it, and the client waits until it gives up.
Rule 3: who is not listened to is not read.
"""

from __future__ import annotations

import asyncio
from asyncio import BaseTransport, Transport
from collections.abc import Callable
from time import perf_counter
from typing import Any, cast

from uvicorn._types import ASGIReceiveEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

from maquette.server.frames import Cutter, Framer
from maquette.server.reading import Charged, Reading
from maquette.server.turns import SLICE

MAX_CORKED = 64 << 10  # bytes: what asyncio takes before it says that the other side is slow
MAX_PARTS = 4_096  # of a message: each costs a frame's work, and some hold no byte
WIRE = "maquette.wire"
"""The key in a connection's scope of its Wire, where our own server reads it."""
_framer = Framer()


class Wire(WebSocketsSansIOProtocol):
    """One WebSocket."""

    def __init__(self, reading: Reading | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._reading = reading
        self._cutter: Cutter | None = None
        self._hear: Callable[[bytes | None], bool] | None = None
        self._count: Callable[[int], bool] | None = None
        self._pong = b""
        self._is_stopped = True
        if reading is not None:
            reading.handle = self._receive
            self.app = Charged(self.app, reading.seat, {WIRE: self})

    # --- for whoever serves it ---------------------------------------------------------------------------------------

    def listen(self, hear: Callable[[bytes | None], bool], count: Callable[[int], bool]) -> None:
        """From `go_on` on, call `hear` with each message, None for one of text, and `count` with the bytes of whatever
        else comes. When one returns False, nothing more is read until `go_on`. What the application's `receive` tells
        then is only the end."""
        self._hear, self._count = hear, count

    def go_on(self) -> None:
        """Read on."""
        self._is_stopped = False
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        if self._reading is not None and not self.transport.is_closing():
            self._reading.go_on_later()
            self._reading.take(b"")

    def write(self, messages: tuple[bytes, ...]) -> bool:
        """Send `messages`; False when the other side reads too slowly, or the connection is ending."""
        if self.close_sent or self.disconnected or not self.writable.is_set() or self.transport.is_closing():
            return False
        self.transport.write(_framer.frames(messages))
        return True

    def abort(self) -> None:
        """Cut the connection off, whatever the other side has not read."""
        self.transport.abort()

    # --- what comes --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: BaseTransport) -> None:
        """Called when the handshake begins."""
        super().connection_made(cast(BaseTransport, _Corked(cast(Transport, transport), self.loop)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when it is gone."""
        if self._reading is not None:
            self._reading.end()
        self._hear = self._count = None  # it holds whoever listens, who holds this
        super().connection_lost(exc)

    def handle_connect(self, event: Request) -> None:
        """Called with the handshake; what comes from then on are frames."""
        super().handle_connect(event)
        if self._reading is not None and not self.close_sent and not self.conn.extensions:
            self._cutter = Cutter(self.config.ws_max_size)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with what came."""
        if self._reading is None:
            self._receive(data)
        else:
            self._reading.take(data)

    def _receive(self, data: bytes) -> None:
        if self._cutter is None:
            self._receive_all(data)
        elif self.close_sent:
            self._leave_to_uvicorn(data)
        else:
            self._cutter.feed(data)
            self._cut(self._cutter)

    def _receive_all(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def _leave_to_uvicorn(self, data: bytes = b"") -> None:
        assert self._cutter is not None
        waiting, self._cutter = self._cutter.rest() + data, None
        if waiting:
            self._receive_all(waiting)

    def _cut(self, cutter: Cutter) -> None:
        """Hand on what is whole, for a slice of time at most."""
        assert self._reading is not None
        until = perf_counter() + SLICE  # what a thread has worked takes a system call to know
        while not self._is_stopped or cutter.is_at_control:  # that the client leaves is heard while it is not read
            found = cutter.next(self.conn.current_size is not None)
            if found is None or self.transport.is_closing():
                break
            is_message, data = found
            if is_message:
                self._tell(data)
            else:
                self._receive_all(data)
                if self._count is not None and not self._count(len(data)):
                    self._is_stopped = True
            if perf_counter() > until:
                self._reading.go_on_later()
                return
        if self._is_stopped and not cutter.is_empty:
            self.read_paused = True
            self.transport.pause_reading()

    def _tell(self, message: bytes | None) -> None:
        if self._hear is not None and not self._hear(message):
            self._is_stopped = True

    def handle_cont(self, event: Frame) -> None:
        """Called with a part of a message."""
        if len(self.frames) < MAX_PARTS:
            super().handle_cont(event)
        else:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"expected a message in at most {MAX_PARTS} parts")
            self.handle_parser_exception()

    def handle_ping(self) -> None:
        """Called when a pong is due. Who does not read gets the last one when it reads again (RFC 6455, 5.5.3)."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self._pong = b"".join(self.conn.data_to_send())

    def resume_writing(self) -> None:
        """Called when the other side has read."""
        super().resume_writing()
        pong, self._pong = self._pong, b""
        if pong:
            self.transport.write(pong)

    def keepalive_timeout(self) -> None:
        """Called when no pong came in time. It may wait behind what we do not read yet; else nobody reads there."""
        if self._is_behind and self.ping_timeout is not None:
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        self.loop.call_later(self.close_timeout, self.transport.abort)

    @property
    def _is_behind(self) -> bool:
        if self._cutter is None or self.close_sent:
            return False
        return self._is_stopped or not self._cutter.is_empty or (self._reading is not None and self._reading.is_held)

    def send_receive_event_to_app(self) -> None:
        """Called with a message that came in fragments, or is text."""
        if self._hear is None:
            super().send_receive_event_to_app()
        elif not self.close_sent:
            data, self.frames = b"".join(self.frames), []
            self._tell(data if self.curr_msg_data_type == "bytes" else None)

    async def receive(self) -> ASGIReceiveEvent:
        """What the application awaits: all messages while it does not listen."""
        if self.handshake_complete and self._hear is None and self._cutter is not None:
            self._leave_to_uvicorn()
        return await super().receive()


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

"""How a socket is read in its turn (G2): what reading and answering cost is measured and charged (`turns`).

Rule 1: to an address while nobody has said who comes, then to whom the application found there.
Rule 2: whoever is over waits unread: bytes stay in the kernel, nothing is parsed, and no task wakes up for it.
Rule 3: who sends many small messages at once is handled a slice at a time, and others between the slices.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, Transport
from collections.abc import Callable, Coroutine, Generator, Mapping
from types import MappingProxyType
from typing import Any, cast

from starlette.types import Receive, Scope, Send

from maquette.server.turns import SEAT, Seat

LEAST_READ = 512  # bytes of one read
MOST_READ = 64 << 10
READ_SECONDS = 0.0004  # of parsing, which one read should take at most: 11,000 tiny frames in 256 KiB took 47 ms


class Reading:
    """How a socket is read: in pieces that parse fast, and while its party is over only in turn."""

    def __init__(self, transport: Transport, seat: Seat, handle: Callable[[bytes], None]) -> None:
        self.seat = seat
        self.handle = handle
        self.is_held = False
        self._transport = transport
        self._turn: Future[None] | None = None
        self._data = b""
        self._has_more = False
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

    def go_on_later(self) -> None:
        """`handle` has more to do than fits into a slice: it is called with nothing, when it is its turn."""
        self._has_more = True

    def _go_on(self, _: Future[None] | None = None) -> None:
        self._turn = None
        self.is_held = False
        self._transport.resume_reading()
        data, self._data = self._data, b""
        if (data or self._has_more) and not self._transport.is_closing():
            self._handle_now(data)

    def _handle_now(self, data: bytes) -> None:
        self._has_more = False
        started = self.seat.work()
        self.handle(data)
        seconds = self.seat.work() - started
        self.seat.charge(seconds)
        if seconds > READ_SECONDS:
            self._resize(max(LEAST_READ, self._size // 2))
        elif len(data) == self._size and seconds < READ_SECONDS / 4:
            self._resize(min(MOST_READ, self._size * 2))
        if self._has_more:
            self._go_on_in_turn()

    def _go_on_in_turn(self) -> None:
        if self.seat.must_wait:
            self.hold()
        else:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._go_on)

    def end(self) -> None:
        """The connection is gone."""
        self._data = b""
        self._has_more = False
        if self._turn is not None:
            self._turn.cancel()


class Charged:
    """An ASGI application whose work is charged to a seat, which it finds in its scope with all that is `found`."""

    def __init__(self, app: Any, seat: Seat, found: Mapping[str, object] = MappingProxyType({})) -> None:
        self._app = app
        self._seat = seat
        self._found = {SEAT: seat, **found}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.update(self._found)
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

"""What a client sends, frame by frame: handled when there is room, charged, and read at the pace that is allowed (G2).

Rule 1: frames are handled in the order in which they came, each when the one before it is done.
Rule 2: where our own server reads the socket it calls with each frame, and stops when it is told to; elsewhere a task
        asks for one after the other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from starlette.websockets import WebSocket

from maquette.server.closing import Close
from maquette.server.connection import Connection, is_op
from maquette.server.doorkeeper import retry_seconds
from maquette.server.rates import FLOOD_SECONDS, Pacer
from maquette.server.sockets import WIRE, Wire
from maquette.server.turns import Seat

_logger = logging.getLogger(__name__)
SEND_SECONDS = 0.000004  # that a frame takes for each who hears it


class Inflow:
    """The frames of one connection. `is_over` tells whether nothing more is to be taken from anybody."""

    def __init__(
        self, websocket: WebSocket, connection: Connection, pacer: Pacer, seat: Seat, is_over: Callable[[], bool]
    ) -> None:
        self._websocket = websocket
        self._connection = connection
        self._pacer = pacer
        self._seat = seat
        self._is_over = is_over
        self._now = asyncio.get_running_loop().time
        self._wire: Wire | None = websocket.scope.get(WIRE)
        self._waiting: asyncio.Task[None] | None = None

    async def read(self) -> None:
        """Handle what comes until the client is gone."""
        if self._wire is None:
            await self._read_by_task()
            return
        self._wire.listen(self._hear, self._count)
        self._wait(0.0)
        try:
            while (await self._websocket.receive())["type"] != "websocket.disconnect":
                pass
        finally:
            if self._waiting is not None:
                self._waiting.cancel()

    async def _read_by_task(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await self._seat.turn()
            await self._connection.room()
            started = self._seat.work()
            pause = self._take(message.get("bytes"))
            self._seat.charge(self._seat.work() - started)
            if pause:
                await asyncio.sleep(pause)  # its frames wait in its own socket

    # --- where our own server reads ----------------------------------------------------------------------------------

    def _hear(self, frame: bytes | None) -> bool:
        try:
            pause = self._take(frame)
        except Exception:  # ours, and of this connection alone
            _logger.exception("sync: a connection failed")
            self._connection.close(Close.FAILED)
            return True
        if not pause and (self._connection.has_room or self._is_ending):
            return True
        self._wait(pause)
        return False

    def _count(self, size: int) -> bool:
        """Count what is no message: a ping, a pong, a part of one."""
        pause = self._pace(size, op=False)
        if pause and not self._is_ending:
            self._wait(pause)
        return not pause or self._is_ending

    def _wait(self, pause: float) -> None:
        if self._waiting is not None and not self._waiting.done():
            return  # it was told to stop already
        self._waiting = asyncio.ensure_future(self._go_on(pause))

    async def _go_on(self, pause: float) -> None:
        assert self._wire is not None
        if pause:
            await asyncio.sleep(pause)  # its frames wait in its own socket
        await self._connection.room()
        self._waiting = None  # what is handled now may have to wait in turn
        self._wire.go_on()

    # --- one frame ---------------------------------------------------------------------------------------------------

    @property
    def _is_ending(self) -> bool:
        return self._connection.closing is not None or self._is_over()

    def _take(self, frame: bytes | None) -> float:
        """Handle a frame, None for one of text. Return for how many seconds nothing more is to be read."""
        connection = self._connection
        if self._is_ending:
            return 0.0
        if frame is None:
            connection.close(Close.malformed("expected a binary frame, got text"))
            return 0.0
        before = connection.waiting
        connection.receive(frame)
        self._seat.owe(connection.audience * SEND_SECONDS)
        answered = max(0, connection.waiting - before)  # a question of three bytes may cost megabytes
        pause = self._pace(len(frame) + answered, op=is_op(frame))
        pause, connection.pause = max(pause, connection.pause), 0.0
        return pause if connection.closing is None else 0.0

    def _pace(self, size: int, *, op: bool) -> float:
        pause = self._pacer.take(self._now(), size, op)
        if self._pacer.is_flood:
            self._connection.close(Close.flood(retry_seconds(FLOOD_SECONDS)))
        return pause

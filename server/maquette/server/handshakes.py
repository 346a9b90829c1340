"""uvicorn's WebSocket protocol, which also answers a handshake that it cannot read, and reads in small pieces.

websockets 17 has the answer ready (a line above 8 KiB, too many headers, no HTTP at all); uvicorn 0.54
does not send it, so that the client waits until it gives up, and the connection stays open.
"""

from __future__ import annotations

from asyncio import BaseTransport

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

READ_BYTES = 4 << 10
"""What one read takes from a socket. uvicorn parses all of it before anybody else gets the loop: asyncio's 256 KiB are
11,000 tiny frames, which took 47 ms of everybody's time, and were in memory before the connection was slowed."""


class AnsweringProtocol(WebSocketsSansIOProtocol):
    """For `uvicorn.Config(ws=...)`."""

    def connection_made(self, transport: BaseTransport) -> None:
        """Called when the handshake begins."""
        if hasattr(transport, "max_size"):  # of asyncio's own transports, which look at it before each read
            transport.max_size = READ_BYTES
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with what came."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

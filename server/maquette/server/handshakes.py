"""uvicorn's WebSocket protocol, which also answers a handshake that it cannot read.

websockets 17 has the answer ready (a line above 8 KiB, too many headers, no HTTP at all); uvicorn 0.54
does not send it, so that the client waits until it gives up, and the connection stays open.
"""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class AnsweringProtocol(WebSocketsSansIOProtocol):
    """For `uvicorn.Config(ws=...)`."""

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with what came."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

"""uvicorn's protocol for requests, with what it lacks against floods (G2): for `uvicorn.Config(http=Door, ws=Wire)`.

Rule 1: what reading and answering cost is charged from the first byte on (`reading`).
Rule 2: a request has to arrive within a time, the first one too.
"""

from __future__ import annotations

import asyncio
from asyncio import Transport
from functools import partial

import h11
from starlette.datastructures import Address
from uvicorn.protocols.http.h11_impl import H11Protocol

from maquette.server.doorkeeper import address_of
from maquette.server.reading import Charged, Reading
from maquette.server.services import Services
from maquette.server.sockets import Wire
from maquette.server.turns import Seat, Turns

HEAD_SECONDS = 10.0  # for the lines of a request, over the slowest of lines
MAX_UNREAD = 1_000  # sockets of one address that wait for their first turn; more are cut off
ACCEPT_SECONDS = 0.0002  # that asyncio takes to accept a socket, which nobody can measure from here


class Door(H11Protocol):
    """Requests, until one becomes a WebSocket."""

    _reading: Reading | None = None
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Called when somebody comes."""
        super().connection_made(transport)
        turns = _turns_of(self.config.app)
        if turns is not None:
            seat = Seat(turns, turns.party("", address_of(Address(*self.client) if self.client else None), ""))
            seat.charge(ACCEPT_SECONDS)
            self._reading = Reading(transport, seat, super().data_received)
            if len(seat.party.line) >= MAX_UNREAD:
                transport.abort()
                return
            if seat.must_wait:
                self._reading.hold()
            self.app = Charged(self.app, seat)
            if self.ws_protocol_class is Wire:
                self.ws_protocol_class = partial(Wire, self._reading)  # type: ignore[assignment]
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


def _turns_of(app: object) -> Turns | None:
    """The turns of the server that the application is; None where it is mounted in another."""
    services = getattr(getattr(app, "state", None), "maquette", None)
    return services.hub.turns if isinstance(services, Services) else None

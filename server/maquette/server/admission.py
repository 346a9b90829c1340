"""Admission: who asks over HTTP, found out and counted once for each request.

Rule 1: nothing of a body is read before: whoever has no token makes the server read nothing but headers.
"""

from __future__ import annotations

from fastapi import Request

from maquette.server.allowances import ALLOWANCE
from maquette.server.doorkeeper import Visit, address_of
from maquette.server.services import services_of
from maquette.server.sessions import Session
from maquette.server.turns import SEAT, Seat

_SESSION = "maquette.session"


def admitted(request: Request) -> Session:
    """The session of the request, counted when it is asked for first. Raises Unauthenticated, LimitReached."""
    known = request.scope.get(_SESSION)
    if isinstance(known, Session):
        return known
    kept = services_of(request)
    session = kept.authenticator.authenticate_connection(request)
    visit = Visit(session.tenant, session.actor.id, address_of(request.client))
    seat = request.scope.get(SEAT)
    if isinstance(seat, Seat):
        seat.move(kept.hub.turns.party(visit.tenant, visit.address, visit.actor))
    request.scope[ALLOWANCE] = kept.hub.doorkeeper.request(visit)
    request.scope[_SESSION] = session
    return session

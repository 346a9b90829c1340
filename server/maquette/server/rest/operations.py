"""What whoever operates the server does over HTTP: `maquette` does, when a server holds the log.

The operator is one actor, known by an id that comes of the node's secret. A token for it can be made only by who has
the key ring: a tenant's owners are not operators, because projections are those of all tenants.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from maquette.server.errors import Forbidden, Unavailable
from maquette.server.rest.access import CurrentServices, CurrentSession
from maquette.server.running import operator

router = APIRouter(prefix="/v1/projections", tags=["operations"])


@router.post("/{name}/rebuild", status_code=204)
async def rebuild_projection(
    name: Annotated[str, Path(description="The projection.", examples=["chat_history"], max_length=64)],
    services: CurrentServices,
    session: CurrentSession,
) -> None:
    """Build a projection anew from the log; the old one is read meanwhile. Takes the operator's token."""
    if session.actor.id != operator(services.engine.node).id:
        raise Forbidden("projections: expected the operator of this server, got somebody else")
    if services.projections is None:
        raise Unavailable("expected projections, this server runs without them")
    await services.projections.rebuild(name)

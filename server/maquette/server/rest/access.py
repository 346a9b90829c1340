"""What most routes begin with: who asks, in which space, and with which role; and the way to write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

from fastapi import Depends, Path, Query, Request, Security
from fastapi.security import APIKeyQuery, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from maquette.engine.events import START, Actor
from maquette.engine.receipts import Receipt
from maquette.engine.roles import Role
from maquette.engine.space import Space
from maquette.server.admission import admitted
from maquette.server.auth import enter, introduce
from maquette.server.services import Services, services_of
from maquette.server.sessions import Session

T = TypeVar("T")
VIA = "rest"


@dataclass(frozen=True, slots=True)
class Access:
    """A session inside a space."""

    services: Services
    session: Session
    space: Space
    role: Role

    @property
    def actor(self) -> Actor:
        """Who acts, by this way in."""
        return replace(self.session.actor, via=VIA)

    @property
    def where(self) -> tuple[str, str]:
        """Tenant and space, as the read models name them."""
        return self.space.record.tenant, self.space.id

    async def written(self, write: Callable[[], Awaitable[tuple[T, Receipt]]]) -> tuple[T, str]:
        """What `write`, into the space, returned, and the position once that is on disk.

        Raises OpRefused, NotFound, DocumentMoved, LogError, and what the edit raises.
        """
        await self.introduce()
        result, receipt = await write()
        position = receipt.position
        if position == START:  # nothing was new, and the document has not been written since it was opened
            position = await self.services.engine.log.head()
        return result, str(position)

    async def introduce(self) -> None:
        """Let the space know the display name of who acts."""
        await introduce(self.space, self.session, self.role, self.actor)


async def services(request: Request) -> Services:
    """What the routes work with. Async, as the next one, because FastAPI would run it in a thread otherwise."""
    return services_of(request)


async def current_session(
    request: Request,
    _header: Annotated[object, Security(HTTPBearer(auto_error=False, description="A token (docs/api.md)."))],
    _query: Annotated[object, Security(APIKeyQuery(name="token", auto_error=False, description="The same token."))],
) -> Session:
    """Who asks, counted. Raises Unauthenticated, LimitReached.

    The other parameters only describe to OpenAPI what the authenticator reads.
    """
    return admitted(request)


async def entered(
    request: Request,
    session: Annotated[Session, Depends(current_session)],
    space: Annotated[str, Path(description="The space's slug or id.", examples=["demo"], max_length=64)],
) -> Access:
    """The space that the path names, for who asks. A visitor's first post into a space makes it.

    Raises Unauthenticated, and NotFound for what may not be known.
    """
    kept = services_of(request)
    found, role = await enter(kept.engine, session, space, join=request.method == "POST")
    return Access(kept, session, found, role)


Entered = Annotated[Access, Depends(entered)]
CurrentSession = Annotated[Session, Depends(current_session)]
CurrentServices = Annotated[Services, Depends(services)]
Wait = Annotated[
    str | None,
    Query(description="A position that a write answered: the answer reflects it (rule V5).", examples=["42"]),
]


class Body(BaseModel):
    """What requests send: exact types, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Written(BaseModel):
    """A write that is on disk."""

    id: str = Field(description="The id of what was written.", examples=["4fT0pQz81Rk"])
    position: str = Field(
        description="An opaque token: pass it as `wait` to a read that shall reflect this write.", examples=["42"]
    )

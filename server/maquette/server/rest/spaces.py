"""Spaces over HTTP: which there are, making and naming them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, Field

from maquette.engine.errors import NotFound, SchemaError
from maquette.engine.roles import Role
from maquette.engine.space import Space
from maquette.server.bodies import JsonRoute
from maquette.server.errors import Conflict, Forbidden
from maquette.server.rest.access import Access, Body, CurrentServices, CurrentSession, Entered

MAX_NAME = 200

router = APIRouter(prefix="/v1/spaces", tags=["spaces"], route_class=JsonRoute)


def _printable(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise SchemaError("name", "printable characters, not only blanks", f"{name!r:.80}")
    return name


Name = Annotated[
    str,
    Field(min_length=1, max_length=MAX_NAME, description="The display name.", examples=["Demo"]),
    AfterValidator(_printable),
]


class NewSpace(Body):
    """A space that shall be made."""

    slug: str = Field(description="What URLs call it: 1 to 63 of a-z, 0-9 and '-'.", examples=["demo"])
    name: Name | None = None


class SpaceName(Body):
    """Another display name."""

    name: Name


class DocumentOut(BaseModel):
    """A document of a space. `/sync/{space}/{name}` follows its current epoch, `{name}@{epoch}` names one."""

    name: str = Field(examples=["chat"])
    kind: str = Field(examples=["chat"])
    epoch: int = Field(description="The current one; of a chat, its newest page.", examples=[1])
    epochs: list[int] = Field(examples=[[1]])
    closed: list[int] = Field(description="Epochs that take no more writes.", examples=[[]])
    frozen: list[int] = Field(description="Epochs shown as before a revision, read-only (G4).", examples=[[]])


class SpaceOut(BaseModel):
    """A space, as whoever asks sees it."""

    id: str = Field(examples=["6Yp0aUz81Rk"])
    slug: str = Field(examples=["demo"])
    name: str = Field(examples=["Demo"])
    role: str = Field(description="The role of whoever asks.", examples=["editor"])
    chat_page: int = Field(description="The newest page of the conversation.", examples=[1])
    documents: list[DocumentOut]


class SpacesOut(BaseModel):
    """The spaces that whoever asks may enter, by slug."""

    spaces: list[SpaceOut]


@router.get("")
async def list_spaces(services: CurrentServices, session: CurrentSession) -> SpacesOut:
    """The spaces that you may enter."""
    spaces = await services.engine.spaces(session.tenant)
    return SpacesOut(spaces=[_out(space, role) for space in spaces if (role := session.role(space)) is not None])


@router.post("", status_code=201)
async def create_space(
    new: NewSpace, services: CurrentServices, session: CurrentSession, request: Request, response: Response
) -> SpaceOut:
    """Make a space, with a chat and a scene in it. Takes the role owner in all spaces of the tenant (`*`)."""
    if not session.may_create_spaces:
        raise Forbidden("spaces: expected a token with the role owner in '*' to make a space, got less")
    try:
        existing = await services.engine.space(session.tenant, new.slug)
    except NotFound:
        space = await services.engine.create_space(session.tenant, new.slug, session.actor, name=new.name)
    else:
        raise Conflict(f"space: expected a new slug, got {new.slug!r}, which is the space {existing.id!r}")
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/spaces/{space.slug}"
    return _out(space, session.role(space) or Role.VIEWER)


@router.get("/{space}")
async def get_space(access: Entered) -> SpaceOut:
    """One space, with its documents."""
    return _out(access.space, access.role)


@router.patch("/{space}")
async def rename_space(access: Entered, new: SpaceName) -> SpaceOut:
    """Give the space another display name. Takes the role owner."""
    _require_owner(access)
    await access.space.rename(access.actor, new.name)
    return _out(access.space, access.role)


def _require_owner(access: Access) -> None:
    if access.role < Role.OWNER and not access.session.visitor:
        raise Forbidden(f"space: expected the role owner, got {access.role.name.lower()}")


def _out(space: Space, role: Role) -> SpaceOut:
    documents = [
        DocumentOut(
            name=record.name,
            kind=record.kind.name,
            epoch=record.current,
            epochs=[epoch.number for epoch in record.epochs],
            closed=sorted(record.closed),
            frozen=sorted(record.frozen),
        )
        for record in space.record.documents.values()
    ]
    return SpaceOut(
        id=space.id,
        slug=space.slug,
        name=space.record.name,
        role=role.name.lower(),
        chat_page=space.record.documents["chat"].current,
        documents=documents,
    )

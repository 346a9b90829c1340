"""The members of a space over HTTP: their roles, and who is kept out. Every change counts at once (G3)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from maquette.engine.errors import OpRefused
from maquette.engine.members import MAX_REASON, BanMember, LiftBan, MemberChange, RemoveMember, SetMember
from maquette.engine.roles import Role
from maquette.engine.space import Space
from maquette.server.bodies import JsonRoute
from maquette.server.rest.access import Access, Body, Entered
from maquette.server.rest.chat import ID

router = APIRouter(prefix="/v1/spaces/{space}/members", tags=["members"], route_class=JsonRoute)

ActorId = Annotated[str, Path(pattern=ID, description="The actor's id: the `sub` of its token.", examples=["ada"])]


class MemberRole(Body):
    """The role that somebody shall have."""

    role: str = Field(description="viewer, commenter, editor, moderator or owner.", examples=["editor"])


class NewBan(Body):
    """How long somebody shall be kept out, and why."""

    until: int | None = Field(None, ge=0, lt=2**53, description="Milliseconds since 1970; null: for good.")
    reason: str | None = Field(None, max_length=MAX_REASON, description="Told to whoever is banned, and logged.")


class BanOut(BaseModel):
    """A ban. It holds for whoever is not above `rank`."""

    by: str = Field(description="The actor who gave it.")
    rank: str = Field(description="The role of that actor then.", examples=["moderator"])
    until: int | None = Field(description="Milliseconds since 1970; null: for good.")
    reason: str | None


class MemberOut(BaseModel):
    """What the space says of an actor. What it does not say, its token does."""

    actor: str = Field(examples=["ada"])
    name: str | None = Field(description="The display name, when it is known.", examples=["Ada"])
    role: str | None = Field(description="The role that was set; null: that of the token.", examples=["editor"])
    removed: bool = Field(description="No role, whatever the token says.")
    banned: BanOut | None = Field(description="Null once its time is over.")


class MembersOut(BaseModel):
    """Of whom the space says anything, by id."""

    members: list[MemberOut]


@router.get("")
async def list_members(access: Entered) -> MembersOut:
    """Of whom the space says anything. Takes the role moderator."""
    if access.role < Role.MODERATOR:
        needed, given = Role.MODERATOR.name.lower(), access.role.name.lower()
        raise OpRefused([f"members: expected a role of {needed} or above to see them, got {given}"])
    return MembersOut(members=[_out(access.space, actor) for actor in access.space.record.members.known()])


@router.put("/{actor}")
async def set_member(access: Entered, actor: ActorId, member: MemberRole) -> MemberOut:
    """Give somebody a role here, whatever the token says. Takes the role owner."""
    return await _changed(access, SetMember(actor, Role.parse(member.role)))


@router.delete("/{actor}")
async def remove_member(access: Entered, actor: ActorId) -> MemberOut:
    """Take every role from somebody, until one is set again. Takes the role owner."""
    return await _changed(access, RemoveMember(actor))


@router.put("/{actor}/ban")
async def ban_member(access: Entered, actor: ActorId, ban: NewBan) -> MemberOut:
    """Keep somebody out. Takes the role moderator, and does not hold for those above who asks."""
    return await _changed(access, BanMember(actor, ban.until, ban.reason))


@router.delete("/{actor}/ban")
async def unban_member(access: Entered, actor: ActorId) -> MemberOut:
    """Lift a ban. Takes the role of whoever gave it."""
    return await _changed(access, LiftBan(actor))


async def _changed(access: Access, change: MemberChange) -> MemberOut:
    given = access.session.given(access.space)
    await access.space.change_member(access.actor, given, change)
    return _out(access.space, change.who)


def _out(space: Space, actor: str) -> MemberOut:
    members, now = space.record.members, space.engine.clock()
    role, ban = members.roles.get(actor), members.bans.get(actor)
    if ban is not None and ban.until is not None and ban.until <= now:
        ban = None
    return MemberOut(
        actor=actor,
        name=space.record.profiles.get(actor),
        role=None if role is None else role.name.lower(),
        removed=actor in members.removed,
        banned=None
        if ban is None
        else BanOut(by=ban.by, rank=ban.rank.name.lower(), until=ban.until, reason=ban.reason),
    )

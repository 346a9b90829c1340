"""`maquette members`: who has which role in a space, and who is kept out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from maquette.engine.engine import Engine
from maquette.engine.errors import InvalidInput, LogHeld
from maquette.engine.members import BanMember, LiftBan, MemberChange, RemoveMember, SetMember
from maquette.engine.roles import Role
from maquette.engine.space import Space
from maquette.server.commands.options import DEFAULT_DATA, DEFAULT_TENANT, Data, Json, Tenant
from maquette.server.commands.remote import remote_of
from maquette.server.commands.terminal import columns, run, say, tell
from maquette.server.commands.token import seconds
from maquette.server.running import operator


def members(
    space: Annotated[str, typer.Argument(metavar="SPACE", help="Its slug or id.")],
    give: Annotated[
        str | None, typer.Option("--set", metavar="ID=ROLE", help="Give somebody a role, whatever the token says.")
    ] = None,
    remove: Annotated[str | None, typer.Option("--remove", metavar="ID", help="Take every role from somebody.")] = None,
    ban: Annotated[str | None, typer.Option("--ban", metavar="ID", help="Keep somebody out.")] = None,
    unban: Annotated[str | None, typer.Option("--unban", metavar="ID", help="Lift a ban.")] = None,
    lasting: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="How long a ban holds, such as 12h. [default: for good]")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; told to who is banned.")] = None,
    tenant: Tenant = DEFAULT_TENANT,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """List the members of a space: who was given a role there, removed or banned. Or change one.

    IDs are those of actors, the `sub` of their tokens. Beside a running server a change goes through it and counts at
    once, for open connections too.
    """

    async def work() -> None:
        change = _change(give, remove, ban, unban, lasting, reason)
        if change is not None:
            await _make(data, tenant, space, change)
            return
        async with await Engine.open_readonly(data) as engine:
            _list(await engine.space(tenant, space), as_json)

    run(work())


def _change(
    give: str | None, remove: str | None, ban: str | None, unban: str | None, lasting: str | None, reason: str | None
) -> MemberChange | None:
    asked = [option for option in (give, remove, ban, unban) if option is not None]
    if len(asked) > 1:
        raise InvalidInput("members: expected one of --set, --remove, --ban and --unban, got more")
    if ban is None and (lasting is not None or reason is not None):
        raise InvalidInput("members: expected --for and --reason with --ban, got them without")
    if give is not None:
        who, separator, role = give.rpartition("=")
        if not separator:
            raise InvalidInput(f"--set: expected ID=ROLE, such as ada=editor, got {give!r}")
        return SetMember(who, Role.parse(role))
    if remove is not None:
        return RemoveMember(remove)
    if ban is not None:
        until = None if lasting is None else (int(time.time()) + seconds(lasting)) * 1_000
        return BanMember(ban, until, reason)
    return None if unban is None else LiftBan(unban)


async def _make(data: Path, tenant: str, name: str, change: MemberChange) -> None:
    try:
        engine = await Engine.open(data)
    except LogHeld as held:
        async with remote_of(data, tenant, held) as remote:
            tell(f"through the server at {remote.running.url}, which holds the log")
            await remote.change_member(name, *_request(change))
        return
    async with engine:
        space = await engine.space(tenant, name)
        await space.change_member(operator(engine.node), Role.OWNER, change)


def _request(change: MemberChange) -> tuple[str, str, Any]:
    match change:
        case SetMember(who, role):
            return "PUT", who, {"role": role.name.lower()}
        case RemoveMember(who):
            return "DELETE", who, None
        case BanMember(who, until, reason):
            return "PUT", f"{who}/ban", {"until": until, "reason": reason}
        case LiftBan(who):
            return "DELETE", f"{who}/ban", None


def _list(space: Space, as_json: bool) -> None:
    rows = [_row(space, actor) for actor in space.record.members.known()]
    if as_json:
        for row in rows:
            say(json.dumps(row, ensure_ascii=False))
    elif rows:
        table = [(row["actor"], row["name"] or "", row["role"] or "", row["banned"] or "") for row in rows]
        for line in columns([("ID", "NAME", "ROLE", "BANNED"), *table]):
            say(line)
    else:
        tell(f"space {space.slug!r} says nothing of anybody: everybody has the role of their token")


def _row(space: Space, actor: str) -> dict[str, Any]:
    members = space.record.members
    role, ban = members.roles.get(actor), members.bans.get(actor)
    said = "removed" if actor in members.removed else None if role is None else role.name.lower()
    return {
        "actor": actor,
        "name": space.record.profiles.get(actor),
        "role": said,
        "banned": None if ban is None else str(ban),
    }

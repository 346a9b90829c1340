"""Members of a space: which role counts, and who may change what; given events and a moment."""

from __future__ import annotations

from typing import Any

import pytest

from maquette.engine.engine import Engine
from maquette.engine.errors import InvalidInput, MaquetteError, NotFound, OpRefused
from maquette.engine.events import START, Actor, Event, new_event_id
from maquette.engine.members import BanMember, LiftBan, MemberChange, Members, RemoveMember, SetMember
from maquette.engine.roles import Role

NOW = 1_000
ANN, MOD = Actor("ann"), Actor("mod")
V, C, E, M, O = Role  # noqa: E741  (the owner's initial)


def given(*events: tuple[str, str, dict[str, Any]], by: str = "ann") -> Members:
    """Members after events of (type, actor, further data)."""
    members = Members()
    for number, (type_, who, data) in enumerate(events):
        data = {"actor": who, **data}
        members.take(Event(START, "t/s", number + 1, 0, new_event_id(), type_, 1, Actor(by), None, data))
    return members


def told(who: str, role: Role) -> tuple[str, str, dict[str, Any]]:
    return "member.set", who, {"role": role.name.lower()}


def banned(who: str, rank: Role = O, **data: Any) -> tuple[str, str, dict[str, Any]]:
    return "member.banned", who, {"rank": rank.name.lower(), **data}


REMOVED: tuple[str, str, dict[str, Any]] = ("member.removed", "ben", {})
UNBANNED: tuple[str, str, dict[str, Any]] = ("member.unbanned", "ben", {})


@pytest.mark.parametrize(
    ("events", "token", "role"),
    [
        ((), E, E),
        ((), None, None),
        ((told("ben", V),), O, V),
        ((told("ben", O),), None, O),
        ((told("cy", O),), E, E),
        ((REMOVED,), O, None),
        ((told("ben", O), REMOVED), O, None),
        ((REMOVED, told("ben", C)), None, C),
        ((banned("ben"),), E, None),
        ((told("ben", E), banned("ben")), E, None),
        ((banned("ben"), told("ben", E)), E, None),
        ((banned("ben"), UNBANNED), E, E),
        ((banned("ben"), REMOVED, UNBANNED), E, None),
        ((banned("ben", until=NOW),), E, E),
        ((banned("ben", until=NOW + 1),), E, None),
        ((banned("ben", M),), M, None),
        ((banned("ben", M),), O, O),
        ((told("ben", O), banned("ben", M)), V, O),
        ((banned("ben", O),), O, None),
        ((("member.praised", "ben", {}),), E, E),
    ],
)
def test_g3_a_ban_counts_before_a_role_that_was_set_and_that_before_the_token(
    events: tuple[Any, ...], token: Role | None, role: Role | None
) -> None:
    members = given(*events)
    assert members.role("ben", token, NOW) is role
    assert (members.why_not("ben", token, NOW) is None) == (role is not None or not members)


CHANGES: list[tuple[MemberChange, str, str | None]] = [
    # the change of a stranger, the initials of the roles that may make it, and the event
    (SetMember("ben", E), "O", "member.set"),
    (SetMember("ben", O), "O", "member.set"),
    (RemoveMember("ben"), "O", "member.removed"),
    (BanMember("ben"), "MO", "member.banned"),
    (BanMember("ben", NOW + 1, "spam"), "MO", "member.banned"),
]


@pytest.mark.parametrize("role", [None, *Role])
@pytest.mark.parametrize(("change", "allowed", "type_"), CHANGES)
def test_g3_owners_set_and_remove_and_moderators_ban(
    change: MemberChange, allowed: str, type_: str, role: Role | None
) -> None:
    if role is not None and role.name[0] in allowed:
        event = given().decide(change, ANN, role, NOW)
        assert event is not None
        assert (event.type, event.data["actor"]) == (type_, "ben")
        return
    with pytest.raises(OpRefused, match=r"expected a role of (owner|moderator) or above"):
        given().decide(change, ANN, role, NOW)


@pytest.mark.parametrize(
    ("events", "change", "by", "role", "error"),
    [
        ((told("ben", O),), BanMember("ben"), MOD, M, OpRefused),
        ((told("ben", M),), BanMember("ben"), MOD, M, None),
        ((told("ben", O),), BanMember("ben"), ANN, O, None),
        ((banned("ben", O),), LiftBan("ben"), MOD, M, OpRefused),
        ((banned("ben", O),), BanMember("ben", NOW + 1), MOD, M, OpRefused),
        ((banned("ben", M),), LiftBan("ben"), MOD, M, None),
        ((), LiftBan("ben"), MOD, M, NotFound),
        ((), BanMember("mod"), MOD, M, InvalidInput),
        ((), BanMember("ben", NOW), MOD, M, InvalidInput),
        ((), BanMember("ben", None, ""), MOD, M, InvalidInput),
        ((), BanMember("ben", None, "a\nb"), MOD, M, InvalidInput),
        ((), BanMember("no id!"), MOD, M, InvalidInput),
        ((told("mod", E),), BanMember("ben"), MOD, M, OpRefused),
        ((told("ann", V),), SetMember("ben", E), ANN, O, OpRefused),
        ((), SetMember("ann", V), ANN, O, OpRefused),
        ((), RemoveMember("ann"), ANN, O, OpRefused),
        ((), SetMember("ann", O), ANN, O, None),
        ((told("ben", O),), RemoveMember("ann"), ANN, O, None),
        ((told("ben", O), banned("ben", O)), RemoveMember("ann"), ANN, O, OpRefused),
        ((told("ben", O),), RemoveMember("ben"), ANN, O, None),
    ],
)
def test_g3_nobody_reaches_above_themselves_and_some_owner_is_left(
    events: tuple[Any, ...], change: MemberChange, by: Actor, role: Role, error: type[MaquetteError] | None
) -> None:
    members = given(*events)
    if error is None:
        assert members.decide(change, by, role, NOW) is not None
        return
    with pytest.raises(error, match="expected"):
        members.decide(change, by, role, NOW)


@pytest.mark.parametrize(
    ("events", "change"),
    [((told("ben", E),), SetMember("ben", E)), ((REMOVED,), RemoveMember("ben")), ((banned("ben"),), BanMember("ben"))],
)
def test_what_is_so_already_leaves_no_event(events: tuple[Any, ...], change: MemberChange) -> None:
    assert given(*events).decide(change, ANN, O, NOW) is None


async def test_g3_two_owners_cannot_remove_each_other_at_once() -> None:
    async with await Engine.open() as engine:
        space = await engine.create_space("t", "demo", ANN)
        for who in ("ann", "ben"):
            await space.change_member(ANN, O, SetMember(who, O))
        await space.change_member(ANN, None, RemoveMember("ben"))
        with pytest.raises(OpRefused, match="got none"):
            await space.change_member(Actor("ben"), O, RemoveMember("ann"))
        assert space.role("ann", None) is O


async def test_g3_members_are_the_same_after_a_restart_and_count_for_embedding_code(tmp_path: Any) -> None:
    async with await Engine.open(tmp_path) as engine:
        space = await engine.create_space("t", "demo", ANN)
        await space.change_member(ANN, O, SetMember("ben", V))
        await space.change_member(ANN, O, BanMember("cy", None, "spam"))
    async with await Engine.open(tmp_path) as engine:
        space = await engine.space("t", "demo")
        assert (space.role("ben", O), space.role("cy", E), space.role("di", E)) == (V, None, E)
        with pytest.raises(OpRefused, match="got viewer"):
            await space.write_chat(Actor("ben"), O, lambda chat: chat.post("hello"))
        with pytest.raises(OpRefused, match="'cy' was removed or banned"):
            await space.write_chat(Actor("cy"), O, lambda chat: chat.post("hello"))
        await space.write_chat(Actor("di"), E, lambda chat: chat.post("hello"))

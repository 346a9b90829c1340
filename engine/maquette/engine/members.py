"""Who belongs to a space, in which role, and who is kept out: folded from the space's stream, pure.

Rule 1: a role comes from the first of these that says something: a ban (none at all), the role that an owner set, a
        removal (none), and what was given from outside, as by a token.
Rule 2: a ban holds for whoever was not above its giver: a token that gives more is known only when it comes.
Rule 3: owners set and remove members; moderators ban, and lift the bans of their own rank and below.
Rule 4: nobody bans themselves, and an owner gives up that role only while another member has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from maquette.engine.errors import InvalidInput, NotFound, OpRefused
from maquette.engine.events import Actor, Event, NewEvent
from maquette.engine.ids import is_id
from maquette.engine.roles import Role

MAX_REASON = 200  # characters: a sentence; a close frame takes 123 bytes of all that is told


@dataclass(frozen=True, slots=True)
class SetMember:
    """`who` has `role` from now on, whatever its token says."""

    who: str
    role: Role


@dataclass(frozen=True, slots=True)
class RemoveMember:
    """`who` has no role until it is set again, whatever its token says."""

    who: str


@dataclass(frozen=True, slots=True)
class BanMember:
    """`who` is kept out `until` then, in milliseconds since 1970, or for good."""

    who: str
    until: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class LiftBan:
    """`who` is as before the ban."""

    who: str


MemberChange = SetMember | RemoveMember | BanMember | LiftBan


@dataclass(frozen=True, slots=True)
class Ban:
    """`rank` is the role of who gave it, `by`."""

    by: str
    rank: Role
    until: int | None
    reason: str | None

    def holds(self, role: Role | None, now: int) -> bool:
        """Whether it keeps out, at `now`, somebody who would have `role`."""
        return (self.until is None or now < self.until) and (role is None or role <= self.rank)

    def __str__(self) -> str:
        until = "" if self.until is None else f" until {self.until} ms since 1970"
        return f"banned{until}" + (f": {self.reason}" if self.reason else "")


class Members:
    """The members of one space."""

    def __init__(self) -> None:
        self.roles: dict[str, Role] = {}
        self.removed: set[str] = set()
        self.bans: dict[str, Ban] = {}

    def __bool__(self) -> bool:
        """Whether anything was ever said about anybody."""
        return bool(self.roles or self.removed or self.bans)

    def take(self, event: Event) -> None:
        """Fold an event `member.…`; one of a later version is passed over."""
        who = event.data["actor"]
        match event.type:
            case "member.set":
                self.roles[who] = Role.parse(event.data["role"])
                self.removed.discard(who)
            case "member.removed":
                self.roles.pop(who, None)
                self.removed.add(who)
            case "member.banned":
                data = event.data
                self.bans[who] = Ban(event.actor.id, Role.parse(data["rank"]), data.get("until"), data.get("reason"))
            case "member.unbanned":
                self.bans.pop(who, None)

    # --- asking ----------------------------------------------------------------------------------------------------

    def role(self, who: str, given: Role | None, now: int) -> Role | None:
        """The role of `who` at `now`, to whom `given` is given from outside (rule 1)."""
        role = self.roles.get(who)
        if role is None:
            role = None if who in self.removed else given
        ban = self.bans.get(who)
        return None if ban is not None and ban.holds(role, now) else role

    def why_not(self, who: str, given: Role | None, now: int) -> str | None:
        """Why `who` has no role; None when nothing was ever said here about it."""
        ban = self.bans.get(who)
        if ban is not None and ban.holds(self.roles.get(who, given), now):
            return f"expected a member of the space, {who!r} is {ban}"
        return f"expected a member of the space, {who!r} was removed" if who in self.removed else None

    def known(self) -> list[str]:
        """All of whom something was said, sorted."""
        return sorted(self.roles.keys() | self.removed | self.bans.keys())

    # --- deciding --------------------------------------------------------------------------------------------------

    def decide(self, change: MemberChange, actor: Actor, given: Role | None, now: int) -> NewEvent | None:
        """The event that makes `change` by `actor`, to whom `given` is given from outside; None when nothing changes.

        Raises OpRefused for what the actor may not do (rules 3, 4), InvalidInput, and NotFound for no such member.
        """
        role = self.role(actor.id, given, now)
        if not is_id(change.who):
            raise InvalidInput(f"member: expected 1 to 64 characters of [A-Za-z0-9_-], got {change.who!r:.80}")
        match change:
            case SetMember(who, wanted):
                _require(role, Role.OWNER, "to set a role")
                if wanted < Role.OWNER:
                    self._keep_owner(who, actor, now)
                same = self.roles.get(who) is wanted
                return None if same else NewEvent("member.set", actor, {"actor": who, "role": wanted.name.lower()})
            case RemoveMember(who):
                _require(role, Role.OWNER, "to remove somebody")
                self._keep_owner(who, actor, now)
                return None if who in self.removed else NewEvent("member.removed", actor, {"actor": who})
            case BanMember(who):
                rank = _require(role, Role.MODERATOR, "to ban somebody")
                return self._banned(change, actor, rank, now)
            case LiftBan(who):
                rank = _require(role, Role.MODERATOR, "to lift a ban")
                return self._lifted(who, actor, rank)
            case _:
                assert_never(change)

    def _keep_owner(self, who: str, actor: Actor, now: int) -> None:
        others = [one for one, role in self.roles.items() if role is Role.OWNER and one != who]
        if who == actor.id and not any(self.role(one, None, now) is Role.OWNER for one in others):
            raise OpRefused([f"member {who!r}: expected another member to be owner first, got none"])

    def _banned(self, change: BanMember, actor: Actor, rank: Role, now: int) -> NewEvent | None:
        who, until, reason = change.who, change.until, change.reason
        if who == actor.id:
            raise InvalidInput(f"member: expected somebody else to ban, got {who!r}, who asks")
        if until is not None and until <= now:
            raise InvalidInput(f"until: expected a time after now ({now}, ms since 1970), got {until}")
        if reason is not None and not (0 < len(reason) <= MAX_REASON and reason.isprintable()):
            raise InvalidInput(f"reason: expected 1 to {MAX_REASON} printable characters, got {reason!r:.80}")
        self._require_rank(who, rank)
        ban = Ban(actor.id, rank, until, reason)
        if self.bans.get(who) == ban:
            return None
        said: Mapping[str, Any] = {"until": until, "reason": reason}
        data = {"actor": who, "rank": rank.name.lower(), **{k: v for k, v in said.items() if v is not None}}
        return NewEvent("member.banned", actor, data)

    def _lifted(self, who: str, actor: Actor, rank: Role) -> NewEvent:
        if who not in self.bans:
            raise NotFound("ban", who)
        self._require_rank(who, rank)
        return NewEvent("member.unbanned", actor, {"actor": who})

    def _require_rank(self, who: str, rank: Role) -> None:
        """Nobody's ban touches those above, nor the bans that those above gave."""
        above = self.roles.get(who, Role.VIEWER)
        ban = self.bans.get(who)
        if ban is not None:
            above = max(above, ban.rank)
        if above > rank:
            raise OpRefused([f"member {who!r}: expected a role of {above.name.lower()}, got {rank.name.lower()}"])


def _require(role: Role | None, least: Role, what: str) -> Role:
    if role is not None and role >= least:
        return role
    got = "none" if role is None else role.name.lower()
    raise OpRefused([f"member: expected a role of {least.name.lower()} or above {what}, got {got}"])

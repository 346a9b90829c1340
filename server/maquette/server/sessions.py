"""A session: who acts, in which tenant, with which roles. What a token stands for, or the visitor's door of --dev."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from maquette.engine.events import Actor
from maquette.engine.roles import Role
from maquette.engine.space import Space

ALL_SPACES = "*"
"""In `roles`: every space of the tenant that is not named itself."""


@dataclass(frozen=True, slots=True)
class Session:
    """One participant at the door. `roles` maps a space, by id or by slug, or ALL_SPACES to a role.

    `visitor`: let in by --dev without a token; may create spaces. `expires` is in seconds since 1970, None for never.
    """

    tenant: str
    actor: Actor
    name: str
    roles: Mapping[str, Role] = field(default_factory=lambda: MappingProxyType({}))
    visitor: bool = False
    expires: float | None = None

    def role(self, space: Space) -> Role | None:
        """The role in `space` now; None for no access at all, which includes the spaces of other tenants.

        What the space says of its members counts before what the token gives.
        """
        return None if space.record.tenant != self.tenant else space.role(self.actor.id, self.given(space))

    def given(self, space: Space) -> Role | None:
        """What the token gives in `space`, of the same tenant.

        What names the space itself counts before ALL_SPACES, so that a token can also give less in one space.
        """
        for name in (space.id, space.slug, ALL_SPACES):
            if name in self.roles:
                return self.roles[name]
        return None

    @property
    def may_create_spaces(self) -> bool:
        """Owners of all spaces may, and visitors of --dev."""
        return self.visitor or self.roles.get(ALL_SPACES, Role.VIEWER) >= Role.OWNER

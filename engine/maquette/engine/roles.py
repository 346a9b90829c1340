"""What a participant may do in a space, from least to most. Each role holds the rights of those before it."""

from __future__ import annotations

from enum import IntEnum

from maquette.engine.errors import InvalidInput


class Role(IntEnum):
    """Ordered: `role >= Role.EDITOR` reads as "at least an editor"."""

    VIEWER = 0
    COMMENTER = 1
    EDITOR = 2
    MODERATOR = 3
    OWNER = 4

    @classmethod
    def parse(cls, name: str) -> Role:
        """The role called `name` in tokens and in the API. Raises InvalidInput."""
        try:
            return cls[name.upper()]
        except (KeyError, AttributeError) as error:
            names = ", ".join(role.name.lower() for role in cls)
            raise InvalidInput(f"role: expected one of {names}, got {name!r}") from error

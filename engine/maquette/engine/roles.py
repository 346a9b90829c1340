"""What a participant may do in a space, from least to most, and at which places of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Protocol

from maquette.engine.errors import InvalidInput


class Roles(Protocol):
    """The rights of one actor in one space, as the gate asks for them: each op, with the place that it touches.

    A `Role` is one that holds everywhere in the space.
    """

    def anywhere(self) -> Role:
        """The highest role at any place. Below the least that a kind takes, nothing of an op is looked at (G5 a)."""
        ...

    def in_space(self) -> Role:
        """The role for what belongs to the space as a whole: settings, materials."""
        ...

    def in_subtree(self, node: str, ancestors: Callable[[str], Sequence[str]]) -> Role:
        """The role at a node of a scene; `ancestors` gives those of a node, its parent first."""
        ...

    def in_thread(self, thread: str | None) -> Role:
        """The role in a thread of a conversation, or outside of all threads."""
        ...


class Role(IntEnum):
    """Ordered: `role >= Role.EDITOR` reads as "at least an editor". Each role holds the rights of those before it."""

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

    # --- the same everywhere (Roles) -----------------------------------------------------------------------------

    def anywhere(self) -> Role:
        return self

    def in_space(self) -> Role:
        return self

    def in_subtree(self, node: str, ancestors: Callable[[str], Sequence[str]]) -> Role:
        return self

    def in_thread(self, thread: str | None) -> Role:
        return self

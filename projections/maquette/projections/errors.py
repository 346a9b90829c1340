"""What goes wrong in a read model. All are `MaquetteError`s; reading what is not there raises `NotFound`."""

from __future__ import annotations

from maquette.engine.errors import MaquetteError


class ProjectionError(MaquetteError):
    """Base of what the projections raise about themselves."""


class UnreadableEvent(ProjectionError):
    """An event whose content a projection cannot fold; raised by `apply`, and the reason why its stream is parked."""


class ProjectionBehind(ProjectionError, TimeoutError):
    """A reader waited for a position (rule V5) and the projection did not reach it in time."""

    def __init__(self, name: str, expected: int, actual: int, seconds: float | None) -> None:
        super().__init__(f"expected projection {name!r} at position {expected} within {seconds} s, it is at {actual}")
        self.name = name
        self.expected = expected
        self.actual = actual


class ProjectionStopped(ProjectionError):
    """A reader waited for a position, and the projection has stopped following the log; says why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"expected projection {name!r} to follow the log, it stopped: {reason}")
        self.name = name
        self.reason = reason


class ViewDamaged(ProjectionError):
    """A view's file is not what was written. Raised when it is opened, and the reason why it is built anew."""

    def __init__(self, place: str, expected: str, actual: str) -> None:
        super().__init__(f"{place}: expected {expected}, got {actual}")

"""Close codes of the sync protocol. 44xx tells stock providers (y-websocket 3) not to come back with the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maquette.server.rates import FLOOD_SECONDS

MAX_REASON = 123  # bytes: RFC 6455, 5.5
MOVED = 4409


@dataclass(frozen=True, slots=True)
class Close:
    """A close code and its reason, as the client is told them, after accept (G2)."""

    code: int
    reason: str

    TOO_SLOW: ClassVar[Close]
    RESTART: ClassVar[Close]
    FAILED: ClassVar[Close]

    def __post_init__(self) -> None:
        short = self.reason.encode()[:MAX_REASON].decode(errors="ignore")
        object.__setattr__(self, "reason", short)

    @classmethod
    def malformed(cls, reason: str) -> Close:
        """Not a frame of the protocol."""
        return cls(4400, reason)

    @classmethod
    def unauthenticated(cls, reason: str) -> Close:
        """No token, or one that is not good."""
        return cls(4401, reason)

    @classmethod
    def forbidden(cls, reason: str) -> Close:
        """Writing on after having been told that it may not; or removed from the space, or banned."""
        return cls(4403, reason)

    @classmethod
    def unknown(cls, reason: str) -> Close:
        """A space or document that is not there, or that this token may not know of."""
        return cls(4404, reason)

    @classmethod
    def moved(cls, successor: str) -> Close:
        """The reason is the name under which the document goes on (D9)."""
        return cls(MOVED, successor)

    @classmethod
    def too_large(cls, reason: str) -> Close:
        """Larger than a limit, and no update: those are denied by a message, with the reason."""
        return cls(4413, reason)

    @classmethod
    def too_many(cls, reason: str) -> Close:
        """The space has as many documents as it may: coming again makes no room."""
        return cls(4429, reason)

    @classmethod
    def flood(cls, retry: int) -> Close:
        """It sent more than it may, was read more slowly, and went on."""
        return cls(1013, f"expected the allowed pace, got a flood for {FLOOD_SECONDS:g} s: retry after {retry} s")

    @classmethod
    def unavailable(cls, reason: str) -> Close:
        """Try again later."""
        return cls(1013, reason)


Close.TOO_SLOW = Close(1013, "expected a reader that keeps up, got 16 MiB behind: come back and sync")
Close.RESTART = Close(1012, "the server restarts")
Close.FAILED = Close(1011, "the server failed at this connection: come back and sync")

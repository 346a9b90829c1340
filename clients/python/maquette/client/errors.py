"""What the client raises besides the engine's errors."""

from __future__ import annotations

from maquette.engine.errors import MaquetteError


class ClientError(MaquetteError):
    """Base of the client's own errors."""


class NotAdmitted(ClientError):
    """The server closed the connection for good: a bad token, an unknown document, a ban (see `code`)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the server does not admit this ({code}): {reason}")
        self.code = code
        self.reason = reason


class Moved(NotAdmitted):
    """The document goes on under another name, such as `chat@2`: open that with a fresh replica."""

    @property
    def successor(self) -> str:
        """The new name."""
        return self.reason


class EditRefused(ClientError):
    """The server refused edits of this replica; `reasons` say why. They are undone here as everywhere."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class Closed(ClientError):
    """The document was closed on this side."""

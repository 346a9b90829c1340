"""What goes wrong at the server's door: `MaquetteError`s, told to clients by `problems` and by the sync endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from maquette.engine.errors import InvalidInput, MaquetteError


class Unauthenticated(MaquetteError):
    """Who asks could not be told: no token, or one that does not hold. Raised by `tokens` and `auth`.

    The message says what was expected and what came, and never holds the token or a part of its signature.
    """


class Forbidden(MaquetteError):
    """Who asks is known and may not do this, and may know that it exists. Raised where no gate judges."""


class KeysDamaged(MaquetteError):
    """The file of the key ring is not one. Raised at start, to whoever runs the server."""

    def __init__(self, path: Path, expected: str, actual: str) -> None:
        super().__init__(f"{path}: expected {expected}, got {actual}")
        self.path = path


class TooLarge(InvalidInput):
    """A request's body is larger than its route takes. Nothing of it was kept."""

    def __init__(self, limit: int, actual: int | None) -> None:
        came = "more" if actual is None else f"{actual} bytes"
        super().__init__(f"body: expected at most {limit} bytes, got {came}")
        self.limit = limit


class TooSlow(InvalidInput):
    """A request's body comes so slowly that it would hold its connection for ever. Nothing of it was kept."""


class MalformedBody(InvalidInput):
    """A request's body is not JSON (RFC 8259), or JSON that UTF-8 cannot hold."""


class UnsupportedMedia(InvalidInput):
    """A request's body is of a media type that its route does not take."""


class Conflict(MaquetteError):
    """What shall be made is there already. Nothing was changed."""


class Unavailable(MaquetteError):
    """What is asked for cannot be answered now; `reasons` say why."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class LimitReached(MaquetteError):
    """More than a limit of the tenant allows came, and less may come again in `retry` seconds (G2).

    `what` names it, as `requests in 60 s of one actor`; `headers` tell it to HTTP clients.
    """

    def __init__(self, what: str, limit: int, retry: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"expected at most {limit} {what}, got one more: retry after {retry} s")
        self.limit = limit
        self.retry = retry
        self.headers = {"Retry-After": str(retry), **(headers or {})}

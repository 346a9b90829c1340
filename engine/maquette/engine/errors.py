"""The engine's one error family.

Rule 1: whatever goes wrong inside the engine reaches a caller as a `MaquetteError`.
Rule 2: the message says what was expected and what came; fields carry the same facts, so that nobody parses strings.
Rule 3: the caller's mistake (`InvalidInput` and its kin), the peer's (`MalformedUpdate`, `Refused`) and the machine's
(`LogError`) are different classes, because they go to different people.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class MaquetteError(Exception):
    """Base of every error that the engine raises on purpose."""


class InvalidInput(MaquetteError):
    """The caller passed something that can never work. Raised by public functions before anything changes."""


class SchemaError(InvalidInput):
    """A value that a schema does not take: `path` names it (`node.translation[1]`), raised by the checks of a kind."""

    def __init__(self, path: str, expected: str, actual: str) -> None:
        super().__init__(f"{path}: expected {expected}, got {actual}")
        self.path = path
        self.expected = expected
        self.actual = actual


class NotFound(MaquetteError):
    """A space, document, node, message or asset that does not exist, or that the asker may not know of."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"expected an existing {what}, got {name!r}")
        self.what = what
        self.name = name


# --- the log -----------------------------------------------------------------------------------------------------


class LogError(MaquetteError):
    """Base of what an `EventLog` raises about itself."""


class WrongRevision(LogError):
    """`append` expected the stream at another revision than it has; nothing was written. The caller's race to lose."""

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(f"expected stream {stream!r} at revision {expected}, it is at {actual}")
        self.stream = stream
        self.expected = expected
        self.actual = actual


class LogHeld(LogError):
    """Another process writes this log (rule L5). Raised when opening for writing; names the holder."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"expected to be the only writer of {path}, it is held by {holder}")
        self.path = path
        self.holder = holder


class LogTooNew(LogError):
    """The log was written by a newer version of Maquette than this one."""

    def __init__(self, path: Path, expected: int, actual: int) -> None:
        super().__init__(f"expected {path} in log format {expected} or older, got {actual}: upgrade Maquette")
        self.path = path
        self.expected = expected
        self.actual = actual


class LogDamaged(LogError):
    """A record is missing, altered or out of its chain (rule L6). `place` says where, `expected` and `actual` what."""

    def __init__(self, place: str, expected: str, actual: str) -> None:
        super().__init__(f"{place}: expected {expected}, got {actual}")
        self.place = place
        self.expected = expected
        self.actual = actual


class LogLost(LogError):
    """The log ends before its witness or before a reader's checkpoint (rule L6): committed events are gone.

    Opening goes on only with `accept_loss=True`, which is the caller's word that the named events are given up.
    """

    def __init__(self, place: str, known: int, found: int) -> None:
        super().__init__(
            f"{place}: expected the log to reach position {known}, it ends at {found}: "
            f"{known - found} position(s) are lost; open with --accept-loss to go on without them"
        )
        self.place = place
        self.known = known
        self.found = found


class LogUnwritable(LogError):
    """The disk is full or failed (rule L7): nothing of this append was written. The log serves reads meanwhile."""


class LogClosed(LogError):
    """The log was closed before this call, or while it waited. An append that fails so was not written."""


# --- what peers send ---------------------------------------------------------------------------------------------


class MalformedUpdate(MaquetteError):
    """Bytes that are not a Yjs v1 update within the limits. Raised by the reader, before pycrdt sees them (rule G1)."""

    def __init__(self, offset: int, expected: str, actual: str) -> None:
        super().__init__(f"update, byte {offset}: expected {expected}, got {actual}")
        self.offset = offset
        self.expected = expected
        self.actual = actual


class MalformedFrame(MaquetteError):
    """Bytes that are not a frame of the sync protocol. Raised by the codec to whoever received them."""

    def __init__(self, offset: int, expected: str, actual: str) -> None:
        super().__init__(f"frame, byte {offset}: expected {expected}, got {actual}")
        self.offset = offset
        self.expected = expected
        self.actual = actual


class LimitExceeded(MaquetteError):
    """A peer's bytes are well-formed so far and larger or deeper than allowed (rules G1, G2). Nothing was integrated.

    `limit` is the name of the limit as in `Limits`; `expected` is the most that it allows, `actual` what came.
    """

    def __init__(self, limit: str, expected: int, actual: int) -> None:
        super().__init__(f"update, {limit}: expected at most {expected}, got {actual}")
        self.limit = limit
        self.expected = expected
        self.actual = actual


class TooManyDocuments(MaquetteError):
    """The space has as many text documents as it may. Raised to whoever would have made one more (rule G2)."""

    def __init__(self, limit: int, name: str) -> None:
        super().__init__(f"expected at most {limit} text documents in a space, got one more, {name!r}")
        self.limit = limit
        self.name = name


class OpRefused(MaquetteError):
    """The gate did not take an op, or not whole. Raised to whoever wrote through a pen; `reasons` say why."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)


class DocumentFrozen(MaquetteError):
    """The document is shown as it was before a revision, and takes no writes (G4): raised to whoever writes, or asks
    for what came from `before` on. `reason` says what that revision did."""

    def __init__(self, name: str, before: int, reason: str) -> None:
        super().__init__(f"expected {name} to take edits, it is frozen before revision {before}: {reason}")
        self.name = name
        self.before = before
        self.reason = reason


class RewriteRunning(MaquetteError):
    """The document is being rewritten already (D9): raised to whoever asks for a second rewrite of it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"expected {name} to be left alone, it is being rewritten already")
        self.name = name


class DocumentMoved(MaquetteError):
    """The document goes on under another name (D9): raised to whoever comes to, or with, an older epoch."""

    def __init__(self, name: str, successor: str) -> None:
        super().__init__(f"expected the current epoch of {name!r}, which is {successor!r}")
        self.name = name
        self.successor = successor

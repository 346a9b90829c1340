"""Where the server of a data folder is: `server.json` in it, so that commands find the process that holds the log.

Rule 1: the file is written when the server listens and removed when it ends. A killed server leaves it behind, so what
        it says counts only while the process lives.
Rule 2: it holds no secret. Who may read the key ring beside it may act as the operator.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from maquette.engine.events import Actor
from maquette.engine.ids import MINTED_LENGTH, base62, mint

_logger = logging.getLogger(__name__)

FILE = "server.json"
OPERATOR = "Command line"
"""The display name of whoever works there."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens: its address, the process to ask for its end (the supervisor's, where there is one), and
    the actor id of whoever operates it."""

    url: str
    pid: int
    operator: str


def operator(node: bytes) -> Actor:
    """Whoever works at the command line of the node with the secret `node`: one actor, always the same."""
    digest = hashlib.blake2b(b"operator", key=node, digest_size=8).digest()
    return Actor(base62(int.from_bytes(digest), MINTED_LENGTH), "bot")


@contextmanager
def announced(data: Path, running: Running) -> Iterator[None]:
    """Let commands find the server while the block runs; on a full disk it is served without."""
    path = data / FILE
    try:
        _write(path, running)
    except OSError as error:
        _logger.warning("%s: expected to say here where the server is, got %s", path, error)
    try:
        yield
    finally:
        if find(data) == running:  # not another's, who has the log by now
            path.unlink(missing_ok=True)


def find(data: Path) -> Running | None:
    """The server that runs over `data`; None when there is none, or only what a killed one left."""
    try:
        running = Running(**json.loads((data / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return running if _lives(running.pid) else None


def is_stale(data: Path) -> bool:
    """Whether a killed server left its file behind."""
    return (data / FILE).exists() and find(data) is None


def _write(path: Path, running: Running) -> None:
    aside = path.with_name(f".{FILE}.{os.getpid()}.{mint()}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(asdict(running), file)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True

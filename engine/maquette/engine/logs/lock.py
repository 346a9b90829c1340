"""The writer lock: one writer per log (rule L5)."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from maquette.engine.errors import LogHeld


class WriterLock:
    """Held from construction to `release`. The kernel releases it when the process dies, so a file left behind by
    kill -9 says nothing: only `flock` counts, and what is written in the file only names the holder.

    The file is never deleted: a process that waits on a deleted file would hold a lock that nobody else sees.
    """

    def __init__(self, path: Path) -> None:
        """Raises LogHeld, which names the holder, and OSError where files cannot be locked."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(self._file)
            os.close(self._file)
            if isinstance(error, BlockingIOError):
                raise LogHeld(path, holder) from None
            raise
        self._sign()

    def release(self) -> None:
        """Let another process write."""
        os.close(self._file)

    def _sign(self) -> None:
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, _signature(), 0)
        except OSError:  # a full disk: the lock holds without a name in it, and the log can still be read
            pass


def _signature() -> bytes:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": started}).encode()


def _holder(file: int) -> str:
    try:
        holder = json.loads(os.pread(file, 4096, 0))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):  # caught between the lock and the signature
        return "another process"

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

    The file is never deleted: a process that waits on a deleted file would hold a lock that nobody else sees. Somebody
    may delete it all the same, so the folder is locked as well: nobody can take that away while the log is in it.
    """

    def __init__(self, path: Path) -> None:
        """Raises LogHeld, which names the holder, and OSError where files cannot be locked."""
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        self._held = [folder]
        try:
            self._lock_folder(folder, path)
            self._held.append(file := os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
            _lock(file, path)
        except BaseException:
            self.release()
            raise
        _sign(file)

    def release(self) -> None:
        """Let another process write."""
        for file in self._held:
            os.close(file)

    def _lock_folder(self, folder: int, path: Path) -> None:
        try:
            _lock(folder, path)
        except OSError:  # file systems over a network lock no folders: the file has to do
            pass


def _lock(file: int, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LogHeld(path, _signature(path) or _owner(file) or "another process") from None


def _sign(file: int) -> None:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": started}).encode(), 0)
    except OSError:  # a full disk: the lock holds without a name in it, and the log can still be read
        pass


def _signature(path: Path) -> str:
    """Who holds the lock by the word of its file; empty when it is not there, or not signed yet."""
    try:
        holder = json.loads(path.read_bytes())
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _owner(file: int) -> str:
    """Who holds the lock of an open file by the word of Linux (proc_locks(5)); empty elsewhere."""
    inode = os.fstat(file).st_ino
    try:
        rows = [row.split() for row in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return ""
    owners = (row[4] for row in rows if row[1] == "FLOCK" and row[5].endswith(f":{inode}"))
    return next((f"process {owner}" for owner in owners), "")

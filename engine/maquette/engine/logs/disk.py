"""The disk as the writer of a log uses it: every call that changes what a power cut leaves behind.

Tests put another one in its place, which tells SQLite to flush less, to see that this loses something.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from maquette.engine.files import sync_folder, write_atomically


class Disk:
    """The real one. All of it raises OSError, `connect` what sqlite3 raises."""

    def connect(self, path: Path) -> sqlite3.Connection:
        """A connection that begins and ends its transactions itself, made here and used in the writer's thread."""
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def create(self, path: Path, content: bytes) -> None:
        """Make a file that is on disk whole or not at all."""
        write_atomically(path, content, durable=True)

    def open(self, path: Path) -> int:
        """A file to be read and written, made when there is none."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, file: int, content: bytes, at: int) -> None:
        """Write `content` at byte `at`."""
        os.pwrite(file, content, at)

    def flush(self, file: int) -> None:
        """Return when what was written to the file is on disk."""
        os.fsync(file)

    def flush_folder(self, folder: Path) -> None:
        """Return when the names in the folder are on disk."""
        sync_folder(folder)


DISK = Disk()
"""What everybody uses but tests."""

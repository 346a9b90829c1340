"""A disk that is full when a test wants it: a small tmpfs where one may mount it, else a limit on the size of files."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

SIZE = 24 << 20
BALLAST = "ballast"
LARGEST = 2_048
"""Bytes that a file may have on a disk that is full by limit: enough for the names of processes."""


class Room(Protocol):
    """The room on the disk of one folder."""

    name: str

    def fill(self) -> None:
        """There is none from now on."""
        ...

    def free(self) -> None:
        """There is some again."""
        ...


class Tmpfs:
    """A file system of its own, filled up by a file."""

    name = "tmpfs"

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / BALLAST

    def fill(self) -> None:
        piece = 1 << 20
        with self._ballast.open("ab", buffering=0) as file:
            while piece:
                try:
                    file.write(bytes(piece))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    piece //= 2

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)


class SizeLimit:
    """No file of one process may grow (RLIMIT_FSIZE): writes fail with EFBIG, as with a quota."""

    name = "a limit on the size of files"

    def __init__(self, pid: Callable[[], int]) -> None:
        self._pid = pid

    def fill(self) -> None:
        resource.prlimit(self._pid(), resource.RLIMIT_FSIZE, (LARGEST, resource.RLIM_INFINITY))

    def free(self) -> None:
        resource.prlimit(self._pid(), resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextmanager
def room(folder: Path, pid: Callable[[], int], *, mount: bool = True) -> Iterator[Room]:
    """The room of `folder`, which the process with the id that `pid` gives fills."""
    folder.mkdir(parents=True)
    if not (mount and _mounted(folder)):
        yield SizeLimit(pid)
        return
    try:
        yield Tmpfs(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mounted(folder: Path) -> bool:
    if os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False

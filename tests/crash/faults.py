"""Faults of the machine inside a server: calls to the disk that fail, and a clock that jumps.

MAQUETTE_FAULTS is a list, with commas, of `part:call:ERROR:first:times`: of the calls of that kind to files of that
part of the data folder, those from the `first` on fail, so many times. Each that does is told on stderr.
MAQUETTE_CLOCK names a file of eight bytes: how many milliseconds the clock is wrong by, and whoever writes there
changes it while the server runs.

SQLite's calls come from below it (`hooked.py`), those of Python from `os` and `io`.
"""

from __future__ import annotations

import errno
import io
import mmap
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Any

from tests.crash.hooked import CODES, SQLITE_FULL, hook

from maquette.server.tokens import Keyring

FAULTS, CLOCK = "MAQUETTE_FAULTS", "MAQUETTE_CLOCK"
OFFSET = Struct("<q")
FIRED = "fault: "
"""How the line begins that tells of one."""


@dataclass(slots=True)
class Fault:
    """Calls of one kind, to one part of the folder, that fail."""

    part: str
    call: str
    error: int
    first: int
    times: int
    seen: int = 0

    @classmethod
    def parse(cls, text: str) -> Fault:
        """The fault that `text` spells."""
        part, call, error, first, times = text.split(":")
        return cls(part, call, getattr(errno, error), int(first), int(times))

    def __str__(self) -> str:
        return f"{self.part}:{self.call}:{errno.errorcode[self.error]}:{self.first}:{self.times}"

    def strikes(self, part: str, call: str) -> bool:
        """Count a call; whether it fails."""
        if (part, call) != (self.part, self.call):
            return False
        self.seen += 1
        return self.first <= self.seen < self.first + self.times


class Faults:
    """All that were asked for."""

    def __init__(self, faults: list[Fault]) -> None:
        self._faults = faults

    def struck(self, path: str, call: str) -> int:
        """The errno with which `call` to the file at `path` fails, 0 when it goes through."""
        part = part_of(path)
        for fault in self._faults:
            if fault.strikes(part, call):
                sys.stderr.write(f"{FIRED}{part}:{call}:{errno.errorcode[fault.error]}\n")
                sys.stderr.flush()
                return fault.error
        return 0

    def code(self, path: str, call: str) -> int:
        """What SQLite is answered, 0 when the call goes through."""
        error = self.struck(path, call)
        return SQLITE_FULL if error == errno.ENOSPC else CODES[call] if error else 0

    def strike(self, path: str, call: str) -> None:
        """Raises OSError when the call fails."""
        if error := self.struck(path, call):
            raise OSError(error, os.strerror(error), path)


def part_of(path: str) -> str:
    """Which part of a data folder a file belongs to; empty for any other file."""
    known = {"log.sqlite": "database", "log.sqlite-wal": "wal", "log.witness": "witness"}
    folders = {"assets": "asset", "snapshots": "snapshot", "projections": "projection"}
    one = Path(path)
    return known.get(one.name) or next((folders[name] for name in one.parts[-4:-1] if name in folders), "")


def install(faults: str, clock: str) -> None:
    """Let all this happen in this process from now on."""
    if clock:
        _install_clock(Path(clock))
    if faults:
        found = Faults([Fault.parse(one) for one in faults.split(",")])
        _install_files(found)
        hook(lambda call: found.code(call.path, call.name))


# --- the clock -------------------------------------------------------------------------------------------------------


def _install_clock(path: Path) -> None:
    with path.open("rb") as file:
        offset = mmap.mmap(file.fileno(), OFFSET.size, access=mmap.ACCESS_READ)
    real = time.time_ns

    def wrong() -> int:
        return int(real() + OFFSET.unpack(offset[:])[0] * 1_000_000)

    def seconds() -> float:
        return wrong() / 1e9

    time.time_ns = wrong
    time.time = seconds
    makers: tuple[Any, ...] = (Keyring.__init__, Keyring.load, Keyring.fresh)
    for made in makers:
        getattr(made, "__func__", made).__kwdefaults__["clock"] = seconds


# --- files that Python writes ----------------------------------------------------------------------------------------


def _install_files(faults: Faults) -> None:
    flush, write, rename, open_ = os.fsync, os.pwrite, os.replace, io.open

    def faulty_flush(file: int) -> None:
        faults.strike(_path(file), "sync")
        flush(file)

    def faulty_write(file: int, data: bytes, at: int) -> int:
        faults.strike(_path(file), "write")
        return write(file, data, at)

    def faulty_rename(source: Any, target: Any) -> None:
        faults.strike(os.fspath(target), "rename")
        rename(source, target)

    def faulty_open(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        path = _path(file) if isinstance(file, int) else os.fspath(file)
        faults.strike(str(path), "read" if mode[0] == "r" else "write")
        return open_(file, mode, *args, **options)

    os.fsync, os.pwrite, os.replace, io.open = faulty_flush, faulty_write, faulty_rename, faulty_open  # type: ignore[assignment]  # narrower


def _path(file: int) -> str:
    return str(Path(f"/proc/self/fd/{file}").readlink())

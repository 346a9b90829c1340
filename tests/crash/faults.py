"""Faults of the machine inside a server: calls to the disk that fail, and a clock that jumps.

MAQUETTE_FAULTS is a list, with commas, of `part:call:ERROR:first:times`: of the calls of that kind to files of that
part of the data folder, those from the `first` on fail, so many times. Each that does is told on stderr.
MAQUETTE_CLOCK names a file of eight bytes: how many milliseconds the clock is wrong by, and whoever writes there
changes it while the server runs.

What SQLite does comes from below it: Python's own SQLite library is asked for its VFS, and one that calls it, and
sometimes does not, becomes the default. So the log's writer and readers and the read models all have it.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import errno
import io
import mmap
import os
import sys
import time
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Any, ClassVar

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
        FaultyVfs(found).install()


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


# --- files that SQLite writes (sqlite3.h: sqlite3_vfs, sqlite3_io_methods) --------------------------------------------

_SHARED = (
    *("close", "read", "write", "truncate", "sync", "size", "lock", "unlock", "check_reserved", "control", "sector"),
    *("characteristics", "shm_map", "shm_lock", "shm_barrier", "shm_unmap", "fetch", "unfetch"),
)
_OF_VFS = (
    *("open", "delete", "access", "full_pathname", "dl_open", "dl_error", "dl_sym", "dl_close", "randomness", "sleep"),
    *("current_time", "get_last_error", "current_time_int64", "set_system_call", "get_system_call", "next_system_call"),
)
_FULL, _IOERR = 13, 10
_EXTENDED = {"read": _IOERR | 1 << 8, "write": _IOERR | 3 << 8, "sync": _IOERR | 4 << 8, "truncate": _IOERR | 6 << 8}


class _Methods(Structure):
    _fields_: ClassVar = [("version", c_int), *((name, c_void_p) for name in _SHARED)]


class _File(Structure):
    _fields_: ClassVar = [("methods", POINTER(_Methods))]


class _Vfs(Structure):
    _fields_: ClassVar = [
        *(("version", c_int), ("file_bytes", c_int), ("path_bytes", c_int)),
        *(("next", c_void_p), ("name", c_char_p), ("data", c_void_p)),
        *((name, c_void_p) for name in _OF_VFS),
    ]


_OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, POINTER(_File), c_int, c_void_p)  # the name is kept by the file
_CALLS = {
    "read": CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64),
    "write": CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64),
    "truncate": CFUNCTYPE(c_int, c_void_p, c_int64),
    "sync": CFUNCTYPE(c_int, c_void_p, c_int),
}


class FaultyVfs:
    """SQLite's own VFS but for the calls that fail."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._library = ctypes.CDLL(_sqlite3.__file__)
        self._library.sqlite3_vfs_find.restype = POINTER(_Vfs)
        real = self._library.sqlite3_vfs_find(None).contents
        self._vfs = _Vfs.from_buffer_copy(real)
        self._vfs.name = b"faulty"
        self._real_open = _OPEN(real.open)
        self._open = _OPEN(self._opened)
        self._vfs.open = ctypes.cast(self._open, c_void_p)
        self._paths: dict[int, str] = {}
        self._methods: dict[int, _Methods] = {}
        self._kept: list[Any] = [self]  # what C holds and Python must not free

    def install(self) -> None:
        """Make it what every connection that is opened from now on uses."""
        assert self._library.sqlite3_vfs_register(ctypes.byref(self._vfs), 1) == 0
        _installed.append(self)

    def _opened(self, vfs: int, name: int | None, file: Any, flags: int, out: int) -> int:
        code = int(self._real_open(vfs, name, file, flags, out))
        if code == 0 and name is not None:
            self._paths[ctypes.addressof(file.contents)] = os.fsdecode(ctypes.string_at(name))
            file.contents.methods = ctypes.pointer(self._faulty(file.contents.methods))
        return code

    def _faulty(self, real: Any) -> _Methods:
        address = ctypes.addressof(real.contents)
        if address not in self._methods:
            methods = _Methods.from_buffer_copy(real.contents)
            for call, kind in _CALLS.items():
                function = kind(self._call(call, kind(getattr(methods, call))))
                self._kept.append(function)
                setattr(methods, call, ctypes.cast(function, c_void_p))
            self._methods[address] = methods
        return self._methods[address]

    def _call(self, call: str, real: Callable[..., int]) -> Callable[..., int]:
        def faulty(file: int, *args: Any) -> int:
            error = self._faults.struck(self._paths.get(file, ""), call)
            if error:
                return _FULL if error == errno.ENOSPC else _EXTENDED[call]
            return int(real(file, *args))

        return faulty


_installed: list[FaultyVfs] = []

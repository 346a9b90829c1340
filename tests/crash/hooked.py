"""Python's own SQLite with somebody beside every call that it makes to the disk.

The library is asked for its VFS, and a copy of it whose calls pass by a hook becomes the default. So all connections of
the process have it, the log's and the read models'. Nothing else changes: the files and the locks are the real ones.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any, ClassVar

SQLITE_FULL, _IOERR = 13, 10
CODES = {"read": _IOERR | 1 << 8, "write": _IOERR | 3 << 8, "sync": _IOERR | 4 << 8, "truncate": _IOERR | 6 << 8}
"""What a call answers that failed."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that SQLite makes. `name` is open, read, write, truncate, sync or delete."""

    path: str
    name: str
    at: int = 0
    """Of a write the byte where it begins, of a truncation the new size, of an opening or deletion its flags."""
    data: bytes = b""


Hook = Callable[[Call], int]
"""Asked before each call: 0 lets it happen, anything else is its answer."""


class _Methods(Structure):  # sqlite3.h: sqlite3_io_methods
    _fields_: ClassVar = [
        ("version", c_int),
        *((name, c_void_p) for name in ("close", "read", "write", "truncate", "sync", "size", "lock", "unlock")),
        *((name, c_void_p) for name in ("check_reserved", "control", "sector", "characteristics", "shm_map")),
        *((name, c_void_p) for name in ("shm_lock", "shm_barrier", "shm_unmap", "fetch", "unfetch")),
    ]


class _File(Structure):
    _fields_: ClassVar = [("methods", POINTER(_Methods))]


class _Vfs(Structure):  # sqlite3.h: sqlite3_vfs
    _fields_: ClassVar = [
        *(("version", c_int), ("file_bytes", c_int), ("path_bytes", c_int)),
        *(("next", c_void_p), ("name", c_char_p), ("data", c_void_p)),
        *((name, c_void_p) for name in ("open", "delete", "access", "full_pathname", "dl_open", "dl_error", "dl_sym")),
        *((name, c_void_p) for name in ("dl_close", "randomness", "sleep", "current_time", "get_last_error")),
        *((name, c_void_p) for name in ("current_time_int64", "set_system_call", "get_system_call")),
        ("next_system_call", c_void_p),
    ]


_OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, POINTER(_File), c_int, c_void_p)  # the file keeps the name's address
_DELETE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_CALLS = {
    "read": CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64),
    "write": CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64),
    "truncate": CFUNCTYPE(c_int, c_void_p, c_int64),
    "sync": CFUNCTYPE(c_int, c_void_p, c_int),
}


class _HookedVfs:
    def __init__(self, library: ctypes.CDLL, hook: Hook) -> None:
        self._hook = hook
        library.sqlite3_vfs_find.restype = POINTER(_Vfs)
        self.real = library.sqlite3_vfs_find(None)
        real = self.real.contents
        self.vfs = _Vfs.from_buffer_copy(real)
        self.vfs.name = b"hooked"
        self._real_open, self._real_delete = _OPEN(real.open), _DELETE(real.delete)
        self._open, self._delete = _OPEN(self._opened), _DELETE(self._deleted)
        self.vfs.open = ctypes.cast(self._open, c_void_p)
        self.vfs.delete = ctypes.cast(self._delete, c_void_p)
        self._paths: dict[int, str] = {}
        self._methods: dict[int, _Methods] = {}
        self._functions: list[Any] = []  # that C calls and Python must not free

    def _opened(self, vfs: int, name: int | None, file: Any, flags: int, out: int) -> int:
        path = "" if name is None else _path(name)
        code = int(self._real_open(vfs, name, file, flags, out))
        if code == 0 and path:
            self._hook(Call(path, "open", flags))
            self._paths[ctypes.addressof(file.contents)] = path
            file.contents.methods = ctypes.pointer(self._hooked(file.contents.methods))
        return code

    def _deleted(self, vfs: int, name: int, flags: int) -> int:
        return self._hook(Call(_path(name), "delete", flags)) or int(self._real_delete(vfs, name, flags))

    def _hooked(self, real: Any) -> _Methods:
        address = ctypes.addressof(real.contents)
        if address not in self._methods:
            methods = _Methods.from_buffer_copy(real.contents)
            for name, kind in _CALLS.items():
                function = kind(self._passing_by(name, kind(getattr(methods, name))))
                self._functions.append(function)
                setattr(methods, name, ctypes.cast(function, c_void_p))
            self._methods[address] = methods
        return self._methods[address]

    def _passing_by(self, name: str, real: Callable[..., int]) -> Callable[..., int]:
        def call(file: int, *args: int) -> int:
            path = self._paths.get(file, "")
            match name, args:
                case "write", (buffer, size, at):
                    code = self._hook(Call(path, name, at, ctypes.string_at(buffer, size)))
                case "truncate", (size,):
                    code = self._hook(Call(path, name, size))
                case _:
                    code = self._hook(Call(path, name))
            return code or int(real(file, *args))

        return call


def _path(name: int) -> str:
    return os.fsdecode(ctypes.string_at(name))


_kept: list[_HookedVfs] = []  # files that are open outlive a hook


def hook(hook: Hook) -> Callable[[], None]:
    """Let `hook` be asked by every connection that is opened from now on; what is answered ends that."""
    library = ctypes.CDLL(_sqlite3.__file__)
    hooked = _HookedVfs(library, hook)
    _kept.append(hooked)
    assert library.sqlite3_vfs_register(ctypes.byref(hooked.vfs), 1) == 0

    def end() -> None:
        library.sqlite3_vfs_register(hooked.real, 1)
        library.sqlite3_vfs_unregister(ctypes.byref(hooked.vfs))

    return end


@contextmanager
def hooking(function: Hook) -> Iterator[None]:
    """Let it be asked meanwhile."""
    end = hook(function)
    try:
        yield
    finally:
        end()

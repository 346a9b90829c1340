"""A data folder under watch: every write, flush, name and deletion in it is written down in its order (`medium.py`).

What SQLite does comes from below it (`hooked.py`), what Python does from the functions of `os`. What Python writes into
a file is looked up when the file is flushed, renamed or linked: what it held in between, no power cut shows.

Flushes are written down and not carried out: the disk whose power fails is the one in the journal. What SQLite keeps in
shared memory is not recorded, as no power cut leaves it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal
from unittest.mock import patch

from tests.crash.hooked import CODES, Call, hooking
from tests.crash.medium import Flushed, FlushFailed, FolderFlushed, Gone, Made, Renamed, Resized, Step, Wrote

from maquette.engine.logs.disk import Disk

Synchronous = Literal["FULL", "NORMAL", "OFF"]

SHARED_MEMORY = "-shm"
_CREATES, _JOURNALS = 0x4, 0x800 | 0x80000  # sqlite3.h: SQLITE_OPEN_CREATE, _MAIN_JOURNAL, _WAL


@dataclass(frozen=True, slots=True)
class Failing:
    """How flushes by SQLite fail: each with a `chance`.

    With `again`, whoever is below SQLite flushes once more and says that all is well: the mistake that rule 4 of
    `medium.py` punishes.
    """

    chance: float = 0.0
    again: bool = False
    dice: Random = field(default_factory=lambda: Random(0))


class Journal:
    """The steps so far, of the files in one folder. Flushes fail while there is a `failing`."""

    def __init__(self, folder: Path) -> None:
        self.steps: list[Step] = []
        self.failing: Failing | None = None
        self._folder = str(folder.absolute())
        self._names = set(_names(folder))
        self._known: dict[str, bytes] = {}
        self._in_pieces: set[str] = set()
        self._unnamed: set[str] = set()

    def name(self, path: str | Path) -> str | None:
        """What the steps call the file or folder at `path`; None when it is not in the folder."""
        inside = os.path.relpath(os.path.abspath(path), self._folder)  # noqa: PTH100  (resolves no links, as SQLite)
        if inside == ".":
            return ""
        return None if inside.startswith("..") or inside.endswith(SHARED_MEMORY) else inside

    # --- by SQLite -----------------------------------------------------------------------------------------------

    def heard(self, call: Call) -> int:
        """SQLite makes a call; its answer when it fails."""
        name = self.name(call.path)
        if name is None:
            return 0
        match call.name:
            case "open":
                self._opened(name, call.at)
            case "write":
                self.steps.append(Wrote(name, call.at, call.data))
            case "truncate":
                self.steps.append(Resized(name, call.at))
            case "delete":
                self._gone(name)
                if call.at:
                    self.steps.append(FolderFlushed(_parent(name)))
            case "sync":
                return self._flushed(name)
        return 0

    def _opened(self, name: str, flags: int) -> None:
        if self._made(name) and flags & _CREATES and flags & _JOURNALS:
            self._unnamed.add(name)  # os_unix.c: the first flush of a journal that it made flushes its folder as well

    def _flushed(self, name: str) -> int:
        failing = self.failing
        if failing is not None and failing.dice.random() < failing.chance:
            self.steps.append(FlushFailed(name))
            if not failing.again:
                return CODES["sync"]
        self.steps.append(Flushed(name))
        if name in self._unnamed:
            self._unnamed.remove(name)
            self.steps.append(FolderFlushed(_parent(name)))
        return 0

    # --- by Python ---------------------------------------------------------------------------------------------------

    def wrote(self, path: str, data: bytes, at: int) -> None:
        """`data` went to byte `at` of a file."""
        if (name := self.name(path)) is not None:
            self._made(name)
            self.steps.append(Wrote(name, at, data))
            self._in_pieces.add(name)

    def flushed(self, path: str) -> None:
        """A file or folder was flushed."""
        name = self.name(path)
        if name is None:
            return
        if Path(path).is_dir():
            self.steps.append(FolderFlushed(name and f"{name}/"))
        else:
            self._look(name, path)
            self.steps.append(Flushed(name))

    def renamed(self, path: str, to: str, *, both: bool = False) -> None:
        """A file or folder got another name, or one more."""
        name, new = self.name(path), self.name(to)
        if name is None or new is None:
            return
        if Path(path).is_dir():
            self._moved_folder(f"{name}/", f"{new}/")
            return
        self._look(name, path)
        if folder := _parent(new):
            self._made(folder)
        self.steps.append(Renamed(name, new, both))
        self._names.add(new)
        self._known[new] = self._known[name]
        self._in_pieces.discard(new)
        if not both:
            self._forget(name)

    def made_folder(self, path: str) -> None:
        """A folder was made."""
        if name := self.name(path):
            self._made(f"{name}/")

    def gone(self, path: str) -> None:
        """A file was deleted."""
        if (name := self.name(path)) is not None and name in self._names:
            self._gone(name)

    def _moved_folder(self, name: str, to: str) -> None:
        self.steps.append(Renamed(name, to))
        inside = {one for one in self._names if one.startswith(name)}
        self._names = self._names - inside | {to + one.removeprefix(name) for one in inside}

    def _look(self, name: str, path: str) -> None:
        """Write down what Python has written since we last looked; what was written in pieces is known already."""
        self._made(name)
        if name in self._in_pieces:
            return
        content = Path(path).read_bytes()
        if self._known.get(name) != content:
            self._known[name] = content
            self.steps += [Resized(name, 0), Wrote(name, 0, content)]

    def _made(self, name: str) -> bool:
        if name in self._names:
            return False
        if folder := _parent(name.rstrip("/")):
            self._made(folder)  # another process has made it
        self._names.add(name)
        self.steps.append(Made(name))
        return True

    def _gone(self, name: str) -> None:
        self._forget(name)
        self.steps.append(Gone(name))

    def _forget(self, name: str) -> None:
        self._names.discard(name)
        self._known.pop(name, None)
        self._in_pieces.discard(name)


@contextmanager
def recording(folder: Path) -> Iterator[Journal]:
    """The journal of `folder`, which begins with what is in it now and is on disk for sure."""
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder)
    with ExitStack() as stack:
        stack.enter_context(hooking(journal.heard))
        for name, function in _watched(journal).items():
            stack.enter_context(patch.object(os, name, function))
        yield journal


def _watched(journal: Journal) -> dict[str, Callable[..., Any]]:
    write, rename, replace, link, unlink, mkdir = os.pwrite, os.rename, os.replace, os.link, os.unlink, os.mkdir

    def watched_write(file: int, data: bytes, at: int) -> int:
        journal.wrote(_path(file), data, at)
        return write(file, data, at)

    def watched_flush(file: int) -> None:
        journal.flushed(_path(file))

    def watched_rename(source: Any, target: Any, do: Callable[..., None] = rename) -> None:
        journal.renamed(os.fspath(source), os.fspath(target))
        do(source, target)

    def watched_link(source: Any, target: Any, **options: Any) -> None:
        link(source, target, **options)
        journal.renamed(os.fspath(source), os.fspath(target), both=True)

    def watched_unlink(path: Any, **options: Any) -> None:
        unlink(path, **options)
        if not options.get("dir_fd"):
            journal.gone(os.fspath(path))

    def watched_mkdir(path: Any, *args: Any, **options: Any) -> None:
        mkdir(path, *args, **options)
        journal.made_folder(os.fspath(path))

    return {
        "pwrite": watched_write,
        "fsync": watched_flush,
        "rename": watched_rename,
        "replace": lambda source, target: watched_rename(source, target, replace),
        "link": watched_link,
        "unlink": watched_unlink,
        "mkdir": watched_mkdir,
    }


def _path(file: int) -> str:
    return str(Path(f"/proc/self/fd/{file}").readlink())


def _parent(name: str) -> str:
    parent, slash, _ = name.rpartition("/")
    return parent + slash


def _names(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        yield f"{path.relative_to(folder)}{'/' if path.is_dir() else ''}"


class ToldDisk(Disk):
    """The real disk, on which SQLite is told another `synchronous` than the log asks for."""

    def __init__(self, synchronous: Synchronous) -> None:
        self._synchronous = synchronous

    def connect(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=_Connection)
        connection.synchronous = self._synchronous
        return connection


class _Connection(sqlite3.Connection):
    synchronous: Synchronous = "FULL"

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if statement == "PRAGMA synchronous = FULL":
            statement = f"PRAGMA synchronous = {self.synchronous}"
        return super().execute(statement, *parameters)

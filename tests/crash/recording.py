"""A log's disk that writes down every write, flush, name and deletion, in their order (`medium.py` reads it).

The database, its WAL and its journal come from below SQLite: the writer's connection is opened through apsw with a VFS
of our own, as Python's sqlite3 offers none. So the SQLite underneath is apsw's, newer than Python's; what is written
and flushed when is the same protocol, and the logs that power cuts leave are opened by the ordinary SqliteLog, on
Python's. The witness and the folder's names come through `maquette.engine.logs.disk`.

Flushes are written down and not carried out: the disk whose power fails is the one in the journal. The connection
holds the database for itself (`locking_mode`), so that there is no shared memory, which no power cut leaves.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Literal, cast

import apsw
from tests.crash.medium import Flushed, FolderFlushed, Gone, Made, Placed, Resized, Step, Wrote

from maquette.engine.files import write_atomically
from maquette.engine.logs.disk import Disk

Synchronous = Literal["FULL", "NORMAL", "OFF"]

_JOURNALS = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
_numbers = count()


class Journal:
    """The steps so far, and which names there are."""

    def __init__(self, names: set[str]) -> None:
        self.steps: list[Step] = []
        self.names = names

    def made(self, name: str) -> None:
        """The file `name` is there from now on, if it was not."""
        if name not in self.names:
            self.names.add(name)
            self.steps.append(Made(name))


class RecordingDisk(Disk):
    """The disk of the one log in `folder`. `synchronous` is what SQLite is told instead of what the log asks for."""

    def __init__(self, folder: Path, vfs: str, journal: Journal, synchronous: Synchronous) -> None:
        self._folder = folder
        self._vfs = vfs
        self._journal = journal
        self._synchronous = synchronous
        self._names: dict[int, str] = {}

    def connect(self, path: Path) -> sqlite3.Connection:
        connection = _Connection(str(path), vfs=self._vfs)
        connection.synchronous = self._synchronous
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        return cast("sqlite3.Connection", connection)

    def create(self, path: Path, content: bytes) -> None:
        write_atomically(path, content)
        self._journal.names.add(path.name)
        self._journal.steps += [Placed(path.name, content), FolderFlushed()]

    def open(self, path: Path) -> int:
        file = super().open(path)
        self._names[file] = path.name
        self._journal.made(path.name)
        return file

    def write(self, file: int, content: bytes, at: int) -> None:
        self._journal.steps.append(Wrote(self._names[file], at, content))
        os.pwrite(file, content, at)

    def flush(self, file: int) -> None:
        self._journal.steps.append(Flushed(self._names[file]))

    def flush_folder(self, folder: Path) -> None:
        if folder == self._folder:
            self._journal.steps.append(FolderFlushed())


@contextmanager
def recording(folder: Path, synchronous: Synchronous = "FULL") -> Iterator[tuple[RecordingDisk, Journal]]:
    """A disk for the log in `folder`, whose files of now are on it for sure, and its journal."""
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal({path.name for path in folder.iterdir()})
    vfs = _Vfs(f"recording-{next(_numbers)}", journal)
    try:
        yield RecordingDisk(folder, vfs.name, journal, synchronous), journal
    finally:
        vfs.unregister()


class _Connection(apsw.Connection):
    synchronous: Synchronous = "FULL"

    def execute(self, statements: Any, bindings: Any = None, **options: Any) -> Any:
        if statements == "PRAGMA synchronous = FULL":
            statements = f"PRAGMA synchronous = {self.synchronous}"
        return super().execute(statements, bindings, **options)


class _Vfs(apsw.VFS):
    def __init__(self, name: str, journal: Journal) -> None:
        super().__init__(name, "")
        self.name = name
        self._journal = journal

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  (SQLite's name)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:  # a temporary file, which nobody finds again
            return apsw.VFSFile("", name, flags)
        # os_unix.c: the first flush of a journal or WAL after it was opened flushes its folder as well
        return _File(self._journal, Path(path).name, bool(flags[0] & _JOURNALS), name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802  (SQLite's name)
        super().xDelete(filename, False)
        name = Path(filename).name
        self._journal.names.discard(name)
        self._journal.steps.append(Gone(name))
        if syncdir:
            self._journal.steps.append(FolderFlushed())


class _File(apsw.VFSFile):
    def __init__(
        self, journal: Journal, short: str, folder_too: bool, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        super().__init__("", name, flags)
        self._journal = journal
        self._short = short
        self._folder_too = folder_too
        journal.made(short)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  (SQLite's name)
        self._journal.steps.append(Wrote(self._short, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802  (SQLite's name)
        self._journal.steps.append(Resized(self._short, newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802  (SQLite's name)
        self._journal.steps.append(Flushed(self._short))
        if self._folder_too:
            self._folder_too = False
            self._journal.steps.append(FolderFlushed())

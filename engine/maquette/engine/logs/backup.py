"""A copy of a log, made while a server writes it.

Rule 1: the copy is the log as it was at one commit, with its own witness at exactly that head.
Rule 2: assets are copied after the database: they are stored before an event may name them and never change, so every
        asset that the copy names is there.
Rule 3: a copy appears under its name when it is whole and on disk; one that was killed is a hidden `.partial` folder.
Rule 4: a copy says that it is one (`RESTORED`): clients may hold edits that it lacks, so an engine that opens it begins
        new epochs. Each copy has a mark of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Event as Flag
from uuid import uuid4

from maquette.engine.assets import ID
from maquette.engine.errors import InvalidInput, LogDamaged, LogUnwritable, MaquetteError
from maquette.engine.events import Position
from maquette.engine.files import sync_folder
from maquette.engine.logs.opening import checked_head, head_of
from maquette.engine.logs.schema import DATABASE, WITNESS, naming_faults, one_view, open_for_reading
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.logs.verify import Progress, quiet
from maquette.engine.logs.witness import Witness

ASSETS = "assets"
RESTORED = "RESTORED"

PAGES_AT_ONCE = 1_024
"""Pages of 4 KiB between two looks at whether anybody still waits."""


async def backup(source: Path | SqliteLog, target: Path, progress: Progress = quiet) -> Position:
    """Copy the log in the folder `source`, with its assets, to `target`; answers the copy's head.

    Raises InvalidInput when `target` exists and is not an empty folder, LogLost or LogDamaged when the source is not
    whole, LogUnwritable when the copy cannot be written. `target` is untouched then.
    """
    loop = asyncio.get_running_loop()
    folder = source.folder if isinstance(source, SqliteLog) else source
    stop = Flag()

    def tell(phase: str, done: int, total: int) -> None:
        if stop.is_set():
            raise _Stopped
        loop.call_soon_threadsafe(progress, phase, done, total)

    try:
        return await asyncio.to_thread(_backup, folder, target, tell)
    except asyncio.CancelledError:
        stop.set()
        raise


def restored_mark(folder: Path) -> str | None:
    """The mark of the backup that `folder` is; None for any other log.

    The mark differs from that of every other backup, and can be part of a file's name. Raises LogDamaged.
    """
    path = folder / RESTORED
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return str(json.loads(content)["mark"])
    except (ValueError, KeyError, TypeError) as error:
        raise LogDamaged(str(path), "the mark of a backup", f"{content[:80]!r}") from error


class _Stopped(MaquetteError):
    """Nobody waits for the copy any more."""


def _backup(folder: Path, target: Path, tell: Progress) -> Position:
    _require_free(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        try:
            head = _copy_database(folder, partial, tell)
            _copy_assets(folder / ASSETS, partial / ASSETS, tell)
            _write(partial / RESTORED, _mark(head))
            partial.chmod(folder.stat().st_mode & 0o777)
            sync_folder(partial)
            partial.rename(target)  # onto nothing or an empty folder: whatever else came meanwhile makes it fail
            sync_folder(target.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except OSError as error:
        raise LogUnwritable(f"{target}: expected to write a backup, got {error}") from error
    return head


def _require_free(target: Path) -> None:
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InvalidInput(f"backup target {target}: expected nothing or an empty folder, got something")


def _copy_database(folder: Path, partial: Path, tell: Progress) -> Position:
    path = partial / DATABASE
    with closing(open_for_reading(folder)) as source:
        checked_head(source, folder)
        with naming_faults(path), closing(sqlite3.connect(path, isolation_level=None)) as copy:
            _copy_pages(source, copy, tell)
            head = head_of(copy)
            with Witness(partial / WITNESS) as witness:
                witness.write(head)
                witness.flush()
            checked_head(copy, partial)
    _sync(path)
    return Position(head.position)


def _copy_pages(source: sqlite3.Connection, copy: sqlite3.Connection, tell: Progress) -> None:
    def progress(status: int, remaining: int, total: int) -> None:
        tell("database", total - remaining, total)

    # SQLite begins a copy anew whenever somebody has committed, and may never end beside a busy server: not in a view
    with one_view(source):
        head_of(source)
        source.backup(copy, pages=PAGES_AT_ONCE, progress=progress)


def _copy_assets(source: Path, target: Path, tell: Progress) -> None:
    files = sorted(file for file in source.glob("??/*") if ID.fullmatch(file.name))
    folders = {target, *(target / file.parent.name for file in files)}
    for folder in sorted(folders) if files else []:
        folder.mkdir()
    for done, file in enumerate(files):
        tell("assets", done, len(files))
        copy = target / file.parent.name / file.name
        shutil.copyfile(file, copy)
        _sync(copy)
    for folder in folders if files else ():
        sync_folder(folder)
    tell("assets", len(files), len(files))


def _mark(head: Position) -> bytes:
    taken = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"mark": uuid4().hex, "position": head, "taken": taken}).encode()


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    _sync(path)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)

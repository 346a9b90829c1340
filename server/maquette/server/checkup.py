"""What `maquette doctor` looks at: everything in a data folder, read-only, also beside a running server.

Rule 1: a problem is what should not be, and each one names its place. A note is what somebody should know.
Rule 2: a check that cannot be made is a problem itself; the ones behind it go on where they can.
"""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from maquette.engine.engine import Engine
from maquette.engine.errors import MaquetteError
from maquette.engine.events import Position
from maquette.engine.inspection import Inspected, inspect_all
from maquette.engine.logs.backup import RESTORED
from maquette.engine.logs.schema import open_for_reading
from maquette.engine.logs.verify import verify
from maquette.engine.reports import Progress, quiet
from maquette.engine.space import Space
from maquette.engine.workers import NoWorker
from maquette.projections.builds import Builds
from maquette.projections.fold import Projection
from maquette.projections.sums import Sums
from maquette.server.app import PROJECTIONS, PROJECTIONS_FOLDER
from maquette.server.running import FILE as SERVER_FILE
from maquette.server.running import find, is_stale
from maquette.server.tokens import FILE as KEYS_FILE
from maquette.server.tokens import Keyring


@dataclass(slots=True)
class Checkup:
    """What was found. `facts` say what was looked at."""

    facts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


async def check(data: Path, progress: Progress = quiet) -> Checkup:
    """Look at everything in the folder `data`. Raises LogError where there is no log, LogTooNew."""
    found = Checkup()
    head = await _check_log(data, found, progress)
    _check_files(data, found)
    try:
        engine = await Engine.open_readonly(data, snapshots=False)  # they would spare what is to be checked
    except MaquetteError as error:
        found.problems.append(f"the log does not open, so documents, assets and projections were not checked: {error}")
        return found
    async with engine:
        await _check_documents(engine, data, found, progress)
        for make in PROJECTIONS:
            await _check_projection(engine, data / PROJECTIONS_FOLDER, make, head, found)
    return found


# --- the log -------------------------------------------------------------------------------------------------------


async def _check_log(data: Path, found: Checkup, progress: Progress) -> int:
    report = await verify(data, progress)
    found.facts.append(f"log: {report.events} events in {report.streams} streams, head at position {report.head}")
    found.problems += [f"log: {problem}" for problem in report.problems]
    found.notes += [
        f"log: opened with --accept-loss; positions {loss.found + 1} to {loss.known} were given up"
        for loss in report.losses
    ]
    return report.head


def _check_files(data: Path, found: Checkup) -> None:
    running = find(data)
    if running is not None:
        found.notes.append(f"a server runs at {running.url} (process {running.pid})")
    elif is_stale(data):
        found.notes.append(f"{SERVER_FILE}: left behind by a server that was killed; the next one replaces it")
    if (data / RESTORED).exists():
        found.notes.append("the log is a backup: when it is first served, its documents begin new epochs")
    keys = data / KEYS_FILE
    if not keys.exists():
        return
    try:
        Keyring.load(data)
    except MaquetteError as error:
        found.problems.append(f"keys: {error}")
    if stat.S_IMODE(keys.stat().st_mode) & 0o077:
        found.problems.append(f"keys: {keys}: expected mode 0600, others may read the keys")


# --- documents and assets ------------------------------------------------------------------------------------------


async def _check_documents(engine: Engine, data: Path, found: Checkup, progress: Progress) -> None:
    """Replay every document: what replays is what a server would serve. Then look at the assets of the scenes."""
    documents = [document async for document in _documents(engine, data, found)]
    try:
        inspected = await inspect_all(engine.workers, data, documents, progress)
    except NoWorker as error:
        found.problems.append(f"documents were not checked: {error}")
        return
    named: dict[str, str] = {}
    for document in inspected:
        if document.problem is not None and not document.is_frozen:  # of which the freeze tells already
            found.problems.append(f"document {document.stream}: expected to replay its events, got {document.problem}")
        named |= dict.fromkeys(document.assets, document.stream)
    found.facts.append(f"documents: {sum(document.problem is None for document in inspected)} replayed")
    await _check_assets(engine, named, found, progress)


async def _documents(engine: Engine, data: Path, found: Checkup) -> AsyncGenerator[Inspected, None]:
    async for space in _spaces(engine, data, found):
        for record in space.record.documents.values():
            for epoch in record.epochs:
                stream = space.record.document_stream(record, epoch.number)
                if (frozen := space.frozen(record, epoch.number)) is not None:
                    found.problems.append(f"document {stream}: {frozen}; `maquette thaw` lifts that")
                try:
                    head = await engine.log.revision(stream)
                except MaquetteError as error:
                    found.problems.append(f"document {stream}: expected to read its events, got {error}")
                    continue
                until = head if frozen is None else min(head, frozen.before - 1)
                yield Inspected(stream, record.kind, until, is_frozen=frozen is not None)


async def _spaces(engine: Engine, data: Path, found: Checkup) -> AsyncGenerator[Space, None]:
    for tenant in await asyncio.to_thread(_tenants, data):
        try:
            for space in await engine.spaces(tenant):
                yield space
        except MaquetteError as error:
            found.problems.append(f"tenant {tenant}: expected to read its spaces, got {error}")


def _tenants(data: Path) -> list[str]:
    with closing(open_for_reading(data)) as connection:
        rows = connection.execute("SELECT name FROM streams WHERE instr(name, '/') = 0 ORDER BY name")
        return [name for (name,) in rows]


async def _check_assets(engine: Engine, named: Mapping[str, str], found: Checkup, progress: Progress) -> None:
    for done, (asset, stream) in enumerate(named.items()):
        progress("assets", done, len(named))
        try:
            await asyncio.to_thread(engine.assets.get, asset)
        except MaquetteError as error:
            found.problems.append(f"asset {asset}, which {stream} names: {error}")
    progress("assets", len(named), len(named))
    found.facts.append(f"assets: {len(named)} named by scenes")


# --- projections ---------------------------------------------------------------------------------------------------


async def _check_projection(
    engine: Engine, folder: Path, make: Callable[[], Projection], head: int, found: Checkup
) -> None:
    projection = make()
    name = f"projection {projection.name}"
    try:
        kept = await asyncio.to_thread(_kept, folder / projection.name)
    except (OSError, ValueError, TypeError, sqlite3.Error) as error:
        found.problems.append(f"{name}: expected a readable build, got {error}: `maquette rebuild {projection.name}`")
        return
    if find(folder.parent) is None:  # a server may be folding it
        try:
            await asyncio.to_thread(_check_sums, folder / projection.name)
        except MaquetteError as error:
            found.notes.append(f"{name}: {error}; the next start builds it anew")
    if kept is None:
        found.notes.append(f"{name}: not built yet; a server builds it when it starts")
        return
    (version, position, event), parked = kept
    found.facts.append(f"{name}: at position {position}")
    if version != projection.version:
        found.notes.append(f"{name}: expected version {projection.version}, got {version}; the next start builds it")
    if position > head and position > await engine.log.head():  # a server may have gone on meanwhile
        found.problems.append(f"{name}: expected a checkpoint up to the log's head {head}, got {position}")
    elif not await _is_known(engine, position, event):
        found.problems.append(f"{name}: expected its checkpoint {position} to be an event of this log, got another's")
    elif position < head:
        found.notes.append(f"{name}: {head - position} positions behind the log")
    found.problems += [f"{name}: stopped for stream {stream}: {error}" for stream, error in parked]


def _kept(folder: Path) -> tuple[tuple[int, int, bytes | None], list[tuple[str, str]]] | None:
    """Checkpoint and parked streams of the live build, None when there is none (projections.builds, store)."""
    try:
        number = int((folder / "live").read_text())
    except FileNotFoundError:
        return None
    uri = f"{(folder / f'{number}.sqlite').absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        row = connection.execute("SELECT version, position, event FROM checkpoint").fetchone()
        return row, connection.execute("SELECT stream, error FROM parked ORDER BY stream").fetchall()


def _check_sums(folder: Path) -> None:
    live = Builds(folder.parent, folder.name).live()
    if live is not None:
        Sums(live).check()


async def _is_known(engine: Engine, position: int, event: bytes | None) -> bool:
    if event is None:
        return True
    async for page in engine.log.read_all(after=Position(position - 1)):
        return page[0].position == position and page[0].id.bytes == event
    return False

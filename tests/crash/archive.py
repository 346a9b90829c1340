"""What the data folder of a dead server holds: the log, replayed, and all that was derived from it beside it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pycrdt
from tests.support.live import places, remembered
from tests.support.projections import Dump, dump

from maquette.engine.engine import Engine
from maquette.engine.errors import NotFound
from maquette.engine.events import Event
from maquette.engine.kinds.chat import MESSAGES
from maquette.engine.kinds.kind import plain
from maquette.engine.kinds.scene import NODES
from maquette.engine.log import EventLog
from maquette.engine.replica import Replica
from maquette.engine.snapshots import SnapshotStore
from maquette.engine.space import Space
from maquette.engine.testing.log_contract import collected
from maquette.engine.update import read_update
from maquette.projections.runner import Runner
from maquette.server.app import PROJECTIONS, PROJECTIONS_FOLDER
from maquette.server.checkup import check

TENANT, SPACE, TEXT_ROOT = "dev", "demo", "text"
MARK = re.compile(r"<[a-z]+-[0-9a-z-]+>")
CATCH_UP_SECONDS = 30.0


@dataclass(slots=True)
class Archive:
    """The log of a folder. Streams stand for their documents, epochs apart."""

    head: int = 0
    docs: dict[str, pycrdt.Doc[Any]] = field(default_factory=dict)
    """Stream → its replay."""
    places: dict[str, dict[bytes, list[tuple[str, int]]]] = field(default_factory=dict)
    """Stream → update → where it is: (stream, revision)."""
    marks: list[str] = field(default_factory=list)
    """The marks in texts, messages and names of nodes, as often as they are there."""
    numbers: dict[int, str] = field(default_factory=dict)
    """Message number → message id."""
    nodes: set[str] = field(default_factory=set)
    snapshots: int = 0
    """How many snapshots were compared with a replay."""
    _names: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def streams(self, document: str) -> list[str]:
        """The streams that the name `document` may have stood for: those of all its epochs."""
        return self._names[document]


async def read_archive(folder: Path, *, torn: bool = False) -> Archive:
    """All that the folder holds, having found that its parts agree. Raises LogLost and LogDamaged when the log says
    itself that something is missing, and AssertionError. Snapshots may be `torn`, which no kill does."""
    found = await check(folder)
    assert not found.problems, found.problems
    archive = Archive()
    async with await Engine.open_readonly(folder, snapshots=False) as engine:
        archive.head = await engine.log.head()
        times = [event.time for event in await collected(engine.log.read_all())]
        assert times == sorted(times), "expected times that never decrease"
        await _check_projections(engine.log, folder)
        try:
            space = await engine.space(TENANT, SPACE)
        except NotFound:
            return archive
        await _read_space(engine, space, folder, archive, torn)
    return archive


async def _read_space(engine: Engine, space: Space, folder: Path, archive: Archive, torn: bool) -> None:
    snapshots = SnapshotStore(folder / "snapshots", writable=False)
    for record in space.record.documents.values():
        for epoch in record.epochs:
            stream = space.record.document_stream(record, epoch.number)
            archive._names[record.name].append(stream)
            events = await collected(engine.log.read(stream))
            _read_events(stream, events, archive)
            replica = await engine.replica(space, record, epoch.number)
            archive.docs[stream] = replica.doc
            _read_content(replica, archive)
            kept = snapshots.load(stream, record.kind, replica.doc.client_id, len(events))
            if kept.revision:
                again = await engine.replica(space, record, epoch.number, revision=kept.revision)
                _compare(stream, kept, again)
                archive.snapshots += 1
            elif not torn and snapshots._path(stream).exists():
                raise AssertionError(f"{stream}: expected a whole snapshot or none, got one that is not usable")


def _read_events(stream: str, events: list[Event], archive: Archive) -> None:
    """Take in the places of updates; every struct is there once, in the order of its client's clocks."""
    places: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
    clocks = Counter[int]()
    for event in events:
        update = event.data["update"]
        places[update].append((stream, event.revision))
        for client, structs in read_update(update).structs.items():
            at = f"{stream}, revision {event.revision}, client {client}"
            assert structs[0].clock == clocks[client], f"{at}: expected clock {clocks[client]}, got {structs[0].clock}"
            clocks[client] = structs[-1].end
    archive.places[stream] = places


def _read_content(replica: Replica, archive: Archive) -> None:
    match replica.kind.name:
        case "chat":
            for message in plain(replica.shared(MESSAGES)):
                archive.numbers[int(message["stamp"][0])] = message["id"]
                archive.marks += [message["id"], *_marks(message["body"])]
        case "scene":
            for node, fields in plain(replica.shared(NODES)).items():
                archive.nodes.add(node)
                archive.marks += [node, *_marks(fields.get("name") or "")]
        case _:
            archive.marks += _marks(str(replica.doc.get(TEXT_ROOT, type=pycrdt.Text)))


def _marks(text: str) -> Iterator[str]:
    return (match[0] for match in MARK.finditer(text))


def _compare(stream: str, kept: Replica, again: Replica) -> None:
    """A snapshot holds what a replay to its revision gives. (Claims by presence alone are in no log.)"""
    assert kept.last == again.last, f"{stream}: expected the snapshot at event {again.last}, got {kept.last}"
    assert kept.doc.get_update() == again.doc.get_update(), f"{stream}: snapshot and replay differ"
    assert places(kept) == places(again), f"{stream}: the indexes of snapshot and replay differ"
    assert remembered(kept) == remembered(again), f"{stream}: the memories of snapshot and replay differ"
    claims = {tuple(claim[:2]) for claim in kept.claims.to_plain()}
    assert {tuple(claim[:2]) for claim in again.claims.to_plain()} <= claims, f"{stream}: claims are missing"


# --- projections -----------------------------------------------------------------------------------------------------


async def _check_projections(log: EventLog, folder: Path) -> None:
    """Views that go on from where the kill left them are equal to views that are built from nothing."""
    kept = await _dumps(log, folder / PROJECTIONS_FOLDER)
    again = await _dumps(log, folder / "projections-again")
    for name, view in again.items():
        assert kept[name] == view, f"{name}: the view that was continued differs from a rebuild"


async def _dumps(log: EventLog, folder: Path) -> dict[str, Dump]:
    async with await Runner.open(log, folder, PROJECTIONS) as runner:
        await runner.wait_for(await log.head(), CATCH_UP_SECONDS)
        for make in PROJECTIONS:
            assert not await runner.parked(make().name)
        return {make().name: await dump(runner.view(make().name), make()) for make in PROJECTIONS}

"""Inspection: documents replayed from their first event on, in a worker, to know whether they can be (G4).

Rule 1: whoever asks never reads an update itself: poison that no server has met ends a worker and is named.
Rule 2: there is no limit for a whole history, which may be long, but one for each revision and for each reading.
Rule 3: small documents share a job. When that dies, each is replayed alone, and read after each update that looks odd.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maquette.engine.errors import MaquetteError
from maquette.engine.events import Event
from maquette.engine.folds import looks_odd, read_all
from maquette.engine.kinds.kind import Kind, plain
from maquette.engine.kinds.scene import MATERIALS, NODES, SCENE, SETTINGS
from maquette.engine.logs.schema import DATABASE
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.opening import Opener
from maquette.engine.replica import Replica, ReplicaBroken
from maquette.engine.reports import Progress as Told
from maquette.engine.rlimits import limit_processor
from maquette.engine.snapshots import SnapshotStore
from maquette.engine.spaces import KINDS
from maquette.engine.workers import Budget, JobFailed, Progress, Workers

SECONDS = 10.0  # of processor time for a revision or a reading, and SECONDS_PER_MIB for what there is of it
SECONDS_PER_MIB = 4.0
SHARED = 2_000  # events that documents of one job have together: a job takes 8 ms to begin
_SERVER = 1  # a client id: nothing is written


@dataclass(frozen=True, slots=True)
class Inspected:
    """A document's stream up to the revision `until`; what a replay of it found: `assets` that it names, or why it
    cannot be replayed."""

    stream: str
    kind: Kind
    until: int
    assets: tuple[str, ...] = ()
    problem: str | None = None
    is_frozen: bool = False
    """Whether it ends before an update that must not be replayed; what is before that may be as hard to read."""


async def inspect_all(workers: Workers, folder: Path, documents: Sequence[Inspected], told: Told) -> list[Inspected]:
    """`documents` of the log in `folder`, each with what was found. Raises NoWorker."""
    done = 0

    async def inspect_some(some: Sequence[Inspected]) -> list[Inspected]:
        nonlocal done
        found = await _Inspection(workers, folder).some(some)
        done += len(some)
        told("documents", done, len(documents))
        return found

    told("documents", 0, len(documents))
    parts = await asyncio.gather(*map(inspect_some, _batches(documents)))
    return [one for part in parts for one in part]


def _batches(documents: Sequence[Inspected]) -> Iterator[list[Inspected]]:
    batch: list[Inspected] = []
    for document in documents:
        if batch and sum(one.until + 1 for one in batch) + document.until > SHARED:
            yield batch
            batch = []
        batch.append(document)
    if batch:
        yield batch


class _Inspection:
    def __init__(self, workers: Workers, folder: Path) -> None:
        self._workers = workers
        self._folder = folder

    async def some(self, documents: Sequence[Inspected]) -> list[Inspected]:
        try:
            return await self._run(documents, careful=False)
        except JobFailed:
            return [await self._alone(document) for document in documents]

    async def _alone(self, document: Inspected) -> Inspected:
        try:
            return (await self._run([document], careful=True))[0]
        except JobFailed as error:
            return replace(document, problem=f"revision {error.reached}: a worker that replayed it {error.what}")

    async def _run(self, documents: Sequence[Inspected], *, careful: bool) -> list[Inspected]:
        given = {
            "folder": str(self._folder),
            "documents": [[document.stream, document.kind.name, document.until] for document in documents],
            "careful": careful,
            "seconds": SECONDS,
        }
        size = (self._folder / DATABASE).stat().st_size
        budget = replace(Budget.sized(size), cpu=SECONDS)  # of the clock and of memory, what all of the log may take
        answers = await self._workers.run("inspect", given, budget)
        return [
            replace(document, assets=tuple(answer["assets"]), problem=answer["problem"])
            for document, answer in zip(documents, answers, strict=True)
        ]


# --- in the worker ---------------------------------------------------------------------------------------------------


def inspect(given: Mapping[str, Any], progress: Progress) -> list[dict[str, Any]]:
    """The job: assets and problem of each document."""
    return asyncio.run(_inspected(given, progress))


async def _inspected(given: Mapping[str, Any], progress: Progress) -> list[dict[str, Any]]:
    log = await SqliteLog.open_readonly(Path(given["folder"]))

    def replay(replica: Replica, event: Event) -> None:
        progress.set(event.revision)
        _allow(given, replica)
        is_odd = given["careful"] and looks_odd(replica, event)
        replica.replay(event)
        if is_odd:
            read_all(replica)

    opener = Opener(log, SnapshotStore(None), replay=replay)
    try:
        return [await _one(opener, given, progress, *document) for document in given["documents"]]
    finally:
        await log.close()


async def _one(
    opener: Opener, given: Mapping[str, Any], progress: Progress, stream: str, kind: str, until: int
) -> dict[str, Any]:
    try:
        replica = (await opener.open(stream, KINDS[kind], _SERVER, until)).replica
    except ReplicaBroken as error:
        return {"assets": [], "problem": f"revision {progress.get()}: {error}"}
    except MaquetteError as error:
        return {"assets": [], "problem": str(error)}
    _allow(given, replica)
    read_all(replica)
    return {"assets": list(scene_assets(replica)) if replica.kind is SCENE else [], "problem": None}


def _allow(given: Mapping[str, Any], replica: Replica) -> None:
    limit_processor(given["seconds"] + SECONDS_PER_MIB * replica.size / (1 << 20))


def scene_assets(replica: Replica) -> Iterator[str]:
    """The ids of the assets that a scene names."""
    for root in (NODES, MATERIALS):
        for record in plain(replica.shared(root)).values():
            yield from _assets_of(record)
    environment = plain(replica.shared(SETTINGS)).get("environment")
    if environment is not None:
        yield environment


def _assets_of(record: Mapping[str, Any]) -> Iterator[str]:
    for register in (record.get("mesh"), record.get("source")):
        if isinstance(register, list):
            yield register[0]

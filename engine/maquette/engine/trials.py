"""Trials: what is large is read, applied and taken to pieces in a worker, before the process that serves looks at it.

Rule 1: a large update is not even parsed on the event loop. The worker reads it under the gate's limits, applies it to
        a scratch copy of the document and asks for everything in it: what hangs or crashes pycrdt does so there (G1).
Rule 2: an update that its worker dies of is denied, whoever sent it and whatever a second try would bring (G5 a).
Rule 3: what comes back are pieces, each small, which the gate judges one by one like everybody's ops (`pieces`). The
        trial decides nothing in their favour: roles, content and ownership are judged when a piece enters.
Rule 4: what comes from somebody who may not write is not tried but skimmed: it is read, and applied to nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maquette.engine.claims import Claims
from maquette.engine.errors import LimitExceeded, MalformedUpdate
from maquette.engine.folds import read_all, replayed
from maquette.engine.index import Hole
from maquette.engine.pieces import JUDGED, split
from maquette.engine.replica import UNLIMITED, Replica
from maquette.engine.snapshots import SnapshotStore
from maquette.engine.spaces import KINDS
from maquette.engine.update import Limits, Update, cut, is_heavy, read_update
from maquette.engine.workers import Budget, Progress, Workers

if TYPE_CHECKING:
    from maquette.engine.document import Document
    from maquette.engine.waiting import Submission

SMALL_BYTES = 8 << 10  # nobody looks twice at less
DIRECT_BYTES = 64 << 10  # of structs; reading them takes 15 ms
DIRECT_STRUCTS = 1_000  # some 50 ms to judge, apply and describe
MAX_BYTES = 32 << 20  # of one actor, on trial and in line: a worker takes some 10 s for as much
_NOTHING = b"\0"  # the state vector of an empty document


def is_large(data: bytes) -> bool:
    """Whether an update is tried in a worker first. A client's whole delete set, which it always sends, is not."""
    return len(data) > SMALL_BYTES and is_heavy(data, DIRECT_BYTES, DIRECT_STRUCTS)


@dataclass(frozen=True, slots=True)
class Tried:
    """What a trial found: why the update is denied, or its pieces, and what of it waits for a hole (D3)."""

    denied: str | None
    pieces: list[bytes]
    rest: bytes | None = None
    hole: Hole | None = None
    for_role: bool = False


@dataclass(frozen=True, slots=True)
class Skimmed:
    """Why an update cannot be read, or the next clock of each client behind it, and its deletions as an update."""

    denied: str | None
    ends: Mapping[int, int]
    deletes: bytes


class Trials:
    """Tries updates for the documents of one engine; `folder` is its log's, None for one in memory."""

    def __init__(self, workers: Workers, folder: Path | None, snapshots: SnapshotStore) -> None:
        self._workers = workers
        self._folder = folder
        self._snapshots = snapshots
        self._bytes: Counter[str] = Counter()

    async def run(self, document: Document, op: Submission, begin: Callable[[], bool]) -> Tried:
        """Try what `op` brings to `document`; see `Workers.run` for `begin`.

        Raises JobFailed, fatal when the worker died of the update, and NoWorker.
        """
        replica, data = document.replica, op.data
        given = {
            "stream": document.stream,
            "kind": replica.kind.name,
            "server": replica.doc.client_id,
            "until": document.durable,  # whatever the sender saw, is on disk
            "claims": replica.claims.to_plain(),
            "actor": op.actor.id,
            "own": op.own,
            "limits": asdict(document.limits),
            "update": data,
        }
        if self._folder is None:
            given["state"] = replica.diff(_NOTHING)
        else:
            given |= {"folder": str(self._folder), "snapshots": str(self._snapshots.folder)}
        found = await self._run("trial", given, Budget.sized(len(data) + replica.size), document, op, begin)
        hole = found.get("hole")
        return Tried(found["denied"], found.get("pieces", []), found.get("rest"), None if hole is None else Hole(*hole))

    async def skim(self, document: Document, op: Submission, begin: Callable[[], bool]) -> Skimmed:
        """What `op` brings, read without a replica. Raises like `run`."""
        given = {"limits": asdict(document.limits), "update": op.data}
        found = await self._run("skim", given, Budget.sized(len(op.data)), document, op, begin)
        return Skimmed(found["denied"], dict(found.get("ends", ())), found.get("deletes", b""))

    async def _run(
        self,
        job: str,
        given: dict[str, Any],
        budget: Budget,
        document: Document,
        op: Submission,
        begin: Callable[[], bool],
    ) -> dict[str, Any]:
        actor, size = op.actor.id, len(op.data)
        if self._bytes[actor] + size > MAX_BYTES:
            most = f"{MAX_BYTES} bytes of one person's large updates on trial at once"
            return {"denied": f"expected at most {most}, got more"}
        self._bytes[actor] += size
        try:
            found: dict[str, Any] = await self._workers.run(
                job, given, budget, stream=document.stream, actor=actor, begin=begin
            )
            return found
        finally:
            self._bytes[actor] -= size
            if not self._bytes[actor]:
                del self._bytes[actor]


# --- in the worker ---------------------------------------------------------------------------------------------------


def try_update(given: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """The job."""
    limits = Limits(**given["limits"])
    try:
        update = read_update(given["update"], limits)
        replica = _scratch(given, progress)
        update, _ = cut(update, lambda client: replica.claims.admits(client, given["actor"], given["own"]))
        excess = replica.excess(update, len(given["update"]), limits)
        return {"denied": excess.reason} if excess is not None else _tried(replica, replica.index.trim(update))
    except (MalformedUpdate, LimitExceeded) as error:
        return {"denied": str(error)}


def skim_update(given: Mapping[str, Any], _: Progress) -> dict[str, Any]:
    """The job of those who may not write: it reads the bytes, and needs no document."""
    try:
        update = read_update(given["update"], Limits(**given["limits"]))
    except (MalformedUpdate, LimitExceeded) as error:
        return {"denied": str(error)}
    ends = [(client, group[-1].clock + group[-1].length) for client, group in update.structs.items()]
    return {"denied": None, "ends": ends, "deletes": Update({}, update.ranges).encode()}


def _scratch(given: Mapping[str, Any], progress: Progress) -> Replica:
    if "state" in given:
        replica = Replica(KINDS[given["kind"]], given["server"])
        replica.doc.apply_update(given["state"])
        state = read_update(given["state"], UNLIMITED)
        if not state.is_empty:
            replica.index.add(state)
        replica.size = len(given["state"])
    else:
        replica = asyncio.run(replayed(given, SnapshotStore(Path(given["snapshots"]), writable=False), progress))
    replica.claims = Claims.from_plain(given["claims"])
    return replica


def _tried(replica: Replica, update: Update) -> dict[str, Any]:
    index = replica.index
    hole = index.hole(update)
    ready = update if hole is None else replica.ready_part(update)
    misfit = replica.misfit(ready, index.writes(ready))
    if misfit is not None:
        if hole is None:
            return {"denied": misfit}
        ready = Update({}, {})  # the whole may fit
    whole = replica.kind.roots is not None
    pieces = [] if ready.is_empty else [piece.encode() for piece in split(ready, index, JUDGED, whole=whole)]
    replica.doc.apply_update(ready.encode())
    index.add(ready)
    read_all(replica)
    rest = None if hole is None else index.trim(update).encode()
    return {"denied": None, "pieces": pieces, "rest": rest, "hole": hole and (hole.client, hole.clock, hole.why)}

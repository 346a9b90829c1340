"""Folds: snapshots, made in a worker from a replay of the log (D6, D8).

Rule 1: the serving process never encodes a whole state for a snapshot, and reads no log that a worker can read for it.
Rule 2: a fold begins at the last snapshot, replays what came since, one update after the other, reads everything that
        a reader could ask for, writes the snapshot, reads the file back and compares the two.
Rule 3: the replica that was live at that revision has a word too: where its fingerprint is another, the snapshot is
        not used, nor is the one before it, and the replica is dropped and built again from the whole log.
Rule 4: a document that a worker dies of is not replayed by the process that serves: it is frozen before the revision
        at which the worker died (G4).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgpack
import pycrdt

from maquette.engine.claims import Claims
from maquette.engine.errors import LogError
from maquette.engine.events import Event
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.opening import Opener
from maquette.engine.replica import UNLIMITED, Replica
from maquette.engine.snapshots import SnapshotStore
from maquette.engine.spaces import KINDS
from maquette.engine.sync import read_state_vector
from maquette.engine.update import Struct, read_update
from maquette.engine.workers import Budget, JobFailed, Progress, Workers

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Witness:
    """What the live replica says of a revision, to be compared with a replay."""

    revision: int
    fingerprint: bytes
    claims: list[list[object]]
    """With those that presence announced, which are in no log."""

    @classmethod
    def of(cls, replica: Replica) -> Witness:
        """Of `replica` as it is now."""
        return cls(replica.revision, fingerprint(replica), replica.claims.to_plain())


def fingerprint(replica: Replica) -> bytes:
    """A digest of the clocks that pycrdt has, and of the clocks and deletions that the index has: some microseconds
    for each client, whatever the size of the document."""
    clocks = sorted(read_state_vector(replica.state_vector()).items())
    digest = hashlib.blake2b(repr((clocks, replica.index.clocks())).encode(), digest_size=16)
    replica.index.hash_deletes(digest)
    return digest.digest()


class Disagreement(LogError):
    """The live replica and a replay of the log are not the same (D6). Raised to who watches; it opens it again."""

    def __init__(self, stream: str, revision: int) -> None:
        super().__init__(f"{stream}, revision {revision}: expected the live replica to be what the log replays to")


class Folds:
    """Makes the snapshots of one log on disk."""

    def __init__(self, folder: Path, snapshots: SnapshotStore, workers: Workers) -> None:
        self._folder = folder
        self._snapshots = snapshots
        self._workers = workers
        self._running: dict[str, asyncio.Lock] = {}
        self.done = 0
        """How many snapshots were written and accepted."""

    async def fold(self, stream: str, kind: str, server: int, until: int, witness: Witness | None = None) -> None:
        """Write a snapshot of `stream` at the revision `until`.

        Raises Disagreement when `witness` tells another story, Poisoned when the stream cannot be read, and JobFailed
        and NoWorker when it is the machine's fault.
        """
        lock = self._running.setdefault(stream, asyncio.Lock())
        try:
            async with lock:
                await self._fold(stream, kind, server, until, witness)
        finally:
            if not lock.locked():
                self._running.pop(stream, None)

    async def _fold(self, stream: str, kind: str, server: int, until: int, witness: Witness | None) -> None:
        given = {
            "folder": str(self._folder),
            "snapshots": str(self._snapshots.folder),
            "stream": stream,
            "kind": kind,
            "server": server,
            "until": until,
            "claims": None if witness is None else witness.claims,
        }
        made = await self._run(stream, given)
        if witness is not None and made != witness.fingerprint:
            self._snapshots.discard(stream)
            _logger.error("%s, revision %d: the live replica differs from a replay of the log", stream, until)
            raise Disagreement(stream, until)
        self._snapshots.accept(stream)
        self.done += 1

    async def _run(self, stream: str, given: Mapping[str, Any]) -> bytes:
        try:
            return cast(bytes, await self._workers.run("fold", given, self._budget(stream), stream=stream))
        except JobFailed as error:
            if not error.is_fatal:
                raise
            _logger.warning("%s: %s; read once more, after each update that looks odd", stream, error)
        try:
            careful = {**given, "careful": True}
            return cast(bytes, await self._workers.run("fold", careful, self._budget(stream), stream=stream))
        except JobFailed as error:
            if not error.is_fatal:
                raise
            raise Poisoned(stream, error.reached, str(error)) from error

    def _budget(self, stream: str) -> Budget:
        return Budget.sized((16 << 20) + 8 * self._snapshots.size(stream))


class Poisoned(LogError):
    """A worker died of reading a stream, at a revision of it (G4). Raised to who opens it."""

    def __init__(self, stream: str, revision: int, what: str) -> None:
        super().__init__(f"{stream}, revision {revision}: expected an update that can be read; {what}")
        self.revision = revision
        self.what = what


# --- in the worker ---------------------------------------------------------------------------------------------------


def fold(given: Mapping[str, Any], progress: Progress) -> bytes:
    """The job: the fingerprint of the replica that the new snapshot holds."""
    return asyncio.run(_folded(given, progress))


async def _folded(given: Mapping[str, Any], progress: Progress) -> bytes:
    stream, store = given["stream"], SnapshotStore(Path(given["snapshots"]))
    replica = await replayed(given, store, progress)
    read_all(replica)
    if given["claims"] is not None:
        replica.claims = Claims.from_plain(given["claims"])
    store.save(stream, replica)
    again = store.load(stream, replica.kind, given["server"], given["until"], new=True)
    difference = differs(replica, again)
    if difference is not None:
        raise ValueError(f"{stream}: expected the snapshot to hold what was stored, got another {difference}")
    return fingerprint(again)


async def replayed(given: Mapping[str, Any], store: SnapshotStore, progress: Progress) -> Replica:
    """The replica at `until`, from the log beside the process that writes it; whoever dies of it says where."""
    log = await SqliteLog.open_readonly(Path(given["folder"]))

    def replay(replica: Replica, event: Event) -> None:
        progress.set(event.revision)
        is_odd = given.get("careful") and looks_odd(replica, event)
        replica.replay(event)
        if is_odd:
            read_all(replica)

    try:
        opener = Opener(log, store, replay=replay)
        return (await opener.open(given["stream"], KINDS[given["kind"]], given["server"], given["until"])).replica
    finally:
        await log.close()


def looks_odd(replica: Replica, event: Event) -> bool:
    """Whether the gate of today would not take the update."""
    update = read_update(event.data["update"], UNLIMITED)
    return replica.index.misfit(replica.index.writes(update)) is not None


def read_all(replica: Replica) -> None:
    """Ask for all that a document holds: what pycrdt would hang or crash at, it shall do so here."""
    for name, masks in replica.index.roots().items():
        type_ = next((type_ for ref, type_ in _TYPES.items() if masks & 1 << ref), pycrdt.Map)
        try:
            root = replica.doc.get(name, type=type_)
            str(root)
        except (ValueError, KeyError, TypeError, RuntimeError):  # XML in a map: shown to nobody, harms nobody
            pass


_TYPES: Mapping[int, type[Any]] = {
    0: pycrdt.Array,
    1: pycrdt.Map,
    2: pycrdt.Text,
    4: pycrdt.XmlFragment,
}
"""By type ref, those that a root can be."""


def differs(one: Replica, other: Replica) -> str | None:
    """What two replicas disagree in, in a word; None when they hold the same."""
    if (one.revision, one.last, one.carried) != (other.revision, other.last, other.carried):
        return "revision"
    for part in ("index", "claims", "memory"):
        if _plain(one, part) != _plain(other, part):
            return part
    return None if _same_state(one, other) else "state"


def _plain(replica: Replica, part: str) -> Any:
    match part:
        case "index":
            return replica.index.encode()
        case "claims":
            return replica.claims.to_plain()
        case _:
            return msgpack.packb(replica.memory.to_plain())


def _same_state(one: Replica, other: Replica) -> bool:
    """Not by their bytes: pycrdt writes the keys of plain maps in another order each time."""
    mine, theirs = (read_update(replica.doc.get_update(), UNLIMITED) for replica in (one, other))
    if mine.deletes != theirs.deletes or mine.structs.keys() != theirs.structs.keys():
        return False
    return all(
        len(group) == len(theirs.structs[client]) and all(map(_same_struct, group, theirs.structs[client]))
        for client, group in mine.structs.items()
    )


def _same_struct(one: Struct, other: Struct) -> bool:
    return one.encode() == other.encode() or _told(one) == _told(other)


def _told(struct: Struct) -> Any:
    value = json.dumps(struct.value(), sort_keys=True, default=repr)
    return struct.id, struct.content, struct.origin, struct.right_origin, struct.parent, struct.key, value

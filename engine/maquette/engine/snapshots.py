"""Snapshots: a replica at a revision, so that opening reads the tail of a stream only.

Rule 1: a snapshot is a cache. It can be deleted at any time; one that does not fit is ignored and written anew.
Rule 2: it is made from a replay of the log, in a worker, so that it holds committed ops only (`folds`).
Rule 3: the reader's index, the claims and the kind's memory are in it: none of them can be computed from the CRDT's
        state, which has forgotten where deleted items lay and who brought what.
Rule 4: the state is stored in pieces, none of which keeps the event loop busy for long when it is applied.
Rule 5: a new one lies beside the old until it was compared (`accept`): nobody reads what was not (D6).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import msgpack

from maquette.engine.claims import Claims
from maquette.engine.errors import MaquetteError
from maquette.engine.files import write_atomically
from maquette.engine.index import Index
from maquette.engine.kinds.kind import Kind, Memory
from maquette.engine.pieces import STORED, split
from maquette.engine.replica import UNLIMITED, Replica
from maquette.engine.update import read_update

_FORMAT = 3
_DIGEST = 32
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """A snapshot that was read. Revived once: the replica takes what is in it."""

    kind: Kind
    revision: int
    last: UUID
    pieces: Sequence[bytes]
    index: Index
    claims: Claims
    memory: Memory
    carried: int

    @property
    def size(self) -> int:
        """Bytes of the state."""
        return sum(map(len, self.pieces))

    def fill(self, replica: Replica) -> Iterator[None]:
        """Make an empty replica the one that was stored, in steps of some milliseconds."""
        for piece in self.pieces:
            replica.doc.apply_update(piece)
            yield
        replica.size = self.size
        replica.index = self.index
        replica.claims = self.claims
        replica.memory = self.memory
        replica.revision = self.revision
        replica.carried = self.carried
        replica.last = self.last
        replica.ready()


class SnapshotStore:
    """Snapshots in a folder, one file for each stream; without a folder, none are kept.

    One that is not `writable` belongs to another process and is only read.
    """

    def __init__(self, folder: Path | None, *, writable: bool = True) -> None:
        self.folder = folder if writable else None
        """Where new ones may be written; None where none may."""
        self._folder = folder

    def save(self, stream: str, replica: Replica) -> None:
        """Write `replica` as it is beside the snapshot of the stream; `accept` puts it in its place."""
        if self.folder is None:
            return
        body = msgpack.packb(
            {
                "format": _FORMAT,
                "stream": stream,
                "kind": replica.kind.name,
                "describe": replica.kind.describe,
                "revision": replica.revision,
                "event": replica.last.bytes if replica.last else b"",
                "pieces": state_in_pieces(replica),
                "index": replica.index.encode(),
                "claims": replica.claims.to_plain(),
                "memory": replica.memory.to_plain(),
                "carried": replica.carried,
            }
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._new(stream), hashlib.blake2b(body, digest_size=_DIGEST).digest() + body)

    def accept(self, stream: str) -> None:
        """Use what was saved last. Raises OSError."""
        self._new(stream).replace(self._path(stream))

    def discard(self, stream: str) -> None:
        """Forget what is kept of the stream, the new and the old."""
        for path in (self._new(stream), self._path(stream)):
            path.unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove what workers left that were killed, and what nobody compared."""
        if self.folder is not None and self.folder.is_dir():
            for pattern in ("*.new", "*.tmp"):
                for path in self.folder.glob(pattern):
                    path.unlink(missing_ok=True)

    def size(self, stream: str) -> int:
        """Bytes of the snapshot's file; 0 when there is none."""
        try:
            return 0 if self._folder is None else self._path(stream).stat().st_size
        except OSError:
            return 0

    def read(self, stream: str, kind: Kind, head: int, *, new: bool = False) -> Kept | None:
        """The snapshot, or the `new` one that was not accepted yet; None when there is none that fits a stream at
        revision `head`. May run in another thread."""
        kept = self._read(stream, self._new if new else self._path)
        if kept is None:
            return None
        try:
            if (kept["kind"], kept["describe"]) == (kind.name, kind.describe) and kept["revision"] <= head:
                return Kept(
                    kind,
                    kept["revision"],
                    UUID(bytes=kept["event"]),
                    kept["pieces"],
                    Index.decode(kept["index"]),
                    Claims.from_plain(kept["claims"]),
                    kind.remembered(kept["memory"]),
                    kept["carried"],
                )
        except (MaquetteError, ValueError, KeyError, TypeError) as error:
            _log.warning("the snapshot of %s does not fit and is left aside: %s", stream, error)
        return None

    def load(self, stream: str, kind: Kind, server_client: int, head: int, *, new: bool = False) -> Replica:
        """The replica of the snapshot, or an empty one when there is none that fits a stream at revision `head`."""
        replica = Replica(kind, server_client)
        kept = self.read(stream, kind, head, new=new)
        if kept is not None:
            for _ in kept.fill(replica):
                pass
        return replica

    def _read(self, stream: str, place: Callable[[str], Path]) -> dict[str, Any] | None:
        if self._folder is None:
            return None
        path = place(stream)
        try:
            data = path.read_bytes()
            if hashlib.blake2b(data[_DIGEST:], digest_size=_DIGEST).digest() != data[:_DIGEST]:
                raise ValueError("the digest does not match")
            kept = msgpack.unpackb(data[_DIGEST:], strict_map_key=False)
            return kept if kept["format"] == _FORMAT and kept["stream"] == stream else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("snapshot %s is not usable and is left aside: %s", path, error)
            return None

    def _path(self, stream: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{hashlib.sha256(stream.encode()).hexdigest()[:40]}.snapshot"

    def _new(self, stream: str) -> Path:
        return self._path(stream).with_suffix(".new")


def state_in_pieces(replica: Replica) -> list[bytes]:
    """The whole state, as updates to apply one behind the other."""
    update = read_update(replica.doc.get_update(), UNLIMITED)
    return [piece.encode() for piece in split(update, Index(), STORED)]

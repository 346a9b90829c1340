"""Snapshots: a replica at a revision, so that opening reads the tail of a stream only.

Rule 1: a snapshot is a cache. It can be deleted at any time; one that does not fit is ignored and written anew.
Rule 2: it holds committed ops only: whoever saves sees to that.
Rule 3: the reader's index, the claims and the kind's memory are in it: none of them can be computed from the CRDT's
        state, which has forgotten where deleted items lay and who brought what.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any
from uuid import UUID

import msgpack

from maquette.engine.claims import Claims
from maquette.engine.errors import MaquetteError
from maquette.engine.files import write_atomically
from maquette.engine.index import Index
from maquette.engine.kinds.kind import Kind
from maquette.engine.replica import Replica

_FORMAT = 3
_DIGEST = 32
_log = logging.getLogger(__name__)


class SnapshotStore:
    """Snapshots in a folder, one file for each stream; without a folder, none are kept.

    One that is not `writable` belongs to another process and is only read.
    """

    def __init__(self, folder: Path | None, *, writable: bool = True) -> None:
        self._folder = folder
        self._writable = writable

    def save(self, stream: str, replica: Replica) -> None:
        """Keep `replica` as it is now, in place of an older snapshot of the stream."""
        if self._folder is None or not self._writable:
            return
        body = msgpack.packb(
            {
                "format": _FORMAT,
                "stream": stream,
                "kind": replica.kind.name,
                "describe": replica.kind.describe,
                "revision": replica.revision,
                "event": replica.last.bytes if replica.last else b"",
                "update": replica.doc.get_update(),
                "index": replica.index.encode(),
                "claims": replica.claims.to_plain(),
                "memory": replica.memory.to_plain(),
                "carried": replica.carried,
            }
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path(stream), hashlib.blake2b(body, digest_size=_DIGEST).digest() + body)

    def load(self, stream: str, kind: Kind, server_client: int, head: int) -> Replica:
        """The replica of the snapshot, or an empty one when there is none that fits a stream at revision `head`."""
        kept = self._read(stream)
        if kept is None:
            return Replica(kind, server_client)
        try:
            if (kept["kind"], kept["describe"]) == (kind.name, kind.describe) and kept["revision"] <= head:
                return _revived(kept, kind, server_client)
        except (MaquetteError, ValueError, KeyError, TypeError) as error:
            _log.warning("the snapshot of %s does not fit and is left aside: %s", stream, error)
        return Replica(kind, server_client)

    def _read(self, stream: str) -> dict[str, Any] | None:
        if self._folder is None:
            return None
        path = self._path(stream)
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


def _revived(kept: dict[str, Any], kind: Kind, server_client: int) -> Replica:
    replica = Replica(kind, server_client)
    replica.doc.apply_update(kept["update"])
    replica.size = len(kept["update"])
    replica.index = Index.decode(kept["index"])
    replica.claims = Claims.from_plain(kept["claims"])
    replica.memory = kind.remembered(kept["memory"])
    replica.revision = kept["revision"]
    replica.carried = kept.get("carried", 0)  # before rewrites, nothing was
    replica.last = UUID(bytes=kept["event"])
    replica.ready()
    return replica

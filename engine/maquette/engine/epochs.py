"""How a scene begins its next epoch: the same content, fresh and compact, under fresh client ids (D9).

Yjs keeps an item for every value that was ever overwritten and every client that ever wrote. A rewrite writes each
record once more, as it is, and leaves the rest to the old epoch's stream, which stays.

Rule 1: who made a record is kept: the records of one actor are under one fresh client id, which is that actor's.
        The gate asks for it (a record leaves only by the hand that made it), and so may history. A lock stays that of
        whoever locked. The authors of comments and whoever trashed a node are fields like others.
Rule 2: all parts are appended to the new stream at once, and that append is what begins the epoch: before it the old
        one is current, behind it the new one is complete, wherever the process dies. That the space's own stream tells
        it too is made up for when the space is opened.
Rule 3: the new epoch is compared with the old one, record by record, before it begins.
Rule 4: no step takes longer than a few records do; others get the loop in between.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

import pycrdt

from maquette.engine.errors import LogError
from maquette.engine.events import SERVER, Actor, Event, NewEvent, PackedData
from maquette.engine.kinds.kind import plain, revived
from maquette.engine.kinds.scene import NODES, RECORDS, SETTINGS, SceneMemory
from maquette.engine.replica import UNLIMITED, Replica
from maquette.engine.reports import Progress
from maquette.engine.update import read_update

T = TypeVar("T")

PART = 32  # records in an event: some 10 ms for whoever replays it
_NOTHING = b"\x00"  # the state vector of an empty document


@dataclass(frozen=True, slots=True)
class Weight:
    """What an epoch carries: bytes of its state, client ids, and clocks, of which each written value took one."""

    bytes: int
    clients: int
    clocks: int

    @classmethod
    def of(cls, replica: Replica) -> Weight:
        """The weight of a replica."""
        index = replica.index
        clocks = sum(index.clock(client) for client in index.clients)
        return cls(len(replica.diff(_NOTHING)), len(index.clients), clocks)


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What a rewrite did, or would do. `epoch` is the new one; `records` counts nodes, materials and comments."""

    document: str
    epoch: int
    records: Mapping[str, int]
    before: Weight
    after: Weight
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the first event of a rewritten epoch tells of it."""

    epoch: int
    clients: tuple[int, ...]
    """The client ids of the epoch before: whoever knows them is late."""
    heads: Mapping[int, int]
    """Old epoch → the revision up to which nothing of it is left to be carried over."""
    by: Actor

    @classmethod
    def told(cls, event: Event) -> Beginning | None:
        """What `event`, the first of a stream, tells; None when it begins no rewritten epoch."""
        begins = event.data.get("begins")
        if begins is None:
            return None
        by = Actor(begins["by"]["id"], begins["by"]["kind"], via=begins["by"]["via"])
        return cls(begins["epoch"], tuple(begins["clients"]), dict(begins["heads"]), by)

    def to_plain(self) -> dict[str, Any]:
        """As msgpack values."""
        by = {"id": self.by.id, "kind": self.by.kind, "via": self.by.via}
        heads = [[epoch, head] for epoch, head in self.heads.items()]
        return {"epoch": self.epoch, "clients": sorted(self.clients), "heads": heads, "by": by}


@dataclass(slots=True)
class Fresh:
    """A new epoch that has not begun: its replica, and the events that make it."""

    replica: Replica
    events: list[NewEvent]
    records: dict[str, int]


async def fresh_epoch(old: Replica, server: int, beginning: Beginning, progress: Progress) -> Fresh:
    """The content of `old`, a scene that nobody else changes meanwhile, as a new epoch whose server client is `server`.

    Raises LogError when the new epoch does not hold what the old one holds.
    """
    fresh = Fresh(Replica(old.kind, server), [], dict.fromkeys(RECORDS, 0))
    begins: dict[str, Any] = {"from": [beginning.epoch - 1, old.revision]}
    async for part in _parts(old):
        for root, records in part.records.items():
            fresh.records[root] += records
        authors, locker = [(part.client, part.maker)], part.locker
        fresh.replica.begin(authors, old.revision)
        done = fresh.replica.adopt(read_update(part.update, UNLIMITED), locker)
        event = fresh.replica.event(SERVER, None, done)
        first = {} if fresh.events else beginning.to_plain()
        fresh.events.append(
            replace(event, data={**event.data, "begins": {**begins, **first, "authors": authors, "locker": locker}})
        )
        fresh.replica.revision, fresh.replica.last = len(fresh.events), event.id
        progress("records", sum(fresh.records.values()), _count(old))
    await _number(fresh.events)
    await _compare(old, fresh.replica, progress)
    return fresh


async def _number(events: list[NewEvent]) -> None:
    """Let each part say which of how many it is: whoever follows the log shows all of them or none.

    That is the last word of them, so they are encoded here, one by one, and not all at once when they are appended.
    """
    for number, event in enumerate(events, 1):
        begins = {**event.data["begins"], "part": [number, len(events)]}
        events[number - 1] = replace(event, data=PackedData({**event.data, "begins": begins}))
        await asyncio.sleep(0)


def _count(replica: Replica) -> int:
    return sum(len(replica.shared(root)) for root in RECORDS)


@dataclass(frozen=True, slots=True)
class _Part:
    """Some records of one maker under one client id, and whose the locks among them are."""

    maker: str
    locker: str
    client: int
    update: bytes
    records: Mapping[str, int]


async def _parts(old: Replica) -> AsyncIterator[_Part]:
    """All records, by maker and locker; the settings come last and are the server's."""
    for (maker, locker), records in groupby(sorted(_records(old)), key=lambda record: record[:2]):
        author = _Author()
        for some in _sliced([(root, id_) for _, _, root, id_ in records]):
            yield _Part(maker, locker, author.client, author.write(partial(_copy, old, some)), _counts(some))
            await asyncio.sleep(0)
    author = _Author()
    yield _Part(SERVER.id, SERVER.id, author.client, author.write(partial(_copy_settings, old)), {})


def _sliced(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), PART):
        yield items[start : start + PART]


def _records(old: Replica) -> Iterator[tuple[str, str, str, str]]:
    """Maker, locker, root and id of each record; what nobody has locked is as if its maker had."""
    assert isinstance(old.memory, SceneMemory)
    for (root, id_), item in old.memory.records.items():
        if id_ in old.shared(root):
            maker = old.creator(item) or SERVER.id
            locker = old.memory.locks.get(id_) if root == NODES else None
            yield maker, locker or maker, root, id_


def _counts(part: Sequence[tuple[str, str]]) -> Mapping[str, int]:
    return {root: sum(1 for one, _ in part if one == root) for root in RECORDS}


class _Author:
    """Writes under a fresh client id, and gives the updates."""

    def __init__(self) -> None:
        self.client = secrets.randbits(32)
        self._doc: pycrdt.Doc[Any] = pycrdt.Doc(client_id=self.client)

    def write(self, write: Callable[[pycrdt.Doc[Any]], None]) -> bytes:
        before = self._doc.get_state()
        with self._doc.transaction():
            write(self._doc)
        return self._doc.get_update(before)


def _copy(old: Replica, part: Sequence[tuple[str, str]], doc: pycrdt.Doc[Any]) -> None:
    for root, id_ in part:
        doc.get(root, type=pycrdt.Map)[id_] = revived(old.shared(root)[id_])


def _copy_settings(old: Replica, doc: pycrdt.Doc[Any]) -> None:
    settings, copy = old.shared(SETTINGS), doc.get(SETTINGS, type=pycrdt.Map)
    for key in settings.keys():  # noqa: SIM118  (not a dict)
        copy[key] = settings[key]


async def _compare(old: Replica, new: Replica, progress: Progress) -> None:
    done, total = 0, _count(old)
    for root in RECORDS:
        records, copies = old.shared(root), new.shared(root)
        ids = list(records.keys())
        if set(ids) != set(copies.keys()):
            raise LogError(f"rewrite: expected the {root} of the old epoch in the new one, got others")
        for part in _sliced(ids):
            for id_ in part:
                if plain(records[id_]) != plain(copies[id_]):
                    raise LogError(f"rewrite: expected {id_!r} in {root} as it was, got another")
            done += len(part)
            progress("compared", done, total)
            await asyncio.sleep(0)
    if plain(old.shared(SETTINGS)) != plain(new.shared(SETTINGS)):
        raise LogError("rewrite: expected the settings as they were, got others")

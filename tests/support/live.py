"""Live documents and the peers around them: what the tests of the engine's core share."""

from __future__ import annotations

import json
from asyncio import Future, get_running_loop, sleep
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from pycrdt import Array, Doc, Map, TransactionEvent

from maquette.engine.document import Document
from maquette.engine.errors import LogUnwritable, MaquetteError
from maquette.engine.events import Actor, NewEvent
from maquette.engine.kinds.chat import CHAT, MESSAGES, SEPARATOR, ChatMemory
from maquette.engine.kinds.kind import Change, Kind, plain
from maquette.engine.kinds.scene import COMMENTS, MATERIALS, NODES, SETTINGS, SceneMemory
from maquette.engine.log import Appended, EventLog
from maquette.engine.logs.memory import MemoryLog
from maquette.engine.receipts import Receipt
from maquette.engine.replica import UNLIMITED, Replica
from maquette.engine.roles import Role
from maquette.engine.scene import schema
from maquette.engine.sync import SyncUpdate, read_frame, read_state_vector
from maquette.engine.update import DEFAULT_LIMITS, Limits, read_update

STREAM = "tenant/space/document@1"
SERVER_CLIENT = 4_000_000_000


class HeldLog(MemoryLog):
    """A log in memory whose appends wait until the test lets them be decided, or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[str, Sequence[NewEvent], int | None, Future[Appended]]] = []
        self.failing: MaquetteError | None = None

    def append(self, stream: str, events: Sequence[NewEvent], expected: int | None = None) -> Future[Appended]:
        future: Future[Appended] = get_running_loop().create_future()
        if self.failing is not None:
            future.set_exception(self.failing)
        else:
            self.held.append((stream, events, expected, future))
        return future

    async def commit(self, number: int | None = None) -> None:
        """Let the oldest `number` appends become durable, all of them without a number."""
        ready, self.held = self.held[:number], [] if number is None else self.held[number:]
        for stream, events, expected, future in ready:
            future.set_result(await super().append(stream, events, expected))
        await sleep(0)  # whoever waits for them hears of it

    def fail(self) -> None:
        """Let everything that waits fail, as on a full disk, and what comes later too."""
        self.failing = LogUnwritable("expected room on the disk, got none")
        for *_, future in self.held:
            future.set_exception(self.failing)
        self.held = []


class Peer:
    """A stock client: a replica that sends what it does and applies what it is shown."""

    def __init__(self, actor: str, client: int, role: Role = Role.EDITOR) -> None:
        self.actor = Actor(actor)
        self.client = client
        self.role = role
        self.doc: Doc[Any] = Doc(client_id=client)
        self.made: list[bytes] = []
        self.errors: list[MaquetteError] = []
        self.successors: list[str] = []
        self.frames = 0
        self._hearing = False
        self._watch = self.doc.observe(self._note)

    def _note(self, event: TransactionEvent) -> None:
        if not self._hearing:
            self.made.append(event.update)

    def map(self, name: str) -> Map[Any]:
        found: Map[Any] = self.doc.get(name, type=Map)
        return found

    @property
    def messages(self) -> Array[Any]:
        found: Array[Any] = self.doc.get(MESSAGES, type=Array)
        return found

    def hear(self, update: bytes) -> None:
        self._hearing = True
        try:
            self.doc.apply_update(update)
        finally:
            self._hearing = False

    def deliver(self, frames: tuple[bytes, ...]) -> None:
        for frame in frames:
            message = read_frame(frame)
            assert isinstance(message, SyncUpdate)
            self.frames += 1
            self.hear(message.update)

    def lost(self, error: MaquetteError) -> None:
        self.errors.append(error)

    def moved(self, successor: str) -> None:
        self.successors.append(successor)

    def join(self, document: Document) -> Peer:
        document.subscribers.add(self)
        self.hear(document.replica.diff(self.doc.get_state()))
        return self

    def submit(self, document: Document, update: bytes, *, own: bool = True) -> Receipt:
        return document.submit(self.actor, lambda: self.role, update, self.client if own else None)

    def send(self, document: Document) -> Receipt:
        """Send what was done since the last time as one update, as a client that was offline does."""
        self.made.clear()
        return self.submit(document, self.doc.get_update(document.replica.state_vector()))


def open_document(
    kind: Kind,
    log: EventLog | None = None,
    *,
    limits: Limits = DEFAULT_LIMITS,
    clock: Callable[[], int] | None = None,
    timer: Callable[[], float] | None = None,
) -> Document:
    """A new live document on `log`; its clock ticks once for each op, and nobody is refused too often for it."""
    ticks, hours = count(1_000), count(0, 3_600)
    return Document(
        STREAM,
        Replica(kind, SERVER_CLIENT),
        log or MemoryLog(),
        clock or (lambda: next(ticks)),
        limits=limits,
        timer=timer or (lambda: float(next(hours))),
    )


async def events_of(document: Document) -> list[Any]:
    """All events of the document's stream, once nothing is on its way."""
    await document.drained()
    log: Any = document._log
    return [event async for page in log.read(document.stream) for event in page]


async def replayed(document: Document) -> Replica:
    """A replica built from the log alone."""
    replica = Replica(document.replica.kind, SERVER_CLIENT)
    for event in await events_of(document):
        replica.replay(event)
    return replica


def assert_same(one: Replica, other: Replica) -> None:
    """Both replicas hold the same: content item by item, index, claims, memory (D5)."""
    assert items(one) == items(other)
    assert one.revision == other.revision
    assert sorted(one.claims.to_plain(), key=repr) == sorted(other.claims.to_plain(), key=repr)
    assert remembered(one) == remembered(other)
    assert places(one) == places(other)


def items(replica: Replica) -> Any:
    """All that pycrdt would send. Not its bytes: it writes the keys of plain maps in another order each time."""
    update = read_update(replica.doc.get_update(), UNLIMITED)
    structs = {
        struct.id: (
            struct.content,
            struct.origin,
            struct.right_origin,
            struct.parent,
            struct.key,
            _sorted(struct.value()),
        )
        for group in update.structs.values()
        for struct in group
    }
    return structs, update.deletes


def _sorted(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)


def assert_nothing_pending(replica: Replica) -> None:
    """pycrdt holds exactly what the index knows: nothing is parked (D3)."""
    assert read_state_vector(replica.state_vector()) == {c: replica.index.clock(c) for c in replica.index.clients}


def remembered(replica: Replica) -> Any:
    memory = replica.memory
    if isinstance(memory, ChatMemory):
        return memory.messages
    if isinstance(memory, SceneMemory):
        return {node: (memory.tree.written(node), memory.tree.is_trashed(node)) for node in memory.tree.nodes()}, (
            memory.records
        )
    return None


def places(replica: Replica) -> dict[tuple[int, int], Any]:
    index = replica.index
    return {
        item: (index.parent_of(item), index.content(item), index.type_ref(item), index.is_deleted(item))
        for client in index.clients
        for item in ((client, clock) for clock in range(index.clock(client)))
    }


def state_of(doc: Doc[Any], kind: Kind) -> Any:
    """The content of a replica as plain values: messages and records by id."""
    if kind is CHAT:
        messages = plain(doc.get(MESSAGES, type=Array))
        return {message["id"]: {k: v for k, v in message.items() if v is not None} for message in messages}
    return {root: plain(doc.get(root, type=Map)) for root in (NODES, MATERIALS, COMMENTS, SETTINGS)}


def blank_state(kind: Kind) -> Any:
    return {} if kind is CHAT else {root: {} for root in (NODES, MATERIALS, COMMENTS, SETTINGS)}


def fold(state: Any, kind: Kind, change: Change) -> None:
    """The trivial projection: what changes say, applied to plain dicts."""
    (_fold_chat if kind is CHAT else _fold_scene)(state, change)


def _fold_chat(state: Any, change: Change) -> None:
    fields = {key: value for key, value in change.items() if key != "type"}
    message = state.get(change["id"])
    match change["type"]:
        case "message.posted":
            state[change["id"]] = {**fields, "reactions": {}}
        case "message.edited":
            for key in ("body", "edited", "mentions", "attachments"):
                if fields.get(key) is None:
                    message.pop(key, None)
                else:
                    message[key] = fields[key]
        case "message.deleted":
            message["deleted"] = {"by": change["by"], "at": change["at"]}
        case "message.restored":
            message.pop("deleted", None)
        case "message.removed":
            del state[change["id"]]
        case "reaction.added":
            message["reactions"][f"{change['emoji']}{SEPARATOR}{change['actor']}"] = True
        case "reaction.removed":
            message["reactions"].pop(f"{change['emoji']}{SEPARATOR}{change['actor']}", None)
        case other:
            raise AssertionError(other)


def _fold_scene(state: Any, change: Change) -> None:
    what, _, did = change["type"].partition(".")
    records = state[SETTINGS] if what == "setting" else state[f"{what}s"]
    match did:
        case "added":
            records[change["id"]] = change[what]
        case "changed":
            target = records if what == "setting" else records[change["id"]]
            target.update(change["set"])
            for key in change["unset"]:
                target.pop(key, None)
        case "moved":
            records[change["id"]]["place"] = change["place"]
        case "trashed":
            records[change["id"]]["trashed"] = {"by": change["by"], "at": change["at"]}
        case "restored":
            records[change["id"]].pop("trashed", None)
        case "removed":
            del records[change["id"]]
        case other:
            raise AssertionError(other)


def message(id_: str, author: str, body: str = "hello", **fields: Any) -> Map[Any]:
    """A message as a client writes it."""
    return Map({"id": id_, "author": author, "body": body, "sent": 5, "reactions": Map(), **fields})


def node(parent: str | None = None, order: str = "V", **fields: Any) -> Map[Any]:
    """A node as a client writes it."""
    slots = fields.pop("slots", None)
    whole = schema.new_node(fields.pop("type", "group"), fields.pop("name", "n"), (parent, order), **fields)
    return Map(whole if slots is None else {**whole, "slots": Map(slots)})

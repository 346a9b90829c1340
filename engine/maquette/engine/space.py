"""A space: one collaboration room, and the way to its documents.

Rule 1: what a space knows of itself (documents, epochs, names) is in its stream; it is changed by appending, under a
        lock, and folding what the log then holds.
Rule 2: the bare name of a document follows its epochs; who comes to an epoch that takes nobody is told the new name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

import pycrdt

from maquette.engine.carrier import Carrier
from maquette.engine.document import Document
from maquette.engine.epochs import Beginning, Rewriting, fresh_epoch
from maquette.engine.errors import (
    DocumentFrozen,
    DocumentMoved,
    InvalidInput,
    LogError,
    MaquetteError,
    NotFound,
    RewriteRunning,
    TooManyDocuments,
)
from maquette.engine.events import SERVER, Actor, NewEvent
from maquette.engine.ids import mint
from maquette.engine.kinds.chat import CHAT, StampCounter
from maquette.engine.kinds.scene import SCENE, SceneMemory
from maquette.engine.log import EventLog
from maquette.engine.members import MemberChange
from maquette.engine.pens import client_id
from maquette.engine.pulse import Busy
from maquette.engine.receipts import Receipt
from maquette.engine.replica import UNLIMITED, Replica
from maquette.engine.reports import Progress, quiet
from maquette.engine.rewrite import beginning_of, rewrite
from maquette.engine.rewriting import with_fresh_clients
from maquette.engine.roles import Role
from maquette.engine.spaces import FIXED, DocumentName, DocumentRecord, Epoch, SpaceRecord
from maquette.engine.update import read_update
from maquette.engine.writers.chat import ChatWriter
from maquette.engine.writers.scene import SceneWriter

if TYPE_CHECKING:
    from maquette.engine.engine import Engine

T = TypeVar("T")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A document found by name. `alias` when the name was the bare one, which follows the epochs."""

    space: Space
    record: DocumentRecord
    epoch: int
    alias: bool

    @property
    def name(self) -> str:
        """The name with its epoch, as in `chat@2`."""
        return f"{self.record.name}@{self.epoch}"

    @property
    def current(self) -> str:
        """The name of the current epoch."""
        return f"{self.record.name}@{self.record.current}"

    @property
    def is_late(self) -> bool:
        """Whether the epoch is over by now, and takes only what comes late. Old pages of a chat take everybody."""
        return self.record.kind is not CHAT and self.epoch != self.record.current


class Space:
    """A collaboration room: its record, and the way to its documents."""

    def __init__(self, engine: Engine, record: SpaceRecord) -> None:
        self.engine = engine
        self.record = record
        self.importing = asyncio.Lock()  # one file at a time: a second import of it must find what the first brought
        self._stamps: StampCounter | None = None
        self._carriers: WeakValueDictionary[tuple[str, int], Carrier] = WeakValueDictionary()  # they hold the space
        self._rewriting: set[str] = set()
        self._finding = asyncio.Lock()
        self._found = False  # whether it was looked for epochs that nobody told of
        self._lock = asyncio.Lock()

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def slug(self) -> str:
        """What URLs call it."""
        return self.engine.slug_of(self)

    async def resolve(
        self, name: str, *, create_as: Actor | None = None, most: int | None = None, late: bool = False
    ) -> Resolved:
        """The document called `name`: `chat`, `scene`, `text:NAME`, each with `@epoch` or without.

        A text document that is not there is made when `create_as` is somebody; `most`: how many a space may have.
        `late`: whoever asks may have edits for an epoch that is over (D9).
        Raises NotFound, TooManyDocuments, and DocumentMoved for an old epoch that takes nobody any more.
        """
        wanted = DocumentName.parse(name)
        record = self.record.documents.get(wanted.name)
        if record is None:
            if create_as is None or wanted.epoch not in (None, 1):
                raise NotFound("document", name)
            record = await self._make(wanted, create_as, most)
        epoch = record.current if wanted.epoch is None else wanted.epoch
        if not record.has(epoch):
            raise NotFound("document", name)
        if epoch != record.current and (epoch not in record.over or not (late or record.kind is CHAT)):
            raise DocumentMoved(name, f"{record.name}@{record.current}")
        return Resolved(self, record, epoch, wanted.epoch is None)

    async def open(self, name: str, *, create_as: Actor | None = None) -> Document:
        """The live document called `name`; see `resolve`."""
        return await self.open_resolved(await self.resolve(name, create_as=create_as))

    async def open_resolved(self, found: Resolved) -> Document:
        """The live document that was found."""
        return await self.engine.document(self, found.record, found.epoch)

    async def write(
        self, name: str, actor: Actor, role: Role, edit: Callable[[pycrdt.Doc[Any]], T]
    ) -> tuple[T, Receipt]:
        """Let `edit` write into the document as `actor`, through the gate; returns when it is on disk.

        `role` is what `actor` was given from outside: what the space says of its members counts before it.

        Raises OpRefused with the reasons, LogError, NotFound, DocumentMoved and DocumentFrozen.
        """
        document = await self.open(name, create_as=actor if role >= Role.EDITOR else None)
        if document.frozen is not None:
            raise document.frozen
        return await self.engine.pens(document).write(actor, role, edit)

    async def write_chat(
        self, actor: Actor, role: Role, edit: Callable[[ChatWriter], T], *, page: str = "chat"
    ) -> tuple[T, Receipt]:
        """Let `edit` write into the conversation with plain methods; `page` names an older page, as `chat@1`."""
        return await self.write(page, actor, role, lambda doc: edit(ChatWriter(doc, actor.id, self.engine.clock)))

    async def write_scene(
        self, actor: Actor, role: Role, edit: Callable[[SceneWriter], T], *, name: str = "scene"
    ) -> tuple[T, Receipt]:
        """Let `edit` write into the scene with plain methods."""
        memory = (await self.open(name)).replica.memory
        assert isinstance(memory, SceneMemory)
        clock = self.engine.clock
        return await self.write(name, actor, role, lambda doc: edit(SceneWriter(doc, memory.tree, actor.id, clock)))

    async def name_profile(self, actor: Actor, profile: str, name: str) -> None:
        """Let `profile`, an actor's id, be shown as `name` in this space."""
        if self.record.profiles.get(profile) != name:
            await self._record([NewEvent("profile.named", actor, {"id": profile, "name": name})])

    async def name_profiles(self, actor: Actor, names: Mapping[str, str], source: str | None = None) -> None:
        """The same for many, in one event each and one commit. `source` says what the names are, as `spaces.IRC`."""
        said = {} if source is None else {"source": source}
        events = [
            NewEvent("profile.named", actor, {"id": profile, "name": name, **said})
            for profile, name in names.items()
            if self.record.profiles.get(profile) != name
        ]
        if events:
            await self._record(events)

    async def rename(self, actor: Actor, name: str) -> None:
        """Give the space another display name."""
        await self._record([NewEvent("space.named", actor, {"name": name})])

    def role(self, actor: str, given: Role | None) -> Role | None:
        """The role of `actor` now, to whom `given` is given from outside, as by a token; None for no access (G3)."""
        members = self.record.members
        return members.role(actor, given, self.engine.clock()) if members else given

    async def change_member(self, actor: Actor, given: Role | None, change: MemberChange) -> None:
        """Set, remove, ban or unban somebody, as `actor`, to whom `given` is given from outside; see `role`.

        It counts at once, for open connections too. Raises OpRefused, InvalidInput, NotFound, LogError.
        """
        async with self._lock:
            event = self.record.members.decide(change, actor, given, self.engine.clock())
            if event is not None:
                await self._append([event])
        if event is not None:
            self.engine.tell_member(self, change.who)

    async def stamps(self) -> StampCounter:
        """The counter of the conversation, which all its pages share."""
        if self._stamps is None:
            record = self.record.documents["chat"]
            streams = [self.record.document_stream(record, epoch.number) for epoch in record.epochs]
            found = StampCounter(max([await _last_stamp(self.engine.log, stream) for stream in streams]))
            self._stamps = self._stamps or found
        return self._stamps

    async def turn_page(self, record: DocumentRecord, epoch: int, document: Document) -> None:
        """Open the next page of a conversation behind `epoch`, and tell who is on the full one (D9)."""
        if record.current == epoch:
            await self._open_epoch(record, epoch + 1, document.replica.index.clients)
        for subscriber in tuple(document.subscribers):
            subscriber.moved(f"{record.name}@{record.current}")

    async def freeze(
        self, record: DocumentRecord, epoch: int, before: int, reason: str, *, event: UUID | None = None
    ) -> None:
        """Show `epoch` of the document as it was before the revision `before` from now on, read-only (G4).

        `before` counts from 1; a document that is frozen stays so before the lower of both. Who watches it is shown
        it again; a conversation goes on in a new page. `event` is the id of the event that says so, when it may have
        been said already.
        """
        if before < 1:
            raise InvalidInput(f"before: expected a revision from 1, got {before}")
        frozen = record.frozen.get(epoch)
        if frozen is not None and frozen.before <= before:
            return
        data = {"document": record.id, "epoch": epoch, "before": before, "reason": reason}
        named = NewEvent("document.frozen", SERVER, data)
        await self._record([named if event is None else replace(named, id=event)])
        await self._turn_frozen(record)
        self._reopen(record, epoch)

    async def _turn_frozen(self, record: DocumentRecord) -> None:
        """Let a conversation go on in a new page when its current one is frozen."""
        epoch = record.current
        if record.kind is not CHAT or epoch not in record.frozen or not self.engine.writable:
            return
        try:
            await self._open_epoch(record, epoch + 1, await self._clients(record, epoch))
        except MaquetteError as error:  # tried again when the space is opened the next time
            _logger.warning("%s@%d is frozen, and no next page could be opened: %s", record.name, epoch, error)
            return
        self.engine.tell_moved(self.record.document_stream(record, epoch), f"{record.name}@{record.current}")

    async def _clients(self, record: DocumentRecord, epoch: int) -> list[int]:
        """The client ids in a frozen epoch, by which those are known who hold it; nothing frozen is read for them."""
        stream = self.record.document_stream(record, epoch)
        clients = set((await self.engine.replica(self, record, epoch)).index.clients)
        async for page in self.engine.log.read(stream, after=record.frozen[epoch].before - 1):
            for event in page:
                told = (event.data.get("client"), event.data.get("server"))
                clients.update(client for client in told if client is not None)
        return list(clients)

    async def quarantine(self, record: DocumentRecord, epoch: int, busy: Busy, *, event: UUID) -> None:
        """Deny the update that `busy` tells of when it comes again (G4). `event`: the id of the event that says so."""
        data = {"document": record.id, "epoch": epoch, "digest": busy.digest, "size": busy.size, "actor": busy.actor}
        await self._record([NewEvent("update.quarantined", SERVER, data, id=event)])
        self._reopen(record, epoch)

    async def thaw(self, actor: Actor, record: DocumentRecord, epoch: int) -> None:
        """Show the document whole again, and take edits, those too that were quarantined in it.

        Does nothing to one that has neither.
        """
        if epoch in record.frozen or epoch in record.quarantined:
            await self._record([NewEvent("document.thawed", actor, {"document": record.id, "epoch": epoch})])
            self._reopen(record, epoch)

    def _reopen(self, record: DocumentRecord, epoch: int) -> None:
        name = f"{record.name}@{epoch}"
        self.engine.drop(
            self.record.document_stream(record, epoch),
            self.frozen(record, epoch) or LogError(f"expected {name} as it was, it is shown whole again"),
        )

    @staticmethod
    def frozen(record: DocumentRecord, epoch: int) -> DocumentFrozen | None:
        """Why `epoch` of the document takes no edits, when it is frozen."""
        frozen = record.frozen.get(epoch)
        return None if frozen is None else DocumentFrozen(f"{record.name}@{epoch}", frozen.before, frozen.reason)

    # --- epochs ----------------------------------------------------------------------------------------------------

    async def rewrite(self, name: str, actor: Actor, *, dry_run: bool = False, progress: Progress = quiet) -> Rewriting:
        """Let a scene go on in a new epoch that holds what it shows, and nothing of how it came to that (D9).

        Who is on it is told where it goes on; what they bring late is carried over. With `dry_run` nothing is written,
        and the answer is what would be. Raises InvalidInput for what is no scene, NotFound, DocumentMoved,
        DocumentFrozen, RewriteRunning, and LogError.
        """
        found = await self.resolve(name)
        if found.record.id in self._rewriting:
            raise RewriteRunning(found.name)
        self._rewriting.add(found.record.id)
        try:
            return await rewrite(self, found.record, actor, progress, dry_run=dry_run)
        finally:
            self._rewriting.discard(found.record.id)

    async def begin(self, record: DocumentRecord, beginning: Beginning) -> None:
        """Go on in an epoch that a rewrite has begun: the log holds it."""
        before = record.current
        async with self._lock:
            if record.has(beginning.epoch):
                return
            record.epochs.append(Epoch(beginning.epoch, frozenset(beginning.clients)))
            if self.engine.writable:
                await self._tell_begun(record, beginning)
        self.engine.tell_moved(self.record.document_stream(record, before), f"{record.name}@{beginning.epoch}")
        self.engine.catch_up(self, record)

    async def _tell_begun(self, record: DocumentRecord, beginning: Beginning) -> None:
        try:
            await self._append([_epoch_opened(record, beginning.epoch, list(beginning.clients), beginning.by)])
        except LogError as error:
            _logger.warning("%s@%d has begun, which is told later: %s", record.name, beginning.epoch, error)

    async def find_begun(self) -> None:
        """Learn of epochs that were begun by a process which died before it could tell so."""
        async with self._finding:
            for record in () if self._found else tuple(self.record.documents.values()):
                while record.kind is SCENE and (beginning := await beginning_of(self, record, record.current + 1)):
                    await self.begin(record, beginning)
                await self._turn_frozen(record)
            self._found = True

    async def carry(self, record: DocumentRecord, epoch: int) -> None:
        """Return when all that came late to `epoch` by now is in the current one. Raises LogError."""
        for one in record.over:
            if one >= epoch:
                await self.carrier(record, one).carry()

    async def catch_up(self, record: DocumentRecord) -> None:
        """Carry over, in the background, what an earlier process, or one that could not write, left."""
        beginning = await beginning_of(self, record, record.current)
        for epoch, head in beginning.heads.items() if beginning else ():
            stream = self.record.document_stream(record, epoch)
            if epoch in record.over and await self.engine.log.revision(stream) > head:
                await self.carrier(record, epoch).follow()

    def carrier(self, record: DocumentRecord, epoch: int) -> Carrier:
        """Who carries over what comes late to `epoch`."""
        carrier = self._carriers.get((record.id, epoch)) or Carrier(self, record, epoch)
        self._carriers[record.id, epoch] = carrier
        return carrier

    async def reopen_restored(self, mark: str) -> None:
        """Open a new epoch of every document, because the log came out of a backup."""
        async with self._lock:
            if mark in self.record.restores:
                return
            for record in tuple(self.record.documents.values()):
                await self._carry_over(record)
            await self._append([NewEvent("space.restored", SERVER, {"mark": mark})])

    async def _carry_over(self, record: DocumentRecord) -> None:
        """Close the current epoch and begin the next: empty for a chat, whose old pages stay to be read."""
        old = await self.engine.replica(self, record, record.current)
        epoch = record.current + 1
        stream = self.record.document_stream(record, epoch)
        if await self.engine.log.revision(stream) == 0:  # else a start before this one got so far
            events = await _events_of(old, client_id(self.engine.node, stream, SERVER.id), epoch)
            if events:
                await self.engine.log.append(stream, events, 0)
        await self._append(
            [
                _epoch_opened(record, epoch, old.index.clients),
                *(
                    NewEvent(
                        "document.closed",
                        SERVER,
                        {"document": record.id, "epoch": one.number, "reason": "the log was restored from a backup"},
                    )
                    for one in record.epochs
                    if one.number not in record.closed
                ),
            ]
        )

    async def _make(self, wanted: DocumentName, actor: Actor, most: int | None) -> DocumentRecord:
        async with self._lock:
            if wanted.name not in self.record.documents:
                if most is not None and len(self.record.documents) - len(FIXED) >= most:
                    raise TooManyDocuments(most, wanted.name)
                data = {"document": mint(), "kind": wanted.kind.name, "epoch": 1, "name": wanted.name}
                await self._append([NewEvent("document.opened", actor, data)])
        return self.record.documents[wanted.name]

    async def _open_epoch(self, record: DocumentRecord, epoch: int, clients: list[int]) -> None:
        async with self._lock:
            if record.current < epoch:
                await self._append([_epoch_opened(record, epoch, clients)])

    async def _record(self, events: list[NewEvent]) -> None:
        async with self._lock:
            await self._append(events)

    async def _append(self, events: list[NewEvent]) -> None:
        """Append to the space's own stream and fold what was stored. The lock is held."""
        appended = await self.engine.log.append(self.record.stream, events, self.record.revision)
        async for page in self.engine.log.read(self.record.stream, after=self.record.revision, until=appended.last):
            for event in page:
                self.record.take(event)


def _epoch_opened(record: DocumentRecord, epoch: int, clients: list[int], actor: Actor = SERVER) -> NewEvent:
    data = {"document": record.id, "kind": record.kind.name, "epoch": epoch, "clients": sorted(clients)}
    if record.name != record.id:
        data["name"] = record.name
    return NewEvent("document.opened", actor, data)


async def _events_of(old: Replica, server: int, epoch: int) -> list[NewEvent]:
    """With what the `epoch` behind `old` begins in a restored log, where nothing late is taken from the old one."""
    if old.kind is SCENE and old.revision:  # whose records have makers and lockers, as in a rewrite
        beginning = Beginning(epoch, tuple(old.index.clients), {}, SERVER)
        return (await fresh_epoch(old, server, beginning, quiet)).events
    state = with_fresh_clients(read_update(old.diff(_NOTHING), UNLIMITED))
    if old.kind is CHAT or state.is_empty:
        return []
    fresh = Replica(old.kind, server)
    return [fresh.event(SERVER, None, fresh.adopt(state))]


_NOTHING = b"\x00"  # the state vector of an empty document


async def _last_stamp(log: EventLog, stream: str) -> int:
    """The newest stamp number that a page's events name; each names the newest of its chain."""
    async for page in log.read(stream, backwards=True):
        for event in page:
            return int(event.data.get("stamped", 0))
    return 0

"""The engine: one log, the spaces in it, and the documents that are open. What an embedding application holds.

Rule 1: a document is opened once, however many ask at the same moment; who comes first does not keep the others.
Rule 2: opening and closing never block other documents for longer than a slice of the replay.
Rule 3: a log restored from a backup opens new epochs, because clients may hold what came after the backup; old epochs
        of it are closed for writing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakValueDictionary

from maquette.engine.assets import Assets, AssetStore, MemoryAssets
from maquette.engine.carrier import Carrier
from maquette.engine.document import Document
from maquette.engine.errors import InvalidInput, MaquetteError, NotFound
from maquette.engine.events import SERVER, START, Actor, Event, NewEvent, Position
from maquette.engine.files import write_atomically
from maquette.engine.folds import Folds, Poisoned
from maquette.engine.ids import mint
from maquette.engine.keeping import CLOSE_SECONDS, Keeper
from maquette.engine.kinds.chat import DEFAULT_PAGE, ChatMemory, PageLimits
from maquette.engine.kinds.scene import SCENE
from maquette.engine.live import LiveDocuments
from maquette.engine.log import EventLog
from maquette.engine.logs.backup import restored_mark
from maquette.engine.logs.memory import MemoryLog
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.opening import Opener
from maquette.engine.patience import Patience
from maquette.engine.pens import Pens, client_id
from maquette.engine.pulse import Pulse, Work
from maquette.engine.receipts import Receipt
from maquette.engine.replica import Replica, ReplicaBroken, RevisionBroken
from maquette.engine.snapshots import SnapshotStore
from maquette.engine.space import Space
from maquette.engine.spaces import FIXED, DocumentRecord, SpaceRecord, TenantRecord, check_slug, check_tenant
from maquette.engine.trials import Trials
from maquette.engine.update import DEFAULT_LIMITS, Limits
from maquette.engine.workers import Workers

T = TypeVar("T")

IDLE_SECONDS = 60.0  # how long an unwatched document stays open: a reload or a lost connection comes back sooner
KEPT_SPACES = 500  # that nobody uses at the moment: reading one again costs a query, keeping one some KB
SETTLE_SECONDS = 10.0  # for large updates that a worker reads when everybody goes
_logger = logging.getLogger(__name__)


def now_ms() -> int:
    """The wall clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Engine:
    """Everything that one log holds. Make it with `Engine.open`; use it on the event loop that opened it."""

    def __init__(
        self,
        log: EventLog,
        assets: Assets,
        snapshots: SnapshotStore,
        *,
        node: bytes,
        restored: str | None = None,
        clock: Callable[[], int] = now_ms,
        limits: Limits = DEFAULT_LIMITS,
        page: PageLimits = DEFAULT_PAGE,
        writable: bool = True,
    ) -> None:
        self.log = log
        self.writable = writable
        self.page = page
        self.assets = assets
        self.clock = clock
        self.limits = limits
        self.limits_of: Callable[[str], Limits] = lambda tenant: limits
        """What a tenant's documents take, asked when one is opened."""
        self.on_member: list[Callable[[Space, str], None]] = []
        """Called with a space and an actor whose role there may be another now, once that is on disk."""
        self.workers = Workers()
        """Where what is large is read first."""
        self._opener = Opener(log, snapshots, replay=self._replay, loading=self._loading)
        folder = log.folder if isinstance(log, SqliteLog) and log.is_writer and snapshots.folder is not None else None
        self.keeper = Keeper(None if folder is None else Folds(folder, snapshots, self.workers))
        """Of the snapshots."""
        self._trials = Trials(self.workers, folder, snapshots)
        self.pulse: Pulse | None = None
        """What a supervisor watches, when there is one (G4)."""
        self._snapshots = snapshots
        self.node = node
        self._restored = restored
        self._tenants: dict[str, TenantRecord] = {}
        self._spaces: WeakValueDictionary[tuple[str, str], Space] = (
            WeakValueDictionary()
        )  # one of each, while it is used
        self._used: OrderedDict[tuple[str, str], Space] = OrderedDict()  # the last of them
        self._live = LiveDocuments(self.keeper, self._start)
        self._opening: dict[str, asyncio.Future[Document]] = {}
        self._patience = Patience()
        self.unopenable: dict[str, str] = {}
        """Streams of documents that somebody asked for and that could not be opened the last time, and why."""
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(
        cls, url: str | Path = "memory:", *, accept_loss: bool = False, limits: Limits = DEFAULT_LIMITS
    ) -> Self:
        """Open the log at `url`: `memory:`, or a folder, as a path or `sqlite:PATH`; the folder is made when missing.

        Raises LogHeld, LogTooNew, LogDamaged, and LogLost unless `accept_loss`.
        """
        text = str(url)
        if text == "memory:":
            return cls(MemoryLog(), MemoryAssets(), SnapshotStore(None), node=os.urandom(16), limits=limits)
        scheme, _, rest = text.partition(":")
        if isinstance(url, str) and rest and scheme not in ("sqlite",):
            raise InvalidInput(f"log: expected 'memory:', 'sqlite:FOLDER' or a folder, got {text!r}")
        folder = Path(rest.removeprefix("//") if scheme == "sqlite" and rest else text)
        log = await SqliteLog.open(folder, accept_loss=accept_loss)
        snapshots = SnapshotStore(folder / "snapshots")
        snapshots.clean()
        mark = restored_mark(folder)
        assets = AssetStore(folder / "assets")
        assets.sweep()  # the log is ours alone (L5), and so are its assets
        return cls(
            log,
            assets,
            snapshots,
            node=_node_secret(folder, mark),
            restored=mark,
            limits=limits,
        )

    @classmethod
    async def open_readonly(cls, folder: Path, *, snapshots: bool = True) -> Self:
        """Open the log in `folder` for reading, beside the server that writes it or without one (L5).

        Spaces are as they were when they were first asked for. Without `snapshots`, documents are replayed from their
        first event on. Raises LogTooNew, LogDamaged, LogLost, LogError.
        """
        log = await SqliteLog.open_readonly(folder)
        assets = AssetStore(folder / "assets") if (folder / "assets").is_dir() else MemoryAssets()
        store = SnapshotStore(folder / "snapshots" if snapshots else None, writable=False)
        return cls(log, assets, store, node=os.urandom(16), writable=False)

    async def __aenter__(self) -> Self:
        self._start(self._sweep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Write snapshots of what is open, commit what waits, close the log."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.settle()
        for document in self._live:
            self._live.evict(document.stream)
        await self.keeper.settled(CLOSE_SECONDS)
        await self.workers.close()
        await self.keeper.settled()
        self._live.close()
        await self.log.close()

    async def settle(self) -> None:
        """Wait until everything submitted so far is on disk, or its document lost."""
        for document in self._live:
            await document.intake.tried(SETTLE_SECONDS)
            receipt = Receipt()
            document.settle_after_commit(receipt)
            try:
                await receipt.wait()
            except MaquetteError as error:
                _logger.warning("document %s: not everything could be stored: %s", document.stream, error)

    # --- spaces ----------------------------------------------------------------------------------------------------

    async def spaces(self, tenant: str) -> list[Space]:
        """The spaces of `tenant`, by slug."""
        record = await self._tenant(tenant)
        return [await self._space(tenant, record.spaces[slug]) for slug in sorted(record.spaces)]

    async def space(self, tenant: str, name: str) -> Space:
        """The space called `name`, its slug or its id. Raises NotFound."""
        record = await self._tenant(tenant)
        space = record.spaces.get(name, name)
        if space not in record.slugs:
            raise NotFound("space", name)
        return await self._space(tenant, space)

    async def create_space(self, tenant: str, slug: str, actor: Actor, *, name: str | None = None) -> Space:
        """The space `slug` of `tenant`, made now when it is not there yet.

        It has a chat and a scene from the start. Raises InvalidInput for a slug that cannot be.
        """
        check_slug(slug)
        async with self._lock:
            record = await self._tenant(tenant)
            if slug not in record.spaces:
                await self._create(tenant, record, slug, actor, name or slug)
        return await self.space(tenant, slug)

    def tell_member(self, space: Space, actor: str) -> None:
        """Let whoever keeps connections of `actor` to `space` look at its role again."""
        for callback in tuple(self.on_member):
            try:
                callback(space, actor)
            except Exception:  # the change is on disk: nobody else's telling depends on this one
                _logger.exception("telling of a member of %s failed", space.id)

    def slug_of(self, space: Space) -> str:
        """What URLs call the space."""
        return self._tenants[space.record.tenant].slugs[space.id]

    async def _create(self, tenant: str, record: TenantRecord, slug: str, actor: Actor, name: str) -> None:
        space = mint()
        opened = [NewEvent("document.opened", actor, {"document": fixed, "kind": fixed, "epoch": 1}) for fixed in FIXED]
        events = [NewEvent("space.opened", actor, {"space": space}), NewEvent("space.named", actor, {"name": name})]
        if self._restored:
            events.append(NewEvent("space.restored", SERVER, {"mark": self._restored}))
        await self.log.append(f"{tenant}/{space}", [*events, *opened], 0)
        created = NewEvent("space.created", actor, {"space": space, "slug": slug})
        appended = await self.log.append(tenant, [created], record.revision)
        async for page in self.log.read(tenant, after=record.revision, until=appended.last):
            for event in page:
                record.take(event)

    async def _tenant(self, tenant: str) -> TenantRecord:
        check_tenant(tenant)
        record = self._tenants.get(tenant)
        if record is None:
            record = TenantRecord()
            async for page in self.log.read(tenant):
                for event in page:
                    record.take(event)
            record = self._tenants.setdefault(tenant, record)
        return record

    async def _space(self, tenant: str, space: str) -> Space:
        found = self._spaces.get((tenant, space))
        if found is None:
            record = SpaceRecord(tenant, space)
            async for page in self.log.read(record.stream):
                for event in page:
                    record.take(event)
            found = self._spaces.setdefault((tenant, space), Space(self, record))
        self._used[tenant, space] = found
        self._used.move_to_end((tenant, space))
        while len(self._used) > KEPT_SPACES:
            self._used.popitem(last=False)
        await found.find_begun()
        if self._restored and self._restored not in found.record.restores:
            await found.reopen_restored(self._restored)
        return found

    # --- documents -------------------------------------------------------------------------------------------------

    async def document(self, space: Space, record: DocumentRecord, epoch: int) -> Document:
        """The live document, opened from the log when it is not open yet (rule 1)."""
        stream = space.record.document_stream(record, epoch)
        document = self._live.used(stream)
        if document is not None:
            return document
        opening = self._opening.get(stream)
        if opening is None:
            opening = asyncio.ensure_future(self._load(space, record, epoch, stream))
            self._opening[stream] = opening
            opening.add_done_callback(lambda _: self._opening.pop(stream, None))
        return await asyncio.shield(opening)

    async def _load(self, space: Space, record: DocumentRecord, epoch: int, stream: str) -> Document:
        try:
            document = await self._opened(space, record, epoch, stream)
        except MaquetteError as error:
            self.unopenable[stream] = str(error)
            raise
        self.unopenable.pop(stream, None)
        return document

    async def _opened(self, space: Space, record: DocumentRecord, epoch: int, stream: str) -> Document:
        await self._live.drained(stream)
        most = _shown(record, epoch)
        server = client_id(self.node, stream, SERVER.id)
        until = await self._end(stream, None, most)
        try:
            opened = await self._opener.open(
                stream, record.kind, server, until, lambda: self.keeper.shorten(stream, record.kind, server, until)
            )
        except Poisoned as error:  # nobody who serves reads it; before that revision it is shown (G4)
            await space.freeze(record, epoch, error.revision, error.what)
            return await self._opened(space, record, epoch, stream)
        except RevisionBroken as broken:  # it would never open again
            _logger.error("document %s: %s; it is frozen before", stream, broken)
            await space.freeze(record, epoch, broken.revision, str(broken))
            return await self._opened(space, record, epoch, stream)
        if most != _shown(record, epoch):  # frozen, or thawed, meanwhile
            return await self._opened(space, record, epoch, stream)
        replica = opened.replica
        if isinstance(replica.memory, ChatMemory):
            replica.memory.stamps = await space.stamps()
            replica.memory.limits = self.page
        newest = await self._opener.event_at(stream, replica.revision)
        position = START if newest is None else newest.position
        document = self.install(
            space, record, epoch, replica, position, saved=opened.saved, saved_size=opened.saved_size
        )
        if epoch == record.current:
            self.catch_up(space, record)  # what a process that died left to be carried over
        return document

    def install(
        self,
        space: Space,
        record: DocumentRecord,
        epoch: int,
        replica: Replica,
        position: Position,
        *,
        saved: int = 0,
        saved_size: int = 0,
    ) -> Document:
        """Let `replica`, which holds the whole stream up to `position`, be the live document from now on.

        Its newest snapshot is of the revision `saved`, and has a state of `saved_size` bytes.
        """
        stream = space.record.document_stream(record, epoch)
        server = replica.doc.client_id
        limits = self.limits_of(space.record.tenant)
        document = Document(
            stream, replica, self.log, self.clock, limits=limits, patience=self._patience, pulse=self.pulse
        )
        document.position = position
        document.intake.trier = self._trials
        document.frozen = space.frozen(record, epoch)
        document.quarantine = record.quarantined.get(epoch)
        document.on_full = lambda: self._start(self._turn(space, record, epoch, document))
        if record.kind is SCENE:
            carrier = space.carrier(record, epoch)
            document.on_committed = lambda _: self._carry(carrier)
        self._live.add(document, Pens(document, self.node, space.role))
        self.keeper.watch(document, server, saved, saved_size)
        return document

    async def _turn(self, space: Space, record: DocumentRecord, epoch: int, document: Document) -> None:
        try:
            await space.turn_page(record, epoch, document)
        except MaquetteError as error:
            _logger.warning("%s: no next page could be opened, the next op tries again: %s", document.stream, error)
            document.was_not_turned()

    async def replica(
        self, space: Space, record: DocumentRecord, epoch: int, *, revision: int | None = None
    ) -> Replica:
        """A copy of the document as it is in the log now, or was at `revision`, for the caller alone: it is not kept,
        and not kept up. Raises InvalidInput for a revision that the stream does not have, and DocumentFrozen for one
        that is not shown."""
        most = _shown(record, epoch)
        frozen = space.frozen(record, epoch)
        if frozen is not None and revision is not None and revision >= frozen.before:
            raise frozen
        stream = space.record.document_stream(record, epoch)
        until = await self._end(stream, revision, most)
        return (await self._opener.open(stream, record.kind, client_id(self.node, stream, SERVER.id), until)).replica

    async def _end(self, stream: str, revision: int | None, most: int | None) -> int:
        """The revision that is asked for, or the end of the stream, or `most`."""
        head = await self.log.revision(stream)
        if revision is not None and not 0 <= revision <= head:
            raise InvalidInput(f"revision: expected 0 to {head}, got {revision}")
        return min(head, head if most is None else most) if revision is None else revision

    def _replay(self, replica: Replica, event: Event) -> None:
        if self.pulse is not None:
            self.pulse.replaying(event.stream, event.revision, len(event.data.get("update", b"")))
        try:
            replica.replay(event)
        except ReplicaBroken as error:
            raise RevisionBroken(event.revision, error) from error
        finally:
            if self.pulse is not None:
                self.pulse.rest()

    def _loading(self, stream: str, revision: int, size: int) -> AbstractContextManager[None]:
        return nullcontext() if self.pulse is None else self.pulse.while_loading(stream, revision, size)

    def reading(self, stream: str, replica: Replica) -> AbstractContextManager[None]:
        """For the time in which somebody reads a replica of their own: the supervisor knows of it (G4)."""
        if self.pulse is None:
            return nullcontext()
        return self.pulse.while_reading(stream, replica.revision, replica.size)

    async def convert(self, space: Space, kind: str, work: Callable[[], T]) -> T:
        """What `work` gives in a thread; it reads or writes a file of `kind` for `space`, as the supervisor is told."""

        def marked(pulse: Pulse) -> T:
            with pulse.beside(Work.CONVERTING, space.record.stream, 0, 0, kind):
                return work()

        return await asyncio.to_thread(work if self.pulse is None else partial(marked, self.pulse))

    def discard_snapshot(self, stream: str) -> None:
        """Let the document be opened from its first event on."""
        self._snapshots.discard(stream)

    def drop(self, stream: str, error: MaquetteError) -> None:
        """Let the open document of `stream`, if there is one, be lost for `error` and opened again."""
        document = self._live.get(stream)
        if document is not None:
            document.drop(error)

    def _carry(self, carrier: Carrier) -> None:
        if carrier.is_over:
            self._start(carrier.follow())

    def catch_up(self, space: Space, record: DocumentRecord) -> None:
        """Carry over what came late to epochs of the document, in the background."""
        if self.writable and record.kind is SCENE and record.over:
            self._start(space.catch_up(record))

    def tell_moved(self, stream: str, successor: str) -> None:
        """Tell whoever watches the document of `stream` under which name it goes on (D9)."""
        document = self._live.get(stream)
        for subscriber in tuple(document.subscribers) if document is not None else ():
            subscriber.moved(successor)

    def release(self, document: Document) -> None:
        """Close the document when nobody watches it: whoever opened it in passing need not wait for the sweep."""
        self._live.release(document)

    def pens(self, document: Document) -> Pens:
        """The pens of an open document."""
        return self._live.pens(document)

    @property
    def frozen_documents(self) -> int:
        """How many epochs of documents are frozen, in the spaces that were asked for."""
        records = (record for space in self._spaces.values() for record in space.record.documents.values())
        return sum(len(record.frozen) for record in records)

    @property
    def open_documents(self) -> int:
        """How many replicas are in memory."""
        return len(self._live)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(IDLE_SECONDS / 4)
            self.evict_idle(IDLE_SECONDS)

    def evict_idle(self, seconds: float) -> int:
        """Close the documents that nobody has watched for `seconds`; how many were."""
        return self._live.evict_idle(seconds)

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives; it goes on to its end also when whoever waits for it is cancelled."""
        return await asyncio.shield(self._keep(work))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._keep(work)

    def _keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _logger.error("work in the background failed", exc_info=task.exception())


def _shown(record: DocumentRecord, epoch: int) -> int | None:
    """The last revision that may be shown; None for all of them (G4)."""
    frozen = record.frozen.get(epoch)
    return None if frozen is None else frozen.before - 1


def _node_secret(folder: Path, mark: str | None) -> bytes:
    """The secret from which this node's client ids come; another one after a restore, so that no clock comes twice."""
    path = folder / ("node.secret" if mark is None else f"node.{mark}.secret")
    if not path.exists():
        write_atomically(path, os.urandom(16), durable=True, mode=0o600)
    return path.read_bytes()

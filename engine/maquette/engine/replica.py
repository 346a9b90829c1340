"""The live replica of one document: its CRDT, the reader's index, the claims, and what its kind remembers.

Everything here is synchronous and in memory. `admit` judges an update and applies it at once; the caller (`document`)
puts the answer into the log before anybody sees it, and drops the replica when that fails.

Rule 1: no bytes from outside reach pycrdt: what is applied is what the reader read, trimmed, judged and encoded (G1).
Rule 2: a replica never holds pending structs: an update with a hole is answered, not applied (D3).
Rule 3: what is logged is what was integrated: the actor's structs, and in the same update what the server adds (D5).
Rule 4: a refused edit is blanked and deleted, and what it overwrote is written again by the server (G5 b): replicas
        that hold the original delete it, the others never see it, and all show the state before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple
from uuid import UUID

import pycrdt

from maquette.engine.claims import Claims
from maquette.engine.contents import TYPE
from maquette.engine.edits import SET, Edit, Edits, Parent, read_alone, read_edits
from maquette.engine.errors import MaquetteError
from maquette.engine.events import SERVER, Actor, Event, NewEvent
from maquette.engine.gate import NO_STATE, Refuse, admit
from maquette.engine.index import Hole, Index, Write
from maquette.engine.kinds.kind import Change, Kind, Memory, Op, Path, Register, Verdict
from maquette.engine.operations import SendOps
from maquette.engine.reversal import MAX_RESTORED, Holder, Reversal, blanked, dead_structs, told, with_inner
from maquette.engine.roles import Roles
from maquette.engine.update import Id, Limits, Update, cut, merge, new_registers, read_update
from maquette.engine.watching import watch


class ReplicaBroken(MaquetteError):
    """pycrdt failed on an update that was judged good. The replica is dropped and built again from the log."""


class RevisionBroken(ReplicaBroken):
    """The log holds a revision that no replica takes: whoever replays freezes the document before it (G4)."""

    def __init__(self, revision: int, error: ReplicaBroken) -> None:
        super().__init__(f"revision {revision}: {error}")
        self.revision = revision


@dataclass(frozen=True, slots=True)
class Nothing:
    """The update integrates nothing new (rule D2)."""


@dataclass(frozen=True, slots=True)
class Denied:
    """Nothing integrates, and the connection may not go on writing (rule G5 a).

    `for_role`: with another role it would have been judged; nothing is wrong with what came.
    """

    reason: str
    for_role: bool = False


class Integrated(NamedTuple):
    """What goes into the log: the update as integrated, what it did, and why parts of it were refused (rule G5 b)."""

    update: bytes
    changes: list[Change]
    reasons: tuple[str, ...]
    rules: tuple[str, ...]
    """The reasons without anything of what came: that must not reach the log."""
    server: int | None
    hole: Hole | None = None
    """What the rest of the op lacks, when only its beginning could be integrated (rule D3)."""


Outcome = Nothing | Denied | Hole | Integrated


@dataclass(frozen=True, slots=True)
class Late:
    """What an op carries over: the event `cause`, which came at `revision` to `epoch` when that was over (D9)."""

    cause: UUID
    epoch: int
    revision: int


NOTHING_NEW = Integrated(b"\x00\x00", [], (), (), None)
"""An op that changes nothing: what is left of a late edit when all that it changed has been changed since."""


class Replica:
    """One document in memory. `server_client` is the client id under which the server writes in it."""

    def __init__(self, kind: Kind, server_client: int) -> None:
        self.kind = kind
        self.doc: pycrdt.Doc[Any] = pycrdt.Doc(client_id=server_client)
        self.index = Index(None if kind.roots is None else {name: _TYPE_REFS[t] for name, t in kind.roots.items()})
        self.claims = Claims()
        self.memory: Memory = kind.memory()
        self.revision = 0
        self.last: UUID | None = None
        """The event at `revision`."""
        self.carried = 0
        """The last revision of the epoch before that is carried over into this one (D9)."""
        self.size = 0
        """Bytes of the updates that made it; from a snapshot on, of its state then and what came since."""
        self._entry = SendOps(kind.name, kind.writers)
        self._roots = {name: self.doc.get(name, type=type_) for name, type_ in (kind.roots or {}).items()}
        self._fresh: dict[Id, tuple[Parent, str | None]] = {}
        self._paths: dict[Parent, Path] = {}
        self._captured: list[bytes] = []
        self._deleted = _NO_DELETES
        self._applying = False
        watch(self, self.doc, Replica._capture)
        self.ready()

    def ready(self) -> None:
        """Begin to take ops: the server's own client id is the server's."""
        self.claims.announce(self.doc.client_id, SERVER.id)
        self._captured.clear()

    def _capture(self, event: pycrdt.TransactionEvent) -> None:
        if self._applying:
            self._deleted = event.delete_set  # type: ignore[attr-defined]  # its stub lacks it
        else:
            self._captured.append(event.update)

    # --- what a kind may ask (View) ------------------------------------------------------------------------------

    def path(self, parent: Parent) -> Path:
        """Where `parent` is, also when the update under judgement makes it."""
        path = self._paths.get(parent)
        if path is None:
            path = self._paths[parent] = self._path(parent)
        return path

    def _path(self, parent: Parent) -> Path:
        if isinstance(parent, str):
            return (parent,)
        if parent in self._fresh:
            above, key = self._fresh[parent]
            return (*self.path(above), parent if key is None else key)
        return self.index.path(parent)

    def shared(self, parent: Parent) -> Any:
        """The live shared type at `parent`, None when it is not there."""
        path = self.path(parent)
        found = self._roots.get(str(path[0])) if path else None
        for step in path[1:]:
            if isinstance(step, str):
                found = found.get(step) if isinstance(found, pycrdt.Map) else None
            elif isinstance(found, pycrdt.Array):
                place = self.memory.element(found, step)
                found = None if place is None else found[place]
            else:
                return None
        return found

    def creator(self, type_id: Id) -> str | None:
        """The actor who made the type."""
        return self.claims.owner(type_id[0])

    def shows(self, edit: Edit) -> bool:
        """Whether what the edit brought is there: what loses a race and what lies in something deleted is deleted."""
        return not self.index.is_deleted(edit.id)

    # --- reading -------------------------------------------------------------------------------------------------

    def state_vector(self) -> bytes:
        """What this replica holds, ops on their way to the log included: send it only after their commit (D1)."""
        return self.doc.get_state()

    def diff(self, state_vector: bytes) -> bytes:
        """What a peer with `state_vector` lacks; the same caution holds."""
        return self.doc.get_update(state_vector)

    # --- admitting -----------------------------------------------------------------------------------------------

    def admit(self, op: Op, data: bytes, own: int | None, limits: Limits, read: Update | None = None) -> Outcome:
        """Judge `data` by `op.actor` over the connection with client id `own`; apply what is admitted.

        `read` is `data`, when it was read before: an op with holes is tried again and again.
        Raises MalformedUpdate and LimitExceeded for what is no update, ReplicaBroken when the replica is lost.
        """
        update = read_update(data, limits) if read is None else read
        foreign = self.claims.foreign(update.structs, op.actor.id, own)
        if foreign:
            update, _ = cut(update, lambda client: client not in foreign)
        return self.excess(update, len(data), limits) or self._judge(op, update, own)

    def closed_to(self, actor: Actor, roles: Roles) -> Denied | None:
        """The denial of whoever may not write here at all."""
        entry = admit(self._entry, actor, roles, NO_STATE)
        return Denied(entry.reason, for_role=True) if isinstance(entry, Refuse) else None

    def excess(self, update: Update, size: int, limits: Limits) -> Denied | None:
        """The denial of what makes the document too large; whoever only deletes may."""
        if self.size + size <= limits.document or not self.index.trim(update).structs:
            return None
        return Denied(
            f"expected at most {limits.document} bytes in a document, this has {self.size} and the update {size}"
        )

    def misfit(self, update: Update, writes: Sequence[Write]) -> str | None:
        """Why a trimmed update without holes, read as `writes`, must not reach pycrdt (G1); None when it may."""
        return self.index.misfit(writes) or _many_at_a_key(self.index, update)

    def _judge(self, op: Op, update: Update, own: int | None) -> Outcome:
        update = self.index.trim(update)
        if update.is_empty:
            return Nothing()
        closed = self.closed_to(op.actor, op.roles)
        if closed is not None:
            return closed
        reading = self.index.read(update)
        if reading.hole is not None:
            return self._begin(op, self.ready_part(update), own, reading.hole)
        misfit = self.misfit(update, reading.writes)
        if misfit is not None:
            return Denied(misfit)
        return self._integrate(op, update, reading.writes, own)

    def ready_part(self, update: Update) -> Update:
        """What of an update with a hole can go in now; values that it overwrote itself come with their deletion."""
        ready = self.index.ready(update)
        gone: dict[int, list[tuple[int, int]]] = {}
        for write in self.index.joined(ready):
            ranges = update.deletes.get(write.id[0], ())
            if _covers(ranges, write) and self._is_followed(write, ready, ranges):
                gone.setdefault(write.id[0], []).append((write.id[1], write.length))
        return Update(ready.structs, {client: sorted(ranges) for client, ranges in gone.items()}) if gone else ready

    def _is_followed(self, gone: Write, ready: Update, ranges: Sequence[tuple[int, int]]) -> bool:
        """Whether `ready` brings the value that counts, too: else the key would be empty until the rest comes."""
        place = (gone.id[0], gone.parent, gone.key)
        return any(
            (write.id[0], write.parent, write.key) == place and write.id > gone.id and not _covers(ranges, write)
            for write in self.index.writes(ready)
        )

    def _begin(self, op: Op, ready: Update, own: int | None, hole: Hole) -> Outcome:
        """Integrate what of an op with a hole can be."""
        if _many_at_a_key(self.index, ready):
            return hole  # they are not deleted: the whole op is denied once it can be judged
        outcome = hole if ready.is_empty else self._judge(op, ready, own)
        if isinstance(outcome, Integrated):
            return outcome._replace(hole=outcome.hole or hole)
        return hole if isinstance(outcome, Nothing) else outcome

    def _integrate(self, op: Op, update: Update, writes: Sequence[Write], own: int | None) -> Outcome:
        read = self._edits(writes, update)
        with self._reading(read.found):
            verdicts = self.memory.judge(op, read.found, self)
        hidden = read.hidden if self.kind.roots is not None else ()
        if verdicts or hidden:
            return self._integrate_blanked(op, update, writes, own, read, verdicts)
        with _OR_BROKEN:
            done = self._take(op, update, writes, read.found)
        self.claims.bring(update.structs, op.actor.id, own)
        return done

    def _integrate_blanked(
        self, op: Op, update: Update, writes: Sequence[Write], own: int | None, read: Edits, verdicts: Sequence[Verdict]
    ) -> Outcome:
        """Integrate what holds refused edits, or content that nobody will see."""
        others = self._others(verdicts, update, own)
        if others:  # another tab's, who has not come back yet: their owner brings them
            return self._judge(op, cut(update, lambda client: client not in others)[0], own)
        if verdicts and not op.refusable:
            told_all = "; ".join(told(verdicts, lambda verdict: verdict.refusal.reason))
            return Denied(f"expected edits that are not refused again and again, got one more: {told_all}")
        admitted, refused = with_inner(verdicts, read.found)
        reversal = self._reversal(refused) if verdicts else None
        if reversal is not None and reversal.excess:
            return Denied(f"expected an op with at most {MAX_RESTORED} edits that have to be undone, got more")
        dead = dead_structs(writes, refused, read.hidden if self.kind.roots is not None else ())
        with _OR_BROKEN:
            done = self._take(op, blanked(update, dead), writes, admitted, refused, reversal)
        self.claims.bring(update.structs, op.actor.id, own)
        reasons = told(verdicts, lambda verdict: verdict.refusal.reason)
        return done._replace(reasons=reasons, rules=told(verdicts, lambda verdict: verdict.refusal.rule))

    def _reversal(self, refused: Sequence[Edit]) -> Reversal:
        return Reversal(refused, Holder(self.shared, self.memory.element, self.index.is_deleted))

    def _others(self, verdicts: Sequence[Verdict], update: Update, own: int | None) -> set[int]:
        """The clients, announced by nobody, in whose name somebody else's edits came."""
        lent = {client for client in update.structs if client != own and not self.claims.is_announced(client)}
        return {id_[0] for verdict in verdicts if verdict.refusal.foreign for id_ in verdict.edit.structs} & lent

    def _reading(self, edits: Sequence[Edit]) -> AbstractContextManager[object]:
        """One transaction for all that a kind reads about `edits`; a single one reads too little to be worth it."""
        return self.doc.transaction() if len(edits) > 1 else _NO_TRANSACTION

    def _take(
        self,
        op: Op,
        update: Update,
        writes: Sequence[Write],
        admitted: Sequence[Edit],
        refused: Sequence[Edit] = (),
        reversal: Reversal | None = None,
    ) -> Integrated:
        self.memory.learn(admitted)
        registers = self.memory.finish(op, admitted)
        effective = admitted
        if registers:
            whole, added = self._apply_with(update, writes, registers)
            effective = [*admitted, *added]
        else:
            whole = self._apply(update)
        restored, again = self._write(reversal.write) if reversal else (None, ())
        with self._reading(effective):
            changes = self.memory.describe(effective, self)  # what is refused and restored did nothing
        self.memory.settle([*effective, *refused, *again], changes, op.actor.id)
        return Integrated(
            (whole if restored is None else merge(whole, restored)).encode(),
            changes,
            (),
            (),
            self.doc.client_id if registers or restored is not None else None,
        )

    def repair(self) -> Integrated | None:
        """What the owner repairs by an op of its own, applied; None when nothing is broken."""
        if not self.memory.is_broken():
            return None
        with _OR_BROKEN:
            self._paths.clear()
            update, found = self._write(lambda: self.memory.repair(self))
            if update is None:
                return None
            changes = self.memory.describe(found, self)
            self.memory.settle(found, changes, SERVER.id)
        return Integrated(update.encode(), changes, (), (), self.doc.client_id)

    def adopt(self, update: Update, actor: str = SERVER.id) -> Integrated:
        """Take in, unjudged, content that the server brings into a new document; what it means to be done by somebody,
        such as a lock, is done by `actor`."""
        with _OR_BROKEN:
            found = self._edits(self.index.writes(update), update).found
            self.memory.learn(found)
            self._apply(update)
            changes = self.memory.describe(found, self)
            self.memory.settle(found, changes, actor)
        return Integrated(update.encode(), changes, (), (), None)

    def is_full(self) -> bool:
        """Whether the document has reached the limits of one epoch (D9)."""
        return self.memory.is_full(self.index)

    # --- the steps -------------------------------------------------------------------------------------------------

    def _edits(self, writes: Sequence[Write], update: Update) -> Edits:
        self._paths.clear()
        alone = self._alone(writes, update) if len(writes) == 1 else None
        if alone is not None:
            return alone
        self._fresh = {
            write.id: (write.parent, write.key)
            for write in writes
            if write.content is TYPE and write.parent is not None
        }
        return read_edits(writes, self.index.erased(update) if update.ranges else (), self._is_gone)

    def _alone(self, writes: Sequence[Write], update: Update) -> Edits | None:
        self._fresh = {}
        return read_alone(writes[0], update.ranges, self._is_gone)

    def _is_gone(self, type_id: Id) -> bool:
        return self.index.is_deleted(type_id) or not self.index.path(type_id)

    def _apply_with(
        self, update: Update, writes: Sequence[Write], registers: Sequence[Register]
    ) -> tuple[Update, list[Edit]]:
        """Apply `update` and what the server adds to it. Returns both as one, and the edits that were added.

        In one transaction, because a second one takes longer than all the rest; behind the first where the op wrote at
        such a place itself, for then what lies last there is the replica's to say.
        """
        client = self.doc.client_id
        if client in update.structs or not self._are_new(registers, writes):
            self._apply(update)
            behind, added = self._write(lambda: self._set(registers))
            return update if behind is None else merge(update, behind), added
        start = self.index.clock(client)
        return self._apply(update, registers), [
            Edit(SET, parent, key, value, None, [(client, clock)])
            for clock, (parent, key, value) in enumerate(registers, start)
        ]

    def _are_new(self, registers: Sequence[Register], writes: Sequence[Write]) -> bool:
        """Whether `writes`, which make the maps of all registers, set none of them."""
        written = {(write.parent, write.key) for write in writes}
        return not any((parent, key) in written for parent, key, _ in registers)

    def _set(self, registers: Sequence[Register]) -> None:
        for parent, key, value in registers:
            record = self.shared(parent)
            if record is not None:
                record[key] = value

    def _apply(self, update: Update, registers: Sequence[Register] = ()) -> Update:
        """Into the index and pycrdt, with registers that the server sets. What that deleted beyond what `update` says
        is noted for rule D2. Returns what was applied.
        """
        whole, client = update, self.doc.client_id
        if registers:
            whole = merge(update, new_registers(client, self.index.clock(client), registers))
        encoded = whole.encode()
        self.size += len(encoded)
        self.index.add(update)
        if registers:
            self.index.add_values(client, [(parent, key) for parent, key, _ in registers])
        self._fresh = {}
        self._applying, self._deleted = True, _NO_DELETES
        try:
            self.doc.apply_update(encoded)
        finally:
            self._applying = False
        if self._deleted != _NO_DELETES and self._deleted != update.said:
            self.index.note_deletes(self._deleted)
        return whole

    def _write(self, write: Callable[[], object]) -> tuple[Update | None, list[Edit]]:
        """Let the server write, and take what it wrote into the index."""
        self._captured.clear()
        with self.doc.transaction():
            write()
        update: Update | None = None
        found: list[Edit] = []
        for data in self._captured:
            part = self.index.trim(read_update(data, UNLIMITED))
            if part.is_empty:
                continue
            found += self._edits(self.index.writes(part), part).found
            self.size += len(data)
            self.index.add(part)
            update = part if update is None else merge(update, part)
        self._captured.clear()
        self.memory.learn(found)
        return update, found

    # --- telling the log ---------------------------------------------------------------------------------------

    def event(
        self, actor: Actor, own: int | None, done: Integrated, cause: UUID | None = None, late: Late | None = None
    ) -> NewEvent:
        """The event that stores what was integrated; `cause` is the event that led to it, as `late` is."""
        data: dict[str, Any] = {
            "update": done.update,
            "changes": done.changes,
            "describe": self.kind.describe,
            "client": own,
            **self.memory.extras(),
        }
        if done.server is not None:
            data["server"] = done.server
        if done.rules:
            data["reason"] = "; ".join(done.rules)
        if late is not None:
            cause, self.carried = late.cause, late.revision
            data["carried"] = [late.epoch, late.revision]
        return NewEvent("document.refused" if done.rules else "document.edited", actor, data, cause=cause)

    def begin(self, authors: Iterable[tuple[int, str]], carried: int) -> None:
        """Be an epoch that begins with content of the one before, up to its revision `carried`, under the clients that
        `authors` names with their actors."""
        for client, actor in authors:
            self.claims.announce(client, actor)
        self.carried = max(self.carried, carried)

    # --- replaying -----------------------------------------------------------------------------------------------

    def replay(self, event: Event) -> None:
        """Take in an event of the log, as it was integrated. Raises ReplicaBroken."""
        with _OR_BROKEN:
            update = read_update(event.data["update"], UNLIMITED)
            found = self._edits(self.index.writes(update), update).found
            self.memory.learn(found)
            self._apply(update)
            begins = event.data.get("begins")
            actor = event.actor.id if begins is None else begins["locker"]
            self.memory.settle(found, event.data["changes"], actor)
        server = event.data.get("server")
        if server is not None:
            self.claims.announce(server, SERVER.id)
        if begins is not None:
            self.begin(begins["authors"], begins["from"][1])
        clients = [client for client in update.structs if client != server]
        self.claims.bring(clients, event.actor.id, event.data.get("client"))
        self.carried = event.data.get("carried", (0, self.carried))[1]
        self.revision, self.last = event.revision, event.id


_TYPE_REFS: dict[type[Any], int] = {pycrdt.Array: 0, pycrdt.Map: 1, pycrdt.Text: 2}
UNLIMITED = Limits(bytes=1 << 32, structs=1 << 32, clients=1 << 32, deletes=1 << 32, string=1 << 32)
"""The log holds what was admitted under the limits of its day; tightening them must not shut a document."""

_NO_DELETES = b"\x00"
_NO_TRANSACTION = nullcontext()


def _covers(ranges: Sequence[tuple[int, int]], write: Write) -> bool:
    start, end = write.id[1], write.id[1] + write.length
    return any(clock <= start and end <= clock + length for clock, length in ranges)


def _many_at_a_key(index: Index, update: Update) -> str | None:
    """Yjs puts one value at a key, shows the last of several, and nobody else needs to agree with it.

    Values that were overwritten and that an UndoManager keeps are joined to one struct; all of them are deleted.
    """
    many = index.joined(update)
    if not many:
        return None
    gone = {(item.client, item.clock, item.length) for item in index.erased(update)}
    for write in many:
        if (*write.id, write.length) not in gone:
            return f"{write.content.name.lower()} at {write.id}: expected one value at key {write.key!r}, got more"
    return None


class _OrBroken:
    """Whatever fails once the replica has changed makes it useless: it may differ from the log."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # pycrdt's PanicException is no Exception
        if error is not None and not isinstance(error, (KeyboardInterrupt, SystemExit, ReplicaBroken)):
            raise ReplicaBroken(f"expected the replica to take a judged update, got {error!r}") from error


_OR_BROKEN = _OrBroken()

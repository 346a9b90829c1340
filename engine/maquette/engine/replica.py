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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pycrdt

from maquette.engine.claims import Claims
from maquette.engine.deletes import Deletes, normalise, unite
from maquette.engine.edits import Action, Edit, Parent, edits
from maquette.engine.errors import MaquetteError
from maquette.engine.events import SERVER, Actor, Event, NewEvent
from maquette.engine.index import Hole, Index, Write
from maquette.engine.kinds.kind import Change, Kind, Memory, Op, Path, Verdict, revived
from maquette.engine.update import Content, Id, Limits, Struct, Update, cut, merge, read_update

_EMPTY = frozenset((Content.GC, Content.DELETED, Content.SKIP))


class ReplicaBroken(MaquetteError):
    """pycrdt failed on an update that was judged good. The replica is dropped and built again from the log."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """The update integrates nothing new (rule D2)."""


@dataclass(frozen=True, slots=True)
class Denied:
    """Nothing integrates, and the connection may not go on writing (rule G5 a)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Integrated:
    """What goes into the log: the update as integrated, what it did, and why parts of it were refused (rule G5 b)."""

    update: bytes
    changes: list[Change]
    reasons: tuple[str, ...]
    clients: frozenset[int]
    server: int | None


Outcome = Nothing | Denied | Hole | Integrated


class Replica:
    """One document in memory. `server_client` is the client id under which the server writes in it."""

    def __init__(self, kind: Kind, server_client: int) -> None:
        self.kind = kind
        self.doc: pycrdt.Doc[Any] = pycrdt.Doc(client_id=server_client)
        self.index = Index(None if kind.roots is None else {name: _TYPE_REFS[t] for name, t in kind.roots.items()})
        self.claims = Claims()
        self.memory: Memory = kind.memory()
        self.revision = 0
        self._roots = {name: self.doc.get(name, type=type_) for name, type_ in (kind.roots or {}).items()}
        self._fresh: dict[Id, tuple[Parent, str | None]] = {}
        self._captured: list[bytes] = []
        self._watch = self.doc.observe(lambda event: self._captured.append(event.update))
        self.ready()

    def ready(self) -> None:
        """Begin to take ops: the server's own client id is the server's."""
        self.claims.announce(self.doc.client_id, SERVER.id)
        self._captured.clear()

    # --- what a kind may ask (View) ------------------------------------------------------------------------------

    def path(self, parent: Parent) -> Path:
        """Where `parent` is, also when the update under judgement makes it."""
        if isinstance(parent, str):
            return (parent,)
        if parent in self._fresh:
            above, key = self._fresh[parent]
            return (*self.path(above), parent if key is None else key)
        return self.index.path(parent)

    def shared(self, parent: Parent) -> Any:
        """The live shared type at `parent`, None when it is not there."""
        root, *steps = self.path(parent)
        found = self._roots.get(str(root))
        for step in steps:
            if found is None:
                return None
            if isinstance(step, str):
                found = found.get(step) if isinstance(found, pycrdt.Map) else None
            else:
                place = self.memory.element(found, step)
                found = None if place is None else found[place]
        return found

    def creator(self, type_id: Id) -> str | None:
        """The actor who made the type."""
        return self.claims.owner(type_id[0])

    # --- reading -------------------------------------------------------------------------------------------------

    def state_vector(self) -> bytes:
        """What this replica holds, ops on their way to the log included: send it only after their commit (D1)."""
        return self.doc.get_state()

    def diff(self, state_vector: bytes) -> bytes:
        """What a peer with `state_vector` lacks; the same caution holds."""
        return self.doc.get_update(state_vector)

    # --- admitting -----------------------------------------------------------------------------------------------

    def admit(self, op: Op, data: bytes, own: int | None, limits: Limits) -> Outcome:
        """Judge `data` by `op.actor` over the connection with client id `own`; apply what is admitted.

        Raises MalformedUpdate and LimitExceeded for what is no update, ReplicaBroken when the replica is lost.
        """
        update, _foreign = cut(read_update(data, limits), lambda client: self.claims.admits(client, op.actor.id))
        update = self.index.trim(update)
        if update.is_empty:
            return Nothing()
        if op.role < self.kind.writers:
            return Denied(
                f"expected a role of {self.kind.writers.name.lower()} or above to edit a {self.kind.name} document, "
                f"got {op.role.name.lower()}"
            )
        hole = self.index.hole(update)
        if hole is not None:
            return hole
        writes = self.index.writes(update)
        misfit = self.index.misfit(writes)
        if misfit is not None:
            return Denied(misfit)
        return self._integrate(op, update, writes, own)

    def repair(self) -> Integrated | None:
        """What the owner repairs by an op of its own, applied; None when nothing is broken."""
        self._captured.clear()
        with self._transaction():
            if not self.memory.repairs(self):
                return None
        return self._server_only()

    def rewrite(self, write: Callable[[Replica], None]) -> Integrated | None:
        """Let the server itself write into the replica; what that integrates, None for nothing."""
        self._captured.clear()
        with self._transaction():
            write(self)
        return self._server_only()

    def _server_only(self) -> Integrated | None:
        update, found = self._take_server_part()
        if update is None:
            return None
        changes = self.memory.describe(found, self)
        self.memory.settle(found, changes)
        return Integrated(update.encode(), changes, (), frozenset(), self.doc.client_id)

    def _integrate(self, op: Op, update: Update, writes: Sequence[Write], own: int | None) -> Integrated:
        self._fresh = {
            write.id: (write.parent, write.key)
            for write in writes
            if write.content is Content.TYPE and write.parent is not None
        }
        found = edits(writes, self.index.erased(update))
        verdicts = self.memory.judge(op, found, self)
        refused = _closure(verdicts, found)
        restore = [self._restorer(edit) for edit in refused if _is_outermost(edit, refused)]
        dead = _dead(writes, refused, self.kind)
        if dead:
            update = _without(update, dead)
        admitted = [edit for edit in found if edit not in refused] if refused else found
        self.memory.learn(admitted)
        self._apply(update)
        with self._transaction():
            self.memory.finish(op, admitted, self)
        finished, added = self._take_server_part()
        with self._transaction():
            for write_again in restore:
                write_again()
        restored, again = self._take_server_part()
        told = admitted + added  # what is refused and restored did nothing
        changes = self.memory.describe(told, self)
        self.memory.settle([*told, *refused, *again], changes)
        whole = update
        for part in (finished, restored):
            whole = whole if part is None else merge(whole, part)
        clients = frozenset(update.structs)
        self.claims.bring(clients, op.actor.id, own)
        self.memory.clients = len(self.index.clients)
        reasons = tuple(dict.fromkeys(verdict.reason for verdict in verdicts))
        return Integrated(
            whole.encode(), changes, reasons, clients, None if finished is None and restored is None else self.doc.client_id
        )

    def _apply(self, update: Update) -> None:
        self.index.add(update)
        self._fresh = {}
        try:
            self.doc.apply_update(update.encode())
        except BaseException as error:  # pycrdt's PanicException is no Exception
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            raise ReplicaBroken(f"expected pycrdt to apply a judged update, got {error!r}") from error
        self._captured.clear()

    def _transaction(self) -> Any:
        return self.doc.transaction()

    def _take_server_part(self) -> tuple[Update | None, list[Edit]]:
        """What the server wrote since `_captured` was cleared, taken into the index."""
        update: Update | None = None
        found: list[Edit] = []
        for data in self._captured:
            part = self.index.trim(read_update(data))
            if part.is_empty:
                continue
            found += edits(self.index.writes(part), self.index.erased(part))
            self.index.add(part)
            update = part if update is None else merge(update, part)
        self._captured.clear()
        self.memory.learn(found)
        return update, found

    def _restorer(self, edit: Edit) -> Callable[[], None]:
        """What writes again, after the refused edit took effect, what was there before it."""
        holder = self.shared(edit.parent)
        if holder is None or edit.action is Action.INSERT:
            return lambda: None
        if edit.action is Action.REMOVE:
            places = sorted(place for id_ in edit.erased if (place := self.memory.element(holder, id_)) is not None)
            lost = [(place, revived(holder[place])) for place in places]
            return lambda: _insert_again(self.shared(edit.parent), lost)
        if edit.key not in holder:
            return lambda: None
        before = revived(holder[edit.key])
        return lambda: self.shared(edit.parent).__setitem__(edit.key, before)

    # --- telling the log ---------------------------------------------------------------------------------------

    def event(self, actor: Actor, own: int | None, done: Integrated) -> NewEvent:
        """The event that stores what was integrated."""
        data: dict[str, Any] = {
            "update": done.update,
            "changes": done.changes,
            "describe": self.kind.describe,
            "client": own,
            **self.memory.extras(),
        }
        if done.server is not None:
            data["server"] = done.server
        if done.reasons:
            data["reason"] = "; ".join(done.reasons)
        return NewEvent("document.refused" if done.reasons else "document.edited", actor, data)

    def adopt(self, update: Update) -> Integrated:
        """Take in, unjudged, content that the server brings into an empty document."""
        found = edits(self.index.writes(update), self.index.erased(update))
        self.memory.learn(found)
        self._apply(update)
        changes = self.memory.describe(found, self)
        self.memory.settle(found, changes)
        return Integrated(update.encode(), changes, (), frozenset(update.structs), None)

    # --- replaying -----------------------------------------------------------------------------------------------

    def replay(self, event: Event) -> None:
        """Take in an event of the log, as it was integrated. Raises ReplicaBroken."""
        update = read_update(event.data["update"], UNLIMITED)
        found = edits(self.index.writes(update), self.index.erased(update))
        self.memory.learn(found)
        self._apply(update)
        self.memory.settle(found, event.data["changes"])
        server = event.data.get("server")
        if server is not None:
            self.claims.announce(server, SERVER.id)
        clients = [client for client in update.structs if client != server]
        self.claims.bring(clients, event.actor.id, event.data.get("client"))
        self.memory.clients = len(self.index.clients)
        self.revision = event.revision


_TYPE_REFS: dict[type[Any], int] = {pycrdt.Array: 0, pycrdt.Map: 1, pycrdt.Text: 2}
UNLIMITED = Limits(bytes=1 << 32, structs=1 << 32, clients=1 << 32, deletes=1 << 32, string=1 << 32)
"""The log holds what was admitted under the limits of its day; tightening them must not shut a document."""


def _insert_again(array: Any, lost: Sequence[tuple[int, Any]]) -> None:
    for place, value in lost:  # in ascending order, so that each finds its place again
        array.insert(min(place, len(array)), value)


def _closure(verdicts: Sequence[Verdict], found: Sequence[Edit]) -> list[Edit]:
    """The refused edits, and those inside what they make."""
    if not verdicts:
        return []
    refused = [verdict.edit for verdict in verdicts]
    dead = {id_ for edit in refused for id_ in edit.structs}
    size = -1
    while size != len(dead):
        size = len(dead)
        for edit in found:
            if edit.parent in dead and edit not in refused:
                refused.append(edit)
                dead.update(edit.structs)
    return refused


def _is_outermost(edit: Edit, refused: Sequence[Edit]) -> bool:
    return not any(edit.parent in other.structs for other in refused)


def _dead(writes: Sequence[Write], refused: Sequence[Edit], kind: Kind) -> set[Id]:
    """The structs that must not enter as they are: refused ones, what lies inside them, and, in a document with a
    schema, what lies nowhere (below something refused before): nobody will see it, so it must not be in the log either.
    """
    dead = {id_ for edit in refused for id_ in edit.structs}
    for write in writes:  # parents come before what is in them
        lost = write.parent is None and kind.roots is not None and write.content not in _EMPTY
        if lost or write.parent in dead:
            dead.add(write.id)
    return dead


def _without(update: Update, dead: set[Id]) -> Update:
    """The update with the dead structs blanked and deleted."""
    structs: dict[int, list[Struct]] = {}
    deletes: Deletes = {}
    for client, group in update.structs.items():
        structs[client] = [struct.blank() if struct.id in dead else struct for struct in group]
        ranges = [(struct.clock, struct.length) for struct in group if struct.id in dead]
        if ranges:
            deletes[client] = normalise(ranges)
    return Update(structs, unite(update.ranges, deletes))

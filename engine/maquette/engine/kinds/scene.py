"""Scene documents: flat maps of nodes, materials, comments and settings (docs/spec.md, "scene").

Rule 1: a record (node, material, comment) is created once, whole, under a fresh id; its registers are whole values.
Rule 2: a node is deleted by its `trashed` register; its record leaves only by the hand that made it (an undo), or an
        owner's.
Rule 3: a cycle that concurrent moves close is admitted and repaired by an op of the server; a node under itself or
        under a parent that nobody has seen is refused.
Rule 4: a locked node stays as it is until whoever locked it, or a moderator, unlocks it (`locks`).
Who may do what of this is the gate's word (`gate`); here is what has a meaning and a fitting shape.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pycrdt

from maquette.engine.edits import SET, UNSET, Edit, Parent
from maquette.engine.errors import InvalidInput, SchemaError
from maquette.engine.gate import ADMITTED, Decision, Refuse, admit
from maquette.engine.ids import is_id
from maquette.engine.index import Index
from maquette.engine.kinds.kind import Change, Kind, Op, Register, Verdict, View, inside, made, plain
from maquette.engine.operations import (
    AddComment,
    AddMaterial,
    AddNode,
    ChangeComment,
    ChangeMaterial,
    ChangeNode,
    ChangeSetting,
    LockNode,
    MoveNode,
    Operation,
    RemoveComment,
    RemoveMaterial,
    RemoveNode,
    RestoreNode,
    TrashNode,
)
from maquette.engine.roles import Role
from maquette.engine.scene import schema
from maquette.engine.scene.locks import Locks, SceneState
from maquette.engine.scene.tree import Tree
from maquette.engine.update import Id

NODES, MATERIALS, COMMENTS, SETTINGS = "nodes", "materials", "comments", "settings"
RECORDS: dict[str, schema.Kind] = {NODES: "node", MATERIALS: "material", COMMENTS: "comment"}
"""The roots that hold records, and what one is called in changes and messages."""
_ROOTS = {f"{what}.added": root for root, what in RECORDS.items()}
SLOTS, LOCKED = "slots", "locked"
_MAP = 1

_Fields = dict[str, Any]
_Inside = dict[Parent, list[Edit]]


class SceneMemory:
    """The effective tree, and which item holds each record."""

    def __init__(self) -> None:
        self.tree = Tree()
        self.records: dict[tuple[str, str], Id] = {}
        self._fresh: set[tuple[str, str]] = set()  # made by the op that is on its way, and not yet known to show
        self.locks = Locks(self.tree)
        self._state = SceneState(self.tree, self.locks)

    # --- judging -------------------------------------------------------------------------------------------------

    def judge(self, op: Op, edits: Sequence[Edit], view: View) -> list[Verdict]:
        made: Collection[Id] = ()
        repeated: Collection[tuple[Parent, str | None]] = _NEVER
        if len(edits) > 1:
            made = {edit.id for edit in edits if edit.action is SET and edit.type_ref is not None}
            repeated = _repeated(edits)
        parts = inside(edits)
        new_nodes: Mapping[str, Edit] = {}
        if NODES in parts:
            new_nodes = {str(edit.key): edit for edit in parts[NODES] if edit.action is SET}
        state = self._state
        state.new_parent = lambda node: _new_parent(new_nodes.get(node), parts)
        if self.locks:
            state.opened = frozenset()
            state.opened = self._opened(op, edits, view, state)
        verdicts = []
        for edit in edits:
            if edit.parent in made:
                continue  # judged with the record that it is part of
            path = view.path(edit.parent)
            decision: Decision
            try:
                if repeated and edit.parent in RECORDS and (edit.parent, edit.key) in repeated:
                    raise InvalidInput("scene: expected each record once in an op, got one more")
                if len(path) == 1:
                    operation = self._at_root(op, edit, str(path[0]), parts, new_nodes, view)
                else:
                    operation = self._at_field(edit, path, parts, new_nodes, view)
                decision = admit(operation, op.actor, op.roles, state)
            except InvalidInput as error:
                decision = Refuse(str(error), _rule(error))
            if isinstance(decision, Refuse):
                verdicts.append(Verdict(edit, decision))
        return verdicts

    def _opened(self, op: Op, edits: Sequence[Edit], view: View, state: SceneState) -> frozenset[str]:
        """The nodes whose lock the op itself writes, by somebody who may: it is not held back by it."""
        found = set()
        for edit in edits:
            if edit.key == LOCKED and isinstance(edit.value, bool) and len(path := view.path(edit.parent)) == 2:
                node = str(path[1])
                if path[0] == NODES and admit(LockNode(node), op.actor, op.roles, state) is ADMITTED:
                    found.add(node)
        return frozenset(found)

    def _at_root(
        self, op: Op, edit: Edit, root: str, inside: _Inside, new_nodes: Mapping[str, Edit], view: View
    ) -> Operation:
        """What an edit of a root comes to. Raises InvalidInput for what has no meaning there."""
        if root == SETTINGS:
            if edit.action is SET:
                _check_register(edit, "settings", str(edit.key))
                schema.check_field("settings", str(edit.key), edit.value)
            return ChangeSetting(str(edit.key))
        what = RECORDS.get(root)
        if what is None or edit.key is None:
            raise InvalidInput(f"scene: expected records in {', '.join(RECORDS)} or settings, got one elsewhere")
        if edit.action is UNSET:
            return _REMOVALS[root](edit.key, self._creator(op, root, edit.key, view))
        if not is_id(edit.key):
            raise InvalidInput(f"{what}: expected an id of 1 to 64 characters of [A-Za-z0-9_-], got {edit.key!r:.80}")
        if edit.type_ref != _MAP:
            raise InvalidInput(f"{what} {edit.key!r}: expected a shared map, got {edit.value!r:.80}")
        if (root, edit.key) in self.records:
            raise InvalidInput(f"{what}: expected a fresh id, got {edit.key!r}, which exists")
        return self._new_record(edit.key, what, _gathered(edit, inside, what), new_nodes)

    def _new_record(self, id_: str, what: schema.Kind, fields: _Fields, new_nodes: Mapping[str, Edit]) -> Operation:
        _check_record(what, id_, fields)
        match what:
            case "node":
                self._check_place(id_, fields["place"], new_nodes)
                trashed = fields.get("trashed")
                return AddNode(id_, fields["place"][0], None if trashed is None else trashed["by"])
            case "material":
                return AddMaterial(id_)
            case _:
                return AddComment(fields["author"], fields.get("node"))

    def _creator(self, op: Op, root: str, id_: str, view: View) -> str | None:
        """Who made the record; the actor itself when there is none: to end nothing is nobody's harm.

        Whatever takes the place at a key ends what shows there, if it says so or not: the record counts.
        """
        record = self.records.get((root, id_))
        return op.actor.id if record is None else view.creator(record)

    def _at_field(
        self, edit: Edit, path: tuple[Any, ...], inside: _Inside, new_nodes: Mapping[str, Edit], view: View
    ) -> Operation:
        """What an edit in a record comes to. Raises InvalidInput for what has no meaning there."""
        what = RECORDS.get(path[0]) if len(path) in (2, 3) else None
        if what is None or edit.key is None or (len(path) == 3 and (what, path[2]) != ("node", SLOTS)):
            raise InvalidInput("scene: expected a field of a node, material or comment, got an edit elsewhere")
        if len(path) == 3:
            if edit.action is SET:
                _check_register(edit, "node", SLOTS)
                schema.check_field("node", SLOTS, {edit.key: edit.value})
            return ChangeNode(path[1], SLOTS)
        self._check_value(edit, edit.key, path[1], what, inside, new_nodes)
        match what:
            case "node":
                return _of_node(edit, edit.key, path[1])
            case "material":
                return ChangeMaterial(path[1])
            case _:
                return _of_comment(edit, edit.key, view)

    def _check_value(
        self,
        edit: Edit,
        key: str,
        id_: str,
        what: schema.Kind,
        inside: _Inside,
        new_nodes: Mapping[str, Edit],
    ) -> None:
        if edit.action is UNSET:
            schema.check_unset(what, key)
            return
        if key == SLOTS and what == "node":
            _check_slots(edit)
            schema.check_field(what, key, _gathered(edit, inside, None))
            return
        _check_register(edit, what, key)
        schema.check_field(what, key, edit.value)
        if key == "place":
            self._check_place(id_, edit.value, new_nodes)

    def _check_place(self, node: str, place: Sequence[Any], new_nodes: Mapping[str, Edit]) -> None:
        parent = place[0]
        if parent == node:
            raise InvalidInput(f"node.place: expected another node as parent, got node {node!r} itself")
        if parent is not None and parent not in self.tree and parent not in new_nodes:
            raise InvalidInput(f"node.place: expected an existing parent, got {parent!r:.80}")

    # --- remembering -----------------------------------------------------------------------------------------------

    def learn(self, edits: Sequence[Edit]) -> None:
        for edit in edits:
            if edit.key is not None and edit.action is SET and edit.parent in RECORDS:
                record = (str(edit.parent), edit.key)
                if record not in self.records:
                    self._fresh.add(record)
                self.records[record] = edit.id

    def settle(self, edits: Sequence[Edit], changes: Sequence[Change], actor: str) -> None:
        for change in changes:
            match change["type"]:
                case "node.added":
                    self.tree.place(change["id"], *change["node"]["place"])
                    if "trashed" in change["node"]:
                        self.tree.trash(change["id"])
                    self.locks.set(change["id"], actor if change["node"].get(LOCKED) else None)
                case "node.changed":
                    if LOCKED in change["set"]:
                        self.locks.set(change["id"], actor if change["set"][LOCKED] else None)
                case "node.moved":
                    self.tree.place(change["id"], *change["place"])
                    self.locks.move()
                case "node.trashed":
                    self.tree.trash(change["id"])
                case "node.restored":
                    self.tree.restore(change["id"])
                case "node.removed":
                    self.tree.remove(change["id"])
                    self.records.pop((NODES, change["id"]), None)
                    self.locks.set(change["id"], None)
                case "material.removed":
                    self.records.pop((MATERIALS, change["id"]), None)
                case "comment.removed":
                    self.records.pop((COMMENTS, change["id"]), None)
        if self._fresh:
            self._forget_hidden(changes)

    def _forget_hidden(self, changes: Sequence[Change]) -> None:
        """A record that never showed, because a refused one beside it would have won its key, is none."""
        shown = {(_ROOTS[change["type"]], change["id"]) for change in changes if change["type"] in _ROOTS}
        for record in self._fresh - shown:
            self.records.pop(record, None)
        self._fresh.clear()

    def finish(self, op: Op, edits: Sequence[Edit]) -> Sequence[Register]:
        """Nothing: a scene's ops enter as they come."""
        return ()

    # --- telling -----------------------------------------------------------------------------------------------------

    def describe(self, edits: Sequence[Edit], view: View) -> list[Change]:
        alone = _told_alone(edits[0], view) if len(edits) == 1 else None
        return self._told_together(edits, view) if alone is None else alone

    def _told_together(self, edits: Sequence[Edit], view: View) -> list[Change]:
        whole: dict[tuple[str, str], Edit] = {}  # in the order of the op
        fields: dict[tuple[str, str], _Told] = {}
        settings: _Told = {}
        told: set[Parent] = set()  # with the record that they are part of
        for edit in edits:
            if edit.parent in told:
                if edit.type_ref is not None:
                    told.add(edit.id)
                continue
            path = view.path(edit.parent)
            if len(path) == 1:
                root = str(path[0])
                if root == SETTINGS:
                    _tell(settings, str(edit.key), edit, view)
                elif root in RECORDS:
                    whole[root, str(edit.key)] = edit
                    if edit.type_ref is not None:
                        told.add(edit.id)
            elif len(path) == 2 and path[0] in RECORDS:
                _tell(fields.setdefault((str(path[0]), str(path[1])), {}), str(edit.key), edit, view)
            elif path and path[0] in RECORDS:
                fields.setdefault((str(path[0]), str(path[1])), {})[str(path[2])] = None
        parts = inside(edits) if whole else {}
        changes = [change for (root, id_), edit in whole.items() for change in self._told(root, id_, edit, parts, view)]
        for (root, id_), keys in fields.items():
            registers = None if (root, id_) in whole else _registers(keys, lambda: view.shared(root).get(id_))  # noqa: B023
            if registers is not None:
                changes += _changed(RECORDS[root], id_, list(keys), registers)
        registers = _registers(settings, lambda: view.shared(SETTINGS)) if settings else None
        if registers is not None:
            changes.append(_set("setting.changed", list(settings), registers))
        return changes

    def _told(
        self, root: str, id_: str, edit: Edit, parts: Mapping[Parent, Sequence[Edit]], view: View
    ) -> list[Change]:
        what = RECORDS[root]
        fields = made(edit, parts, view)
        if fields is None:
            record = view.shared(root).get(id_)
            fields = None if record is None else plain(record)
        if fields is not None:
            return [{"type": f"{what}.added", "id": id_, what: fields}]
        shown = (root, id_) in self.records and (root, id_) not in self._fresh
        return [{"type": f"{what}.removed", "id": id_}] if shown else []

    # --- the rest of what a document asks ------------------------------------------------------------------------

    def is_broken(self) -> bool:
        return self.tree.has_cycles

    def repair(self, view: View) -> None:
        for node, place in self.tree.repairs():
            view.shared(NODES)[node]["place"] = [place.parent, place.order]

    def is_full(self, index: Index) -> bool:
        return False

    def element(self, array: Any, type_id: Any) -> int | None:
        return None

    def extras(self) -> Mapping[str, Any]:
        return {}

    def to_plain(self) -> Any:
        nodes = [[node, *_place(self.tree, node), self.tree.is_trashed(node)] for node in self.tree.nodes()]
        records = [[root, id_, *item] for (root, id_), item in self.records.items()]
        return {"nodes": nodes, "records": records, "locks": self.locks.to_plain()}


def remembered(stored: Any) -> SceneMemory:
    """The inverse of `SceneMemory.to_plain`."""
    memory = SceneMemory()
    for node, parent, order, trashed in stored["nodes"]:
        memory.tree.place(node, parent, order)
        if trashed:
            memory.tree.trash(node)
    memory.records = {(root, id_): (client, clock) for root, id_, client, clock in stored["records"]}
    for node, actor in stored["locks"].items():
        memory.locks.set(node, actor)
    return memory


SCENE = Kind(
    "scene",
    dict.fromkeys((NODES, MATERIALS, COMMENTS, SETTINGS), pycrdt.Map),
    Role.COMMENTER,
    1,
    SceneMemory,
    remembered,
)


def _place(tree: Tree, node: str) -> tuple[str | None, str]:
    written = tree.written(node)
    return written.parent, written.order


_NEVER: frozenset[tuple[Parent, str | None]] = frozenset()


def _repeated(edits: Sequence[Edit]) -> set[tuple[Parent, str | None]]:
    """The keys that an op sets more than once, which takes several client ids: what shows, depends on these."""
    seen: set[tuple[Parent, str | None]] = set()
    more: set[tuple[Parent, str | None]] = set()
    for edit in edits:
        if edit.action is SET:
            place = (edit.parent, edit.key)
            (more if place in seen else seen).add(place)
    return more


def _rule(error: InvalidInput) -> str:
    """What was expected, without anything of what came: paths below a field hold the sender's keys."""
    if isinstance(error, SchemaError):
        return f"{'.'.join(error.path.split('.')[:2]).partition('[')[0]}: expected {error.expected}"
    return str(error).partition(", got ")[0]


def _gathered(edit: Edit, inside: _Inside, what: str | None) -> _Fields:
    """The fields of a map that the same update makes, with a node's slots."""
    fields: _Fields = {}
    ended: set[str] = set()
    for part in inside.get(edit.id, ()):
        key = str(part.key)
        if part.action is not SET:
            ended.add(key)  # one that was set and deleted again
            continue
        if key in fields:
            raise InvalidInput(f"{what or SLOTS}: expected each field once, got {key!r:.80} again")
        if (what, key) == ("node", SLOTS):
            _check_slots(part)
            fields[key] = _gathered(part, inside, None)
        else:
            _check_register(part, what or SLOTS, key)
            fields[key] = part.value
    for key in sorted(ended & fields.keys()):
        raise InvalidInput(f"{what or SLOTS}: expected each field to show, got {key!r:.80} set and ended in one op")
    return fields


def _check_slots(edit: Edit) -> None:
    if edit.type_ref != _MAP:
        raise InvalidInput(f"node.{SLOTS}: expected a shared map, got {edit.value!r:.80}")


def _check_register(edit: Edit, what: str, key: str) -> None:
    if edit.type_ref is not None:
        raise InvalidInput(f"{what}: expected plain values, got a shared type in {key!r:.80}")


def _check_record(what: str, id_: str, fields: _Fields) -> None:
    match what:
        case "node":
            schema.check_node(fields, id_)
        case "material":
            schema.check_material(fields)
        case _:
            schema.check_comment(fields, id_)


def _of_node(edit: Edit, key: str, node: str) -> Operation:
    match key:
        case "place":
            return MoveNode(node, edit.value[0])
        case "trashed":
            return RestoreNode(node) if edit.action is UNSET else TrashNode(node, edit.value["by"])
        case "locked":
            return LockNode(node)
        case _:
            return ChangeNode(node, key)


def _of_comment(edit: Edit, key: str, view: View) -> Operation:
    if key in ("author", "at", "parent"):
        raise InvalidInput(f"comment.{key}: expected it to stay as it was, got a change")
    comment = view.shared(edit.parent)
    author, node = (None, None) if comment is None else (comment.get("author"), comment.get("node"))
    return ChangeComment(author, key, node)


_REMOVALS: Mapping[str, Callable[[str, str | None], Operation]] = {
    NODES: RemoveNode,
    MATERIALS: RemoveMaterial,
    COMMENTS: RemoveComment,
}


def _new_parent(made: Edit | None, inside: _Inside) -> str | None:
    """The parent of a node that the op itself makes, as it says; None for the root, and for one that it does not."""
    if made is not None:
        for part in inside.get(made.id, ()):
            if part.key == "place" and isinstance(part.value, list) and part.value:
                return part.value[0] if isinstance(part.value[0], str) else None
    return None


_Told = dict[str, Edit | None]
"""Keys that an op touched, each with the edit whose value shows there; None when it has to be looked up."""


def _told_alone(edit: Edit, view: View) -> list[Change] | None:
    """What nearly every op does, a value that shows set at a key of a record; None for all others."""
    path = view.path(edit.parent)
    if len(path) != 2 or path[0] not in RECORDS or edit.type_ref is not None or not view.shows(edit):
        return None
    key = str(edit.key)
    return _changed(RECORDS[str(path[0])], str(path[1]), [key], {key: plain(edit.value)})


def _tell(told: _Told, key: str, edit: Edit, view: View) -> None:
    if edit.type_ref is None and view.shows(edit):
        told[key] = edit
    else:
        told.setdefault(key, None)


def _registers(told: _Told, find: Callable[[], Any]) -> _Fields | None:
    """What shows at the keys, those without a value left out; None when the record that `find` gives is gone."""
    fields = {key: plain(edit.value) for key, edit in told.items() if edit is not None}
    if len(fields) < len(told):
        record = find()
        if record is None:
            return None
        fields = {key: plain(record[key]) for key in told if key in record}
    return fields


def _changed(what: str, id_: str, keys: list[str], fields: _Fields) -> list[Change]:
    changes: list[Change] = []
    if what == "node" and "place" in keys:
        keys.remove("place")
        changes.append({"type": "node.moved", "id": id_, "place": fields.pop("place")})
    if what == "node" and "trashed" in keys:
        keys.remove("trashed")
        trashed = fields.pop("trashed", None)
        changes.append(
            {"type": "node.restored", "id": id_} if trashed is None else {"type": "node.trashed", "id": id_, **trashed}
        )
    if keys:
        changes.append(_set(f"{what}.changed", keys, fields, id=id_))
    return changes


def _set(kind: str, keys: Sequence[str], fields: _Fields, **about: str) -> Change:
    return {"type": kind, **about, "set": fields, "unset": [key for key in keys if key not in fields]}

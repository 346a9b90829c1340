"""Plain methods for a scene document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pycrdt

from maquette.engine.errors import InvalidInput, NotFound
from maquette.engine.ids import mint
from maquette.engine.kinds.kind import plain
from maquette.engine.kinds.scene import COMMENTS, MATERIALS, NODES, SETTINGS, SLOTS
from maquette.engine.scene import order, schema
from maquette.engine.scene.tree import Tree


class SceneWriter:
    """Edits a replica of a scene document as `actor`. `tree` is the effective tree of that replica.

    Every method checks what it is given and raises InvalidInput (SchemaError names the field) or NotFound before it
    writes anything. `clock` gives milliseconds since 1970.
    """

    def __init__(self, doc: pycrdt.Doc[Any], tree: Tree, actor: str, clock: Callable[[], int]) -> None:
        self._doc = doc
        self._tree = tree
        self._actor = actor
        self._clock = clock
        self._nodes: pycrdt.Map[Any] = doc.get(NODES, type=pycrdt.Map)
        self._materials: pycrdt.Map[Any] = doc.get(MATERIALS, type=pycrdt.Map)
        self._comments: pycrdt.Map[Any] = doc.get(COMMENTS, type=pycrdt.Map)
        self._settings: pycrdt.Map[Any] = doc.get(SETTINGS, type=pycrdt.Map)

    # --- nodes -----------------------------------------------------------------------------------------------------

    def add(
        self,
        type: str = "group",  # noqa: A002  (the field's name)
        name: str = "",
        *,
        parent: str | None = None,
        index: int | None = None,
        id: str | None = None,  # noqa: A002
        **fields: Any,
    ) -> str:
        """Add a node below `parent` (None: the root), at `index` among its siblings or last; return its id.

        `fields` are those of the schema; what is left out gets its default.
        """
        node = id or mint()
        place = self._place(parent, index)
        self.add_all({node: schema.new_node(type, name or type, place, **fields)})
        return node

    def add_all(self, nodes: Mapping[str, Mapping[str, Any]]) -> None:
        """Add whole nodes under their ids, in one op; their places name nodes that exist or are among them."""
        for node, fields in nodes.items():
            if node in self._nodes:
                raise InvalidInput(f"node: expected a fresh id, got {node!r}, which exists")
            schema.check_node(fields, node)
            self._check_parent(fields["place"][0], nodes)
        with self._doc.transaction():
            for node, fields in nodes.items():
                self._nodes[node] = pycrdt.Map(_shared(fields))

    def change(self, node: str, **fields: Any) -> None:
        """Set fields of a node; a field that is None is taken away, where it is optional."""
        record = self._node(node)
        if "place" in fields or "trashed" in fields:
            raise InvalidInput("node: expected move, trash or restore for the fields 'place' and 'trashed'")
        for key, value in fields.items():
            if value is None:
                schema.check_unset("node", key)
            else:
                schema.check_field("node", key, value)
        with self._doc.transaction():
            for key, value in fields.items():
                if key == SLOTS and value is not None:
                    self._set_slots(record, value)
                else:
                    _put(record, key, value)

    def move(self, node: str, parent: str | None = None, index: int | None = None) -> None:
        """Hang `node` below `parent` (None: the root), at `index` among its new siblings or last."""
        record = self._node(node)
        if parent is not None and self._tree.would_cycle(node, parent):
            raise InvalidInput(
                f"node.place: expected a parent outside of node {node!r}, got {parent!r}, which is in it"
            )
        record["place"] = list(self._place(parent, index, moving=node))

    def trash(self, node: str) -> None:
        """Put a node, and what hangs below it, into the trash."""
        self._node(node)["trashed"] = {"by": self._actor, "at": self._clock()}

    def restore(self, node: str) -> None:
        """Take a node out of the trash, where it was."""
        self._node(node).pop("trashed", None)

    def node(self, node: str) -> dict[str, Any]:
        """The fields of a node. Raises NotFound."""
        fields: dict[str, Any] = plain(self._node(node))
        return fields

    def nodes(self) -> dict[str, dict[str, Any]]:
        """All nodes by id, trashed ones too."""
        fields: dict[str, dict[str, Any]] = plain(self._nodes)
        return fields

    # --- materials, comments, settings -------------------------------------------------------------------------------

    def add_material(self, *, id: str | None = None, **fields: Any) -> str:  # noqa: A002
        """Add a material and return its id."""
        material = id or mint()
        self.add_materials({material: fields})
        return material

    def add_materials(self, materials: Mapping[str, Mapping[str, Any]]) -> None:
        """Add whole materials under their ids, in one op."""
        for material, fields in materials.items():
            if material in self._materials:
                raise InvalidInput(f"material: expected a fresh id, got {material!r}, which exists")
            schema.check_material(fields)
        with self._doc.transaction():
            for material, fields in materials.items():
                self._materials[material] = pycrdt.Map(dict(fields))

    def change_material(self, material: str, **fields: Any) -> None:
        """Set fields of a material; a field that is None falls back to the source's."""
        self._change("material", self._materials, material, fields)

    def comment(self, body: str, point: tuple[float, float, float], *, node: str | None = None, **fields: Any) -> str:
        """Pin a comment to a point (metres, in the node's own space, or the scene's without a node)."""
        comment = mint()
        whole = {
            "author": self._actor, "node": node, "point": list(point), "body": body, "at": self._clock(), **fields
        }  # fmt: skip
        schema.check_comment(whole, comment)
        self._comments[comment] = pycrdt.Map(whole)
        return comment

    def change_comment(self, comment: str, **fields: Any) -> None:
        """Set fields of a comment, such as `body` of one's own, or `resolved`."""
        self._change("comment", self._comments, comment, fields)

    def set(self, **settings: Any) -> None:
        """Set settings of the scene; None takes one away."""
        for key, value in settings.items():
            if value is not None:
                schema.check_field("settings", key, value)
        with self._doc.transaction():
            for key, value in settings.items():
                _put(self._settings, key, value)

    # --- the steps -------------------------------------------------------------------------------------------------

    def _change(self, what: schema.Kind, records: Any, id_: str, fields: Mapping[str, Any]) -> None:
        if id_ not in records:
            raise NotFound(what, id_)
        for key, value in fields.items():
            if value is None:
                schema.check_unset(what, key)
            else:
                schema.check_field(what, key, value)
        with self._doc.transaction():
            for key, value in fields.items():
                _put(records[id_], key, value)

    def _node(self, node: str) -> Any:
        record = self._nodes.get(node)
        if record is None:
            raise NotFound("node", node)
        return record

    def _check_parent(self, parent: str | None, among: Mapping[str, Any]) -> None:
        if parent is not None and parent not in self._nodes and parent not in among:
            raise InvalidInput(f"node.place: expected an existing parent, got {parent!r:.80}")

    def _place(self, parent: str | None, index: int | None, moving: str | None = None) -> tuple[str | None, str]:
        self._check_parent(parent, {})
        siblings = [self._tree.effective(node).order for node in self._tree.children(parent) if node != moving]
        return parent, order.at(siblings, len(siblings) if index is None else index)

    def _set_slots(self, record: Any, slots: Mapping[str, str]) -> None:
        if SLOTS not in record:
            record[SLOTS] = pycrdt.Map(dict(slots))
            return
        shared = record[SLOTS]
        for key in [key for key in shared.keys() if key not in slots]:  # noqa: SIM118  (not a dict)
            del shared[key]
        for key, material in slots.items():
            _put(shared, key, material)


def _shared(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: pycrdt.Map(dict(value)) if key == SLOTS else _listed(value) for key, value in fields.items()}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _put(record: Any, key: str, value: Any) -> None:
    """Set a register, or take it away; what is there already is not written again, because every write stays."""
    if value is None:
        record.pop(key, None)
    elif key not in record or record[key] != value:
        record[key] = _listed(value)

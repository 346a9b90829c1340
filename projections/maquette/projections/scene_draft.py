"""What a batch of events makes of one scene: rows are read when first touched, folded in memory, written at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, bindparam, select

from maquette.engine.scene.tree import Place, Tree
from maquette.projections.errors import UnreadableEvent
from maquette.projections.scene_tables import (
    Fields,
    comments,
    materials,
    metadata,
    node_fields,
    node_row,
    nodes,
    place_in,
    scenes,
)

Key = tuple[str, str]


def _is(table: Table) -> ColumnElement[bool]:
    columns = table.c
    return and_(
        columns.tenant == bindparam("tenant"), columns.space == bindparam("space"), columns.id == bindparam("id")
    )


# Statements are built once: building them costs more than running them.
FIND = {table.name: select(table).where(_is(table)) for table in (nodes, materials, comments)}
REMOVE = {table.name: table.delete().where(_is(table)) for table in (nodes, materials, comments)}


class Items:
    """The nodes, materials or comments of a scene that a batch touches, by id; None stands for one that is gone."""

    def __init__(self, connection: Connection, table: Table, key: Key) -> None:
        self._connection = connection
        self._table = table
        self._key = {"tenant": key[0], "space": key[1]}
        self._touched: dict[str, Fields | None] = {}
        self._changed: set[str] = set()

    def add(self, item: str, fields: object) -> None:
        """Give the scene an item; one of that id before is replaced."""
        self._put(item, _map(self._table.name, fields))

    def change(self, item: str, new: object, unset: Sequence[str]) -> None:
        """Set and unset fields of an item. Raises UnreadableEvent when there is none."""
        fields = self._get(item)
        if fields is None:
            raise UnreadableEvent(f"expected a known id in {self._table.name}, got {item!r:.80}")
        kept = {name: value for name, value in fields.items() if name not in unset}
        self._put(item, kept | _map(self._table.name, new))

    def remove(self, item: str) -> None:
        """Take an item out, when it is there."""
        self._touched[item] = None
        self._changed.add(item)

    def write(self) -> None:
        """Bring the table up to what was folded."""
        gone = [self._row(item) for item in self._changed if self._touched[item] is None]
        here = [item for item in self._changed if self._touched[item] is not None]
        if gone:
            self._connection.execute(REMOVE[self._table.name], gone)
        if here:
            rows = [self._row(item) | self._columns(item, self._touched[item] or {}) for item in here]
            self._connection.execute(self._table.insert().prefix_with("OR REPLACE"), rows)

    def _get(self, item: str) -> Fields | None:
        if item not in self._touched:
            row = self._connection.execute(FIND[self._table.name], self._row(item)).first()
            self._touched[item] = None if row is None else self._fields(row)
        return self._touched[item]

    def _put(self, item: str, fields: Fields) -> None:
        self._touched[item] = fields
        self._changed.add(item)

    def _row(self, item: str) -> Fields:
        return self._key | {"id": item}

    def _columns(self, item: str, fields: Fields) -> Fields:
        return {"fields": fields}

    def _fields(self, row: Row[tuple[Any, ...]]) -> Fields:
        fields: Fields = row.fields
        return fields


class Nodes(Items):
    """Nodes also have places: the tree follows them, and the nodes that hang elsewhere now are written too."""

    def __init__(self, connection: Connection, key: Key, tree: Tree) -> None:
        super().__init__(connection, nodes, key)
        self.tree = tree
        self._moved: set[str] = set()

    def remove(self, item: str) -> None:
        """Take a node out; its children hang from the root."""
        super().remove(item)
        self._moved.update(self.tree.remove(item))

    def write(self) -> None:
        """Bring the table up to what was folded, effective parents included."""
        super().write()
        moved = [node for node in self._moved - self._changed if node in self.tree]
        if moved:
            rows = [{"of": node, "above": self.tree.parent(node)} for node in moved]
            table = nodes.c
            where = table.tenant == self._key["tenant"], table.space == self._key["space"]
            update = nodes.update().where(*where, table.id == bindparam("of"))
            self._connection.execute(update.values(effective_parent=bindparam("above")), rows)

    def _put(self, item: str, fields: Fields) -> None:
        parent, order = place_in(fields)
        if item not in self.tree or self.tree.written(item) != Place(parent, order):
            self._moved.update(self.tree.place(item, parent, order))
        super()._put(item, fields)

    def _columns(self, item: str, fields: Fields) -> Fields:
        return node_row(fields) | {"effective_parent": self.tree.parent(item)}

    def _fields(self, row: Row[tuple[Any, ...]]) -> Fields:
        return node_fields(row)


class SceneDraft:
    """One scene within one batch, at `epoch`; 0 stands for a scene without an epoch yet."""

    def __init__(self, connection: Connection, key: Key, epoch: int, tree: Tree) -> None:
        self.epoch = epoch
        self.nodes = Nodes(connection, key, tree)
        self.materials = Items(connection, materials, key)
        self.comments = Items(connection, comments, key)
        self._connection = connection
        self._key = {"tenant": key[0], "space": key[1]}
        self._settings: Fields | None = None

    @classmethod
    def fresh(cls, connection: Connection, key: Key, epoch: int, tree: Tree) -> SceneDraft:
        """An empty scene at `epoch`; what was there before is taken out of the tables."""
        for table in metadata.sorted_tables:
            connection.execute(table.delete().filter_by(tenant=key[0], space=key[1]))
        row = {"tenant": key[0], "space": key[1], "epoch": epoch, "settings": {}}
        connection.execute(scenes.insert(), row)
        return cls(connection, key, epoch, tree)

    def take_place_of(self, key: Key) -> None:
        """Let what this draft has written be the scene under `key`, in the place of what was there."""
        for table in metadata.sorted_tables:
            self._connection.execute(table.delete().filter_by(tenant=key[0], space=key[1]))
            self._connection.execute(table.update().filter_by(**self._key).values(space=key[1]))

    def set(self, new: object, unset: Sequence[str]) -> None:
        """Set and unset settings of the scene."""
        if self._settings is None:
            row = self._connection.execute(select(scenes.c.settings).filter_by(**self._key)).first()
            self._settings = {} if row is None else row.settings
        kept = {name: value for name, value in self._settings.items() if name not in unset}
        self._settings = kept | _map("settings", new)

    def write(self) -> None:
        """Bring the tables up to what was folded."""
        for items in (self.nodes, self.materials, self.comments):
            items.write()
        if self._settings is not None:
            self._connection.execute(scenes.update().filter_by(**self._key).values(settings=self._settings))


def _map(what: str, value: object) -> Fields:
    if not isinstance(value, Mapping):
        raise UnreadableEvent(f"{what}: expected a map of fields, got {value!r:.80}")
    return dict(value)

"""The tables of the scene graph, and how a node's fields lie in them.

A node is stored without repetition: what is asked for often has columns, the rest is one JSON object (`fields`).
A column that is NULL stands for a field that the node does not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, MetaData, Row, Table, Text

from maquette.projections.changes import milliseconds
from maquette.projections.errors import UnreadableEvent

Fields = dict[str, Any]

metadata = MetaData()

scenes = Table(
    "scenes",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("space", Text, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("settings", JSON, nullable=False),
)

nodes = Table(
    "nodes",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("space", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("name", Text),
    Column("type", Text),
    Column("parent", Text),  # as written
    Column("sibling_order", Text, nullable=False),
    Column("effective_parent", Text),  # as shown: see maquette.engine.scene.tree
    Column("trashed_by", Text),
    Column("trashed_at", BigInteger),
    Column("translation", JSON(none_as_null=True)),
    Column("rotation", JSON(none_as_null=True)),
    Column("scale", JSON(none_as_null=True)),
    Column("fields", JSON, nullable=False),
    Index("nodes_by_parent", "tenant", "space", "effective_parent", "sibling_order", "id"),
)

materials = Table(
    "materials",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("space", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("fields", JSON, nullable=False),
)

comments = Table(
    "comments",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("space", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("fields", JSON, nullable=False),
)

PLAIN = ("name", "type", "translation", "rotation", "scale")
"""The fields of a node that are columns under the same name."""


def node_row(fields: Mapping[str, Any]) -> Fields:
    """The columns for a node's fields, but for its key and its effective parent. Raises UnreadableEvent."""
    parent, order = place_in(fields)
    by, at = _trashed_in(fields)
    rest = {name: value for name, value in fields.items() if name not in (*PLAIN, "place", "trashed")}
    row = {name: fields.get(name) for name in PLAIN}
    return row | {
        "parent": parent,
        "sibling_order": order,
        "trashed_by": by,
        "trashed_at": at,
        "fields": rest,
    }


def node_fields(row: Row[tuple[Any, ...]]) -> Fields:
    """The inverse of `node_row`: the node's fields as its document holds them."""
    fields: Fields = {name: value for name in PLAIN if (value := getattr(row, name)) is not None}
    fields["place"] = [row.parent, row.sibling_order]
    if row.trashed_by is not None:
        fields["trashed"] = {"by": row.trashed_by, "at": row.trashed_at}
    return {**fields, **row.fields}


def place_in(fields: Mapping[str, Any]) -> tuple[str | None, str]:
    """The parent and order that a node's place names. Raises UnreadableEvent."""
    match fields.get("place"):
        case [str() | None as parent, str(order)]:
            return parent, order
    raise UnreadableEvent(f"node: expected a place [parent id or None, order], got {fields.get('place')!r:.80}")


def _trashed_in(fields: Mapping[str, Any]) -> tuple[str | None, int | None]:
    match fields.get("trashed"):
        case None:
            return None, None
        case {"by": str(by), "at": at}:
            return by, milliseconds(at)
    raise UnreadableEvent(f"node: expected trashed {{by, at}}, got {fields['trashed']!r:.80}")

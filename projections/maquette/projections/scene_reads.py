"""What can be asked of the scene graph. World matrices are made at read: an edit moves whole subtrees at no cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, Text, cast, select, tuple_

from maquette.engine.errors import InvalidInput, NotFound
from maquette.engine.scene.geometry import Floats, local_matrices, world_matrices
from maquette.projections.scene_graph import SceneGraph
from maquette.projections.scene_tables import Fields, comments, materials, node_fields, nodes, scenes
from maquette.projections.view import View

MAX_PAGE = 1000
"""The most nodes, materials or comments in one answer."""

IDENTITY: Fields = {"translation": [0, 0, 0], "rotation": [0, 0, 0, 1], "scale": [1, 1, 1]}


@dataclass(frozen=True, slots=True)
class Scene:
    """A space's scene: the epoch that is shown, and the settings."""

    epoch: int
    settings: Fields


@dataclass(frozen=True, slots=True)
class Node:
    """A node: its fields as the document holds them, the parent from which it is shown, None for the root.

    `hidden`: it or one of its effective ancestors is trashed.
    """

    id: str
    fields: Fields
    parent: str | None
    hidden: bool


class SceneReads:
    """Reads of the scene graph in `view`, the runner's view called `scene_graph`."""

    def __init__(self, view: View) -> None:
        if view.name != SceneGraph.name:
            raise InvalidInput(f"expected the view {SceneGraph.name!r}, got {view.name!r}")
        self._view = view

    async def scene(self, tenant: str, space: str) -> Scene:
        """The scene of a space. Raises NotFound before its first event."""
        return await self._view.read(partial(_scene, tenant, space))

    async def nodes(self, tenant: str, space: str, *, after: str | None = None, limit: int = 200) -> list[Node]:
        """Up to `limit` nodes by id, from behind the id `after`, trashed ones too.

        Raises InvalidInput for a limit out of 1 to MAX_PAGE.
        """
        wanted = [] if after is None else [nodes.c.id > after]
        return await self._view.read(partial(_nodes, tenant, space, wanted, (nodes.c.id,), _checked(limit)))

    async def children(
        self, tenant: str, space: str, parent: str | None, *, after: str | None = None, limit: int = 200
    ) -> list[Node]:
        """Up to `limit` effective children of `parent`, None for the root, in order, from behind the child `after`.

        Raises NotFound for a parent or a child that is not there, InvalidInput as `nodes` does.
        """
        return await self._view.read(partial(_children, tenant, space, parent, after, _checked(limit)))

    async def node(self, tenant: str, space: str, node: str) -> Node:
        """One node, which may be trashed. Raises NotFound."""
        return await self._view.read(partial(_node, tenant, space, node))

    async def world_matrices(self, tenant: str, space: str, wanted: Sequence[str] | None = None) -> dict[str, Floats]:
        """World matrices (4, 4) by node, of the nodes `wanted` or of all; as in `maquette.engine.scene.geometry`.

        Raises NotFound for a node that is not there.
        """
        return await self._view.read(partial(_world_matrices, tenant, space, wanted))

    async def materials(
        self, tenant: str, space: str, *, after: str | None = None, limit: int = 200
    ) -> dict[str, Fields]:
        """Up to `limit` materials by id, from behind the id `after`. Raises as `nodes` does."""
        return await self._view.read(partial(_items, materials, tenant, space, after, _checked(limit)))

    async def comments(
        self, tenant: str, space: str, *, after: str | None = None, limit: int = 200
    ) -> dict[str, Fields]:
        """Up to `limit` comments by id, from behind the id `after`. Raises as `nodes` does."""
        return await self._view.read(partial(_items, comments, tenant, space, after, _checked(limit)))

    async def names_asset(self, tenant: str, space: str, asset: str) -> bool:
        """Whether a node, a material or a setting of the scene names the asset."""
        return await self._view.read(partial(_names_asset, tenant, space, asset))


def _checked(limit: int) -> int:
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidInput(f"limit: expected 1 to {MAX_PAGE}, got {limit}")
    return limit


def _within(table: Table, tenant: str, space: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return table.c.tenant == tenant, table.c.space == space


def _scene(tenant: str, space: str, connection: Connection) -> Scene:
    row = connection.execute(select(scenes).where(*_within(scenes, tenant, space))).first()
    if row is None:
        raise NotFound("scene", f"{tenant}/{space}")
    return Scene(row.epoch, row.settings)


def _nodes(
    tenant: str,
    space: str,
    wanted: Sequence[ColumnElement[bool]],
    order: Sequence[ColumnElement[Any]],
    limit: int,
    connection: Connection,
) -> list[Node]:
    found = select(nodes).where(*_within(nodes, tenant, space), *wanted).order_by(*order).limit(limit)
    rows = connection.execute(found).all()
    hidden = _hidden(connection, tenant, space, [row.id for row in rows])
    return [Node(row.id, node_fields(row), row.effective_parent, row.id in hidden) for row in rows]


def _node(tenant: str, space: str, node: str, connection: Connection) -> Node:
    found = _nodes(tenant, space, [nodes.c.id == node], (nodes.c.id,), 1, connection)
    if not found:
        raise NotFound("node", node)
    return found[0]


def _children(
    tenant: str, space: str, parent: str | None, after: str | None, limit: int, connection: Connection
) -> list[Node]:
    if parent is not None:
        _node(tenant, space, parent, connection)
    order = (nodes.c.sibling_order, nodes.c.id)
    wanted: list[ColumnElement[bool]] = [nodes.c.effective_parent.is_not_distinct_from(parent)]
    if after is not None:
        last = _node(tenant, space, after, connection)
        wanted.append(tuple_(*order) > (last.fields["place"][1], after))
    return _nodes(tenant, space, wanted, order, limit, connection)


def _hidden(connection: Connection, tenant: str, space: str, ids: Sequence[str]) -> set[str]:
    """Which of `ids` are trashed, or hang below a node that is."""
    above = _ancestry(connection, tenant, space, ids)
    hidden = set()
    for node in ids:
        at: str | None = node
        while at is not None and above[at].trashed_by is None:
            at = above[at].effective_parent
        if at is not None:
            hidden.add(node)
    return hidden


def _ancestry(connection: Connection, tenant: str, space: str, ids: Sequence[str]) -> dict[str, Row[tuple[Any, ...]]]:
    """The rows of `ids` and of all their effective ancestors, by id."""
    found: dict[str, Row[tuple[Any, ...]]] = {}
    within = _within(nodes, tenant, space)
    for some in _portions(ids):
        start = select(nodes.c.id, nodes.c.effective_parent).where(*within, nodes.c.id.in_(some)).cte(recursive=True)
        up = start.union(
            select(nodes.c.id, nodes.c.effective_parent).where(*within, nodes.c.id == start.c.effective_parent)
        )
        rows = connection.execute(select(nodes).where(*within, nodes.c.id.in_(select(up.c.id))))
        found.update({row.id: row for row in rows})
    return found


def _portions(ids: Sequence[str], size: int = 500) -> list[Sequence[str]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def _world_matrices(tenant: str, space: str, wanted: Sequence[str] | None, connection: Connection) -> dict[str, Floats]:
    if wanted is None:
        rows = connection.execute(select(nodes).where(*_within(nodes, tenant, space)).order_by(nodes.c.id)).all()
    else:
        found = _ancestry(connection, tenant, space, wanted)
        for node in wanted:
            if node not in found:
                raise NotFound("node", node)
        rows = list(found.values())
    index = {row.id: at for at, row in enumerate(rows)}
    parents = [-1 if row.effective_parent is None else index[row.effective_parent] for row in rows]
    world = world_matrices(parents, local_matrices([IDENTITY | node_fields(row) for row in rows]))
    return {node: world[index[node]] for node in (index if wanted is None else wanted)}


def _items(
    table: Table, tenant: str, space: str, after: str | None, limit: int, connection: Connection
) -> dict[str, Fields]:
    found = select(table.c.id, table.c.fields).where(*_within(table, tenant, space)).order_by(table.c.id).limit(limit)
    if after is not None:
        found = found.where(table.c.id > after)
    return {row.id: row.fields for row in connection.execute(found)}


def _names_asset(tenant: str, space: str, asset: str, connection: Connection) -> bool:
    for table, column in ((nodes, nodes.c.fields), (materials, materials.c.fields), (scenes, scenes.c.settings)):
        # an asset's id stands in JSON as it is; `contains` finds it without reading every row into Python
        named = cast(column, Text).contains(f'"{asset}"', autoescape=True)
        if connection.execute(select(table.c.tenant).where(*_within(table, tenant, space), named).limit(1)).first():
            return True
    return False

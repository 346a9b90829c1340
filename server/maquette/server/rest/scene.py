"""The scene of a space over HTTP: nodes written through the gate, read from the scene graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from maquette.engine.scene.geometry import to_gltf
from maquette.engine.writers.scene import SceneWriter
from maquette.projections import scene_reads
from maquette.projections.scene_graph import SceneGraph
from maquette.server.bodies import JsonRoute
from maquette.server.rest.access import Access, Body, Entered, Wait, Written
from maquette.server.rest.chat import ID

MAX_PAGE = 1000

router = APIRouter(prefix="/v1/spaces/{space}/scene", tags=["scene"], route_class=JsonRoute)

Reference = Annotated[str, Field(pattern=ID)]
NodeId = Annotated[str, Path(pattern=ID, description="The node's id.", examples=["9aBcDeFgH12"])]
ItemId = Annotated[str, Path(pattern=ID)]
After = Annotated[str | None, Query(pattern=ID, description="Only what comes behind this id.")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Numbers = list[float]
Matrix = Annotated[
    list[float | None], Field(description="16 numbers, column by column (glTF 2.0, 3.5.3); null where one is infinite.")
]


class NodeFields(Body):
    """Fields of a node. The engine's schema judges each; null takes an optional field away."""

    name: str | None = Field(None, examples=["Fox"])
    translation: Numbers | None = Field(None, description="Metres, in the parent's space.", examples=[[0, 0.5, 0]])
    rotation: Numbers | None = Field(None, description="A unit quaternion, xyzw.", examples=[[0, 0, 0, 1]])
    scale: Numbers | None = Field(None, examples=[[1, 1, 1]])
    matrix: Numbers | None = Field(None, description="16 numbers, for what has no exact translation-rotation-scale.")
    visible: bool | None = None
    locked: bool | None = None
    mesh: list[Any] | dict[str, Any] | None = Field(
        None, description="[asset id, mesh index], or a shape with its parameters.", examples=[{"shape": "box"}]
    )
    slots: dict[str, str] | None = Field(None, description="Primitive → material id.", examples=[{"0": "m1"}])
    light: dict[str, Any] | None = Field(None, description="The fields of KHR_lights_punctual.")
    camera: dict[str, Any] | None = Field(None, description="The fields of a glTF camera.")
    text: dict[str, Any] | None = None
    weights: Numbers | None = None
    extras: Any = None


class NewNode(NodeFields):
    """A node that shall be added; what is left out gets its default."""

    type: Literal["group", "mesh", "light", "camera", "text"] = "group"
    parent: Reference | None = Field(None, description="Null: the root.")
    index: int | None = Field(None, ge=0, description="Among the siblings; null: last.")


class NodePlace(Body):
    """Where a node shall hang."""

    parent: Reference | None = Field(description="Null: the root.", examples=[None])
    index: int | None = Field(None, ge=0, description="Among the new siblings; null: last.")


class MaterialFields(Body):
    """Fields of a material. One that is set overrides the source's; null falls back to it."""

    name: str | None = None
    base_color: Numbers | None = Field(None, description="RGBA, linear, 0 to 1.", examples=[[0.8, 0.1, 0.1, 1]])
    metallic: float | None = None
    roughness: float | None = None
    emissive: Numbers | None = Field(None, description="RGB, linear.")
    alpha_mode: Literal["OPAQUE", "MASK", "BLEND"] | None = None
    alpha_cutoff: float | None = None
    double_sided: bool | None = None
    extras: Any = None


class NewComment(Body):
    """A comment that shall be pinned to a point."""

    body: str = Field(examples=["Too dark here?"])
    point: Numbers = Field(description="Metres, in the node's own space, or the scene's.", examples=[[0, 1, 0]])
    node: Reference | None = None
    normal: Numbers | None = None
    parent: Reference | None = Field(None, description="The comment that this one answers.")


class CommentFields(Body):
    """Fields of a comment that change: the body of one's own, or `resolved`."""

    body: str | None = None
    resolved: bool | None = None


class NodeOut(BaseModel):
    """A node as it stands."""

    id: str = Field(examples=["9aBcDeFgH12"])
    parent: str | None = Field(description="The parent below which it is shown; null: the root.", examples=[None])
    hidden: bool = Field(description="It or a node above it is in the trash.", examples=[False])
    fields: dict[str, Any] = Field(
        description="Its fields as the document holds them (docs/spec.md).",
        examples=[{"name": "Fox", "type": "mesh", "place": [None, "V0Ab"], "translation": [0, 0, 0]}],
    )


class PlacedNode(NodeOut):
    """A node with its world matrix."""

    world: Matrix


class NodesOut(BaseModel):
    """A part of the nodes. `after` is null at the end."""

    nodes: list[NodeOut]
    after: str | None


class ItemsOut(BaseModel):
    """Materials or comments by id. `after` is null at the end."""

    items: dict[str, dict[str, Any]]
    after: str | None


class SceneOut(BaseModel):
    """The scene as a whole."""

    epoch: int
    settings: dict[str, Any]


class MatricesOut(BaseModel):
    """World matrices by node."""

    matrices: dict[str, Matrix]


# --- reading -------------------------------------------------------------------------------------------------------


@router.get("")
async def get_scene(access: Entered, wait: Wait = None) -> SceneOut:
    """The epoch and the settings of the scene."""
    await access.services.reach(SceneGraph.name, wait)
    scene = await access.services.scene.scene(*access.where)
    return SceneOut(epoch=scene.epoch, settings=scene.settings)


@router.get("/nodes")
async def list_nodes(
    access: Entered,
    parent: Annotated[
        str | None, Query(description="Only the children of this node, in order; empty: of the root.")
    ] = None,
    after: After = None,
    limit: Limit = 200,
    wait: Wait = None,
) -> NodesOut:
    """All nodes by id, or the children of one in their order; those in the trash too."""
    await access.services.reach(SceneGraph.name, wait)
    reads = access.services.scene
    if parent is None:
        found = await reads.nodes(*access.where, after=after, limit=limit)
    else:
        found = await reads.children(*access.where, parent or None, after=after, limit=limit)
    return NodesOut(nodes=[_node(node) for node in found], after=found[-1].id if len(found) == limit else None)


@router.get("/nodes/{node}")
async def get_node(access: Entered, node: NodeId, wait: Wait = None) -> PlacedNode:
    """One node with its world matrix."""
    await access.services.reach(SceneGraph.name, wait)
    reads = access.services.scene
    found = await reads.node(*access.where, node)
    world = await reads.world_matrices(*access.where, [node])
    return PlacedNode(**dict(_node(found)), world=_numbers(world[node]))


@router.get("/matrices")
async def get_matrices(
    access: Entered,
    node: Annotated[list[Annotated[str, Field(pattern=ID)]] | None, Query(max_length=MAX_PAGE)] = None,
    wait: Wait = None,
) -> MatricesOut:
    """The world matrices of the nodes named by `node`, which can be repeated, or of all."""
    await access.services.reach(SceneGraph.name, wait)
    found = await access.services.scene.world_matrices(*access.where, node)
    return MatricesOut(matrices={id_: _numbers(matrix) for id_, matrix in found.items()})


@router.get("/materials")
async def list_materials(access: Entered, after: After = None, limit: Limit = 200, wait: Wait = None) -> ItemsOut:
    """The materials by id."""
    await access.services.reach(SceneGraph.name, wait)
    return _items(await access.services.scene.materials(*access.where, after=after, limit=limit), limit)


@router.get("/comments")
async def list_comments(access: Entered, after: After = None, limit: Limit = 200, wait: Wait = None) -> ItemsOut:
    """The comments by id."""
    await access.services.reach(SceneGraph.name, wait)
    return _items(await access.services.scene.comments(*access.where, after=after, limit=limit), limit)


def _node(node: scene_reads.Node) -> NodeOut:
    return NodeOut(id=node.id, parent=node.parent, hidden=node.hidden, fields=node.fields)


def _numbers(matrix: Any) -> list[float | None]:
    numbers: list[float] = to_gltf(matrix).tolist()
    return [number if abs(number) < float("inf") else None for number in numbers]


def _items(found: dict[str, dict[str, Any]], limit: int) -> ItemsOut:
    return ItemsOut(items=found, after=list(found)[-1] if len(found) == limit else None)


# --- writing nodes -------------------------------------------------------------------------------------------------


@router.post("/nodes", status_code=201)
async def add_node(access: Entered, new: NewNode) -> Written:
    """Add a node. Takes the role editor, as all that writes nodes."""
    given = {key: value for key, value in _given(new).items() if value is not None}
    return await _make(access, lambda scene: scene.add(**given))


@router.patch("/nodes/{node}")
async def change_node(access: Entered, node: NodeId, fields: NodeFields) -> Written:
    """Set fields of a node, slots included; what is left out stays."""
    return await _change(access, node, lambda scene: scene.change(node, **_given(fields)))


@router.post("/nodes/{node}/move")
async def move_node(access: Entered, node: NodeId, place: NodePlace) -> Written:
    """Hang a node below another parent, or at another place among its siblings."""
    return await _change(access, node, lambda scene: scene.move(node, place.parent, place.index))


@router.delete("/nodes/{node}")
async def trash_node(access: Entered, node: NodeId) -> Written:
    """Put a node, and what hangs below it, into the trash."""
    return await _change(access, node, lambda scene: scene.trash(node))


@router.post("/nodes/{node}/restore")
async def restore_node(access: Entered, node: NodeId) -> Written:
    """Take a node out of the trash, where it was."""
    return await _change(access, node, lambda scene: scene.restore(node))


# --- writing materials and comments --------------------------------------------------------------------------------


@router.post("/materials", status_code=201)
async def add_material(access: Entered, new: MaterialFields) -> Written:
    """Add a material; nodes name it in their slots."""
    given = {key: value for key, value in _given(new).items() if value is not None}
    return await _make(access, lambda scene: scene.add_material(**given))


@router.patch("/materials/{material}")
async def change_material(access: Entered, material: ItemId, fields: MaterialFields) -> Written:
    """Set fields of a material."""
    return await _change(access, material, lambda scene: scene.change_material(material, **_given(fields)))


@router.post("/comments", status_code=201)
async def add_comment(access: Entered, new: NewComment) -> Written:
    """Pin a comment to a point. Takes the role commenter."""
    given = {key: value for key, value in _given(new).items() if value is not None}
    return await _make(access, lambda scene: scene.comment(given.pop("body"), given.pop("point"), **given))


@router.patch("/comments/{comment}")
async def change_comment(access: Entered, comment: ItemId, fields: CommentFields) -> Written:
    """Change the body of your own comment, or whether a discussion is resolved."""
    return await _change(access, comment, lambda scene: scene.change_comment(comment, **_given(fields)))


def _given(fields: Body) -> dict[str, Any]:
    return {name: getattr(fields, name) for name in type(fields).model_fields if name in fields.model_fields_set}


async def _make(access: Access, edit: Callable[[SceneWriter], str]) -> Written:
    made, position = await _write(access, edit)
    return Written(id=made, position=position)


async def _change(access: Access, id_: str, edit: Callable[[SceneWriter], None]) -> Written:
    _, position = await _write(access, edit)
    return Written(id=id_, position=position)


async def _write(access: Access, edit: Callable[[SceneWriter], Any]) -> tuple[Any, str]:
    return await access.written(lambda: access.space.write_scene(access.actor, access.role, edit))

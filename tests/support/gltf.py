"""Small glTF files made in code, by a writer of their own: what the importer reads was not written by the exporter."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from maquette.engine.errors import NotFound
from maquette.engine.scene.tree import Tree

Json = dict[str, Any]

COMPONENTS = {"uint8": 5121, "uint16": 5123, "uint32": 5125, "float32": 5126}
SHAPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (16,): "MAT4"}


class Builder:
    """Collects a glTF root and its one buffer."""

    def __init__(self) -> None:
        self.root: Json = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": []}]}
        self.binary = bytearray()

    def add(self, kind: str, **item: Any) -> int:
        self.root.setdefault(kind, []).append(item)
        return len(self.root[kind]) - 1

    def node(self, *, root: bool = False, **item: Any) -> int:
        index = self.add("nodes", **item)
        if root:
            self.root["scenes"][0]["nodes"].append(index)
        return index

    def view(self, data: bytes, **fields: Any) -> int:
        self.binary += bytes(-len(self.binary) % 4)
        offset = len(self.binary)
        self.binary += data
        return self.add("bufferViews", buffer=0, byteOffset=offset, byteLength=len(data), **fields)

    def accessor(self, values: Any, dtype: str = "float32", *, bounds: bool = False, **fields: Any) -> int:
        array = np.array(values, dtype)
        item: Json = {"componentType": COMPONENTS[dtype], "count": len(array), "type": SHAPES[array.shape[1:]]}
        if bounds:
            item |= {"min": np.atleast_1d(array.min(0)).tolist(), "max": np.atleast_1d(array.max(0)).tolist()}
        return self.add("accessors", bufferView=self.view(array.tobytes()), **item, **fields)

    def extend(self, *names: str, required: bool = False) -> None:
        self.root.setdefault("extensionsUsed", []).extend(names)
        if required:
            self.root.setdefault("extensionsRequired", []).extend(names)

    def finished(self) -> Json:
        self.binary += bytes(-len(self.binary) % 4)
        buffers = [{"byteLength": len(self.binary)}] if self.binary else []
        return {**self.root, "buffers": [*buffers, *self.root.get("buffers", [])]} if buffers else self.root

    def glb(self) -> bytes:
        return glb(self.finished(), bytes(self.binary))

    def gltf(self) -> bytes:
        root = json.loads(json.dumps(self.finished()))
        root["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(self.binary).decode()
        return json.dumps(root).encode()


def glb(root: Mapping[str, Any], binary: bytes = b"") -> bytes:
    """A GLB of a JSON root and a BIN chunk."""
    text = json.dumps(root).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    if binary:
        chunks += struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def parts(data: bytes) -> tuple[Json, bytes]:
    """JSON root and BIN chunk of a GLB, read by the shortest code that can."""
    length = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def values(data: bytes, accessor: int) -> list[Any]:
    """The elements of a tightly packed accessor of a GLB."""
    root, binary = parts(data)
    item = root["accessors"][accessor]
    view = root["bufferViews"][item["bufferView"]]
    dtype = next(name for name, number in COMPONENTS.items() if number == item["componentType"])
    shape = next(shape for shape, name in SHAPES.items() if name == item["type"])
    start = view.get("byteOffset", 0) + item.get("byteOffset", 0)
    found = np.frombuffer(binary, dtype, item["count"] * int(np.prod(shape)), start)
    return found.reshape(item["count"], *shape).tolist()  # type: ignore[no-any-return]  # numpy says Any


def no_assets(asset: str) -> bytes:
    """The assets of a scene that has none."""
    raise NotFound("asset", asset)


def tree_of(nodes: Mapping[str, Json]) -> Tree:
    """The effective tree of a scene's nodes."""
    tree = Tree()
    for node, fields in nodes.items():
        tree.place(node, *fields["place"])
        if "trashed" in fields:
            tree.trash(node)
    return tree


def comparable(nodes: Mapping[str, Json]) -> Json:
    """The nodes without what every import makes anew: orders, and where in which asset they came from."""
    tree = tree_of(nodes)
    left_out = ("place", "source", "mesh")
    return {
        node: {field: value for field, value in fields.items() if field not in left_out}
        | {"children": tree.children(node), "has mesh": "mesh" in fields}
        for node, fields in nodes.items()
    }


# --- files -------------------------------------------------------------------------------------------------------

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

CORNERS = [[0, 0, 0], [1, 0, 0], [0, 1, 0]]


def triangle() -> Builder:
    """One node, one mesh of one triangle, one material."""
    made = Builder()
    red = made.add("materials", name="Red", pbrMetallicRoughness={"baseColorFactor": [1, 0, 0, 1]})
    primitive = {
        "attributes": {"POSITION": made.accessor(CORNERS, bounds=True)},
        "indices": made.accessor([0, 1, 2], "uint16"),
        "material": red,
    }
    made.node(root=True, name="Triangle", mesh=made.add("meshes", name="Mesh", primitives=[primitive]))
    return made


def textured() -> Builder:
    """The triangle with two textures over one image; one of them by KHR_texture_transform, one in an extension."""
    made = triangle()
    made.extend("KHR_texture_transform", "KHR_materials_clearcoat")
    image = made.add("images", bufferView=made.view(PNG), mimeType="image/png")
    sampler = made.add("samplers", wrapS=33071)
    for _ in range(2):
        made.add("textures", source=image, sampler=sampler)
    primitive = made.root["meshes"][0]["primitives"][0]
    primitive["attributes"]["TEXCOORD_0"] = made.accessor([[0, 0], [1, 0], [0, 1]])
    transform = {"KHR_texture_transform": {"offset": [0, 1], "rotation": 1, "scale": [2, 2], "texCoord": 0}}
    material = made.root["materials"][0]
    material["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 1, "texCoord": 0, "extensions": transform}
    material["extensions"] = {"KHR_materials_clearcoat": {"clearcoatFactor": 1, "clearcoatTexture": {"index": 0}}}
    return made


def skinned() -> Builder:
    """A strip of two joints with an animation that turns the second and moves the first."""
    made = Builder()
    corners = [[x, y, 0] for y in (0, 1, 2) for x in (0, 1)]
    primitive = {
        "attributes": {
            "POSITION": made.accessor(corners, bounds=True),
            "JOINTS_0": made.accessor([[0, 1, 0, 0]] * 6, "uint8"),
            "WEIGHTS_0": made.accessor([[1 - y / 2, y / 2, 0, 0] for _, y, _ in corners]),
        },
        "indices": made.accessor([0, 1, 2, 2, 1, 3, 2, 3, 4, 4, 3, 5], "uint16"),
    }
    tip = made.node(name="Tip", translation=[0, 1, 0])
    base = made.node(root=True, name="Base", children=[tip])
    unit = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    matrices = made.accessor([unit, [*unit[:13], -1, 0, 1]])
    skin = made.add("skins", joints=[base, tip], skeleton=base, inverseBindMatrices=matrices)
    made.node(root=True, name="Strip", mesh=made.add("meshes", primitives=[primitive]), skin=skin)
    times = made.accessor([0, 1], bounds=True)
    made.add(
        "animations",
        name="Bend",
        samplers=[
            {"input": times, "output": made.accessor([[0, 0, 0, 1], [0, 0, 0.6, 0.8]])},
            {"input": times, "output": made.accessor([[0, 0, 0], [0, 3, 0]])},
        ],
        channels=[
            {"sampler": 0, "target": {"node": tip, "path": "rotation"}},
            {"sampler": 1, "target": {"node": base, "path": "translation"}},
        ],
    )
    return made


def morphing() -> Builder:
    """The triangle with two morph targets, weights on mesh and node, and their animation."""
    made = triangle()
    mesh = made.root["meshes"][0]
    mesh["primitives"][0]["targets"] = [{"POSITION": made.accessor([[0, 0, z]] * 3, bounds=True)} for z in (1, 2)]
    mesh["weights"] = [0, 0.5]
    made.root["nodes"][0]["weights"] = [0.25, 0]
    sampler = {"input": made.accessor([0, 1], bounds=True), "output": made.accessor([0, 0, 1.0, 1.0])}
    channel = {"sampler": 0, "target": {"node": 0, "path": "weights"}}
    made.add("animations", samplers=[sampler], channels=[channel])
    return made


def shared(copies: int) -> Builder:
    """A row of nodes that all show the triangle's mesh."""
    made = triangle()
    for x in range(1, copies):
        made.node(root=True, name=f"Copy {x}", mesh=0, translation=[x, 0, 0])
    return made


def sparse() -> Builder:
    """The triangle with one corner moved by a sparse accessor, and one mesh of zeros but for a sparse corner."""
    made = triangle()
    indices = made.view(np.array([2], "uint16").tobytes())
    moved = made.view(np.array([0, 5, 0], "float32").tobytes())
    patch = {
        "count": 1,
        "indices": {"bufferView": indices, "componentType": 5123},
        "values": {"bufferView": moved},
    }
    made.root["accessors"][0] |= {"sparse": patch, "max": [1, 5, 0]}
    zeros = {"componentType": 5126, "count": 3, "type": "VEC3", "min": [0, 0, 0], "max": [0, 5, 0], "sparse": patch}
    position = made.add("accessors", **zeros)
    made.node(root=True, mesh=made.add("meshes", primitives=[{"attributes": {"POSITION": position}}]))
    return made


def lit() -> Builder:
    """A camera and a spot light, one on a node with a matrix; extras of the user."""
    made = Builder()
    made.extend("KHR_lights_punctual")
    spot = {"type": "spot", "color": [1, 0.5, 0.25], "intensity": 20, "spot": {"outerConeAngle": 0.5}}
    made.root["extensions"] = {"KHR_lights_punctual": {"lights": [{"type": "point"}, spot]}}
    lens = {"yfov": 0.7, "znear": 0.1}
    camera = made.add("cameras", name="Lens", type="perspective", perspective=lens)
    made.node(root=True, camera=camera, matrix=[0, 0, -2, 0, 0, 2, 0, 0, 2, 0, 0, 0, 1, 2, 3, 1], extras={"shot": 7})
    light = {"KHR_lights_punctual": {"light": 1}}
    made.node(root=True, name="Spot", rotation=[0, 0.6, 0, 0.8], extensions=light, extras="a text")
    return made


FILES = {
    "triangle": triangle,
    "textured": textured,
    "skinned": skinned,
    "morphing": morphing,
    "shared": lambda: shared(5),
    "sparse": sparse,
    "lit": lit,
}

"""A glTF file as scene nodes and materials, and the one asset that keeps its bytes.

Rule 1: pure: bytes in, plain values out. Randomness comes from the caller.
Rule 2: the file is stored byte for byte as one asset; nodes and materials point into it by index, so that an export
        copies meshes, textures, skins, animations and extensions exactly, also those that we know nothing of.
Rule 3: a register holds what the file says explicitly. What it does not say stays out and is the format's default.
Rule 4: what the scene has no place for is in `warnings`; it is still in the asset.

All nodes of one import share an instance id: an animation or a skin of the asset belongs to the nodes of one instance.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from maquette.engine.assets import asset_id
from maquette.engine.errors import SchemaError
from maquette.engine.ids import RandomBytes, is_id, mint
from maquette.engine.scene import order
from maquette.engine.scene.geometry import decompose, from_gltf
from maquette.engine.scene.gltf_check import check_gltf, extension
from maquette.engine.scene.gltf_extensions import LIGHTS, UNDERSTOOD, VISIBILITY
from maquette.engine.scene.gltf_file import GltfFile, Json, read_container
from maquette.engine.scene.gltf_notes import extras_of, note_of
from maquette.engine.scene.schema import MAX_NAME, NODE_TYPES, Kind, check_field
from maquette.engine.scene.shapes import triangulate

TRIANGLES = {4: lambda count: count // 3, 5: lambda count: max(0, count - 2), 6: lambda count: max(0, count - 2)}
"""Triangles of a primitive by its mode (glTF 2.0, 3.7.2.1): a list, a strip, a fan. Points and lines have none."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What is in a file's default scene. `triangles` counts a mesh as often as nodes show it."""

    nodes: int = 0
    meshes: int = 0
    triangles: int = 0
    skins: int = 0
    animations: int = 0
    materials: int = 0
    textures: int = 0
    cameras: int = 0
    lights: int = 0


@dataclass(frozen=True, slots=True)
class Imported:
    """Nodes and materials by their new ids, ready to be added to a scene document once `assets` are stored.

    Nodes share values (the slots of one mesh, one light): they are to be copied, not changed.
    """

    nodes: Mapping[str, Json]
    materials: Mapping[str, Json]
    assets: Mapping[str, bytes]
    instance: str
    counts: Counts
    warnings: tuple[str, ...]


def read_gltf(
    data: bytes,
    *,
    ids: Callable[[], str] | None = None,
    random: RandomBytes = os.urandom,
    parent: str | None = None,
    after: str | None = None,
    keep_ids: bool = False,
) -> Imported:
    """Read a GLB or a self-contained .gltf. Nothing but `data` is read, and nothing is fetched.

    The file's roots are put under the node `parent` (None: the scene's root), behind the sibling order `after`. `ids`
    mints the ids of nodes and materials; with `keep_ids`, those that an export of ours wrote to `extras` are used
    again. The caller sees to it that they are still free. Raises GltfError, which is InvalidInput.
    """
    file = read_container(data)
    check_gltf(file)
    return _Import(file, data, ids or (lambda: mint(random)), random, keep_ids).run(parent, after)


class _Import:
    def __init__(
        self, file: GltfFile, data: bytes, ids: Callable[[], str], random: RandomBytes, keep_ids: bool
    ) -> None:
        self._file = file
        self._data = data
        self._asset = asset_id(data)
        self._mint = ids
        self._random = random
        self._keep_ids = keep_ids
        self._instance = mint(random)
        self._used: set[str] = set()
        self._slots_of: dict[int, dict[str, str]] = {}
        # by field and id(value); holds the value too, so that nothing else gets its id
        self._judged: dict[tuple[str, int], tuple[Any, str | None]] = {}
        self._shapes: dict[tuple[tuple[int | None, int | None], str], bool] = {}
        # what an export of ours holds of shapes fits into it; a file that claims more is not believed
        self._shape_budget = len(data)
        self._warnings: list[str] = []

    def run(self, parent: str | None, after: str | None) -> Imported:
        self._warn_of_extensions()
        self._warn_of_notes()
        materials = self._file.items("materials")
        self._materials = [self._id(material) for material in materials]
        nodes = self._nodes(self._roots(), parent, after)
        return Imported(
            nodes=nodes,
            materials={self._materials[index]: self._material(item, index) for index, item in enumerate(materials)},
            assets={self._asset: self._data},
            instance=self._instance,
            counts=count(self._file, [node["source"][1] for node in nodes.values()]),
            warnings=tuple(self._warnings),
        )

    # --- nodes -------------------------------------------------------------------------------------------------

    def _roots(self) -> list[int]:
        roots, notes = default_roots(self._file)
        self._warnings.extend(notes)
        nodes = self._file.items("nodes")
        return [inner for root in roots for inner in (nodes[root]["children"] if _is_wrapper(nodes[root]) else [root])]

    def _nodes(self, roots: list[int], parent: str | None, after: str | None) -> dict[str, Json]:
        """Parents before children; without recursion, because a file may be one long chain."""
        found: dict[str, Json] = {}
        waiting = list(self._placed(roots, parent, after))[::-1]
        sources = self._file.items("nodes")
        while waiting:
            index, place = waiting.pop()
            node = self._id(sources[index])
            found[node] = self._node(sources[index], index, place)
            waiting.extend(list(self._placed(sources[index].get("children", []), node, None))[::-1])
        return found

    def _placed(self, nodes: list[int], parent: str | None, after: str | None) -> Iterator[tuple[int, list[Any]]]:
        try:
            orders = order.many(len(nodes), after, None, self._random)
        except order.NoRoom:  # somebody put a node at the very end of all orders; that must not stop imports
            orders = order.many(len(nodes), None, None, self._random)
        return ((index, [parent, place]) for index, place in zip(nodes, orders, strict=True))

    def _node(self, source: Json, index: int, place: list[Any]) -> Json:
        note = note_of(source) if self._keep_ids else {}
        content = self._content(source)
        if "mesh" in source and isinstance(shape := note.get("shape"), dict) and self._is_shape(source["mesh"], shape):
            content["mesh"] = shape
        fields = {
            "name": source.get("name", "")[:MAX_NAME] or f"Node {index}",
            "place": place,
            **_transform(source),
            "visible": (extension(source, VISIBILITY) or {}).get("visible", True) is not False,
            "locked": note.get("locked") is True,
            **content,
            "source": [self._asset, index, self._instance],
            **self._extras(source),
        }
        node = self._fitting("node", fields, f"node {index}")
        return node | {"type": note["type"] if note.get("type") in NODE_TYPES else type_of(node)}

    def _content(self, source: Json) -> Json:
        content: Json = {}
        if "mesh" in source:
            content["mesh"] = [self._asset, source["mesh"]]
            if slots := self._slots(source["mesh"]):
                content["slots"] = slots
        if "weights" in source:
            content["weights"] = source["weights"]
        if "camera" in source:
            content["camera"] = self._file.items("cameras")[source["camera"]]
        if (light := extension(source, LIGHTS)) is not None:
            content["light"] = self._file.root["extensions"][LIGHTS]["lights"][light["light"]]
        return content

    def _is_shape(self, mesh: int, shape: Json) -> bool:
        """Whether the mesh is still what `shape` makes: another program may have edited it and kept our note."""
        primitive, *others = self._file.items("meshes")[mesh]["primitives"]
        views = self._view_of(primitive["attributes"].get("POSITION")), self._view_of(primitive.get("indices"))
        if others or None in views or self._fault("node", "mesh", shape) is not None:
            return False
        # meshes that differ in their material alone share the views, and are judged once
        key = (views, json.dumps(shape, sort_keys=True))
        if key not in self._shapes and self._shape_budget >= 0:
            made = triangulate(shape)
            self._shape_budget -= made.positions.nbytes + made.indices.nbytes
            parts = made.positions.tobytes(), made.indices.tobytes()
            self._shapes[key] = all(map(self._holds, views, parts))
        return self._shapes.get(key, False)

    def _holds(self, view: int | None, part: bytes) -> bool:
        data = None if view is None else self._file.view(view)
        return data is not None and data.nbytes == len(part) and data.tobytes() == part

    def _view_of(self, accessor: int | None) -> int | None:
        view: int | None = None if accessor is None else self._file.items("accessors")[accessor].get("bufferView")
        return view

    def _slots(self, mesh: int) -> dict[str, str]:
        if mesh not in self._slots_of:
            primitives = self._file.items("meshes")[mesh]["primitives"]
            self._slots_of[mesh] = {
                str(index): self._materials[primitive["material"]]
                for index, primitive in enumerate(primitives)
                if "material" in primitive
            }
        return self._slots_of[mesh]

    # --- the rest ----------------------------------------------------------------------------------------------

    def _material(self, source: Json, index: int) -> Json:
        fields = material_registers(source) | {"source": [self._asset, index]} | self._extras(source)
        return self._fitting("material", fields, f"material {index}")

    def _fitting(self, kind: Kind, fields: Json, place: str) -> Json:
        """The fields that a scene takes; the others stay in the asset alone (rule 4)."""
        fitting = {}
        for field, value in fields.items():
            if (fault := self._fault(kind, field, value)) is None:
                fitting[field] = value
            else:
                self._warnings.append(f"{place}: {field} was left out of the scene: {fault}")
        return fitting

    def _fault(self, kind: Kind, field: str, value: Any) -> str | None:
        """What the schema has against a value. One that nodes share (a light, the slots of a mesh) is judged once."""
        key = (field, id(value))
        if key not in self._judged:
            fault = None
            try:
                check_field(kind, field, value)
            except SchemaError as error:
                fault = str(error)
            if not isinstance(value, dict):
                return fault
            self._judged[key] = (value, fault)
        return self._judged[key][1]

    def _extras(self, source: Json) -> Json:
        return {} if (extras := extras_of(source)) is None else {"extras": extras}

    def _id(self, source: Json) -> str:
        kept = note_of(source).get("id") if self._keep_ids else None
        chosen = kept if is_id(kept) and kept not in self._used else self._mint()
        self._used.add(chosen)
        return chosen

    def _warn_of_extensions(self) -> None:
        required = self._file.root.get("extensionsRequired", [])
        for name in self._file.root.get("extensionsUsed", []):
            if name not in UNDERSTOOD:
                need = ", which the file requires" if name in required else ""
                self._warnings.append(f"extension {name}{need}: unknown here, kept in the asset as it is")

    def _warn_of_notes(self) -> None:
        scenes = {f"scene {index}": scene for index, scene in enumerate(self._file.items("scenes"))}
        for place, owner in {"the file": self._file.root, "/asset": self._file.root["asset"], **scenes}.items():
            if "extras" in owner or (owner is not self._file.root and "extensions" in owner):
                self._warnings.append(f"{place}: its extras and extensions have no place in a scene")


def _is_wrapper(node: Json) -> bool:
    """Whether an export of ours added the node for the format's sake, and nobody gave it a meaning since."""
    return note_of(node).get("wrapper") is True and node.keys() == {"name", "children", "extras"}


def type_of(content: Mapping[str, Any]) -> str:
    """The type of a node with such content."""
    return next((kind for kind in ("mesh", "camera", "light") if content.get(kind) is not None), "group")


def default_roots(file: GltfFile) -> tuple[list[int], list[str]]:
    """The root nodes of the file's default scene, and warnings about what is outside it."""
    scenes = file.items("scenes")
    parents = {child: index for index, node in enumerate(file.items("nodes")) for child in node.get("children", [])}
    if not scenes:
        roots = [index for index in range(len(file.items("nodes"))) if index not in parents]
        return roots, ["the file has no scene: all its root nodes were taken"] if roots else []
    chosen = file.root.get("scene", 0)
    warnings = [
        f"scene {index} {scene.get('name', '')!r} is not the default scene and was left out"
        for index, scene in enumerate(scenes)
        if index != chosen
    ]
    listed = scenes[chosen].get("nodes", [])
    below = set(reached(file, [child for index in listed for child in file.items("nodes")[index].get("children", [])]))
    roots = [index for index in listed if index not in below]
    left_out = len(file.items("nodes")) - len(reached(file, roots))
    if left_out:
        warnings.append(f"{left_out} nodes are not in the default scene and were left out")
    return roots, warnings


def reached(file: GltfFile, roots: list[int]) -> list[int]:
    """The nodes at and below `roots`, each once."""
    found = dict.fromkeys(roots)
    waiting = list(found)
    while waiting:
        children = file.items("nodes")[waiting.pop()].get("children", [])
        new = [child for child in children if child not in found]
        found.update(dict.fromkeys(new))
        waiting.extend(new)
    return list(found)


def count(file: GltfFile, nodes: list[int]) -> Counts:
    """Count what `nodes`, indices into the file, show; animations, materials and textures are the whole file's."""
    shown = [file.items("nodes")[index] for index in nodes]
    meshes = [node["mesh"] for node in shown if "mesh" in node]
    return Counts(
        nodes=len(shown),
        meshes=len(set(meshes)),
        triangles=sum(triangles(file, mesh) * times for mesh, times in Counter(meshes).items()),
        skins=len({node["skin"] for node in shown if "skin" in node}),
        animations=len(file.items("animations")),
        materials=len(file.items("materials")),
        textures=len(file.items("textures")),
        cameras=sum("camera" in node for node in shown),
        lights=sum(extension(node, LIGHTS) is not None for node in shown),
    )


def triangles(file: GltfFile, mesh: int) -> int:
    """How many triangles one mesh of the file has."""
    total = 0
    for primitive in file.items("meshes")[mesh]["primitives"]:
        counted = primitive.get("indices", next(iter(primitive["attributes"].values())))
        if (rule := TRIANGLES.get(primitive.get("mode", 4))) is not None:
            total += rule(file.items("accessors")[counted]["count"])
    return total


def material_registers(source: Json) -> Json:
    """The registers of a scene material that a glTF material states explicitly (rule 3)."""
    surface = source.get("pbrMetallicRoughness", {})
    strength = (extension(source, "KHR_materials_emissive_strength") or {}).get("emissiveStrength", 1)
    emissive = [part * strength for part in source["emissiveFactor"]] if "emissiveFactor" in source else None
    stated = {
        "name": source.get("name"),
        "base_color": surface.get("baseColorFactor"),
        "metallic": surface.get("metallicFactor"),
        "roughness": surface.get("roughnessFactor"),
        "emissive": emissive,
        "alpha_mode": source.get("alphaMode"),
        "alpha_cutoff": source.get("alphaCutoff"),
        "double_sided": source.get("doubleSided"),
    }
    return {field: value for field, value in stated.items() if value is not None}


def _transform(source: Json) -> Json:
    identity = {"translation": [0, 0, 0], "rotation": [0, 0, 0, 1], "scale": [1, 1, 1]}
    if "matrix" not in source:
        return {field: source.get(field, default) for field, default in identity.items()}
    if (found := decompose(from_gltf(source["matrix"]))) is None:
        return identity | {"matrix": source["matrix"]}
    parts = {"translation": found.translation, "rotation": found.rotation, "scale": found.scale}
    # + 0.0 turns a negative zero into zero, which compares equal and reads better
    return {field: [float(part) + 0.0 for part in parts[field]] for field in identity}

"""A scene as one GLB: the registers of its nodes and materials over what their source assets hold.

Rule 1: hierarchy, transforms, names, visibility, cameras, lights and materials are what the scene's registers say; a
        trashed node and all below it is left out. Meshes, textures, skins, animations and extensions are copied.
Rule 2: each mesh, texture, accessor and bufferView is stored once, however many nodes share it. A node whose slots
        differ from its mesh's own materials gets another mesh over the same accessors.
Rule 3: nothing that no exported node uses comes along from an asset.
Rule 4: what cannot be exported is in `warnings`.
Rule 5: `extras.maquette` of nodes and materials holds their id, so that a later import finds them again.
Rule 6: joints that hang from different roots get one root above all, because the format demands it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from maquette.engine.scene.geometry import decompose, from_gltf
from maquette.engine.scene.gltf_copy import Copier
from maquette.engine.scene.gltf_extensions import INSTANCING, LIGHTS, VISIBILITY, may_refer
from maquette.engine.scene.gltf_file import GltfFile, Json
from maquette.engine.scene.gltf_import import Counts, count, type_of
from maquette.engine.scene.gltf_materials import Materials
from maquette.engine.scene.gltf_motion import Motion
from maquette.engine.scene.gltf_notes import with_note
from maquette.engine.scene.gltf_output import Output
from maquette.engine.scene.gltf_selection import select
from maquette.engine.scene.gltf_sources import Sources, source_of
from maquette.engine.scene.shapes import triangulate
from maquette.engine.scene.tree import Tree

IDENTITY: Mapping[str, list[float]] = {"translation": [0, 0, 0], "rotation": [0, 0, 0, 1], "scale": [1, 1, 1]}


@dataclass(frozen=True, slots=True)
class Exported:
    """A GLB, what is in it, and what of the scene is not."""

    data: bytes
    counts: Counts
    warnings: tuple[str, ...]


def write_glb(
    nodes: Mapping[str, Json], materials: Mapping[str, Json], assets: Callable[[str], bytes], tree: Tree
) -> Exported:
    """One GLB of a scene: `nodes` and `materials` by id with their registers, and the effective `tree` of the nodes.

    `assets` gives an asset's bytes; its NotFound becomes a warning, because any writer can name an asset that is not
    there. Its other errors pass through: a damaged asset is not to be exported as if it had been empty.
    Raises GltfError when the file would pass 4 GiB.
    """
    return _Export(nodes, materials, assets, tree).run()


class _Export:
    def __init__(
        self, nodes: Mapping[str, Json], materials: Mapping[str, Json], assets: Callable[[str], bytes], tree: Tree
    ) -> None:
        self._nodes = nodes
        self._tree = tree
        self._output = Output()
        self._warnings: dict[str, None] = {}
        self._sources = Sources(assets, self._output, self._warn)
        self._materials = Materials(materials, self._output, self._sources)
        self._meshes: dict[Any, int] = {}
        self._shapes: dict[str, Json] = {}
        self._selection = select(nodes, tree, self._sources, self._warn)

    def run(self) -> Exported:
        self._output.root["asset"] = {"version": "2.0", "generator": f"Maquette {version('maquette')}"}
        self._add_nodes()
        motion = Motion(self._selection, self._output, self._sources, self._warn)
        motion.add_skins()
        motion.add_animations(self._nodes)
        self._materials.finish(self._warn)
        self._sources.finish()
        nodes = self._output.root.get("nodes", [])
        counts = count(GltfFile(self._output.root, ()), list(range(len(nodes))))
        return Exported(self._output.finish(), counts, tuple(self._warnings))

    def _warn(self, text: str) -> None:
        self._warnings[text] = None

    # --- hierarchy ---------------------------------------------------------------------------------------------

    def _add_nodes(self) -> None:
        indices = self._selection.indices
        made = [self._node(node) for node in indices]
        roots = []
        for node, index in indices.items():
            self._output.add("nodes", made[index])
            parent = self._tree.parent(node)
            if parent is not None and parent in indices:
                made[indices[parent]].setdefault("children", []).append(index)
            else:
                roots.append(index)
        if self._has_split_skin():
            wrapper = with_note({"name": "Scene", "children": roots}, None, {"wrapper": True})
            roots = [self._output.add("nodes", wrapper)]
        self._output.root["scene"] = self._output.add("scenes", {"nodes": roots} if roots else {})

    def _has_split_skin(self) -> bool:
        tops = {}
        for joints in {joints for _, _, joints in self._selection.skins.values()}:
            tops[joints] = {(joint, *self._tree.ancestors(joint))[-1] for joint in joints}
        return any(len(found) > 1 for found in tops.values())

    # --- one node ----------------------------------------------------------------------------------------------

    def _node(self, name: str) -> Json:
        node = self._nodes[name]
        made: Json = {"name": node["name"]} | _transform(node)
        if "matrix" in made and decompose(from_gltf(made["matrix"])) is None:
            self._warn(f"node {name}: its matrix has no translation, rotation and scale: some readers refuse it")
        note = {"id": name}
        if name not in self._selection.bare:
            made |= self._content(name, node)
            if extensions := self._extensions(node, made):
                made["extensions"] = extensions
            note |= _note(node)
        return with_note(made, node.get("extras"), note)

    def _content(self, name: str, node: Json) -> Json:
        content: Json = {}
        if (mesh := self._mesh(node)) is not None:
            content["mesh"] = mesh
        if node.get("weights"):
            content |= self._weights(name, node["weights"], mesh)
        if node.get("camera") is not None:
            content["camera"] = self._output.intern("cameras", self._plain(node["camera"], "camera"))
        return content

    def _weights(self, name: str, weights: list[float], mesh: int | None) -> Json:
        targets = [] if mesh is None else self._output.root["meshes"][mesh]["primitives"][0].get("targets", [])
        if len(weights) == len(targets):
            return {"weights": weights}
        self._warn(f"node {name}: expected weights for {len(targets)} morph targets, got {len(weights)}: left out")
        return {}

    def _extensions(self, node: Json, made: Json) -> Json:
        extensions: Json = {}
        source = source_of(node)
        if source is not None and (found := self._sources.find("nodes", source)) is not None:
            copier, index = found
            origin = copier.file.items("nodes")[index]
            extensions = copier.rest({"extensions": origin.get("extensions", {})}, "node").get("extensions", {})
            extensions.pop(VISIBILITY, None)
            if "mesh" in made and (instances := copier.instancing(origin)) is not None:
                extensions[INSTANCING] = instances
        if node.get("light") is not None:
            light = self._output.add_extension_item(LIGHTS, "lights", self._plain(node["light"], "light"))
            extensions[LIGHTS] = {"light": light}
        if node.get("visible") is False:
            extensions[VISIBILITY] = {"visible": False}
        return extensions

    def _plain(self, item: Json, place: str) -> Json:
        """A camera or light from a register, without extensions that may refer to the file it came from."""
        given = item.get("extensions")
        extensions = given if isinstance(given, dict) else {}
        kept = {
            name: value
            for name, value in extensions.items()
            if isinstance(value, dict) and not may_refer(value, whole_floats=True)
        }
        for name in extensions.keys() - kept.keys():
            self._warn(f"extension {name} of a {place} may refer to other objects and was left out")
        rest = {key: value for key, value in item.items() if key != "extensions"}
        return rest | {"extensions": kept} if kept else rest

    # --- meshes ------------------------------------------------------------------------------------------------

    def _mesh(self, node: Json) -> int | None:
        mesh, slots = node.get("mesh"), node.get("slots") or {}
        if isinstance(mesh, Mapping):
            return self._shape(mesh, self._materials.of_slot(slots))
        if (found := self._sources.find("meshes", mesh)) is None:
            return None
        # by slots first, so that ten thousand nodes of a mesh of a thousand primitives cost a lookup each
        asked = (found[0].name, found[1], tuple(sorted(slots.items())))
        if asked not in self._meshes:
            self._meshes[asked] = self._mesh_with(*found, slots)
        return self._meshes[asked]

    def _mesh_with(self, copier: Copier, index: int, slots: Mapping[str, str]) -> int:
        primitives = copier.file.items("meshes")[index]["primitives"]
        materials = self._materials.of_slots(slots, primitives, copier)
        key = (copier.name, index, *materials)
        if key not in self._meshes:
            self._meshes[key] = self._output.add("meshes", self._copied_mesh(copier, index, materials))
        return self._meshes[key]

    def _copied_mesh(self, copier: Copier, index: int, materials: list[int | None]) -> Json:
        return copier.mesh(index, materials, lambda material: self._materials.of_source(copier, material))

    def _shape(self, shape: Mapping[str, Any], material: int | None) -> int:
        geometry = json.dumps(shape, sort_keys=True)
        if (geometry, material) not in self._meshes:
            primitive = self._shape_primitive(geometry, shape)
            if material is not None:
                primitive = primitive | {"material": material}
            mesh = {"name": shape["shape"], "primitives": [primitive]}
            self._meshes[geometry, material] = self._output.add("meshes", mesh)
        return self._meshes[geometry, material]

    def _shape_primitive(self, key: str, shape: Mapping[str, Any]) -> Json:
        if key not in self._shapes:
            made = triangulate(shape)
            self._shapes[key] = {
                "attributes": {
                    "POSITION": self._output.add_vertices(made.positions),
                    "NORMAL": self._output.add_vertices(made.normals),
                    "TEXCOORD_0": self._output.add_vertices(made.coordinates),
                },
                "indices": self._output.add_indices(made.indices),
            }
        return self._shapes[key]


def _transform(node: Json) -> Json:
    """What differs from the identity, as the format wants it: components of a rotation within [-1, 1]."""
    if node.get("matrix") is not None:
        return {"matrix": list(node["matrix"])}
    parts = {field: list(node.get(field, default)) for field, default in IDENTITY.items()}
    parts["rotation"] = [max(-1, min(1, part)) for part in parts["rotation"]]
    return {field: value for field, value in parts.items() if value != IDENTITY[field]}


def _note(node: Json) -> Json:
    note: Json = {}
    if node["type"] != type_of(node):
        note["type"] = node["type"]
    if node.get("locked"):
        note["locked"] = True
    if isinstance(node.get("mesh"), Mapping):
        note["shape"] = node["mesh"]
    return note

"""Whether a glTF file hangs together: every index, length, stride and range, before anything of it is used.

Rule 1: what passes can be walked without another check: each index names something that exists, each byte range lies in
        its buffer, the nodes are a forest, and every array and number has the shape that the format gives it.
Rule 2: an error names the place as a JSON pointer, what the format expects there, and what came.
Rule 3: unknown extensions pass. Those whose indices we follow (textures, instancing, Draco, meshopt, lights, variants)
        are judged like the core.
Rule 4: the work is linear in the file, also when thousands of its objects share the same bytes.

Format: glTF 2.0, sections 3 and 5 (https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from maquette.engine.scene.geometry import is_unit_quaternion
from maquette.engine.scene.gltf_extensions import EMISSIVE_STRENGTH, MESHOPT
from maquette.engine.scene.gltf_file import GltfError, GltfFile, Json, decode_data_uri
from maquette.engine.scene.gltf_values import Values
from maquette.engine.scene.schema import MAX_INDEX

COMPONENT_BYTES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
INDEX_FORMATS: Mapping[int, str] = {5121: "<u1", 5123: "<u2", 5125: "<u4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
FLOAT = 5126
RESTART = {5121: 0xFF, 5123: 0xFFFF, 5125: 0xFFFFFFFF}


TOP_LEVEL = (
    "accessors",
    "animations",
    "bufferViews",
    "buffers",
    "cameras",
    "images",
    "materials",
    "meshes",
    "nodes",
    "samplers",
    "scenes",
    "skins",
    "textures",
)
CORE_TEXTURES = {
    "baseColorTexture",
    "metallicRoughnessTexture",
    "normalTexture",
    "occlusionTexture",
    "emissiveTexture",
}
PATHS = {"translation": 3, "rotation": 4, "scale": 3, "weights": 0}
MAX_ZEROS = 1 << 24
"""Elements of an accessor that no bytes of the file stand behind; a large scan has as many vertices."""
OVERLAP = 8
"""How often the bytes of a file may be read as different lists of vertex indices; exporters never share any."""

LIGHTS = ("directional", "point", "spot")


def check_gltf(file: GltfFile) -> None:
    """Judge the whole structure of `file`. Raises GltfError at the first thing that breaks rule 1."""
    check = _Check(file)
    check.top_level()
    for kind, judge in (
        ("bufferViews", check.view),
        ("accessors", check.accessor),
        ("images", check.image),
        ("textures", check.texture),
        ("materials", check.material),
        ("meshes", check.mesh),
        ("cameras", check.camera),
        ("nodes", check.node),
        ("skins", check.skin),
        ("animations", check.animation),
        ("scenes", check.scene),
    ):
        for index, item in enumerate(file.items(kind)):
            judge(item, f"/{kind}/{index}")
    check.forest()


def element_bytes(accessor: Json) -> int:
    """Bytes of one element, matrix columns padded to 4 (section 3.6.2.4)."""
    size = COMPONENT_BYTES[accessor["componentType"]]
    if accessor["type"] in ("MAT2", "MAT3"):
        side = int(accessor["type"][3])
        return side * -(-side * size // 4) * 4
    return WIDTHS[accessor["type"]] * size


def is_texture_info(key: str, value: object) -> bool:
    """Whether a member of a material, of whatever extension, refers to a texture: the registry names them all so."""
    return key.endswith("Texture") and isinstance(value, dict) and "index" in value


def extension(owner: Json, name: str) -> Json | None:
    """The extension `name` of an object, or None. For what `check_gltf` has passed."""
    found: Json | None = owner.get("extensions", {}).get(name)
    return found


class _Check(Values):
    """The judge of one file. Each method takes an object and its JSON pointer."""

    def __init__(self, file: GltfFile) -> None:
        super().__init__(file)
        self.tops: dict[int, int] = {}
        self.budget = OVERLAP * sum(len(buffer) for buffer in file.buffers if buffer is not None)

    def top_level(self) -> None:
        for kind in TOP_LEVEL:
            if len(self.array(self.root, "", kind)) > MAX_INDEX:
                raise GltfError(f"/{kind}", f"at most {MAX_INDEX} entries", len(self.root[kind]))
            for index, item in enumerate(self.root.get(kind, [])):
                place = f"/{kind}/{index}"
                if not isinstance(item, dict):
                    raise GltfError(place, "an object", item)
                if not isinstance(item.get("name", ""), str):
                    raise GltfError(f"{place}/name", "text", item["name"])
                self.extensions(item, place)
        for kind in ("extensionsUsed", "extensionsRequired"):
            for index, name in enumerate(self.array(self.root, "", kind)):
                if not isinstance(name, str):
                    raise GltfError(f"/{kind}/{index}", "an extension's name", name)
        self.extensions(self.root, "")
        self.root_extensions()
        self.index(self.root, "", "scene", "scenes")

    def root_extensions(self) -> None:
        for name, kind in (("KHR_lights_punctual", "lights"), ("KHR_materials_variants", "variants")):
            place = f"/extensions/{name}"
            for index, item in enumerate(self.array(extension(self.root, name) or {}, place, kind)):
                if not isinstance(item, dict) or not isinstance(item.get("name", ""), str):
                    raise GltfError(f"{place}/{kind}/{index}", "an object, its name a text", item)
                if kind == "lights":
                    self.light(item, f"{place}/{kind}/{index}")

    def light(self, light: Json, place: str) -> None:
        self.choice(light, place, "type", LIGHTS)
        self.numbers(light, place, "color", 3)
        for key in ("intensity", "range"):
            self.number(light, place, key)
        spot = self.member(light, place, "spot", {})
        for key in ("innerConeAngle", "outerConeAngle"):
            self.number(spot, f"{place}/spot", key)

    # --- bytes -------------------------------------------------------------------------------------------------

    def view(self, view: Json, place: str) -> None:
        self.index(view, place, "buffer", "buffers", required=True)
        self.span(view, place)
        stride = self.integer(view, place, "byteStride", 4, 252)
        if stride is not None and stride % 4:
            raise GltfError(f"{place}/byteStride", "a multiple of 4", stride)
        for name in MESHOPT:
            if (packed := extension(view, name)) is not None:
                self.packed(packed, f"{place}/extensions/{name}")

    def packed(self, packed: Json, place: str) -> None:
        """EXT_meshopt_compression: where the compressed bytes lie."""
        buffer = self.index(packed, place, "buffer", "buffers", required=True)
        self.span(packed, place)
        self.integer(packed, place, "byteStride", 1, 256, required=True)
        self.integer(packed, place, "count", 1, required=True)
        if buffer is None or self.file.buffers[buffer] is None:
            raise GltfError(f"{place}/buffer", "a buffer that has bytes", buffer)

    def span(self, owner: Json, place: str) -> None:
        start = self.integer(owner, place, "byteOffset", 0) or 0
        length = self.integer(owner, place, "byteLength", 1, required=True) or 0
        limit = self.root["buffers"][owner["buffer"]]["byteLength"]
        if start + length > limit:
            raise GltfError(place, f"bytes within buffer {owner['buffer']} of {limit}", f"{start} to {start + length}")

    def accessor(self, accessor: Json, place: str) -> None:
        self.choice(accessor, place, "componentType", COMPONENT_BYTES)
        self.choice(accessor, place, "type", WIDTHS)
        count = self.integer(accessor, place, "count", 1, required=True) or 0
        offset = self.integer(accessor, place, "byteOffset", 0) or 0
        self.boolean(accessor, place, "normalized")
        view = self.index(accessor, place, "bufferView", "bufferViews")
        if view is not None:
            size = element_bytes(accessor)
            self.fit(view, offset, count, size, COMPONENT_BYTES[accessor["componentType"]], place)
        elif count > MAX_ZEROS:
            raise GltfError(f"{place}/count", f"at most {MAX_ZEROS} elements without a bufferView", count)
        self.bounds(accessor, place)
        if "sparse" in accessor:
            self.sparse(accessor, self.member(accessor, place, "sparse"), f"{place}/sparse")

    def fit(self, view: int, offset: int, count: int, size: int, component: int, place: str) -> None:
        """Section 3.6.2.4: aligned, and the last element ends within the view."""
        target = self.root["bufferViews"][view]
        stride = target.get("byteStride", size)
        if (offset + target.get("byteOffset", 0)) % component or offset % component or stride % component:
            raise GltfError(f"{place}/byteOffset", f"an offset and a stride in multiples of {component} bytes", offset)
        if stride < size:
            raise GltfError(place, f"a stride of at least the element's {size} bytes", stride)
        end = offset + stride * (count - 1) + size
        if end > target["byteLength"]:
            raise GltfError(place, f"elements within the {target['byteLength']} bytes of view {view}", f"{end} bytes")

    def bounds(self, accessor: Json, place: str) -> None:
        width = WIDTHS[accessor["type"]]
        low, high = (self.numbers(accessor, place, key, width) for key in ("min", "max"))
        if low is not None and high is not None and any(a > b for a, b in zip(low, high, strict=True)):
            raise GltfError(f"{place}/min", f"no more than max {high}", low)

    def sparse(self, accessor: Json, sparse: Json, place: str) -> None:
        count = self.integer(sparse, place, "count", 1, accessor["count"], required=True) or 0
        indices, values = (self.member(sparse, place, key) for key in ("indices", "values"))
        self.choice(indices, f"{place}/indices", "componentType", INDEX_FORMATS)
        size = COMPONENT_BYTES[indices["componentType"]]
        component = COMPONENT_BYTES[accessor["componentType"]]
        for part, key, element, unit in (
            (indices, "indices", size, size),
            (values, "values", element_bytes(accessor), component),
        ):
            where = f"{place}/{key}"
            view = self.index(part, where, "bufferView", "bufferViews", required=True)
            offset = self.integer(part, where, "byteOffset", 0) or 0
            self.fit(view or 0, offset, count, element, unit, where)
        self.sparse_indices(indices, count, accessor["count"], f"{place}/indices")

    def sparse_indices(self, indices: Json, count: int, limit: int, place: str) -> None:
        if (found := self.read_indices(indices, indices["componentType"], count)) is None:
            return
        if int(found[-1]) >= limit or np.any(np.diff(found.astype(np.int64)) <= 0):
            raise GltfError(place, f"ascending indices below {limit}", f"up to {int(found.max())}")

    def read_indices(self, part: Json, component: int, count: int) -> np.ndarray[Any, Any] | None:
        """Tightly packed whole numbers; None when they are compressed, strided or not stored."""
        view = part.get("bufferView")
        if view is None or (data := self.file.view(view)) is None or "byteStride" in self.root["bufferViews"][view]:
            return None
        return np.frombuffer(data, INDEX_FORMATS[component], count, part.get("byteOffset", 0))

    # --- looks -------------------------------------------------------------------------------------------------

    def image(self, image: Json, place: str) -> None:
        if ("uri" in image) == ("bufferView" in image):
            raise GltfError(place, "either a bufferView or a data: URI", "both" if "uri" in image else "neither")
        if "uri" in image:
            decode_data_uri(image["uri"], f"{place}/uri")
        view = self.index(image, place, "bufferView", "bufferViews")
        if not isinstance(image.get("mimeType", "" if view is None else None), str):
            raise GltfError(f"{place}/mimeType", "a media type", image.get("mimeType"))

    def texture(self, texture: Json, place: str) -> None:
        self.index(texture, place, "sampler", "samplers")
        self.index(texture, place, "source", "images")
        for name, found in texture.get("extensions", {}).items():
            if "source" in found:
                self.index(found, f"{place}/extensions/{name}", "source", "images")

    def material(self, material: Json, place: str) -> None:
        surface = self.member(material, place, "pbrMetallicRoughness", {})
        self.extensions(surface, f"{place}/pbrMetallicRoughness")
        self.numbers(surface, f"{place}/pbrMetallicRoughness", "baseColorFactor", 4)
        self.numbers(material, place, "emissiveFactor", 3)
        for key in ("metallicFactor", "roughnessFactor"):
            self.number(surface, f"{place}/pbrMetallicRoughness", key)
        self.number(material, place, "alphaCutoff")
        if (strength := extension(material, EMISSIVE_STRENGTH)) is not None:
            self.number(strength, f"{place}/extensions/{EMISSIVE_STRENGTH}", "emissiveStrength")
        self.boolean(material, place, "doubleSided")
        if material.get("alphaMode", "OPAQUE") not in ("OPAQUE", "MASK", "BLEND"):
            raise GltfError(f"{place}/alphaMode", "OPAQUE, MASK or BLEND", repr(material["alphaMode"]))
        self.texture_infos(material, place)

    def texture_infos(self, owner: Any, place: str) -> None:
        """Each texture info, in the core and in any extension, names a texture (rule 3)."""
        for key, value in owner.items():
            if key == "extras":
                continue
            if key in CORE_TEXTURES or is_texture_info(key, value):
                self.index(self.member(owner, place, key), f"{place}/{key}", "index", "textures", required=True)
                self.extensions(value, f"{place}/{key}")
            if isinstance(value, dict):
                self.texture_infos(value, f"{place}/{key}")

    # --- meshes ------------------------------------------------------------------------------------------------

    def mesh(self, mesh: Json, place: str) -> None:
        primitives = self.array(mesh, place, "primitives")
        if not primitives:
            raise GltfError(f"{place}/primitives", "one or more", "none")
        targets = set()
        for index in range(len(primitives)):
            where = f"{place}/primitives/{index}"
            if not isinstance(primitives[index], dict):
                raise GltfError(where, "an object", primitives[index])
            targets.add(self.primitive(primitives[index], where))
        if len(targets) > 1:
            raise GltfError(f"{place}/primitives", "as many morph targets in each", sorted(targets))
        self.numbers(mesh, place, "weights", targets.pop())

    def primitive(self, primitive: Json, place: str) -> int:
        """Judge one primitive; answers its number of morph targets."""
        self.extensions(primitive, place)
        count = self.attributes(primitive, place)
        self.integer(primitive, place, "mode", 0, 6)
        self.index(primitive, place, "material", "materials")
        self.primitive_indices(primitive, place, count)
        targets = self.array(primitive, place, "targets")
        for index, target in enumerate(targets):
            where = f"{place}/targets/{index}"
            for key, number in self.mapping(target, where):
                self.counted(number, f"{where}/{key}", count)
        self.primitive_extensions(primitive, place)
        return len(targets)

    def attributes(self, primitive: Json, place: str) -> int:
        """The number of vertices: all attributes have as many elements."""
        counts = {
            self.counted(number, f"{place}/attributes/{key}")
            for key, number in self.mapping(primitive.get("attributes"), f"{place}/attributes")
        }
        if len(counts) != 1:
            raise GltfError(f"{place}/attributes", "attributes of one length", sorted(counts) or "none")
        return counts.pop()

    def primitive_indices(self, primitive: Json, place: str, vertices: int) -> None:
        if (index := self.index(primitive, place, "indices", "accessors")) is None:
            return
        accessor = self.root["accessors"][index]
        if accessor["type"] != "SCALAR" or accessor["componentType"] not in INDEX_FORMATS:
            raise GltfError(f"{place}/indices", "an accessor of unsigned whole numbers", accessor["type"])
        if "sparse" in accessor or "KHR_draco_mesh_compression" in primitive.get("extensions", {}):
            return
        if (top := self.top_index(index, accessor, f"{place}/indices")) >= vertices:
            reason = "a primitive restart" if top == RESTART[accessor["componentType"]] else str(top)
            raise GltfError(f"{place}/indices", f"indices below the {vertices} vertices", reason)

    def top_index(self, index: int, accessor: Json, place: str) -> int:
        """The highest vertex that the accessor names; -1 when it is not stored plainly. Each is read once (rule 4)."""
        if index not in self.tops:
            found = self.read_indices(accessor, accessor["componentType"], accessor["count"])
            self.budget -= 0 if found is None else found.nbytes
            if self.budget < 0:
                raise GltfError(place, "index accessors that share few bytes", "many over the same bytes")
            self.tops[index] = -1 if found is None else int(found.max())
        return self.tops[index]

    def primitive_extensions(self, primitive: Json, place: str) -> None:
        if (draco := extension(primitive, "KHR_draco_mesh_compression")) is not None:
            where = f"{place}/extensions/KHR_draco_mesh_compression"
            self.index(draco, where, "bufferView", "bufferViews", required=True)
            list(self.mapping(draco.get("attributes"), f"{where}/attributes"))
        if (variants := extension(primitive, "KHR_materials_variants")) is not None:
            self.variant_mappings(variants, f"{place}/extensions/KHR_materials_variants")

    def variant_mappings(self, variants: Json, place: str) -> None:
        known = (extension(self.root, "KHR_materials_variants") or {}).get("variants", [])
        for index, mapping in enumerate(self.array(variants, place, "mappings")):
            where = f"{place}/mappings/{index}"
            if not isinstance(mapping, dict):
                raise GltfError(where, "an object", mapping)
            self.index(mapping, where, "material", "materials", required=True)
            for number in self.array(mapping, where, "variants"):
                self.below(number, len(known), f"{where}/variants", "variants")

    def counted(self, number: object, place: str, expected: int | None = None) -> int:
        """The number of elements of the accessor that `number` names, which has to be `expected`."""
        accessors = self.file.items("accessors")
        accessor = accessors[self.below(number, len(accessors), place, "accessors")]
        if expected is not None and accessor["count"] != expected:
            raise GltfError(place, f"{expected} elements", accessor["count"])
        return int(accessor["count"])

    # --- nodes -------------------------------------------------------------------------------------------------

    def camera(self, camera: Json, place: str) -> None:
        kind = camera.get("type")
        if kind not in ("perspective", "orthographic"):
            raise GltfError(f"{place}/type", "perspective or orthographic", repr(kind))
        lens = self.member(camera, place, kind)
        needed = ("yfov", "znear") if kind == "perspective" else ("xmag", "ymag", "zfar", "znear")
        for key in (*needed, "aspectRatio", "zfar"):
            self.number(lens, f"{place}/{kind}", key, required=key in needed)

    def node(self, node: Json, place: str) -> None:
        for key, kind in (("mesh", "meshes"), ("camera", "cameras"), ("skin", "skins")):
            self.index(node, place, key, kind)
        for number in self.array(node, place, "children"):
            self.below(number, len(self.file.items("nodes")), f"{place}/children", "nodes")
        for key, width in (("translation", 3), ("rotation", 4), ("scale", 3), ("matrix", 16)):
            self.numbers(node, place, key, width)
        if "matrix" in node and any(key in node for key in ("translation", "rotation", "scale")):
            raise GltfError(place, "either a matrix or translation, rotation and scale", "both")
        self.rotation(node, place)
        self.weights(node, place)
        self.node_extensions(node, place)

    def rotation(self, node: Json, place: str) -> None:
        if "rotation" in node and not is_unit_quaternion(node["rotation"]):
            raise GltfError(f"{place}/rotation", "a unit quaternion", node["rotation"])

    def weights(self, node: Json, place: str) -> None:
        if "weights" not in node:
            return
        if "mesh" not in node:
            raise GltfError(f"{place}/weights", "a mesh that they weigh", "none")
        primitive = self.root["meshes"][node["mesh"]]["primitives"][0]
        self.numbers(node, place, "weights", len(primitive.get("targets", [])))

    def node_extensions(self, node: Json, place: str) -> None:
        if (light := extension(node, "KHR_lights_punctual")) is not None:
            lights = (extension(self.root, "KHR_lights_punctual") or {}).get("lights", [])
            self.below(light.get("light"), len(lights), f"{place}/extensions/KHR_lights_punctual/light", "lights")
        if (instances := extension(node, "EXT_mesh_gpu_instancing")) is not None:
            where = f"{place}/extensions/EXT_mesh_gpu_instancing/attributes"
            counts = {
                self.counted(number, f"{where}/{key}")
                for key, number in self.mapping(instances.get("attributes"), where)
            }
            if len(counts) > 1:
                raise GltfError(where, "attributes of one length", sorted(counts))

    def forest(self) -> None:
        """Rule 1 for the nodes: at most one parent each, and no cycle."""
        parents: dict[int, int] = {}
        nodes = self.file.items("nodes")
        for index, node in enumerate(nodes):
            for child in node.get("children", []):
                if child in parents:
                    raise GltfError(f"/nodes/{child}", f"one parent, node {parents[child]}", f"also node {index}")
                parents[child] = index
        rooted = [index for index in range(len(nodes)) if index not in parents]
        reached = 0
        while rooted:
            reached += 1
            rooted.extend(nodes[rooted.pop()].get("children", []))
        if reached < len(nodes):
            raise GltfError("/nodes", "a forest", f"a cycle among {len(nodes) - reached} nodes")

    def scene(self, scene: Json, place: str) -> None:
        listed = self.array(scene, place, "nodes")
        for number in listed:
            self.below(number, len(self.file.items("nodes")), f"{place}/nodes", "nodes")
        if len(set(listed)) < len(listed):
            raise GltfError(f"{place}/nodes", "each node once", listed)

    # --- motion ------------------------------------------------------------------------------------------------

    def skin(self, skin: Json, place: str) -> None:
        joints = self.array(skin, place, "joints")
        if not joints:
            raise GltfError(f"{place}/joints", "one or more", "none")
        for number in joints:
            self.below(number, len(self.file.items("nodes")), f"{place}/joints", "nodes")
        if len(set(joints)) < len(joints):
            raise GltfError(f"{place}/joints", "each node once", joints)
        self.index(skin, place, "skeleton", "nodes")
        matrices = self.index(skin, place, "inverseBindMatrices", "accessors")
        if matrices is not None:
            accessor = self.root["accessors"][matrices]
            found = (accessor["type"], accessor["componentType"])
            if found != ("MAT4", FLOAT) or accessor["count"] < len(joints):
                raise GltfError(f"{place}/inverseBindMatrices", f"{len(joints)} float matrices", accessor)

    def animation(self, animation: Json, place: str) -> None:
        samplers = self.array(animation, place, "samplers")
        channels = self.array(animation, place, "channels")
        if not samplers or not channels:
            raise GltfError(place, "channels and samplers", f"{len(channels)} and {len(samplers)}")
        for index, sampler in enumerate(samplers):
            self.sampler(sampler, f"{place}/samplers/{index}")
        for index, channel in enumerate(channels):
            self.channel(channel, samplers, f"{place}/channels/{index}")

    def sampler(self, sampler: Any, place: str) -> None:
        if not isinstance(sampler, dict):
            raise GltfError(place, "an object", sampler)
        self.extensions(sampler, place)
        for key in ("input", "output"):
            self.index(sampler, place, key, "accessors", required=True)
        if sampler.get("interpolation", "LINEAR") not in ("LINEAR", "STEP", "CUBICSPLINE"):
            raise GltfError(f"{place}/interpolation", "LINEAR, STEP or CUBICSPLINE", repr(sampler["interpolation"]))

    def channel(self, channel: Any, samplers: list[Any], place: str) -> None:
        if not isinstance(channel, dict):
            raise GltfError(place, "an object", channel)
        self.extensions(channel, place)
        self.below(channel.get("sampler"), len(samplers), f"{place}/sampler", "samplers")
        target = self.member(channel, place, "target")
        self.extensions(target, f"{place}/target")
        self.index(target, f"{place}/target", "node", "nodes")
        if not isinstance(target.get("path"), str):
            raise GltfError(f"{place}/target/path", f"one of {', '.join(PATHS)}", target.get("path"))

"""The structure: each thing that a file can get wrong is refused at its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.support import gltf

from maquette.engine.scene.gltf_check import check_gltf
from maquette.engine.scene.gltf_file import GltfError, read_container

Json = dict[str, Any]


def put(path: str, value: Any) -> Callable[[Json], None]:
    """A change that sets the value at a JSON pointer."""

    def change(root: Json) -> None:
        *steps, last = path.strip("/").split("/")
        owner: Any = root
        for step in steps:
            owner = owner[int(step)] if isinstance(owner, list) else owner.setdefault(step, {})
        owner[int(last) if isinstance(owner, list) else last] = value

    return change


def drop(path: str) -> Callable[[Json], None]:
    """A change that removes the member at a JSON pointer."""

    def change(root: Json) -> None:
        *steps, last = path.strip("/").split("/")
        owner: Any = root
        for step in steps:
            owner = owner[int(step) if isinstance(owner, list) else step]
        del owner[last]

    return change


BREAKS: list[tuple[str, Callable[[Json], None], str]] = [
    # (file, change, the place and what is said of it)
    ("triangle", put("/scene", 1), "/scene: expected an index into the 1 scenes, got 1"),
    ("triangle", put("/scenes/0/nodes", [7]), "/scenes/0/nodes: expected an index into the 1 nodes, got 7"),
    ("triangle", put("/scenes/0/nodes", [0, 0]), "/scenes/0/nodes: expected each node once"),
    ("triangle", put("/nodes", {}), "/nodes: expected an array, got {}"),
    ("triangle", put("/nodes/0", 5), "/nodes/0: expected an object, got 5"),
    ("triangle", put("/nodes/0/name", 5), "/nodes/0/name: expected text, got 5"),
    ("triangle", put("/nodes/0/mesh", 1), "/nodes/0/mesh: expected an index into the 1 meshes, got 1"),
    ("triangle", put("/nodes/0/mesh", -1), "/nodes/0/mesh: expected an index into the 1 meshes, got -1"),
    ("triangle", put("/nodes/0/mesh", True), "/nodes/0/mesh: expected an index into the 1 meshes, got True"),
    ("triangle", put("/nodes/0/camera", 0), "/nodes/0/camera: expected an index into the 0 cameras"),
    ("triangle", put("/nodes/0/skin", 0), "/nodes/0/skin: expected an index into the 0 skins"),
    ("triangle", put("/nodes/0/translation", [1, 2]), "/nodes/0/translation: expected 3 numbers"),
    ("triangle", put("/nodes/0/translation", [1, 2, 1e39]), "/nodes/0/translation: expected 3 numbers"),
    ("triangle", put("/nodes/0/scale", [1, "2", 3]), "/nodes/0/scale: expected 3 numbers"),
    ("triangle", put("/nodes/0/rotation", [0, 0, 0, 2]), "/nodes/0/rotation: expected a unit quaternion"),
    ("triangle", put("/nodes/0/rotation", [0, 0, 0, 0]), "/nodes/0/rotation: expected a unit quaternion"),
    ("triangle", put("/nodes/0/matrix", [1] * 15), "/nodes/0/matrix: expected 16 numbers"),
    ("lit", put("/nodes/0/scale", [1, 1, 1]), "/nodes/0: expected either a matrix or translation"),
    ("triangle", put("/nodes/0/weights", [1]), "/nodes/0/weights: expected 0 numbers"),
    ("lit", put("/nodes/0/weights", [1]), "/nodes/0/weights: expected a mesh"),
    ("triangle", put("/nodes/0/children", [0]), "/nodes: expected a forest, got a cycle among 1 nodes"),
    ("skinned", put("/nodes/0/children", [1]), "/nodes: expected a forest, got a cycle among 2 nodes"),
    ("skinned", put("/nodes/2/children", [0]), "/nodes/0: expected one parent, node 1, got also node 2"),
    ("triangle", put("/nodes/0/children", [9]), "/nodes/0/children: expected an index into the 1 nodes"),
    ("triangle", put("/nodes/0/extensions", []), "/nodes/0/extensions: expected an object"),
    ("triangle", put("/nodes/0/extensions", {"X": 1}), "/nodes/0/extensions/X: expected an object, got 1"),
    ("lit", put("/nodes/1/extensions/KHR_lights_punctual/light", 2), "light: expected an index into the 2 lights"),
    ("lit", put("/extensions/KHR_lights_punctual/lights/0/type", "sun"), "lights/0/type: expected one of directional"),
    ("lit", put("/cameras/0/type", "fisheye"), "/cameras/0/type: expected perspective or orthographic"),
    ("lit", drop("/cameras/0/perspective/yfov"), "/cameras/0/perspective/yfov: expected a number, got None"),
    ("triangle", put("/meshes/0/primitives", []), "/meshes/0/primitives: expected one or more, got none"),
    ("triangle", drop("/meshes/0/primitives/0/attributes"), "/attributes: expected an object, got None"),
    ("triangle", put("/meshes/0/primitives/0/attributes", {}), "/attributes: expected attributes of one length"),
    ("triangle", put("/meshes/0/primitives/0/attributes/POSITION", 9), "an index into the 2 accessors, got 9"),
    ("triangle", put("/meshes/0/primitives/0/attributes/POSITION", "0"), "POSITION: expected an index, got '0'"),
    ("triangle", put("/meshes/0/primitives/0/indices", 0), "/indices: expected an accessor of unsigned whole numbers"),
    ("triangle", put("/meshes/0/primitives/0/material", 1), "/material: expected an index into the 1 materials"),
    ("triangle", put("/meshes/0/primitives/0/mode", 7), "/mode: expected a whole number, 0 to 6, got 7"),
    ("textured", put("/accessors/2/count", 2), "/attributes: expected attributes of one length, got [2, 3]"),
    ("morphing", put("/accessors/3/count", 2), "targets/1/POSITION: expected 3 elements, got 2"),
    ("morphing", put("/meshes/0/weights", [1]), "/meshes/0/weights: expected 2 numbers"),
    ("triangle", put("/accessors/0/count", 4), "/accessors/0: expected elements within the 36 bytes of view 0, got 48"),
    ("triangle", put("/accessors/0/count", 0), "/accessors/0/count: expected a whole number, 1 or more, got 0"),
    ("triangle", put("/accessors/0/count", 1.5), "/accessors/0/count: expected a whole number"),
    ("triangle", put("/accessors/0/count", 2**62), "/accessors/0: expected elements within the 36 bytes"),
    ("triangle", put("/accessors/0/byteOffset", 4), "/accessors/0: expected elements within the 36 bytes"),
    ("triangle", put("/accessors/0/byteOffset", 2), "/accessors/0/byteOffset: expected an offset and a stride in"),
    ("triangle", put("/accessors/0/byteOffset", -4), "/accessors/0/byteOffset: expected a whole number, 0 or more"),
    ("triangle", put("/accessors/0/type", "VEC5"), "/accessors/0/type: expected one of SCALAR"),
    ("triangle", put("/accessors/0/type", ["VEC3"]), "/accessors/0/type: expected one of SCALAR"),
    ("triangle", put("/accessors/0/componentType", 5124), "/accessors/0/componentType: expected one of 5120"),
    ("triangle", put("/accessors/0/bufferView", 2), "/accessors/0/bufferView: expected an index into the 2 bufferV"),
    ("triangle", put("/accessors/0/min", [0, 0]), "/accessors/0/min: expected 3 numbers"),
    ("triangle", put("/accessors/0/min", [0, 0, 9]), "/accessors/0/min: expected no more than max [1.0, 1.0, 0.0]"),
    ("triangle", put("/accessors/0/normalized", 1), "/accessors/0/normalized: expected true or false"),
    ("triangle", put("/bufferViews/0/byteLength", 999), "/bufferViews/0: expected bytes within buffer 0 of 44"),
    ("triangle", put("/bufferViews/0/byteOffset", 40), "/bufferViews/0: expected bytes within buffer 0 of 44"),
    ("triangle", put("/bufferViews/0/buffer", 1), "/bufferViews/0/buffer: expected an index into the 1 buffers"),
    ("triangle", put("/bufferViews/0/byteStride", 6), "/bufferViews/0/byteStride: expected a multiple of 4"),
    ("triangle", put("/bufferViews/0/byteStride", 300), "/bufferViews/0/byteStride: expected a whole number, 4 to 252"),
    ("triangle", put("/bufferViews/0/byteStride", 8), "/accessors/0: expected a stride of at least the element's 12"),
    ("triangle", put("/bufferViews/0/byteStride", 16), "/accessors/0: expected elements within the 36 bytes"),
    ("sparse", put("/accessors/0/sparse/count", 4), "/sparse/count: expected a whole number, 1 to 3, got 4"),
    ("sparse", put("/accessors/0/sparse/indices/bufferView", 9), "/sparse/indices/bufferView: expected an index"),
    ("sparse", put("/accessors/0/sparse/values/byteOffset", 4), "/sparse/values: expected elements within the 12"),
    ("sparse", put("/accessors/0/sparse/indices/componentType", 5126), "componentType: expected one of 5121"),
    ("textured", put("/textures/0/source", 1), "/textures/0/source: expected an index into the 1 images"),
    ("textured", put("/textures/0/sampler", 1), "/textures/0/sampler: expected an index into the 1 samplers"),
    ("textured", put("/textures/0/extensions", {"X": {"source": 8}}), "/extensions/X/source: expected an index into"),
    ("textured", put("/images/0/bufferView", 9), "/images/0/bufferView: expected an index into"),
    ("textured", put("/images/0/uri", "a.png"), "/images/0: expected either a bufferView or a data: URI, got both"),
    ("textured", put("/images/0", {"uri": "a.png"}), "/images/0/uri: expected a data: URI, for the file must"),
    ("textured", put("/images/0", {}), "/images/0: expected either a bufferView or a data: URI, got neither"),
    ("textured", drop("/images/0/mimeType"), "/images/0/mimeType: expected a media type"),
    (
        "textured",
        put("/materials/0/pbrMetallicRoughness/baseColorTexture/index", 2),
        "baseColorTexture/index: expected an index into the 2 textures, got 2",
    ),
    (
        "textured",
        put("/materials/0/extensions/KHR_materials_clearcoat/clearcoatTexture/index", 2),
        "clearcoatTexture/index: expected an index into the 2 textures, got 2",
    ),
    ("triangle", put("/materials/0/normalTexture", {}), "/materials/0/normalTexture/index: expected an index"),
    ("triangle", put("/materials/0/emissiveFactor", [1]), "/materials/0/emissiveFactor: expected 3 numbers"),
    ("triangle", put("/materials/0/alphaMode", "GLASS"), "/materials/0/alphaMode: expected OPAQUE, MASK or BLEND"),
    ("triangle", put("/materials/0/doubleSided", 1), "/materials/0/doubleSided: expected true or false"),
    ("skinned", put("/skins/0/joints", []), "/skins/0/joints: expected one or more"),
    ("skinned", put("/skins/0/joints", [1, 1]), "/skins/0/joints: expected each node once"),
    ("skinned", put("/skins/0/joints", [1, 3]), "/skins/0/joints: expected an index into the 3 nodes, got 3"),
    ("skinned", put("/skins/0/skeleton", 3), "/skins/0/skeleton: expected an index into the 3 nodes"),
    ("skinned", put("/skins/0/inverseBindMatrices", 0), "/skins/0/inverseBindMatrices: expected 2 float matrices"),
    ("skinned", put("/animations/0/channels", []), "/animations/0: expected channels and samplers, got 0 and 2"),
    ("skinned", put("/animations/0/channels/0/sampler", 2), "/channels/0/sampler: expected an index into the 2 sam"),
    ("skinned", put("/animations/0/channels/0/target/node", 3), "/target/node: expected an index into the 3 nodes"),
    ("skinned", drop("/animations/0/channels/0/target/path"), "/target/path: expected one of translation"),
    ("skinned", put("/animations/0/samplers/0/input", 99), "/samplers/0/input: expected an index into"),
    ("skinned", put("/animations/0/samplers/0/interpolation", "EASE"), "/interpolation: expected LINEAR"),
    ("triangle", put("/extensionsUsed", "X"), "/extensionsUsed: expected an array"),
    ("triangle", put("/extensionsRequired", [1]), "/extensionsRequired/0: expected an extension's name"),
    (
        "triangle",
        put("/nodes/0/extensions", {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": 9}}}),
        "attributes/TRANSLATION: expected an index into the 2 accessors, got 9",
    ),
    (
        "triangle",
        put("/meshes/0/primitives/0/extensions", {"KHR_draco_mesh_compression": {"bufferView": 9}}),
        "KHR_draco_mesh_compression/bufferView: expected an index into the 2 bufferViews, got 9",
    ),
    (
        "triangle",
        put("/meshes/0/primitives/0/extensions", {"KHR_materials_variants": {"mappings": [{"material": 4}]}}),
        "mappings/0/material: expected an index into the 1 materials, got 4",
    ),
    (
        "triangle",
        put("/bufferViews/0/extensions", {"EXT_meshopt_compression": {"buffer": 0, "byteLength": 99}}),
        "EXT_meshopt_compression: expected bytes within buffer 0 of 44, got 0 to 99",
    ),
]


def checked(made: gltf.Builder, change: Callable[[Json], None] = lambda root: None) -> None:
    root = json.loads(json.dumps(made.finished()))
    change(root)
    check_gltf(read_container(gltf.glb(root, bytes(made.binary))))


@pytest.mark.parametrize("name", gltf.FILES)
def test_a_sound_file_passes(name: str) -> None:
    checked(gltf.FILES[name]())


@pytest.mark.parametrize(("name", "change", "words"), BREAKS, ids=[f"{name}-{words[:50]}" for name, _, words in BREAKS])
def test_a_broken_file_is_refused_at_its_place(name: str, change: Callable[[Json], None], words: str) -> None:
    with pytest.raises(GltfError) as caught:
        checked(gltf.FILES[name](), change)
    assert words in str(caught.value)


def test_more_zeros_than_any_model_has_are_refused() -> None:
    def claim(root: Json) -> None:
        root["accessors"][0].pop("bufferView")
        root["accessors"][0]["count"] = 999_999_999_999

    with pytest.raises(
        GltfError, match=r"/accessors/0/count: expected at most \d+ elements without a bufferView, got 9+"
    ):
        checked(gltf.FILES["triangle"](), claim)


def test_vertex_indices_beyond_the_vertices_are_refused() -> None:
    made = gltf.triangle()
    made.binary[36:42] = b"\0\0\1\0\3\0"
    with pytest.raises(GltfError, match="/indices: expected indices below the 3 vertices, got 3"):
        checked(made)


def test_a_primitive_restart_is_refused() -> None:
    made = gltf.triangle()
    made.binary[36:42] = b"\0\0\1\0\xff\xff"
    with pytest.raises(GltfError, match="got a primitive restart"):
        checked(made)


def test_sparse_indices_beyond_the_accessor_are_refused() -> None:
    made = gltf.sparse()
    place = made.root["bufferViews"][2]["byteOffset"]
    made.binary[place : place + 2] = b"\3\0"
    with pytest.raises(GltfError, match="/accessors/0/sparse/indices: expected ascending indices below 3"):
        checked(made)


def test_a_long_chain_of_nodes_is_judged_without_recursion() -> None:
    made = gltf.Builder()
    for index in range(20_000):
        made.node(root=index == 0, children=[index + 1] if index < 19_999 else [])
    checked(made)

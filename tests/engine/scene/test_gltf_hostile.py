"""Files that somebody broke on purpose: each is refused with a GltfError, or imports and exports as any other."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable

import pytest
from tests.support import gltf
from tests.support.values import mutated

from maquette.engine.scene.gltf_export import write_glb
from maquette.engine.scene.gltf_file import GltfError
from maquette.engine.scene.gltf_import import read_gltf
from maquette.engine.scene.schema import check_material, check_node

ROUNDS = 150  # for each of the files and each way to break it


def survives(data: bytes) -> bool:
    """Whether the file imports; whatever does must fit a scene and come out again as a file that imports."""
    try:
        imported = read_gltf(data)
    except GltfError:
        return False
    for node, fields in imported.nodes.items():
        check_node(fields, node)
    for fields in imported.materials.values():
        check_material(fields)
    tree = gltf.tree_of(imported.nodes)
    exported = write_glb(imported.nodes, imported.materials, imported.assets.__getitem__, tree)
    again = read_gltf(exported.data, keep_ids=True)
    assert again.nodes.keys() == imported.nodes.keys()
    return True


@pytest.mark.parametrize("name", gltf.FILES)
def test_any_change_of_the_json_is_refused_or_imports(name: str) -> None:
    made = gltf.FILES[name]()
    root = made.finished()
    dice = random.Random(name)
    outcomes = [survives(gltf.glb(mutated(root, dice), bytes(made.binary))) for _ in range(ROUNDS)]
    assert {*outcomes} == {True, False}  # the changes are neither all harmless nor all fatal


@pytest.mark.parametrize("name", gltf.FILES)
def test_two_changes_of_the_json_are_refused_or_import(name: str) -> None:
    made = gltf.FILES[name]()
    dice = random.Random(f"{name} twice")
    for _ in range(ROUNDS):
        survives(gltf.glb(mutated(mutated(made.finished(), dice), dice), bytes(made.binary)))


@pytest.mark.parametrize("name", gltf.FILES)
def test_flipped_bytes_anywhere_are_refused_or_import(name: str) -> None:
    data = gltf.FILES[name]().glb()
    dice = random.Random(f"{name} bytes")
    for _ in range(ROUNDS):
        broken = bytearray(data)
        for _ in range(dice.choice([1, 1, 1, 4])):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        survives(bytes(broken))


def test_flipped_bytes_of_the_bin_chunk_are_refused_or_import() -> None:
    for name, make in gltf.FILES.items():
        made = make()
        dice = random.Random(f"{name} binary")
        for _ in range(30 if made.binary else 0):
            binary = bytearray(made.binary)
            binary[dice.randrange(len(binary))] = dice.randrange(256)
            survives(gltf.glb(made.finished(), bytes(binary)))


def test_every_header_field_at_its_extremes_is_refused() -> None:
    data = gltf.triangle().glb()
    second = 20 + struct.unpack_from("<I", data, 12)[0]
    for offset in (4, 8, 12, 16, second, second + 4):
        for value in (0, 1, 2**31 - 1, 2**31, 2**32 - 1):
            broken = data[:offset] + struct.pack("<I", value) + data[offset + 4 :]
            with pytest.raises(GltfError):
                read_gltf(broken)


def test_every_prefix_is_refused() -> None:
    data = gltf.lit().glb()
    assert not any(survives(data[:length]) for length in range(len(data)))


def test_a_file_that_names_itself_in_vast_numbers_is_refused_quickly() -> None:
    made = gltf.triangle()
    made.root["accessors"].append({"componentType": 5126, "type": "MAT4", "count": 2**60})
    made.root["meshes"][0]["primitives"].append({"attributes": {"POSITION": 2}})
    assert not survives(made.glb())  # zeros that no bytes stand behind, more than any model has
    made.root["accessors"][2]["count"] = 3
    assert survives(made.glb())
    made.root["accessors"][2]["count"] = 2**60
    made.root["accessors"][2]["bufferView"] = 0
    assert not survives(made.glb())


def quickly(make: Callable[[], object], seconds: float = 5) -> None:
    """Run `make` and see that it takes no more of the processor than a linear step would, by far."""
    start = time.process_time()
    make()
    assert time.process_time() - start < seconds


def test_brackets_without_end_are_refused_before_they_take_memory() -> None:
    text = b'{"asset": {"version": "2.0"}, "extras": [' + b"[]," * 3_000_000 + b"[]]}"
    with pytest.raises(GltfError, match="at most 2000000 values, got about 6"):
        read_gltf(text)


def test_thousands_of_accessors_over_the_same_indices_are_refused_quickly() -> None:
    made = gltf.triangle()
    zeros = made.view(bytes(8_000_000))
    position = made.root["meshes"][0]["primitives"][0]["attributes"]
    for start in range(0, 20_000, 2):
        item = {"bufferView": zeros, "byteOffset": start, "componentType": 5123, "type": "SCALAR", "count": 3_900_000}
        indices = made.add("accessors", **item)
        made.root["meshes"][0]["primitives"].append({"attributes": position, "indices": indices})
    data = made.glb()
    with pytest.raises(GltfError, match="share few bytes"):
        quickly(lambda: read_gltf(data))


def test_many_nodes_of_a_mesh_of_many_primitives_are_imported_quickly() -> None:
    made = gltf.shared(5_000)
    mesh = made.root["meshes"][0]
    mesh["primitives"] = mesh["primitives"] * 1_000
    data = made.glb()
    quickly(lambda: read_gltf(data), 10)


def test_many_leaves_at_the_end_of_a_long_chain_are_rooted_quickly() -> None:
    made = gltf.Builder()
    for index in range(10_000):
        made.node(children=[index + 1] if index < 9_999 else list(range(10_000, 20_000)))
    for _ in range(10_000):
        made.node(root=True)
    data = made.glb()
    quickly(lambda: read_gltf(data), 10)


def test_notes_that_claim_vast_shapes_are_not_believed() -> None:
    made = gltf.shared(2_000)
    for index, node in enumerate(made.root["nodes"]):
        shape = {"shape": "torus", "radius": index + 1, "radial_segments": 512, "tubular_segments": 512}
        node["extras"] = {"maquette": {"shape": shape}}
    data = made.glb()
    quickly(lambda: read_gltf(data, keep_ids=True))

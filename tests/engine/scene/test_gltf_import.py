"""A glTF file as scene nodes and materials."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support import gltf

from maquette.engine.assets import asset_id
from maquette.engine.ids import RandomBytes
from maquette.engine.scene.geometry import compose, from_gltf
from maquette.engine.scene.gltf_import import Counts, Imported, read_gltf
from maquette.engine.scene.schema import check_material, check_node


def named(imported: Imported, name: str) -> dict[str, Any]:
    """The one node of that name."""
    (found,) = (fields for fields in imported.nodes.values() if fields["name"] == name)
    return found


def id_of(imported: Imported, name: str) -> str:
    (found,) = (node for node, fields in imported.nodes.items() if fields["name"] == name)
    return found


def seeded(seed: int) -> RandomBytes:
    return np.random.default_rng(seed).bytes


@pytest.mark.parametrize("name", gltf.FILES)
def test_everything_imported_passes_the_schema(name: str) -> None:
    imported = read_gltf(gltf.FILES[name]().glb())
    assert imported.nodes
    for node, fields in imported.nodes.items():
        check_node(fields, node)
    for fields in imported.materials.values():
        check_material(fields)


def test_the_file_is_the_one_asset_byte_for_byte() -> None:
    for data in (gltf.triangle().glb(), gltf.triangle().gltf()):
        assert read_gltf(data).assets == {asset_id(data): data}


def test_a_mesh_node_points_into_the_asset() -> None:
    data = gltf.triangle().glb()
    imported = read_gltf(data)
    ((material, red),) = imported.materials.items()
    node = named(imported, "Triangle")
    assert node["type"] == "mesh"
    assert node["mesh"] == [asset_id(data), 0]
    assert node["slots"] == {"0": material}
    assert node["source"] == [asset_id(data), 0, imported.instance]
    assert red == {"name": "Red", "base_color": [1, 0, 0, 1], "source": [asset_id(data), 0]}


def test_a_node_without_a_transform_has_the_identity() -> None:
    node = named(read_gltf(gltf.triangle().glb()), "Triangle")
    assert [node[field] for field in ("translation", "rotation", "scale")] == [[0, 0, 0], [0, 0, 0, 1], [1, 1, 1]]
    assert (node["visible"], node["locked"]) == (True, False)


def test_a_matrix_with_a_trs_form_is_decomposed() -> None:
    made = gltf.lit()
    node = named(read_gltf(made.glb()), "Node 0")
    assert "matrix" not in node
    found = compose(node["translation"], node["rotation"], node["scale"])
    np.testing.assert_allclose(found, from_gltf(made.root["nodes"][0]["matrix"]), atol=1e-12)


def test_a_sheared_matrix_is_kept_whole() -> None:
    made = gltf.triangle()
    matrix = [1, 0, 0, 0, 0.5, 1, 0, 0, 0, 0, 1, 0, 7, 8, 9, 1]
    made.root["nodes"][0]["matrix"] = matrix
    node = named(read_gltf(made.glb()), "Triangle")
    assert node["matrix"] == matrix
    assert node["translation"] == [0, 0, 0]


def test_cameras_and_lights_are_fields_of_their_nodes() -> None:
    imported = read_gltf(gltf.lit().glb())
    camera, light = named(imported, "Node 0"), named(imported, "Spot")
    assert (camera["type"], light["type"]) == ("camera", "light")
    lens = {"yfov": 0.7, "znear": 0.1}
    assert camera["camera"] == {"name": "Lens", "type": "perspective", "perspective": lens}
    assert light["light"]["spot"] == {"outerConeAngle": 0.5}


def test_extras_are_kept_whatever_they_are() -> None:
    imported = read_gltf(gltf.lit().glb())
    assert named(imported, "Node 0")["extras"] == {"shot": 7}
    assert named(imported, "Spot")["extras"] == "a text"


def test_weights_of_a_node_are_kept() -> None:
    assert named(read_gltf(gltf.morphing().glb()), "Triangle")["weights"] == [0.25, 0]


def test_children_hang_from_their_parent_in_the_files_order() -> None:
    made = gltf.Builder()
    children = [made.node(name=f"Child {index}") for index in range(30)]
    made.node(root=True, name="Parent", children=children[::-1])
    imported = read_gltf(made.glb())
    tree = gltf.tree_of(imported.nodes)
    names = [imported.nodes[node]["name"] for node in tree.children(id_of(imported, "Parent"))]
    assert names == [f"Child {index}" for index in range(29, -1, -1)]


def test_roots_are_put_where_the_caller_says() -> None:
    imported = read_gltf(gltf.shared(3).glb(), parent="shelf", after="V9")
    orders = [fields["place"][1] for fields in imported.nodes.values()]
    assert [fields["place"][0] for fields in imported.nodes.values()] == ["shelf"] * 3
    assert orders == sorted(orders)
    assert min(orders) > "V9"


def test_a_sibling_at_the_end_of_all_orders_does_not_stop_an_import() -> None:
    imported = read_gltf(gltf.shared(3).glb(), after="z" * 256)
    orders = [fields["place"][1] for fields in imported.nodes.values()]
    assert orders == sorted(orders)


def test_the_same_randomness_gives_the_same_scene() -> None:
    data = gltf.skinned().glb()
    assert read_gltf(data, random=seeded(1)) == read_gltf(data, random=seeded(1))
    assert read_gltf(data, random=seeded(1)).instance != read_gltf(data, random=seeded(2)).instance


def test_ids_come_from_the_caller() -> None:
    names = iter(["material", "node"])
    imported = read_gltf(gltf.triangle().glb(), ids=lambda: next(names))
    assert list(imported.materials) == ["material"]
    assert list(imported.nodes) == ["node"]


def test_counts_say_what_the_file_shows() -> None:
    assert read_gltf(gltf.shared(5).glb()).counts == Counts(nodes=5, meshes=1, triangles=5, materials=1)
    assert read_gltf(gltf.skinned().glb()).counts == Counts(nodes=3, meshes=1, triangles=4, skins=1, animations=1)
    assert read_gltf(gltf.lit().glb()).counts == Counts(nodes=2, cameras=1, lights=1)


@pytest.mark.parametrize(("mode", "expected"), [(0, 0), (1, 0), (2, 0), (3, 0), (4, 2), (5, 4), (6, 4)])
def test_triangles_follow_the_mode_of_a_primitive(mode: int, expected: int) -> None:
    made = gltf.Builder()
    attributes = {"POSITION": made.accessor([[0, 0, 0]] * 6, bounds=True)}
    made.node(root=True, mesh=made.add("meshes", primitives=[{"attributes": attributes, "mode": mode}]))
    assert read_gltf(made.glb()).counts.triangles == expected


def test_what_is_outside_the_default_scene_is_named() -> None:
    made = gltf.triangle()
    made.add("scenes", name="Night", nodes=[made.node(name="Moon")])
    imported = read_gltf(made.glb())
    assert [fields["name"] for fields in imported.nodes.values()] == ["Triangle"]
    assert imported.warnings == (
        "scene 1 'Night' is not the default scene and was left out",
        "1 nodes are not in the default scene and were left out",
    )


def test_a_file_without_scenes_gives_all_its_roots() -> None:
    made = gltf.skinned()
    del made.root["scenes"], made.root["scene"]
    imported = read_gltf(made.glb())
    assert len(imported.nodes) == 3
    assert imported.warnings == ("the file has no scene: all its root nodes were taken",)


def test_a_scene_that_lists_a_child_takes_it_once() -> None:
    made = gltf.skinned()
    made.root["scenes"][0]["nodes"] = [0, 1, 2]
    imported = read_gltf(made.glb())
    assert named(imported, "Tip")["place"][0] == id_of(imported, "Base")
    made.root["scenes"][0]["nodes"] = [0]
    assert [fields["name"] for fields in read_gltf(made.glb()).nodes.values()] == ["Tip"]


def test_unknown_extensions_are_named_and_kept_in_the_asset() -> None:
    made = gltf.triangle()
    made.extend("ACME_glow")
    made.extend("ACME_core", required=True)
    assert read_gltf(made.glb()).warnings == (
        "extension ACME_glow: unknown here, kept in the asset as it is",
        "extension ACME_core, which the file requires: unknown here, kept in the asset as it is",
    )


def test_notes_that_have_no_place_in_a_scene_are_named() -> None:
    made = gltf.triangle()
    made.root["scenes"][0]["extras"] = {"sky": "blue"}
    made.root["asset"]["extras"] = 1
    assert read_gltf(made.glb()).warnings == (
        "/asset: its extras and extensions have no place in a scene",
        "scene 0: its extras and extensions have no place in a scene",
    )


def test_what_the_schema_refuses_is_named_and_left_out() -> None:
    made = gltf.triangle()
    made.root["materials"][0]["pbrMetallicRoughness"]["baseColorFactor"] = [5, 0, 0, 1]
    made.root["nodes"][0] |= {"extras": {"long": "x" * 70_000}, "name": "n" * 300}
    imported = read_gltf(made.glb())
    ((_, node),) = imported.nodes.items()
    assert "extras" not in node
    assert node["name"] == "n" * 256
    assert "base_color" not in next(iter(imported.materials.values()))
    assert any(text.startswith("node 0: extras was left out") for text in imported.warnings)
    assert any(text.startswith("material 0: base_color was left out") for text in imported.warnings)


def test_an_emissive_strength_is_part_of_the_register() -> None:
    made = gltf.triangle()
    made.extend("KHR_materials_emissive_strength")
    strength = {"KHR_materials_emissive_strength": {"emissiveStrength": 8}}
    made.root["materials"][0] |= {"emissiveFactor": [0.5, 1, 0], "extensions": strength}
    assert next(iter(read_gltf(made.glb()).materials.values()))["emissive"] == [4, 8, 0]


def test_a_hidden_node_is_not_visible() -> None:
    made = gltf.triangle()
    made.extend("KHR_node_visibility")
    made.root["nodes"][0]["extensions"] = {"KHR_node_visibility": {"visible": False}}
    assert named(read_gltf(made.glb()), "Triangle")["visible"] is False


def test_a_chain_of_thousands_of_nodes_is_imported() -> None:
    made = gltf.Builder()
    for index in range(5_000):
        made.node(root=index == 0, children=[index + 1] if index < 4_999 else [])
    assert len(read_gltf(made.glb()).nodes) == 5_000


def test_ids_are_kept_only_when_asked_for_and_only_once() -> None:
    made = gltf.shared(3)
    for node, noted in zip(made.root["nodes"], ["one", "one", "not an id"], strict=True):
        node["extras"] = {"maquette": {"id": noted}, "mine": 1}
    kept = list(read_gltf(made.glb(), keep_ids=True).nodes)
    assert kept[0] == "one"
    assert len(set(kept)) == 3
    fresh = read_gltf(made.glb())
    assert "one" not in fresh.nodes
    assert [fields["extras"] for fields in fresh.nodes.values()] == [{"mine": 1}] * 3

"""A scene as one GLB: what the registers say, over what the assets hold."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import numpy as np
import pygltflib
import pytest
from pycrdt import Doc, Map
from tests.support import gltf

from maquette.engine.assets import AssetDamaged
from maquette.engine.errors import NotFound
from maquette.engine.scene.gltf_export import Exported, write_glb
from maquette.engine.scene.gltf_import import Counts, Imported, read_gltf
from maquette.engine.scene.schema import new_node

Json = dict[str, Any]


class Scene:
    """Imported files together, open to changes."""

    def __init__(self, *files: bytes) -> None:
        self.nodes: dict[str, Json] = {}
        self.materials: dict[str, Json] = {}
        self.assets: dict[str, bytes] = {}
        for data in files:
            self.add(read_gltf(data))

    def add(self, imported: Imported) -> None:
        self.nodes |= json.loads(json.dumps(imported.nodes))
        self.materials |= json.loads(json.dumps(imported.materials))
        self.assets |= imported.assets

    def id(self, name: str) -> str:
        return next(node for node, fields in self.nodes.items() if fields["name"] == name)

    def node(self, name: str) -> Json:
        return self.nodes[self.id(name)]

    def trash(self, name: str) -> None:
        self.node(name)["trashed"] = {"by": "me", "at": 1}

    def asset(self, name: str) -> bytes:
        if name not in self.assets:
            raise NotFound("asset", name)
        return self.assets[name]

    def export(self) -> Exported:
        return write_glb(self.nodes, self.materials, self.asset, gltf.tree_of(self.nodes))


def root_of(exported: Exported) -> Json:
    return gltf.parts(exported.data)[0]


def by_name(root: Json, name: str) -> Json:
    found: Json = next(node for node in root["nodes"] if node["name"] == name)
    return found


# --- there and back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", gltf.FILES)
def test_an_export_that_is_imported_gives_the_same_scene(name: str) -> None:
    scene = Scene(gltf.FILES[name]().glb())
    again = read_gltf(scene.export().data, keep_ids=True)
    assert gltf.comparable(again.nodes) == gltf.comparable(scene.nodes)
    assert gltf.tree_of(again.nodes).children(None) == gltf.tree_of(scene.nodes).children(None)
    assert again.materials.keys() == scene.materials.keys()
    for material, fields in again.materials.items():
        assert {**fields, "source": 0} == {**scene.materials[material], "source": 0}


@pytest.mark.parametrize("name", gltf.FILES)
def test_the_second_export_is_the_first_byte_for_byte(name: str) -> None:
    first = Scene(gltf.FILES[name]().glb()).export()
    scene = Scene()
    scene.add(read_gltf(first.data, keep_ids=True))
    assert scene.export().data == first.data


def test_an_independent_reader_finds_the_same_content() -> None:
    read = pygltflib.GLTF2.load_from_bytes(Scene(gltf.skinned().glb()).export().data)
    assert [read.nodes[joint].name for joint in read.skins[0].joints] == ["Base", "Tip"]
    assert read.nodes[read.animations[0].channels[0].target.node].name == "Tip"
    assert read.accessors[read.meshes[0].primitives[0].indices].count == 12


def test_geometry_is_copied_bit_by_bit() -> None:
    made = gltf.skinned()
    data = Scene(made.glb()).export().data
    primitive = gltf.parts(data)[0]["meshes"][0]["primitives"][0]
    source = made.root["meshes"][0]["primitives"][0]
    for key, accessor in source["attributes"].items():
        assert gltf.values(data, primitive["attributes"][key]) == gltf.values(made.glb(), accessor)
    assert gltf.values(data, primitive["indices"]) == gltf.values(made.glb(), source["indices"])


def test_numbers_keep_every_digit() -> None:
    scene = Scene(gltf.triangle().glb())
    numbers = [0.1 + 0.2, 1e-9 / 3, -123456.789012345]
    scene.node("Triangle")["translation"] = numbers
    assert root_of(scene.export())["nodes"][0]["translation"] == numbers


def test_registers_that_went_through_a_document_export_alike() -> None:
    for make in gltf.FILES.values():
        scene, again = Scene(make().glb()), Scene()
        doc = Doc[Any]()
        nodes = doc.get("nodes", type=Map[Any])
        for node, fields in scene.nodes.items():
            nodes[node] = Map({**fields, "slots": Map(fields["slots"])} if "slots" in fields else fields)
        again.nodes = nodes.to_py() or {}
        again.materials, again.assets = scene.materials, scene.assets
        assert again.export().counts == scene.export().counts
        assert again.export().warnings == ()
        read = read_gltf(again.export().data, keep_ids=True)
        assert gltf.comparable(read.nodes) == gltf.comparable(scene.nodes)


# --- nodes -------------------------------------------------------------------------------------------------------


def test_registers_are_what_the_scene_says() -> None:
    scene = Scene(gltf.skinned().glb())
    scene.node("Tip").update(name="Top", scale=[2.0, 2.0, 2.0], rotation=[0.0, 1.0000001, 0.0, 0.0], visible=False)
    node = by_name(root_of(scene.export()), "Top")
    assert (node["scale"], node["rotation"]) == ([2, 2, 2], [0, 1, 0, 0])
    assert node["extensions"] == {"KHR_node_visibility": {"visible": False}}


def test_a_matrix_without_a_trs_form_is_written_with_a_warning() -> None:
    scene = Scene(gltf.triangle().glb())
    matrix = [1.0, 0.0, 0.0, 0.0, 0.5, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 7.0, 8.0, 9.0, 1.0]
    scene.node("Triangle")["matrix"] = matrix
    exported = scene.export()
    node = root_of(exported)["nodes"][0]
    assert (node["matrix"], "translation" in node) == (matrix, False)
    assert "its matrix has no translation, rotation and scale" in exported.warnings[0]


def test_hierarchy_is_by_effective_parents() -> None:
    scene = Scene(gltf.skinned().glb())
    scene.node("Tip")["place"] = [scene.id("Strip"), "V"]
    scene.node("Base")["place"] = ["a parent that is gone", "V"]
    root = root_of(scene.export())
    names = [node["name"] for node in root["nodes"]]
    assert by_name(root, "Strip")["children"] == [names.index("Tip")]
    assert "children" not in by_name(root, "Base")


def test_what_is_trashed_is_left_out_with_all_below_it() -> None:
    scene = Scene(gltf.textured().glb(), gltf.morphing().glb())
    scene.nodes["group"] = new_node("group", "Group", (None, "V"))
    textured = next(name for name, fields in scene.nodes.items() if "weights" not in fields and name != "group")
    scene.nodes[textured]["place"] = ["group", "V"]
    scene.trash("Group")
    exported = scene.export()
    assert exported.counts == Counts(nodes=1, meshes=1, triangles=1, animations=1, materials=1)
    assert "images" not in root_of(exported)
    assert exported.warnings == ("1 imported materials that no node uses were left out",)


def test_ids_go_beside_the_users_extras() -> None:
    scene = Scene(gltf.lit().glb())
    nodes = root_of(scene.export())["nodes"]
    one, two = scene.id("Node 0"), scene.id("Spot")
    assert nodes[0]["extras"] == {"shot": 7, "maquette": {"id": one}}
    assert nodes[1]["extras"] == {"maquette": {"id": two, "extras": "a text"}}


def test_locks_and_types_that_gltf_lacks_come_back() -> None:
    scene = Scene()
    scene.nodes["label"] = new_node("text", "Label", (None, "V"), locked=True)
    again = read_gltf(scene.export().data, keep_ids=True)
    assert (again.nodes["label"]["type"], again.nodes["label"]["locked"]) == ("text", True)


def test_an_empty_scene_is_a_file() -> None:
    assert read_gltf(Scene().export().data).counts == Counts()


def test_lights_and_cameras_that_are_equal_are_stored_once() -> None:
    scene = Scene(gltf.lit().glb(), gltf.lit().glb())
    root = root_of(scene.export())
    assert len(root["cameras"]) == len(root["extensions"]["KHR_lights_punctual"]["lights"]) == 1


def test_weights_that_do_not_fit_the_mesh_are_named_and_left_out() -> None:
    scene = Scene(gltf.morphing().glb())
    scene.node("Triangle")["weights"] = [1.0]
    exported = scene.export()
    assert "weights" not in root_of(exported)["nodes"][0]
    assert any("expected weights for 2 morph targets, got 1" in text for text in exported.warnings)


# --- meshes and materials ----------------------------------------------------------------------------------------


def test_a_mesh_that_many_nodes_show_is_stored_once() -> None:
    scene = Scene(gltf.shared(100).glb())
    root = root_of(scene.export())
    assert (len(root["nodes"]), len(root["meshes"]), len(root["accessors"])) == (100, 1, 2)


def test_a_file_imported_twice_is_stored_once() -> None:
    data = gltf.morphing().glb()
    one, two = Scene(data).export(), Scene(data, data).export()
    assert two.counts.nodes == 2
    assert len(gltf.parts(two.data)[1]) == len(gltf.parts(one.data)[1])


def test_another_material_makes_another_mesh_over_the_same_accessors() -> None:
    scene = Scene(gltf.shared(3).glb())
    scene.materials["blue"] = {"name": "Blue", "base_color": [0.0, 0.0, 1.0, 1.0]}
    scene.node("Copy 1")["slots"] = {"0": "blue"}
    root = root_of(scene.export())
    assert len(root["meshes"]) == 2
    one, two = (mesh["primitives"][0] for mesh in root["meshes"])
    assert one["attributes"] == two["attributes"]
    assert one["indices"] == two["indices"]
    shown = root["meshes"][by_name(root, "Copy 1")["mesh"]]["primitives"][0]["material"]
    assert root["materials"][shown]["name"] == "Blue"


@pytest.mark.parametrize("slots", [{}, {"0": "gone"}, {"9": "gone"}])
def test_a_slot_without_a_material_shows_the_meshs_own(slots: Json) -> None:
    scene = Scene(gltf.triangle().glb())
    scene.node("Triangle")["slots"] = slots
    root = root_of(scene.export())
    assert root["materials"][root["meshes"][0]["primitives"][0]["material"]]["name"] == "Red"


def test_registers_override_the_sources_material() -> None:
    scene = Scene(gltf.textured().glb())
    (material,) = scene.materials.values()
    material.update(
        base_color=[0.0, 1.0, 0.0, 0.5], roughness=0.25, alpha_mode="BLEND", double_sided=True, name="Green"
    )
    made = root_of(scene.export())["materials"][0]
    assert made["name"] == "Green"
    assert (made["alphaMode"], made["doubleSided"]) == ("BLEND", True)
    surface = made["pbrMetallicRoughness"]
    assert (surface["baseColorFactor"], surface["roughnessFactor"]) == ([0, 1, 0, 0.5], 0.25)
    assert surface["baseColorTexture"]["extensions"]["KHR_texture_transform"]["scale"] == [2, 2]


def test_a_register_that_is_unset_gives_way_to_the_source() -> None:
    scene = Scene(gltf.triangle().glb())
    (material,) = scene.materials.values()
    del material["base_color"], material["name"]
    made = root_of(scene.export())["materials"][0]
    assert (made["name"], made["pbrMetallicRoughness"]) == ("Red", {"baseColorFactor": [1, 0, 0, 1]})


@pytest.mark.parametrize("emissive", [[0.1, 0.2, 0.3], [1.0, 1.0, 1.0], [3.3, 0.1, 7.7], [1e30, 0.0, 1e-30]])
def test_emissive_light_comes_back_exactly(emissive: list[float]) -> None:
    scene = Scene(gltf.triangle().glb())
    next(iter(scene.materials.values()))["emissive"] = emissive
    exported = scene.export()
    assert max(root_of(exported)["materials"][0]["emissiveFactor"]) <= 1
    (material,) = read_gltf(exported.data).materials.values()
    assert material["emissive"] == emissive


def test_a_register_that_says_what_the_source_says_leaves_its_spelling() -> None:
    made = gltf.triangle()
    made.extend("KHR_materials_emissive_strength")
    strength = {"KHR_materials_emissive_strength": {"emissiveStrength": 10}}
    made.root["materials"][0] |= {"emissiveFactor": [0.5, 1, 0], "extensions": strength}
    material = root_of(Scene(made.glb()).export())["materials"][0]
    assert (material["emissiveFactor"], material["extensions"]) == ([0.5, 1, 0], strength)


def test_textures_are_mapped_wherever_they_are() -> None:
    scene = Scene(gltf.morphing().glb(), gltf.textured().glb())
    other = gltf.textured()
    other.root["images"][0]["name"] = "another asset"
    scene.add(read_gltf(other.glb()))
    root = root_of(scene.export())
    assert len(root["textures"]) == 4
    assert len(root["samplers"]) == 1
    names = {}
    for material in root["materials"]:
        if "baseColorTexture" in material["pbrMetallicRoughness"]:
            coat = material["extensions"]["KHR_materials_clearcoat"]["clearcoatTexture"]["index"]
            base = material["pbrMetallicRoughness"]["baseColorTexture"]["index"]
            names[coat, base] = [
                root["images"][root["textures"][index]["source"]].get("name") for index in (coat, base)
            ]
    assert sorted(names.values(), key=str) == [["another asset"] * 2, [None] * 2]
    assert all(coat != base for coat, base in names)


def test_an_image_in_a_data_uri_goes_to_the_bin_chunk() -> None:
    made = gltf.textured()
    uri = "data:image/png;base64," + base64.b64encode(gltf.PNG).decode()
    made.root["images"][0] = {"uri": uri}
    root, binary = gltf.parts(Scene(made.gltf()).export().data)
    (image,) = root["images"]
    view = root["bufferViews"][image["bufferView"]]
    assert image["mimeType"] == "image/png"
    assert binary[view["byteOffset"] :][: view["byteLength"]] == gltf.PNG


def test_a_shape_becomes_a_mesh_and_a_shape_again() -> None:
    scene = Scene()
    for index, name in enumerate(("One", "Two")):
        ball = {"shape": "sphere", "radius": 2.0}
        scene.nodes[f"ball{index}"] = new_node("mesh", name, (None, f"V{index + 1}"), mesh=ball)
    exported = scene.export()
    assert (exported.counts.meshes, exported.counts.triangles) == (1, 2 * 32 * (14 * 2 + 2))
    again = read_gltf(exported.data, keep_ids=True)
    assert [fields["mesh"] for fields in again.nodes.values()] == [{"shape": "sphere", "radius": 2.0}] * 2


def test_shapes_of_many_colours_share_their_geometry_and_come_back() -> None:
    scene = Scene()
    for index in range(100):
        scene.materials[f"paint{index}"] = {"name": f"Paint {index}"}
        place, slots = (None, f"V{index + 100}"), {"0": f"paint{index}"}
        scene.nodes[f"ball{index}"] = new_node("mesh", "Ball", place, mesh={"shape": "sphere"}, slots=slots)
    exported = scene.export()
    assert (exported.counts.meshes, len(root_of(exported)["accessors"])) == (100, 4)
    again = read_gltf(exported.data, keep_ids=True)
    assert all(fields["mesh"] == {"shape": "sphere"} for fields in again.nodes.values())
    assert again.nodes["ball7"]["slots"] == {"0": "paint7"}


def test_a_shape_that_another_program_edited_stays_a_mesh() -> None:
    scene = Scene()
    scene.nodes["box"] = new_node("mesh", "Box", (None, "V"))
    root, binary = gltf.parts(scene.export().data)
    edited = np.frombuffer(binary, "<f4").copy()
    edited[0] += 1
    root["accessors"][0].pop("min"), root["accessors"][0].pop("max")
    again = read_gltf(gltf.glb(root, edited.tobytes()), keep_ids=True)
    assert isinstance(again.nodes["box"]["mesh"], list)


def test_a_mesh_that_is_not_there_is_named() -> None:
    scene = Scene(gltf.triangle().glb())
    node = scene.node("Triangle")
    (asset,) = scene.assets
    for mesh, words in (([asset, 5], "expected an index into its 1 meshes, got 5"), (["A" * 43, 0], "existing asset")):
        node["mesh"] = mesh
        exported = scene.export()
        assert "mesh" not in root_of(exported)["nodes"][0]
        assert any(words in text for text in exported.warnings)


def test_an_asset_that_is_no_gltf_is_named() -> None:
    scene = Scene(gltf.triangle().glb())
    scene.assets = dict.fromkeys(scene.assets, b"a picture")
    exported = scene.export()
    assert exported.counts == Counts(nodes=1)
    assert "a GLB or JSON text" in exported.warnings[0]


def test_a_damaged_asset_stops_the_export() -> None:
    scene = Scene(gltf.triangle().glb())

    def damaged(asset: str) -> bytes:
        raise AssetDamaged(asset, "other bytes")

    with pytest.raises(AssetDamaged):
        write_glb(scene.nodes, scene.materials, damaged, gltf.tree_of(scene.nodes))


# --- skins and animations ----------------------------------------------------------------------------------------


def test_two_imports_of_a_skin_have_their_own_joints() -> None:
    data = gltf.skinned().glb()
    root = root_of(Scene(data, data).export())
    assert len(root["skins"]) == len(root["animations"]) == 2
    joints = [joint for skin in root["skins"] for joint in skin["joints"]]
    assert len(set(joints)) == 4
    targets = [channel["target"]["node"] for one in root["animations"] for channel in one["channels"]]
    assert set(targets) == set(joints)
    assert len(root["meshes"]) == 1
    assert root["skins"][0]["inverseBindMatrices"] == root["skins"][1]["inverseBindMatrices"]


def test_a_trashed_joint_is_a_bare_node_so_that_the_skin_keeps_its_form() -> None:
    scene = Scene(gltf.skinned().glb())
    scene.nodes["lamp"] = new_node("light", "Lamp", (scene.id("Tip"), "V"))
    scene.node("Tip")["light"] = {"type": "point"}
    scene.trash("Tip")
    root = root_of(scene.export())
    tip = by_name(root, "Tip")
    assert (tip["translation"], tip.get("extensions")) == ([0, 1, 0], None)
    assert len(root["skins"][0]["joints"]) == 2
    assert [node["name"] for node in root["nodes"]] == ["Base", "Tip", "Strip"]


def test_what_hangs_between_a_trashed_joint_and_the_shown_comes_along_bare() -> None:
    scene = Scene(gltf.skinned().glb())
    scene.nodes["limb"] = new_node("group", "Limb", (scene.id("Base"), "V"), translation=[0.0, 0.5, 0.0])
    scene.nodes["other"] = new_node("group", "Other", ("limb", "W"))
    scene.node("Tip")["place"] = ["limb", "V"]
    scene.trash("Limb")
    root = root_of(scene.export())
    assert [node["name"] for node in root["nodes"]] == ["Base", "Limb", "Tip", "Strip"]
    assert by_name(root, "Limb")["translation"] == [0, 0.5, 0]
    assert by_name(root, "Limb")["children"] == [2]


def test_a_skin_whose_joint_is_gone_is_given_up_with_a_warning() -> None:
    scene = Scene(gltf.skinned().glb())
    del scene.nodes[scene.id("Tip")]
    exported = scene.export()
    assert "skins" not in root_of(exported)
    assert any("1 of the 2 joints of its skin are gone" in text for text in exported.warnings)
    assert any("1 of its 2 channels" in text for text in exported.warnings)


def test_a_mesh_from_elsewhere_takes_no_skin() -> None:
    scene = Scene(gltf.skinned().glb(), gltf.triangle().glb())
    scene.node("Strip")["mesh"] = scene.node("Triangle")["mesh"]
    assert "skins" not in root_of(scene.export())


def test_joints_under_different_roots_get_one_and_lose_it_again() -> None:
    scene = Scene(gltf.skinned().glb())
    scene.node("Tip")["place"] = [None, "z"]
    exported = scene.export()
    root = root_of(exported)
    assert len(root["scenes"][0]["nodes"]) == 1
    again = read_gltf(exported.data, keep_ids=True)
    assert gltf.comparable(again.nodes) == gltf.comparable(scene.nodes)


def test_an_animation_keeps_the_channels_whose_nodes_are_there() -> None:
    scene = Scene(gltf.skinned().glb())
    scene.trash("Base")
    scene.trash("Strip")
    exported = scene.export()
    assert exported.counts == Counts()
    scene = Scene(gltf.skinned().glb())
    scene.trash("Tip")
    scene.trash("Strip")
    exported = scene.export()
    (animation,) = root_of(exported)["animations"]
    assert [channel["target"]["path"] for channel in animation["channels"]] == ["translation"]
    assert len(animation["samplers"]) == 1
    assert [channel["sampler"] for channel in animation["channels"]] == [0]
    assert gltf.values(exported.data, animation["samplers"][0]["output"]) == [[0, 0, 0], [0, 3, 0]]
    assert exported.warnings == ("animation 'Bend': 1 of its 2 channels were left out",)


def test_a_matrix_takes_no_motion() -> None:
    scene = Scene(gltf.skinned().glb())
    scene.node("Tip")["matrix"] = [1, 0, 0, 0, 0.5, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    channels = root_of(scene.export())["animations"][0]["channels"]
    assert [channel["target"]["path"] for channel in channels] == ["translation"]


def test_weights_are_not_animated_on_another_mesh() -> None:
    scene = Scene(gltf.morphing().glb(), gltf.triangle().glb())
    plain, morphing = sorted(scene.nodes.values(), key=lambda fields: "weights" in fields)
    morphing["mesh"] = plain["mesh"]
    del morphing["weights"]
    assert "animations" not in root_of(scene.export())


# --- extensions --------------------------------------------------------------------------------------------------


def extended(**extensions: Json) -> Scene:
    made = gltf.triangle()
    made.extend(*extensions)
    made.root["nodes"][0]["extensions"] = extensions
    return Scene(made.glb())


def test_an_unknown_extension_that_refers_to_nothing_is_carried() -> None:
    value = {"glow": 0.5, "tint": [0.5, 1.0], "deep": {"on": True}}
    exported = extended(ACME_glow=value).export()
    assert root_of(exported)["nodes"][0]["extensions"] == {"ACME_glow": value}
    assert root_of(exported)["extensionsUsed"] == ["ACME_glow"]
    assert exported.warnings == ()


@pytest.mark.parametrize("value", [{"node": 0}, {"deep": [{"mesh": 1}]}, {"pointer": "/nodes/0/translation"}])
def test_an_unknown_extension_that_may_refer_is_left_out_with_a_warning(value: Json) -> None:
    exported = extended(ACME_link=value).export()
    assert "extensions" not in root_of(exported)["nodes"][0]
    assert "extensionsUsed" not in root_of(exported)
    assert any("extension ACME_link of a node may refer to other objects" in text for text in exported.warnings)


@pytest.mark.parametrize("value", [5, [], {"a": 5}, {"ACME": {"node": 3.0}}])
def test_extensions_of_a_light_that_cannot_be_carried_are_left_out(value: Any) -> None:
    scene = Scene()
    light = {"type": "point", "extensions": value}
    scene.nodes["lamp"] = new_node("light", "Lamp", (None, "V"), light=light)
    exported = scene.export()
    assert root_of(exported)["extensions"]["KHR_lights_punctual"]["lights"] == [{"type": "point"}]
    assert len(exported.warnings) == (isinstance(value, dict))


def test_instances_are_mapped() -> None:
    made = gltf.triangle()
    made.extend("EXT_mesh_gpu_instancing", required=True)
    places = made.accessor([[0, 0, 0], [5, 0, 0]])
    made.root["nodes"][0]["extensions"] = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": places}}}
    data = Scene(gltf.morphing().glb(), made.glb()).export().data
    root = gltf.parts(data)[0]
    (found,) = (node["extensions"] for node in root["nodes"] if "extensions" in node)
    mapped = found["EXT_mesh_gpu_instancing"]["attributes"]["TRANSLATION"]
    assert gltf.values(data, mapped) == [[0, 0, 0], [5, 0, 0]]
    assert root["extensionsRequired"] == ["EXT_mesh_gpu_instancing"]


def test_draco_bytes_are_copied_as_they_are() -> None:
    made = gltf.triangle()
    made.extend("KHR_draco_mesh_compression", required=True)
    packed = made.view(b"draco bytes")
    primitive = made.root["meshes"][0]["primitives"][0]
    draco = {"bufferView": packed, "attributes": {"POSITION": 7}}
    primitive["extensions"] = {"KHR_draco_mesh_compression": draco}
    for accessor in made.root["accessors"]:
        del accessor["bufferView"]
    root, binary = gltf.parts(Scene(gltf.morphing().glb(), made.glb()).export().data)
    (found,) = (
        primitive["extensions"]["KHR_draco_mesh_compression"]
        for mesh in root["meshes"]
        for primitive in mesh["primitives"]
        if "extensions" in primitive
    )
    view = root["bufferViews"][found["bufferView"]]
    assert binary[view["byteOffset"] :][: view["byteLength"]] == b"draco bytes"
    assert found["attributes"] == {"POSITION": 7}


def test_meshopt_bytes_are_copied_and_their_fallback_stays_empty() -> None:
    made = gltf.triangle()
    made.extend("EXT_meshopt_compression", required=True)
    made.root["buffers"] = [{"byteLength": 100, "extensions": {"EXT_meshopt_compression": {"fallback": True}}}]
    packed = made.view(b"packed!!")
    start = made.root["bufferViews"].pop(packed)["byteOffset"]
    meshopt = {"buffer": 0, "byteOffset": start, "byteLength": 8, "byteStride": 12, "count": 3, "mode": "ATTRIBUTES"}
    fallback = {"buffer": 1, "byteLength": 36, "byteStride": 12, "extensions": {"EXT_meshopt_compression": meshopt}}
    made.root["bufferViews"][0] = fallback
    exported = Scene(gltf.morphing().glb(), made.glb()).export()
    root, binary = gltf.parts(exported.data)
    (view,) = (view for view in root["bufferViews"] if "extensions" in view)
    found = view["extensions"]["EXT_meshopt_compression"]
    assert binary[found["byteOffset"] :][:8] == b"packed!!"
    assert found == {**meshopt, "byteOffset": found["byteOffset"]}
    assert root["buffers"][view["buffer"]]["extensions"] == {"EXT_meshopt_compression": {"fallback": True}}
    assert root["extensionsRequired"] == ["EXT_meshopt_compression"]
    assert read_gltf(exported.data).counts == exported.counts


def test_variants_of_several_files_are_mapped() -> None:
    made = gltf.triangle()
    made.extend("KHR_materials_variants")
    for name in ("Day", "Night"):
        made.add("materials", name=name)
    made.root["extensions"] = {"KHR_materials_variants": {"variants": [{"name": "Day"}, {"name": "Night"}]}}
    mappings = [{"material": 1, "variants": [0]}, {"material": 2, "variants": [1]}]
    made.root["meshes"][0]["primitives"][0]["extensions"] = {"KHR_materials_variants": {"mappings": mappings}}
    root = root_of(Scene(gltf.textured().glb(), made.glb()).export())
    known = [variant["name"] for variant in root["extensions"]["KHR_materials_variants"]["variants"]]
    (found,) = (
        primitive["extensions"]["KHR_materials_variants"]["mappings"]
        for mesh in root["meshes"]
        for primitive in mesh["primitives"]
        if "extensions" in primitive
    )
    assert [root["materials"][one["material"]]["name"] for one in found] == ["Day", "Night"]
    assert [[known[index] for index in one["variants"]] for one in found] == [["Day"], ["Night"]]


def test_another_source_of_a_texture_is_mapped() -> None:
    made = gltf.textured()
    made.extend("EXT_texture_webp")
    made.add("images", name="webp", bufferView=made.view(b"RIFF"), mimeType="image/webp")
    made.root["textures"][1]["extensions"] = {"EXT_texture_webp": {"source": 1}}
    other = gltf.textured()
    other.root["images"][0]["name"] = "png"
    root = root_of(Scene(other.glb(), made.glb()).export())
    (found,) = (texture["extensions"] for texture in root["textures"] if "extensions" in texture)
    assert root["images"][found["EXT_texture_webp"]["source"]]["name"] == "webp"


def test_quantised_meshes_keep_the_declaration_that_they_need() -> None:
    made = gltf.triangle()
    made.extend("KHR_mesh_quantization", required=True)
    root = root_of(Scene(made.glb()).export())
    assert root["extensionsUsed"] == root["extensionsRequired"] == ["KHR_mesh_quantization"]


def test_copyright_of_all_sources_is_named() -> None:
    files: list[bytes] = []
    for name in ("Ann", "Ben", "Ann"):
        made = gltf.triangle()
        made.root["asset"]["copyright"] = name
        made.root["extras"] = len(files)
        files.append(made.glb())
    assert root_of(Scene(*files).export())["asset"]["copyright"] == "Ann; Ben"


# --- size --------------------------------------------------------------------------------------------------------


def test_ten_thousand_nodes_on_one_mesh_export_in_a_moment() -> None:
    scene = Scene(gltf.shared(10_000).glb())
    tree = gltf.tree_of(scene.nodes)
    start = time.process_time()
    exported = write_glb(scene.nodes, scene.materials, scene.asset, tree)
    assert time.process_time() - start < 3  # 0.6 s; a quadratic step would take minutes
    assert exported.counts.triangles == 10_000
    assert len(exported.data) < 1_500_000

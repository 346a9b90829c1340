"""What we export, judged by the Khronos validator: no error, and as much in it as in what was imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support import gltf, node

from maquette.engine.scene.gltf_export import Exported, write_glb
from maquette.engine.scene.gltf_import import Imported, read_gltf
from maquette.engine.scene.schema import SHAPES, check_material, check_node, new_node

REAL = ("Fox.glb", "Box.glb", "MorphStressTest.gltf", "kenney/alien.glb", "kenney/cakeBirthday.glb", "kenney/tile.glb")


def validate(tmp_path: Path, *files: bytes) -> list[Any]:
    """The validator's reports on some files."""
    paths = [tmp_path / f"{index}.glb" for index in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    return node.run("validate.mjs", [str(path) for path in paths])


def errors(report: Any) -> list[str]:
    return [f"{item['code']} {item.get('pointer')}" for item in report["issues"]["messages"] if item["severity"] == 0]


def export(*imported: Imported) -> Exported:
    nodes = {name: fields for one in imported for name, fields in one.nodes.items()}
    materials = {name: fields for one in imported for name, fields in one.materials.items()}
    assets = {name: data for one in imported for name, data in one.assets.items()}
    return write_glb(nodes, materials, assets.__getitem__, gltf.tree_of(nodes))


def test_the_projects_own_files_are_valid_themselves(tmp_path: Path) -> None:
    reports = validate(tmp_path, *(make().glb() for make in gltf.FILES.values()))
    assert [errors(report) for report in reports] == [[] for _ in gltf.FILES]


def test_exports_of_the_projects_own_files_are_valid(tmp_path: Path) -> None:
    sources = [read_gltf(make().glb()) for make in gltf.FILES.values()]
    exports = [export(source) for source in sources]
    reports = validate(tmp_path, *(one.data for one in exports))
    assert [errors(report) for report in reports] == [[] for _ in sources]
    assert [one.counts for one in exports] == [source.counts for source in sources]
    assert [one.warnings for one in exports] == [() for _ in sources]


def test_exports_of_real_files_are_valid_and_complete(tmp_path: Path, real_data: Path) -> None:
    sources = [read_gltf((real_data / "models" / name).read_bytes()) for name in REAL]
    exports = [export(source) for source in sources]
    reports = validate(tmp_path, *(one.data for one in exports))
    assert [errors(report) for report in reports] == [[] for _ in REAL]
    assert [one.counts for one in exports] == [source.counts for source in sources]
    assert [one.warnings for one in exports] == [() for _ in REAL]
    assert [report["info"]["animationCount"] for report in reports] == [3, 0, 3, 0, 0, 0]
    assert [report["info"]["hasSkins"] for report in reports] == [True, False, False, False, False, False]
    # of the cake's six equal meshes its nodes show two, one of them five times: the validator counts what is stored
    assert [report["info"]["totalTriangleCount"] for report in reports] == [576, 12, 2412, 292, 444, 20]
    assert [one.counts.triangles for one in exports] == [576, 12, 2412, 292, 1332, 20]


def test_real_files_in_one_scene_make_one_valid_file(tmp_path: Path, real_data: Path) -> None:
    sources = [read_gltf((real_data / "models" / name).read_bytes()) for name in (*REAL, "Fox.glb")]
    exported = export(*sources)
    (report,) = validate(tmp_path, exported.data)
    assert errors(report) == []
    assert exported.warnings == ()
    for field in ("nodes", "triangles", "animations", "materials", "cameras", "lights"):
        assert getattr(exported.counts, field) == sum(getattr(source.counts, field) for source in sources)
    assert exported.counts.skins == 2  # one for each fox, over the same mesh
    assert exported.counts.textures == 4
    stored = sum(len(next(iter(source.assets.values()))) for source in sources[:-1])
    assert len(exported.data) < stored  # the second fox, and the cake's unused meshes, cost nothing


def test_real_files_come_back_from_an_export_as_the_same_scene(real_data: Path) -> None:
    sources = [read_gltf((real_data / "models" / name).read_bytes()) for name in REAL]
    again = read_gltf(export(*sources).data, keep_ids=True)
    nodes = {name: fields for source in sources for name, fields in source.nodes.items()}
    materials = {name: fields for source in sources for name, fields in source.materials.items()}
    assert gltf.comparable(again.nodes) == gltf.comparable(nodes)
    assert {name: {**fields, "source": 0} for name, fields in again.materials.items()} == {
        name: {**fields, "source": 0} for name, fields in materials.items()
    }


def test_what_a_scene_takes_from_real_files_passes_its_schema(real_data: Path) -> None:
    for name in REAL:
        imported = read_gltf((real_data / "models" / name).read_bytes())
        for one, fields in imported.nodes.items():
            check_node(fields, one)
        for fields in imported.materials.values():
            check_material(fields)


def test_parametric_shapes_are_valid_meshes(tmp_path: Path) -> None:
    nodes = {
        shape: new_node("mesh", shape, (None, "V"), mesh={"shape": shape}, slots={"0": "gold"}) for shape in SHAPES
    }
    gold = {"name": "Gold", "base_color": [1.0, 0.8, 0.0, 1.0], "emissive": [3.0, 0.5, 0.0], "metallic": 1.0}
    exported = write_glb(nodes, {"gold": gold}, gltf.no_assets, gltf.tree_of(nodes))
    (report,) = validate(tmp_path, exported.data)
    assert errors(report) == []
    assert report["info"]["totalTriangleCount"] == exported.counts.triangles
    assert report["info"]["drawCallCount"] == len(SHAPES)


@pytest.mark.parametrize("joint", ["Base", "Tip"])
def test_a_skin_stays_valid_when_a_joint_is_trashed_or_moved_away(tmp_path: Path, joint: str) -> None:
    imported = read_gltf(gltf.skinned().glb())
    nodes = dict(imported.nodes)
    name = next(name for name, fields in nodes.items() if fields["name"] == joint)
    trashed = nodes | {name: {**nodes[name], "trashed": {"by": "me", "at": 1}}}
    moved = nodes | {name: {**nodes[name], "place": [None, "z"]}}
    exports = [
        write_glb(scene, imported.materials, imported.assets.__getitem__, gltf.tree_of(scene))
        for scene in (trashed, moved)
    ]
    reports = validate(tmp_path, *(one.data for one in exports))
    assert [errors(report) for report in reports] == [[], []]
    assert [one.counts.skins for one in exports] == [1, 1]

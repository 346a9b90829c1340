"""Files into a scene and out of it."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.gltf import glb, parts, shared, skinned, triangle

from maquette.engine.engine import Engine
from maquette.engine.errors import InvalidInput, OpRefused
from maquette.engine.events import Actor, Event
from maquette.engine.kinds.kind import plain
from maquette.engine.roles import Role
from maquette.engine.scene.gltf_file import GltfError
from maquette.engine.space import Space
from maquette.engine.transfer import export_scene, import_file, scene_glb
from maquette.engine.writers.scene import SceneWriter

ANN = Actor("ann00000000")


@pytest.fixture
async def space() -> AsyncIterator[Space]:
    async with await Engine.open() as engine:
        yield await engine.create_space("dev", "demo", ANN)


async def take(space: Space, data: bytes, name: str = "model.glb", role: Role = Role.EDITOR) -> Any:
    return await import_file(space, data, name, ANN, role)


async def events(space: Space) -> list[Event]:
    return [event async for page in space.engine.log.read(f"{space.record.stream}/scene@1") for event in page]


async def nodes(space: Space) -> dict[str, dict[str, Any]]:
    document = await space.open("scene")
    found: dict[str, dict[str, Any]] = plain(document.replica.shared("nodes"))
    return found


async def is_untouched(space: Space) -> bool:
    return not await events(space) and not list(space.engine.assets.ids())


async def test_a_file_becomes_nodes_materials_and_an_asset(space: Space) -> None:
    data = skinned().glb()
    report = await take(space, data)
    found = await nodes(space)
    assert report.kind == "scene"
    assert report.counts["nodes"] == len(found) == 3
    assert report.counts["skins"] == 1
    [asset] = {node["source"][0] for node in found.values()}
    assert space.engine.assets.get(asset) == data


async def test_an_import_is_signed_by_who_imports_and_says_that_it_is_one(space: Space) -> None:
    await take(space, triangle().glb())
    for event in await events(space):
        assert (event.actor.id, event.actor.via) == (ANN.id, "import")


async def test_many_nodes_come_in_ops_of_bounded_number_parents_first(space: Space) -> None:
    made = shared(120)
    made.root["nodes"].extend({"name": f"inner {index}"} for index in range(300))
    made.root["nodes"][0]["children"] = list(range(120, 420))
    await take(space, made.glb())
    known: set[str | None] = {None}
    sizes = []
    for event in await events(space):
        added = [change for change in event.data["changes"] if change["type"] == "node.added"]
        sizes.append(len(added))
        for change in added:
            assert change["node"]["place"][0] in known
            known.add(change["id"])
    assert sum(sizes) == len(await nodes(space)) == 420
    assert max(sizes) == 100


async def test_nodes_with_much_in_them_come_in_ops_of_bounded_size(space: Space) -> None:
    made = triangle()
    for index in range(60):
        made.node(root=True, name=f"note {index}", extras={"text": "x" * 60_000})
    await take(space, made.glb())
    sizes = [len(event.data["update"]) for event in await events(space)]
    assert sum(sizes) > 3_600_000
    assert max(sizes) < 1_200_000


async def test_a_second_import_stands_behind_the_first(space: Space) -> None:
    await take(space, triangle().glb())
    first = set(await nodes(space))
    await take(space, triangle().glb())
    document = await space.open("scene")
    order = document.replica.memory.tree.children(None)  # type: ignore[attr-defined]  # a scene's memory has a tree
    assert len(order) == 2
    assert order[0] in first
    assert order[1] not in first


async def test_an_export_keeps_its_ids_where_they_are_free_and_gets_new_ones_where_not(space: Space) -> None:
    await take(space, triangle().glb())
    [old] = await nodes(space)
    exported = (await scene_glb(space)).data
    other = await space.engine.create_space("dev", "other", ANN)
    await take(other, exported)
    assert list(await nodes(other)) == [old]
    await take(other, exported)
    assert len(await nodes(other)) == 2


async def test_a_stream_that_cannot_be_rewound_is_taken(space: Space) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise OSError("a pipe")

    await import_file(space, Pipe(triangle().glb()), "model.glb", ANN, Role.EDITOR)
    assert len(await nodes(space)) == 1


async def test_a_glb_is_known_by_its_first_bytes_whatever_it_is_called(space: Space) -> None:
    assert (await take(space, triangle().glb(), "notes.txt")).kind == "scene"


async def test_progress_is_told_to_its_end(space: Space) -> None:
    told: list[tuple[str, int, int]] = []
    await import_file(
        space, shared(250).glb(), "m.glb", ANN, Role.EDITOR, lambda *step: told.append((step[0], step[1], step[2]))
    )
    assert [step for step in told if step[0] == "scene"][-1] == ("scene", 251, 251)  # one material


# --- what is not taken -----------------------------------------------------------------------------------------------


def with_uri(uri: str) -> bytes:
    made = triangle().finished()
    return json.dumps(made | {"buffers": [{"byteLength": made["buffers"][0]["byteLength"], "uri": uri}]}).encode()


def beyond() -> bytes:
    made = triangle()
    made.root["accessors"][0]["count"] = 1_000_000
    return made.glb()


WHOLE = triangle().glb()
BAD = {
    "truncated": WHOLE[:-10],
    "nothing but a header": WHOLE[:12],
    "too long a length": WHOLE[:8] + (len(WHOLE) + 4).to_bytes(4, "little") + WHOLE[12:],
    "chunk past the end": WHOLE[:12] + (1 << 30).to_bytes(4, "little") + WHOLE[16:],
    "not JSON": glb({}).replace(b"{}", b"{]"),
    "accessor past its view": beyond(),
    "empty": b"",
}


@pytest.mark.parametrize("name", BAD)
async def test_a_broken_glb_leaves_nothing_in_the_space(space: Space, name: str) -> None:
    with pytest.raises(GltfError):
        await take(space, BAD[name])
    assert await is_untouched(space)


@pytest.mark.parametrize("uri", ["../secret.bin", "/etc/passwd", "https://example.org/a.bin", "file:///etc/passwd"])
async def test_a_gltf_that_points_outside_leaves_nothing_in_the_space(space: Space, uri: str) -> None:
    with pytest.raises(GltfError):
        await take(space, with_uri(uri), "model.gltf")
    assert await is_untouched(space)


async def test_a_viewer_imports_nothing(space: Space) -> None:
    with pytest.raises(OpRefused, match="editor or above, got commenter"):
        await take(space, triangle().glb(), role=Role.COMMENTER)
    assert await is_untouched(space)


async def test_a_file_of_no_known_kind_is_named(space: Space) -> None:
    with pytest.raises(InvalidInput, match=r"got 'model\.fbx'"):
        await take(space, b"Kaydara FBX Binary", "model.fbx")


async def test_a_file_that_is_not_there_is_named(space: Space, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.glb"):
        await import_file(space, tmp_path / "nowhere.glb", "nowhere.glb", ANN, Role.EDITOR)


# --- out again -------------------------------------------------------------------------------------------------------


async def test_an_export_leaves_out_what_is_trashed(space: Space, tmp_path: Path) -> None:
    await take(space, shared(3).glb())
    victim = next(iter(await nodes(space)))
    document = await space.open("scene")
    tree = document.replica.memory.tree  # type: ignore[attr-defined]  # a scene's memory has a tree
    await space.write("scene", ANN, Role.EDITOR, lambda doc: SceneWriter(doc, tree, ANN.id, lambda: 1).trash(victim))
    report = await export_scene(space, tmp_path / "out.glb")
    root, _ = parts((tmp_path / "out.glb").read_bytes())
    assert report.counts["nodes"] == len(root["nodes"]) == 2


async def test_an_empty_scene_can_be_exported(space: Space, tmp_path: Path) -> None:
    assert (await export_scene(space, tmp_path / "out.glb")).counts["nodes"] == 0


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_an_export_that_fails_leaves_the_old_file_and_nothing_else(space: Space, tmp_path: Path) -> None:
    target = tmp_path / "out.glb"
    target.mkdir()  # a rename onto a folder fails
    with pytest.raises(InvalidInput, match="expected to write"):
        await export_scene(space, target)
    assert names(tmp_path) == ["out.glb"]


async def test_an_export_into_no_folder_says_so(space: Space, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="expected to write"):
        await export_scene(space, tmp_path / "missing" / "out.glb")


async def test_the_real_models_come_in_and_go_out_with_the_same_counts(
    space: Space, real_data: Path, tmp_path: Path
) -> None:
    models = real_data / "models"
    files = [
        models / "Fox.glb",
        models / "Box.glb",
        models / "MorphStressTest.gltf",
        *(models / "kenney").glob("*.glb"),
    ]
    reports = [await import_file(space, file, file.name, ANN, Role.EDITOR) for file in files]
    exported = await export_scene(space, tmp_path / "out.glb")
    for count in ("nodes", "triangles", "skins", "animations"):
        assert exported.counts[count] == sum(report.counts[count] for report in reports), count
    assert {file.read_bytes() for file in files} == {
        space.engine.assets.get(asset) for asset in space.engine.assets.ids()
    }

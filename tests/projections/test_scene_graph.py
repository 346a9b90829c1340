"""The scene graph, against a model of dicts and the engine's own effective tree."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.projections import dump, dumps_by_batch, edit, on_file, until, write

from maquette.engine.errors import InvalidInput, NotFound
from maquette.engine.events import Position
from maquette.engine.log import EventLog
from maquette.engine.logs.memory import MemoryLog
from maquette.engine.scene.tree import Tree
from maquette.projections import scene_graph
from maquette.projections.errors import ProjectionStopped
from maquette.projections.runner import Runner
from maquette.projections.scene_graph import SceneGraph
from maquette.projections.scene_reads import Node, Scene, SceneReads

Change = dict[str, Any]

SCENE = "t/s/scene@1"


def node(parent: str | None = None, order: str = "V", **more: Any) -> dict[str, Any]:
    place = {"name": "Box", "type": "mesh", "place": [parent, order]}
    local = {"translation": [0, 0, 0], "rotation": [0, 0, 0, 1], "scale": [1, 1, 1]}
    return place | local | {"visible": True, "locked": False} | more


def added(name: str, parent: str | None = None, order: str = "V", **more: Any) -> Change:
    return {"type": "node.added", "id": name, "node": node(parent, order, **more)}


def moved(name: str, parent: str | None, order: str = "V") -> Change:
    return {"type": "node.moved", "id": name, "place": [parent, order]}


def changed(what: str, name: str, /, *unset: str, **new: Any) -> Change:
    return {"type": f"{what}.changed", "id": name, "set": new, "unset": list(unset)}


@pytest.fixture
async def log() -> AsyncIterator[EventLog]:
    log = MemoryLog()
    yield log
    await log.close()


class Space:
    """A log, a runner that follows it, and the reads."""

    def __init__(self, log: EventLog, runner: Runner) -> None:
        self.log = log
        self.runner = runner
        self.reads = SceneReads(runner.view("scene_graph"))

    async def edit(self, *changes: Change, stream: str = SCENE) -> None:
        await self.runner.wait_for(await edit(self.log, stream, *changes), 5)

    async def open_epoch(self, epoch: int) -> None:
        opened = {"document": "scene", "kind": "scene", "epoch": epoch}
        await self.runner.wait_for(await write(self.log, "t/s", ("document.opened", opened)), 5)

    async def children(self, parent: str | None = None, **options: Any) -> list[str]:
        return [child.id for child in await self.reads.children("t", "s", parent, **options)]

    async def ids(self, **options: Any) -> list[str]:
        return [found.id for found in await self.reads.nodes("t", "s", **options)]


@pytest.fixture
async def space(log: EventLog, tmp_path: Path) -> AsyncIterator[Space]:
    async with await Runner.open(log, tmp_path, [SceneGraph]) as runner:
        yield Space(log, runner)


# --- nodes -------------------------------------------------------------------------------------------------------


async def test_a_node_is_read_with_all_its_fields(space: Space) -> None:
    fields = node(mesh=["asset", 0], slots={"0": "m1"}, weights=[0.5], extras={"any": [1, None, {"x": "y"}]})
    await space.edit({"type": "node.added", "id": "a", "node": fields})
    assert await space.reads.node("t", "s", "a") == Node("a", fields, None, False)


async def test_fields_are_set_and_unset(space: Space) -> None:
    await space.edit(added("a", weights=[1.0], mesh={"shape": "box"}))
    await space.edit(changed("node", "a", "weights", translation=[1, 2, 3], name="Crate", mesh={"shape": "cone"}))
    expected = node(translation=[1, 2, 3], name="Crate", mesh={"shape": "cone"})
    assert (await space.reads.node("t", "s", "a")).fields == expected


async def test_children_come_in_their_order_by_pages(space: Space) -> None:
    await space.edit(*(added(name, "p", order) for name, order in zip("dcba", "1223", strict=True)), added("p"))
    assert await space.children("p") == ["d", "b", "c", "a"]
    assert await space.children("p", limit=2) == ["d", "b"]
    assert await space.children("p", after="b", limit=2) == ["c", "a"]
    assert await space.children() == ["p"]


async def test_nodes_come_by_id_in_pages(space: Space) -> None:
    await space.edit(*(added(name) for name in "cadb"))
    assert await space.ids(limit=3) == ["a", "b", "c"]
    assert await space.ids(after="c", limit=3) == ["d"]


async def test_a_node_whose_parent_is_missing_hangs_from_the_root_until_it_comes(space: Space) -> None:
    await space.edit(added("a", "late"))
    assert (await space.reads.node("t", "s", "a")).parent is None
    await space.edit(added("late"))
    assert (await space.reads.node("t", "s", "a")).parent == "late"
    await space.edit({"type": "node.removed", "id": "late"})
    assert (await space.reads.node("t", "s", "a")) == Node("a", node("late"), None, False)


async def test_a_cycle_is_shown_as_the_effective_tree_cuts_it(space: Space) -> None:
    await space.edit(added("a"), added("b"))
    await space.edit(moved("a", "b"))
    await space.edit(moved("b", "a"))
    assert [await space.children(), await space.children("a")] == [["a"], ["b"]]
    await space.edit(moved("b", None))
    assert [await space.children(), await space.children("b")] == [["b"], ["a"]]


async def test_trash_hides_what_hangs_below_and_keeps_the_place(space: Space) -> None:
    await space.edit(added("a"), added("b", "a"), added("c", "b"))
    await space.edit({"type": "node.trashed", "id": "a", "by": "ann", "at": 5.0})
    assert (await space.reads.node("t", "s", "a")).fields["trashed"] == {"by": "ann", "at": 5}
    assert [found.hidden for found in await space.reads.nodes("t", "s")] == [True, True, True]
    await space.edit({"type": "node.restored", "id": "a"})
    assert [found.hidden for found in await space.reads.nodes("t", "s")] == [False, False, False]
    assert (await space.reads.node("t", "s", "a")).fields == node()


async def test_world_matrices_follow_the_effective_parents(space: Space) -> None:
    await space.edit(added("a", translation=[1, 0, 0], scale=[2, 2, 2]), added("b", "a", translation=[0, 3, 0]))
    moved_by = [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 7, 1]
    await space.edit(added("c", "b", matrix=moved_by), added("lost", "nobody", translation=[9, 9, 9]))
    world = await space.reads.world_matrices("t", "s")
    origins = {name: matrix[:3, 3].tolist() for name, matrix in world.items()}
    assert origins == {"a": [1, 0, 0], "b": [1, 6, 0], "c": [1, 6, 14], "lost": [9, 9, 9]}
    some = await space.reads.world_matrices("t", "s", ["c"])
    assert list(some) == ["c"]
    np.testing.assert_array_equal(some["c"], world["c"])
    with pytest.raises(NotFound, match="node, got 'x'"):
        await space.reads.world_matrices("t", "s", ["x"])


async def test_the_world_of_an_empty_scene_is_empty(space: Space) -> None:
    assert await space.reads.world_matrices("t", "s") == {}


async def test_a_deep_chain_is_read_in_one_go(space: Space) -> None:
    chain = [
        added(f"n{depth:04}", f"n{depth - 1:04}" if depth else None, translation=[1, 0, 0]) for depth in range(500)
    ]
    await space.edit(*chain)
    assert (await space.reads.world_matrices("t", "s", ["n0499"]))["n0499"][0, 3] == 500


# --- the rest of a scene -----------------------------------------------------------------------------------------


async def test_materials_comments_and_settings_are_folded(space: Space) -> None:
    comment = {"author": "ann", "node": "a", "point": [0, 1, 0], "body": "here", "at": 5}
    await space.edit(
        {"type": "material.added", "id": "m", "material": {"name": "Red", "metallic": 0.5}},
        {"type": "comment.added", "id": "c", "comment": comment},
        {"type": "setting.changed", "set": {"background": [0, 0, 0], "grid": True}, "unset": []},
    )
    await space.edit(changed("material", "m", "metallic", roughness=1), changed("comment", "c", resolved=True))
    await space.edit({"type": "setting.changed", "set": {"grid": False}, "unset": ["background"]})
    assert await space.reads.materials("t", "s") == {"m": {"name": "Red", "roughness": 1}}
    assert await space.reads.comments("t", "s") == {"c": comment | {"resolved": True}}
    assert await space.reads.scene("t", "s") == Scene(1, {"grid": False})
    await space.edit({"type": "material.removed", "id": "m"}, {"type": "comment.removed", "id": "c"})
    assert [await space.reads.materials("t", "s"), await space.reads.comments("t", "s")] == [{}, {}]


async def test_byte_arrays_are_shown_as_base64(space: Space) -> None:
    await space.edit(added("a", extras={"raw": b"\x00\xff"}))
    assert (await space.reads.node("t", "s", "a")).fields["extras"] == {"raw": {"$bytes": "AP8="}}


async def test_only_the_newest_epoch_is_shown(space: Space) -> None:
    await space.edit(added("old"), {"type": "setting.changed", "set": {"grid": True}, "unset": []})
    await space.open_epoch(2)
    assert [await space.ids(), await space.reads.scene("t", "s")] == [[], Scene(2, {})]
    await space.edit(added("late"))  # carried over by its owner, not by us
    await space.edit(added("new"), stream="t/s/scene@2")
    await space.open_epoch(1)
    assert await space.ids() == ["new"]
    await space.edit(added("newer"), stream="t/s/scene@3")
    assert [await space.ids(), (await space.reads.scene("t", "s")).epoch] == [["newer"], 3]


async def test_spaces_and_tenants_do_not_see_each_other(space: Space) -> None:
    await space.edit(added("a"))
    await space.edit(added("b", "a"), stream="t/other/scene@1")
    await space.edit(added("c"), stream="u/s/scene@1")
    assert await space.ids() == ["a"]
    (other,) = await space.reads.nodes("t", "other")
    assert (other.id, other.parent) == ("b", None)


async def test_a_cold_scene_is_folded_like_a_warm_one(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene_graph, "OPEN_TREES", 1)
    async with await Runner.open(log, tmp_path, [SceneGraph]) as runner:
        space = Space(log, runner)
        await space.edit(added("a"), added("b", "a"), moved("a", "b"))
        await space.edit(added("x"), stream="t/other/scene@1")
        await space.edit(moved("b", None))
        assert await space.children("b") == ["a"]


async def test_what_is_not_there_is_named(space: Space) -> None:
    with pytest.raises(NotFound, match="scene, got 't/s'"):
        await space.reads.scene("t", "s")
    with pytest.raises(NotFound, match="node, got 'x'"):
        await space.reads.children("t", "s", "x")
    with pytest.raises(InvalidInput, match="limit: expected 1 to 1000, got 1001"):
        await space.reads.nodes("t", "s", limit=1001)


# --- V4 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({}, "document.edited: expected a list of changes, got None"),
        ({"changes": [{"type": "node.painted", "id": "a"}]}, "got 'node.painted'"),
        ({"changes": [added("a"), changed("node", "b", name="x")]}, "expected a known id in nodes, got 'b'"),
        ({"changes": [moved("b", None)]}, "expected a known id in nodes, got 'b'"),
        ({"changes": [{"type": "node.added", "id": "a", "node": {}}]}, "expected a place [parent id or None, order]"),
        ({"changes": [added("a", trashed="yes")]}, "expected trashed {by, at}, got 'yes'"),
        ({"changes": [{"type": "node.added", "id": "a", "node": 7}]}, "nodes: expected a map of fields, got 7"),
        ({"changes": [changed("material", "m")]}, "expected a known id in materials, got 'm'"),
    ],
)
async def test_v4_what_cannot_be_folded_parks_its_scene_with_a_clear_error_and_leaves_the_rest(
    space: Space, data: dict[str, Any], error: str
) -> None:
    await space.edit(added("good"), stream="t/other/scene@1")
    await write(space.log, SCENE, ("document.edited", data))
    await space.edit(added("behind"))
    await space.edit(added("more", "good"), stream="t/other/scene@1")
    (parked,) = await space.runner.parked("scene_graph")
    assert (parked.stream, parked.revision, parked.waiting) == (SCENE, 1, 2)
    assert error in parked.error
    assert await space.ids() == []
    assert [found.id for found in await space.reads.children("t", "other", "good")] == ["more"]


async def part(log: EventLog, number: int, parts: int, *changes: Change) -> Position:
    """Append one part of the rewritten epoch 2."""
    begins = {"from": [1, 1], "part": [number, parts], "authors": []}
    data = {"update": b"", "changes": list(changes), "describe": 1, "client": None, "begins": begins}
    return await write(log, "t/s/scene@2", ("document.edited", data))


async def test_d9_a_rewritten_epoch_is_shown_with_its_last_part_and_not_before(space: Space) -> None:
    await space.edit(added("old"))
    await space.runner.wait_for(await part(space.log, 1, 3, added("a")), 5)
    await space.edit(added("older"))  # the old epoch goes on meanwhile, and is what is shown
    await space.runner.wait_for(await part(space.log, 2, 3, added("b", "a")), 5)
    assert [await space.ids(), (await space.reads.scene("t", "s")).epoch] == [["old", "older"], 1]
    last = {"type": "setting.changed", "set": {"exposure": 2}, "unset": []}
    await space.runner.wait_for(await part(space.log, 3, 3, last), 5)
    assert [await space.ids(), await space.children("a")] == [["a", "b"], ["b"]]
    assert await space.reads.scene("t", "s") == Scene(2, {"exposure": 2})
    await space.edit(changed("node", "a", name="on"), stream="t/s/scene@2")
    await space.edit(added("late"))  # what its owner has not carried over
    assert await space.ids() == ["a", "b"]


async def test_d9_parts_are_folded_to_the_same_whatever_the_batches(log: EventLog, tmp_path: Path) -> None:
    await edit(log, SCENE, added("old"))
    for number in range(1, 6):
        await part(log, number, 5, added(f"n{number}", f"n{number - 1}"))
    await edit(log, "t/s/scene@2", moved("n3", None))
    dumps = await dumps_by_batch(log, tmp_path, SceneGraph, [1, 2, 3, 100])
    assert all(one == dumps[0] for one in dumps)
    assert [row[2] for row in dumps[0]["nodes"]] == ["n1", "n2", "n3", "n4", "n5"]


async def test_v4_a_part_that_cannot_be_read_parks_the_new_epoch_and_leaves_the_old_one(space: Space) -> None:
    await space.edit(added("old"))
    await space.runner.wait_for(await part(space.log, 3, 2, added("a")), 5)
    [parked] = await space.runner.parked("scene_graph")
    assert (parked.stream, "part [n, of how many]" in parked.error) == ("t/s/scene@2", True)
    assert await space.ids() == ["old"]


async def test_v4_an_epoch_that_is_no_number_parks_the_space(space: Space) -> None:
    last = await write(space.log, "t/s", ("document.opened", {"document": "scene", "epoch": "two"}))
    await space.runner.wait_for(last, 5)
    (parked,) = await space.runner.parked("scene_graph")
    assert "document.opened: expected an epoch of 1 or more, got 'two'" in parked.error


# --- V2, against a model -----------------------------------------------------------------------------------------

NAMES = ("a", "b", "c", "d", "e")

Model = dict[str, dict[str, Any]]


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[tuple[str, list[Change]]], Model]:
    """Events as (stream, changes), perhaps with a turn of the epoch, and the nodes that they come to."""
    model: Model = {}
    events: list[tuple[str, list[Change]]] = []
    epoch = 1
    for number in range(draw(st.integers(1, 20))):
        if draw(st.integers(0, 9)) == 0:
            epoch, model = epoch + 1, {}
        changes = [_change(draw, model, number) for _ in range(draw(st.integers(0, 5)))]
        events.append((f"t/s/scene@{epoch}", changes))
    return events, model


def _change(draw: st.DrawFn, model: Model, number: int) -> Change:
    name = draw(st.sampled_from(NAMES))
    place = (draw(st.sampled_from([None, *NAMES])), draw(st.sampled_from("123")))
    if name not in model:
        model[name] = node(*place, translation=[number, 0, 0])
        return added(name, *place, translation=[number, 0, 0])
    match draw(st.sampled_from(["move", "set", "unset", "trash", "restore", "remove"])):
        case "move":
            model[name]["place"] = list(place)
            return moved(name, *place)
        case "set":
            model[name]["extras"] = number
            return changed("node", name, extras=number)
        case "unset":
            model[name].pop("extras", None)
            return changed("node", name, "extras")
        case "trash":
            model[name]["trashed"] = {"by": "ann", "at": number}
            return {"type": "node.trashed", "id": name, "by": "ann", "at": number}
        case "restore":
            model[name].pop("trashed", None)
            return {"type": "node.restored", "id": name}
    del model[name]
    return {"type": "node.removed", "id": name}


@given(scenes())
@settings(max_examples=25, deadline=None)
def test_v2_live_and_rebuilt_scenes_are_equal_and_what_the_model_says(
    scene: tuple[list[tuple[str, list[Change]]], Model],
) -> None:
    events, model = scene

    async def run(folder: Path) -> None:
        log = MemoryLog()
        for stream, changes in events:
            await edit(log, stream, *changes)
        first, *others = await dumps_by_batch(log, folder, SceneGraph, [2, 1000])
        assert all(other == first for other in others)
        async with await Runner.open(log, folder / "2", [SceneGraph]) as runner:
            await check_model(SceneReads(runner.view("scene_graph")), model)
        await log.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


async def check_model(reads: SceneReads, model: Model) -> None:
    tree = Tree()
    for name, fields in model.items():
        tree.place(name, *fields["place"])
        if "trashed" in fields:
            tree.trash(name)
    found = await reads.nodes("t", "s")
    assert found == [Node(name, model[name], tree.parent(name), tree.is_hidden(name)) for name in sorted(model)]
    for parent in [None, *model]:
        assert [child.id for child in await reads.children("t", "s", parent)] == tree.children(parent)
    assert (await reads.world_matrices("t", "s")).keys() == model.keys()


async def test_v2_rebuild_of_the_scene_under_readers(space: Space) -> None:
    await space.edit(*(added(f"n{number}", f"n{number - 1}") for number in range(100)))
    before = await dump(space.runner.view("scene_graph"), SceneGraph())
    rebuilding = asyncio.create_task(space.runner.rebuild("scene_graph"))
    while not rebuilding.done():
        assert await space.children("n7") == ["n8"]
    await rebuilding
    assert await dump(space.runner.view("scene_graph"), SceneGraph()) == before


# --- what is kept in memory follows the tables -------------------------------------------------------------------


async def test_v1_a_batch_that_was_rolled_back_is_forgotten(log: EventLog, tmp_path: Path) -> None:
    await edit(log, SCENE, added("a"), added("b", "a"))
    runner = await Runner.open(log, tmp_path, [SceneGraph], retry_after=0.01)
    space = Space(log, runner)
    async with runner:
        await runner.wait_for(await log.head(), 5)
        await on_file(
            runner.view("scene_graph"),
            "CREATE TRIGGER no BEFORE UPDATE ON checkpoint BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        last = await edit(log, SCENE, {"type": "node.removed", "id": "a"})
        with pytest.raises(ProjectionStopped):
            await runner.wait_for(last, 5)
        assert await space.ids() == ["a", "b"]
        await on_file(runner.view("scene_graph"), "DROP TRIGGER no")
        await until(runner.view("scene_graph"), last)
        assert await space.reads.nodes("t", "s") == [Node("b", node("a"), None, False)]


async def test_v4_what_was_undone_with_an_event_that_raises_is_forgotten(log: EventLog, tmp_path: Path) -> None:
    await edit(log, SCENE, added("a"), added("b", "a"))
    async with await Runner.open(log, tmp_path, [SceneGraph]) as runner:
        space = Space(log, runner)
        await runner.wait_for(await log.head(), 5)
        gone = edit(log, SCENE, {"type": "node.removed", "id": "a"})
        _, last = await asyncio.gather(gone, write(log, "t/x/scene@1", ("document.edited", {})))  # one batch
        await runner.wait_for(last, 5)
        assert [stopped.stream for stopped in await runner.parked("scene_graph")] == ["t/x/scene@1"]
        assert await space.reads.nodes("t", "s") == [Node("b", node("a"), None, False)]

"""The scene over HTTP."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.support.api import Api, on_each_log, problem

SCENE = "/spaces/demo/scene"
NODES = f"{SCENE}/nodes"


@pytest.fixture(autouse=True)
async def demo(api: Api) -> None:
    await api.space("demo")


async def add(api: Api, name: str, **fields: Any) -> str:
    return str((await api.done("POST", NODES, {"name": name, **fields}, role="editor"))["id"])


async def children(api: Api, written: Any, parent: str = "") -> list[str]:
    answer = await api.done("GET", f"{NODES}?parent={parent}&wait={written['position']}", role="viewer")
    return [node["fields"]["name"] for node in answer["nodes"]]


async def node(api: Api, written: Any) -> Any:
    return await api.done("GET", f"{NODES}/{written['id']}?wait={written['position']}", role="viewer")


@on_each_log
async def test_a_node_is_read_as_it_was_added(api: Api) -> None:
    parent = await add(api, "table", translation=[0, 1, 0])
    written = await api.done(
        "POST",
        NODES,
        {
            "type": "mesh", "name": "lamp", "parent": parent, "translation": [2, 0, 0.5], "extras": {"tag": None},
            "mesh": {"shape": "sphere", "radius": 0.25}, "slots": {"0": "m1"},
        },
    )  # fmt: skip
    found = await node(api, written)
    fields = found["fields"]
    assert (found["parent"], found["hidden"], fields["type"], fields["name"]) == (parent, False, "mesh", "lamp")
    assert (fields["mesh"], fields["slots"]) == ({"shape": "sphere", "radius": 0.25}, {"0": "m1"})
    assert (fields["rotation"], fields["scale"], fields["visible"]) == ([0, 0, 0, 1], [1, 1, 1], True)
    assert fields["extras"] == {"tag": None}
    assert found["world"][12:] == [2, 1, 0.5, 1]


@on_each_log
async def test_a_change_touches_only_what_it_names(api: Api) -> None:
    id_ = await add(api, "box", type="mesh", mesh={"shape": "box"}, slots={"0": "m1", "1": "m2"}, extras={"a": 1})
    written = await api.done("PATCH", f"{NODES}/{id_}", {"scale": [2, 2, 2], "slots": {"1": "m3"}, "extras": None})
    fields = (await node(api, written))["fields"]
    assert (fields["scale"], fields["slots"], fields["name"]) == ([2, 2, 2], {"1": "m3"}, "box")
    assert "extras" not in fields


@on_each_log
async def test_nodes_move_between_parents_and_among_siblings(api: Api) -> None:
    a, b, c = [await add(api, name) for name in "abc"]
    written = await api.done("POST", f"{NODES}/{c}/move", {"parent": None, "index": 0})
    assert await children(api, written) == ["c", "a", "b"]
    written = await api.done("POST", f"{NODES}/{a}/move", {"parent": b})
    assert await children(api, written) == ["c", "b"]
    assert await children(api, written, b) == ["a"]
    written = await api.done("POST", NODES, {"name": "first", "parent": b, "index": 0})
    assert await children(api, written, b) == ["first", "a"]
    for index in (99, 10**30):
        written = await api.done("POST", f"{NODES}/{c}/move", {"parent": None, "index": index})
        assert await children(api, written) == ["b", "c"]


@on_each_log
async def test_what_is_trashed_is_hidden_with_what_hangs_below_and_comes_back(api: Api) -> None:
    parent = await add(api, "table")
    child = await add(api, "lamp", parent=parent)
    written = await api.done("DELETE", f"{NODES}/{parent}", sub="bob", role="editor")
    trashed = await node(api, written)
    assert trashed["fields"]["trashed"]["by"] == "bob"
    assert (await node(api, {**written, "id": child}))["hidden"]
    written = await api.done("POST", f"{NODES}/{parent}/restore")
    assert not (await node(api, {**written, "id": child}))["hidden"]
    assert "trashed" not in (await node(api, written))["fields"]


async def test_world_matrices_are_column_by_column(api: Api) -> None:
    half = math.sqrt(0.5)
    parent = await add(api, "turned", rotation=[0, half, 0, half], translation=[0, 3, 0])
    written = await api.done("POST", NODES, {"name": "child", "parent": parent, "translation": [1, 0, 0]})
    query = f"wait={written['position']}"
    all_ = (await api.done("GET", f"{SCENE}/matrices?{query}"))["matrices"]
    assert all_.keys() == {parent, written["id"]}
    one = (await api.done("GET", f"{SCENE}/matrices?{query}&node={written['id']}"))["matrices"]
    assert one[written["id"]] == pytest.approx([0, 0, -1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 3, -1, 1])
    await api.refused(404, "GET", f"{SCENE}/matrices?node=nosuch")


async def test_nodes_come_in_pages_without_gaps(api: Api) -> None:
    ids = sorted([await add(api, str(number)) for number in range(5)])
    await api.runner.wait_for(await api.engine.log.head(), 10)
    found, after = [], ""
    while True:
        answer = await api.done("GET", f"{NODES}?limit=2{after}")
        found += [node["id"] for node in answer["nodes"]]
        if answer["after"] is None:
            break
        after = f"&after={answer['after']}"
    assert found == ids


async def test_materials_are_made_and_changed(api: Api) -> None:
    made = await api.done("POST", f"{SCENE}/materials", {"name": "red", "base_color": [1, 0, 0, 1], "metallic": 0.5})
    path = f"{SCENE}/materials/{made['id']}"
    written = await api.done("PATCH", path, {"roughness": 0.25, "metallic": None})
    items = (await api.done("GET", f"{SCENE}/materials?wait={written['position']}"))["items"]
    assert items == {made["id"]: {"name": "red", "base_color": [1, 0, 0, 1], "roughness": 0.25}}
    said = await api.refused(422, "PATCH", path, {"metallic": 2})
    assert said["path"] == "material.metallic"
    assert "got 2" in said["detail"]
    await api.refused(404, "PATCH", f"{SCENE}/materials/nosuch", {"metallic": 1})


async def test_commenters_comment_and_change_only_what_is_theirs(api: Api) -> None:
    made = await api.done(
        "POST", f"{SCENE}/comments", {"body": "dark", "point": [0, 1, 0]}, sub="eve", role="commenter"
    )
    path = f"{SCENE}/comments/{made['id']}"
    assert "by its author" in (await api.refused(403, "PATCH", path, {"body": "x"}, sub="bob"))["detail"]
    written = await api.done("PATCH", path, {"resolved": True}, sub="bob", role="commenter")
    items = (await api.done("GET", f"{SCENE}/comments?wait={written['position']}"))["items"]
    comment = items[made["id"]]
    assert (comment["author"], comment["body"], comment["resolved"], comment["node"]) == ("eve", "dark", True, None)
    said = await api.refused(403, "POST", NODES, {"name": "x"}, sub="eve", role="commenter")
    assert "node: expected a role of editor or above, got commenter ('eve')" in said["detail"]
    said = await api.refused(403, "POST", NODES, {"name": "x"}, role="viewer")
    assert "expected a role of commenter or above to edit a scene document, got viewer" in said["detail"]


async def test_the_scene_says_its_epoch(api: Api) -> None:
    written = await api.done("POST", NODES, {"name": "x"})
    assert await api.done("GET", f"{SCENE}?wait={written['position']}") == {"epoch": 1, "settings": {}}


# --- bad input -----------------------------------------------------------------------------------------------------

BAD_FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"rotation": [0, 0, 0, 2]}, "node.rotation", "expected a quaternion of length 1 within"),
    ({"rotation": [0, 0, 1]}, "node.rotation", "got"),
    ({"translation": [1, 2]}, "node.translation", "got"),
    ({"translation": [1, 2, 1e39]}, "node.translation[2]", "got 1e+39"),
    ({"translation": [1, 2, "3"]}, "translation.2", "expected a valid number, got '3'"),
    ({"scale": None}, "node.scale", "expected a value, got its deletion"),
    ({"mesh": {"shape": "cow"}}, "node.mesh.shape", "got"),
    ({"mesh": ["short", 0]}, "node.mesh[0]", "expected an asset id"),
    ({"slots": {"x": "m1"}}, "node.slots: key", "expected a primitive's index in digits"),
    ({"light": {"type": "sun"}}, "node.light.type", "got"),
    ({"name": "x" * 300}, "node.name", "got"),
    ({"extras": {"x": "y" * 70_000}}, "node.extras", "expected at most 65536 bytes as JSON"),
    ({"place": [None, "V"]}, "place", "expected no field of this name"),
    ({"trashed": None}, "trashed", "expected no field of this name"),
]


async def test_a_field_that_does_not_fit_is_named_with_what_was_expected_and_what_came(api: Api) -> None:
    id_ = await add(api, "box")
    head = await api.engine.log.head()
    for fields, path, said in BAD_FIELDS:
        document = await api.refused(422, "PATCH", f"{NODES}/{id_}", fields)
        assert document["path"] == path, document
        assert said in document["detail"], document
        if None not in fields.values():
            await api.refused(422, "POST", NODES, fields)
    assert await api.engine.log.head() == head


async def test_nan_and_its_like_are_not_json(api: Api) -> None:
    id_ = await add(api, "box")
    for number in ("NaN", "Infinity", "-Infinity", "1e999", "1" * 5000):
        response = await api.http.patch(
            f"/v1{NODES}/{id_}",
            content=f'{{"translation": [0, 0, {number}]}}',
            headers={**api.headers(), "Content-Type": "application/json"},
        )
        document = problem(response, 400)
        assert document["type"] == "urn:maquette:problem:malformed"
        assert document["detail"].startswith("body: expected JSON, got ")


async def test_an_unknown_parent_and_a_place_under_itself_are_refused(api: Api) -> None:
    above = await add(api, "above")
    below = await add(api, "below", parent=above)
    unknown = "node.place: expected an existing parent, got 'nosuch'"
    assert (await api.refused(422, "POST", NODES, {"parent": "nosuch"}))["detail"] == unknown
    assert (await api.refused(422, "POST", f"{NODES}/{above}/move", {"parent": "nosuch"}))["detail"] == unknown
    for parent in (above, below):
        said = await api.refused(422, "POST", f"{NODES}/{above}/move", {"parent": parent})
        assert said["detail"].startswith(f"node.place: expected a parent outside of node {above!r}, got {parent!r}")
    said = await api.refused(422, "POST", f"{NODES}/{above}/move", {"parent": None, "index": -1})
    assert said["path"] == "index"
    said = await api.refused(422, "POST", f"{NODES}/{above}/move", {})
    assert said["detail"] == "parent: expected a value, got none"


async def test_an_unknown_node_is_not_found(api: Api) -> None:
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("POST", "/restore", None),
        ("POST", "/move", {"parent": None}),
    ):
        said = await api.refused(404, method, f"{NODES}/nosuch{path}", body)
        assert (said["detail"], said["what"]) == ("expected an existing node, got 'nosuch'", "node")
    await api.refused(404, "GET", f"{NODES}?parent=nosuch")
    await api.refused(422, "GET", f"{NODES}/no%20such")

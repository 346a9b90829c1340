"""Files into a space and out of it, and assets, over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.api import Api, on_each_log, problem
from tests.support.gltf import triangle

from maquette.engine.assets import asset_id
from maquette.server.rest import files

DEMO = "/spaces/demo"
LINES = [
    {"id": "m1", "author": "ann", "name": "Ann", "sent": 1_700_000_000_000, "body": "Hello"},
    {"id": "m2", "author": "bob", "name": "Bob", "sent": 1_700_000_001_000, "body": "Grüße 👋", "thread": "m1"},
]
JSONL = "\n".join(json.dumps(line) for line in LINES).encode()


@pytest.fixture(autouse=True)
async def demo(api: Api) -> None:
    await api.space("demo")


async def upload(api: Api, content: Any, filename: str, **who: Any) -> httpx.Response:
    return await api.http.post(
        f"/v1{DEMO}/import", params={"filename": filename}, content=content, headers=api.headers(**who)
    )


@on_each_log
async def test_a_model_goes_in_and_comes_out(api: Api) -> None:
    model = triangle().glb()
    report = (await upload(api, model, "triangle.glb", role="editor")).json()
    assert (report["kind"], report["errors"]) == ("scene", [])
    nodes = (await api.done("GET", f"{DEMO}/scene/nodes?wait={report['position']}"))["nodes"]
    meshes = [node["fields"]["mesh"] for node in nodes if "mesh" in node["fields"]]
    assert meshes == [[asset_id(model), 0]]
    exported = await api.call("GET", f"{DEMO}/export?format=glb", role="viewer")
    assert exported.headers["Content-Type"] == "model/gltf-binary"
    assert exported.headers["Content-Disposition"] == 'attachment; filename="demo.glb"'
    again = (await upload(api, exported.content, "again.glb")).json()
    assert again["counts"]["nodes"] == report["counts"]["nodes"]


@on_each_log
async def test_a_conversation_goes_in_and_comes_out(api: Api) -> None:
    report = (await upload(api, JSONL, "day.jsonl")).json()
    assert (report["kind"], report["errors"]) == ("jsonl", [])
    read = (await api.done("GET", f"{DEMO}/chat/messages?wait={report['position']}"))["messages"]
    assert [(message["name"], message["body"], message["sent"]) for message in read] == [
        (line["name"], line["body"], line["sent"]) for line in LINES
    ]
    exported = await api.call("GET", f"{DEMO}/export?format=jsonl", role="viewer")
    assert exported.headers["Content-Type"] == "application/jsonl"
    bodies = [json.loads(line)["body"] for line in exported.text.splitlines()]
    assert bodies == [line["body"] for line in LINES]


async def test_an_irc_log_is_of_the_day_that_is_named(api: Api) -> None:
    response = await api.http.post(
        f"/v1{DEMO}/import", params={"filename": "log.txt", "day": "2004-11-15"},
        content=b"[10:15] <ann> good morning\n", headers=api.headers(),
    )  # fmt: skip
    assert response.status_code == 200, response.text
    read = (await api.done("GET", f"{DEMO}/chat/messages?wait={response.json()['position']}"))["messages"]
    assert [(message["body"], message["sent"]) for message in read] == [("good morning", 1_100_513_700_000)]


async def test_a_conversation_is_imported_by_owners_only(api: Api) -> None:
    said = problem(await upload(api, JSONL, "day.jsonl", role="moderator"), 403)
    assert said["detail"] == "import of 'day.jsonl': expected a role of owner or above, got moderator"
    said = problem(await upload(api, triangle().glb(), "a.glb", role="commenter"), 403)
    assert "editor or above, got commenter" in said["detail"]


async def test_what_is_no_file_of_ours_is_refused_and_leaves_nothing(api: Api) -> None:
    head = await api.engine.log.head()
    for content, name in ((b"", "a.glb"), (b"%PDF", "a.pdf"), (triangle().glb()[:-7], "a.glb"), (b"{", "a.gltf")):
        said = problem(await upload(api, content, name), 422)
        assert "got" in said["detail"]
    assert (await api.refused(422, "POST", f"{DEMO}/import"))["path"] == "filename"
    assert (await api.refused(422, "GET", f"{DEMO}/export?format=fbx"))["path"] == "format"
    assert await api.engine.log.head() == head


async def test_a_file_above_the_limit_is_refused_whether_it_says_so_or_not(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_FILE", 1000)

    async def pieces() -> Any:
        for _ in range(11):
            yield b"x" * 100

    said = problem(await upload(api, b"x" * 1001, "a.glb"), 413)
    assert said["detail"] == "body: expected at most 1000 bytes, got 1001 bytes"
    said = problem(await upload(api, pieces(), "a.glb"), 413)
    assert said["detail"] == "body: expected at most 1000 bytes, got more"


# --- assets --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def asset(api: Api) -> str:
    """The id of an asset that the scene of `demo` names."""
    await upload(api, triangle().glb(), "triangle.glb")
    return asset_id(triangle().glb())


@on_each_log
async def test_an_asset_is_downloaded_and_kept_for_ever(api: Api, asset: str) -> None:
    response = await api.call("GET", f"{DEMO}/assets/{asset}", role="viewer")
    assert asset_id(response.content) == asset
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Disposition"].startswith("attachment")
    assert "immutable" in response.headers["Cache-Control"]
    headers = {**api.headers(), "If-None-Match": response.headers["ETag"]}
    again = await api.http.get(f"/v1{DEMO}/assets/{asset}", headers=headers)
    assert (again.status_code, again.content) == (304, b"")


async def test_an_asset_is_given_only_to_who_may_enter_a_space_that_names_it(api: Api, asset: str) -> None:
    await api.space("other")
    await api.space("other", tenant="t2")
    assert (await api.call("GET", f"{DEMO}/assets/{asset}")).status_code == 200
    there = await api.refused(404, "GET", f"/spaces/other/assets/{asset}")
    foreign = await api.refused(404, "GET", f"/spaces/other/assets/{asset}", tenant="t2")
    unknown = await api.refused(404, "GET", f"/spaces/other/assets/{asset_id(b'nobody has this')}")
    assert there["detail"] == foreign["detail"] == f"expected an existing asset, got {asset!r}"
    assert unknown["detail"].startswith("expected an existing asset, got")


async def test_an_id_that_is_none_is_not_found(api: Api) -> None:
    for name in ("x", "A" * 44, "%2e%2e%2fkeys.json"):
        await api.refused(404, "GET", f"{DEMO}/assets/{name}")


@pytest.mark.parametrize("api", ["sqlite"], indirect=True)
async def test_a_damaged_asset_does_not_leave(api: Api, asset: str, tmp_path: Path) -> None:
    (path,) = (tmp_path / "data" / "assets").glob("??/*")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    said = await api.refused(500, "GET", f"{DEMO}/assets/{asset}")
    assert asset not in said["detail"]

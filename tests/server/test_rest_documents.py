"""The state of a document at a revision."""

from __future__ import annotations

import asyncio
from typing import Any

import pycrdt
import pytest
from tests.support.api import Api, on_each_log

from maquette.engine.events import Actor
from maquette.engine.roles import Role

DOCUMENTS = "/spaces/demo/documents"


@pytest.fixture(autouse=True)
async def demo(api: Api) -> None:
    await api.space("demo")


async def names(api: Api, revision: int) -> list[str]:
    state = await api.done("GET", f"{DOCUMENTS}/scene/state?revision={revision}", role="viewer")
    assert state["revision"] == revision
    return sorted(node["name"] for node in state["state"]["nodes"].values())


@on_each_log
async def test_the_past_is_read_revision_by_revision(api: Api) -> None:
    for name in ("a", "b", "c"):
        last = await api.done("POST", "/spaces/demo/scene/nodes", {"name": name})
    await api.done("PATCH", f"/spaces/demo/scene/nodes/{last['id']}", {"name": "d"})
    assert [await names(api, revision) for revision in range(5)] == [
        [], ["a"], ["a", "b"], ["a", "b", "c"], ["a", "b", "d"]
    ]  # fmt: skip
    newest = await api.done("GET", f"{DOCUMENTS}/scene@1/state")
    assert (newest["document"], newest["epoch"], newest["revision"]) == ("scene", 1, 4)
    assert newest["state"]["materials"] == {}


async def test_a_revision_that_is_not_there_is_refused(api: Api) -> None:
    await api.done("POST", "/spaces/demo/scene/nodes", {"name": "a"})
    said = await api.refused(422, "GET", f"{DOCUMENTS}/scene/state?revision=2")
    assert said["detail"] == "revision: expected 0 to 1, got 2"
    for revision in ("-1", "x"):
        assert (await api.refused(422, "GET", f"{DOCUMENTS}/scene/state?revision={revision}"))["path"] == "revision"


async def test_an_unknown_document_is_not_found(api: Api) -> None:
    for name in ("scene@2", "text:none", "chart", "chat@0", "text:"):
        assert (await api.refused(404, "GET", f"{DOCUMENTS}/{name}/state"))["detail"].endswith(f"got {name!r}")


async def test_the_update_makes_the_state_of_its_revision_from_nothing(api: Api) -> None:
    for body in ("one", "two"):
        await api.done("POST", "/spaces/demo/chat/messages", {"body": body})
    response = await api.call("GET", f"{DOCUMENTS}/chat/state?revision=1&format=update")
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Maquette-Revision"] == "1"
    copy: pycrdt.Doc[Any] = pycrdt.Doc()
    copy.apply_update(response.content)
    messages = copy.get("messages", type=pycrdt.Array).to_py()
    assert [message["body"] for message in messages or []] == ["one"]


async def test_a_text_document_shows_its_roots_as_text(api: Api) -> None:
    space = await api.engine.space("t1", "demo")

    def write(doc: pycrdt.Doc[Any]) -> None:
        text = doc.get("note", type=pycrdt.Text)
        text += "Grüße"

    await space.write("text:notes", Actor("ann"), Role.EDITOR, write)
    state = await api.done("GET", f"{DOCUMENTS}/text:notes/state")
    assert state["state"] == {"note": "Grüße"}


# --- rewriting -----------------------------------------------------------------------------------------------------


@on_each_log
async def test_d9_an_owner_rewrites_a_scene_and_is_told_what_that_saved(api: Api) -> None:
    made = await api.done("POST", "/spaces/demo/scene/nodes", {"name": "a"})
    for number in range(10):
        await api.done("PATCH", f"/spaces/demo/scene/nodes/{made['id']}", {"name": f"a{number}"})
    dry = await api.done("POST", f"{DOCUMENTS}/scene/rewrite?dry_run=true")
    assert (dry["epoch"], dry["dry_run"], dry["records"]["nodes"]) == (2, True, 1)
    assert (await api.done("GET", "/spaces/demo"))["documents"][1]["epoch"] == 1
    told = await api.done("POST", f"{DOCUMENTS}/scene/rewrite")
    assert (told["document"], told["epoch"], told["dry_run"]) == ("scene", 2, False)
    assert told["before"]["clocks"] - told["after"]["clocks"] == 10
    assert told["before"]["bytes"] > told["after"]["bytes"]
    assert (await api.done("GET", "/spaces/demo"))["documents"][1]["epoch"] == 2
    last = await api.done("PATCH", f"/spaces/demo/scene/nodes/{made['id']}", {"name": "b"})
    read = await api.done("GET", f"/spaces/demo/scene/nodes/{made['id']}?wait={last['position']}")
    assert read["fields"]["name"] == "b"
    assert (await api.done("GET", f"/spaces/demo/scene?wait={last['position']}"))["epoch"] == 2
    assert (await api.done("GET", f"{DOCUMENTS}/scene@1/state"))["revision"] == 11


async def test_d9_a_rewrite_that_cannot_be_is_told_why(api: Api) -> None:
    await api.done("POST", "/spaces/demo/scene/nodes", {"name": "a"})
    said = await api.refused(403, "POST", f"{DOCUMENTS}/scene/rewrite", role="moderator")
    assert "expected the role owner" in said["detail"]
    assert "text:none" in (await api.refused(404, "POST", f"{DOCUMENTS}/text:none/rewrite"))["detail"]
    assert "pages by itself" in (await api.refused(422, "POST", f"{DOCUMENTS}/chat/rewrite"))["detail"]
    await api.done("POST", f"{DOCUMENTS}/scene/rewrite")
    said = await api.refused(409, "POST", f"{DOCUMENTS}/scene@1/rewrite")
    assert said["successor"] == "scene@2"
    space = await api.engine.space("t1", "demo")
    await space.freeze(space.record.documents["scene"], 2, 2, "it hangs")
    assert (await api.refused(423, "POST", f"{DOCUMENTS}/scene/rewrite"))["reason"] == "it hangs"


async def test_d9_a_scene_is_not_rewritten_twice_at_a_time(api: Api) -> None:
    await api.done("POST", "/spaces/demo/scene/nodes", {"name": "a"})
    both = await asyncio.gather(*(api.call("POST", f"{DOCUMENTS}/scene/rewrite") for _ in range(2)))
    assert sorted(response.status_code for response in both) == [200, 409]


async def test_g4_a_frozen_scene_is_told_as_a_problem_and_thawed_by_an_owner(api: Api) -> None:
    for name in ("a", "b"):
        await api.done("POST", "/spaces/demo/scene/nodes", {"name": name})
    space = await api.engine.space("t1", "demo")
    await space.freeze(space.record.documents["scene"], 1, 2, "its revision 2 stopped the server")
    said = await api.refused(423, "POST", "/spaces/demo/scene/nodes", {"name": "c"}, role="editor")
    assert (said["before"], said["reason"]) == (2, "its revision 2 stopped the server")
    newest = await api.done("GET", f"{DOCUMENTS}/scene/state")
    assert (newest["revision"], [node["name"] for node in newest["state"]["nodes"].values()]) == (1, ["a"])
    await api.refused(423, "GET", f"{DOCUMENTS}/scene/state?revision=2")
    frozen = {one["name"]: one["frozen"] for one in (await api.done("GET", "/spaces/demo"))["documents"]}
    assert frozen == {"chat": [], "scene": [1]}
    await api.done("POST", "/spaces/demo/chat/messages", {"body": "the rest goes on"})
    await api.refused(403, "POST", f"{DOCUMENTS}/scene/thaw", role="moderator")
    await api.refused(404, "POST", f"{DOCUMENTS}/scene@2/thaw")
    assert (await api.call("POST", f"{DOCUMENTS}/scene/thaw")).status_code == 204
    await api.done("POST", "/spaces/demo/scene/nodes", {"name": "c"}, role="editor")
    assert await names(api, 3) == ["a", "b", "c"]

"""Spaces over HTTP, and what separates tenants."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from tests.support.api import Api, on_each_log, problem, serving

from maquette.server.tokens import Keyring


@on_each_log
async def test_a_space_is_made_with_a_chat_and_a_scene(api: Api) -> None:
    response = await api.call("POST", "/spaces", {"slug": "demo", "name": "Demo"})
    assert response.status_code == 201
    assert response.headers["Location"] == "/v1/spaces/demo"
    space = response.json()
    assert (space["slug"], space["name"], space["role"], space["chat_page"]) == ("demo", "Demo", "owner", 1)
    assert [(document["name"], document["epoch"]) for document in space["documents"]] == [("chat", 1), ("scene", 1)]
    assert await api.done("GET", "/spaces/demo") == space
    assert await api.done("GET", f"/spaces/{space['id']}") == space


async def test_only_owners_of_all_spaces_make_spaces(api: Api) -> None:
    said = await api.refused(403, "POST", "/spaces", {"slug": "demo"}, role="moderator")
    assert said["detail"] == "spaces: expected a token with the role owner in '*' to make a space, got less"
    await api.refused(403, "POST", "/spaces", {"slug": "demo"}, roles={"demo": "owner"})


async def test_a_slug_is_given_once(api: Api) -> None:
    await api.space("demo")
    assert "which is the space" in (await api.refused(409, "POST", "/spaces", {"slug": "demo"}))["detail"]


async def test_a_slug_fits_into_urls(api: Api) -> None:
    for slug in ("", "Demo", "a b", "-a", "a/b", "a" * 64, "ä"):
        said = await api.refused(422, "POST", "/spaces", {"slug": slug})
        assert said["detail"].startswith("space: expected 1 to 63 of a-z, 0-9 and '-', not first a '-', got")


async def test_the_list_has_the_spaces_that_one_may_enter(api: Api) -> None:
    for slug in ("b", "a", "c"):
        await api.space(slug)
    spaces = (await api.done("GET", "/spaces", roles={"c": "viewer", "a": "editor"}))["spaces"]
    assert [(space["slug"], space["role"]) for space in spaces] == [("a", "editor"), ("c", "viewer")]
    assert (await api.done("GET", "/spaces", roles={}))["spaces"] == []


@on_each_log
async def test_owners_rename_a_space(api: Api) -> None:
    demo = await api.space()
    assert (await api.done("PATCH", demo, {"name": "Ours"}))["name"] == "Ours"
    assert (await api.done("GET", demo, role="viewer"))["name"] == "Ours"
    assert "owner, got editor" in (await api.refused(403, "PATCH", demo, {"name": "Mine"}, role="editor"))["detail"]
    await api.refused(422, "PATCH", demo, {"name": "a\nb"})
    await api.refused(422, "PATCH", demo, {"name": " "})


# --- tenants -------------------------------------------------------------------------------------------------------

PATHS = (
    ("GET", "", None),
    ("PATCH", "", {"name": "x"}),
    ("GET", "/chat/messages", None),
    ("POST", "/chat/messages", {"body": "x"}),
    ("GET", "/chat/messages/{message}", None),
    ("PATCH", "/chat/messages/{message}", {"body": "x"}),
    ("DELETE", "/chat/messages/{message}", None),
    ("PUT", "/chat/messages/{message}/reactions/x", None),
    ("GET", "/scene", None),
    ("GET", "/scene/nodes", None),
    ("POST", "/scene/nodes", {"type": "group"}),
    ("GET", "/scene/nodes/{node}", None),
    ("PATCH", "/scene/nodes/{node}", {"name": "x"}),
    ("DELETE", "/scene/nodes/{node}", None),
    ("GET", "/scene/matrices", None),
    ("GET", "/documents/scene/state", None),
    ("GET", "/export?format=jsonl", None),
    ("POST", "/import?filename=x.glb", None),
    ("GET", "/assets/" + "A" * 43, None),
)


async def filled(api: Api) -> tuple[str, str, str]:
    """A space of tenant t1 under slug and id, and a message and a node in it."""
    demo = await api.space()
    message = (await api.done("POST", f"{demo}/chat/messages", {"body": "secret"}))["id"]
    node = (await api.done("POST", f"{demo}/scene/nodes", {"name": "secret"}))["id"]
    return (await api.done("GET", demo))["id"], message, node


async def test_another_tenants_space_is_one_that_is_not_there(api: Api) -> None:
    space, message, node = await filled(api)
    head = await api.engine.log.head()
    for method, template, body in PATHS:
        path = template.format(message=message, node=node)
        for name in ("demo", space):
            said = await api.refused(404, method, f"/spaces/{name}{path}", body, tenant="t2")
            unknown = await api.refused(404, method, f"/spaces/nowhere{path}", body, tenant="t2")
            assert str(said).replace(name, "X") == str(unknown).replace("nowhere", "X")
            stranger = await api.refused(404, method, f"/spaces/{name}{path}", body, roles={"other": "owner"})
            assert str(stranger) == str(said)
    assert await api.engine.log.head() == head


@on_each_log
async def test_two_tenants_use_the_same_slug_and_share_nothing(api: Api) -> None:
    await filled(api)
    demo = await api.space("demo", tenant="t2", sub="bob")
    posted = await api.done("POST", f"{demo}/chat/messages", {"body": "ours"}, tenant="t2", sub="bob")
    read = await api.done("GET", f"{demo}/chat/messages?wait={posted['position']}", tenant="t2")
    assert [message["body"] for message in read["messages"]] == ["ours"]
    assert (await api.done("GET", f"{demo}/scene/nodes", tenant="t2"))["nodes"] == []
    assert len((await api.done("GET", "/spaces", tenant="t2"))["spaces"]) == 1
    state = await api.done("GET", f"{demo}/documents/chat/state", tenant="t2")
    assert "secret" not in str(state)


# --- who asks ------------------------------------------------------------------------------------------------------


async def test_without_a_token_there_is_nothing(api: Api) -> None:
    for method, path in [("GET", "/v1/spaces"), *((method, f"/v1/spaces/demo{path}") for method, path, _ in PATHS)]:
        response = await api.http.request(method, path.format(message="m", node="n"))
        assert problem(response, 401)["detail"].endswith("got none")
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


async def test_nothing_of_a_body_is_read_before_its_sender_is_known(api: Api) -> None:
    asked = []

    async def body(path: str) -> AsyncIterator[bytes]:
        asked.append(path)
        yield b"{}"

    for path in ("/v1/spaces", "/v1/spaces/demo/chat/messages", "/v1/spaces/demo/scene/nodes"):
        headers = {"Content-Type": "application/json"}
        problem(await api.http.post(path, content=body(path), headers=headers), 401)
    assert asked == []


async def test_g2_a_request_with_a_body_is_counted_once(api: Api) -> None:
    left = []
    for slug in ("one", "two"):
        told = (await api.call("POST", "/spaces", {"slug": slug})).headers["RateLimit"]
        left.append(int(told.partition("r=")[2].partition(";")[0]))
    assert left[0] - left[1] <= 1


async def test_a_bad_token_is_told_what_it_lacks(api: Api) -> None:
    foreign = Keyring.fresh().sign("ann", "Ann", "t1", {"*": "owner"})
    for token, lacks in (("a.b.c", "expected a JWT"), (foreign, "kid: expected the id of a key of this server")):
        response = await api.http.get("/v1/spaces", headers={"Authorization": f"Bearer {token}"})
        assert lacks in problem(response, 401)["detail"]
        assert token not in response.text


async def test_a_token_in_the_query_counts_too(api: Api) -> None:
    token = api.headers()["Authorization"].removeprefix("Bearer ")
    assert (await api.http.get("/v1/spaces", params={"token": token})).json() == {"spaces": []}
    refused = await api.http.get("/v1/spaces/nowhere", params={"token": token})
    assert token not in refused.text


async def test_a_visitor_of_dev_posts_into_a_space_that_the_post_makes(tmp_path: Path) -> None:
    async with serving("memory:", tmp_path, dev=True) as api:
        assert problem(await api.http.get("/v1/spaces/demo"), 404)
        posted = await api.http.post("/v1/spaces/demo/chat/messages?name=Ann", json={"body": "hi"})
        assert posted.status_code == 201
        wait = posted.json()["position"]
        read = (await api.http.get(f"/v1/spaces/demo/chat/messages?wait={wait}")).json()["messages"]
        assert [(message["name"], message["body"]) for message in read] == [("Ann", "hi")]
        assert (await api.http.post("/v1/spaces", json={"slug": "more"})).status_code == 201
        said = problem(await api.http.get("/v1/spaces", headers={"Origin": "https://evil.example"}), 401)
        assert "a page of this machine" in said["detail"]

"""The conversation over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest
from tests.support.api import Api, on_each_log

from maquette.engine.kinds import chat
from maquette.engine.kinds.chat import MAX_BODY
from maquette.server import services

CHAT = "/spaces/demo/chat/messages"


@pytest.fixture(autouse=True)
async def demo(api: Api) -> None:
    await api.space("demo")


async def post(api: Api, body: str, **who: Any) -> Any:
    return await api.done("POST", CHAT, {"body": body}, **who)


async def read(api: Api, written: Any, query: str = "") -> list[Any]:
    answer = await api.done("GET", f"{CHAT}?wait={written['position']}{query}", role="viewer")
    return list(answer["messages"])


async def one(api: Api, written: Any) -> Any:
    return await api.done("GET", f"{CHAT}/{written['id']}?wait={written['position']}", role="viewer")


@on_each_log
async def test_a_message_is_read_as_it_was_posted(api: Api) -> None:
    first = await post(api, "Hello, fox", role="commenter")
    written = await api.done(
        "POST",
        CHAT,
        {"body": "Hm 👍", "thread": first["id"], "mentions": ["bob"], "attachments": [{"name": "a.png", "size": 1.5}]},
        sub="bob",
    )
    message = await one(api, written)
    assert message.pop("sent") <= message.pop("stamped")
    assert message == {
        "id": written["id"], "number": 2, "author": "bob", "name": "Bob", "body": "Hm 👍", "edited": None,
        "thread": first["id"], "mentions": ["bob"], "attachments": [{"name": "a.png", "size": 1.5}], "notice": False,
        "deleted": None, "reactions": {},
    }  # fmt: skip


@on_each_log
async def test_v5_a_read_that_waits_reflects_the_write(api: Api) -> None:
    for number in range(20):
        written = await post(api, str(number))
        assert (await read(api, written))[-1]["body"] == str(number)


async def test_v5_only_a_position_that_was_answered_is_waited_for(api: Api) -> None:
    for wait in ("x", "-1", "1.5", "99999999", "9" * 30, "²"):
        said = await api.refused(422, "GET", f"{CHAT}?wait={quote(wait)}")
        assert said["detail"].startswith("wait: expected a position that a write answered, got")


async def test_v5_a_read_that_waits_in_vain_says_how_far_the_projection_is(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "WAIT_SECONDS", 0.05)
    async with api.runner.view("chat_history")._changing:  # as while a rebuild is swapped in
        written = await post(api, "hi")
        said = await api.refused(503, "GET", f"{CHAT}?wait={written['position']}")
        assert said["type"] == "urn:maquette:problem:behind"
        assert f"expected projection 'chat_history' at position {written['position']} within" in said["detail"]
    monkeypatch.undo()
    assert [message["body"] for message in await read(api, written)] == ["hi"]


@on_each_log
async def test_the_author_edits_and_everyone_reads_it(api: Api) -> None:
    written = await post(api, "teh fox")
    message = await one(api, await api.done("PATCH", f"{CHAT}/{written['id']}", {"body": "the fox"}))
    assert message["body"] == "the fox"
    assert message["edited"] >= message["sent"]


@on_each_log
async def test_nobody_edits_the_message_of_another(api: Api) -> None:
    written = await post(api, "mine", sub="ann")
    said = await api.refused(403, "PATCH", f"{CHAT}/{written['id']}", {"body": "ours"}, sub="bob", role="owner")
    assert said["type"] == "urn:maquette:problem:refused"
    assert said["reasons"][0].startswith(f"message {written['id']!r}: expected an edit by its author, got one of")
    assert "'bob'" in said["reasons"][0]
    assert (await one(api, await post(api, "later", sub="bob")))["body"] == "later"
    assert (await one(api, written))["body"] == "mine"


@on_each_log
async def test_the_author_or_a_moderator_deletes_and_restores(api: Api) -> None:
    written = await post(api, "oops", sub="ann")
    path = f"{CHAT}/{written['id']}"
    said = await api.refused(403, "DELETE", path, sub="bob", role="editor")
    assert "expected its author or a moderator to delete" in said["detail"]
    assert "got 'bob' (editor)" in said["detail"]
    message = await one(api, await api.done("DELETE", path, sub="bob", role="moderator"))
    assert message["body"] is None
    assert message["deleted"]["by"] == "bob"
    message = await one(api, await api.done("POST", f"{path}/restore", sub="bob", role="moderator"))
    assert (message["body"], message["deleted"]) == ("oops", None)


@on_each_log
async def test_reactions_are_given_once_and_taken_back(api: Api) -> None:
    written = await post(api, "who comes?")
    path = f"{CHAT}/{written['id']}/reactions/{quote('👍🏽')}"
    await api.done("PUT", path, sub="ann")
    await api.done("PUT", path, sub="ann")
    message = await one(api, await api.done("PUT", path, sub="bob"))
    assert message["reactions"] == {"👍🏽": ["ann", "bob"]}
    message = await one(api, await api.done("DELETE", path, sub="ann"))
    assert message["reactions"] == {"👍🏽": ["bob"]}
    again = await api.done("DELETE", path, sub="ann")
    assert (await one(api, again))["reactions"] == {"👍🏽": ["bob"]}


async def test_a_reaction_is_one_emoji(api: Api) -> None:
    written = await post(api, "who comes?")
    for emoji in ("x" * 65, f"a{chat.SEPARATOR}b"):
        said = await api.refused(422, "PUT", f"{CHAT}/{written['id']}/reactions/{quote(emoji)}")
        assert said["path"] == "reaction.emoji"


@on_each_log
async def test_posts_at_the_same_moment_are_all_there_once(api: Api) -> None:
    who = [("ann", "editor"), ("bob", "commenter")] * 10
    written = await asyncio.gather(*(post(api, str(n), sub=sub, role=role) for n, (sub, role) in enumerate(who)))
    newest = max(written, key=lambda one: int(one["position"]))
    messages = await read(api, newest)
    assert sorted(int(message["body"]) for message in messages) == list(range(20))
    assert {message["body"]: message["author"] for message in messages} == {
        str(n): sub for n, (sub, _) in enumerate(who)
    }


async def test_viewers_read_and_do_not_write(api: Api) -> None:
    written = await post(api, "hi")
    for method, path, body in (("POST", CHAT, {"body": "me"}), ("DELETE", f"{CHAT}/{written['id']}", None)):
        said = await api.refused(403, method, path, body, role="viewer", sub="eve")
        assert said["detail"].startswith("expected a role of commenter or above to edit a chat document, got viewer")
    assert [message["body"] for message in await read(api, written)] == ["hi"]


# --- bad input -----------------------------------------------------------------------------------------------------


NO_MESSAGES: list[tuple[Any, str]] = [
    ({}, "body: expected a value, got none"),
    ({"body": 7}, "body: expected a valid string, got 7"),
    ({"body": ""}, "body: expected at least 1 character, got ''"),
    ({"body": "x", "author": "bob"}, "author: expected no field of this name, got 'author'"),
    ({"body": "x", "thread": "a/b"}, "thread: expected"),
    ({"body": "x", "mentions": ["a b"]}, "mentions.0: expected"),
    ({"body": "x", "mentions": ["a"] * 101}, "mentions: expected at most 100 items"),
    ({"body": "x", "attachments": [7]}, "attachments.0: expected"),
    ([], "body: expected"),
    ("x", "body: expected"),
]


async def test_a_message_that_is_none_is_refused(api: Api) -> None:
    for body, said in NO_MESSAGES:
        assert said in (await api.refused(422, "POST", CHAT, body))["detail"]


async def test_a_message_of_a_megabyte_is_refused(api: Api) -> None:
    said = await api.refused(422, "POST", CHAT, {"body": "x" * 1_000_000})
    assert said["detail"] == f"message.body: expected at most {MAX_BODY} bytes, got 1000000"
    said = await api.refused(413, "POST", CHAT, {"body": "x" * 2_000_000})
    assert said["detail"] == "body: expected at most 1048576 bytes, got 2000011 bytes"
    assert said["limit"] == 1_048_576


async def test_the_longest_message_is_counted_in_bytes(api: Api) -> None:
    assert await post(api, "ä" * (MAX_BODY // 2))
    await api.refused(422, "POST", CHAT, {"body": "ä" * (MAX_BODY // 2) + "a"})


async def test_attachments_are_bounded(api: Api) -> None:
    deep: Any = "x"
    for _ in range(40):
        deep = [deep]
    for attachment in ({"x": "y" * 40_000}, {"x": deep}):
        said = await api.refused(422, "POST", CHAT, {"body": "x", "attachments": [attachment]})
        assert said["path"].startswith("message.attachments")


async def test_an_unknown_message_is_not_found(api: Api) -> None:
    for method, body in (("GET", None), ("PATCH", {"body": "x"}), ("DELETE", None)):
        said = await api.refused(404, method, f"{CHAT}/nosuch", body)
        assert said["detail"] == "expected an existing message, got 'nosuch'"


async def test_a_refused_post_leaves_no_name_behind(api: Api) -> None:
    await api.refused(403, "POST", CHAT, {"body": "x"}, sub="eve", role="viewer")
    space = await api.engine.space("t1", "demo")
    assert "eve" not in space.record.profiles


# --- pages ---------------------------------------------------------------------------------------------------------


async def test_cursors_lead_through_the_conversation_both_ways(api: Api) -> None:
    for number in range(1, 8):
        written = await post(api, str(number))
    path = f"{CHAT}?limit=3&wait={written['position']}"
    backwards, cursor = [], ""
    while True:
        answer = await api.done("GET", path + cursor)
        backwards.append([int(message["body"]) for message in answer["messages"]])
        if answer["before"] is None:
            break
        cursor = f"&before={answer['before']}"
    assert backwards == [[5, 6, 7], [2, 3, 4], [1]]
    forwards: list[list[int]] = []
    after: int | None = 0
    while after is not None:
        answer = await api.done("GET", f"{path}&after={after}")
        forwards.append([int(message["body"]) for message in answer["messages"]])
        after = answer["after"]
    assert forwards == [[1, 2, 3], [4, 5, 6], [7]]


async def test_links_name_the_neighbours_and_no_token(api: Api) -> None:
    for number in range(1, 6):
        written = await post(api, str(number))
    token = api.headers()["Authorization"].removeprefix("Bearer ")
    params: dict[str, Any] = {"token": token, "limit": 2, "before": 5, "wait": written["position"]}
    response = await api.http.get(f"/v1{CHAT}", params=params)
    assert response.headers["Link"] == '<?limit=2&before=3>; rel="prev", <?limit=2&after=4>; rel="next"'
    following = response.links["prev"]["url"]
    answer = await api.done("GET", f"{CHAT}{following}")
    assert [message["body"] for message in answer["messages"]] == ["1", "2"]


async def test_cursors_and_limits_are_numbers_in_their_bounds(api: Api) -> None:
    for query in (
        "limit=0",
        "limit=201",
        "limit=x",
        "before=x",
        "after=1.5",
        "thread=a%20b",
        "before=" + "9" * 30,
        "after=-1",
    ):
        said = await api.refused(422, "GET", f"{CHAT}?{query}")
        assert said["path"] == query.partition("=")[0]


async def test_a_thread_is_read_by_itself(api: Api) -> None:
    first = await post(api, "a question")
    await post(api, "something else")
    answer = await api.done("POST", CHAT, {"body": "an answer", "thread": first["id"]})
    assert [message["body"] for message in await read(api, answer, f"&thread={first['id']}")] == ["an answer"]


@on_each_log
async def test_d9_messages_of_older_pages_are_edited_where_they_are(api: Api) -> None:
    old = [await post(api, "m0"), await post(api, "m1")][1]["id"]
    await turn_page(api)
    await post(api, "m2")
    await turn_page(api)
    await post(api, "m3")
    assert (await api.done("GET", "/spaces/demo"))["chat_page"] == 3
    await api.done("PUT", f"{CHAT}/{old}/reactions/x")
    edited = await api.done("PATCH", f"{CHAT}/{old}", {"body": "late"})
    assert [message["body"] for message in await read(api, edited)] == ["m0", "late", "m2", "m3"]
    assert (await one(api, edited))["reactions"] == {"x": ["ann"]}
    state = await api.done("GET", "/spaces/demo/documents/chat@1/state")
    assert [message["body"] for message in state["state"]["messages"]] == ["m0", "late"]


async def turn_page(api: Api) -> None:
    space = await api.engine.space("t1", "demo")
    found = await space.resolve("chat")
    await space.turn_page(found.record, found.epoch, await space.open_resolved(found))

"""The chat history, against a model of dicts."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.projections import dump, dumps_by_batch, edit, write

from maquette.engine.errors import InvalidInput, NotFound
from maquette.engine.log import EventLog
from maquette.engine.logs.memory import MemoryLog
from maquette.projections.chat_history import ChatHistory
from maquette.projections.chat_reads import ChatReads, Deletion, Message, Version
from maquette.projections.runner import Runner

Change = dict[str, Any]

CHAT = "t/s/chat@1"


def posted(number: int, body: str = "hello", **more: Any) -> Change:
    fields = {
        "id": f"m{number}",
        "author": "ann",
        "body": body,
        "sent": 1000 + number,
        "stamp": [number, 2000 + number],
    }
    return {"type": "message.posted"} | fields | more


@pytest.fixture
async def log() -> AsyncIterator[EventLog]:
    log = MemoryLog()
    yield log
    await log.close()


class Chat:
    """A log, a runner that follows it, and the reads."""

    def __init__(self, log: EventLog, runner: Runner) -> None:
        self.log = log
        self.runner = runner
        self.reads = ChatReads(runner.view("chat_history"))

    async def edit(self, *changes: Change, stream: str = CHAT) -> None:
        await self.runner.wait_for(await edit(self.log, stream, *changes), 5)

    async def page(self, **options: Any) -> list[str]:
        return [message.id for message in await self.reads.page("t", "s", **options)]


@pytest.fixture
async def chat(log: EventLog, tmp_path: Path) -> AsyncIterator[Chat]:
    async with await Runner.open(log, tmp_path, [ChatHistory]) as runner:
        yield Chat(log, runner)


# --- reads -------------------------------------------------------------------------------------------------------


async def test_a_message_is_read_as_it_was_posted(chat: Chat) -> None:
    await chat.edit(
        posted(1, "hi", thread="m0", mentions=["bob"], attachments=[{"name": "a.png"}], notice=True, edited=1500.0)
    )
    assert await chat.reads.message("t", "s", "m1") == Message(
        id="m1",
        number=1,
        stamped=2001,
        author="ann",
        name=None,
        sent=1001,
        body="hi",
        thread="m0",
        mentions=("bob",),
        attachments=({"name": "a.png"},),
        notice=True,
        edited=1500,
        deleted=None,
        reactions={},
    )


async def test_pages_follow_the_stamp_numbers_not_the_events(chat: Chat) -> None:
    await chat.edit(posted(5), posted(2))
    await chat.edit(posted(4), posted(1), posted(3))
    assert await chat.page() == ["m1", "m2", "m3", "m4", "m5"]
    assert await chat.page(limit=2) == ["m4", "m5"]
    assert await chat.page(before=4, limit=2) == ["m2", "m3"]
    assert await chat.page(after=2, limit=2) == ["m3", "m4"]
    assert await chat.page(after=1, before=4) == ["m2", "m3"]


async def test_the_pages_of_a_chain_are_one_history(chat: Chat) -> None:
    await chat.edit(posted(1), posted(2))
    await chat.edit(posted(3), stream="t/s/chat@2")
    await chat.edit(posted(4))  # somebody who was offline when the page turned
    await chat.edit({"type": "message.edited", "id": "m1", "body": "late", "edited": 9})
    assert await chat.page() == ["m1", "m2", "m3", "m4"]
    assert (await chat.reads.message("t", "s", "m1")).body == "late"


async def test_an_id_that_is_used_again_on_the_next_page_is_another_message(chat: Chat) -> None:
    await chat.edit(posted(1, "first"), {"type": "reaction.added", "id": "m1", "emoji": "👍", "actor": "ann"})
    await chat.edit(posted(2, "second", id="m1"), stream="t/s/chat@2")
    page = await chat.reads.page("t", "s")
    assert [(message.body, message.reactions) for message in page] == [("first", {"👍": ["ann"]}), ("second", {})]
    assert (await chat.reads.message("t", "s", "m1")).body == "first"


async def test_spaces_and_tenants_do_not_see_each_other(chat: Chat) -> None:
    await chat.edit(posted(1))
    await chat.edit(posted(1, "other"), stream="t/other/chat@1")
    await chat.edit(posted(1, "foreign"), stream="u/s/chat@1")
    assert [message.body for message in await chat.reads.page("t", "s")] == ["hello"]
    assert await chat.reads.count("t", "s") == 1


async def test_a_deleted_message_is_a_tombstone_without_words(chat: Chat) -> None:
    await chat.edit(posted(1, "secret", mentions=["bob"], attachments=[{"name": "secret.png"}]))
    await chat.edit({"type": "message.edited", "id": "m1", "body": "secret too", "edited": 5})
    await chat.edit({"type": "reaction.added", "id": "m1", "emoji": "👍", "actor": "bob"})
    await chat.edit({"type": "message.deleted", "id": "m1", "by": "mod", "at": 7.0})
    message = await chat.reads.message("t", "s", "m1")
    assert (message.id, message.number, message.author, message.deleted) == ("m1", 1, "ann", Deletion("mod", 7))
    assert "secret" not in repr(await chat.reads.page("t", "s"))
    assert (message.body, message.mentions, message.attachments, message.reactions) == (None, (), (), {})
    assert await chat.reads.versions("t", "s", "m1") == []
    assert await chat.reads.count("t", "s") == 0


async def test_a_restored_message_is_what_it_was(chat: Chat) -> None:
    await chat.edit(posted(1), {"type": "reaction.added", "id": "m1", "emoji": "👍", "actor": "bob"})
    before = await chat.reads.message("t", "s", "m1")
    await chat.edit({"type": "message.deleted", "id": "m1", "by": "mod", "at": 7})
    await chat.edit({"type": "message.restored", "id": "m1"})
    assert await chat.reads.message("t", "s", "m1") == before


async def test_edits_keep_the_bodies_before_them(chat: Chat) -> None:
    await chat.edit(posted(1, "one"))
    await chat.edit({"type": "message.edited", "id": "m1", "body": "two", "edited": 20.0})
    await chat.edit({"type": "message.edited", "id": "m1", "body": "three", "edited": 30, "mentions": ["bob"]})
    message = await chat.reads.message("t", "s", "m1")
    assert (message.body, message.edited, message.mentions) == ("three", 30, ("bob",))
    assert await chat.reads.versions("t", "s", "m1") == [Version("one", 1001), Version("two", 20), Version("three", 30)]


async def test_reactions_are_counted_once_and_taken_back(chat: Chat) -> None:
    add = [{"type": "reaction.added", "id": "m1", "emoji": "👍", "actor": actor} for actor in ("bob", "ann", "bob")]
    await chat.edit(posted(1), *add)
    assert (await chat.reads.message("t", "s", "m1")).reactions == {"👍": ["ann", "bob"]}
    await chat.edit({"type": "reaction.removed", "id": "m1", "emoji": "👍", "actor": "ann"})
    assert (await chat.reads.message("t", "s", "m1")).reactions == {"👍": ["bob"]}


async def test_a_thread_is_read_by_itself(chat: Chat) -> None:
    await chat.edit(posted(1), posted(2, thread="m1"), posted(3), posted(4, thread="m1"))
    assert await chat.page(thread="m1") == ["m2", "m4"]


async def test_g5_what_is_left_of_a_refused_op_is_folded(chat: Chat) -> None:
    changes = [posted(1), {"type": "message.removed", "id": "m1"}, posted(2)]
    refused = {"changes": changes, "reason": "message.author: expected 'ann', got 'bob'"}
    await chat.runner.wait_for(await write(chat.log, CHAT, ("document.refused", refused)), 5)
    assert await chat.page() == ["m2"]


async def test_a_removed_message_is_gone(chat: Chat) -> None:
    await chat.edit(posted(1), {"type": "reaction.added", "id": "m1", "emoji": "👍", "actor": "bob"})
    await chat.edit({"type": "message.removed", "id": "m1"}, {"type": "message.removed", "id": "never-there"})
    with pytest.raises(NotFound, match="message, got 'm1'"):
        await chat.reads.message("t", "s", "m1")
    with pytest.raises(NotFound):
        await chat.reads.versions("t", "s", "m1")


async def test_names_are_given_changed_and_erased(chat: Chat) -> None:
    await chat.edit(posted(1))
    for name in ("Ann", "Anna"):
        await chat.runner.wait_for(await write(chat.log, "t/s", ("profile.named", {"id": "ann", "name": name})), 5)
        assert (await chat.reads.message("t", "s", "m1")).name == name
    assert await chat.reads.names("t", "s") == {"ann": "Anna"}
    await chat.runner.wait_for(await write(chat.log, "t/s", ("profile.named", {"id": "ann", "name": None})), 5)
    assert (await chat.reads.message("t", "s", "m1")).name is None
    assert await chat.reads.names("t", "s") == {}


@pytest.mark.parametrize("limit", [0, 501])
async def test_a_page_out_of_bounds_is_refused(chat: Chat, limit: int) -> None:
    with pytest.raises(InvalidInput, match=f"limit: expected 1 to 500, got {limit}"):
        await chat.reads.page("t", "s", limit=limit)


# --- V4 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({}, "document.edited: expected a list of changes, got None"),
        ({"changes": [7]}, "expected a change with a type, got 7"),
        ({"changes": [{"type": "message.sung", "id": "m1"}]}, "got 'message.sung'"),
        ({"changes": [{"type": "message.restored"}]}, "message.restored: expected a field 'id', got type"),
        ({"changes": [posted(1, stamp=1)]}, "expected a stamp [number, ms], got 1"),
        ({"changes": [posted(1), posted(1)]}, "UNIQUE constraint failed: messages"),
        ({"changes": [{"type": "message.edited", "id": "m9", "body": ""}]}, "expected a known message, got 'm9'"),
        ({"changes": [{"type": "message.deleted", "id": "m9", "by": "a", "at": 1}]}, "expected a known message"),
        ({"changes": [{"type": "reaction.added", "id": "m9", "emoji": "x", "actor": "a"}]}, "expected a known message"),
    ],
)
async def test_v4_what_cannot_be_folded_parks_its_page_with_a_clear_error(
    chat: Chat, data: dict[str, Any], error: str
) -> None:
    await write(chat.log, CHAT, ("document.edited", data))
    await chat.edit(posted(2))
    await chat.edit(posted(3), stream="t/s/chat@2")
    (parked,) = await chat.runner.parked("chat_history")
    assert (parked.stream, parked.revision, parked.waiting) == (CHAT, 1, 2)
    assert error in parked.error
    assert await chat.page() == ["m3"]


async def test_events_of_others_are_no_business_of_the_chat(chat: Chat) -> None:
    for stream in ("t", "t/s", "t/s/scene@1", "t/s/chat", "t/s/x/chat@1", "t//chat@1"):
        last = await write(chat.log, stream, ("document.edited", {}), ("thing.happened", {}))
    await chat.runner.wait_for(last, 5)
    assert await chat.runner.parked("chat_history") == []


# --- V2, against a model -----------------------------------------------------------------------------------------

Model = dict[str, dict[str, Any]]


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[tuple[str, list[Change]]], Model]:
    """Events as (stream, changes) on two pages of a chat, and what they come to."""
    model: Model = {}
    events = []
    number = 0
    for _ in range(draw(st.integers(1, 20))):
        page = draw(st.integers(1, 2))
        changes = []
        for _ in range(draw(st.integers(0, 5))):
            here = sorted(name for name, message in model.items() if message["page"] == page)
            kind = draw(st.sampled_from(sorted(MODEL))) if here else "post"
            number += 1
            changes.append(MODEL[kind](model, page, number, draw(st.sampled_from(here)) if here else ""))
        events.append((f"t/s/chat@{page}", changes))
    return events, model


def model_post(model: Model, page: int, number: int, _: str) -> Change:
    order = number * 7919 % 100_003  # stamps need not come in the order of the events
    model[f"m{order}"] = {"page": page, "number": order, "body": f"b{number}", "gone": False, "old": [], "given": set()}
    return posted(order, f"b{number}")


def model_edit(model: Model, page: int, number: int, name: str) -> Change:
    model[name]["old"].append(model[name]["body"])
    model[name]["body"] = f"e{number}"
    return {"type": "message.edited", "id": name, "body": f"e{number}", "edited": number}


def model_delete(model: Model, page: int, number: int, name: str) -> Change:
    model[name]["gone"] = True
    return {"type": "message.deleted", "id": name, "by": "mod", "at": number}


def model_restore(model: Model, page: int, number: int, name: str) -> Change:
    model[name]["gone"] = False
    return {"type": "message.restored", "id": name}


def model_remove(model: Model, page: int, number: int, name: str) -> Change:
    del model[name]
    return {"type": "message.removed", "id": name}


def model_react(model: Model, page: int, number: int, name: str) -> Change:
    model[name]["given"].add(f"a{number % 3}")
    return {"type": "reaction.added", "id": name, "emoji": "👍", "actor": f"a{number % 3}"}


def model_unreact(model: Model, page: int, number: int, name: str) -> Change:
    model[name]["given"].discard(f"a{number % 3}")
    return {"type": "reaction.removed", "id": name, "emoji": "👍", "actor": f"a{number % 3}"}


MODEL = {
    "post": model_post,
    "edit": model_edit,
    "delete": model_delete,
    "restore": model_restore,
    "remove": model_remove,
    "react": model_react,
    "unreact": model_unreact,
}


@given(conversations())
@settings(max_examples=20, deadline=None)
def test_v2_live_and_rebuilt_histories_are_equal_and_what_the_model_says(
    conversation: tuple[list[tuple[str, list[Change]]], Model],
) -> None:
    events, model = conversation

    async def run(folder: Path) -> None:
        log = MemoryLog()
        for stream, changes in events:
            await edit(log, stream, *changes)
        first, *others = await dumps_by_batch(log, folder, ChatHistory, [2, 1000])
        assert all(other == first for other in others)
        async with await Runner.open(log, folder / "2", [ChatHistory]) as runner:
            await check_model(ChatReads(runner.view("chat_history")), model)
        await log.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


async def check_model(reads: ChatReads, model: Model) -> None:
    page = await reads.page("t", "s", limit=500)
    assert [message.id for message in page] == sorted(model, key=lambda name: model[name]["number"])
    for message in page:
        expected = model[message.id]
        assert message.body == (None if expected["gone"] else expected["body"])
        assert message.reactions.get("👍", []) == ([] if expected["gone"] else sorted(expected["given"]))
        versions = await reads.versions("t", "s", message.id)
        assert [old.body for old in versions] == ([] if expected["gone"] else [*expected["old"], expected["body"]])


async def test_v2_rebuild_of_the_history_under_readers(chat: Chat) -> None:
    await chat.edit(*(posted(number) for number in range(1, 40)))
    before = await dump(chat.runner.view("chat_history"), ChatHistory())
    rebuilding = asyncio.create_task(chat.runner.rebuild("chat_history"))
    while not rebuilding.done():
        assert len(await chat.page()) == 39
    await rebuilding
    assert await dump(chat.runner.view("chat_history"), ChatHistory()) == before

"""Chats of other systems into the chat of a space."""

from __future__ import annotations

import json
from asyncio import Future
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from maquette.engine.assets import MemoryAssets
from maquette.engine.engine import Engine
from maquette.engine.errors import InvalidInput, LogUnwritable, OpRefused
from maquette.engine.events import Actor, Event, NewEvent
from maquette.engine.exports import chat_records
from maquette.engine.kinds.chat import PAGE_MESSAGES
from maquette.engine.log import Appended
from maquette.engine.logs.memory import MemoryLog
from maquette.engine.reports import Report
from maquette.engine.roles import Role
from maquette.engine.snapshots import SnapshotStore
from maquette.engine.space import Space
from maquette.engine.transcripts.irc import Line, day_in_name, read_irc
from maquette.engine.transcripts.jsonl import Record
from maquette.engine.transfer import import_file
from maquette.engine.writers.chat import ChatWriter

ANN = Actor("ann00000000")
DAY = b"""=== bob [~b@home.example.org]  has joined #town
[14:05] <bob> hello
[14:06] <cat> caf\xe9?
[14:07]  * bob waves
=== bob is now known as bob_
[14:09] <bob_> still here
=== Topic for #town is: towns
=== cat [~c@cats.example.org]  has left #town [bye]
"""
NAME = "town-2005-06-12.txt"
DAWN = 1118534400000  # 2005-06-12T00:00Z
MINUTE = 60_000


@pytest.fixture
async def space() -> AsyncIterator[Space]:
    async with await Engine.open() as engine:
        yield await engine.create_space("dev", "demo", ANN)


async def take(space: Space, data: bytes | Path, name: str = NAME, role: Role = Role.OWNER) -> Report:
    return await import_file(space, data, name, ANN, role)


async def records(space: Space) -> list[Record]:
    return [record async for record in chat_records(space)]


async def events(space: Space) -> list[Event]:
    everything = [event async for page in space.engine.log.read_all() for event in page]
    return [event for event in everything if "/chat@" in event.stream]


def jsonl(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def row(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"m{number}", "author": "u1", "sent": 1000 + number, "body": f"says {number}", **fields}


# --- IRC -------------------------------------------------------------------------------------------------------------


async def test_each_line_of_an_irc_log_is_a_message_of_its_nick_at_its_time(space: Space) -> None:
    report = await take(space, DAY)
    found = await records(space)
    assert [(one.name, one.body, one.sent - DAWN, one.notice) for one in found] == [
        ("bob", "has joined #town", 0, True),
        ("bob", "hello", 845 * MINUTE, False),
        ("cat", "café?", 846 * MINUTE, False),
        ("bob", "/me waves", 847 * MINUTE, False),
        ("bob", "is now known as bob_", 847 * MINUTE, True),
        ("bob_", "still here", 849 * MINUTE, False),
        ("(server)", "Topic for #town is: towns", 849 * MINUTE, True),
        ("cat", "has left #town [bye]", 849 * MINUTE, True),
    ]
    assert report.counts == {"messages": 8, "known": 0, "notices": 4, "authors": 4, "left_out": 0}
    assert report.warnings == ("1 lines are not UTF-8 and were read as cp1252",)


async def test_a_rename_gives_the_new_nick_an_author_and_mentions_it(space: Space) -> None:
    await take(space, DAY)
    found = await records(space)
    [rename] = [one for one in found if one.body == "is now known as bob_"]
    [after] = [one for one in found if one.body == "still here"]
    assert rename.mentions == (after.author,)
    assert rename.author != after.author


async def test_a_nick_that_somebody_took_and_never_used_has_a_profile(space: Space) -> None:
    await take(space, b"[10:00] <bob> hi\n=== bob is now known as ghost\n")
    assert "ghost" in space.record.profiles.values()


async def test_ids_of_authors_and_messages_tell_no_nick(space: Space) -> None:
    await take(space, DAY)
    for one in await records(space):
        assert len(one.author) == len(one.id) == 11
        assert "bob" not in one.author


async def test_addresses_of_people_are_not_stored(space: Space) -> None:
    await take(space, DAY)
    for event in await events(space):
        assert b"example.org" not in event.data["update"]
        assert "example.org" not in repr(event.data["changes"])


async def test_ops_are_signed_by_who_imports(space: Space) -> None:
    await take(space, DAY)
    assert {(event.actor.id, event.actor.via) for event in await events(space)} == {(ANN.id, "import")}


async def test_a_nick_keeps_its_author_in_the_next_log(space: Space) -> None:
    await take(space, DAY)
    await take(space, b"[09:00] <bob> morning\n", "town-2005-06-13.txt")
    assert len({one.author for one in await records(space) if one.name == "bob"}) == 1


async def test_a_nick_keeps_its_author_when_the_engine_was_opened_again(tmp_path: Path) -> None:
    for day in (12, 13):
        async with await Engine.open(tmp_path / "data") as engine:
            space = await engine.create_space("dev", "demo", ANN)
            await take(space, b"[09:00] <bob> morning\n", f"town-2005-06-{day}.txt")
            authors = {one.author for one in await records(space)}
    assert len(authors) == 1


async def test_somebody_of_the_same_name_is_not_taken_for_the_nick(space: Space) -> None:
    await space.name_profile(ANN, "realbob0000", "bob")
    await take(space, DAY)
    assert "realbob0000" not in {one.author for one in await records(space)}


async def test_somebody_whom_another_import_brought_is_not_taken_for_the_nick(space: Space) -> None:
    await take(space, jsonl(row(1, name="bob")), "chat.jsonl")
    await take(space, DAY)
    assert [one.id for one in await records(space) if one.author == "u1"] == ["m1"]


async def test_a_log_that_is_imported_again_adds_nothing(space: Space) -> None:
    await take(space, DAY)
    head = await space.engine.log.head()
    report = await take(space, DAY)
    assert await space.engine.log.head() == head
    assert (report.counts["messages"], report.counts["known"]) == (0, 8)


async def test_a_log_that_has_grown_adds_what_is_new(space: Space) -> None:
    await take(space, DAY)
    report = await take(space, DAY + b"[15:00] <cat> later\n")
    assert (report.counts["messages"], report.counts["known"]) == (1, 8)


async def test_lines_that_cannot_be_read_are_told_and_the_rest_comes_in(space: Space) -> None:
    long = b"[14:10] <bob> " + b"x" * 2_000_000 + b"\n"
    wide = b"[14:10] <bob> " + b"x" * 40_000 + b"\n"
    report = await take(space, DAY + long + b"nonsense\n" + wide + b"[14:11] <bob> after\n")
    assert report.counts["messages"] == 9
    assert report.counts["left_out"] == 3
    assert [error.partition(": ")[0] for error in report.errors] == ["line 9", "line 10", "line 11"]
    assert all(len(error) < 300 for error in report.errors)


async def test_errors_are_bounded_and_counted(space: Space) -> None:
    report = await take(space, b"[14:05] <bob> hi\n" * 200 + b"nonsense\n" * 150)
    assert report.counts["left_out"] == 150
    assert len(report.errors) == 101
    assert report.errors[-1] == "… and 50 more"


@pytest.mark.parametrize("data", [b"", b"\x00\xff" * 1000, b"dear diary\n" * 50, b"{" * 2_000_000])
async def test_a_file_that_is_no_chat_leaves_nothing_in_the_space(space: Space, data: bytes) -> None:
    head = await space.engine.log.head()
    for name in (NAME, "chat.jsonl"):
        with pytest.raises(InvalidInput, match=r"expected a chat"):
            await take(space, data, name)
    assert await space.engine.log.head() == head


async def test_a_log_without_a_day_in_its_name_says_what_is_missing(space: Space) -> None:
    with pytest.raises(InvalidInput, match="or give the day"):
        await take(space, DAY, "town.txt")


async def test_a_real_day_is_in_the_chat_with_every_message_author_and_time(space: Space, real_data: Path) -> None:
    file = real_data / "chat" / "ubuntu-irc-2005-06-12.txt"
    await take(space, file, file.name)
    with file.open("rb") as opened:
        lines = [line for line in read_irc(opened, day_in_name(file.name)) if isinstance(line, Line)]
    expected = [(line.nick or "(server)", line.time, line.text) for line in lines if line.kind != "blank"]
    found = await records(space)
    assert len(found) == 1_500
    assert [(one.name, one.sent, one.body.removeprefix("/me ")) for one in found] == expected
    assert len({one.author for one in found}) == len({nick for nick, _, _ in expected})


# --- pages -----------------------------------------------------------------------------------------------------------


async def test_pages_turn_during_an_import_exactly_where_they_are_full(space: Space) -> None:
    total = PAGE_MESSAGES + 700
    await take(space, jsonl(*(row(number) for number in range(total))), "chat.jsonl")
    posted: dict[str, int] = {}
    for event in await events(space):
        posted[event.stream[-6:]] = posted.get(event.stream[-6:], 0) + len(event.data["changes"])
    assert posted == {"chat@1": PAGE_MESSAGES, "chat@2": 700}
    assert [one.id for one in await records(space)] == [f"m{number}" for number in range(total)]


async def test_an_import_goes_on_where_the_page_is(space: Space) -> None:
    await take(space, jsonl(*(row(number) for number in range(1_900))), "chat.jsonl")
    await take(space, jsonl(*(row(number) for number in range(1_800, 2_100))), "chat.jsonl")
    assert [epoch.number for epoch in space.record.documents["chat"].epochs] == [1, 2]
    assert len(await records(space)) == 2_100


async def test_ops_are_of_bounded_size(space: Space) -> None:
    await take(space, jsonl(*(row(number, body="x" * 30_000) for number in range(100))), "chat.jsonl")
    assert max(len(event.data["update"]) for event in await events(space)) < 1_200_000


async def test_pages_that_are_full_do_not_stay_in_memory(space: Space) -> None:
    await take(space, jsonl(*(row(number) for number in range(2 * PAGE_MESSAGES + 1))), "chat.jsonl")
    assert space.engine.open_documents == 1


# --- JSON Lines ------------------------------------------------------------------------------------------------------


async def test_everything_of_a_message_comes_in(space: Space) -> None:
    whole = row(
        2,
        name="Ann",
        thread="m1",
        mentions=["u2"],
        attachments=[{"name": "plan.pdf", "size": 3}],
        reactions={"👍": ["u2", "u3"]},
        edited=5_000,
        notice=True,
    )
    report = await take(space, jsonl(row(1), whole), "chat.jsonl")
    _, found = await records(space)
    assert found == Record(
        id="m2",
        author="u1",
        name="Ann",
        sent=1002,
        body="says 2",
        thread="m1",
        mentions=("u2",),
        attachments=({"name": "plan.pdf", "size": 3},),
        reactions={"👍": ("u2", "u3")},
        edited=5_000,
        notice=True,
    )
    assert not report.errors
    assert not report.warnings


async def test_what_an_import_did_is_told_in_changes(space: Space) -> None:
    deleted = {"by": "u9", "at": 7_000}
    await take(space, jsonl(row(1, edited=5_000, reactions={"👍": ["u2"]}, deleted=deleted)), "chat.jsonl")
    [event] = await events(space)
    told = [{key: value for key, value in change.items() if key != "stamp"} for change in event.data["changes"]]
    assert told == [
        {"type": "message.posted", "id": "m1", "author": "u1", "body": "says 1", "sent": 1001},
        {"type": "reaction.added", "id": "m1", "emoji": "👍", "actor": "u2"},
        {"type": "message.edited", "id": "m1", "body": "says 1", "edited": 5_000},
        {"type": "message.deleted", "id": "m1", "by": "u9", "at": 7_000},
    ]


async def test_ids_of_other_systems_become_ids_of_ours_and_threads_follow(space: Space) -> None:
    first, second = {**row(1), "id": "$ev:matrix.org"}, {**row(2), "author": "@ann:matrix.org"}
    await take(space, jsonl(first, second | {"thread": "$ev:matrix.org"}), "chat.jsonl")
    one, two = await records(space)
    assert two.thread == one.id != "$ev:matrix.org"
    assert "@" not in two.author


async def test_a_name_that_the_space_knows_already_is_kept_and_told(space: Space) -> None:
    await space.name_profile(ANN, "u1", "Ann the first")
    report = await take(space, jsonl(row(1, name="Somebody")), "chat.jsonl")
    assert space.record.profiles["u1"] == "Ann the first"
    assert report.warnings == ("1 authors have another name in the space, which they keep",)


async def test_what_has_no_place_is_told(space: Space) -> None:
    report = await take(space, jsonl(row(1, colour="red"), row(2, colour="blue")), "chat.jsonl")
    assert report.warnings == ("field 'colour' of 2 messages has no place in a chat and was left out",)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"body": "x" * 40_000}, "message.body: expected at most 32768 bytes"),
        ({"mentions": ["u2"] * 101}, "message.mentions: expected at most 100"),
        ({"attachments": ["plan"]}, "message.attachments: expected at most 100 maps"),
        ({"attachments": [{"a": "x" * 70_000}]}, "at most 65536 bytes"),
        ({"reactions": {"x" * 65: ["u2"]}}, "reactions: expected an emoji"),
        ({"body": None}, "`body` to be a string"),
        ({"sent": "yesterday"}, "ISO 8601"),
        ({"id": "m1"}, "'m1' again"),
        ({"attachments": [{"deep": json.loads("[" * 60 + "]" * 60)}]}, "levels"),
    ],
)
async def test_a_message_that_the_gate_would_refuse_is_left_out_and_told(
    space: Space, fields: dict[str, Any], told: str
) -> None:
    report = await take(space, jsonl(row(1), row(2) | fields, row(3)), "chat.jsonl")
    [error] = report.errors
    assert error.startswith("line 2: ")
    assert told in error
    assert [one.id for one in await records(space)] == ["m1", "m3"]
    assert not [event for event in await events(space) if event.type == "document.refused"]


# --- who may ---------------------------------------------------------------------------------------------------------


async def test_only_an_owner_imports_a_chat(space: Space) -> None:
    with pytest.raises(OpRefused, match="owner or above, got moderator"):
        await take(space, DAY, role=Role.MODERATOR)
    assert not await events(space)


@pytest.mark.parametrize(
    ("via", "role"),
    [(None, Role.OWNER), ("rest", Role.OWNER), ("embedded", Role.OWNER), ("import", Role.MODERATOR)],
)
async def test_only_an_owners_import_posts_for_others(space: Space, via: str | None, role: Role) -> None:
    actor = Actor(ANN.id, via=via)
    with pytest.raises(OpRefused, match=r"message\.author"):
        await space.write(
            "chat", actor, role, lambda doc: ChatWriter(doc, ANN.id, lambda: 1).post("hi", author="bob00000000")
        )
    assert await records(space) == []


async def test_a_live_message_comes_without_edit_tombstone_and_reactions_of_others(space: Space) -> None:
    for fields in ({"edited": 5}, {"deleted": (ANN.id, 5)}, {"reactions": {"👍": ["bob00000000"]}}):

        def post(doc: Any, fields: dict[str, Any] = fields) -> None:
            ChatWriter(doc, ANN.id, lambda: 1).post("hi", **fields)

        with pytest.raises(OpRefused):
            await space.write("chat", ANN, Role.OWNER, post)


async def test_an_import_does_not_change_what_others_said(space: Space) -> None:
    bob = Actor("bob00000000")
    message, _ = await space.write(
        "chat", bob, Role.COMMENTER, lambda doc: ChatWriter(doc, bob.id, lambda: 1).post("mine")
    )
    with pytest.raises(OpRefused, match="expected an edit by its author"):
        await space.write(
            "chat",
            Actor(ANN.id, via="import"),
            Role.OWNER,
            lambda doc: ChatWriter(doc, ANN.id, lambda: 1).edit(message, "yours"),
        )
    assert [one.body for one in await records(space)] == ["mine"]


# --- a disk that fills -----------------------------------------------------------------------------------------------


class SmallDisk(MemoryLog):
    """Takes `room` events of chats, and then none until there is more."""

    room = 10_000

    def append(self, stream: str, events: Sequence[NewEvent], expected: int | None = None) -> Future[Appended]:
        if "/chat@" in stream:
            self.room -= 1
            if self.room < 0:
                raise LogUnwritable("expected room on the disk, got none")
        return super().append(stream, events, expected)


async def test_l7_an_import_that_breaks_off_says_how_far_it_came_and_can_be_repeated() -> None:
    log = SmallDisk()
    async with Engine(log, MemoryAssets(), SnapshotStore(None), node=b"n" * 16) as engine:
        space = await engine.create_space("dev", "demo", ANN)
        data = jsonl(*(row(number) for number in range(250)))
        log.room = 1
        with pytest.raises(LogUnwritable) as caught:
            await take(space, data, "chat.jsonl")
        assert caught.value.__notes__ == ["100 of 250 messages were stored before; importing again adds the rest"]
        assert len(await records(space)) == 100
        log.room = 100
        assert (await take(space, data, "chat.jsonl")).counts["messages"] == 150
        assert [one.id for one in await records(space)] == [f"m{number}" for number in range(250)]

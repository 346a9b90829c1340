"""The chat of a space as JSON Lines."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from maquette.engine.engine import Engine
from maquette.engine.errors import InvalidInput
from maquette.engine.events import Actor
from maquette.engine.exports import chat_records
from maquette.engine.kinds.chat import PAGE_MESSAGES
from maquette.engine.roles import Role
from maquette.engine.space import Space
from maquette.engine.transfer import export_chat, import_file
from maquette.engine.writers.chat import ChatWriter

ANN = Actor("ann00000000")
BOB = Actor("bob00000000")


@pytest.fixture
async def space() -> AsyncIterator[Space]:
    async with await Engine.open() as engine:
        yield await engine.create_space("dev", "demo", ANN)


async def say(space: Space, actor: Actor, body: str, page: str = "chat", **fields: Any) -> str:
    message, _ = await space.write(
        page, actor, Role.COMMENTER, lambda doc: ChatWriter(doc, actor.id, lambda: 5).post(body, **fields)
    )
    return message


async def rows(space: Space, path: Path) -> list[dict[str, Any]]:
    await export_chat(space, path)
    return [json.loads(line) for line in text(path).splitlines()]


def text(path: Path) -> str:
    return path.read_text()


async def test_a_message_goes_out_with_its_authors_name(space: Space, tmp_path: Path) -> None:
    await space.name_profile(ANN, ANN.id, "Ann")
    message = await say(space, ANN, "héllo\n", mentions=[BOB.id])
    assert await rows(space, tmp_path / "out.jsonl") == [
        {
            "id": message,
            "author": ANN.id,
            "name": "Ann",
            "sent": 5,
            "body": "héllo\n",
            "mentions": [BOB.id],
        }
    ]


async def test_a_deleted_message_is_a_tombstone_without_its_words(space: Space, tmp_path: Path) -> None:
    message = await say(space, ANN, "secret", attachments=[{"secret": 1}])
    await space.write("chat", ANN, Role.COMMENTER, lambda doc: ChatWriter(doc, ANN.id, lambda: 9).delete(message))
    [row] = await rows(space, tmp_path / "out.jsonl")
    assert (row["body"], row["deleted"]) == ("", {"by": ANN.id, "at": 9})
    assert b"secret" not in (tmp_path / "out.jsonl").read_bytes()


async def test_a_late_post_to_an_old_page_stands_where_its_stamp_is(space: Space) -> None:
    data = b"".join(
        json.dumps({"id": f"m{n}", "author": "u1", "sent": n, "body": "x"}).encode() + b"\n"
        for n in range(PAGE_MESSAGES)
    )
    await import_file(space, data, "chat.jsonl", ANN, Role.OWNER)
    first = await say(space, ANN, "on the new page")
    late = await say(space, BOB, "late", page="chat@1")
    last = await say(space, ANN, "last")
    found = [one.id async for one in chat_records(space)]
    assert [epoch.number for epoch in space.record.documents["chat"].epochs] == [1, 2]
    assert found == [*(f"m{n}" for n in range(PAGE_MESSAGES)), first, late, last]


async def test_an_exported_chat_comes_back_the_same(space: Space, tmp_path: Path) -> None:
    first = await say(space, ANN, "one")
    await say(space, BOB, "two", thread=first, notice=True)
    await space.write("chat", BOB, Role.COMMENTER, lambda doc: ChatWriter(doc, BOB.id, lambda: 9).react(first, "👍"))
    await space.write("chat", ANN, Role.COMMENTER, lambda doc: ChatWriter(doc, ANN.id, lambda: 9).edit(first, "ONE"))
    await export_chat(space, tmp_path / "out.jsonl")
    other = await space.engine.create_space("dev", "other", ANN)
    report = await import_file(other, tmp_path / "out.jsonl", "out.jsonl", ANN, Role.OWNER)
    assert (report.errors, report.warnings) == ((), ())
    assert [one async for one in chat_records(other)] == [one async for one in chat_records(space)]


async def test_an_export_reads_beside_the_server_and_needs_no_read_models(tmp_path: Path) -> None:
    async with await Engine.open(tmp_path / "data") as engine:
        space = await engine.create_space("dev", "demo", ANN)
        message = await say(space, ANN, "hello")
        async with await Engine.open_readonly(tmp_path / "data") as reader:
            beside = await reader.space("dev", "demo")
            report = await export_chat(beside, tmp_path / "out.jsonl")
    assert report.counts == {"messages": 1, "deleted": 0}
    assert message.encode() in (tmp_path / "out.jsonl").read_bytes()


def contents(folder: Path) -> list[str]:
    return [path.read_text() for path in folder.iterdir()]


async def test_an_export_that_fails_leaves_the_old_file_and_nothing_else(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("before")
    await say(space, ANN, "hello")
    names = space.record.profiles
    monkeypatch.setattr(space.record, "profiles", None)  # whatever goes wrong on the way
    with pytest.raises(AttributeError):
        await export_chat(space, target)
    monkeypatch.setattr(space.record, "profiles", names)
    assert contents(tmp_path) == ["before"]


async def test_an_export_onto_a_folder_says_so(space: Space, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="expected to write"):
        await export_chat(space, tmp_path)

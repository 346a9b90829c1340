"""Who may write what in a chat, and what hostile clients cannot do."""

from __future__ import annotations

from typing import Any

import pytest
from pycrdt import Array, Map
from tests.support import wire
from tests.support.live import Peer, events_of, message, open_document

from maquette.engine.document import Document
from maquette.engine.kinds.chat import CHAT, MAX_BODY, SEPARATOR
from maquette.engine.kinds.kind import plain
from maquette.engine.roles import Role


async def started() -> tuple[Document, Peer]:
    document = open_document(CHAT)
    ada = Peer("ada", 7, Role.COMMENTER).join(document)
    ada.messages.append(message("one", "ada"))
    await ada.send(document).wait()
    return document, ada


def stored(document: Document) -> list[Any]:
    found: list[Any] = plain(document.replica.shared("messages"))
    return found


AUTHOR, OTHER, MODERATOR = ("ada", Role.COMMENTER), ("ben", Role.EDITOR), ("mod", Role.MODERATOR)
EDITS: dict[str, Any] = {
    "edit": lambda m, me: m.__setitem__("body", "changed"),
    "edit with a time": lambda m, me: m.update({"body": "changed", "edited": 7}),
    "mention": lambda m, me: m.__setitem__("mentions", ["cy"]),
    "delete": lambda m, me: m.__setitem__("deleted", {"by": me, "at": 7}),
    "delete for another": lambda m, me: m.__setitem__("deleted", {"by": "cy", "at": 7}),
    "react": lambda m, me: m["reactions"].__setitem__(f"👍{SEPARATOR}{me}", True),
    "react for another": lambda m, me: m["reactions"].__setitem__(f"👍{SEPARATOR}cy", True),
    "stamp": lambda m, me: m.__setitem__("stamp", [1, 1]),
    "sent": lambda m, me: m.__setitem__("sent", 1),
    "author": lambda m, me: m.__setitem__("author", me + "x"),
    "thread": lambda m, me: m.__setitem__("thread", "two"),
    "unknown": lambda m, me: m.__setitem__("colour", "red"),
    "__class__": lambda m, me: m.__setitem__("__class__", "red"),
}
ALLOWED = {
    "edit": {"ada"},
    "edit with a time": {"ada"},
    "mention": {"ada"},
    "delete": {"ada", "mod"},
    "react": {"ada", "ben", "mod"},
}


@pytest.mark.parametrize("who", [AUTHOR, OTHER, MODERATOR], ids=lambda who: who[0])
@pytest.mark.parametrize("edit", EDITS)
async def test_g3_who_may_change_what_of_a_message(edit: str, who: tuple[str, Role]) -> None:
    document, _ = await started()
    before = stored(document)
    peer = Peer(who[0], 20, who[1]).join(document)
    EDITS[edit](peer.messages[0], who[0])
    done = await peer.send(document).wait()
    assert (done.refused == ()) == (who[0] in ALLOWED.get(edit, ()))
    assert (stored(document) == before) == (done.refused != ())


@pytest.mark.parametrize(
    ("deleted_by", "restored_by", "allowed"),
    [
        (AUTHOR, AUTHOR, True),
        (AUTHOR, OTHER, False),
        (AUTHOR, MODERATOR, True),
        (MODERATOR, AUTHOR, False),
        (MODERATOR, MODERATOR, True),
    ],
)
async def test_g3_what_a_moderator_deleted_only_moderators_restore(
    deleted_by: Any, restored_by: Any, allowed: bool
) -> None:
    document, _ = await started()
    for who, restore in ((deleted_by, False), (restored_by, True)):
        peer = Peer(who[0], 30 + restore, who[1]).join(document)
        if restore:
            del peer.messages[0]["deleted"]
        else:
            peer.messages[0]["deleted"] = {"by": who[0], "at": 7}
        done = await peer.send(document).wait()
    assert (done.refused == ()) is allowed
    assert ("deleted" in stored(document)[0]) is not allowed


async def test_a_forged_stamp_never_shows_and_each_message_has_its_own() -> None:
    document, ada = await started()
    ada.messages.append(message("two", "ada", stamp=[99, 5]))
    assert (await ada.send(document).wait()).refused == ()
    assert [one["stamp"][0] for one in stored(document)] == [1, 2]


async def test_a_message_that_an_op_removes_and_posts_again_is_told_as_there() -> None:
    document, ada = await started()
    last = len(ada.messages) - 1
    del ada.messages[last]
    ada.messages.append(message("one", "ada", "again"))
    assert (await ada.send(document).wait()).refused == ()
    changes = (await events_of(document))[-1].data["changes"]
    assert [change["type"] for change in changes] == ["message.removed", "message.posted"]


async def test_an_id_stays_taken_by_a_message_whose_removal_is_refused() -> None:
    document, _ = await started()
    ben = Peer("ben", 41).join(document)
    del ben.messages[0]
    ben.messages.append(message("one", "ben"))
    removal, post = (await ben.send(document).wait()).refused
    assert "which this page holds already" in removal + post
    assert [(one["id"], one["author"]) for one in stored(document)] == [("one", "ada")]


async def test_an_id_is_taken_once_also_within_one_op() -> None:
    document, ada = await started()
    ada.messages.append(message("two", "ada", "first"))
    ada.messages.append(message("two", "ada", "second"))
    ada.messages.append(message("one", "ada", "third"))
    assert len((await ada.send(document).wait()).refused) == 2
    assert [(one["id"], one["body"]) for one in stored(document)] == [("one", "hello"), ("two", "first")]


@pytest.mark.parametrize(("size", "fits"), [(512, True), (MAX_BODY, True), (MAX_BODY + 1, False), (1 << 20, False)])
async def test_g2_a_body_has_a_limit(size: int, fits: bool) -> None:
    document, ada = await started()
    ada.messages.append(message("two", "ada", "x" * size))
    done = await ada.send(document).wait()
    assert done.refused == (() if fits else (f"message.body: expected at most {MAX_BODY} bytes, got {size}",))
    assert max(len(event.data["update"]) for event in await events_of(document)) < MAX_BODY + 1_000


@pytest.mark.parametrize(
    "fields",
    [
        {"body": None},
        {"body": b"bytes"},
        {"sent": float("nan")},
        {"sent": float("inf")},
        {"sent": True},
        {"mentions": ["x"] * 101},
        {"mentions": {"x": 1}},
        {"attachments": [{"x": float("nan")}]},
        {"attachments": [{"x": "y" * 70_000}]},
        {"attachments": [[]]},
        {"notice": 1},
        {"author": ["ada"]},
        {"author": {"ada": 1}},
        {"id": ""},
        {"id": "x" * 65},
        {"id": ["one"]},
        {"thread": Array([1])},
        {"edited": Map()},
        {"__class__": "x"},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_g1_values_of_every_shape_are_refused_and_nothing_else_happens(fields: dict[str, Any]) -> None:
    document, ada = await started()
    ada.messages.append(Map({"id": "two", "author": "ada", "body": "", "sent": 5, "reactions": Map(), **fields}))
    ada.messages.append(message("three", "ada"))
    done = await ada.send(document).wait()
    assert (done.denied, done.error, len(done.refused)) == (None, None, 1)
    assert [one["id"] for one in stored(document)] == ["one", "three"]


async def test_a_type_at_edited_is_refused() -> None:
    document, ada = await started()
    ada.messages[0]["edited"] = Map()
    assert (await ada.send(document).wait()).refused == ("message.edited: expected a plain value, got a shared type",)


async def test_g1_a_root_that_a_chat_does_not_have_is_denied() -> None:
    document, ada = await started()
    ada.map("nodes")["x"] = 1
    assert "expected one of the roots ['messages']" in str((await ada.send(document).wait()).denied)


async def test_g1_two_values_at_one_key_are_denied() -> None:
    document = open_document(CHAT)
    first = wire.shared(1, parent="messages")
    two = wire.plain(wire.ONE, wire.ONE, parent=(9, 0), key="sent")
    done = await Peer("ada", 9).submit(document, wire.update(wire.group(9, 0, first, two))).wait()
    assert "expected one value at key 'sent'" in str(done.denied)


async def test_g1_a_value_that_hides_behind_a_good_one_is_judged_too() -> None:
    """The good body comes last and lies to the left, so that the bad one shows."""
    document, _ = await started()
    record = next(item for item in document.replica.memory.messages)  # type: ignore[attr-defined]  # a chat's
    mallory = Peer("ada", 9)
    bad = wire.plain(b"\x78", parent=record, key="body")
    good = wire.plain(b"\x77" + wire.string("good"), right=(9, 0))
    done = await mallory.submit(document, wire.update(wire.group(9, 0, bad, good))).wait()
    assert done.denied or done.refused
    assert isinstance(stored(document)[0]["body"], str)


async def test_a_key_set_ten_thousand_times_and_a_long_list_are_taken_in_stride() -> None:
    document, ada = await started()
    with ada.doc.transaction():
        for number in range(10_000):
            ada.messages[0]["body"] = str(number)
        for number in range(3_000):
            ada.messages.append(number)
    done = await ada.send(document).wait()
    assert done.denied is None
    assert len(done.refused) == 1
    assert stored(document)[0]["body"] == "9999"
    assert len(stored(document)) == 1

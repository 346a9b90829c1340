"""What honest clients send, however odd it looks, passes the reader, the index and the limits (rules G1, G2)."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from pycrdt import Array, Doc, Map, Text
from tests.support import node as scripts
from tests.support import wire
from tests.support.edits import CHAT_GOODS, SCENE_GOODS
from tests.support.live import (
    Peer,
    assert_nothing_pending,
    assert_same,
    events_of,
    message,
    node,
    open_document,
    replayed,
)

from maquette.engine.document import Document
from maquette.engine.events import Actor
from maquette.engine.index import MAX_TYPE_DEPTH
from maquette.engine.kinds.chat import CHAT
from maquette.engine.kinds.kind import Kind
from maquette.engine.kinds.scene import NODES, SCENE
from maquette.engine.kinds.text import TEXT
from maquette.engine.receipts import Receipt
from maquette.engine.roles import Role
from maquette.engine.update import DEFAULT_LIMITS, Content, read_update

YJS_STEPS = 1_000
"""Transactions of one to three edits: an afternoon without a network."""


def text_of(peer: Peer) -> Text:
    text: Text = peer.doc.get("text", type=Text)
    return text


def assert_taken(receipt: Receipt) -> None:
    assert (receipt.denied, receipt.refused, receipt.hole, receipt.error) == (None, (), None, None)


async def assert_sound(document: Document) -> None:
    await document.drained()
    assert_nothing_pending(document.replica)
    assert_same(document.replica, await replayed(document))


# --- garbage -----------------------------------------------------------------------------------------------------


def make_and_delete_text(peer: Peer) -> None:
    things: Map[Any] = peer.map("map")
    things["draft"] = Map({"title": Text("never mind"), "parts": Array([1, Map({"x": 1})])})
    del things["draft"]
    text_of(peer).insert(0, "kept")


def make_and_delete_message(peer: Peer) -> None:
    end = len(peer.messages)
    peer.messages.append(message(f"gone-{peer.actor.id}", peer.actor.id))
    del peer.messages[end]
    peer.messages.append(message(f"kept-{peer.actor.id}", peer.actor.id))


def make_and_delete_slots(peer: Peer) -> None:
    name = f"n-{peer.actor.id}"
    peer.map(NODES)[name] = node(slots={"0": "m"})
    peer.map(NODES)[name]["slots"] = Map({"1": "m"})


@pytest.mark.parametrize(
    ("kind", "edit"),
    [(TEXT, make_and_delete_text), (CHAT, make_and_delete_message), (SCENE, make_and_delete_slots)],
    ids=["text", "chat", "scene"],
)
async def test_g1_what_was_made_and_deleted_offline_is_taken_as_garbage(
    kind: Kind, edit: Callable[[Peer], None]
) -> None:
    document = open_document(kind)
    ann, ben = Peer("ann", 50).join(document), Peer("ben", 4_000_000_001).join(document)
    edit(ann)
    update = ann.doc.get_update()
    assert {one.content for group in read_update(update).structs.values() for one in group} & {Content.GC}
    assert_taken(await ann.submit(document, update).wait())
    assert_taken(await ann.send(document).wait())  # its whole delete set again, as at each reconnect
    edit(ben)
    assert_taken(await ben.send(document).wait())
    await assert_sound(document)


# --- offline for hours ---------------------------------------------------------------------------------------------


async def test_g2_thousands_of_keystrokes_offline_are_taken_at_once() -> None:
    document = open_document(TEXT)
    ann, ben = Peer("ann", 50).join(document), Peer("ben", 60).join(document)
    random = Random(1)
    length = 0
    for _ in range(10_000):
        if length and random.random() < 0.2:
            at = random.randrange(length)
            del text_of(ann)[at : at + 1]
            length -= 1
        else:
            text_of(ann).insert(random.randint(0, length), "x")
            length += 1
    assert_taken(await ann.send(document).wait())
    assert len(text_of(ben)) == length
    await assert_sound(document)


async def test_g2_hours_of_offline_work_in_a_scene_are_taken_at_once() -> None:
    document = open_document(SCENE)
    ann = Peer("ann", 50).join(document)
    for number in range(1_000):
        ann.map(NODES)[f"n{number}"] = node(f"n{number - 1}" if number % 50 else None)
        for turn in range(3):
            ann.map(NODES)[f"n{number}"]["translation"] = [turn, 0, 0]
    assert_taken(await ann.send(document).wait())
    await assert_sound(document)


async def test_g2_hundreds_of_messages_offline_are_taken_at_once() -> None:
    document = open_document(CHAT)
    ann, ben = Peer("ann", 50).join(document), Peer("ben", 60).join(document)
    for number in range(500):
        ann.messages.append(message(f"a{number}", "ann"))
        ann.messages[-1]["body"] = "edited"
        ann.messages[-1]["reactions"]["👍\x1fann"] = True
    assert_taken(await ann.send(document).wait())
    ann.hear(document.replica.diff(ann.doc.get_state()))
    assert len(ben.messages) == 500
    await assert_sound(document)


async def test_g1_overwritten_values_that_an_undo_manager_keeps_are_taken() -> None:
    document = open_document(SCENE)
    ann = Peer("ann", 50).join(document)
    ann.map(NODES)["n"] = node()
    assert_taken(await ann.send(document).wait())
    state = base64.b64encode(document.replica.diff(b"\0")).decode()
    [answer] = scripts.run("kept.mjs", [{"state": state, "node": "n"}])
    update = base64.b64decode(answer)
    assert any(
        one.content is Content.ANY and one.length == 3 for one in next(iter(read_update(update).structs.values()))
    )
    assert_taken(await document.submit(Actor("ben"), lambda: Role.EDITOR, update).wait())
    assert ann.map(NODES)["n"]["name"] == "four"
    assert [change["set"] for event in (await events_of(document))[1:] for change in event.data["changes"]] == [
        {"name": "four"}
    ]
    await assert_sound(document)


@pytest.fixture(scope="module")
def afternoon() -> Any:
    [session] = scripts.run("updates.mjs", [{"seed": 7, "steps": YJS_STEPS, "halves": False}], timeout=50)
    return session


async def test_g1_an_afternoon_of_three_yjs_replicas_is_taken(afternoon: Any) -> None:
    """The last three updates are all that each replica has: garbage, skips, nested types, undone edits, formats."""
    document = open_document(TEXT)
    updates = [base64.b64decode(sent["data"]) for sent in afternoon["updates"]]
    for update in updates[-3:]:
        assert_taken(await document.submit(Actor("ann"), lambda: Role.EDITOR, update).wait())
    assert document.replica.state_vector()
    before = len(await events_of(document))
    for update in updates:  # everything once more, as a browser with an old store may
        assert_taken(await document.submit(Actor("ann"), lambda: Role.EDITOR, update).wait())
    assert len(await events_of(document)) == before
    text, length = afternoon["content"]
    assert str(document.replica.doc.get("text", type=Text)) == text
    assert len(document.replica.doc.get("list", type=Array)) == length
    await assert_sound(document)


async def test_g1_an_afternoon_of_yjs_edits_one_by_one_is_taken(afternoon: Any) -> None:
    document = open_document(TEXT)
    for sent in afternoon["updates"]:
        update = base64.b64decode(sent["data"])
        receipt = document.submit(Actor("ann"), lambda: Role.EDITOR, update)
        assert (receipt.denied, receipt.refused, receipt.error) == (None, (), None)
    assert not document._waiting
    assert str(document.replica.doc.get("text", type=Text)) == afternoon["content"][0]
    await assert_sound(document)


# --- several clients of one actor ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [CHAT, SCENE], ids=["chat", "scene"])
async def test_g1_an_update_with_many_earlier_clients_of_its_actor_is_taken(kind: Kind) -> None:
    """A browser keeps what it wrote under the ids of earlier visits, and sends all of it when the network is back."""
    document = open_document(kind)
    store: Doc[Any] = Doc()
    for number in range(20):
        visit = Peer("ann", 1_000 + 77 * number)
        visit.hear(store.get_update())
        goods, name = (CHAT_GOODS, f"m{number}") if kind is CHAT else (SCENE_GOODS, f"n{number}")
        goods[0](visit, name)
        store.apply_update(visit.doc.get_update())
    last = Peer("ann", 5)
    last.hear(store.get_update())
    update = last.doc.get_update()
    assert len(read_update(update).structs) == 20
    assert_taken(await last.submit(document, update).wait())
    await assert_sound(document)


# --- nesting -------------------------------------------------------------------------------------------------------


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"k": value}
    return value


async def test_g1_types_and_values_as_deep_as_the_limits_allow_are_taken_and_can_be_read() -> None:
    document = open_document(TEXT)
    ann, ben = Peer("ann", 50).join(document), Peer("ben", 60).join(document)
    at = ann.map("map")
    for _ in range(MAX_TYPE_DEPTH - 1):
        at["k"] = Map()
        at = at["k"]
    at["value"] = nested(DEFAULT_LIMITS.depth - 1)
    assert_taken(await ann.send(document).wait())
    assert ben.map("map").to_py() == ann.map("map").to_py()
    await assert_sound(document)


async def test_g1_notes_of_thirty_levels_at_a_node_are_taken() -> None:
    document = open_document(SCENE)
    ann = Peer("ann", 50).join(document)
    ann.map(NODES)["n"] = node(extras={"deep": nested(29)})
    assert_taken(await ann.send(document).wait())
    await assert_sound(document)


# --- reconnecting ----------------------------------------------------------------------------------------------------


async def test_g2_a_delete_set_of_20_000_ranges_at_each_reconnect_costs_little_and_leaves_nothing() -> None:
    document = open_document(TEXT)
    ann = Peer("ann", 50).join(document)
    ranges = [(3 * number, 1) for number in range(20_000)]
    written = wire.group(50, 0, wire.text("x" * 60_000, parent="text"))
    update, known = wire.update(written, deletes={50: ranges}), wire.update(deletes={50: ranges})
    first = timed(lambda: ann.submit(document, update))
    await document.drained()
    revision = document.replica.revision
    assert ann.doc.get_update(document.replica.state_vector()) == known
    again = min(timed(lambda: assert_taken(ann.submit(document, known))) for _ in range(5))
    assert document.replica.revision == revision
    assert again < first / 4, f"expected far less than the first time, {first * 1e3:.1f} ms, got {again * 1e3:.1f} ms"


def timed(action: Callable[[], object]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


@pytest.mark.parametrize("kind", [TEXT, CHAT, SCENE], ids=["text", "chat", "scene"])
async def test_g1_all_that_the_server_holds_comes_back_as_nothing_new(kind: Kind) -> None:
    """A client that fell back to an old copy, or one that knows no state vectors, sends everything each time."""
    document = await furnished(kind)
    revision = document.replica.revision
    for actor, client in (("ann", 50), ("ben", 70)):
        receipt = document.submit(Actor(actor), lambda: Role.EDITOR, document.replica.diff(b"\0"), client)
        assert_taken(await receipt.wait())
    assert document.replica.revision == revision


async def test_g1_a_snapshot_of_a_text_goes_into_another_as_one_op() -> None:
    snapshot = (await furnished(TEXT)).replica.diff(b"\0")
    document = open_document(TEXT)
    assert_taken(await document.submit(Actor("ann"), lambda: Role.EDITOR, snapshot, 99).wait())
    assert len(await events_of(document)) == 1
    await assert_sound(document)


async def furnished(kind: Kind) -> Document:
    """A document in which two wrote, overwrote and deleted."""
    document = open_document(kind)
    peers = [Peer("ann", 50).join(document), Peer("ben", 4_000_000_001).join(document)]
    for number in range(12):
        peer = peers[number % 2]
        if kind is TEXT:
            text_of(peer).insert(0, "words 😀 ")
            del text_of(peer)[0:2]
        elif kind is CHAT:
            peer.messages.append(message(f"m{number}", peer.actor.id))
            peer.messages[-1]["body"] = "edited"
        else:
            peer.map(NODES)[f"n{number}"] = node()
            peer.map(NODES)[f"n{number}"]["name"] = "named"
        assert_taken(await peer.send(document).wait())
    return document

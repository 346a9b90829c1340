"""Two tabs that edited each other's text while the server was away: the update of each waits for the other's."""

from __future__ import annotations

import time
from typing import Any

import pycrdt
import pytest
from tests.support import wire
from tests.support.live import Peer as LivePeer
from tests.support.live import items, open_document

from maquette.engine import document as documents
from maquette.engine.engine import Engine
from maquette.engine.events import Actor
from maquette.engine.kinds.text import TEXT
from maquette.engine.roles import Role
from maquette.engine.update import Limits, Update, read_update
from maquette.engine.waiting import MAX_WAITING

ANN, BEN = Actor("ann"), Actor("ben")


def tabs(rounds: int) -> tuple[pycrdt.Doc[Any], pycrdt.Doc[Any]]:
    """Two replicas that took turns to type behind each other's letters."""
    docs: tuple[pycrdt.Doc[Any], pycrdt.Doc[Any]] = (pycrdt.Doc(client_id=1), pycrdt.Doc(client_id=2))
    for _ in range(rounds):
        for doc, other in (docs, docs[::-1]):
            text = doc.get("notes", type=pycrdt.Text)
            text.insert(len(text), str(doc.client_id))
            other.apply_update(doc.get_update(other.get_state()))
    return docs


@pytest.mark.parametrize("rounds", [1, 2, 15])
async def test_d3_updates_that_wait_for_each_other_are_both_integrated_under_their_own_actors(rounds: int) -> None:
    async with await Engine.open() as engine:
        space = await engine.create_space("dev", "demo", ANN)
        document = await space.open("text:notes", create_as=ANN)
        for actor, client in ((ANN, 1), (BEN, 2)):
            document.replica.claims.announce(client, actor.id)
        ann, ben = tabs(rounds)
        receipts = [
            document.submit(actor, lambda: Role.EDITOR, doc.get_update(), doc.client_id)
            for actor, doc in ((BEN, ben), (ANN, ann))
        ]
        for receipt in receipts:
            await receipt.wait()
        text = document.replica.doc.get("notes", type=pycrdt.Text)
        assert str(text) == str(ann.get("notes", type=pycrdt.Text)) == "12" * rounds
        events = [event async for page in engine.log.read(document.stream) for event in page]
        assert {(event.actor.id, event.data["client"]) for event in events} == {("ann", 1), ("ben", 2)}
        assert len(events) == 2 * rounds


async def test_d3_the_rest_of_an_op_waits_until_its_hole_is_filled() -> None:
    async with await Engine.open() as engine:
        space = await engine.create_space("dev", "demo", ANN)
        document = await space.open("text:notes", create_as=ANN)
        document.replica.claims.announce(2, BEN.id)
        ann, _ = tabs(2)
        receipt = document.submit(ANN, lambda: Role.EDITOR, ann.get_update(), 1)
        await engine.settle()
        assert not receipt.settled
        assert receipt.hole is not None
        assert receipt.hole.client == 2
        assert str(document.replica.doc.get("notes", type=pycrdt.Text)) == "1"


async def test_d3_the_deletions_of_an_op_wait_with_its_rest() -> None:
    async with await Engine.open() as engine:
        space = await engine.create_space("dev", "demo", ANN)
        document = await space.open("text:notes", create_as=ANN)
        document.replica.claims.announce(2, BEN.id)
        ann: pycrdt.Doc[Any] = pycrdt.Doc(client_id=1)
        ben: pycrdt.Doc[Any] = pycrdt.Doc(client_id=2)
        mine, theirs = (doc.get("notes", type=pycrdt.Text) for doc in (ann, ben))
        mine.insert(0, "abc")
        ben.apply_update(ann.get_update())
        document.submit(ANN, lambda: Role.EDITOR, ann.get_update(), 1)
        before = document.replica.state_vector()
        theirs.insert(3, "2")
        ann.apply_update(ben.get_update(ann.get_state()))
        mine.insert(0, "1")
        del mine[2]  # the b, which is known
        mine.insert(4, "B")  # behind the letter that is not
        document.submit(ANN, lambda: Role.EDITOR, ann.get_update(before), 1)
        shown = document.replica.doc.get("notes", type=pycrdt.Text)
        assert str(shown) == "1abc"
        document.submit(BEN, lambda: Role.EDITOR, ben.get_update(before), 2)
        assert str(shown) == str(mine) == "1ac2B"


async def test_d3_an_op_that_comes_in_through_many_holes_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []

    def noted(data: bytes, limits: Limits) -> Update:
        read.append(data)
        return read_update(data, limits)

    monkeypatch.setattr(documents, "read_update", noted)
    async with await Engine.open() as engine:
        space = await engine.create_space("dev", "demo", ANN)
        document = await space.open("text:notes", create_as=ANN)
        for actor, client in ((ANN, 1), (BEN, 2)):
            document.replica.claims.announce(client, actor.id)
        updates = [doc.get_update() for doc in tabs(20)]
        for actor, data, client in ((BEN, updates[1], 2), (ANN, updates[0], 1)):
            document.submit(actor, lambda: Role.EDITOR, data, client)
        assert str(document.replica.doc.get("notes", type=pycrdt.Text)) == "12" * 20
        assert read == updates[::-1]


def chain(length: int) -> list[bytes]:
    """Updates of as many clients, each of whom typed behind the letter of the one before."""
    made: list[bytes] = []
    before = pycrdt.Doc[Any]()
    for client in range(1, length + 1):
        doc: pycrdt.Doc[Any] = pycrdt.Doc(client_id=client)
        doc.apply_update(before.get_update())
        text = doc.get("notes", type=pycrdt.Text)
        text.insert(len(text), "x")
        made.append(doc.get_update(before.get_state()))
        before = doc
    return made


async def in_reverse(length: int) -> float:
    """The time that a chain takes whose first link comes last."""
    async with await Engine.open() as engine:
        space = await engine.create_space("dev", "demo", ANN)
        document = await space.open("text:notes", create_as=ANN)
        updates = chain(length)
        started = time.process_time()
        for data in reversed(updates):
            document.submit(ANN, lambda: Role.EDITOR, data)
        took = time.process_time() - started
        assert str(document.replica.doc.get("notes", type=pycrdt.Text)) == "x" * length
        return took


async def test_d3_as_many_as_may_wait_cost_as_much_each_as_a_few() -> None:
    few = min([await in_reverse(MAX_WAITING // 8) for _ in range(5)])
    many = min([await in_reverse(MAX_WAITING) for _ in range(3)])
    assert many < 2 * 8 * few  # were each looked at whenever another comes, it would be 8 * 8


async def test_d3_five_hundred_turns_cost_seconds_at_most() -> None:
    async with await Engine.open() as engine:
        space = await engine.create_space("dev", "demo", ANN)
        document = await space.open("text:notes", create_as=ANN)
        for actor, client in ((ANN, 1), (BEN, 2)):
            document.replica.claims.announce(client, actor.id)
        ann, ben = tabs(500)
        before = time.process_time()
        for actor, doc in ((BEN, ben), (ANN, ann)):
            document.submit(actor, lambda: Role.EDITOR, doc.get_update(), doc.client_id)
        assert time.process_time() - before < 10
        assert str(document.replica.doc.get("notes", type=pycrdt.Text)) == "12" * 500


def overwritten(own: int, other: int, theirs: int) -> bytes:
    """Three values at one key, joined to one struct and deleted as Yjs' UndoManager keeps them, then one that counts;
    and an element behind one of the `other` tab's."""
    kept = wire.plain(wire.ONE, wire.ONE, wire.ONE, parent="map", key=f"k{own}")
    newest = wire.plain(wire.NULL, origin=(own, 2))
    behind = wire.plain(wire.ONE, origin=(other, theirs))
    return wire.update(wire.group(own, 0, kept, newest, wire.plain(wire.ONE, parent="list"), behind),
                       deletes={own: [(0, 3)]})  # fmt: skip


@pytest.mark.parametrize("settled", [False, True])
async def test_d3_values_that_an_undo_manager_keeps_let_nobody_wait_for_ever(settled: bool) -> None:
    async with await Engine.open() as engine:
        space = await engine.create_space("dev", "demo", ANN)
        document = await space.open("text:notes", create_as=ANN)
        for actor, client in ((ANN, 1), (BEN, 2)):
            document.replica.claims.announce(client, actor.id)
        first = document.submit(ANN, lambda: Role.EDITOR, overwritten(1, 2, 4), 1)
        assert first.hole is not None
        if settled:
            await engine.settle()
        second = document.submit(BEN, lambda: Role.EDITOR, overwritten(2, 1, 4), 2)
        for receipt in (first, second):
            await receipt.wait()
            assert (receipt.denied, receipt.refused) == (None, ())
        assert document.replica.doc.get("map", type=pycrdt.Map).to_py() == {"k1": None, "k2": None}
        again = await engine.replica(space, space.record.documents["text:notes"], 1)
        assert items(again) == items(document.replica)


async def test_d3_a_key_is_not_emptied_by_the_beginning_of_an_op_whose_newest_value_waits() -> None:
    document = open_document(TEXT)
    ann = LivePeer("ann", 1)
    await ann.submit(document, wire.update(wire.group(1, 0, wire.plain(wire.ONE, parent="map", key="k")))).wait()
    kept = wire.plain(wire.ONE, wire.ONE, origin=(1, 0))
    behind = [wire.plain(wire.ONE, origin=(7, 0)), wire.plain(wire.NULL, origin=(1, 2))]
    receipt = ann.submit(document, wire.update(wire.group(1, 1, kept, *behind), deletes={1: [(0, 3)]}))
    assert receipt.hole is not None
    assert document.replica.doc.get("map", type=pycrdt.Map).to_py() == {"k": 1}

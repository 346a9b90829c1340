"""Large updates: tried in a worker, taken in pieces, and never in the way of others (G1, G2, G4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pycrdt import Doc, Map, Text
from tests.support import wire
from tests.support.live import Peer, assert_nothing_pending, assert_same, node
from tests.support.poison import HANG

from maquette.engine import trials
from maquette.engine.document import Document
from maquette.engine.engine import Engine
from maquette.engine.errors import OpRefused
from maquette.engine.events import Actor
from maquette.engine.kinds.scene import NODES
from maquette.engine.replica import UNLIMITED
from maquette.engine.roles import Role
from maquette.engine.space import Space
from maquette.engine.testing.log_contract import collected
from maquette.engine.trials import DIRECT_BYTES, is_large
from maquette.engine.update import read_update
from maquette.engine.workers import Budget

ADA = Actor("ada")


@pytest.fixture(params=["memory", "sqlite"])
async def space(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Space]:
    async with await Engine.open("memory:" if request.param == "memory" else tmp_path) as engine:
        yield await engine.create_space("t", "demo", ADA)


@pytest.fixture
async def on_disk(tmp_path: Path) -> AsyncIterator[Space]:
    async with await Engine.open(tmp_path) as engine:
        yield await engine.create_space("t", "demo", ADA)


def nodes(peer: Peer, count: int) -> bytes:
    with peer.doc.transaction():
        for number in range(count):
            peer.map(NODES)[f"{peer.client}-{number}"] = node(f"{peer.client}-{number - 1}" if number % 10 else None)
    return peer.doc.get_update()


async def events_of(document: Document) -> list[Any]:
    await document.drained()
    return await collected(document._log.read(document.stream))


# --- what is large ---------------------------------------------------------------------------------------------------


def test_g2_what_is_large_is_told_by_its_beginning() -> None:
    peer = Peer("ann", 5)
    assert is_large(nodes(peer, 400))
    text: Doc[Any] = Doc(client_id=5)
    text.get("t", type=Text).insert(0, "x" * 2 * DIRECT_BYTES)
    assert is_large(text.get_update())
    assert not is_large(nodes(Peer("ben", 6), 20))


def test_g2_the_delete_set_that_each_reconnect_brings_is_not_large() -> None:
    ranges = [(3 * number, 1) for number in range(20_000)]
    assert not is_large(wire.update(deletes={50: ranges}))
    assert not is_large(wire.update(wire.group(50, 0, wire.text("x", parent="text")), deletes={50: ranges}))


def test_g1_whatever_the_bytes_the_size_is_told_without_an_error() -> None:
    update = nodes(Peer("ann", 5), 400)
    for at in range(0, 3_000, 7):
        is_large(update[:at] + bytes([update[at] ^ 255]) + update[at + 1 :])
        is_large(update[: len(update) - at])


# --- taking it in ----------------------------------------------------------------------------------------------------


async def test_g2_a_large_update_enters_in_pieces_and_others_have_their_turn(space: Space) -> None:
    document = await space.open("scene")
    ann, ben, cat = (Peer(name, client).join(document) for name, client in (("ann", 5), ("ben", 6), ("cat", 7)))
    large = ann.submit(document, nodes(ann, 1_500))
    assert (large.on_trial, large.settled) == (True, False)
    small, order = 0, list[str]()
    large.on_settled = lambda _: order.append("large")
    while not large.settled:
        receipt = ben.submit(document, nodes_of_one(ben, small))
        await receipt.wait()
        small += 1
    assert (large.denied, large.refused, large.error) == (None, (), None)
    assert small > 5
    assert len(cat.map(NODES)) == 1_500 + small
    events = await events_of(document)
    by_ann = [event for event in events if event.actor.id == "ann"]
    assert len(by_ann) > 50
    assert max(len(event.data["update"]) for event in by_ann) < 20_000
    assert [change["type"] for event in by_ann for change in event.data["changes"]] == ["node.added"] * 1_500
    assert large.position >= by_ann[-1].position
    assert_nothing_pending(document.replica)


def nodes_of_one(peer: Peer, number: int) -> bytes:
    peer.made.clear()
    peer.map(NODES)[f"{peer.client}-{number}"] = node()
    return peer.made[-1]


async def test_g2_what_was_taken_in_pieces_is_what_was_sent(on_disk: Space) -> None:
    document = await on_disk.open("text:notes", create_as=ADA)
    ann = Peer("ann", 5).join(document)
    text = ann.doc.get("t", type=Text)
    with ann.doc.transaction():
        for number in range(6_000):
            text.insert(number * 7 % (len(str(text)) + 1), "ab")
            if number % 5 == 4:
                del text[number : number + 2]
    receipt = await ann.submit(document, ann.doc.get_update()).wait()
    assert (receipt.denied, receipt.hole, receipt.refused) == (None, None, ())
    assert str(document.replica.doc.get("t", type=Text)) == str(text)
    before = document.replica
    on_disk.engine.evict_idle(0)
    await on_disk.engine.keeper.settled()
    assert_same((await on_disk.open("text:notes")).replica, before)


async def test_g2_what_is_known_already_leaves_no_event(space: Space) -> None:
    document = await space.open("scene")
    ann = Peer("ann", 5).join(document)
    update = nodes(ann, 400)
    await ann.submit(document, update).wait()
    before = document.replica.revision
    again = await ann.submit(document, update).wait()
    assert (again.denied, document.replica.revision) == (None, before)


async def test_d3_a_large_update_with_a_hole_enters_up_to_it_and_the_rest_when_it_is_filled(space: Space) -> None:
    document = await space.open("scene")
    ann, ben = Peer("ann", 5), Peer("ben", 6)
    first = nodes(ben, 5)
    ann.hear(first)
    with ann.doc.transaction():
        for number in range(400):
            ann.map(NODES)[f"5-{number}"] = node()
        ann.map(NODES)["6-0"]["name"] = "renamed"
        for number in range(400, 500):
            ann.map(NODES)[f"5-{number}"] = node()
    update = ann.doc.get_update(ben.doc.get_state())
    receipt = ann.submit(document, update)
    await document.intake.tried(60)
    assert (receipt.on_trial, receipt.settled) == (False, False)
    assert receipt.hole is not None
    assert receipt.hole.client == 6
    await ben.submit(document, first).wait()
    await receipt.wait()
    assert (receipt.denied, receipt.refused) == (None, ())
    assert len(document.replica.doc.get(NODES, type=Map)) == 505
    assert document.replica.doc.get(NODES, type=Map)["6-0"]["name"] == "renamed"


async def test_d4_structs_of_others_are_cut_out_before_the_update_is_taken_to_pieces(space: Space) -> None:
    document = await space.open("scene")
    ben = Peer("ben", 6).join(document)
    await ben.submit(document, nodes(ben, 3)).wait()
    mallory = Peer("mallory", 66)
    mallory.hear(document.replica.diff(b"\0"))
    forged = Doc(client_id=6)  # type: ignore[var-annotated]  # any content
    forged.apply_update(document.replica.diff(b"\0"))
    forged.get(NODES, type=Map)["6-0"]["name"] = "forged"
    mallory.hear(forged.get_update())
    update = nodes(mallory, 400)
    await mallory.submit(document, update).wait()
    assert document.replica.doc.get(NODES, type=Map)["6-0"]["name"] != "forged"
    assert len(document.replica.doc.get(NODES, type=Map)) == 403


# --- what is not taken -----------------------------------------------------------------------------------------------


async def test_g3_a_viewer_brings_in_nothing_of_a_large_update(space: Space) -> None:
    document = await space.open("scene")
    eve = Peer("eve", 5, Role.VIEWER)
    receipt = await eve.submit(document, nodes(eve, 400)).wait()
    assert "got viewer" in str(receipt.denied)
    assert document.replica.revision == 0


async def test_g3_a_downgrade_in_the_middle_stops_the_rest(space: Space) -> None:
    document = await space.open("scene")
    ann = Peer("ann", 5)
    shown = document.replica.doc.get(NODES, type=Map)
    receipt = document.submit(ann.actor, lambda: Role.VIEWER if len(shown) else Role.EDITOR, nodes(ann, 800), 5)
    await receipt.wait()
    assert "got viewer" in str(receipt.denied)
    assert 0 < len(shown) < 800


async def test_g1_a_large_update_that_does_not_fit_brings_in_nothing(space: Space) -> None:
    document = await space.open("text:notes", create_as=ADA)
    sound = wire.group(9, 0, wire.text("x" * 2 * DIRECT_BYTES, parent="t"))
    harm = read_update(HANG, UNLIMITED)
    client, structs = next(iter(harm.structs.items()))
    update = wire.update(sound, wire.group(client, 0, *(one.encode() for one in structs)))
    receipt = await document.submit(ADA, lambda: Role.EDITOR, update).wait()
    assert "string at" in str(receipt.denied)
    assert document.replica.revision == 0


async def test_g5_a_large_update_over_a_limit_is_told_which(space: Space) -> None:
    document = await space.open("text:notes", create_as=ADA)
    update = wire.update(wire.group(9, 0, wire.text("x" * (5 << 20), parent="t")))
    receipt = await document.submit(ADA, lambda: Role.EDITOR, update).wait()
    assert "string: expected at most" in str(receipt.denied)


BLIND = """
from maquette.engine.index import Index
Index.misfit = lambda *_: None
"""


@pytest.mark.slow
async def test_g1_what_gets_past_the_reader_and_hangs_pycrdt_hangs_its_worker_and_is_denied(
    on_disk: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader of the workers is switched off, and they meet the update that hangs whoever reads it."""
    (tmp_path / "blind").mkdir()
    (tmp_path / "blind/sitecustomize.py").write_text(BLIND)
    monkeypatch.syspath_prepend(tmp_path / "blind")
    monkeypatch.setattr(Budget, "sized", lambda _: Budget(1, 1 << 30, 60))
    document = await on_disk.open("text:notes", create_as=ADA)
    harm = read_update(HANG, UNLIMITED)
    client, structs = next(iter(harm.structs.items()))
    sound = wire.group(9, 0, wire.text("x" * 2 * DIRECT_BYTES, parent="t"))
    update = wire.update(sound, wire.group(client, 0, *(one.encode() for one in structs)))
    receipt = document.submit(ADA, lambda: Role.EDITOR, update)
    ben = Peer("ben", 6)
    ben.doc.get("t", type=Text).insert(0, "meanwhile")
    await ben.send(document).wait()
    assert not receipt.settled
    await receipt.wait()
    assert "processor time" in str(receipt.denied)
    assert str(document.replica.doc.get("t", type=Text)) == "meanwhile"
    assert document.replica.revision == 1


async def test_without_workers_a_large_update_is_judged_here(
    space: Space, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    document = await space.open("scene")
    ann = Peer("ann", 5)
    receipt = await ann.submit(document, nodes(ann, 400)).wait()
    assert (receipt.denied, receipt.refused) == (None, ())
    assert document.replica.revision == 1
    assert "untried" in caplog.text


# --- who else writes -------------------------------------------------------------------------------------------------


async def test_g2_a_pen_writes_large_things_too_and_what_comes_behind_goes_on_above(space: Space) -> None:
    def many(doc: Doc[Any]) -> None:
        root = doc.get(NODES, type=Map)
        for number in range(400):
            root[f"n{number}"] = node()

    def rename(doc: Doc[Any]) -> None:
        doc.get(NODES, type=Map)["n7"]["name"] = "seven"

    large = asyncio.ensure_future(space.write("scene", ADA, Role.EDITOR, many))
    await asyncio.sleep(0)
    await space.write("scene", ADA, Role.EDITOR, rename)
    await large
    document = await space.open("scene")
    assert len(document.replica.doc.get(NODES, type=Map)) == 400
    assert document.replica.doc.get(NODES, type=Map)["n7"]["name"] == "seven"


async def test_g5_a_pen_is_told_why_a_large_edit_was_refused(space: Space) -> None:
    def many(doc: Doc[Any]) -> None:
        root = doc.get(NODES, type=Map)
        for number in range(400):
            root[f"n{number}"] = node()
        root["bad"] = Map({"name": "without a place"})

    with pytest.raises(OpRefused, match="node"):
        await space.write("scene", ADA, Role.EDITOR, many)


async def test_g2_what_one_person_has_on_trial_is_bounded_and_others_go_on(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = await space.open("scene")
    first, second, other = nodes(Peer("eve", 5), 400), nodes(Peer("eve", 6), 400), nodes(Peer("ann", 7), 400)
    monkeypatch.setattr(trials, "MAX_BYTES", len(first) + 10)
    sent = [document.submit(Actor(name), lambda: Role.EDITOR, data) for name, data in
            (("eve", first), ("eve", second), ("ann", other))]  # fmt: skip
    taken, refused, others = [await receipt.wait() for receipt in sent]
    assert (taken.denied, others.denied) == (None, None)
    assert "bytes of one person's large updates on trial at once, got more" in str(refused.denied)
    later = await document.submit(Actor("eve"), lambda: Role.EDITOR, second).wait()
    assert later.denied is None


async def test_a_document_with_a_large_update_on_its_way_stays_open(space: Space) -> None:
    document = await space.open("scene")
    ann = Peer("ann", 5)
    receipt = ann.submit(document, nodes(ann, 400))
    assert space.engine.evict_idle(0) == 0
    await document.intake.tried(60)
    await space.engine.settle()
    assert receipt.settled


async def test_g4_a_frozen_document_looks_at_no_large_update(on_disk: Space) -> None:
    ann = Peer("ann", 5)
    await on_disk.freeze(on_disk.record.documents["scene"], 1, 1, "a test")
    document = await on_disk.open("scene")
    receipt = ann.submit(document, nodes(ann, 400))
    assert "frozen" in str(receipt.denied)
    assert on_disk.engine.workers.started == 0

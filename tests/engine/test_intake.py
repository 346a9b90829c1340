"""Who is looked at by a worker and who is not: those who may not write, who are gone, and what is frozen (G3 to G5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pycrdt import Map
from tests.support.live import Peer, node

from maquette.engine.engine import Engine
from maquette.engine.errors import LogError
from maquette.engine.events import SERVER, Actor, NewEvent
from maquette.engine.kinds.scene import NODES
from maquette.engine.pulse import digest_of
from maquette.engine.roles import Role
from maquette.engine.space import Space
from maquette.engine.sync import read_state_vector
from maquette.engine.update import Update, ends
from maquette.engine.workers import MAX_WORKERS, Workers

ADA = Actor("ada")


@pytest.fixture
async def space(tmp_path: Path) -> AsyncIterator[Space]:
    async with await Engine.open(tmp_path) as engine:
        yield await engine.create_space("t", "demo", ADA)


def nodes(peer: Peer, count: int = 400) -> bytes:
    with peer.doc.transaction():
        for number in range(count):
            peer.map(NODES)[f"{peer.client}-{number}"] = node()
    return peer.doc.get_update()


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the jobs that workers were given."""
    given: list[str] = []
    run = Workers.run

    async def noted(self: Workers, job: str, *args: Any, **kwargs: Any) -> Any:
        given.append(job)
        return await run(self, job, *args, **kwargs)

    monkeypatch.setattr(Workers, "run", noted)
    return given


@asynccontextmanager
async def busy(space: Space) -> AsyncIterator[None]:
    """All places of the workers are taken."""
    async with AsyncExitStack() as stack:
        for number in range(MAX_WORKERS):
            await stack.enter_async_context(space.engine.workers._lanes.place("others", f"{number}"))
        yield


# --- who may not write -----------------------------------------------------------------------------------------------


async def test_g3_a_viewers_new_large_update_is_denied_before_any_worker_sees_it(space: Space, jobs: list[str]) -> None:
    document = await space.open("scene")
    eve = Peer("eve", 5, Role.VIEWER)
    receipt = eve.submit(document, nodes(eve))
    assert (receipt.on_trial, receipt.settled, receipt.for_role) == (False, True, True)
    assert "got viewer" in str(receipt.denied)
    assert jobs == []


async def test_g3_what_a_viewer_knows_already_may_come_again_however_large(space: Space, jobs: list[str]) -> None:
    document = await space.open("scene")
    ann, eve = Peer("ann", 5).join(document), Peer("eve", 6, Role.VIEWER)
    await ann.submit(document, nodes(ann)).wait()
    del ann.map(NODES)["5-7"]
    await ann.send(document).wait()
    eve.join(document)
    before = document.replica.revision
    receipt = await eve.submit(document, eve.doc.get_update()).wait()
    assert (receipt.denied, document.replica.revision) == (None, before)
    assert jobs == ["trial", "skim"]


async def test_g3_what_is_new_behind_much_that_is_known_is_denied_without_a_replica(
    space: Space, jobs: list[str]
) -> None:
    document = await space.open("scene")
    ann, eve = Peer("ann", 50).join(document), Peer("eve", 6, Role.VIEWER)
    await ann.submit(document, nodes(ann, 1_000)).wait()
    eve.join(document)
    eve.map(NODES)["eves"] = node()  # client 6 comes behind client 50
    receipt = await eve.submit(document, eve.doc.get_update()).wait()
    assert "got viewer" in str(receipt.denied)
    assert receipt.for_role
    assert jobs == ["trial", "skim"]


async def test_g3_a_viewers_new_deletions_are_denied_too(space: Space) -> None:
    document = await space.open("scene")
    ann, eve = Peer("ann", 5).join(document), Peer("eve", 6, Role.VIEWER)
    await ann.submit(document, nodes(ann)).wait()
    eve.join(document)
    del eve.map(NODES)["5-7"]
    receipt = await eve.submit(document, eve.doc.get_update()).wait()
    assert "got viewer" in str(receipt.denied)
    assert "5-7" in document.replica.doc.get(NODES, type=Map)


async def test_d4_structs_of_others_in_a_viewers_large_update_are_cut_out_not_denied(space: Space) -> None:
    document = await space.open("scene")
    ann = Peer("ann", 5).join(document)
    update = nodes(ann)
    await ann.submit(document, update).wait()
    with ann.doc.transaction():
        for number in range(400):  # which another tab of ann's may have told eve's
            ann.map(NODES)[f"unsent-{number}"] = node()
    unsent = ann.doc.get_update()
    eve = Peer("eve", 6, Role.VIEWER)
    receipt = await eve.submit(document, unsent).wait()
    assert (receipt.denied, len(document.replica.doc.get(NODES, type=Map))) == (None, 400)


async def test_g5_a_large_update_that_is_quarantined_is_denied_at_once(space: Space, jobs: list[str]) -> None:
    eve = Peer("eve", 5)
    update = nodes(eve)
    record = space.record.documents["scene"]
    data = {"document": record.id, "epoch": 1, "digest": digest_of(update), "size": len(update), "actor": "eve"}
    await space._record([_said("update.quarantined", data)])
    receipt = eve.submit(await space.open("scene"), update)
    assert "stopped the server before" in str(receipt.denied)
    assert jobs == []


def _said(type_: str, data: dict[str, Any]) -> NewEvent:
    return NewEvent(type_, SERVER, data)


def test_what_an_update_brings_is_told_struct_by_struct_as_far_as_it_can_be_read() -> None:
    peer = Peer("ann", 5)
    update = nodes(peer, 3)
    told = list(ends(update))
    assert told[0][0] == 5
    assert [clock for _, clock in told] == sorted({clock for _, clock in told})
    assert dict(told) == read_state_vector(peer.doc.get_state())
    assert list(ends(update[: len(update) // 2])) == told[: len(list(ends(update[: len(update) // 2])))]
    assert list(ends(b"")) == []
    assert list(ends(Update({}, {5: [(0, 3)]}).encode())) == []


# --- who is gone -----------------------------------------------------------------------------------------------------


async def test_g4_what_is_in_line_for_somebody_who_is_gone_is_not_tried(space: Space) -> None:
    document = await space.open("scene")
    ann = Peer("ann", 5)
    async with busy(space):
        receipt = ann.submit(document, nodes(ann))
        await asyncio.sleep(0)
        receipt.withdraw()
        await receipt.wait()
        assert "in line, got nobody" in str(receipt.denied)
    assert (space.engine.workers.started, document.replica.revision) == (0, 0)
    assert not space.engine._trials._bytes


async def test_g4_who_goes_in_the_moment_of_sending_is_not_tried_either(space: Space) -> None:
    document = await space.open("scene")
    ann = Peer("ann", 5)
    receipt = ann.submit(document, nodes(ann))
    receipt.withdraw()
    await receipt.wait()
    assert space.engine.workers.started == 0


async def test_g3_whose_role_is_lowered_in_line_is_denied_without_a_trial(space: Space, jobs: list[str]) -> None:
    document = await space.open("scene")
    ann = Peer("ann", 5)
    async with busy(space):
        receipt = ann.submit(document, nodes(ann))
        await asyncio.sleep(0)
        ann.role = Role.VIEWER
    await receipt.wait()
    assert "got viewer" in str(receipt.denied)
    assert receipt.for_role
    assert jobs == ["trial", "skim"]
    assert document.replica.revision == 0


async def test_g3_whose_role_is_raised_in_line_is_tried(space: Space, jobs: list[str]) -> None:
    document = await space.open("scene")
    ann, eve = Peer("ann", 50).join(document), Peer("eve", 6, Role.VIEWER)
    await ann.submit(document, nodes(ann, 1_000)).wait()
    eve.join(document)
    eve.map(NODES)["eves"] = node()
    async with busy(space):
        receipt = eve.submit(document, eve.doc.get_update())
        await asyncio.sleep(0)
        eve.role = Role.EDITOR
    await receipt.wait()
    assert receipt.denied is None
    assert "eves" in document.replica.doc.get(NODES, type=Map)
    assert jobs == ["trial", "skim", "trial"]


async def test_d1_what_is_in_line_for_a_document_that_is_lost_is_not_tried(space: Space) -> None:
    document = await space.open("scene")
    ann = Peer("ann", 5)
    async with busy(space):
        receipt = ann.submit(document, nodes(ann))
        await asyncio.sleep(0)
        document.drop(LogError("a test"))
        with pytest.raises(LogError, match="a test"):
            await receipt.wait()
    await document.intake.tried(60)
    assert space.engine.workers.started == 0


# --- what is frozen --------------------------------------------------------------------------------------------------


async def test_g4_a_frozen_document_reads_no_further_than_to_what_is_new(space: Space) -> None:
    await space.freeze(space.record.documents["scene"], 1, 1, "a test")
    document = await space.open("scene")
    peer = Peer("ann", 5)
    receipt = peer.submit(document, nodes(peer, 3) + b"and what nobody can read")
    assert "frozen" in str(receipt.denied)


async def test_g4_what_a_frozen_document_knows_may_come_again_however_large(space: Space) -> None:
    document = await space.open("scene")
    ann = Peer("ann", 5).join(document)
    await ann.submit(document, nodes(ann)).wait()
    await document.drained()
    await space.freeze(space.record.documents["scene"], 1, document.durable + 1, "a test")
    document = await space.open("scene")
    receipt = await ann.submit(document, ann.doc.get_update()).wait()
    assert receipt.denied is None

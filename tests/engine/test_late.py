"""Late edits: what people who were away when a scene was rewritten bring to its old epoch (D9)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Doc, Map
from tests.engine.test_rewrite import ADA, OWNER, DyingLog, content, demo, engine_on, events_of, furnished, shown
from tests.support.live import Peer, assert_same, node

from maquette.engine.document import Document
from maquette.engine.errors import LogUnwritable
from maquette.engine.events import Actor
from maquette.engine.kinds.kind import plain
from maquette.engine.kinds.scene import COMMENTS, MATERIALS, NODES, SETTINGS
from maquette.engine.late import merge
from maquette.engine.logs.memory import MemoryLog
from maquette.engine.roles import Role
from maquette.engine.space import Space

CY = Actor("cy")
Edit = Callable[[Peer], object]


async def scene_of(space: Space, epoch: int = 1) -> Document:
    """An epoch, as who comes late opens it."""
    return await space.open_resolved(await space.resolve(f"scene@{epoch}", late=True))


async def away(space: Space, edit: Edit, client: int = 77) -> Peer:
    """Cy, who joins, goes away and edits."""
    document = await space.open("scene")
    peer = Peer(CY.id, client).join(document)
    document.subscribers.discard(peer)
    edit(peer)
    return peer


async def bring(space: Space, peer: Peer, epoch: int = 1) -> None:
    """Cy comes back to the epoch that Cy left."""
    receipt = await peer.send(await scene_of(space, epoch)).wait()
    assert (receipt.denied, receipt.refused) == (None, ())
    await space.carry(space.record.documents["scene"], epoch)


async def rewritten(edit: Edit, meanwhile: Callable[[Any], object] | None = None) -> tuple[Space, dict[str, Any]]:
    """What the scene shows when `edit` came late; `meanwhile`, Ada edits the new epoch."""
    space = await furnished(await demo(engine_on(MemoryLog())))
    peer = await away(space, edit)
    await space.rewrite("scene", OWNER)
    if meanwhile is not None:
        await space.write_scene(ADA, Role.EDITOR, meanwhile)
    await bring(space, peer)
    return space, await shown(space)


async def test_d9_late_edits_of_every_kind_are_carried_over_as_ops_of_who_made_them() -> None:
    comment = Map({"author": CY.id, "node": None, "point": [0, 0, 0], "body": "late", "at": 1})

    def edit(peer: Peer) -> None:
        nodes = peer.map(NODES)
        nodes["chair"] = node("room", "W", type="mesh", mesh={"shape": "box"}, slots={"0": "m"})
        nodes["lamp"]["name"] = "late lamp"
        nodes["lamp"]["place"] = ["chair", "X"]
        del nodes["lamp"]["slots"]["1"]
        nodes["lamp"]["slots"]["2"] = "m"
        nodes["room"]["trashed"] = {"by": CY.id, "at": 5}
        del nodes["table"]["trashed"]
        peer.map(MATERIALS)["n"] = Map({"metallic": 1})
        peer.map(MATERIALS)["m"]["metallic"] = 0.75
        peer.map(COMMENTS)["k"] = comment
        peer.map(SETTINGS)["exposure"] = 3.0

    space, now = await rewritten(edit)
    assert now[NODES]["chair"]["place"] == ["room", "W"]
    assert (now[NODES]["lamp"]["name"], now[NODES]["lamp"]["place"]) == ("late lamp", ["chair", "X"])
    assert now[NODES]["lamp"]["slots"] == {"0": "m", "2": "m"}
    assert now[NODES]["room"]["trashed"] == {"by": CY.id, "at": 5}
    assert "trashed" not in now[NODES]["table"]
    assert now[MATERIALS] == {"m": {"metallic": 0.75}, "n": {"metallic": 1}}
    assert now[COMMENTS]["k"]["body"] == "late"
    assert now[SETTINGS] == {"exposure": 3}
    [late] = [event for event in await events_of(space, 2) if "carried" in event.data]
    [brought] = [event for event in await events_of(space, 1) if event.actor == CY]
    assert (late.actor, late.cause, late.data["carried"]) == (CY, brought.id, [1, brought.revision])
    assert content((await scene_of(space)).replica) == now


async def test_d9_what_somebody_changed_since_stays_and_the_rest_of_a_late_edit_counts() -> None:
    def edit(peer: Peer) -> None:
        lamp = peer.map(NODES)["lamp"]
        lamp["name"], lamp["visible"] = "late", False
        lamp["slots"]["0"], lamp["slots"]["1"] = "late0", "late1"
        peer.map(SETTINGS)["exposure"] = 9.0

    def meanwhile(scene: Any) -> None:
        scene.change("lamp", name="newer", slots={"0": "newer", "1": "m"})

    _, now = await rewritten(edit, meanwhile)
    lamp = now[NODES]["lamp"]
    assert (lamp["name"], lamp["visible"], lamp["slots"]) == ("newer", False, {"0": "newer", "1": "late1"})
    assert now[SETTINGS] == {"exposure": 9}


async def test_d9_a_late_move_below_what_is_gone_hangs_from_the_root_and_a_cycle_is_repaired() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    await space.write_scene(ADA, Role.EDITOR, lambda scene: scene.add(id="shelf"))

    def edit(peer: Peer) -> None:
        peer.map(NODES)["table"]["place"] = ["shelf", "X"]
        peer.map(NODES)["room"]["place"] = ["lamp2", "Y"]

    await space.write_scene(ADA, Role.EDITOR, lambda scene: scene.add(id="lamp2"))
    peer = await away(space, edit)
    await space.rewrite("scene", OWNER)
    await space.write("scene", ADA, Role.EDITOR, lambda doc: doc.get(NODES, type=Map).pop("shelf"))
    await space.write_scene(ADA, Role.EDITOR, lambda scene: scene.move("lamp2", "room"))
    await bring(space, peer)
    now = await shown(space)
    assert now[NODES]["table"]["place"] == [None, "X"]
    tree = (await space.open("scene")).replica.memory.tree  # type: ignore[attr-defined]  # a scene's
    assert not tree.has_cycles


async def test_d9_a_late_removal_counts_unless_somebody_changed_the_record() -> None:
    for changed in (False, True):
        space = await furnished(await demo(engine_on(MemoryLog())))
        peer = await away(space, lambda cy: cy.map(NODES).__setitem__("mine", node()))
        await bring_current(space, peer)
        peer.map(NODES).pop("mine")
        await space.rewrite("scene", OWNER)
        if changed:
            await space.write_scene(ADA, Role.EDITOR, lambda scene: scene.change("mine", name="ours"))
        await bring(space, peer)
        assert ("mine" in (await shown(space))[NODES]) == changed


async def bring_current(space: Space, peer: Peer) -> None:
    await peer.send(await space.open("scene")).wait()


async def test_d9_a_late_edit_of_what_is_gone_leaves_an_event_that_says_so() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    peer = await away(space, lambda cy: cy.map(NODES)["room"].__setitem__("name", "late"))
    await space.rewrite("scene", OWNER)
    await space.write("scene", ADA, Role.EDITOR, lambda doc: doc.get(NODES, type=Map).pop("room"))
    await bring(space, peer)
    late = (await events_of(space, 2))[-1]
    assert (late.actor, late.data["changes"], late.data["update"]) == (CY, [], b"\x00\x00")
    assert "room" not in (await shown(space))[NODES]


async def test_d9_several_late_edits_of_one_register_follow_one_another() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    peer = await away(space, lambda cy: cy.map(NODES)["lamp"].__setitem__("name", "first"))
    await space.rewrite("scene", OWNER)
    await bring(space, peer)
    for name in ("second", "third"):
        peer.map(NODES)["lamp"]["name"] = name
        await bring(space, peer)
    assert (await shown(space))[NODES]["lamp"]["name"] == "third"


async def test_d9_who_made_a_late_node_may_take_it_back() -> None:
    space, now = await rewritten(lambda cy: cy.map(NODES).__setitem__("mine", node()))
    assert "mine" in now[NODES]
    await space.write("scene", CY, Role.EDITOR, lambda doc: doc.get(NODES, type=Map).pop("mine"))
    assert "mine" not in (await shown(space))[NODES]


async def test_d9_a_late_edit_several_epochs_behind_arrives_once() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    peer = await away(space, lambda cy: cy.map(NODES)["lamp"].__setitem__("name", "late"))
    for _ in range(3):
        await space.rewrite("scene", OWNER)
    await bring(space, peer)
    assert (await shown(space))[NODES]["lamp"]["name"] == "late"
    for epoch in (2, 3, 4):
        assert [event.actor for event in await events_of(space, epoch) if "carried" in event.data] == [CY]


async def test_d9_what_was_late_before_a_rewrite_is_not_carried_again_behind_it() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    peer = await away(space, lambda cy: cy.map(NODES)["lamp"].__setitem__("name", "late"))
    await space.rewrite("scene", OWNER)
    await bring(space, peer)
    await space.rewrite("scene", OWNER)
    await space.write_scene(ADA, Role.EDITOR, lambda scene: scene.change("lamp", name="now"))
    again = await engine_on(space.engine.log).space("t", "demo")
    await again.open("scene")
    await again.catch_up(again.record.documents["scene"])
    assert (await shown(again))[NODES]["lamp"]["name"] == "now"
    assert not [event for event in await events_of(again, 3) if "carried" in event.data]


async def test_d9_a_refused_late_edit_is_reversed_where_it_came_and_carries_nothing_over() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    before = await shown(space)
    peer = await away(space, lambda cy: cy.map(NODES)["lamp"].__setitem__("rotation", [9, 9, 9, 9]))
    await space.rewrite("scene", OWNER)
    receipt = await peer.send(await scene_of(space)).wait()
    assert "rotation" in receipt.refused[0]
    await space.carry(space.record.documents["scene"], 1)
    assert await shown(space) == before


# --- once, whatever dies -------------------------------------------------------------------------------------------


async def test_d9_a_death_between_a_late_edit_and_its_carrying_loses_and_doubles_nothing() -> None:
    log = DyingLog()
    space = await furnished(await demo(engine_on(log)))
    peer = await away(space, lambda cy: cy.map(NODES).__setitem__("mine", node()))
    await space.rewrite("scene", OWNER)
    old = await scene_of(space)
    old.on_committed = None  # the process dies before it carries anything
    await peer.send(old).wait()
    for _ in range(3):  # and again, behind the carrying
        again = await engine_on(log).space("t", "demo")
        await again.open("scene")
        await again.catch_up(again.record.documents["scene"])
        assert "mine" in (await shown(again))[NODES]
    assert len([event for event in await events_of(again, 2) if "carried" in event.data]) == 1


async def test_d9_what_could_not_be_carried_over_is_when_the_log_can_write_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("maquette.engine.carrier.RETRY_SECONDS", 0)
    log = FullLog()
    space = await furnished(await demo(engine_on(log)))
    peer = await away(space, lambda cy: cy.map(NODES).__setitem__("mine", node()))
    await space.rewrite("scene", OWNER)
    await space.open("scene")
    log.full = "scene@2"
    await peer.send(await scene_of(space)).wait()
    await log.refused.wait()
    log.full = ""
    await space.carry(space.record.documents["scene"], 1)
    live = await space.open("scene")
    assert "mine" in content(live.replica)[NODES]
    assert_same(await space.engine.replica(space, space.record.documents["scene"], 2), live.replica)


class EvictingLog(MemoryLog):
    """A log beside which time passes: nobody watches, and idle documents are evicted while the old epoch is read."""

    evict: Callable[[], object] | None = None

    async def read(self, stream: str, **span: Any) -> Any:
        async for page in super().read(stream, **span):
            if self.evict is not None and stream.endswith("scene@1"):
                self.evict()
            yield page


async def test_d9_late_edits_are_carried_over_though_nobody_watches_the_scene() -> None:
    log = EvictingLog()
    space = await furnished(await demo(engine_on(log)))
    peer = await away(space, lambda cy: cy.map(NODES)["lamp"].__setitem__("name", "late"))
    await space.rewrite("scene", OWNER)
    old = await scene_of(space)
    old.on_committed = None
    await peer.send(old).wait()
    log.evict = lambda: space.engine.evict_idle(0)
    await space.carry(space.record.documents["scene"], 1)
    assert (await shown(space))[NODES]["lamp"]["name"] == "late"


class FullLog(MemoryLog):
    """A log that cannot take more of one stream."""

    def __init__(self) -> None:
        super().__init__()
        self.full = ""
        self.refused = asyncio.Event()

    def append(self, stream: str, events: Any, expected: int | None = None) -> Any:
        if self.full and stream.endswith(self.full):
            self.refused.set()
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            future.set_exception(LogUnwritable("expected room on the disk, got none"))
            return future
        return super().append(stream, events, expected)


async def test_d9_a_restored_log_takes_nothing_late_to_what_was_rewritten_before(tmp_path: Path) -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    await space.rewrite("scene", OWNER)
    await space.reopen_restored("mark")
    assert space.record.documents["scene"].over == []
    assert space.record.documents["scene"].current == 3


# --- the rule, by itself ---------------------------------------------------------------------------------------------

VALUES = st.sampled_from([None, False, 1, "x", [1, 2]])
FIELDS = st.dictionaries(st.sampled_from("abc"), VALUES)


def merged(before: dict[str, Any], late: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What a record shows that was `before` in the old epoch, then `late`, and is `now` in the new one."""
    doc: Doc[Any] = Doc()
    doc.get(MATERIALS, type=Map)["m"] = Map(now)
    change = {
        "type": "material.changed",
        "id": "m",
        "set": {key: value for key, value in late.items() if before.get(key, ...) != value},
        "unset": [key for key in before if key not in late],
    }
    merge([change], {(MATERIALS, "m"): before}, doc)
    fields: dict[str, Any] = plain(doc.get(MATERIALS, type=Map)["m"])
    return fields


@given(FIELDS, FIELDS, FIELDS)
def test_d9_each_register_is_the_late_one_where_nobody_changed_it_and_theirs_where_somebody_did(
    before: dict[str, Any], late: dict[str, Any], now: dict[str, Any]
) -> None:
    found = merged(before, late, now)
    for key in "abc":
        untouched = now.get(key, ...) == before.get(key, ...)
        assert found.get(key, ...) == (late if untouched else now).get(key, ...)

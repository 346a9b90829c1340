"""Rewriting a scene: what the next epoch holds, what it costs, and where it goes on after a death (D9)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pycrdt import Map
from tests.support.live import HeldLog, Peer, assert_same, items

from maquette.engine.assets import MemoryAssets
from maquette.engine.engine import Engine
from maquette.engine.errors import (
    DocumentFrozen,
    DocumentMoved,
    InvalidInput,
    LogUnwritable,
    NotFound,
    OpRefused,
    RewriteRunning,
)
from maquette.engine.events import Actor, Event, encode_data
from maquette.engine.kinds.kind import plain
from maquette.engine.kinds.scene import COMMENTS, MATERIALS, NODES, SETTINGS
from maquette.engine.log import EventLog
from maquette.engine.logs.memory import MemoryLog
from maquette.engine.roles import Role
from maquette.engine.scene import order, schema
from maquette.engine.snapshots import SnapshotStore
from maquette.engine.space import Space

ADA, BEN, OWNER = Actor("ada"), Actor("ben"), Actor("owner", via="rest")


def engine_on(log: EventLog, folder: Path | None = None) -> Engine:
    return Engine(log, MemoryAssets(), SnapshotStore(folder), node=b"n" * 16)


async def demo(engine: Engine) -> Space:
    return await engine.create_space("t", "demo", ADA)


async def furnished(space: Space) -> Space:
    """Two people's scene: nodes of both, one moved often, one in the trash; a material, a comment, a setting."""

    def build(scene: Any) -> None:
        scene.add("mesh", "lamp", id="lamp", parent="room", slots={"0": "m", "1": "m"})
        scene.add_material(id="m", metallic=0.5)
        scene.set(exposure=2.0)

    await space.write_scene(ADA, Role.EDITOR, lambda scene: scene.add("group", "room", id="room"))
    await space.write_scene(ADA, Role.EDITOR, build)
    await space.write_scene(BEN, Role.EDITOR, lambda scene: scene.add("mesh", "table", id="table", extras={"a": None}))
    await space.write_scene(BEN, Role.EDITOR, lambda scene: scene.comment("hm", (0, 1, 2), node="lamp"))
    await space.write_scene(ADA, Role.EDITOR, lambda scene: scene.trash("table"))
    for step in range(20):
        await space.write_scene(BEN, Role.EDITOR, lambda scene, x=step: scene.change("lamp", translation=[x, 0, 0]))  # type: ignore[misc]  # bound in the loop
    return space


def content(replica: Any) -> dict[str, Any]:
    return {root: plain(replica.shared(root)) for root in (NODES, MATERIALS, COMMENTS, SETTINGS)}


async def shown(space: Space, name: str = "scene") -> dict[str, Any]:
    return content((await space.open(name)).replica)


async def events_of(space: Space, epoch: int) -> list[Event]:
    stream = space.record.document_stream(space.record.documents["scene"], epoch)
    return [event async for page in space.engine.log.read(stream) for event in page]


async def test_d9_a_rewritten_scene_shows_the_same_under_fresh_clients_and_weighs_less() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    before = await space.open("scene")
    report = await space.rewrite("scene", OWNER)
    after = await space.open("scene")
    assert content(after.replica) == content(before.replica)
    assert content(after.replica)[NODES]["table"]["trashed"]["by"] == "ada"
    assert not set(after.replica.index.clients) & set(before.replica.index.clients)
    assert after.stream.endswith("/scene@2")
    assert (report.document, report.epoch, report.dry_run) == ("scene", 2, False)
    assert report.records == {"nodes": 3, "materials": 1, "comments": 1}
    assert report.after.bytes < report.before.bytes
    assert report.after.clocks < report.before.clocks
    assert report.before.clients == len(before.replica.index.clients)


async def test_d9_the_epoch_that_goes_on_is_what_its_stream_replays_to() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    await space.rewrite("scene", OWNER)
    live = await space.open("scene")
    replayed = await space.engine.replica(space, space.record.documents["scene"], 2)
    assert_same(replayed, live.replica)
    assert replayed.carried == live.replica.carried == 24


async def test_d9_who_made_a_node_may_take_it_back_and_who_wrote_a_comment_may_change_it_behind_a_rewrite() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    await space.rewrite("scene", OWNER)
    [comment] = (await shown(space))[COMMENTS]
    await space.write_scene(BEN, Role.EDITOR, lambda scene: scene.change_comment(comment, body="clear"))
    with pytest.raises(OpRefused, match="author"):
        await space.write_scene(ADA, Role.EDITOR, lambda scene: scene.change_comment(comment, body="mine"))
    with pytest.raises(OpRefused, match="somebody else's record 'room'"):
        await space.write("scene", BEN, Role.EDITOR, lambda doc: doc.get(NODES, type=Map).pop("room"))
    await space.write("scene", BEN, Role.EDITOR, lambda doc: doc.get(NODES, type=Map).pop("table"))
    await space.write_scene(ADA, Role.EDITOR, lambda scene: scene.change("lamp", name="bright"))
    now = await shown(space)
    assert (now[COMMENTS][comment]["body"], now[NODES].keys()) == ("clear", {"room", "lamp"})


async def test_d9_a_lock_stays_its_lockers_through_a_rewrite() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    await space.write_scene(BEN, Role.EDITOR, lambda scene: scene.change("lamp", locked=True))  # ada made it
    await space.rewrite("scene", OWNER)
    for again in (space, await engine_on(space.engine.log).space("t", "demo")):
        with pytest.raises(OpRefused, match="lamp"):
            await again.write_scene(ADA, Role.EDITOR, lambda scene: scene.change("lamp", locked=False))
    await again.write_scene(BEN, Role.EDITOR, lambda scene: scene.change("lamp", locked=False))
    await again.write_scene(ADA, Role.EDITOR, lambda scene: scene.change("lamp", name="free"))
    assert (await shown(again))[NODES]["lamp"]["name"] == "free"


async def test_d9_the_trash_is_restored_exactly_behind_a_rewrite() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    before = (await shown(space))[NODES]["table"]
    await space.rewrite("scene", OWNER)
    await space.write_scene(BEN, Role.EDITOR, lambda scene: scene.restore("table"))
    del before["trashed"]
    assert (await shown(space))[NODES]["table"] == before


async def test_d9_the_old_epoch_can_be_read_at_each_of_its_revisions() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    await space.rewrite("scene", OWNER)
    record = space.record.documents["scene"]
    early = await space.engine.replica(space, record, 1, revision=1)
    assert content(early)[NODES].keys() == {"room"}
    assert content(await space.engine.replica(space, record, 1)) == await shown(space)


async def test_d9_the_bare_name_is_the_new_epoch_and_the_old_one_takes_no_joiners() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    watcher = Peer("ben", 8).join(await space.open("scene"))
    await space.rewrite("scene", OWNER)
    assert watcher.successors == ["scene@2"]
    assert (await space.resolve("scene")).name == "scene@2"
    with pytest.raises(DocumentMoved, match="scene@2"):
        await space.resolve("scene@1")
    assert (await space.resolve("scene@1", late=True)).is_late


async def test_d9_a_dry_run_says_what_a_rewrite_would_save_and_writes_nothing() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    head = await space.engine.log.head()
    told: list[tuple[str, int, int]] = []
    dry = await space.rewrite("scene", OWNER, dry_run=True, progress=lambda *step: told.append(step))
    assert dry.dry_run
    assert await space.engine.log.head() == head
    assert space.record.documents["scene"].current == 1
    real = await space.rewrite("scene", OWNER)
    assert (real.records, real.before, real.after.clocks) == (dry.records, dry.before, dry.after.clocks)
    assert told[-1] == ("compared", 5, 5)


async def test_d9_the_events_of_a_new_epoch_are_the_servers_and_say_of_how_many_parts_they_are() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    await space.rewrite("scene", OWNER)
    events = await events_of(space, 2)
    assert [event.data["begins"]["part"] for event in events] == [[number, 3] for number in (1, 2, 3)]
    assert {event.actor.id for event in events} == {"server"}
    assert [event.data["begins"]["authors"][0][1] for event in events[:2]] == ["ada", "ben"]
    [opened] = [
        event
        async for page in space.engine.log.read(space.record.stream)
        for event in page
        if event.type == "document.opened" and event.data["epoch"] == 2
    ]
    assert opened.actor == OWNER


@pytest.mark.parametrize(
    ("name", "error", "match"),
    [
        ("chat", InvalidInput, "turns its pages by itself"),
        ("text:notes", InvalidInput, "free text has no ids"),
        ("text:none", NotFound, "text:none"),
        ("scene@7", NotFound, "scene@7"),
        ("scene", InvalidInput, "which never was"),
    ],
)
async def test_d9_what_cannot_be_rewritten_is_told_why(name: str, error: type[Exception], match: str) -> None:
    space = await demo(engine_on(MemoryLog()))
    await space.open("text:notes", create_as=ADA)
    with pytest.raises(error, match=match):
        await space.rewrite(name, OWNER)


async def test_d9_a_frozen_scene_and_one_that_is_being_rewritten_are_left_alone() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    both = await asyncio.gather(space.rewrite("scene", OWNER), space.rewrite("scene", OWNER), return_exceptions=True)
    assert [type(one) for one in both][1] is RewriteRunning
    record = space.record.documents["scene"]
    await space.freeze(record, 2, 3, "it hangs")
    with pytest.raises(DocumentFrozen, match="it hangs"):
        await space.rewrite("scene", OWNER)
    assert record.current == 2


async def test_d9_a_scene_is_rewritten_again_and_again() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    before = await shown(space)
    for epoch in (2, 3, 4):
        assert (await space.rewrite("scene", OWNER)).epoch == epoch
    assert await shown(space) == before
    assert space.record.documents["scene"].over == [1, 2, 3]


async def test_d9_a_large_scene_is_rewritten_in_slices_that_let_others_go_on() -> None:
    space = await demo(engine_on(MemoryLog()))
    nodes = {f"n{number}": plain_node(f"{number}") for number in range(600)}
    await space.write_scene(ADA, Role.EDITOR, lambda scene: scene.add_all(nodes))
    turns = 0
    rewriting = asyncio.ensure_future(space.rewrite("scene", OWNER))
    while not rewriting.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 2 * 600 / 32
    assert (await shown(space))[NODES].keys() == nodes.keys()
    await space.engine.close()


class FrugalLog(MemoryLog):
    """A log in memory that counts what an append of many events still has to encode."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded: list[int] = []

    def append(self, stream: str, events: Any, expected: int | None = None) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            done = list[bytes]()

            def encode(data: Any) -> bytes:
                done.append(encode_data(data))
                return done[-1]

            patch.setattr("maquette.engine.events.encode_data", encode)
            appended = super().append(stream, events, expected)
        if len(events) > 10:
            self.encoded.append(len(done))
        return appended


async def test_d9_the_append_that_begins_an_epoch_finds_its_events_encoded() -> None:
    log = FrugalLog()
    space = await demo(engine_on(log))
    nodes = {f"n{number}": plain_node(f"{number}") for number in range(600)}
    await space.write_scene(ADA, Role.EDITOR, lambda scene: scene.add_all(nodes))
    await space.rewrite("scene", OWNER)
    assert log.encoded == [0]
    again = await engine_on(log).space("t", "demo")
    assert (await shown(again))[NODES].keys() == nodes.keys()
    await space.engine.close()


def plain_node(name: str) -> dict[str, Any]:
    return schema.new_node("mesh", name, (None, order.at([], 0)), mesh={"shape": "box"})


# --- deaths --------------------------------------------------------------------------------------------------------


class DyingLog(MemoryLog):
    """A log whose process dies before, or right behind, the append that begins an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.dies: str | None = None

    def append(self, stream: str, events: Any, expected: int | None = None) -> Any:
        if self.dies == ("behind" if stream.count("/") == 1 else "before"):
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            future.set_exception(LogUnwritable("the process died"))
            return future
        return super().append(stream, events, expected)


async def test_d9_a_death_before_the_append_leaves_the_old_epoch_current() -> None:
    log = DyingLog()
    space = await furnished(await demo(engine_on(log)))
    log.dies = "before"
    with pytest.raises(LogUnwritable):
        await space.rewrite("scene", OWNER)
    log.dies = None
    for again in (space, await engine_on(log).space("t", "demo")):
        assert again.record.documents["scene"].current == 1
    assert (await space.rewrite("scene", OWNER)).epoch == 2


async def test_d9_a_death_behind_the_append_leaves_the_new_epoch_complete() -> None:
    log = DyingLog()
    space = await furnished(await demo(engine_on(log)))
    before = await shown(space)
    log.dies = "behind"
    await space.rewrite("scene", OWNER)
    log.dies = None
    again = await engine_on(log).space("t", "demo")
    assert again.record.documents["scene"].current == 2
    assert await shown(again) == before
    told = [event.data.get("epoch") async for page in log.read(again.record.stream) for event in page]
    assert told.count(2) == 1
    third = await engine_on(log).space("t", "demo")
    assert third.record.revision == again.record.revision


async def test_d9_a_reader_beside_the_writer_finds_the_new_epoch_too(tmp_path: Path) -> None:
    async with await Engine.open(tmp_path) as engine:
        space = await furnished(await demo(engine))
        await space.rewrite("scene", OWNER)
        before = await shown(space)
        reader = await Engine.open_readonly(tmp_path)
        assert await shown(await reader.space("t", "demo")) == before
        await reader.close()


async def test_d9_snapshots_of_the_new_epoch_know_what_was_carried(tmp_path: Path) -> None:
    log = MemoryLog()
    space = await furnished(await demo(engine_on(log, tmp_path)))
    await space.rewrite("scene", OWNER)
    live = await space.open("scene")
    store = SnapshotStore(tmp_path)
    store.save(live.stream, live.replica)
    store.accept(live.stream)
    loaded = await (await engine_on(log, tmp_path).space("t", "demo")).open("scene")
    assert loaded.replica.carried == 24
    assert items(loaded.replica) == items(live.replica)


async def test_d9_edits_that_come_while_a_rewrite_is_on_its_way_to_the_disk_are_carried_over() -> None:
    log = TellingLog()
    engine = engine_on(log)
    making = asyncio.ensure_future(demo(engine))
    while not making.done():
        await log.commit()
    filling = asyncio.ensure_future(furnished(making.result()))
    while not filling.done():
        await log.commit()
    space = filling.result()
    ben = Peer("ben", 8).join(await space.open("scene"))
    log.holding.clear()
    rewriting = asyncio.ensure_future(space.rewrite("scene", OWNER))
    await log.holding.wait()
    ben.map(NODES)["lamp"]["name"] = "late"
    receipt = ben.send(await space.open("scene@1"))
    while not rewriting.done() or not receipt.settled or log.held:
        await log.commit()
    await hold(log, space.carry(space.record.documents["scene"], 1))
    assert (await shown(space))[NODES]["lamp"]["name"] == "late"


class TellingLog(HeldLog):
    """A held log that tells when something waits."""

    def __init__(self) -> None:
        super().__init__()
        self.holding = asyncio.Event()

    def append(self, stream: str, events: Any, expected: int | None = None) -> Any:
        self.holding.set()
        return super().append(stream, events, expected)


async def hold(log: HeldLog, work: Any) -> None:
    """Commit until `work` is done."""
    task = asyncio.ensure_future(work)
    while not task.done():
        await log.commit()
    task.result()

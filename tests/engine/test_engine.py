"""The engine: opening, evicting, turning pages, and what stays after a restart (D5, D7, D9)."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import stat
from asyncio import Future
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import ref

import msgpack
import pytest
from pycrdt import Array, Map, Text
from tests.support.live import HeldLog, Peer, assert_same, message

from maquette.engine import engine as engines
from maquette.engine import keeping
from maquette.engine.assets import MemoryAssets
from maquette.engine.engine import Engine
from maquette.engine.errors import LogDamaged, LogError, LogUnwritable, OpRefused
from maquette.engine.events import START, Actor, Event, NewEvent
from maquette.engine.kinds.chat import CHAT, PageLimits
from maquette.engine.kinds.kind import plain
from maquette.engine.kinds.scene import MATERIALS
from maquette.engine.log import Appended, EventLog
from maquette.engine.logs.memory import MemoryLog
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.replica import Replica
from maquette.engine.roles import Role
from maquette.engine.snapshots import SnapshotStore
from maquette.engine.space import Space

ADA = Actor("ada")
SMALL = PageLimits(messages=3, clients=6)


def engine_on(log: EventLog, folder: Path | None = None, page: PageLimits | None = None) -> Engine:
    return Engine(log, MemoryAssets(), SnapshotStore(folder), node=b"n" * 16, page=page or PageLimits())


async def demo(engine: Engine) -> Space:
    return await engine.create_space("t", "demo", ADA)


def messages_of(doc: Any) -> Any:
    return doc.get("messages", type=Array)


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def write_anything(doc: Any, name: str) -> None:
    if name == "chat":
        messages_of(doc).append(message("m", ADA.id))
    elif name == "scene":
        doc.get(MATERIALS, type=Map)["m"] = Map({"metallic": 1})
    else:
        type_word(doc)


def type_word(doc: Any) -> None:
    doc.get("t", type=Text).insert(0, "word ")


async def test_d7_many_who_open_at_once_get_one_document() -> None:
    space = await demo(engine_on(MemoryLog()))
    found = await asyncio.gather(*(space.open("scene") for _ in range(20)))
    assert len({id(document) for document in found}) == 1
    assert space.engine.open_documents == 1


async def test_d7_an_idle_document_is_evicted_and_comes_back_as_it_was() -> None:
    space = await demo(engine_on(MemoryLog()))
    await space.write("text:notes", ADA, Role.EDITOR, type_word)
    before = await space.open("text:notes")
    assert space.engine.evict_idle(0) == 1
    after = await space.open("text:notes")
    assert after is not before
    assert_same(after.replica, before.replica)
    assert after.position == before.position > START


async def test_d7_a_watched_document_stays() -> None:
    space = await demo(engine_on(MemoryLog()))
    document = await space.open("scene")
    watcher = Peer("ben", 8).join(document)
    assert space.engine.evict_idle(0) == 0
    document.subscribers.discard(watcher)
    assert space.engine.evict_idle(0) == 1


async def test_d7_a_document_with_an_op_on_its_way_stays() -> None:
    log = HeldLog()
    making = asyncio.ensure_future(demo(engine_on(log)))
    while not making.done():
        await log.commit()
    space = making.result()
    document = await space.open("scene")
    peer = Peer("ben", 8)
    peer.map(MATERIALS)["m"] = Map({"metallic": 1})
    receipt = peer.send(document)
    assert space.engine.evict_idle(0) == 0
    await log.commit()
    await document.drained()
    assert (receipt.settled, receipt.error) == (True, None)
    assert space.engine.evict_idle(0) == 1


async def test_d7_whoever_still_holds_an_evicted_document_cannot_write_with_it() -> None:
    space = await demo(engine_on(MemoryLog()))
    old = await space.open("text:notes", create_as=ADA)
    space.engine.evict_idle(0)
    peer = Peer("ben", 8)
    type_word(peer.doc)
    assert isinstance(peer.send(old).error, LogError)
    with pytest.raises(LogError, match="closed"):
        space.engine.pens(old)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is freed meanwhile is freed at once."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("name", ["chat", "scene", "text:notes"])
async def test_d7_an_evicted_document_is_freed_with_its_pens(name: str) -> None:
    space = await demo(engine_on(MemoryLog()))
    await space.write(name, ADA, Role.OWNER, lambda doc: write_anything(doc, name))
    document = await space.open(name)
    [pen] = space.engine.pens(document)._pens.values()
    kept = [ref(one) for one in (document.replica, document.replica.doc, pen, pen.doc)]
    del document, pen
    assert [one() is None for one in kept] == [False] * 4
    assert space.engine.evict_idle(0) == 1
    assert [one() is None for one in kept] == [True] * 4


@pytest.mark.usefixtures("no_collector")
async def test_d7_a_replica_that_was_read_once_is_freed() -> None:
    space = await demo(engine_on(MemoryLog()))
    await space.write("text:notes", ADA, Role.EDITOR, type_word)
    replica = await space.engine.replica(space, space.record.documents["text:notes"], 1)
    kept = ref(replica.doc)
    del replica
    assert kept() is None


@pytest.mark.usefixtures("no_collector")
async def test_d7_a_space_that_nobody_uses_is_forgotten_and_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "KEPT_SPACES", 2)
    engine = engine_on(MemoryLog())
    kept = {slug: ref(await engine.create_space("t", slug, ADA)) for slug in "abcd"}
    assert [slug for slug in "abcd" if kept[slug]() is not None] == ["c", "d"]
    used = await engine.space("t", "c")
    await used.write("text:notes", ADA, Role.EDITOR, type_word)
    for slug in "abd":
        await (await engine.space("t", slug)).name_profile(ADA, ADA.id, "Ada")
    assert await engine.space("t", "c") is used  # somebody holds it
    again = await engine.space("t", "a")
    assert (again.record.profiles, [*again.record.documents]) == ({ADA.id: "Ada"}, ["chat", "scene"])


@pytest.mark.usefixtures("no_collector")
async def test_d7_a_space_with_an_open_document_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "KEPT_SPACES", 1)
    engine = engine_on(MemoryLog())
    kept = ref(await demo(engine))
    await (await engine.space("t", "demo")).open("scene")
    await engine.create_space("t", "other", ADA)
    assert kept() is not None
    engine.evict_idle(0)
    assert kept() is None


async def test_d7_a_lost_document_that_nobody_opens_again_is_forgotten() -> None:
    log = HeldLog()
    making = asyncio.ensure_future(demo(engine_on(log)))
    while not making.done():
        await log.commit()
    space = making.result()
    document = await space.open("scene")
    peer = Peer("ben", 8)
    peer.map(MATERIALS)["m"] = Map({"metallic": 1})
    receipt = peer.send(document)
    log.fail()
    with pytest.raises(LogUnwritable):
        await receipt.wait()
    await asyncio.gather(*space.engine._tasks)
    assert (space.engine._live._open, space.engine._live._lost) == ({}, {})


@pytest.mark.parametrize("name", ["chat", "scene", "text:notes"])
async def test_d5_a_snapshot_and_the_tail_make_the_same_as_the_whole_log(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "AFTER", 1)
    log = await SqliteLog.open(tmp_path / "log")
    engine = engine_on(log, tmp_path / "snapshots")
    space = await demo(engine)

    def write(number: int) -> Any:
        def edit(doc: Any) -> None:
            if name == "chat":
                messages_of(doc).append(message(f"m{number}", "ada"))
                if number:
                    messages_of(doc)[0]["body"] = f"edit {number}"
            elif name == "scene":
                doc.get("materials", type=Map)[f"m{number}"] = Map({"metallic": 0.5})
                doc.get("materials", type=Map).pop(f"m{number - 2}", None)
            else:
                type_word(doc)
                del doc.get("t", type=Text)[2:3]

        return edit

    await space.open(name, create_as=ADA)
    for number in range(3):
        await space.write(name, ADA, Role.EDITOR, write(number))
    space.engine.evict_idle(0)
    await engine.keeper.settled()
    assert len(files(tmp_path / "snapshots")) == engine.keeper.done == 1
    for number in range(3, 6):
        await space.write(name, ADA, Role.EDITOR, write(number))
    live = (await space.open(name)).replica
    with_snapshot = await (await demo(engine_on(log, tmp_path / "snapshots"))).open(name)
    without = await (await demo(engine_on(log))).open(name)
    assert_same(live, with_snapshot.replica)
    assert_same(live, without.replica)
    await engine.close()


@pytest.mark.parametrize("harm", ["cut", "flipped", "another history"])
async def test_d6_a_snapshot_that_does_not_fit_is_ignored(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "AFTER", 1)
    async with engine_on(await SqliteLog.open(tmp_path / "log"), tmp_path / "snapshots") as engine:
        space = await demo(engine)
        await space.write("text:notes", ADA, Role.EDITOR, type_word)
        document = await space.open("text:notes")
        engine.evict_idle(0)
        await engine.keeper.settled()
        [path] = files(tmp_path / "snapshots")
        data = path.read_bytes()
        if harm == "cut":
            path.write_bytes(data[:40])
        elif harm == "flipped":
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        else:  # of the same length: the log lost its end, and went on
            stored = msgpack.unpackb(data[32:], strict_map_key=False) | {"event": b"e" * 16}
            body = msgpack.packb(stored)
            path.write_bytes(hashlib.blake2b(body, digest_size=32).digest() + body)
        again = await space.open("text:notes")
        assert_same(again.replica, document.replica)
        assert again.replica.last == (await engine._opener.event_at(document.stream, 1)).id  # type: ignore[union-attr]


async def test_d1_after_a_failed_commit_the_document_opens_from_the_log() -> None:
    class Failing(MemoryLog):
        fails = False

        def append(self, stream: str, events: Any, expected: int | None = None) -> Any:
            if self.fails:
                raise LogUnwritable("expected room on the disk, got none")
            return super().append(stream, events, expected)

    log = Failing()
    space = await demo(engine_on(log))
    await space.write("text:notes", ADA, Role.EDITOR, type_word)
    log.fails = True
    with pytest.raises(LogUnwritable):
        await space.write("text:notes", ADA, Role.EDITOR, type_word)
    log.fails = False
    document = await space.open("text:notes")
    assert document.replica.doc.get("t", type=Text).to_py() == "word "
    await space.write("text:notes", ADA, Role.EDITOR, type_word)
    assert document.replica.doc.get("t", type=Text).to_py() == "word word "


async def test_d1_a_lost_document_is_opened_again_when_nothing_of_it_is_on_its_way() -> None:
    log = HeldLog()
    making = asyncio.ensure_future(demo(engine_on(log)))
    while not making.done():
        await log.commit()
    space = making.result()
    opening = asyncio.ensure_future(space.open("text:notes", create_as=ADA))
    while not opening.done():
        await log.commit()
    document = opening.result()
    peer = Peer("ben", 8)
    type_word(peer.doc)
    peer.send(document)
    document._lose(LogError("something else"))
    again = asyncio.ensure_future(space.open("text:notes"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not again.done()
    await log.commit()
    assert (await again).replica.revision == 1


# --- D9 ----------------------------------------------------------------------------------------------------------


async def post(space: Space, name: str, id_: str, actor: Actor = ADA) -> None:
    await space.write(name, actor, Role.COMMENTER, lambda doc: messages_of(doc).append(message(id_, actor.id)))


async def stamps(space: Space) -> dict[str, int]:
    found: dict[str, int] = {}
    for epoch in space.record.documents["chat"].epochs:
        document = await space.open(f"chat@{epoch.number}")
        for one in plain(document.replica.shared("messages")):
            assert one["id"] not in found
            found[one["id"]] = one["stamp"][0]
    return found


async def settled(space: Space) -> None:
    while space.engine._tasks:
        await asyncio.gather(*space.engine._tasks)


async def test_d9_a_full_page_turns_and_late_posts_go_on_with_the_same_stamps() -> None:
    log = MemoryLog()
    space = await demo(engine_on(log, page=SMALL))
    watcher = Peer("ben", 8).join(await space.open("chat"))
    for number in range(3):
        await post(space, "chat", f"a{number}")
    await settled(space)
    assert watcher.successors == ["chat@2"]
    assert [epoch.number for epoch in space.record.documents["chat"].epochs] == [1, 2]
    await post(space, "chat", "b0")
    await post(space, "chat@1", "late")
    await post(space, "chat", "b1")
    assert await stamps(space) == {"a0": 1, "a1": 2, "a2": 3, "b0": 4, "late": 5, "b1": 6}
    again = await demo(engine_on(log, page=SMALL))
    await post(again, "chat@1", "later")
    await post(again, "chat", "b2")
    await settled(again)
    found = await stamps(again)
    assert (found["later"], found["b2"]) == (7, 8)
    assert sorted(found.values()) == list(range(1, 9))


class StubbornLog(MemoryLog):
    """A log in memory that takes nothing into the streams of spaces while `stubborn`."""

    stubborn = False

    def append(self, stream: str, events: Sequence[NewEvent], expected: int | None = None) -> Future[Appended]:
        if self.stubborn and stream.count("/") == 1:
            failed: Future[Appended] = asyncio.get_running_loop().create_future()
            failed.set_exception(LogUnwritable("expected room on the disk, got none"))
            return failed
        return super().append(stream, events, expected)


async def test_d9_a_page_that_could_not_be_turned_is_turned_behind_the_next_op() -> None:
    log = StubbornLog()
    space = await demo(engine_on(log, page=SMALL))
    watcher = Peer("ben", 8).join(await space.open("chat"))
    log.stubborn = True
    for number in range(4):
        await post(space, "chat", f"a{number}")
        await settled(space)
    assert space.record.documents["chat"].current == 1
    log.stubborn = False
    await post(space, "chat", "a4")
    await settled(space)
    assert space.record.documents["chat"].current == 2
    assert watcher.successors == ["chat@2"]


async def test_a_document_that_cannot_be_opened_is_noted_until_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    space = await demo(engine_on(MemoryLog()))
    await space.write("text:notes", ADA, Role.EDITOR, type_word)
    document = await space.open("text:notes")
    space.engine.evict_idle(0)
    with monkeypatch.context() as broken:
        broken.setattr(Replica, "replay", Broken.replay)
        with pytest.raises(LogDamaged):
            await space.open("text:notes")
    assert space.engine.unopenable == {document.stream: "position 9: expected a record, got none"}
    await space.open("text:notes")
    assert space.engine.unopenable == {}


class Broken:
    def replay(self, event: Event) -> None:
        raise LogDamaged("position 9", "a record", "none")


async def test_d9_a_page_turns_at_its_number_of_clients() -> None:
    space = await demo(engine_on(MemoryLog(), page=PageLimits(messages=100, clients=4)))
    for number in range(3):  # and the server itself
        await post(space, "chat", f"m{number}", Actor(f"actor{number}"))
    await settled(space)
    record = space.record.documents["chat"]
    assert record.current == 2
    first = await space.open("chat@1")
    assert record.before(2) == frozenset(first.replica.index.clients)
    assert len(record.before(2)) == 4


# --- pens --------------------------------------------------------------------------------------------------------


async def test_d4_a_pen_has_the_same_client_after_a_restart_and_goes_on_where_it_was() -> None:
    log = MemoryLog()
    for _ in range(2):
        space = await demo(engine_on(log))
        for _ in range(2):
            await space.write("text:notes", ADA, Role.EDITOR, type_word)
    document = await space.open("text:notes")
    assert len(document.replica.index.clients) == 1
    assert document.replica.doc.get("t", type=Text).to_py() == "word " * 4


async def test_a_pen_whose_op_was_refused_writes_on() -> None:
    space = await demo(engine_on(MemoryLog()))
    with pytest.raises(OpRefused, match="expected"):
        await space.write(
            "scene", ADA, Role.EDITOR, lambda doc: doc.get("materials", type=Map).update({"m": Map({"x": 1})})
        )
    with pytest.raises(ZeroDivisionError):
        await space.write("scene", ADA, Role.EDITOR, lambda doc: 1 / 0)
    await space.write(
        "scene", ADA, Role.EDITOR, lambda doc: doc.get("materials", type=Map).update({"m": Map({"metallic": 1})})
    )
    document = await space.open("scene")
    assert plain(document.replica.shared("materials")) == {"m": {"metallic": 1}}


async def test_pens_of_one_actor_write_at_the_same_time() -> None:
    space = await demo(engine_on(MemoryLog()))
    await asyncio.gather(*(post(space, "chat", f"m{number}") for number in range(30)))
    assert sorted((await stamps(space)).values()) == list(range(1, 31))


async def test_a_pen_never_writes_under_an_id_that_somebody_took() -> None:
    space = await demo(engine_on(MemoryLog()))
    document = await space.open("text:notes", create_as=ADA)
    taken = space.engine.pens(document)._client(("ada", ""))
    assert document.replica.claims.announce(taken, "mallory")
    await space.write("text:notes", ADA, Role.EDITOR, type_word)
    assert document.replica.doc.get("t", type=Text).to_py() == "word "
    assert document.replica.claims.owner(taken) == "mallory"


def test_the_pages_limits_are_those_of_the_design() -> None:
    assert PageLimits() == PageLimits(messages=2_000, clients=1_000)
    assert CHAT.name == "chat"


async def test_the_secret_of_the_node_is_nobody_elses_to_read_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes, rename = list[int](), Path.replace

    def renamed(path: Path, target: Path) -> None:
        if target.name == "node.secret":
            modes.append(stat.S_IMODE(path.stat().st_mode))
        rename(path, target)

    monkeypatch.setattr(Path, "replace", renamed)
    async with await Engine.open(tmp_path):
        assert modes == [0o600]
        assert stat.S_IMODE((tmp_path / "node.secret").stat().st_mode) == 0o600

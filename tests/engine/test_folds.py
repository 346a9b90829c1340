"""Snapshots: made in a worker, compared before use, at any time unnecessary (D6); long histories fold by apply (D8)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pycrdt import Doc, Map, Text
from tests.support.live import SERVER_CLIENT, Peer, assert_same, node
from tests.support.poison import HANG, STREAM, edited, poison, word

from maquette.engine import keeping, opening
from maquette.engine.engine import Engine
from maquette.engine.errors import DocumentFrozen
from maquette.engine.events import Actor
from maquette.engine.folds import Folds, differs, fold
from maquette.engine.kinds.scene import NODES, SCENE
from maquette.engine.kinds.text import TEXT
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.pulse import Busy, Pulse, Work, shared_memory
from maquette.engine.replica import Replica
from maquette.engine.roles import Role
from maquette.engine.snapshots import Kept, SnapshotStore
from maquette.engine.space import Space
from maquette.engine.update import read_update
from maquette.engine.workers import Budget, Progress

ADA = Actor("ada")
NOTES = "text:notes"


def type_word(doc: Any) -> None:
    doc.get("t", type=Text).insert(0, "word ")


@pytest.fixture
async def space(tmp_path: Path) -> AsyncIterator[Space]:
    async with await Engine.open(tmp_path) as engine:
        yield await engine.create_space("t", "demo", ADA)


def snapshots(space: Space) -> list[Path]:
    folder: Path = space.engine.log.folder / "snapshots"  # type: ignore[attr-defined]  # the log is on disk here
    return sorted(folder.iterdir()) if folder.exists() else []


async def test_d6_a_document_that_stays_open_gets_snapshots(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "EVERY", 5)
    for _ in range(7):
        await space.write(NOTES, ADA, Role.EDITOR, type_word)
    await space.engine.keeper.settled()
    document = await space.open(NOTES)
    assert document.error is None
    [path] = snapshots(space)
    store = SnapshotStore(path.parent)
    assert store.load(document.stream, TEXT, 1, 99).revision >= 5


async def test_d6_the_live_replica_never_writes_its_state_for_a_snapshot(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "AFTER", 1)
    monkeypatch.setattr(SnapshotStore, "save", lambda *_: pytest.fail("expected a worker to write the snapshot"))
    await space.write(NOTES, ADA, Role.EDITOR, type_word)
    space.engine.evict_idle(0)
    await space.engine.keeper.settled()
    assert len(snapshots(space)) == 1


async def test_g4_while_a_snapshot_is_loaded_the_supervisor_can_see_it(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "AFTER", 1)
    await space.write(NOTES, ADA, Role.EDITOR, type_word)
    space.engine.evict_idle(0)
    await space.engine.keeper.settled()
    space.engine.pulse = Pulse(shared_memory())
    seen, fill = list[Busy | None](), Kept.fill

    def watched(kept: Kept, replica: Replica) -> Iterator[None]:
        for step in fill(kept, replica):
            seen.append(space.engine.pulse.busy())  # type: ignore[union-attr]  # set above
            yield step

    monkeypatch.setattr(Kept, "fill", watched)
    document = await space.open(NOTES)
    assert {(busy.work, busy.stream, busy.revision) for busy in seen if busy} == {(Work.LOADING, document.stream, 1)}
    assert space.engine.pulse.busy() is None


async def test_d6_snapshots_are_deletable_at_any_time(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "AFTER", 1)
    for turn in range(3):
        await space.write(NOTES, ADA, Role.EDITOR, type_word)
        if turn == 1:
            for path in snapshots(space):
                path.unlink()
        space.engine.evict_idle(0)
        await space.engine.keeper.settled()
    text = (await space.open(NOTES)).replica.doc.get("t", type=Text)
    assert str(text) == "word " * 3


async def test_d6_snapshots_that_the_end_leaves_no_time_for_are_no_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeping, "AFTER", 1)
    monkeypatch.setattr("maquette.engine.engine.CLOSE_SECONDS", 0.01)
    async with await Engine.open(tmp_path) as engine:
        space = await engine.create_space("t", "demo", ADA)
        for number in range(5):  # more than there are workers
            await space.write(f"text:n{number}", ADA, Role.EDITOR, type_word)
    assert not [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert engine.keeper.done < 5


async def test_d6_a_live_replica_that_differs_from_the_log_is_dropped_and_built_again(
    space: Space, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeping, "EVERY", 3)
    await space.write(NOTES, ADA, Role.EDITOR, type_word)
    document = await space.open(NOTES)
    ben = Peer("ben", 8).join(document)
    document.replica.index._delete(document.replica.index.clients[0], [(0, 1)])  # what no op deleted
    for _ in range(2):
        await space.write(NOTES, ADA, Role.EDITOR, type_word)
    await space.engine.keeper.settled()
    assert "differs from a replay" in caplog.text
    assert [type(error).__name__ for error in ben.errors] == ["Disagreement"]
    assert snapshots(space) == []
    again = await space.open(NOTES)
    assert again is not document
    assert not again.replica.index.is_deleted((again.replica.index.clients[0], 0))
    await space.write(NOTES, ADA, Role.EDITOR, type_word)


def twins() -> tuple[Replica, Replica]:
    author = Peer("ann", 5)
    author.map(NODES)["n"] = node(extras={"a": 1, "b": 2, "c": 3})
    author.map(NODES)["m"] = node("n")
    del author.map(NODES)["m"]
    made = Replica(SCENE, SERVER_CLIENT), Replica(SCENE, SERVER_CLIENT)
    for replica in made:
        replica.adopt(read_update(author.doc.get_update()))
    return made


SPOILED: dict[str, Callable[[Replica], object]] = {
    "revision": lambda one: setattr(one, "last", UUID(int=1)),
    "index": lambda one: one.index._delete(5, [(3, 1)]),
    "claims": lambda one: one.claims.announce(5, "eve"),
    "memory": lambda one: one.memory.tree.trash("n"),  # type: ignore[attr-defined]  # of a scene
    "state": lambda one: one.doc.get(NODES, type=Map)["n"].__setitem__("name", "x"),
}


@pytest.mark.parametrize("part", SPOILED)
def test_d6_whatever_part_of_a_snapshot_is_another_is_noticed(part: str) -> None:
    one, other = twins()
    assert differs(one, other) is None
    SPOILED[part](other)
    assert differs(one, other) == part


async def test_d6_a_long_tail_is_folded_by_a_worker_before_the_document_opens(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(6):
        await space.write(NOTES, ADA, Role.EDITOR, type_word)
    before = await space.open(NOTES)
    space.engine.evict_idle(0)
    monkeypatch.setattr(opening, "LONG_EVENTS", 5)
    again = await space.open(NOTES)
    assert (space.engine.keeper.done, len(snapshots(space))) == (1, 1)
    assert_same(again.replica, before.replica)


async def test_d6_without_workers_a_long_tail_is_replayed(
    space: Space, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(6):
        await space.write(NOTES, ADA, Role.EDITOR, type_word)
    space.engine.evict_idle(0)
    monkeypatch.setattr(opening, "LONG_EVENTS", 5)
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    assert str((await space.open(NOTES)).replica.doc.get("t", type=Text)) == "word " * 6
    assert "replayed without a snapshot" in caplog.text


async def test_g4_what_a_worker_dies_of_freezes_its_document_alone_before_that_revision(
    space: Space, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An update that hangs whoever reads it is in the log: the worker hangs, and nobody else."""
    monkeypatch.setattr(opening, "LONG_EVENTS", 3)
    monkeypatch.setattr(Folds, "_budget", lambda *_: Budget(1, 1 << 30, 60))
    caplog.set_level(logging.WARNING)
    await space.open(NOTES, create_as=ADA)
    stream = space.record.document_stream(space.record.documents[NOTES], 1)
    space.engine.evict_idle(0)
    await poison(space.engine.log, stream, word(1, "one"), word(2, "two"), HANG, word(3, "three"))
    document = await space.open(NOTES)
    assert isinstance(document.frozen, DocumentFrozen)
    assert (document.frozen.before, document.replica.revision) == (3, 2)
    assert "processor time" in str(document.frozen)
    assert document.replica.doc.get("m", type=Map).to_py() == {"one": "one", "two": "two"}
    await space.write("text:other", ADA, Role.EDITOR, type_word)
    space.engine.evict_idle(0)
    assert (await space.open(NOTES)).frozen is not None


@pytest.mark.slow
async def test_d8_folding_twice_the_history_takes_about_twice_the_time(tmp_path: Path) -> None:
    """`merge_updates` takes four times as long; four times the history tells more than noise can hide."""
    taken = []
    for events in (2_000, 8_000):
        folder = tmp_path / str(events)
        log = await SqliteLog.open(folder)
        doc: Doc[Any] = Doc(client_id=7)
        text = doc.get("m", type=Map)
        made: list[bytes] = []
        doc.observe(lambda event, made=made: made.append(event.update))
        for number in range(events):
            text[f"k{number % 500}"] = number
        for update in made[:-1]:
            log.append(STREAM, [edited(update)])
        await log.append(STREAM, [edited(made[-1])])
        await log.close()
        given = {"folder": str(folder), "snapshots": str(folder), "stream": STREAM, "kind": "text", "server": 1}
        begun = time.process_time()
        await asyncio.to_thread(fold, given | {"until": events, "claims": None}, Progress())
        taken.append(time.process_time() - begun)
    print(f"2,000 events fold in {taken[0]:.2f} s, 8,000 in {taken[1]:.2f} s")  # noqa: T201  (the figure of D8)
    assert taken[1] < 8 * taken[0]

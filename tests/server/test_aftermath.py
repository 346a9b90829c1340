"""What comes of incidents: events in the space's stream, before anybody is served (G4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pycrdt import Text
from tests.support.live import HeldLog, Peer

from maquette.engine.assets import MemoryAssets
from maquette.engine.engine import Engine
from maquette.engine.errors import LogUnwritable
from maquette.engine.events import Actor, Event
from maquette.engine.pulse import Busy, Work, digest_of
from maquette.engine.roles import Role
from maquette.engine.snapshots import SnapshotStore
from maquette.engine.space import Space
from maquette.engine.testing.log_contract import collected
from maquette.projections.guard import Hung
from maquette.server.aftermath import settle
from maquette.server.incidents import FOLDER, report

ADA = Actor("ada")
NOTES = "text:notes"
WORDS = 8


def word(text: str) -> Callable[[Any], None]:
    def edit(doc: Any) -> None:
        doc.get("t", type=Text).insert(0, f"{text} ")

    return edit


async def written(engine: Engine) -> tuple[Space, Busy]:
    """A space whose notes have eight revisions, and what somebody was busy with at the last of them."""
    space = await engine.create_space("t", "demo", ADA)
    for number in range(WORDS):
        await space.write(NOTES, ADA, Role.EDITOR, word(str(number)))
    stream = space.record.document_stream(space.record.documents[NOTES], 1)
    return space, Busy(Work.READING, stream, WORDS, 100)


def judged(busy: Busy, update: bytes, actor: str) -> Busy:
    return replace(busy, work=Work.JUDGING, size=len(update), actor=actor, digest=digest_of(update))


async def said(space: Space) -> list[Event]:
    events = await collected(space.engine.log.read(space.record.stream))
    return [event for event in events if event.type in ("document.frozen", "update.quarantined")]


async def shown(space: Space) -> int:
    """Up to which revision the notes are shown."""
    return (await space.open(NOTES)).replica.revision


def files(folder: Path) -> list[Path]:
    return list((folder / FOLDER).iterdir())


async def test_g4_an_unlogged_update_is_denied_when_it_comes_again_and_others_are_taken(tmp_path: Path) -> None:
    async with await Engine.open(tmp_path) as engine:
        space, busy = await written(engine)
        peer = Peer("mal", 9).join(await space.open(NOTES))
        word("poison")(peer.doc)
        poison = peer.made.pop()
        report(tmp_path, "it hung", 1, judged(busy, poison, "mal"))
        await settle(engine, tmp_path)
        assert files(tmp_path) == []
        document = await space.open(NOTES)
        denied = peer.submit(document, poison).denied
        assert denied is not None
        assert "one that stopped the server before" in denied
        other = Peer("ben", 8).join(document)
        word("hello")(other.doc)
        assert other.send(document).denied is None
    async with await Engine.open(tmp_path) as engine:
        space = await engine.space("t", "demo")
        assert peer.submit(await space.open(NOTES), poison).denied == denied
        await space.thaw(ADA, space.record.documents[NOTES], 1)
        assert peer.submit(await space.open(NOTES), poison).denied is None


async def test_g4_updates_of_two_people_cast_suspicion_on_the_document(tmp_path: Path) -> None:
    async with await Engine.open(tmp_path) as engine:
        space, busy = await written(engine)
        for actor in ("ann", "ben"):
            assert NOTES not in [name for name, record in space.record.documents.items() if record.frozen]
            report(tmp_path, "it hung", 1, judged(busy, actor.encode(), actor))
            await settle(engine, tmp_path)
        assert await shown(space) == WORDS
        assert (await space.open(NOTES)).frozen is not None


async def test_g4_a_revision_that_was_replayed_freezes_before_it(tmp_path: Path) -> None:
    async with await Engine.open(tmp_path) as engine:
        space, busy = await written(engine)
        report(tmp_path, "it was ended by SIGSEGV", 1, replace(busy, work=Work.REPLAYING, revision=5))
        await settle(engine, tmp_path)
        assert await shown(space) == 4
        [frozen] = await said(space)
        assert "the replay of revision 5" in frozen.data["reason"]
        assert "SIGSEGV" in frozen.data["reason"]


async def test_g4_a_reading_freezes_at_the_second_time_and_then_steps_back(tmp_path: Path) -> None:
    async with await Engine.open(tmp_path) as engine:
        space, busy = await written(engine)
        steps = []
        for times in (1, 2, 2, 2, 2):
            report(tmp_path, "it hung", times, replace(busy, revision=await shown(space)))
            await settle(engine, tmp_path)
            steps.append(await shown(space))
        assert steps == [8, 7, 5, 1, 0]


async def test_g4_a_snapshot_that_harms_is_discarded(tmp_path: Path) -> None:
    async with await Engine.open(tmp_path) as engine:
        space, busy = await written(engine)
        engine._snapshots.save(busy.stream, (await space.open(NOTES)).replica)
        engine._snapshots.accept(busy.stream)
        assert list((tmp_path / "snapshots").iterdir())
        report(tmp_path, "it hung", 1, replace(busy, work=Work.LOADING))
        await settle(engine, tmp_path)
        assert not list((tmp_path / "snapshots").iterdir())
        assert await said(space) == []
        assert await shown(space) == WORDS


async def test_g4_an_incident_is_said_once_also_after_a_kill_in_between(tmp_path: Path) -> None:
    async with await Engine.open(tmp_path) as engine:
        _, busy = await written(engine)
        report(tmp_path, "it hung", 1, replace(busy, work=Work.REPLAYING))
        report(tmp_path, "it hung", 1, judged(busy, b"x", "ann"))
        kept = {path: path.read_bytes() for path in files(tmp_path)}
        await settle(engine, tmp_path)
        for path, data in kept.items():
            path.write_bytes(data)
    async with await Engine.open(tmp_path) as engine:
        await settle(engine, tmp_path)
        assert len(await said(await engine.space("t", "demo"))) == 2


async def test_g4_an_incident_of_nothing_that_is_there_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with await Engine.open(tmp_path) as engine:
        space, busy = await written(engine)
        for stream in ("t", "t/none/chat@1", f"{space.record.stream}/none@1", f"{space.record.stream}/chat@9", ""):
            report(tmp_path, "it hung", 9, replace(busy, stream=stream))
        (tmp_path / FOLDER / "x.json").write_text("{")
        await settle(engine, tmp_path)
        assert files(tmp_path) == []
        assert await said(space) == []
        assert caplog.text.count("is left out") == 6


async def test_g4_what_cannot_be_stored_stays_for_the_next_start(tmp_path: Path) -> None:
    async with await Engine.open() as engine:
        _, busy = await written(engine)
        log = engine.log
        report(tmp_path, "it hung", 1, replace(busy, work=Work.REPLAYING))
        full = HeldLog()
        full.failing = LogUnwritable("expected room on the disk, got none")
        full.read, full.revision = log.read, log.revision  # type: ignore[method-assign]
        await settle(Engine(full, MemoryAssets(), SnapshotStore(None), node=b"n" * 16), tmp_path)
        assert len(files(tmp_path)) == 1
        await settle(engine, tmp_path)
        assert files(tmp_path) == []


async def test_v4_what_hung_in_a_projection_is_told_to_it_and_the_document_stays(tmp_path: Path) -> None:
    async with await Engine.open(tmp_path) as engine:
        space, busy = await written(engine)
        report(tmp_path, "it hung", 1, Busy(Work.FOLDING, busy.stream, 3, 1, by="tally"))
        report(tmp_path, "it hung", 1, Busy(Work.CONVERTING, space.record.stream, 0, 0, by="scene"))
        assert await settle(engine, tmp_path) == [Hung("tally", busy.stream, 3, 1)]
        assert files(tmp_path) == []
        assert await said(space) == []
        assert await shown(space) == WORDS

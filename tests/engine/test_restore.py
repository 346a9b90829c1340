"""The epochs with which a restored log goes on: what they keep of those before (D9)."""

from __future__ import annotations

import pytest
from pycrdt import Map
from tests.engine.test_rewrite import ADA, BEN, content, demo, engine_on, furnished

from maquette.engine.errors import LogUnwritable, OpRefused
from maquette.engine.kinds.scene import NODES
from maquette.engine.logs.memory import MemoryLog
from maquette.engine.roles import Role
from maquette.engine.space import Space


async def restored(space: Space) -> Space:
    await space.reopen_restored("mark")
    assert space.record.documents["scene"].current == 2
    return space


async def test_d9_who_made_a_node_may_take_it_back_and_nobody_else_behind_a_restore() -> None:
    space = await restored(await furnished(await demo(engine_on(MemoryLog()))))
    with pytest.raises(OpRefused, match="somebody else's record 'room'"):
        await space.write("scene", BEN, Role.EDITOR, lambda doc: doc.get(NODES, type=Map).pop("room"))
    await space.write("scene", BEN, Role.EDITOR, lambda doc: doc.get(NODES, type=Map).pop("table"))


async def test_d9_a_lock_stays_its_lockers_through_a_restore() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    await space.write_scene(BEN, Role.EDITOR, lambda scene: scene.change("room", locked=True))
    await restored(space)
    with pytest.raises(OpRefused, match="'ben', who locked it"):
        await space.write_scene(ADA, Role.EDITOR, lambda scene: scene.change("room", locked=False))
    await space.write_scene(BEN, Role.EDITOR, lambda scene: scene.change("room", locked=False))


async def test_d9_a_restored_scene_shows_the_same_and_takes_nothing_late() -> None:
    space = await furnished(await demo(engine_on(MemoryLog())))
    before = content((await space.open("scene")).replica)
    await restored(space)
    assert content((await space.open("scene")).replica) == before
    assert space.record.documents["scene"].over == []
    assert list(space.record.documents["scene"].closed) == [1]


async def test_d9_a_death_in_the_middle_of_a_restore_loses_nothing() -> None:
    log = MemoryLog()
    space = await furnished(await demo(engine_on(log)))
    before = content((await space.open("scene")).replica)
    stream, append = space.record.stream, log.append

    def dying(to: str, events: object, expected: int | None = None) -> object:
        if to == stream:
            raise LogUnwritable("expected to live on, died")
        return append(to, events, expected)  # type: ignore[arg-type]  # as they came

    log.append = dying  # type: ignore[method-assign,assignment]  # the moment of death
    with pytest.raises(LogUnwritable):
        await space.reopen_restored("mark")
    log.append = append  # type: ignore[method-assign]  # the next process
    space = await engine_on(log).space("t", "demo")
    await space.reopen_restored("mark")
    record = space.record.documents["scene"]
    assert content((await space.open("scene")).replica) == before
    assert record.over == []
    assert set(record.closed) == set(range(1, record.current))

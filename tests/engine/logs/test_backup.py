"""Copies of a log that is being written."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from tests.support.logs import everything, fill, filled, names, opened, tamper

from maquette.engine.assets import AssetStore
from maquette.engine.errors import InvalidInput, LogDamaged, LogError, LogLost
from maquette.engine.logs import backup as backup_module
from maquette.engine.logs.backup import backup, restored_mark
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.logs.verify import verify
from maquette.engine.testing.log_contract import collected, note


async def test_a_backup_made_while_the_log_is_written_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_module, "PAGES_AT_ONCE", 4)  # many steps, with commits between them

    async def write(log: SqliteLog) -> None:
        while True:
            await log.append("busy", [note(update=bytes(3000))])

    async with opened(tmp_path / "log") as log:
        await log.append("a", [note(update=bytes(20_000)) for _ in range(500)])
        writing = asyncio.ensure_future(write(log))
        before = await log.head()
        head = await backup(tmp_path / "log", tmp_path / "copy")
        after = await log.head()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        events = await collected(log.read_all())
    assert before <= head <= after
    report = await verify(tmp_path / "copy")
    assert (report.problems, report.head) == ((), head)
    async with opened(tmp_path / "copy") as copy:
        assert await everything(copy) == events[:head]
        assert (await copy.append("a", [note()])).position == head + 1


async def test_a_backup_takes_the_assets_along(tmp_path: Path) -> None:
    await filled(tmp_path / "log", 5)
    store = AssetStore(tmp_path / "log" / "assets")
    names = [store.put(bytes([n]) * 1000) for n in range(5)]
    (tmp_path / "log" / "assets" / ".incoming-x").write_bytes(b"half an upload")
    await backup(tmp_path / "log", tmp_path / "copy")
    copy = AssetStore(tmp_path / "copy" / "assets")
    assert [copy.get(name) for name in names] == [bytes([n]) * 1000 for n in range(5)]
    assert not (tmp_path / "copy" / "assets" / ".incoming-x").exists()


async def test_a_backup_says_that_it_is_one_and_which(tmp_path: Path) -> None:
    await filled(tmp_path / "log", 5)
    for name in ("one", "two"):
        await backup(tmp_path / "log", tmp_path / name)
    marks = [restored_mark(tmp_path / name) for name in ("log", "one", "two")]
    assert marks[0] is None
    assert marks[1]
    assert marks[1] != marks[2]
    (tmp_path / "two" / "RESTORED").write_text("{")
    with pytest.raises(LogDamaged, match="RESTORED"):
        restored_mark(tmp_path / "two")


async def test_a_backup_of_an_open_log_goes_into_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    async with opened(tmp_path / "log") as log:
        await fill(log, 5)
        assert await backup(log, tmp_path / "copy") == 5
    mode = (tmp_path / "copy").stat().st_mode
    assert stat.S_IMODE(mode) == stat.S_IMODE((tmp_path / "log").stat().st_mode)


@pytest.mark.parametrize("kind", ["folder", "file", "itself"])
async def test_a_backup_overwrites_nothing(tmp_path: Path, kind: str) -> None:
    await filled(tmp_path / "log", 5)
    target = tmp_path / ("log" if kind == "itself" else "copy")
    if kind == "folder":
        target.mkdir()
        (target / "theirs").write_text("x")
    elif kind == "file":
        target.write_text("x")
    with pytest.raises(InvalidInput, match="expected nothing or an empty folder"):
        await backup(tmp_path / "log", target)
    assert names(tmp_path) == sorted({"log", target.name})


async def test_a_backup_that_fails_leaves_nothing_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(tmp_path / "log", 5)
    monkeypatch.setattr(backup_module, "_mark", lambda head: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await backup(tmp_path / "log", tmp_path / "copy")
    assert names(tmp_path) == ["log"]


async def test_a_damaged_log_is_not_backed_up_as_if_it_were_whole(tmp_path: Path) -> None:
    await filled(tmp_path / "log", 5)
    tamper(tmp_path / "log", "DELETE FROM events WHERE position = 5")
    with pytest.raises(LogLost):
        await backup(tmp_path / "log", tmp_path / "copy")
    with pytest.raises(LogError, match="no such file"):
        await backup(tmp_path / "nowhere", tmp_path / "copy")
    assert names(tmp_path) == ["log"]


async def test_a_backup_tells_how_far_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as log:
        await log.append("a", [note(update=bytes(20_000)) for _ in range(700)])
    AssetStore(tmp_path / "log" / "assets").put(b"x")
    steps: list[tuple[str, int, int]] = []
    await backup(tmp_path / "log", tmp_path / "copy", lambda *step: steps.append(step))
    assert len([step for step in steps if step[0] == "database"]) > 2
    assert steps[-1] == ("assets", 1, 1)


async def test_a_backup_that_is_given_up_cleans_up(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as log:
        await log.append("a", [note(update=bytes(20_000)) for _ in range(700)])
    begun = asyncio.Event()
    copying = asyncio.ensure_future(backup(tmp_path / "log", tmp_path / "copy", lambda *step: begun.set()))
    await begun.wait()
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert not (tmp_path / "copy").exists()

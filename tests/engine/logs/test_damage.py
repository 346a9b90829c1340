"""A log that is not as it was written says so, and where (L6)."""

from __future__ import annotations

import logging
import random
import shutil
from pathlib import Path

import pytest
from tests.support.logs import copy_running, everything, fill, filled, flip, opened, opened_readonly, tamper

from maquette.engine.errors import LogDamaged, LogError, LogLost
from maquette.engine.events import Event
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.testing.log_contract import collected, note


async def test_l6_a_flipped_bit_in_the_wal_loses_nothing_silently(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as log:
        await fill(log, 100)
        whole = copy_running(tmp_path / "log", tmp_path / "whole")
    size = (whole / "log.sqlite-wal").stat().st_size
    flip(whole / "log.sqlite-wal", size // 2)
    damaged = (whole / "log.sqlite-wal").read_bytes()
    with pytest.raises(LogLost) as caught:
        await SqliteLog.open(whole)
    assert (whole / "log.sqlite-wal").read_bytes() == damaged  # given up by nobody yet
    assert caught.value.known == 100
    assert 0 < caught.value.found < 100
    with pytest.raises(LogLost, match="--accept-loss"):
        await SqliteLog.open_readonly(whole)
    flip(whole / "log.sqlite-wal", size // 2)  # as a better copy of the file would
    async with opened(whole) as log:
        assert len(await everything(log)) == 100


async def test_l6_no_flipped_bit_anywhere_in_the_wal_goes_unseen(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as log:
        await fill(log, 30)
        whole = copy_running(tmp_path / "log", tmp_path / "whole")
        events = await collected(log.read_all())
    size, dice = (whole / "log.sqlite-wal").stat().st_size, random.Random(6)
    seen = 0
    for n in range(60):
        copy = copy_running(whole, tmp_path / str(n))
        flip(copy / "log.sqlite-wal", dice.randrange(size), dice.randrange(8))
        seen += await says_so_or_holds(copy, events)
    assert seen > 50


async def test_l6_no_flipped_bit_anywhere_in_the_database_goes_unseen(tmp_path: Path) -> None:
    events = await filled(tmp_path / "log", 150)
    size, dice = (tmp_path / "log" / "log.sqlite").stat().st_size, random.Random(6)
    seen = 0
    for n in range(200):
        copy = copy_running(tmp_path / "log", tmp_path / str(n))
        flip(copy / "log.sqlite", dice.randrange(size), dice.randrange(8))
        seen += await says_so_or_holds(copy, events)
    assert seen > 50


@pytest.mark.parametrize(("byte", "bit"), [(3314, 7), (12098, 3)], ids=["the schema's text", "the index of names"])
async def test_l6_a_bit_that_went_unseen_once(tmp_path: Path, byte: int, bit: int) -> None:
    events = await filled(tmp_path, 200)
    flip(tmp_path / "log.sqlite", byte, bit)
    assert await says_so_or_holds(tmp_path, events)


async def says_so_or_holds(folder: Path, events: list[Event]) -> bool:
    """Whether the log says that it is damaged; if it does not, it must hold all that it held."""
    try:
        async with opened(folder) as log:
            assert await everything(log) == events
    except LogError:
        return True
    return False


@pytest.mark.parametrize("part", [0.0, 0.02, 0.3, 0.6, 0.99])
async def test_l6_a_database_cut_short_does_not_pass_for_a_whole_one(tmp_path: Path, part: float) -> None:
    await filled(tmp_path)
    path = tmp_path / "log.sqlite"
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * part))
    with pytest.raises((LogDamaged, LogLost), match=r"log\.sqlite"):
        async with opened(tmp_path) as log:
            await everything(log)


BLOBS = ("data", "actor", "digest", "salt", "chain", "id")


@pytest.mark.parametrize(
    "change",
    [
        "time = time + 1",
        "checksum = checksum + 1",
        "schema = schema + 1",
        "type = type || 'x'",
        *(
            f"{column} = CAST({column} || x'00' AS BLOB)"
            for column in ("data", "actor", "digest", "salt", "chain", "id")
        ),
    ],
)
async def test_l6_an_altered_record_is_named_when_it_is_read(tmp_path: Path, change: str) -> None:
    await filled(tmp_path, 30)
    tamper(tmp_path, f"UPDATE events SET {change} WHERE position = 10")
    async with opened(tmp_path) as log:
        with pytest.raises(LogDamaged, match=r"stream 'tenant/space/document2@1', revision 2, position 10: expected"):
            await collected(log.read_all())
        with pytest.raises(LogDamaged, match="position 10"):
            await collected(log.read("tenant/space/document2@1", backwards=True))
        assert len(await collected(log.read("tenant/space/document3@1"))) == 4  # what is whole can be read


async def test_l6_a_missing_record_is_named(tmp_path: Path) -> None:
    await filled(tmp_path, 30)
    tamper(tmp_path, "DELETE FROM events WHERE position = 10")
    async with opened(tmp_path) as log:
        with pytest.raises(LogDamaged, match="position 10: expected a record, got the one at position 11"):
            await collected(log.read_all())
        with pytest.raises(LogDamaged, match="document2@1', revision 2: expected a record"):
            await collected(log.read("tenant/space/document2@1"))


async def test_l6_a_stream_that_lost_its_last_record_is_named(tmp_path: Path) -> None:
    await filled(tmp_path, 30)
    tamper(tmp_path, "DELETE FROM events WHERE position = 24")
    async with opened(tmp_path) as log:
        with pytest.raises(LogDamaged, match="document2@1', revision 4: expected a record, got none"):
            await collected(log.read("tenant/space/document2@1"))


async def test_l6_a_lost_end_is_counted(tmp_path: Path) -> None:
    await filled(tmp_path, 30)
    tamper(tmp_path, "DELETE FROM events WHERE position > 27")
    with pytest.raises(LogLost) as caught:
        await SqliteLog.open(tmp_path)
    assert (caught.value.known, caught.value.found) == (30, 27)


async def test_l6_a_renamed_stream_is_named(tmp_path: Path) -> None:
    await filled(tmp_path, 30)
    tamper(tmp_path, "UPDATE streams SET name = 'x' WHERE id = 1")
    async with opened(tmp_path) as log:
        with pytest.raises(LogDamaged, match="stream 'x'"):
            await collected(log.read("x"))
        with pytest.raises(LogDamaged, match="stream 'x', revision 1, position 1"):
            await collected(log.read_all())


async def test_l6_a_rewritten_end_does_not_fit_its_witness(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as log:
        await fill(log, 10)
        copy_running(tmp_path / "log", tmp_path / "other")
        await log.append("a", [note("the true one")])
    async with opened(tmp_path / "other") as log:
        await log.append("a", [note("the forged one")])
    shutil.copyfile(tmp_path / "other" / "log.sqlite", tmp_path / "log" / "log.sqlite")
    with pytest.raises(LogDamaged, match="position 11: expected the witness's chain"):
        await SqliteLog.open(tmp_path / "log")


async def test_l6_a_witness_that_lags_is_allowed_and_the_tail_behind_it_checked(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as log:
        await fill(log, 10)
        old = (tmp_path / "log" / "log.witness").read_bytes()
        await fill(log, 10)
    (tmp_path / "log" / "log.witness").write_bytes(old)
    copy = copy_running(tmp_path / "log", tmp_path / "copy")
    async with opened(tmp_path / "log") as log:
        assert len(await everything(log)) == 20
    tamper(copy, "UPDATE events SET data = zeroblob(length(data)) WHERE position = 15")
    with pytest.raises(LogDamaged, match="position 15"):
        await SqliteLog.open(copy)


async def test_l6_loss_can_be_accepted_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(tmp_path / "log") as log:
        await fill(log, 10)
        old = copy_running(tmp_path / "log", tmp_path / "old")
        await fill(log, 10)
    shutil.copyfile(tmp_path / "log" / "log.witness", old / "log.witness")
    with pytest.raises(LogLost, match=r"10 position\(s\) are lost"):
        await SqliteLog.open(old)
    with caplog.at_level(logging.WARNING):
        async with opened(old, accept_loss=True) as log:
            assert (await log.append("a", [note("on")])).position == 11
    assert "positions 11 to 20 are given up" in caplog.text
    async with opened(old) as log:
        assert len(await everything(log)) == 11


async def test_l6_a_missing_database_beside_its_witness_is_a_loss(tmp_path: Path) -> None:
    await filled(tmp_path, 10)
    (tmp_path / "log.sqlite").unlink()
    for _ in range(2):
        with pytest.raises(LogLost) as caught:
            await SqliteLog.open(tmp_path)
        assert (caught.value.known, caught.value.found) == (10, 0)


@pytest.mark.parametrize("content", [None, b"", b"\0" * 1024], ids=["missing", "empty", "zeroed"])
async def test_l6_a_log_without_its_witness_opens_only_by_word(tmp_path: Path, content: bytes | None) -> None:
    await filled(tmp_path, 10)
    (tmp_path / "log.witness").unlink()
    if content is not None:
        (tmp_path / "log.witness").write_bytes(content)
    with pytest.raises(LogDamaged, match=r"log\.witness: expected"):
        await SqliteLog.open(tmp_path)
    async with opened(tmp_path, accept_loss=True) as log:
        assert len(await everything(log)) == 10
    async with opened_readonly(tmp_path) as log:
        assert len(await everything(log)) == 10


@pytest.mark.parametrize("slot", [0, 1])
async def test_l6_one_damaged_slot_of_the_witness_does_no_harm(tmp_path: Path, slot: int) -> None:
    await filled(tmp_path, 10)
    flip(tmp_path / "log.witness", slot * 512 + 20)
    async with opened(tmp_path) as log:
        assert len(await everything(log)) == 10


async def test_l6_another_file_in_the_logs_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite").write_bytes(b"This is not a database at all. " * 200)
    with pytest.raises(LogDamaged, match="not a database"):
        await SqliteLog.open(tmp_path)


async def test_l6_a_foreign_database_in_the_logs_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite").touch()
    tamper(tmp_path, "CREATE TABLE theirs (x)")
    before = (tmp_path / "log.sqlite").read_bytes()
    with pytest.raises(LogDamaged, match="application id"):
        await SqliteLog.open(tmp_path)
    assert (tmp_path / "log.sqlite").read_bytes() == before

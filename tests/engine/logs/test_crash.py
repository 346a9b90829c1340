"""Killed processes, two processes, and a full disk (L1, L5, L7)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.support.logs import child, ended, everything, opened, opened_readonly

from maquette.engine.errors import InvalidInput, LogHeld
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.testing.log_contract import collected, note, taken, texts


async def test_l1_everything_acknowledged_survives_kill_9_once_and_in_order(tmp_path: Path) -> None:
    process = await child("append", str(tmp_path))
    assert process.stdout
    lines = [await process.stdout.readline() for _ in range(1500)]
    process.kill()
    lines += (await ended(process)).encode().splitlines(keepends=True)
    acknowledged = [json.loads(line) for line in lines if line.endswith(b"\n")]
    async with opened(tmp_path) as log:
        events = await everything(log)
    by_place = {(event.stream, event.revision): event for event in events}
    assert len({event.id for event in events}) == len(events)
    for append in acknowledged:
        pair = [by_place[append["stream"], revision] for revision in (append["last"] - 1, append["last"])]
        assert [event.id.hex for event in pair] == append["ids"]
        assert pair[-1].position == append["position"]
    assert all(len([e for e in events if e.stream == f"s{n}"]) % 2 == 0 for n in range(20)), "an append was halved"


async def test_l5_a_second_writer_is_told_who_holds_the_log(tmp_path: Path) -> None:
    process = await child("hold", str(tmp_path))
    assert process.stdout
    await process.stdout.readline()
    with pytest.raises(LogHeld, match=rf"process {process.pid} on \S+ since \d{{4}}-") as caught:
        await SqliteLog.open(tmp_path)
    assert caught.value.holder.startswith(f"process {process.pid} on {os.uname().nodename}")
    await ended(process)
    async with opened(tmp_path) as log:
        assert await log.head() == 0


async def test_l5_the_lock_of_a_killed_writer_does_not_hold(tmp_path: Path) -> None:
    process = await child("hold", str(tmp_path))
    assert process.stdout
    await process.stdout.readline()
    process.kill()
    await ended(process)
    async with opened(tmp_path) as log:
        await log.append("a", [note()])


async def test_l5_a_lock_file_that_somebody_removed_holds_on(tmp_path: Path) -> None:
    process = await child("hold", str(tmp_path))
    assert process.stdout
    await process.stdout.readline()
    (tmp_path / "log.lock").unlink()
    for _ in range(2):
        with pytest.raises(LogHeld, match=rf"process {process.pid}\b"):
            await SqliteLog.open(tmp_path)
    await ended(process)
    async with opened(tmp_path) as log:
        await log.append("a", [note()])


async def test_l5_a_second_writer_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(LogHeld, match=f"process {os.getpid()}"):
            await SqliteLog.open(tmp_path)


async def test_l5_a_reader_follows_a_writer_in_another_process(tmp_path: Path) -> None:
    process = await child("hold", str(tmp_path))
    assert process.stdin
    assert process.stdout
    await process.stdout.readline()
    async with opened_readonly(tmp_path) as log:
        following = log.subscribe()
        for text in ("one", "two"):
            process.stdin.write(f"{text}\n".encode())
            await process.stdout.readline()
            assert texts(await collected(log.read("held")))[-1] == text
            assert texts(await taken(following, 1)) == [text]
        await following.aclose()
        assert not log.writable
        with pytest.raises(InvalidInput, match="opened read-only"):
            log.append("a", [note()])
    await ended(process)


async def test_l7_a_full_disk_fails_the_append_whole_and_writes_work_again_with_space(tmp_path: Path) -> None:
    process = await child("full", str(tmp_path))
    full, again = [json.loads(line) for line in (await ended(process)).splitlines()]
    assert process.returncode == 0
    assert full["stored"] > 0
    assert "expected to reach the disk" in full["failed"]
    assert full["writable"] is False
    assert full["readable"] == 1 + full["stored"] * 10
    assert again == {"revision": 2 * full["stored"] + 1, "writable": True, "readable": full["readable"] + 1}
    async with opened(tmp_path) as log:
        assert len(await everything(log)) == again["readable"]

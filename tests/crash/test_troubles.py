"""A full disk, calls to the disk that fail, a clock that jumps and second writers, under load (L1, L5, L7, D1)."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.crash.faults import Fault, Faults, part_of
from tests.crash.trials import run_trials
from tests.crash.troubles import Clock, Errors, Full, Intruders


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_l7_a_full_disk_loses_nothing_that_was_shown_or_told(tmp_path: Path) -> None:
    tally = await run_trials(tmp_path / "mounted", Full, 1, seed=1)
    limited = await run_trials(tmp_path / "limited", lambda folder: Full(folder, mount=False), 1, seed=2)
    assert tally.compared + limited.compared > 100
    assert limited.seen["times no room on a limit on the size of files"] == 1


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_l7_calls_to_the_disk_that_fail_lose_nothing_that_was_shown_or_told(tmp_path: Path) -> None:
    tally = await run_trials(tmp_path, Errors, 3, seed=2)
    assert tally.compared > 100
    assert sum(number for what, number in tally.seen.items() if what.startswith("failed calls")) > 5


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_l1_times_never_decrease_though_the_clock_jumps(tmp_path: Path) -> None:
    tally = await run_trials(tmp_path, Clock, 2, seed=1)
    assert tally.compared > 100
    assert tally.seen["jumps of the clock"] == 6


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_l5_a_second_writer_is_told_who_holds_the_log_and_disturbs_nobody(tmp_path: Path) -> None:
    tally = await run_trials(tmp_path, Intruders, 1, seed=1)
    assert tally.compared > 10
    assert (tally.seen["servers refused"], tally.seen["engines refused"], tally.seen["locks removed"]) == (2, 2, 1)


def test_a_fault_strikes_the_calls_that_it_names_and_no_others() -> None:
    faults = Faults([Fault.parse("wal:sync:EIO:2:2")])
    wal = "/data/log.sqlite-wal"
    calls = [("sync", wal), ("write", wal), ("sync", "/data/log.sqlite"), ("sync", wal), ("sync", wal), ("sync", wal)]
    assert [faults.struck(path, call) for call, path in calls] == [0, 0, 0, 5, 5, 0]


def test_the_parts_of_a_data_folder_are_told_apart() -> None:
    known = {
        "/d/log.sqlite": "database",
        "/d/log.sqlite-wal": "wal",
        "/d/log.witness": "witness",
        "/d/assets/ab/abcdef": "asset",
        "/d/snapshots/x.snapshot": "snapshot",
        "/d/projections/chat_history/1.sqlite-wal": "projection",
        "/d/keys.json": "",
    }
    assert {path: part_of(path) for path in known} == known

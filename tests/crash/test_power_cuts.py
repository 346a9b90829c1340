"""The power fails (L1, L6): what was flushed is there, of the rest any part; the log holds what it acknowledged."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from tests.crash.cuts import examine, live, put, run_cuts
from tests.crash.medium import (
    SECTOR,
    Flushed,
    FlushFailed,
    FolderFlushed,
    Gone,
    Made,
    Medium,
    Renamed,
    Resized,
    Step,
    Wrote,
)
from tests.crash.recording import Failing, Synchronous
from tests.support.logs import opened

FILE = "file"


@pytest.mark.slow
async def test_l1_no_power_cut_loses_or_doubles_what_was_acknowledged(tmp_path: Path) -> None:
    tally = await run_cuts(tmp_path, 100, seed=1)
    assert (tally.cuts, tally.lost, tally.doubled, tally.refused) == (100, 0, 0, {})
    assert tally.kept > 5_000
    assert tally.torn > 30, "expected cuts in the middle of writes"
    assert tally.folds > 10, "expected cuts around folded WALs"


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
async def test_l1_the_same_power_cuts_lose_what_was_not_flushed(tmp_path: Path, synchronous: Synchronous) -> None:
    tally = await run_cuts(tmp_path, 30, seed=1, synchronous=synchronous)
    assert tally.lost > 0, "expected losses, or the cuts prove nothing"


async def test_l7_flushes_that_fail_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    tally = await run_cuts(tmp_path, 50, seed=1, failing=Failing(0.2, dice=Random(1)))
    assert (tally.cuts, tally.lost, tally.doubled, tally.refused) == (50, 0, 0, {})
    assert tally.failed > 10, "expected flushes that fail"


async def test_l7_a_flush_that_is_simply_tried_again_loses_what_was_acknowledged(tmp_path: Path) -> None:
    tally = await run_cuts(tmp_path, 30, seed=1, failing=Failing(0.2, again=True, dice=Random(1)))
    assert tally.lost > 0, "expected losses, or the failures prove nothing"


async def test_l6_a_power_cut_during_the_first_opening_leaves_a_log_that_opens(tmp_path: Path) -> None:
    life = await live(tmp_path / "log", {}, [], {}, Random(1), "FULL")
    first = life.acknowledged[0].step
    for moment in range(first):
        for seed in range(4):
            medium = Medium({})
            medium.take(life.steps[:moment])
            left = medium.after_power_cut(Random(seed))
            await examine(tmp_path / f"{moment}-{seed}", left, life, moment)


# --- the disk in the mind --------------------------------------------------------------------------------------------


def left(*steps: Step, before: bytes | None = None) -> set[bytes | None]:
    """Everything that a power cut after `steps` may leave of a file, None for no file."""
    medium = Medium({} if before is None else {FILE: before})
    medium.take(steps)
    return {medium.after_power_cut(Random(seed)).get(FILE) for seed in range(200)}


OLD, NEW, LATE = (letter * SECTOR for letter in (b"o", b"n", b"l"))


def test_what_was_flushed_is_there() -> None:
    assert left(Wrote(FILE, 0, NEW), Flushed(FILE), before=OLD) == {NEW}


def test_what_was_not_flushed_is_there_or_dropped_or_torn_between_sectors() -> None:
    assert left(Wrote(FILE, 0, NEW + NEW), before=OLD + OLD) == {OLD + OLD, NEW + NEW, OLD + NEW, NEW + OLD}


def test_a_sector_is_never_torn_in_itself() -> None:
    assert left(Wrote(FILE, 10, b"n"), before=OLD) == {OLD, OLD[:10] + b"n" + OLD[11:]}


def test_later_writes_may_survive_earlier_ones() -> None:
    found = left(Wrote(FILE, 0, NEW), Wrote(FILE, SECTOR, LATE), Wrote(FILE, 0, LATE), before=OLD + OLD)
    assert {OLD + LATE, NEW + LATE, NEW + OLD, LATE + OLD} < found


def test_a_file_may_have_its_length_and_not_its_content() -> None:
    assert bytes(SECTOR) in left(Wrote(FILE, 0, NEW), before=b"")


def test_a_file_that_was_cut_may_be_whole() -> None:
    assert {OLD, b"", OLD + OLD} <= left(Resized(FILE, SECTOR), Resized(FILE, 0), before=OLD + OLD)


def test_a_name_is_there_for_sure_only_when_its_folder_was_flushed() -> None:
    content: list[Step] = [Made(FILE), Wrote(FILE, 0, NEW), Flushed(FILE)]
    assert left(*content) == {None, NEW}
    assert left(*content, FolderFlushed()) == {NEW}


def test_a_deleted_file_may_be_back() -> None:
    assert left(Gone(FILE), before=OLD) == {None, OLD}
    assert left(Gone(FILE), FolderFlushed(), before=OLD) == {None}


def test_a_later_flush_does_not_write_what_an_earlier_one_failed_to_write() -> None:
    failed: list[Step] = [Wrote(FILE, 0, NEW), FlushFailed(FILE)]
    assert left(*failed, Flushed(FILE), before=OLD) == {OLD, NEW}
    assert left(*failed, Wrote(FILE, 0, LATE), Flushed(FILE), before=OLD) == {LATE}


def test_what_is_in_a_folder_is_gone_with_its_name() -> None:
    inside: list[Step] = [Made("in/"), Made("in/side"), Wrote("in/side", 0, NEW), Flushed("in/side")]
    for folder, kept in (("in/", {None, NEW}), ("", {None, NEW})):
        medium = Medium({})
        medium.take([*inside, FolderFlushed(folder)])
        assert {medium.after_power_cut(Random(seed)).get("in/side") for seed in range(50)} == kept
    medium.take([FolderFlushed("in/")])
    assert medium.after_power_cut(Random(0))["in/side"] == NEW


def test_a_renamed_file_has_its_old_name_or_its_new_one() -> None:
    medium = Medium({FILE: OLD})
    medium.take([Renamed(FILE, "new")])
    names = {tuple(medium.after_power_cut(Random(seed))) for seed in range(50)}
    assert names == {(FILE,), ("new",), (FILE, "new")}
    medium.take([FolderFlushed()])
    assert medium.after_power_cut(Random(0)) == {"new": OLD}


async def test_a_log_is_recorded_as_it_is_on_the_real_disk(tmp_path: Path) -> None:
    life = await live(tmp_path / "log", {}, [], {}, Random(2), "FULL")
    medium = Medium({})
    names = [path.name for path in (tmp_path / "log").iterdir()]
    medium.take([*life.steps, *(Flushed(name) for name in names), FolderFlushed()])
    left = medium.after_power_cut(Random(0))
    assert left == {name: (tmp_path / "log" / name).read_bytes() for name in names}
    put(tmp_path / "copy", left)
    async with opened(tmp_path / "copy") as log:
        assert await log.head() == life.acknowledged[-1].place.position

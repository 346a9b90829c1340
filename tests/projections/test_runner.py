"""The runner: rules V1 (one transaction), V2 (rebuild), V4 (parking) and V5 (lag, waiting) with a small read model."""

from __future__ import annotations

import asyncio
import errno
import random
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import Connection
from tests.support.projections import Tally, add, dump, on_file, until, write

from maquette.engine import files
from maquette.engine.errors import LogLost, NotFound
from maquette.engine.events import Event, Position
from maquette.engine.log import EventLog
from maquette.engine.logs.memory import MemoryLog
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.pulse import Busy, Pulse, Work, shared_memory
from maquette.projections import store
from maquette.projections.builds import Builds
from maquette.projections.errors import ProjectionBehind, ProjectionStopped, ViewDamaged
from maquette.projections.guard import Hung
from maquette.projections.runner import Runner
from maquette.projections.sums import Sums


@pytest.fixture(params=["dense", "sparse", "sqlite"])
async def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EventLog]:
    steps = random.Random(7)
    log: EventLog
    if request.param == "sqlite":
        log = await SqliteLog.open(tmp_path_factory.mktemp("log"))
    else:
        log = MemoryLog(stride=lambda: steps.randint(1, 9) if request.param == "sparse" else 1)
    yield log
    await log.close()


async def sums(runner: Runner) -> list[tuple[str, int, int]]:
    rows = (await dump(runner.view("tally"), Tally()))["sums"]
    return [(stream, total, count) for stream, total, count in rows]


async def test_v1_view_and_checkpoint_follow_the_log(log: EventLog, tmp_path: Path) -> None:
    await add(log, "a", 1, 2)
    async with await Runner.open(log, tmp_path, [Tally]) as runner:
        await add(log, "b", 10)
        last = await write(log, "c", ("nobody.cares", {}))
        await runner.wait_for(last, 5)
        assert await sums(runner) == [("a", 3, 2), ("b", 10, 1)]
        assert runner.view("tally").checkpoint == last


@pytest.mark.parametrize("batch", [1, 2, 1000])
async def test_v1_a_restart_goes_on_from_the_checkpoint(log: EventLog, tmp_path: Path, batch: int) -> None:
    for end in (5, 9):
        last = await add(log, "a", *range(end))
        async with await Runner.open(log, tmp_path, [Tally], batch=batch) as runner:
            await runner.wait_for(last, 5)
            assert runner.view("tally").applied == end
    assert await reopened_sums(log, tmp_path) == [("a", 10 + 36, 14)]


async def reopened_sums(log: EventLog, folder: Path) -> list[tuple[str, int, int]]:
    runner = await Runner.open(log, folder, [Tally])
    found = await sums(runner)
    await runner.close()
    return found


async def test_v1_a_failure_between_view_and_checkpoint_leaves_neither(log: EventLog, tmp_path: Path) -> None:
    runner = await Runner.open(log, tmp_path, [Tally], retry_after=0.01)
    await on_file(
        runner.view("tally"),
        "CREATE TRIGGER broken BEFORE UPDATE ON checkpoint BEGIN SELECT RAISE(ABORT, 'broken'); END",
    )
    last = await add(log, "a", 1, 2)
    async with runner:
        with pytest.raises(ProjectionStopped, match="broken"):
            await runner.wait_for(last, 5)
        assert await sums(runner) == []
        assert runner.view("tally").checkpoint == 0
        await on_file(runner.view("tally"), "DROP TRIGGER broken")
        await until(runner.view("tally"), last)
        assert await sums(runner) == [("a", 3, 2)]


class Greedy(Tally):
    """Needs much more room for an event than parking it would."""

    def apply(self, connection: Connection, events: Sequence[Event]) -> None:
        super().apply(connection, events)
        connection.execute(self.sums.insert(), {"stream": "x" * 500_000, "sum": 0, "count": 0})


async def test_v1_a_full_disk_parks_nothing_and_ends_by_itself(log: EventLog, tmp_path: Path) -> None:
    runner = await Runner.open(log, tmp_path, [Greedy], retry_after=0.01)
    await on_file(runner.view("tally"), "PRAGMA max_page_count = 20")
    last = await add(log, "a", 1)
    async with runner:
        with pytest.raises(ProjectionStopped, match="disk is full"):
            await runner.wait_for(last, 5)
        assert await runner.parked("tally") == []
        assert await sums(runner) == []
        await on_file(runner.view("tally"), "PRAGMA max_page_count = 100000")
        await until(runner.view("tally"), last)
        assert [row[1:] for row in await sums(runner)] == [(1, 1), (0, 0)]
        assert (await runner.status())[0].error is None


async def test_v1_a_disk_that_fails_at_the_start_stops_its_projection_only(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = await add(log, "a", 1)
    async with await Runner.open(log, tmp_path, [Tally]) as runner:
        await runner.wait_for(last, 5)
    read = Path.read_text

    def failing(path: Path, *args: Any, **options: Any) -> str:
        if path.name == "live":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return read(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", failing)
    async with await Runner.open(log, tmp_path, [Tally], retry_after=0.01) as runner:
        [status] = await runner.status()
        assert status.error is not None
        assert "Input/output error" in status.error
        with pytest.raises(ProjectionStopped, match="Input/output error"):
            await sums(runner)
        monkeypatch.undo()
        await until(runner.view("tally"), last)
        assert await sums(runner) == [("a", 1, 1)]
        assert (await runner.status())[0].error is None


# --- V2, V3: rebuild ---------------------------------------------------------------------------------------------


async def test_v2_rebuild_gives_the_live_view_and_goes_on_from_there(log: EventLog, tmp_path: Path) -> None:
    last = await add(log, "a", *range(10))
    async with await Runner.open(log, tmp_path, [Tally], batch=3) as runner:
        await runner.wait_for(last, 5)
        before, reached = await sums(runner), []
        await runner.rebuild("tally", lambda position, head: reached.append((position, head)))
        assert await sums(runner) == before
        assert reached[-1] == (last, last)
        assert reached == sorted(reached)
        await runner.wait_for(await add(log, "a", 5), 5)
        assert await sums(runner) == [("a", 50, 11)]


async def test_v2_rebuild_reads_the_log_and_takes_nothing_from_the_live_view(log: EventLog, tmp_path: Path) -> None:
    last = await add(log, "a", 1, 2)
    async with await Runner.open(log, tmp_path, [Tally]) as runner:
        await runner.wait_for(last, 5)
        await on_file(runner.view("tally"), "UPDATE sums SET sum = 99")
        assert await sums(runner) == [("a", 99, 2)]
        await runner.rebuild("tally")
        assert await sums(runner) == [("a", 3, 2)]


async def test_v2_a_rebuild_among_live_events_misses_none_and_applies_none_twice(log: EventLog, tmp_path: Path) -> None:
    await add(log, "a", *range(50))
    async with await Runner.open(log, tmp_path, [Tally], batch=2) as runner:
        rebuilding = asyncio.create_task(runner.rebuild("tally"))
        for number in range(50):
            last = await add(log, "b", number)
        await rebuilding
        await runner.wait_for(last, 5)
        assert await sums(runner) == [("a", 1225, 50), ("b", 1225, 50)]


class Doubled(Tally):
    version = 2

    def number(self, event: Event) -> int:
        return 2 * super().number(event)


async def test_v3_another_version_is_built_at_the_start(log: EventLog, tmp_path: Path) -> None:
    last = await add(log, "a", 1, 2, 3)
    async with await Runner.open(log, tmp_path, [Tally]) as runner:
        await runner.wait_for(last, 5)
    runner = await Runner.open(log, tmp_path, [Doubled])
    assert await sums(runner) == [("a", 12, 3)]
    assert runner.view("tally").version == 2
    await runner.close()
    assert [path.name for path in (tmp_path / "tally").glob("*.sqlite")] == ["2.sqlite"]


async def test_v3_a_rebuild_that_ends_halfway_leaves_the_old_view(log: EventLog, tmp_path: Path) -> None:
    last = await add(log, "a", *range(10))
    runner = await Runner.open(log, tmp_path, [Tally], batch=1)
    runner.start()
    await runner.wait_for(last, 5)

    def cancel(position: Position, head: Position) -> None:
        rebuilding.cancel()

    rebuilding = asyncio.create_task(runner.rebuild("tally", cancel))
    with pytest.raises(asyncio.CancelledError):
        await rebuilding
    assert await sums(runner) == [("a", 45, 10)]
    await runner.wait_for(await add(log, "a", 1), 5)
    await runner.close()
    assert [path.name for path in (tmp_path / "tally").iterdir() if "sqlite" in path.name] == ["1.sqlite"]


class Gated(Tally):
    """While `rebuilding`, waits in each batch until the test opens the gate."""

    gate = threading.Event()
    begun = threading.Event()
    rebuilding = False

    def apply(self, connection: Connection, events: Sequence[Event]) -> None:
        if self.rebuilding:
            self.begun.set()
            assert self.gate.wait(5)
        super().apply(connection, events)


async def test_v3_a_rebuild_whose_pointer_could_not_be_flushed_keeps_what_the_pointer_names(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = await add(log, "a", 1)
    async with await Runner.open(log, tmp_path, [Tally]) as runner:
        await runner.wait_for(last, 5)
        with monkeypatch.context() as patch:
            patch.setattr(files, "sync_folder", _fail)
            with pytest.raises(OSError, match="Input/output error"):
                await runner.rebuild("tally")
        assert Builds(tmp_path, "tally").live() is not None
        assert await sums(runner) == [("a", 1, 1)]
    assert await reopened_sums(log, tmp_path) == [("a", 1, 1)]


def _fail(folder: Path) -> None:
    raise OSError(errno.EIO, "Input/output error", str(folder))


async def test_v3_the_live_view_follows_the_log_during_a_rebuild(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instances: list[Gated] = []

    def make() -> Gated:
        instances.append(Gated())
        return instances[-1]

    last = await add(log, "a", 1)
    Gated.gate.clear()
    Gated.begun.clear()
    async with await Runner.open(log, tmp_path, [make]) as runner:
        await runner.wait_for(last, 5)
        monkeypatch.setattr(Gated, "rebuilding", True)
        instances[1].rebuilding = False  # the live one; the first was asked for its name only
        rebuilding = asyncio.create_task(runner.rebuild("tally"))
        await asyncio.to_thread(Gated.begun.wait, 5)
        await runner.wait_for(await add(log, "a", 2), 5)
        assert await sums(runner) == [("a", 3, 2)]
        Gated.gate.set()
        await rebuilding
        assert await sums(runner) == [("a", 3, 2)]
    assert len(instances) == 3


async def test_v3_what_a_killed_build_left_is_removed(log: EventLog, tmp_path: Path) -> None:
    await (await Runner.open(log, tmp_path, [Tally])).close()
    (tmp_path / "tally" / "2.sqlite").write_bytes(b"half")
    (tmp_path / "tally" / "2.sqlite-wal").write_bytes(b"half")
    assert await reopened_sums(log, tmp_path) == []
    assert sorted(path.name for path in (tmp_path / "tally").iterdir()) == ["1.sqlite", "1.sums", "live"]


async def test_a_view_that_cannot_be_read_is_built_again(log: EventLog, tmp_path: Path) -> None:
    last = await add(log, "a", 4)
    await (await Runner.open(log, tmp_path, [Tally])).close()
    live = Builds(tmp_path, "tally").live()
    assert live is not None
    live.write_bytes(b"not a database" * 1000)
    async with await Runner.open(log, tmp_path, [Tally]) as runner:
        await runner.wait_for(last, 5)
        assert await sums(runner) == [("a", 4, 1)]


async def test_l6_an_altered_page_of_a_view_is_seen_and_the_view_built_again(log: EventLog, tmp_path: Path) -> None:
    last = await add(log, "a", 4)
    async with await Runner.open(log, tmp_path, [Tally]) as runner:
        await runner.wait_for(last, 5)
    live = Builds(tmp_path, "tally").live()
    assert live is not None
    content = live.read_bytes()
    for byte in range(0, len(content), 509):
        live.write_bytes(content[:byte] + bytes([content[byte] ^ 1]) + content[byte + 1 :])
        with pytest.raises(ViewDamaged, match=rf"page {byte // 4096 + 1}: expected the page that was written"):
            Sums(live).check()
    async with await Runner.open(log, tmp_path, [Tally]) as runner:
        await runner.wait_for(last, 5)
        assert await sums(runner) == [("a", 4, 1)]
    assert Builds(tmp_path, "tally").live() == live.with_name("2.sqlite")
    Sums(live.with_name("2.sqlite")).check()


async def test_l6_a_view_that_was_killed_while_it_was_folded_is_built_again(log: EventLog, tmp_path: Path) -> None:
    last = await add(log, "a", 4)
    async with await Runner.open(log, tmp_path, [Tally]) as runner:
        await runner.wait_for(last, 5)
    (tmp_path / "tally" / "1.sums").unlink()
    async with await Runner.open(log, tmp_path, [Tally]) as runner:
        await runner.wait_for(last, 5)
        assert await sums(runner) == [("a", 4, 1)]
    assert (tmp_path / "tally" / "2.sums").exists()


async def test_l6_the_sums_of_a_view_follow_it_through_many_folds(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "FOLD_BYTES", 20_000)
    async with await Runner.open(log, tmp_path, [Tally], batch=1) as runner:
        for number in range(60):
            last = await add(log, f"s{number}", number)
            await runner.wait_for(last, 5)
            assert (tmp_path / "tally" / "1.sqlite-wal").stat().st_size < 60_000
    Sums(tmp_path / "tally" / "1.sqlite").check()
    async with await Runner.open(log, tmp_path, [Tally]) as runner:
        assert (await runner.status())[0].position == last


async def test_a_view_that_is_found_damaged_while_it_is_served_is_built_again(log: EventLog, tmp_path: Path) -> None:
    async with await Runner.open(log, tmp_path, [Tally], retry_after=0.01) as runner:
        await runner.wait_for(await add(log, "a", 4), 5)
        await on_file(runner.view("tally"), "DROP TABLE checkpoint")
        last = await add(log, "a", 5)
        await until(runner.view("tally"), last)
        assert await sums(runner) == [("a", 9, 2)]


# --- the log behind the checkpoint -------------------------------------------------------------------------------


async def caught_up(log: EventLog, folder: Path, position: Position) -> None:
    async with await Runner.open(log, folder, [Tally]) as runner:
        await runner.wait_for(position, 5)


async def test_l6_a_checkpoint_ahead_of_the_log_is_named(log: EventLog, tmp_path: Path) -> None:
    last = await add(log, "a", 1, 2, 3)
    await caught_up(log, tmp_path, last)
    shorter = MemoryLog()
    with pytest.raises(LogLost, match="projection 'tally'") as error:
        await Runner.open(shorter, tmp_path, [Tally])
    assert (error.value.known, error.value.found) == (last, 0)


async def test_l6_with_accepted_loss_the_view_is_built_from_what_is_left(log: EventLog, tmp_path: Path) -> None:
    await caught_up(log, tmp_path, await add(log, "a", 1, 2, 3))
    shorter = MemoryLog()
    await add(shorter, "a", 1, 2)
    runner = await Runner.open(shorter, tmp_path, [Tally], accept_loss=True)
    assert await sums(runner) == [("a", 3, 2)]
    await runner.close()


async def test_l6_a_view_of_another_log_of_the_same_length_is_built_again(log: EventLog, tmp_path: Path) -> None:
    await caught_up(log, tmp_path, await add(log, "a", 1))
    other = MemoryLog()
    await add(other, "b", *range(20))
    assert await reopened_sums(other, tmp_path) == [("b", 190, 20)]


# --- V4: parking -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3, 1000])
async def test_v4_an_event_that_raises_stops_its_stream_only(log: EventLog, tmp_path: Path, batch: int) -> None:
    await add(log, "a", 1, 2)
    bad = await add(log, "a", "bad")
    await add(log, "a", 3, 4)
    last = await add(log, "b", 5)
    async with await Runner.open(log, tmp_path, [Tally], batch=batch) as runner:
        await runner.wait_for(last, 5)
        assert await sums(runner) == [("a", 3, 2), ("b", 5, 1)]
        (stopped,) = await runner.parked("tally")
        assert (stopped.stream, stopped.position, stopped.revision) == ("a", bad, 3)
        assert (stopped.waiting, stopped.last) == (3, 5)
        assert stopped.error.startswith("ValueError: invalid literal for int() with base 10: 'bad'")
        assert (await runner.status())[0].parked == 1


async def test_v4_a_retry_after_a_repair_applies_what_waited_in_order(log: EventLog, tmp_path: Path) -> None:
    last = await add(log, "a", 1, "bad", 3)
    async with await Runner.open(log, tmp_path, [Tally]) as runner:
        await runner.wait_for(last, 5)
    async with await Runner.open(log, tmp_path, [Forgiving], batch=1) as runner:
        assert await runner.retry("tally", "a")
        assert await runner.parked("tally") == []
        await runner.wait_for(await add(log, "a", 10), 5)
        assert await sums(runner) == [("a", 14, 4)]


class Watching(Tally):
    """Sees what its supervisor would see while it folds."""

    pulse = Pulse(shared_memory())
    seen: ClassVar[list[Busy]] = []

    def number(self, event: Event) -> int:
        self.seen.extend(busy for _, busy in self.pulse.busy_beside())
        return super().number(event)


async def test_v4_an_event_over_which_the_server_hung_is_parked_without_another_try(
    log: EventLog, tmp_path: Path
) -> None:
    last = await add(log, "a", 1, 2, 3)
    hung = [Hung("tally", "a", 2, 1), Hung("other", "a", 1, 1)]
    async with await Runner.open(log, tmp_path, [Tally], hung=hung) as runner:
        await runner.wait_for(last, 5)
        assert await sums(runner) == [("a", 1, 1)]
        (stopped,) = await runner.parked("tally")
        assert (stopped.revision, stopped.waiting) == (2, 2)
        assert "stopped the server before" in stopped.error


async def test_g4_a_fold_is_marked_and_one_by_one_when_nobody_knows_over_which_event_it_hung(
    log: EventLog, tmp_path: Path
) -> None:
    last = await add(log, "a", 1, 2, 3)
    for hung, marks in (((), [(1, 3)] * 3), ((Hung("tally", "a", 1, 3),), [(1, 1), (2, 1), (3, 1)])):
        Watching.seen.clear()
        folder = tmp_path / str(len(hung))
        async with await Runner.open(log, folder, [Watching], hung=hung, pulse=Watching.pulse) as runner:
            await runner.wait_for(last, 5)
        assert [(busy.work, busy.stream, busy.by) for busy in Watching.seen] == [(Work.FOLDING, "a", "tally")] * 3
        assert [(busy.revision, busy.size) for busy in Watching.seen] == marks
        assert list(Watching.pulse.busy_beside()) == []


class Forgiving(Tally):
    """The repaired code: it reads what the first one could not. The version stays, or it would be built again."""

    def number(self, event: Event) -> int:
        return 0 if event.data["number"] == "bad" else super().number(event)


async def test_v4_a_retry_that_raises_again_stays_parked_where_it_stands(log: EventLog, tmp_path: Path) -> None:
    last = await add(log, "a", 1, "bad", 3, "worse", 5)
    async with await Runner.open(log, tmp_path, [Tally]) as runner:
        await runner.wait_for(last, 5)
    async with await Runner.open(log, tmp_path, [Forgiving]) as runner:
        assert not await runner.retry("tally", "a")
        (stopped,) = await runner.parked("tally")
        assert (stopped.revision, stopped.last, stopped.waiting) == (4, 5, 2)
        assert "'worse'" in stopped.error
        assert await sums(runner) == [("a", 4, 3)]


async def test_v4_retry_of_a_stream_that_runs_changes_nothing(log: EventLog, tmp_path: Path) -> None:
    async with await Runner.open(log, tmp_path, [Tally]) as runner:
        await runner.wait_for(await add(log, "a", 1), 5)
        assert await runner.retry("tally", "a")
        assert await sums(runner) == [("a", 1, 1)]


# --- V5: lag and waiting -----------------------------------------------------------------------------------------


async def test_v5_lag_is_what_lies_between_checkpoint_and_head(log: EventLog, tmp_path: Path) -> None:
    runner = await Runner.open(log, tmp_path, [Tally])
    last = await add(log, "a", 1, 2, 3)
    (status,) = await runner.status()
    assert (status.name, status.position, status.behind) == ("tally", 0, last)
    runner.start()
    await runner.wait_for(last, 5)
    (status,) = await runner.status()
    assert (status.position, status.behind, status.milliseconds, status.applied) == (last, 0, 0, 3)
    await runner.close()


async def test_v5_waiting_for_a_position_that_does_not_come_ends_with_what_was_reached(
    log: EventLog, tmp_path: Path
) -> None:
    async with await Runner.open(log, tmp_path, [Tally]) as runner:
        last = await add(log, "a", 1)
        await runner.wait_for(last, 5)
        with pytest.raises(ProjectionBehind, match="'tally'") as error:
            await runner.wait_for(Position(last + 1), 0.01)
        assert (error.value.expected, error.value.actual) == (last + 1, last)


async def test_v5_who_waits_is_told_when_the_log_closes(tmp_path: Path) -> None:
    log = MemoryLog()
    async with await Runner.open(log, tmp_path, [Tally]) as runner:
        waiting = asyncio.create_task(runner.wait_for(Position(99), 5))
        await log.close()
        with pytest.raises(ProjectionStopped, match="the log is closed"):
            await waiting


async def test_an_unknown_projection_is_named(log: EventLog, tmp_path: Path) -> None:
    runner = await Runner.open(log, tmp_path, [Tally])
    with pytest.raises(NotFound, match="projection, got 'talley'"):
        await runner.rebuild("talley")
    await runner.close()

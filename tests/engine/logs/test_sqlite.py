"""The log in SQLite passes the contract, and what only it does: group commit, pages, restarts."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, closing
from pathlib import Path

import pytest
from hypothesis import settings
from tests.support.logs import everything, fill, names, opened, tamper

from maquette.engine.errors import LogClosed, LogDamaged, LogError, LogUnwritable, WrongRevision
from maquette.engine.events import Event
from maquette.engine.log import EventLog
from maquette.engine.logs import schema, sqlite, writer
from maquette.engine.logs.record import PAGE_BYTES, PAGE_EVENTS, Clock, wall_clock
from maquette.engine.logs.schema import open_for_writing
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.testing.log_contract import LogContract, StepClock, collected, note, taken, texts
from maquette.engine.testing.log_machine import log_machine


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign lock and an unwritable log are soon noticed."""
    monkeypatch.setattr(schema, "BUSY_MS", 10)
    monkeypatch.setattr(writer, "PROBE_SECONDS", 0.01)


@asynccontextmanager
async def on_disk(clock: Clock = wall_clock) -> AsyncIterator[EventLog]:
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder), clock=clock) as log:
            yield log


@pytest.mark.smoke
class TestSqlite(LogContract):
    def opened(self, clock: Clock) -> AbstractAsyncContextManager[EventLog]:
        return on_disk(clock)


TestSqliteMachine = log_machine(on_disk).TestCase
TestSqliteMachine.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


# --- commits --------------------------------------------------------------------------------------------------------


async def test_l1_appends_of_one_moment_share_one_commit(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await asyncio.gather(*(log.append(f"s{n}", [note(str(n))]) for n in range(300)))
        assert log.commits == 1
        assert len(await everything(log)) == 300


async def test_appends_that_wait_for_a_commit_share_the_next_one(tmp_path: Path) -> None:
    async def write(log: SqliteLog, number: int) -> None:
        for n in range(20):
            await log.append(f"s{number}", [note(str(n))], expected=n)

    async with opened(tmp_path) as log:
        await asyncio.gather(*(write(log, number) for number in range(50)))
        assert 20 <= log.commits < 200
        assert len(await everything(log)) == 1000


async def test_l1_a_commit_is_flushed_to_the_disk(tmp_path: Path) -> None:
    with closing(open_for_writing(tmp_path)) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_l1_an_append_that_fails_halfway_leaves_nothing_of_it(tmp_path: Path) -> None:
    events = [note("one"), note("two")]
    async with opened(tmp_path) as log:
        await log.append("a", [note("before")])
        tamper(tmp_path, "CREATE TRIGGER broken BEFORE INSERT ON streams BEGIN SELECT RAISE(ABORT, 'broken'); END")
        with pytest.raises(LogError, match="broken"):  # the events are in by then, the end of their stream is not
            await log.append("b", events)
        tamper(tmp_path, "DROP TRIGGER broken")
        assert texts(await everything(log)) == ["before"]
        assert (await log.append("b", events, expected=0)).first == 1
        assert texts(await everything(log)) == ["before", "one", "two"]


async def test_one_failing_append_of_a_commit_leaves_the_others(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        futures = [log.append(f"s{n % 10}", [note(str(n))], expected=n // 10 + (n == 7)) for n in range(20)]
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert log.commits == 1
        # number 17 was built on number 7, which failed
        assert [n for n, result in enumerate(results) if isinstance(result, WrongRevision)] == [7, 17]
        assert len(await everything(log)) == 18


async def test_l7_a_failed_commit_fails_its_batch_but_what_was_stored_before(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await log.append("a", [note("before")])
        stored = [note("stored before")]
        place = await log.append("b", stored)
        with closing(sqlite3.connect(tmp_path / "log.sqlite", isolation_level=None)) as foreign:
            foreign.execute("BEGIN IMMEDIATE")  # another tool holds SQLite's lock for longer than we wait
            tasks = [log.append("a", [note("lost")], expected=1), log.append("c", [note()]), log.append("b", stored)]
            wrong = log.append("d", [note()], expected=9)
            results = await asyncio.gather(*tasks, wrong, return_exceptions=True)
            foreign.execute("ROLLBACK")
        assert [type(result) for result in results] == [LogUnwritable, LogUnwritable, type(place), WrongRevision]
        assert results[2] == place
        await log.until_writable()
        assert (await log.append("a", [note("after")], expected=1)).first == 2
        assert texts(await everything(log)) == ["before", "stored before", "after"]


async def test_l7_a_log_finds_out_by_itself_that_it_can_write_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        with closing(sqlite3.connect(tmp_path / "log.sqlite", isolation_level=None)) as foreign:
            foreign.execute("BEGIN IMMEDIATE")
            with pytest.raises(LogUnwritable, match="locked"):
                await log.append("a", [note()])
            assert not log.writable
            assert await collected(log.read_all()) == []
            foreign.execute("ROLLBACK")
        await log.until_writable()
        assert log.writable


async def test_l6_a_record_in_the_place_of_the_next_one_fails_the_append(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await fill(log, 4, streams=2)
    tamper(tmp_path, "UPDATE events SET revision = 3 WHERE position = 3")
    async with opened(tmp_path) as log:
        with pytest.raises(LogDamaged, match="UNIQUE"):
            await log.append("tenant/space/document0@1", [note()])
        await log.append("tenant/space/document1@1", [note()], expected=2)


# --- pages ----------------------------------------------------------------------------------------------------------


async def test_a_long_log_is_read_by_pages_in_bounded_memory(tmp_path: Path) -> None:
    count, page_sizes, most_alive = 0, set(), 0
    async with opened(tmp_path) as log:
        for _ in range(10):
            await asyncio.gather(*(log.append("long", [note() for _ in range(4_000)]) for _ in range(5)))
        async for page in log.read_all():
            count += len(page)
            page_sizes.add(len(page))
            if count % 50_000 == 0:
                most_alive = max(most_alive, sum(isinstance(thing, Event) for thing in gc.get_objects()))
    assert count == 200_000
    assert page_sizes == {PAGE_EVENTS}
    assert most_alive <= 2 * PAGE_EVENTS


async def test_a_page_of_large_events_ends_behind_its_bytes(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await log.append("a", [note(update=bytes(PAGE_BYTES // 4)) for _ in range(9)])
        assert [len(page) async for page in log.read_all()] == [4, 4, 1]


async def test_more_readers_than_threads_all_get_everything(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await fill(log, 50)
        reads = await asyncio.gather(*(collected(log.read_all()) for _ in range(20)))
        assert all(read == reads[0] for read in reads)
        assert len(reads[0]) == 50


async def test_a_read_that_is_given_up_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await fill(log, 20)
        async with aclosing(log.read_all()) as pages:
            await anext(pages)
        cancelled = asyncio.ensure_future(collected(log.read_all()))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert len(await everything(log)) == 20


# --- restarts -------------------------------------------------------------------------------------------------------


async def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    for run in range(4):
        async with opened(tmp_path / "new" / "folder") as log:
            assert await log.revision("a") == run
            appended = await log.append("a", [note(str(run))], expected=run)
            assert (appended.first, appended.position) == (run + 1, run + 1)
            assert texts(await everything(log)) == [str(n) for n in range(run + 1)]


async def test_l3_an_event_is_known_again_after_a_restart(tmp_path: Path) -> None:
    event = note("once")
    async with opened(tmp_path) as log:
        first = await log.append("a", [event])
    async with opened(tmp_path) as log:
        assert await log.append("a", [event]) == first


async def test_time_never_steps_back_across_restarts(tmp_path: Path) -> None:
    for now, expected in ((5_000, 5_000), (3_000, 5_000), (6_000, 6_000)):
        async with opened(tmp_path, clock=StepClock(now)) as log:
            assert (await log.append("a", [note()])).time == expected


async def test_a_closed_log_leaves_its_files_folded(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await fill(log, 10)
        await everything(log)
    assert names(tmp_path) == ["log.lock", "log.sqlite", "log.witness"]


async def test_ends_of_many_streams_are_not_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MOST_STREAMS", 10)
    async with opened(tmp_path) as log:
        for run in range(2):
            futures = [log.append(f"s{n}", [note()], expected=run) for n in range(300)]
            assert {result.first for result in await asyncio.gather(*futures)} == {run + 1}
        assert len(await everything(log)) == 600


async def test_opening_that_is_cancelled_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = asyncio.Event()
    close = sqlite._Files.close

    def close_and_tell(files: sqlite._Files) -> None:
        close(files)
        closed.set()

    monkeypatch.setattr(sqlite._Files, "close", close_and_tell)
    opening = asyncio.ensure_future(SqliteLog.open(tmp_path))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await closed.wait()
    async with opened(tmp_path) as log:
        assert await log.head() == 0


async def test_closing_ends_waiting_for_space(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        with closing(sqlite3.connect(tmp_path / "log.sqlite", isolation_level=None)) as foreign:
            foreign.execute("BEGIN IMMEDIATE")
            with pytest.raises(LogUnwritable):
                await log.append("a", [note()])
            waiting = asyncio.ensure_future(log.until_writable())
            await asyncio.sleep(0)
            closing_ = asyncio.ensure_future(log.close())
            with pytest.raises(LogClosed):
                await waiting
            foreign.execute("ROLLBACK")
        await closing_


async def test_a_reader_needs_a_log(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"expected a log at .*log\.sqlite"):
        await SqliteLog.open_readonly(tmp_path)
    assert names(tmp_path) == []


async def test_a_subscription_of_a_reader_ends_when_it_closes(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await fill(log, 3)
        reader = await SqliteLog.open_readonly(tmp_path)
        pages = reader.subscribe()
        assert len(await taken(pages, 3)) == 3
        await reader.close()
        assert [page async for page in pages] == []

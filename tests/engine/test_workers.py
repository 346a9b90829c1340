"""Workers: they end with their job's limits, with their parent, and never take the server with them (G4)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.support.poison import HANG, stream_with

from maquette.engine.workers import Budget, JobFailed, NoWorker, Worker, Workers

AMPLE = Budget(20, 1 << 30, 60)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  (another process tells nobody)
        await asyncio.sleep(0.01)


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    pool = Workers()
    yield pool
    await pool.close()


async def test_g4_a_job_that_hangs_is_ended_at_its_processor_time_and_the_next_goes_on(
    workers: Workers, tmp_path: Path
) -> None:
    poisoned, sound = await stream_with(tmp_path / "bad", HANG), await stream_with(tmp_path / "good")
    with pytest.raises(JobFailed, match="used up 1 s of processor time") as failed:
        await workers.run("fold", poisoned, Budget(1, 1 << 30, 60))
    assert (failed.value.is_fatal, failed.value.reached) == (True, 2)
    assert len(await workers.run("fold", sound, AMPLE)) == 16
    assert workers.started == 2


async def test_g4_a_job_that_takes_too_long_by_the_clock_is_ended(workers: Workers, tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="took longer than 1 s"):
        await workers.run("fold", await stream_with(tmp_path, HANG), Budget(60, 1 << 30, 1.4))


async def test_g4_a_job_that_takes_too_much_memory_is_ended(workers: Workers, tmp_path: Path) -> None:
    given = await stream_with(tmp_path)
    with pytest.raises(JobFailed) as failed:
        await workers.run("fold", given, Budget(20, 1 << 20, 60))
    assert failed.value.is_fatal or "thread" in failed.value.what
    assert len(await workers.run("fold", given, AMPLE)) == 16


async def test_g4_a_worker_that_is_killed_is_replaced(workers: Workers, tmp_path: Path) -> None:
    job = asyncio.ensure_future(workers.run("fold", await stream_with(tmp_path, HANG), AMPLE))
    await until(lambda: bool(workers._busy))
    os.kill(next(iter(workers._busy)).pid, signal.SIGKILL)
    with pytest.raises(JobFailed, match="ended by SIGKILL"):
        await job
    assert not workers._idle


async def test_a_worker_is_used_again_and_retires_when_there_is_nothing_to_do(tmp_path: Path) -> None:
    workers = Workers(idle_seconds=0.01)
    given = await stream_with(tmp_path)
    await workers.run("fold", given, AMPLE)
    [worker] = workers._idle
    await until(lambda: not workers._idle)
    assert worker._process.poll() is not None
    await workers.close()
    with pytest.raises(NoWorker):
        await workers.run("fold", given, AMPLE)


async def test_no_more_workers_than_allowed_run_at_once(workers: Workers, tmp_path: Path) -> None:
    given = [await stream_with(tmp_path / str(number)) for number in range(5)]
    await asyncio.gather(*(workers.run("fold", one, AMPLE) for one in given))
    assert workers.started == 2


async def test_closing_ends_a_job_and_says_so(tmp_path: Path) -> None:
    workers = Workers()
    job = asyncio.ensure_future(workers.run("fold", await stream_with(tmp_path, HANG), AMPLE))
    await until(lambda: bool(workers._busy))
    await workers.close()
    with pytest.raises(JobFailed, match="was stopped") as failed:
        await job
    assert not failed.value.is_fatal


async def test_where_no_worker_can_be_started_the_caller_is_told(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(NoWorker, match="nowhere"):
        await workers.run("fold", {}, AMPLE)


def test_an_application_that_is_no_python_gets_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(NoWorker, match="ended at once"):
        Worker()


ORPHAN = """
import asyncio, os, signal, sys
from maquette.engine.workers import Budget, Workers
async def main():
    pool = Workers()
    job = asyncio.ensure_future(pool.run("fold", eval(sys.argv[1]), Budget(60, 1 << 30, 60)))
    while not pool._busy:
        await asyncio.sleep(0)
    print(next(iter(pool._busy)).pid, flush=True)
    await asyncio.sleep(1)  # into the hang
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
async def test_g4_a_busy_worker_does_not_outlive_the_server(tmp_path: Path) -> None:
    given = await stream_with(tmp_path, HANG)
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", ORPHAN, repr(given)], capture_output=True, text=True
    )
    worker = Path("/proc", done.stdout.strip(), "stat")
    assert done.stdout.strip().isdigit()
    await until(lambda: not worker.exists() or worker.read_text().split()[2] == "Z")

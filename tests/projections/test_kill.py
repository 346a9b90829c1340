"""A process that is killed with SIGKILL while it builds views: what is on disk then is whole (rules V1 and V3)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import ROOT
from tests.support.following import BATCH, COUNT, PROJECTIONS, the_log
from tests.support.projections import Dump, dump

from maquette.projections.runner import Runner


def killed_after(lines: int, folder: Path, mode: str) -> None:
    """Start a process that builds views in `folder`, and kill it after it told of so many batches."""
    command = [sys.executable, "-m", "tests.support.following", str(folder), mode]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline(), "expected the process to live until it is killed"
        process.kill()
    assert process.returncode == -9


async def dumps(runner: Runner) -> dict[str, Dump]:
    return {make.name: await dump(runner.view(make.name), make()) for make in PROJECTIONS}


async def views_after(count: int, folder: Path) -> dict[str, Dump]:
    """What the views are after the first `count` events, built in one go."""
    log = await the_log(count)
    async with await Runner.open(log, folder, PROJECTIONS) as runner:
        await runner.wait_for(await log.head(), 30)
        return await dumps(runner)


@pytest.mark.parametrize("lines", [1, 40])
async def test_v1_after_a_kill_each_view_is_exactly_its_checkpoint(tmp_path: Path, lines: int) -> None:
    killed_after(lines, tmp_path / "killed", "follow")
    log = await the_log(COUNT)
    runner = await Runner.open(log, tmp_path / "killed", PROJECTIONS)
    for make in PROJECTIONS:
        reached = runner.view(make.name).checkpoint
        expected = await views_after(reached, tmp_path / make.name)
        assert await dump(runner.view(make.name), make()) == expected[make.name]
    reached = runner.view("tally").checkpoint
    assert BATCH * lines <= reached < COUNT, "expected a kill in the middle"
    async with runner:
        await runner.wait_for(await log.head(), 30)
        assert await dumps(runner) == await views_after(COUNT, tmp_path / "whole")


async def test_v3_a_kill_in_the_middle_of_a_rebuild_leaves_the_old_view(tmp_path: Path) -> None:
    before = await views_after(COUNT, tmp_path)
    killed_after(20, tmp_path, "rebuild")
    assert (tmp_path / "tally" / "2.sqlite").exists(), "expected a half-built view"
    runner = await Runner.open(await the_log(COUNT), tmp_path, PROJECTIONS)
    assert await dumps(runner) == before
    assert not (tmp_path / "tally" / "2.sqlite").exists()
    await runner.close()

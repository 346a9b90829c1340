"""The main job on real input, over the wire, with the server killed in the middle."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support import main_job, traces
from tests.support.node import require_node, run
from tests.support.server import ServerProcess

from maquette.engine.kinds.chat import PAGE_MESSAGES


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    async with ServerProcess(tmp_path) as process:
        yield process


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["clownschool", "friendsforever"])
async def test_d1_a_trace_survives_a_kill_in_every_replica_and_in_the_log(
    server: ServerProcess, real_data: Path, name: str
) -> None:
    require_node()
    trace = traces.load(real_data / "traces" / f"{name}.json.gz")
    done = await main_job.replay_trace(server, trace, name)
    assert done.texts == [trace.end] * trace.agents
    assert done.replayed() == trace.end
    assert done.stored_twice() == []
    owners = dict(zip(main_job.clients(trace.agents), done.actors, strict=True))
    assert done.authors() == {client: {actor} for client, actor in owners.items()}
    assert len(set(done.actors)) == trace.agents
    assert done.reconnects == (trace.agents + 1) // 2  # each Python agent once: the server really went away


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_models_come_out_of_one_scene_as_they_went_in(
    server: ServerProcess, real_data: Path, tmp_path: Path
) -> None:
    require_node()
    sources = [real_data / "models" / name for name in main_job.MODELS]
    await main_job.import_files(server, sources)
    exported = tmp_path / "scene.glb"
    await main_job.export_to(server, exported)
    assert main_job.shown_by(exported) == sum(map(main_job.shown_by, sources), start=main_job.Shown(0, 0, 0))
    (report,) = run("validate.mjs", [str(exported)])
    assert report["issues"]["numErrors"] == 0, report["issues"]["messages"]
    assert report["info"]["hasSkins"]
    assert report["info"]["hasMorphTargets"]


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_v2_a_day_of_chat_is_in_the_projection_and_again_when_everything_is_rebuilt(
    server: ServerProcess, real_data: Path
) -> None:
    day = real_data / "chat" / "ubuntu-irc-2008-04-27.txt"
    await main_job.import_files(server, [day])
    assert main_job.spoken(await main_job.conversation(server)) == main_job.lines_of(day)
    await main_job.import_files(server, [day.with_name("ubuntu-irc-2005-06-12.txt")])
    live = await main_job.conversation(server)
    assert len(live) > PAGE_MESSAGES  # the chain has turned a page
    await server.kill()
    shutil.rmtree(server.folder / "projections")
    shutil.rmtree(server.folder / "snapshots", ignore_errors=True)
    await server.start()
    assert await main_job.conversation(server) == live

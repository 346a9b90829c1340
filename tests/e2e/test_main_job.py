"""The main job on real input, over the wire, with the server killed in the middle."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support import main_job, traces
from tests.support.node import require_node
from tests.support.serving import ServerProcess


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    async with ServerProcess(tmp_path, "--dev") as process:
        yield process


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["clownschool", "friendsforever"])
async def test_d1_a_trace_survives_a_kill_in_every_replica_and_in_the_log(
    server: ServerProcess, real_data: Path, name: str
) -> None:
    require_node()
    trace = traces.load(real_data / "traces" / f"{name}.json.gz")
    run = await main_job.replay_trace(server, trace, name)
    assert run.texts == [trace.end] * trace.agents
    assert run.replayed() == trace.end
    assert run.stored_twice() == []
    owners = dict(zip(main_job.clients(trace.agents), run.actors, strict=True))
    assert run.authors() == {client: {actor} for client, actor in owners.items()}
    assert len(set(run.actors)) == trace.agents
    assert run.reconnects == (trace.agents + 1) // 2  # each Python agent once: the server really went away

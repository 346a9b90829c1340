"""SIGKILL of the real server under load (D1, L1, L6, V1, D6): what clients were shown and told is in its log."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest
from tests.crash.archive import read_archive
from tests.crash.evidence import Contradiction, Evidence
from tests.crash.hurried import OFTEN, SELDOM, find
from tests.crash.kills import HurriedServer, fresh, impatient_clients, kill_under_load, run_kills
from tests.crash.load import Load


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_d1_no_kill_loses_or_doubles_what_a_client_was_shown_or_told(tmp_path: Path) -> None:
    tally = await run_kills(tmp_path, 20, seed=1)
    assert tally.kills == 20
    assert tally.inside, "expected kills at points of the code"
    assert tally.compared > 1_000
    assert tally.pages > 0, "expected pages that turned"
    assert tally.snapshots > 0, "expected snapshots to compare with a replay"
    assert tally.refused == 0


@pytest.mark.slow
async def test_d1_a_log_without_what_clients_were_shown_contradicts_the_evidence(tmp_path: Path) -> None:
    """The harness itself: a folder from before the last edits is judged, and does not pass."""
    data, evidence = fresh(tmp_path / "round"), Evidence()
    server = HurriedServer(data)
    with impatient_clients():
        async with server:
            load = Load(server.url, data, Random(1), evidence)
            async with load.at_work():
                await kill_under_load(server, load, 20)
                shutil.copytree(data, tmp_path / "old")
                await server.start()
                load.up.set()
                await kill_under_load(server, load, 60)
    with pytest.raises(Contradiction):
        evidence.judge(await read_archive(tmp_path / "old"))
    assert evidence.judge(await read_archive(data)) > 0


@pytest.mark.parametrize("point", [*OFTEN, *SELDOM])
def test_every_point_at_which_the_server_kills_itself_exists(point: str) -> None:
    assert callable(getattr(*find(point)))

"""Inspection: whoever looks at a log is not harmed by what is in it (G4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.poison import HANG, STREAM, stream_with, word

from maquette.engine import inspection
from maquette.engine.inspection import Inspected, inspect_all
from maquette.engine.kinds.text import TEXT
from maquette.engine.workers import Workers


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    pool = Workers()
    yield pool
    await pool.close()


async def inspected(workers: Workers, folder: Path, *documents: Inspected) -> tuple[list[Inspected], list[int]]:
    """What was found, and what was told of how far it is."""
    told: list[int] = []
    found = await inspect_all(workers, folder, documents, lambda _phase, done, _total: told.append(done))
    return found, told


async def test_g4_a_logged_update_that_hangs_is_named_with_its_revision_and_the_others_are_replayed(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "SECONDS", 1.0)
    await stream_with(tmp_path, HANG)
    poisoned, sound = Inspected(STREAM, TEXT, 3), Inspected(STREAM, TEXT, 1)
    found, told = await inspected(workers, tmp_path, poisoned, sound)
    assert found[0].problem is not None
    assert found[0].problem.startswith("revision 2: a worker that replayed it used up ")
    assert found[1].problem is None
    assert told == [0, 2]


async def test_g4_a_revision_that_no_replica_takes_is_named(workers: Workers, tmp_path: Path) -> None:
    await stream_with(tmp_path, b"\x01")
    found, _ = await inspected(workers, tmp_path, Inspected(STREAM, TEXT, 3))
    assert found[0].problem is not None
    assert found[0].problem.startswith("revision 2: ")
    assert workers.started == 1


async def test_a_history_may_take_longer_than_one_of_its_revisions(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "SECONDS", 0.1)  # the system counts whole seconds: up to 1.1
    await stream_with(tmp_path, *(word(client, "word") for client in range(10, 6_010)))
    found, _ = await inspected(workers, tmp_path, Inspected(STREAM, TEXT, 6_002))
    assert found[0].problem is None

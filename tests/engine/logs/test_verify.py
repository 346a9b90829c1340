"""The full check sees what a reader would not look at."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.logs import copy_running, fill, filled, flip, opened, tamper

from maquette.engine.errors import LogDamaged
from maquette.engine.events import NewEvent, encode_data
from maquette.engine.logs.opening import head_of
from maquette.engine.logs.pages import stored_after
from maquette.engine.logs.schema import WITNESS, open_for_reading
from maquette.engine.logs.seal import seal
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.logs.verify import Loss, verify
from maquette.engine.testing.log_contract import ADA, note


async def test_a_sound_log_has_no_problems(tmp_path: Path) -> None:
    await filled(tmp_path, 30)
    steps: list[tuple[str, int, int]] = []
    report = await verify(tmp_path, lambda *step: steps.append(step))
    assert report.sound
    assert (report.head, report.events, report.streams, report.losses) == (30, 30, 7, ())
    assert steps == [("events", 0, 30), ("events", 30, 30), ("structure", 0, 1), ("structure", 1, 1)]


async def test_an_empty_log_is_sound(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        report = await verify(log)
    assert (report.sound, report.events) == (True, 0)


async def test_a_log_is_checked_while_it_is_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await fill(log, 10)
        report = await verify(log)
        await fill(log, 10)
    assert (report.problems, report.head) == ((), 10)


def forge(folder: Path, position: int) -> None:
    """Write another text under a right checksum, as somebody would who can write the database."""
    connection = open_for_reading(folder)
    [before, stored] = list(stored_after(connection, position - 2, position))
    connection.close()
    data = encode_data({"text": "forged"})
    mark = seal(stored.record._replace(data=data), before.seal.chain, stored.seal.salt)
    statement = "UPDATE events SET data = ?, digest = ?, chain = ?, checksum = ? WHERE position = ?"
    tamper(folder, statement, data, mark.digest, mark.chain, mark.checksum, position)


async def test_l6_a_forged_record_breaks_the_chain_behind_it(tmp_path: Path) -> None:
    await filled(tmp_path, 30)
    forge(tmp_path, 10)
    async with opened(tmp_path) as log:  # a reader cannot tell
        assert [event.data["text"] async for page in log.read_all() for event in page][9] == "forged"
    report = await verify(tmp_path)
    assert [problem.place for problem in report.problems] == [
        f"{tmp_path}/log.sqlite: stream 'tenant/space/document3@1', revision 2, position 11"
    ]


async def test_l6_a_forged_record_behind_a_witness_that_lags_does_not_open(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await fill(log, 5)
        lagging = (tmp_path / WITNESS).read_bytes()
        await fill(log, 10)
    (tmp_path / WITNESS).write_bytes(lagging)
    forge(tmp_path, 10)
    with pytest.raises(LogDamaged, match=r"position 11: expected the sealed record, got .* out of its chain"):
        await SqliteLog.open(tmp_path)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM events WHERE position = 10", "position 10: expected a record, got the one at 11"),
        ("DELETE FROM events WHERE position = 24", "revision 5, position 31: expected revision 4, got 5"),
        ("DELETE FROM events WHERE position > 28", "expected a log that reaches its witness at position 31, got"),
        ("UPDATE events SET data = x'80' WHERE position = 9", "position 9: expected checksum"),
        (
            "UPDATE streams SET revision = 9 WHERE id = 3",
            "stream 'tenant/space/document2@1': expected checksum",
        ),
        ("DELETE FROM streams WHERE id = 3", "stream None"),
    ],
)
async def test_l6_the_check_names_what_it_found(tmp_path: Path, statement: str, problem: str) -> None:
    async with opened(tmp_path) as log:
        await fill(log, 30)
        await log.append("tenant/space/document2@1", [NewEvent("note.written", ADA, {"text": "last"})])
    tamper(tmp_path, statement)
    report = await verify(tmp_path)
    assert not report.sound
    assert any(problem in str(found) for found in report.problems), report.problems


async def test_l6_the_check_looks_at_the_witness(tmp_path: Path) -> None:
    await filled(tmp_path, 10)
    (tmp_path / "log.witness").unlink()
    [problem] = (await verify(tmp_path)).problems
    assert str(problem) == f"{tmp_path}/log.witness: expected a witness, got no file"


async def test_l6_the_check_asks_sqlite_too(tmp_path: Path) -> None:
    await filled(tmp_path, 100)
    connection = open_for_reading(tmp_path)
    page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_events_2'").fetchone()[
        0
    ]
    assert head_of(connection).position == 100
    connection.close()
    flip(tmp_path / "log.sqlite", (page - 1) * 4096 + 4000, 3)
    report = await verify(tmp_path)
    assert any("sqlite_autoindex_events_2" in problem.actual for problem in report.problems), report.problems


async def test_accepted_losses_stay_on_record(tmp_path: Path) -> None:
    async with opened(tmp_path / "log") as log:
        await fill(log, 10)
        old = copy_running(tmp_path / "log", tmp_path / "old")
        await log.append("a", [note()])
    (old / "log.witness").write_bytes((tmp_path / "log" / "log.witness").read_bytes())
    async with opened(old, accept_loss=True):
        pass
    report = await verify(old)
    assert report.sound
    assert report.losses == (Loss(report.losses[0].time, 11, 10),)

"""Logs of other versions: older ones are brought up, newer ones are refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.logs import everything, filled, opened, tamper

from maquette.engine.errors import LogError, LogTooNew, LogUnwritable
from maquette.engine.logs.schema import APPLICATION_ID, FORMAT, MIGRATIONS, open_for_writing
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.testing.log_contract import note

FIRST = ("CREATE TABLE notes (text TEXT NOT NULL)", f"PRAGMA application_id = {APPLICATION_ID}")
SECOND = ("ALTER TABLE notes ADD COLUMN length INTEGER", "UPDATE notes SET length = length(text)")
THIRD_THAT_FAILS = ("UPDATE notes SET length = 0", "INSERT INTO missing VALUES (1)")


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


async def test_a_log_from_a_newer_version_is_refused_unchanged(tmp_path: Path) -> None:
    await filled(tmp_path, 5)
    tamper(tmp_path, f"PRAGMA user_version = {FORMAT + 1}")
    for opening in (SqliteLog.open, SqliteLog.open_readonly):
        with pytest.raises(LogTooNew, match=f"expected .* in log format {FORMAT} or older, got {FORMAT + 1}") as caught:
            await opening(tmp_path)
        assert (caught.value.expected, caught.value.actual) == (FORMAT, FORMAT + 1)
    tamper(tmp_path, f"PRAGMA user_version = {FORMAT}")
    async with opened(tmp_path) as log:
        assert len(await everything(log)) == 5


def test_an_older_log_is_brought_up_with_what_it_holds(tmp_path: Path) -> None:
    with closing(open_for_writing(tmp_path, [FIRST])) as connection:
        connection.execute("INSERT INTO notes VALUES ('four')")
        assert version(connection) == 1
    with closing(open_for_writing(tmp_path, [FIRST, SECOND])) as connection:
        assert connection.execute("SELECT * FROM notes").fetchall() == [("four", 4)]
        assert version(connection) == 2


def test_a_migration_that_fails_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    with closing(open_for_writing(tmp_path, [FIRST])) as connection:
        connection.execute("INSERT INTO notes VALUES ('four')")
    with pytest.raises(LogError, match="missing"):
        open_for_writing(tmp_path, [FIRST, SECOND, THIRD_THAT_FAILS])
    with closing(open_for_writing(tmp_path, [FIRST, SECOND])) as connection:
        assert connection.execute("SELECT * FROM notes").fetchall() == [("four", 4)]
        assert version(connection) == 2


async def test_a_reader_does_not_bring_an_older_log_up(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "log.sqlite", isolation_level=None)) as connection:
        for statement in FIRST:
            connection.execute(statement)
    with pytest.raises(LogError, match=f"in log format {FORMAT}, got 0"):
        await SqliteLog.open_readonly(tmp_path)


async def test_a_log_of_format_1_opens(tmp_path: Path) -> None:
    """The tables as format 1 had them, whatever format is current."""
    open_for_writing(tmp_path, MIGRATIONS[:1]).close()
    async with opened(tmp_path) as log:
        await log.append("a", [note()])
        assert len(await everything(log)) == 1


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite").mkdir()
    with pytest.raises(LogUnwritable, match=r"log\.sqlite"):
        await SqliteLog.open(tmp_path)

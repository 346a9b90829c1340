"""The log in SQLite passes the contract, and what only it can do."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from hypothesis import settings

from maquette.engine.log import EventLog
from maquette.engine.logs.record import Clock, wall_clock
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.testing.log_contract import LogContract
from maquette.engine.testing.log_machine import log_machine


@asynccontextmanager
async def on_disk(clock: Clock = wall_clock) -> AsyncIterator[EventLog]:
    with tempfile.TemporaryDirectory() as folder:
        log = await SqliteLog.open(Path(folder), clock=clock)
        try:
            yield log
        finally:
            await log.close()


class TestSqlite(LogContract):
    def opened(self, clock: Clock) -> AbstractAsyncContextManager[EventLog]:
        return on_disk(clock)


TestSqliteMachine = log_machine(on_disk).TestCase
TestSqliteMachine.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)

"""The log in memory passes the contract, with and without gaps between its positions."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from hypothesis import settings

from maquette.engine.log import EventLog
from maquette.engine.logs.memory import MemoryLog
from maquette.engine.logs.record import Clock, wall_clock
from maquette.engine.testing.log_contract import LogContract, collected, note
from maquette.engine.testing.log_machine import log_machine


@asynccontextmanager
async def dense(clock: Clock = wall_clock) -> AsyncIterator[EventLog]:
    log = MemoryLog(clock=clock)
    yield log
    await log.close()


@asynccontextmanager
async def sparse(clock: Clock = wall_clock) -> AsyncIterator[EventLog]:
    dice = random.Random(7)
    log = MemoryLog(stride=lambda: dice.randint(1, 1000), clock=clock)
    yield log
    await log.close()


@pytest.mark.smoke
class TestDense(LogContract):
    def opened(self, clock: Clock) -> AbstractAsyncContextManager[EventLog]:
        return dense(clock)


class TestSparse(LogContract):
    def opened(self, clock: Clock) -> AbstractAsyncContextManager[EventLog]:
        return sparse(clock)

    async def test_positions_have_gaps(self) -> None:
        async with self.fresh() as log:
            await log.append("a", [note() for _ in range(20)])
            positions = [event.position for event in await collected(log.read_all())]
            assert positions[-1] - positions[0] > 20


TestDenseMachine = log_machine(dense).TestCase
TestDenseMachine.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestSparseMachine = log_machine(sparse).TestCase
TestSparseMachine.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)

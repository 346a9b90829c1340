"""Ops that wait for a hole: who goes on first, and what is kept of them."""

from __future__ import annotations

import pytest
from tests.support.wire import group, text, update

from maquette.engine import waiting
from maquette.engine.events import Actor
from maquette.engine.index import Hole, Index
from maquette.engine.receipts import Receipt
from maquette.engine.roles import Role
from maquette.engine.update import read_update
from maquette.engine.waiting import Submission, Waiting


def op(client: int, clock: int, structs: int = 1) -> Submission:
    """One that waits for a clock of `client`."""
    data = update(group(9, 0, *[text("x", parent="t")] * structs))
    hole = Hole(client, clock, "origin")
    return Submission(Actor("ada"), lambda: Role.EDITOR, data, 9, Receipt(hole=hole), read_update(data))


def grown(client: int, length: int) -> Index:
    index = Index()
    index.add(read_update(update(group(client, 0, text("y" * length, parent="t")))))
    return index


def test_d3_who_waits_for_the_earliest_clock_goes_on_first_and_only_when_it_is_there() -> None:
    ops = Waiting()
    late, early, other = op(5, 7), op(5, 2), op(6, 0)
    for one in (late, early, other):
        ops.add(one)
    index = grown(5, 3)
    assert ops.next_ready(index) is early
    assert ops.next_ready(index) is None
    assert ops.next_ready(grown(5, 8)) is late
    assert ops.next_ready(grown(6, 1)) is other
    assert len(ops) == 0


def test_d3_what_is_kept_of_those_that_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MAX_STRUCTS", 5)
    ops = Waiting()
    first, second, third = op(5, 0, 3), op(6, 0, 3), op(7, 0, 3)
    ops.add(first)
    ops.add(second)
    assert first.read is not None
    assert second.read is None  # read again when it goes on
    assert ops.next_ready(grown(5, 1)) is first
    ops.add(third)
    assert third.read is not None

"""What becomes of appends that share a commit, or were called while one failed."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from maquette.engine.errors import LogUnwritable, WrongRevision
from maquette.engine.events import Position
from maquette.engine.log import Appended
from maquette.engine.logs.decisions import Decisions, Failures, Ground, Place, Proposal, decide
from maquette.engine.logs.record import drafts_of
from maquette.engine.testing.log_contract import note


@pytest.fixture
async def future() -> asyncio.Future[Appended]:
    """One that nobody settles."""
    return asyncio.get_running_loop().create_future()


def decided(failures: Failures, *proposals: Proposal, head: int = 1) -> list[str]:
    """The kinds of outcomes, for streams that are at `head`."""
    names = {proposal.stream for proposal in proposals}
    ground = Ground(dict.fromkeys(names, head), {}, count(10).__next__, 0)
    return [
        "Appended" if isinstance(outcome, Appended) else type(outcome()).__name__
        for _, outcome in decide(proposals, ground, failures).outcomes
    ]


def failed(stream: str) -> Failures:
    """One commit has failed for `stream`."""
    failures = Failures()
    failures.record({stream: lambda: LogUnwritable("full")})
    return failures


Pending = asyncio.Future[Appended]


async def test_an_append_called_before_a_failure_was_known_fails_with_it(future: Pending) -> None:
    proposal = Proposal("a", drafts_of("a", [note()]), 1, 0, future)
    assert decided(failed("a"), proposal) == ["LogUnwritable"]


async def test_an_append_called_after_the_failure_was_known_is_tried(future: Pending) -> None:
    proposal = Proposal("a", drafts_of("a", [note()]), 1, 1, future)
    assert decided(failed("a"), proposal) == ["Appended"]


async def test_an_append_without_an_expectation_was_built_on_nothing(future: Pending) -> None:
    proposal = Proposal("a", drafts_of("a", [note()]), None, 0, future)
    assert decided(failed("a"), proposal) == ["Appended"]


async def test_another_streams_failure_is_no_concern(future: Pending) -> None:
    proposal = Proposal("b", drafts_of("b", [note()]), 1, 0, future)
    assert decided(failed("a"), proposal) == ["Appended"]


async def test_a_wrong_revision_is_told_before_an_older_failure(future: Pending) -> None:
    proposal = Proposal("a", drafts_of("a", [note()]), 2, 0, future)
    assert decided(failed("a"), proposal) == [WrongRevision.__name__]


async def test_what_every_caller_knows_is_forgotten(future: Pending) -> None:
    failures = failed("a")
    failures.forget(known=1)
    proposal = Proposal("a", drafts_of("a", [note()]), 1, 0, future)
    assert failures.cause(proposal) is None


async def test_l3_a_stored_append_is_answered_whatever_failed_before(future: Pending) -> None:
    drafts = drafts_of("a", [note(), note()])
    places = {("a", draft.id): Place(n, n + 3, 7) for n, draft in enumerate(drafts, 1)}
    ground = Ground({"a": 2}, places, count(9).__next__, 8)
    decisions = decide([Proposal("a", drafts, 0, 0, future)], ground, failed("a"))
    assert decisions == Decisions(outcomes=[(future, Appended(1, 2, Position(5), 7))])

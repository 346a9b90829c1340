"""What becomes of the appends that share a commit: pure, decided before anything is written.

Rule 1: appends are decided in the order of their calls; each sees what those before it will have written.
Rule 2: an append whose events are all stored already is answered with their places, whatever revision it expected:
        a retry after a lost answer must not look like a lost race (L3).
Rule 3: an append that fails does so alone, and takes with it only appends that were called before its caller could
        know, on the same stream, with an expected revision: they were built on it.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import NamedTuple

from maquette.engine.errors import LogError, WrongRevision
from maquette.engine.events import Position
from maquette.engine.log import Appended
from maquette.engine.logs.record import Draft, Record, placed

Failure = Callable[[], LogError]
"""Makes the error: each future gets its own, because a raised exception collects tracebacks."""

Outcome = Appended | Failure


class Place(NamedTuple):
    """Where an event is stored."""

    revision: int
    position: int
    time: int


Places = MutableMapping[tuple[str, bytes], Place]
"""Places by (stream, event id)."""


class Proposal(NamedTuple):
    """One call of `append`. `known` is the number of failing commits that the caller's side knew of when it called."""

    stream: str
    drafts: tuple[Draft, ...]
    expected: int | None
    known: int
    future: Future[Appended]


class Failures:
    """The failures that callers may not know of yet (rule 3). Belongs to whoever decides; counts failing commits."""

    def __init__(self) -> None:
        self.count = 0
        self._broken: dict[str, tuple[int, Failure]] = {}

    def cause(self, proposal: Proposal) -> Failure | None:
        """The failure on which `proposal` was unknowingly built; None when there is none."""
        count, failure = self._broken.get(proposal.stream, (0, None))
        return failure if proposal.expected is not None and proposal.known < count else None

    def record(self, failed: Mapping[str, Failure]) -> None:
        """Count one failing commit with its failures by stream."""
        self.count += 1
        self._broken.update((stream, (self.count, failure)) for stream, failure in failed.items())

    def forget(self, known: int) -> None:
        """Drop what every later call knows of, so that this stays as small as the failures in flight."""
        if self._broken:
            self._broken = {stream: entry for stream, entry in self._broken.items() if entry[0] > known}


@dataclass(slots=True)
class Decisions:
    """What one commit will write, and the answer to each of its appends."""

    records: list[Record] = field(default_factory=list)
    outcomes: list[tuple[Future[Appended], Outcome]] = field(default_factory=list)
    failed: dict[str, Failure] = field(default_factory=dict)


@dataclass(slots=True)
class Ground:
    """What the log holds before the commit; `decide` moves it forward to what it holds after."""

    heads: MutableMapping[str, int]
    places: Places
    next_position: Callable[[], int]
    time: int


def decide(proposals: Iterable[Proposal], ground: Ground, failures: Failures) -> Decisions:
    """Decide `proposals` on `ground`, which knows the head of each of their streams and the place of each stored id."""
    decisions = Decisions()
    for proposal in proposals:
        failure = _refusal(proposal, ground, failures, decisions)
        if failure is None:
            decisions.outcomes.append((proposal.future, _write(proposal, ground, decisions)))
        else:
            decisions.failed.setdefault(proposal.stream, failure)
            decisions.outcomes.append((proposal.future, failure))
    return decisions


def _refusal(proposal: Proposal, ground: Ground, failures: Failures, decisions: Decisions) -> Failure | None:
    if proposal.expected is None or _stored(proposal, ground):
        return None
    actual = ground.heads.get(proposal.stream, 0)
    if proposal.expected != actual:
        stream, expected = proposal.stream, proposal.expected
        return lambda: WrongRevision(stream, expected, actual)
    return decisions.failed.get(proposal.stream) or failures.cause(proposal)


def _stored(proposal: Proposal, ground: Ground) -> bool:
    return all((proposal.stream, draft.id) in ground.places for draft in proposal.drafts)


def _write(proposal: Proposal, ground: Ground, decisions: Decisions) -> Appended:
    places = [_place(draft, proposal.stream, ground, decisions) for draft in proposal.drafts]
    last = max(places)
    return Appended(min(places).revision, last.revision, Position(last.position), last.time)


def _place(draft: Draft, stream: str, ground: Ground, decisions: Decisions) -> Place:
    known = ground.places.get((stream, draft.id))
    if known is not None:
        return known
    place = Place(ground.heads.get(stream, 0) + 1, ground.next_position(), ground.time)
    ground.heads[stream] = place.revision
    ground.places[stream, draft.id] = place
    decisions.records.append(placed(draft, stream, place.position, place.revision, place.time))
    return place


def settle(outcomes: Iterable[tuple[Future[Appended], Outcome]]) -> None:
    """Answer the appends, on their event loop. A future that its caller cancelled keeps quiet: the append stays."""
    for future, outcome in outcomes:
        if future.done():
            continue
        if isinstance(outcome, Appended):
            future.set_result(outcome)
        else:
            future.set_exception(outcome())

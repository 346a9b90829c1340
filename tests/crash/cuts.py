"""Power cuts of a log under load: lives of a log, each begun on what a cut in the life before has left.

In each life writers append through a recording disk; then the disk states of random moments are made, each is opened
by the ordinary SqliteLog, and what the log holds is compared with what had been acknowledged up to that moment.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from unittest.mock import patch

from tests.crash.medium import Flushed, FlushFailed, Medium, Step
from tests.crash.recording import Failing, Journal, Synchronous, ToldDisk, recording
from tests.support.logs import everything, opened

from maquette.engine.errors import LogDamaged, LogLost, LogUnwritable
from maquette.engine.events import Event, NewEvent
from maquette.engine.log import Appended
from maquette.engine.logs import schema, writer
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.logs.verify import verify
from maquette.engine.testing.log_contract import note

LIVES = 5
"""Of one log, before a fresh one is begun: each life looks for all that the lives before it have left."""

CUTS_IN_A_LIFE = 25
STREAMS = 6
APPENDS = 14
"""By each of the streams' writers in a life."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An append whose future had ended when the journal was `step` long."""

    step: int
    stream: str
    ids: tuple[bytes, ...]
    place: Appended


@dataclass(slots=True)
class Life:
    """What happened between an opening and the end of the journal."""

    baseline: list[Event]
    """What the log held when it was opened: it was read then, so it stays."""
    files: dict[str, bytes]
    """The folder at that moment."""
    steps: list[Step]
    acknowledged: list[Acknowledged]
    submitted: dict[str, list[bytes]]
    """Stream → the ids of all events ever appended to it, in order."""


@dataclass(slots=True)
class Tally:
    """What a run came to; `kept` counts acknowledged events that were looked for and found."""

    cuts: int = 0
    kept: int = 0
    lost: int = 0
    doubled: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Openings that did not succeed, by the error that names what is missing."""
    flushes: int = 0
    failed: int = 0
    """Flushes that failed."""
    folds: int = 0
    """Flushes of the database itself: SQLite folded its WAL, or was about to reset it."""
    torn: int = 0
    """Disk states that differ from all that was written and from all that was flushed."""

    def line(self) -> str:
        """One line for people."""
        return (
            f"{self.cuts} power cuts ({self.torn} with torn or reordered writes, {self.flushes} flushes, {self.folds} "
            f"of the database, {self.failed} failed): {self.kept} acknowledged events looked for and found, "
            f"{self.lost} lost, {self.doubled} doubled, {sum(self.refused.values())} logs refused "
            f"{dict(self.refused) or ''}".rstrip()
        )


class UnexpectedState(AssertionError):
    """A log that opened and does not hold what it must; `what` counts events."""

    def __init__(self, message: str, what: str, number: int) -> None:
        super().__init__(message)
        self.what = what
        self.number = number


async def run_cuts(
    folder: Path, cuts: int, seed: int, synchronous: Synchronous = "FULL", failing: Failing | None = None
) -> Tally:
    """`cuts` power cuts in one life after another; the losses are counted, not raised. `folder` is used up.

    Flushes fail as `failing` says.
    """
    dice, tally = Random(seed), Tally()
    for number in count():
        if tally.cuts >= cuts:
            return tally
        if number % LIVES == 0:
            files, baseline, submitted = _nothing()
        place = folder / f"life{number}"
        life = await live(place, files, baseline, submitted, dice, synchronous, failing)
        states = await _cut(folder / f"life{number}-cuts", life, min(CUTS_IN_A_LIFE, cuts - tally.cuts), dice, tally)
        tally.failed += sum(isinstance(step, FlushFailed) for step in life.steps)
        tally.flushes += sum(isinstance(step, Flushed) for step in life.steps)
        tally.folds += sum(step == Flushed(schema.DATABASE) for step in life.steps)
        if states:
            files, baseline = dice.choice(states)
            submitted = {}
            for event in baseline:
                submitted.setdefault(event.stream, []).append(event.id.bytes)
        shutil.rmtree(folder)
    raise AssertionError("unreachable")


def _nothing() -> tuple[dict[str, bytes], list[Event], dict[str, list[bytes]]]:
    return {}, [], {}


# --- a life ----------------------------------------------------------------------------------------------------------


async def live(
    folder: Path,
    files: Mapping[str, bytes],
    baseline: Sequence[Event],
    submitted: Mapping[str, Sequence[bytes]],
    dice: Random,
    synchronous: Synchronous,
    failing: Failing | None = None,
) -> Life:
    """Let writers append to the log of `files`, close it, and tell what happened."""
    put(folder, files)
    life = Life(list(baseline), dict(files), [], [], {stream: list(ids) for stream, ids in submitted.items()})
    # small: so that the WAL is folded between commits, inside of them, and begun anew many times in a life
    small = patch.object(writer, "FOLD_PAGES", 40), patch.object(schema, "WAL_PAGES", dice.choice((30, 1_000)))
    soon = patch.object(writer, "PROBE_SECONDS", 0.001)
    with small[0], small[1], soon, recording(folder) as journal:
        log = await SqliteLog.open(folder, disk=ToldDisk(synchronous))
        journal.failing = failing
        streams = [f"tenant/space/document{number}@1" for number in range(STREAMS)]
        await asyncio.gather(*(_write(log, stream, life, journal, Random(dice.random())) for stream in streams))
        journal.failing = None
        await log.close()
    life.steps = journal.steps
    return life


async def _write(log: SqliteLog, stream: str, life: Life, journal: Journal, dice: Random) -> None:
    submitted = life.submitted.setdefault(stream, [])
    for number in range(APPENDS):
        events = [note(f"{number}.{part}", update=_update(dice)) for part in range(dice.randint(1, 3))]
        expected = len(submitted) if dice.random() < 0.5 else None
        submitted += [event.id.bytes for event in events]
        place = await _append(log, stream, events, expected)
        if dice.random() < 0.2:  # as after a lost answer
            place = await _append(log, stream, events, None)
        life.acknowledged.append(Acknowledged(len(journal.steps), stream, _ids(events), place))


async def _append(log: SqliteLog, stream: str, events: Sequence[NewEvent], expected: int | None) -> Appended:
    """Where the events are, however often that takes."""
    while True:
        try:
            return await log.append(stream, events, expected)
        except LogUnwritable:
            await log.until_writable()


def _ids(events: Sequence[NewEvent]) -> tuple[bytes, ...]:
    return tuple(event.id.bytes for event in events)


def _update(dice: Random) -> bytes:
    return dice.randbytes(dice.choice((20, 300, 2_000, 9_000)))


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make `folder` with `files` in it; names that end in a slash are those of folders."""
    folder.mkdir(parents=True)
    for name in sorted(files):  # a folder before what is in it
        if name.endswith("/"):
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(files[name])


# --- its cuts --------------------------------------------------------------------------------------------------------


async def _cut(
    folder: Path, life: Life, cuts: int, dice: Random, tally: Tally
) -> list[tuple[dict[str, bytes], list[Event]]]:
    """Cut the power `cuts` times; the states that opened, and what they held."""
    medium, at, states = Medium(life.files), 0, []
    for number, moment in enumerate(sorted(_moments(life, cuts, dice))):
        medium.take(life.steps[at:moment])
        at = moment
        left = medium.after_power_cut(dice)
        tally.cuts += 1
        tally.torn += medium.is_torn(left)
        try:
            events = await examine(folder / str(number), left, life, moment)
        except (LogLost, LogDamaged) as error:
            tally.refused[type(error).__name__] += 1
            tally.lost += isinstance(error, LogLost)
        except UnexpectedState as state:
            setattr(tally, state.what, getattr(tally, state.what) + state.number)
        else:
            tally.kept += len(life.baseline) + sum(len(one.ids) for one in _before(life, moment))
            states.append((left, events))
    return states


def _moments(life: Life, cuts: int, dice: Random) -> list[int]:
    """Half of them anywhere, half right behind an acknowledgement, where most can be lost."""
    acknowledged = [one.step for one in life.acknowledged]
    return [dice.choice(acknowledged) if dice.random() < 0.5 else dice.randint(0, len(life.steps)) for _ in range(cuts)]


def _before(life: Life, moment: int) -> list[Acknowledged]:
    return [one for one in life.acknowledged if one.step <= moment]


async def examine(folder: Path, files: Mapping[str, bytes], life: Life, moment: int) -> list[Event]:
    """Open the log that a cut at `moment` left, and give what it holds, having found there what must be.

    Raises UnexpectedState, and LogError when it does not open.
    """
    put(folder, files)
    async with opened(folder) as log:
        events = await everything(log)
        _compare(events, life, moment)
        await log.append("after", [note("the log goes on")])
        assert len(await everything(log)) == len(events) + 1
    report = await verify(folder)
    assert not report.problems, report.problems
    return events


def _compare(events: Sequence[Event], life: Life, moment: int) -> None:
    lost = [event for event in life.baseline if event not in events[: len(life.baseline)]]
    if lost:
        raise UnexpectedState(f"expected what was read before, {len(lost)} events are gone", "lost", len(lost))
    places = {(event.stream, event.id.bytes): event for event in events}
    if len(places) != len(events):
        raise UnexpectedState("expected each event once", "doubled", len(events) - len(places))
    gone = [id_ for one in _before(life, moment) for id_ in one.ids if (one.stream, id_) not in places]
    if gone:
        raise UnexpectedState(f"expected what was acknowledged, {len(gone)} events are gone", "lost", len(gone))
    for one in _before(life, moment):
        last = places[one.stream, one.ids[-1]]
        assert (last.revision, last.position, last.time) == (one.place.last, one.place.position, one.place.time)
    for stream, ids in life.submitted.items():
        held = [event.id.bytes for event in events if event.stream == stream]
        assert held == ids[: len(held)], f"expected {stream} in the order in which it was written"

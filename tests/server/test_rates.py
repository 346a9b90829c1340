"""The pace at which connections are read (G2), with a clock by hand."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import pytest

from maquette.server.rates import FLOOD_SECONDS, MAX_PAUSE, Meter, Pace, Pacer

WIDE = Pace(1e9, 1e9, 1e9)


class Sender:
    """Sends as fast as it may, or `every` so many seconds; `sent` are the moments, `waits` how long each was late."""

    def __init__(self, pacer: Pacer, *, every: float = 0.0, size: int = 20, op: bool = True) -> None:
        self.pacer = pacer
        self.every = every
        self.size = size
        self.op = op
        self.sent: list[float] = []
        self.waits: list[float] = []

    def rate(self, start: float, end: float) -> float:
        return sum(start <= moment < end for moment in self.sent) / (end - start)


def run(senders: Sequence[Sender], seconds: float) -> None:
    """Let all send from second 100.3 on, in order of time."""
    start = 100.3
    queue = [(start + number / 1e4, start + number / 1e4, number) for number in range(len(senders))]
    while queue and queue[0][0] < start + seconds:
        now, meant, number = heapq.heappop(queue)
        sender = senders[number]
        pause = sender.pacer.take(now, sender.size, sender.op)
        sender.sent.append(now)
        sender.waits.append(now - meant)
        meant = meant + sender.every if sender.every else now
        heapq.heappush(queue, (max(now + pause + 1e-4, meant), meant, number))


def place(pace: Pace, *actors: str) -> Meter:
    meter = Meter(pace)
    meter.members.update(actors)
    return meter


@pytest.mark.parametrize(
    ("pace", "size", "expected"),
    [(Pace(100, 1e9, 1e9), 20, 100), (Pace(1e9, 50_000, 1e9), 1_000, 50), (Pace(1e9, 1e9, 30), 20, 30)],
)
def test_g2_who_sends_without_end_is_read_at_the_pace_of_each_limit(pace: Pace, size: int, expected: float) -> None:
    sender = Sender(Pacer(pace, Meter(WIDE), ()), size=size)
    run([sender], 12)
    assert sender.rate(102.3, 112.3) == pytest.approx(expected, rel=0.1)


def test_who_keeps_to_the_limits_never_waits() -> None:
    pace = Pace(100, 1e6, 50)
    sender = Sender(Pacer(pace, Meter(pace), [place(pace, "ann")]), every=1 / 45)
    run([sender], 30)
    assert len(sender.sent) > 1_000
    assert max(sender.waits) < 1e-3


def test_what_is_no_op_counts_as_a_frame_only() -> None:
    sender = Sender(Pacer(Pace(100, 1e9, 1), Meter(WIDE), ()), op=False)
    run([sender], 12)
    assert sender.rate(102.3, 112.3) == pytest.approx(100, rel=0.1)


def test_the_connections_of_one_actor_share_the_actors_limit() -> None:
    actor = Meter(Pace(100, 1e9, 1e9))
    senders = [Sender(Pacer(WIDE, actor, ())) for _ in range(10)]
    run(senders, 12)
    assert sum(sender.rate(102.3, 112.3) for sender in senders) == pytest.approx(100, rel=0.2)


def test_g2_in_a_crowd_only_those_wait_who_use_more_than_their_share() -> None:
    shared = place(Pace(1e9, 1e9, 100), "eve", *(f"honest{n}" for n in range(9)))
    honest = [Sender(Pacer(WIDE, Meter(WIDE), [shared]), every=1 / 8) for _ in range(9)]
    floods = Meter(WIDE)
    flooding = [Sender(Pacer(WIDE, floods, [shared])) for _ in range(5)]
    run([*honest, *flooding], 12)
    assert max(wait for sender in honest for wait in sender.waits) < 1e-3
    assert all(sender.rate(102.3, 112.3) == pytest.approx(8, rel=0.1) for sender in honest)
    assert sum(sender.rate(102.3, 112.3) for sender in flooding) < 40


def test_a_pause_is_never_longer_than_the_window_needs_to_empty() -> None:
    pacer = Pacer(Pace(1e9, 1_000, 1e9), Meter(WIDE), ())
    assert pacer.take(100.0, 1 << 30, True) == MAX_PAUSE
    assert pacer.take(100.0 + MAX_PAUSE, 10, True) == 0.0


def test_who_hurries_for_a_while_is_no_flood_and_who_goes_on_is() -> None:
    sender = Sender(Pacer(Pace(100, 1e9, 1e9), Meter(WIDE), ()))
    run([sender], FLOOD_SECONDS / 4)
    assert not sender.pacer.is_flood
    run([sender], FLOOD_SECONDS)
    assert sender.pacer.is_flood


def test_who_waits_for_others_is_no_flood() -> None:
    shared = place(Pace(1e9, 1e9, 10), "eve", "ann")
    sender = Sender(Pacer(WIDE, Meter(WIDE), [shared]))
    run([sender], 3 * FLOOD_SECONDS)
    assert sender.rate(102.3, 112.3) < 20
    assert not sender.pacer.is_flood

"""Whose turn it is on the event loop (G2), with clocks by hand."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

import pytest

from maquette.server.turns import BEAT_SECONDS, LEAST, LIGHT, MAX_REST, MOST, SLICE, Party, Seat, Turns

ANN, BEN, EVE = ("acme", "a", "ann"), ("acme", "a", "ben"), ("acme", "e", "eve")


class Clock:
    """An event loop's time: what is due runs when the clock is turned; `late` is by how much too late."""

    def __init__(self) -> None:
        self.now = 100.0
        self.late = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def read(self) -> float:
        return self.now

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._due, (self.now + seconds, self._number, action))

    def once(self) -> None:
        """One turn of the loop."""
        for _ in range(sum(due <= self.now for due, _, _ in self._due)):
            heapq.heappop(self._due)[2]()

    def turn(self, seconds: float) -> None:
        """As many as fit into so much time."""
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now = max(self.now, self._due[0][0] + self.late)
            self.once()
        self.now = max(self.now, end)


class Place:
    """Turns over such a clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.turns = Turns(self.clock.read, self.clock.read, self.clock.later)
        self.kept: set[Party] = set()

    def party(self, *names: str) -> Party:
        party = self.turns.party(*names)
        self.kept.add(party)
        return party

    def work(self, seconds: float, *names: str) -> None:
        """Somebody works for so long."""
        self.clock.turn(seconds)
        self.turns.charge(self.party(*names), seconds)

    def is_over(self, *names: str) -> bool:
        return self.turns.is_over(self.party(*names))

    def line_up(self, *names: str) -> asyncio.Future[None]:
        return self.turns.line_up(self.party(*names))

    def order(self, turns: dict[str, asyncio.Future[None]]) -> list[str]:
        """In which order the turns come."""
        order: list[str] = []
        while turns:
            self.clock.once()
            (name,) = [name for name, turn in turns.items() if turn.done()]
            del turns[name]
            order.append(name)
        return order


@pytest.fixture
def place() -> Place:
    return Place()


# --- who waits -------------------------------------------------------------------------------------------------------


def test_g2_nobody_is_over_while_there_is_time_for_all(place: Place) -> None:
    for _ in range(100):
        place.work(0.01, *EVE)
        place.work(0.002, *ANN)
        place.clock.turn(0.03)
    assert place.turns.room == pytest.approx(MOST)
    assert not place.is_over(*EVE)


def test_g2_in_a_contended_loop_who_uses_most_is_over_and_nobody_else(place: Place) -> None:
    for _ in range(100):
        place.work(0.02, *EVE)
        place.work(0.001, *ANN)
        place.clock.turn(0.005)
    assert place.is_over(*EVE)
    assert not place.is_over(*ANN)
    assert not place.is_over(*BEN)


def test_g2_many_connections_and_many_addresses_bring_one_tenant_nothing_of_anothers(place: Place) -> None:
    for number in range(400):
        place.work(0.004, "acme", f"address{number % 20}", f"eve{number % 40}")
        if number % 2:
            place.work(0.002, "other", "z", "zoe")
        place.clock.turn(0.001)
    assert place.party("other").used(place.clock.now) > 0.1
    assert not place.is_over("other", "z", "zoe")
    assert any(place.is_over("acme", f"address{number % 20}", f"eve{number}") for number in range(40))


def test_g2_who_shares_an_address_with_a_flood_is_not_over(place: Place) -> None:
    for _ in range(100):
        place.work(0.02, "acme", "a", "eve")
        place.work(0.0005, *ANN)
        place.clock.turn(0.001)
    assert place.is_over("acme", "a", "eve")
    assert not place.is_over(*ANN)


def test_g2_an_office_that_works_is_not_over_beside_a_flood_from_elsewhere(place: Place) -> None:
    for number in range(2_000):
        place.work(0.004, *EVE)
        place.work(0.0005, "acme", "office", f"person{number % 50}")
    assert place.is_over(*EVE)
    assert not any(place.is_over("acme", "office", f"person{number}") for number in range(50))


def test_who_needs_next_to_nothing_never_waits(place: Place) -> None:
    for number in range(3_000):
        place.work(0.001, "acme", "a", f"actor{number % 300}")
    assert place.party("acme", "a", "actor1").used(place.clock.now) < LIGHT
    assert not any(place.is_over("acme", "a", f"actor{number}") for number in range(300))


def test_what_was_used_is_forgotten(place: Place) -> None:
    for _ in range(100):
        place.work(0.02, *EVE)
    place.work(0.0001, *ANN)
    assert place.is_over(*EVE)
    place.clock.turn(10.0)
    assert not place.is_over(*EVE)
    assert place.party().active == set()


# --- the line --------------------------------------------------------------------------------------------------------


async def test_g2_those_in_line_come_by_what_their_tenant_their_address_and_they_used(place: Place) -> None:
    place.work(0.035, "acme", "a", "ann")
    place.work(0.020, "acme", "a", "ben")
    place.work(0.040, "acme", "e", "eve")
    place.work(0.080, "other", "z", "zoe")
    names = {"ann": ("acme", "a", "ann"), "ben": ("acme", "a", "ben"), "eve": ("acme", "e", "eve")}
    turns = {name: place.line_up(*path) for name, path in ({"zoe": ("other", "z", "zoe")} | names).items()}
    assert place.order(turns) == ["zoe", "eve", "ben", "ann"]


async def test_g2_the_connections_of_an_actor_take_turns_and_one_works_at_a_time(place: Place) -> None:
    place.work(0.5, *EVE)
    turns = [place.line_up(*EVE) for _ in range(3)]
    for number in range(3):
        place.clock.once()
        assert [turn.done() for turn in turns] == [one <= number for one in range(3)]
    assert place.turns.waiting == 0


async def test_g2_those_in_line_leave_most_of_the_time_to_those_who_need_little(place: Place) -> None:
    worked = 0.0
    begin = place.clock.now
    while place.clock.now < begin + 10.0:
        place.work(0.0005, *ANN)
        if place.is_over(*EVE):
            turn = place.line_up(*EVE)
            while not turn.done():
                place.clock.turn(0.001)
        place.work(0.001, *EVE)
        worked += 0.001
    assert worked < 4.0
    assert not place.is_over(*ANN)


async def test_g2_who_is_alone_never_pauses(place: Place) -> None:
    begin = place.clock.now
    for _ in range(5_000):
        if place.is_over(*EVE):
            turn = place.line_up(*EVE)
            place.clock.once()
            assert turn.done()
        place.work(0.001, *EVE)
    assert place.clock.now - begin == pytest.approx(5.0)


async def test_one_large_piece_of_work_keeps_nobody_from_working_for_long(place: Place) -> None:
    for _ in range(100):
        place.work(0.02, *EVE)
        place.work(0.0001, *ANN)
    place.work(3.0, *EVE)
    turn = place.line_up(*EVE)
    place.clock.turn(MAX_REST + 0.001)
    assert turn.done()


async def test_who_has_left_the_line_takes_no_turn(place: Place) -> None:
    gone, stays = place.line_up(*EVE), place.line_up(*EVE)
    gone.cancel()
    place.clock.once()
    assert stays.done()
    assert place.turns.waiting == 0


def test_g2_where_the_loop_is_late_less_of_it_may_be_used_and_more_again_later(place: Place) -> None:
    place.clock.late = 0.02
    for _ in range(100):
        place.work(0.001, *ANN)
        place.clock.turn(BEAT_SECONDS)
    assert place.turns.room == LEAST
    place.clock.late = 0.0
    for _ in range(100):
        place.work(0.001, *ANN)
        place.clock.turn(BEAT_SECONDS)
    assert place.turns.room == pytest.approx(MOST)


# --- seats -----------------------------------------------------------------------------------------------------------


async def test_a_seat_asks_again_after_each_slice(place: Place) -> None:
    for _ in range(100):
        place.work(0.02, *EVE)
    place.work(0.0001, *ANN)
    seat = Seat(place.turns, place.party(*EVE))
    waited = [seat.must_wait]
    seat.line_up()
    place.clock.once()
    await asyncio.sleep(0)
    for part in (0.0, 0.5, 1.0):
        seat.charge(part * SLICE)
        waited.append(seat.must_wait)
    assert waited == [True, False, False, True]


async def test_who_turns_out_to_be_somebody_else_leaves_the_line_of_the_address(place: Place) -> None:
    for _ in range(100):
        place.work(0.02, "", "a", "")
    seat = Seat(place.turns, place.party("", "a", ""))
    turn = seat.line_up()
    seat.move(place.party(*ANN))
    assert turn.cancelled()
    await seat.turn()
    seat.charge(0.001)
    assert place.party(*ANN).used(place.clock.now) == pytest.approx(0.001)

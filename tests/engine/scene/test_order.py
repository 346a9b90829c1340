from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from maquette.engine.errors import InvalidInput
from maquette.engine.scene.order import MAX_LENGTH, NoRoom, at, between, check_order, is_order, many

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
foreign_orders = st.text(DIGITS, min_size=1, max_size=12)
seeds = st.integers(0, 2**32)


def seeded(seed: int = 1) -> random.Random:
    return random.Random(seed)


@given(st.sets(foreign_orders, min_size=2, max_size=2).map(sorted), seeds)
@example(["V", "VzzzzzzzzzzW"], 0)
@example(["0", "1"], 0)
def test_an_order_lies_strictly_between_its_neighbours(neighbours: list[str], seed: int) -> None:
    before, after = neighbours
    assume(after.rstrip("0") != before.rstrip("0"))
    made = between(before, after, seeded(seed).randbytes)
    assert before.encode() < made.encode() < after.encode()
    assert is_order(made)


@given(foreign_orders, seeds)
@example("z" * 12, 0)
def test_an_order_lies_behind_the_last(before: str, seed: int) -> None:
    assert before < between(before, None, seeded(seed).randbytes)


@given(foreign_orders, seeds)
@example("0001", 0)
def test_an_order_lies_before_the_first(after: str, seed: int) -> None:
    assume(after.strip("0"))
    assert between(None, after, seeded(seed).randbytes) < after


@pytest.mark.parametrize(("before", "after"), [("a", "a"), ("b", "a"), ("a", "a0"), ("a", "a000"), (None, "0")])
def test_no_room_is_said_with_both_neighbours(before: str | None, after: str) -> None:
    with pytest.raises(NoRoom) as caught:
        between(before, after)
    assert (caught.value.before, caught.value.after) == (before, after)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=80), seeds)
def test_inserts_anywhere_give_a_sorted_list_that_always_has_room(indices: list[int], seed: int) -> None:
    orders: list[str] = []
    for index in indices:
        slot = index % (len(orders) + 1)
        orders.insert(slot, at(orders, slot, seeded(seed).randbytes))
    assert orders == sorted(set(orders))
    assert not any(order.endswith("0") for order in orders)


@pytest.mark.parametrize("appending", [True, False])
def test_inserts_at_an_end_grow_by_the_logarithm(appending: bool) -> None:
    source, order, lengths = seeded().randbytes, between(None, None), []
    for _ in range(20_000):
        order = between(order, None, source) if appending else between(None, order, source)
        lengths.append(len(order))
    assert max(lengths[:1_700]) == 5
    assert max(lengths) == 7


@pytest.mark.parametrize("side", ["behind the first", "before the last", "alternating"])
def test_inserts_at_one_place_cost_a_third_of_a_digit_each(side: str) -> None:
    source, before, after = seeded().randbytes, "V", "W"
    for count in range(700):
        made = between(before, after, source)
        assert len(made) <= 5 + 0.34 * count
        if side == "before the last" or (side == "alternating" and count % 2):
            before = made
        else:
            after = made


def test_a_full_gap_gets_room_again_by_new_orders() -> None:
    source, orders = seeded().randbytes, ["V", "W"]

    def fill() -> None:
        while True:
            orders.insert(1, between(orders[0], orders[1], source))

    with pytest.raises(NoRoom):
        fill()
    assert len(orders) > 740
    renewed = many(len(orders), None, None, source)
    assert renewed[0] < between(renewed[0], renewed[1], source) < renewed[1]
    assert max(map(len, renewed)) <= 5


@pytest.mark.parametrize(("before", "after"), [(None, None), ("V", None), (None, "V"), ("V", "W"), ("Vzz", "W0001")])
def test_many_are_distinct_sorted_short_and_inside(before: str | None, after: str | None) -> None:
    orders = many(10_000, before, after, seeded().randbytes)
    assert all(one < other for one, other in pairwise([before or "", *orders, after or "~"]))
    assert max(map(len, orders)) <= 9


def test_many_of_none_are_none() -> None:
    assert many(0) == many(0, "a", "b") == []


def test_two_people_who_insert_at_one_place_make_different_orders() -> None:
    for before, after in ((None, None), ("V", None), (None, "V"), ("V", "W")):
        assert len({between(before, after, seeded(seed).randbytes) for seed in range(50)}) == 50


def test_an_index_beyond_the_siblings_is_the_first_or_the_last_place() -> None:
    assert at(["V"], -9) < "V" < at(["V"], 99)
    assert is_order(at([], 7))


def test_a_node_goes_behind_a_tie_that_leaves_no_room() -> None:
    tied = ["a", "m", "m", "m0", "t"]
    assert "m0" < at(tied, 2) < "t"
    assert "a" < at(tied, 1) < "m"
    assert at(["z", "z"], 1) > "z"


@pytest.mark.parametrize("wrong", ["", "a b", "a-", "ä", "a\n", "0" * (MAX_LENGTH + 1), None, 5])
def test_what_is_no_order_is_refused(wrong: object) -> None:
    assert not is_order(wrong)
    with pytest.raises(InvalidInput, match="order: expected 1 to 256 base62 digits"):
        check_order(wrong)


def test_a_wrong_neighbour_is_refused_before_anything_is_made() -> None:
    with pytest.raises(InvalidInput, match="got 'a-'"):
        between("a-", "b")


def test_the_longest_foreign_orders_leave_room_or_say_so() -> None:
    longest = "z" * MAX_LENGTH
    with pytest.raises(NoRoom):
        between(longest, None)
    assert between("0" * 255 + "1", None) > "0" * 255 + "1"
    assert between(None, longest) < longest

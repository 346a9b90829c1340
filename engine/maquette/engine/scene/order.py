"""The order of siblings: strings between which there is nearly always room for another (fractional indexing).

Rule 1: an order is 1 to 256 base62 digits, read as a fraction: `V` is 0.V, half way between all and nothing.
        Orders compare by their bytes, in every language alike; equal ones are told apart by the node's id.
Rule 2: what we make never ends with the digit 0, so that there is room on both of its sides. Orders from elsewhere may
        (`a0` is the first key of the npm package fractional-indexing); nothing fits between `a` and `a0`.
Rule 3: each order is random among more than 100,000, so that two people who insert at the same place at the same time
        do not make the same one, and runs of theirs do not tie.
Rule 4: growth. One after the other at an end (the usual case): 5 digits for the first 1,800, 7 for the next 230,000.
        Always into the same gap: each insert leaves at least a quarter of it, so that it costs at most 0.34 digits,
        0.18 on average: the limit comes after 740 inserts in the worst case and 1,400 in the usual one. Then there is
        no room, and whoever inserts gives the siblings new orders with `many`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TypeGuard

from maquette.engine.errors import InvalidInput
from maquette.engine.ids import BASE62, RandomBytes, base62

MAX_LENGTH = 256
_ORDER = re.compile(rf"[0-9A-Za-z]{{1,{MAX_LENGTH}}}")
_VALUE = {digit: value for value, digit in enumerate(BASE62)}

JITTER_DIGITS = 3  # 238,328 choices, half of which are used inside a gap
_JITTER = 62**JITTER_DIGITS
_FIRST = "V0"  # the middle

_Step = Callable[[str], str]


class NoRoom(InvalidInput):
    """No order lies between two neighbours. Raised by `between` and `many`; give the siblings new orders."""

    def __init__(self, before: str | None, after: str | None) -> None:
        super().__init__(f"expected room for an order of up to {MAX_LENGTH} digits, got {before!r} and {after!r}")
        self.before = before
        self.after = after


def is_order(value: object) -> TypeGuard[str]:
    """Whether `value` can be an order, ours or somebody else's (rule 1)."""
    return isinstance(value, str) and _ORDER.fullmatch(value) is not None


def check_order(value: object) -> str:
    """`value` when it can be an order. Raises InvalidInput when not."""
    if not is_order(value):
        raise InvalidInput(f"order: expected 1 to {MAX_LENGTH} base62 digits, got {value!r:.80}")
    return value


def between(before: str | None, after: str | None, random: RandomBytes = os.urandom) -> str:
    """A new order strictly between two neighbours; None stands for no neighbour on that side.

    Raises InvalidInput for what is no order, NoRoom when `before` is not below `after` or nothing fits between.
    """
    return many(1, before, after, random)[0]


def many(
    count: int, before: str | None = None, after: str | None = None, random: RandomBytes = os.urandom
) -> list[str]:
    """`count` new orders between two neighbours, ascending. Raises as `between` does."""
    for neighbour in (before, after):
        if neighbour is not None:
            check_order(neighbour)
    if before is not None and after is not None:
        return _spread(count, before, after, random)
    if after is not None:
        return _run(count, after, _below, random)[::-1]
    return _run(count, before, _above, random)


def at(siblings: Sequence[str], index: int, random: RandomBytes = os.urandom) -> str:
    """A new order that puts a node at `index` among `siblings` (their orders, ascending); beyond them is last.

    Where the neighbours leave no room (they are equal, say), the node goes to the next gap behind that has some.
    Raises NoRoom when no gap behind has any.
    """
    index = min(max(index, 0), len(siblings))
    before = siblings[index - 1] if index > 0 else None
    for after in (*siblings[index:], None):
        try:
            return between(before, after, random)
        except NoRoom:
            before = after
    raise NoRoom(before, None)


# --- at the ends -------------------------------------------------------------------------------------------------

# A run of k digits z (at the upper end; 0 at the lower) says that the k + 2 digits behind it count the steps. So the
# width grows with the logarithm of the number of steps, as it does in a variable-length integer.


def _run(count: int, start: str | None, step: _Step, random: RandomBytes) -> list[str]:
    orders: list[str] = []
    for _ in range(count):
        prefix = _FIRST if start is None else step(start)
        start = (prefix + base62(_random_below(_JITTER, random), JITTER_DIGITS)).rstrip("0")
        orders.append(start)
    return orders


def _above(order: str) -> str:
    return _stepped(order, "z", 1)


def _below(order: str) -> str:
    return _stepped(order, "0", -1)


def _stepped(order: str, end: str, step: int) -> str:
    run = len(order) - len(order.lstrip(end))
    if step < 0 and run == len(order):
        raise NoRoom(None, order)
    width = 2 * run + 2
    if width + JITTER_DIGITS > MAX_LENGTH:
        raise NoRoom(*((order, None) if step > 0 else (None, order)))
    return base62(_value(order, width) + step, width)


# --- between two -------------------------------------------------------------------------------------------------


def _spread(count: int, before: str, after: str, random: RandomBytes) -> list[str]:
    """Cut the gap into `count` slices and take a random point in the middle half of each."""
    if before >= after:
        raise NoRoom(before, after)
    length = _length_with(count * _JITTER, before, after)
    low = _value(before, length)
    gap = _value(after, length) - low
    orders = []
    for slot in range(count):
        start, end = low + gap * slot // count, low + gap * (slot + 1) // count
        value = start + (end - start) // 4 + 1 + _random_below((end - start) // 2 - 1, random)
        orders.append(base62(value, length).rstrip("0"))
    return orders


def _length_with(choices: int, before: str, after: str) -> int:
    """The least number of digits with which there are `choices` values between the two."""
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False)))
    for length in range(shared + 1, MAX_LENGTH + 1):
        if _value(after, length) - _value(before, length) >= choices:
            return length
    raise NoRoom(before, after)


def _value(order: str, length: int) -> int:
    """The first `length` digits of a fraction as a number; digits that are not there are 0."""
    value = 0
    for digit in order[:length]:
        value = value * 62 + _VALUE[digit]
    return value * int(62 ** max(0, length - len(order)))


def _random_below(limit: int, random: RandomBytes) -> int:
    # eight bytes more than needed: what the remainder prefers is less than 2 ** -64
    return int.from_bytes(random(limit.bit_length() // 8 + 8)) % limit

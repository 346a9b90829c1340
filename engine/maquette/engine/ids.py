"""Ids: opaque and random, so that nothing about a person or a thing is in a stream, a root name or a map key.

Rule 1: an id that we mint is 11 base62 characters: 64 random bits, and small in a document that holds many.
Rule 2: an id from elsewhere is 1 to 64 characters of `[A-Za-z0-9_-]`: safe in URLs, file names and JSON as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TypeGuard

from maquette.engine.errors import InvalidInput

RandomBytes = Callable[[int], bytes]
"""A source of randomness: the number of bytes in, that many bytes out. `os.urandom`, or a seeded one in tests."""

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""The digits of ids and of sibling orders, in the order of their bytes."""

MINTED_LENGTH = 11  # the shortest that holds 64 bits: 62 ** 11 > 2 ** 64
MAX_LENGTH = 64
_FOREIGN = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_LENGTH}}}")


def mint(random: RandomBytes = os.urandom) -> str:
    """A new random id of 11 base62 characters."""
    return base62(int.from_bytes(random(8)), MINTED_LENGTH)


def base62(number: int, length: int) -> str:
    """`number` in base 62 with exactly `length` digits, zeros in front. `number` is below 62 ** length."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(BASE62[digit])
    return "".join(reversed(digits))


def is_id(value: object) -> TypeGuard[str]:
    """Whether `value` can be an id, ours or somebody else's (rule 2)."""
    return isinstance(value, str) and _FOREIGN.fullmatch(value) is not None


def check_id(value: object, what: str = "id") -> str:
    """`value` when it can be an id. Raises InvalidInput, which names `what`, when not."""
    if not is_id(value):
        raise InvalidInput(f"{what}: expected 1 to {MAX_LENGTH} characters of [A-Za-z0-9_-], got {value!r:.80}")
    return value

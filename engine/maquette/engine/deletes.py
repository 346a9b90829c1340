"""The delete set of a Yjs v1 update: which clocks of which client are deleted.

Format: a count of clients, and for each its id, a count of ranges, and for each range its first clock and its length.
A client that reconnects always sends its whole delete set, tens of thousands of ranges of which none is new (rule D2):
long lists stay numpy vectors from the bytes to the comparison with what is known; short ones are plain lists, because
a call of numpy costs more than they do.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from maquette.engine.errors import LimitExceeded, MalformedUpdate
from maquette.engine.varints import MAX_INTEGER, read_varint, write_varints

MAX_CLOCK = 2**32 - 1
"""yrs counts clocks in 32 bits without a check for overflow."""

Range: TypeAlias = tuple[int, int]
"""(first clock, length)"""

Vector: TypeAlias = NDArray[np.int64]
"""Of shape (n, 2): a row per range, first clock and clock behind the last."""

Deletes: TypeAlias = dict[int, list[Range] | Vector]
"""Per client, in order of clocks, neither touching nor overlapping."""

LONG = 64  # ranges of one client; about where numpy breaks even
_LONG_BYTES = 512
_CONTINUED = bytes(range(128, 256))  # bytes of an integer but its last


def read_deletes(data: bytes, pos: int, limit: int) -> Deletes:
    """The delete set that fills `data` from `pos` to its end, in canonical form; at most `limit` ranges.

    Raises MalformedUpdate (trailing bytes too), LimitExceeded, and IndexError where the bytes end too early.
    """
    if len(data) - pos > _LONG_BYTES:
        return _read_long(data, pos, limit)
    if data[pos] == 0 and len(data) == pos + 1:
        return {}
    deletes: Deletes = _read_one(data, pos)
    if deletes:
        return deletes
    clients, pos = read_varint(data, pos)
    for _ in range(clients):
        start = pos
        client, pos = read_varint(data, pos)
        count, pos = read_varint(data, pos)
        ranges = []
        for _ in range(count):
            clock, pos = read_varint(data, pos)
            length, pos = read_varint(data, pos)
            ranges.append((clock, length))
        _take(deletes, client, ranges, start)
    if pos != len(data):
        raise MalformedUpdate(pos, "the end of the update", f"{len(data) - pos} more bytes")
    return deletes


def _read_one(data: bytes, pos: int) -> Deletes:
    """A delete set of one range, as a register that is set or a character that is deleted brings it; {} for others."""
    if data[pos] == 1:
        client, pos = read_varint(data, pos + 1)
        if data[pos] == 1:
            clock, pos = read_varint(data, pos + 1)
            length, pos = read_varint(data, pos)
            if length and pos == len(data) and clock + length <= MAX_CLOCK:
                return {client: [(clock, length)]}
    return {}


def is_canonical(data: bytes, pos: int, deletes: Deletes) -> bool:
    """Whether `deletes`, read from `pos` on, are written there as `write_deletes` writes them."""
    if not deletes:
        return data[pos] == 0
    written = data[pos:]
    if len(deletes) == 1 and len(written.translate(None, _CONTINUED)) == 5:
        return True  # five numbers: one client, one range, which nothing was left out of or joined to
    return write_deletes(deletes) == written


def _read_long(data: bytes, pos: int, limit: int) -> Deletes:
    numbers = _numbers(data, pos)
    deletes: Deletes = {}
    at = 1
    for _ in range(int(numbers[0])):
        client, count = int(numbers[at]), int(numbers[at + 1])
        at += 2
        if count > limit:
            raise LimitExceeded("deletes", limit, count)
        limit -= count
        pairs = numbers[at : at + 2 * count]
        if len(pairs) != 2 * count:
            raise IndexError
        at += 2 * count
        if count < LONG:
            flat = pairs.tolist()
            _take(deletes, client, list(zip(flat[::2], flat[1::2], strict=True)), pos)
        else:
            _take_vector(deletes, client, pairs.reshape(-1, 2), pos)
    if at != len(numbers):
        raise MalformedUpdate(len(data), "the end of the update", f"{len(numbers) - at} more numbers")
    return deletes


def _numbers(data: bytes, pos: int) -> Vector:
    """All variable-length integers from `pos` to the end, in their shortest form and below 2^53."""
    octets = np.frombuffer(data, np.uint8, offset=pos)
    last = np.flatnonzero(octets < 128)
    if not len(last) or last[-1] != len(octets) - 1:
        raise IndexError
    first = np.empty_like(last)
    first[0] = 0
    first[1:] = last[:-1] + 1
    extra = last - first
    longest = int(extra.max())
    if longest > 7 or bool(((octets[last] == 0) & (extra > 0)).any()):
        raise MalformedUpdate(pos, "integers below 2^53 in their shortest form", "a longer one")
    numbers = (octets[first] & 127).astype(np.int64)
    for nth in range(1, longest + 1):
        longer = np.flatnonzero(extra >= nth)
        numbers[longer] |= (octets[first[longer] + nth] & 127).astype(np.int64) << (7 * nth)
    if int(numbers.max()) > MAX_INTEGER:
        raise MalformedUpdate(pos, "integers below 2^53", str(int(numbers.max())))
    return numbers


def _take(deletes: Deletes, client: int, ranges: list[Range], pos: int) -> None:
    if client in deletes:
        raise MalformedUpdate(pos, "each client once in the delete set", f"client {client} again")
    behind = 0
    canonical = True
    for clock, length in ranges:
        canonical &= length > 0 and (clock > behind or behind == 0)
        behind = clock + length
        if behind > MAX_CLOCK:
            raise LimitExceeded("clock", MAX_CLOCK, behind)
    if not canonical:
        ranges = normalise(ranges)
    if ranges:
        deletes[client] = ranges


def _take_vector(deletes: Deletes, client: int, pairs: Vector, pos: int) -> None:
    spans = pairs.copy()
    spans[:, 1] += spans[:, 0]
    if int(spans.max()) > MAX_CLOCK or not bool((spans[1:, 0] > spans[:-1, 1]).all()) or int(pairs[:, 1].min()) == 0:
        return _take(deletes, client, [(clock, length) for clock, length in pairs.tolist()], pos)
    if client in deletes:
        raise MalformedUpdate(pos, "each client once in the delete set", f"client {client} again")
    deletes[client] = spans
    return None


def normalise(ranges: list[Range]) -> list[Range]:
    """The same clocks as sorted ranges that neither touch nor overlap."""
    merged: list[Range] = []
    for clock, length in sorted(ranges):
        if not length:
            continue
        if merged and clock <= merged[-1][0] + merged[-1][1]:
            first, known = merged[-1]
            merged[-1] = (first, max(known, clock + length - first))
        else:
            merged.append((clock, length))
    return merged


def as_list(ranges: list[Range] | Vector) -> list[Range]:
    """Ranges of either form as a list."""
    if isinstance(ranges, list):
        return ranges
    return [(start, end - start) for start, end in ranges.tolist()]


def write_deletes(deletes: Deletes) -> bytes:
    """The inverse of `read_deletes`; clients descending, as Yjs writes them."""
    if not deletes:
        return b"\0"
    numbers = [len(deletes)]
    for client in sorted(deletes, reverse=True):
        ranges = as_list(deletes[client])
        numbers += (client, len(ranges))
        for pair in ranges:
            numbers += pair
    return write_varints(numbers)


def unite(first: Deletes, second: Deletes) -> Deletes:
    """What either set deletes."""
    if not first or not second:
        return first or second
    united = dict(first)
    for client, ranges in second.items():
        known = united.get(client)
        united[client] = ranges if known is None else normalise(as_list(known) + as_list(ranges))
    return united

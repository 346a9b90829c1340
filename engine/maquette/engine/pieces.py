"""Pieces: one update as several small ones, so that nobody has to take in a large one at a stretch.

Rule 1: the pieces, applied in order, give what the update gives, and none has a hole: structs are in the order of
        integration, and each client's clocks follow one another.
Rule 2: a deletion of what the update brings is in the piece that brings it. Where an edit overwrites, what it
        overwrites is deleted in its piece; other deletions are in the first piece.
Rule 3: with `whole`, each piece can be judged by itself: no cut is between a type and the structs that fill it, between
        the writes of one map key, or between a value and the record that it names by id. What was written again and
        again over hours may so be one large piece: a state halfway through it never was a document's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from maquette.engine.deletes import Range
from maquette.engine.errors import InvalidInput
from maquette.engine.index import Index, Write
from maquette.engine.reading import Erased
from maquette.engine.update import Content, Id, Struct, Update


@dataclass(frozen=True, slots=True)
class Size:
    """When a piece is large enough."""

    bytes: int
    structs: int


STORED = Size(64 << 10, 4_000)
"""Of a snapshot: pycrdt applies some 500 structs in a millisecond."""
JUDGED = Size(16 << 10, 200)
"""Of what passes the gate: judging, applying and describing takes some 40 µs for each struct."""


def split(update: Update, index: Index, size: Size, *, whole: bool = False) -> list[Update]:
    """The pieces of a trimmed update without holes, as `index` sees it, which is not changed.

    Raises InvalidInput for an update with a hole.
    """
    writes = index.writes(update)
    starts = _starts(writes, size, _joints(writes) if whole else [0] * (len(writes) + 1))
    pieces = [Update(_grouped(writes[a:b]), {}) for a, b in zip(starts, [*starts[1:], len(writes)], strict=True)]
    _delete(pieces, _Places(writes, starts), index.erased(update))
    return pieces


def _starts(writes: Sequence[Write], size: Size, joints: Sequence[int]) -> list[int]:
    """The number of the first write of each piece."""
    starts, octets = [0], 0
    for number, write in enumerate(writes):
        if (octets >= size.bytes or number - starts[-1] >= size.structs) and not joints[number]:
            starts.append(number)
            octets = 0
        octets += write.struct.size
    return starts


def _grouped(writes: Sequence[Write]) -> dict[int, list[Struct]]:
    groups: dict[int, list[Struct]] = {}
    for write in writes:
        groups.setdefault(write.id[0], []).append(write.struct)
    return groups


# --- where no cut may be ---------------------------------------------------------------------------------------------


def _joints(writes: Sequence[Write]) -> list[int]:
    """For each write, how many things a cut before it would take apart."""
    changes = [0] * (len(writes) + 2)
    for first, last in _spans(writes):
        changes[first + 1] += 1
        changes[last + 1] -= 1
    total = 0
    joints = []
    for change in changes[: len(writes) + 1]:
        total += change
        joints.append(total)
    return joints


def _spans(writes: Sequence[Write]) -> Iterator[tuple[int, int]]:
    """(first, last) write of each thing that belongs together."""
    keyed: dict[tuple[str | Id, str], tuple[int, int]] = {}
    for number, write in enumerate(writes):
        if write.parent is not None and write.key is not None:
            place = (write.parent, write.key)
            keyed[place] = (keyed.get(place, (number, number))[0], number)
    yield from keyed.values()
    yield from _fills(writes)
    yield from _names(writes)


def _fills(writes: Sequence[Write]) -> Iterator[tuple[int, int]]:
    """From each type to the last struct of the unbroken run that fills it, and the types in it."""
    around: list[tuple[Id, int]] = []
    for number, write in enumerate(writes):
        while around and around[-1][0] != write.parent:
            yield around.pop()[1], number - 1
        if write.content is Content.TYPE:
            around.append((write.id, number))
    for _, first in around:
        yield first, len(writes) - 1


def _names(writes: Sequence[Write]) -> Iterator[tuple[int, int]]:
    """From a value that names a record to the record, where that comes later: two sessions' edits in one update."""
    records = {
        write.key: number
        for number, write in enumerate(writes)
        if write.content is Content.TYPE and write.key is not None and isinstance(write.parent, str)
    }
    for number, write in enumerate(writes if records else ()):
        if write.content is Content.ANY and write.key is not None:
            for name in _strings(write.struct.value()):
                if records.get(name, -1) > number:
                    yield number, records[name]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)


# --- deletions -------------------------------------------------------------------------------------------------------


class _Places:
    """In which piece what is."""

    def __init__(self, writes: Sequence[Write], starts: Sequence[int]) -> None:
        self._clocks: dict[int, list[int]] = {}
        self._numbers: dict[int, list[int]] = {}
        self._keys: dict[tuple[str | Id, str], int] = {}
        for number, write in enumerate(writes):
            piece = bisect_right(starts, number) - 1
            client, clock = write.id
            numbers = self._numbers.setdefault(client, [])
            if not numbers or numbers[-1] != piece:
                numbers.append(piece)
                self._clocks.setdefault(client, []).append(clock)
            if write.parent is not None and write.key is not None:
                self._keys[write.parent, write.key] = piece

    def parts(self, item: Erased) -> Iterator[tuple[int, Range]]:
        """The piece and the clocks for each part of a deletion."""
        if not item.fresh:
            overwritten = None if item.parent is None or item.key is None else self._keys.get((item.parent, item.key))
            yield overwritten or 0, (item.clock, item.length)
            return
        clocks, numbers = self._clocks[item.client], self._numbers[item.client]
        clock, end = item.clock, item.clock + item.length
        at = bisect_right(clocks, clock) - 1
        while clock < end:
            last = min(end, clocks[at + 1]) if at + 1 < len(clocks) else end
            yield numbers[at], (clock, last - clock)
            clock, at = last, at + 1


def _delete(pieces: list[Update], places: _Places, erased: Sequence[Erased]) -> None:
    for item in erased:
        for number, (clock, length) in places.parts(item):
            ranges = pieces[number].ranges.setdefault(item.client, [])
            if not isinstance(ranges, list):
                raise InvalidInput("pieces: expected ranges in a list, got a vector")
            if ranges and ranges[-1][0] + ranges[-1][1] == clock:
                ranges[-1] = (ranges[-1][0], ranges[-1][1] + length)
            else:
                ranges.append((clock, length))

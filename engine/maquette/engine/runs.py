"""Columns of an index: runs of items that lie in one place, and spans of deleted clocks, some 17 and 8 bytes each.

A scene of 10,000 nodes has 100,000 items. As objects they took 16 MB and most of a second to rebuild; as typed arrays
they are searched by bisection, stored as they are, and looked through by numpy without a copy.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from maquette.engine.contents import CONTENTS, TYPE
from maquette.engine.deletes import Range, Vector
from maquette.engine.errors import InvalidInput
from maquette.engine.update import Content, Id


class Location(NamedTuple):
    """Where an item lies: its parent, a root's name or the id of the item that holds the type, and its map key."""

    parent: str | Id
    key: str | None


class Tables:
    """The names that columns refer to by number: roots and clients as parents, and keys. Number 0 is None."""

    __slots__ = ("_key_numbers", "_source_numbers", "keys", "sources")

    def __init__(self, sources: list[str | int | None] | None = None, keys: list[str | None] | None = None) -> None:
        self.sources = sources or [None]
        self.keys = keys or [None]
        self._source_numbers = {source: number for number, source in enumerate(self.sources)}
        self._key_numbers = {key: number for number, key in enumerate(self.keys)}

    def place(self, parent: str | Id | None, key: str | None) -> tuple[int, int, int]:
        """The numbers of a location: source, clock (0 for a root), key."""
        source, clock = (parent, 0) if parent is None or isinstance(parent, str) else parent
        number = self._source_numbers.get(source)
        if number is None:
            number = self._source_numbers[source] = len(self.sources)
            self.sources.append(source)
        if key is None:
            return number, clock, 0
        key_number = self._key_numbers.get(key)
        if key_number is None:
            key_number = self._key_numbers[key] = len(self.keys)
            self.keys.append(key)
        return number, clock, key_number

    def location(self, source: int, clock: int, key: int) -> Location | None:
        """The inverse of `place`."""
        parent, name = self.names(source, clock, key)
        return None if parent is None else Location(parent, name)

    def place_of(self, runs: Runs, run: int) -> tuple[str | Id | None, str | None]:
        """Where a run lies, as (parent, key)."""
        name = self.sources[runs.sources[run]]
        if name is None:
            return None, None
        return name if isinstance(name, str) else (name, runs.clocks[run]), self.keys[runs.keys[run]]

    def names(self, source: int, clock: int, key: int) -> tuple[str | Id | None, str | None]:
        """`location` as (parent, key); (None, None) for nowhere."""
        name = self.sources[source]
        if name is None:
            return None, None
        return name if isinstance(name, str) else (name, clock), self.keys[key]


class Runs:
    """One client's items, as runs of consecutive clocks of one kind in one location.

    A kind is the number of the content; that of a type has its type ref in the upper four bits.
    """

    __slots__ = ("clocks", "end", "keys", "kinds", "sources", "starts")

    def __init__(self) -> None:
        self.end = 0
        self.starts = array("I")
        self.kinds = bytearray()
        self.sources = array("I")
        self.clocks = array("I")
        self.keys = array("I")

    def append(self, length: int, kind: int, place: tuple[int, int, int]) -> None:
        """Take in the next `length` clocks."""
        source, clock, key = place
        if not (
            self.kinds
            and self.kinds[-1] == kind
            and self.keys[-1] == key
            and self.clocks[-1] == clock
            and self.sources[-1] == source
        ):
            self.starts.append(self.end)
            self.kinds.append(kind)
            self.sources.append(source)
            self.clocks.append(clock)
            self.keys.append(key)
        self.end += length

    def find(self, clock: int) -> int:
        """The number of the run that holds `clock`, which is below `end`."""
        return bisect_right(self.starts, clock) - 1

    def place(self, run: int) -> tuple[int, int, int]:
        """The numbers of the run's location."""
        return self.sources[run], self.clocks[run], self.keys[run]

    def end_of(self, run: int) -> int:
        """The clock behind the run."""
        return self.starts[run + 1] if run + 1 < len(self.starts) else self.end

    def columns(self) -> list[int | bytes]:
        """What `from_columns` takes."""
        arrays = (self.starts, self.sources, self.clocks, self.keys)
        return [self.end, bytes(self.kinds), *map(pack, arrays)]

    @classmethod
    def from_columns(cls, end: int, kinds: bytes, *columns: bytes) -> Runs:
        """The inverse of `columns`. Raises InvalidInput for columns of different lengths."""
        runs = cls()
        runs.end = end
        runs.kinds = bytearray(kinds)
        runs.starts, runs.sources, runs.clocks, runs.keys = map(unpack, columns)
        if {len(runs.starts), len(runs.sources), len(runs.clocks), len(runs.keys)} != {len(kinds)}:
            raise InvalidInput(f"index: expected five columns of {len(kinds)} runs, got other lengths")
        return runs


class Spans:
    """A set of clocks, as sorted spans that neither touch nor overlap."""

    __slots__ = ("ends", "starts")

    def __init__(self, starts: array[int] | None = None, ends: array[int] | None = None) -> None:
        self.starts = array("I") if starts is None else starts
        self.ends = array("I") if ends is None else ends

    def add(self, start: int, end: int) -> None:
        """Put the clocks from `start` up to `end` in."""
        starts, ends = self.starts, self.ends
        if not starts or start > ends[-1]:
            starts.append(start)
            ends.append(end)
            return
        first = bisect_left(ends, start)  # the first span that touches
        last = bisect_right(starts, end)  # behind the last one
        if first < last:
            start, end = min(start, starts[first]), max(end, ends[last - 1])
        starts[first:last] = array("I", (start,))
        ends[first:last] = array("I", (end,))

    def has_none_of(self, start: int, length: int) -> bool:
        """Whether all of `length` clocks from `start` on are out."""
        at = bisect_right(self.ends, start)
        return at == len(self.starts) or self.starts[at] >= start + length

    def lacking(self, ranges: list[Range] | Vector) -> list[Range]:
        """The parts of `ranges` that are not in this set."""
        if not isinstance(ranges, list):
            ranges = self._doubtful(ranges)
        return [gap for clock, length in ranges for gap in self._gaps(clock, clock + length)]

    def _doubtful(self, spans: Vector) -> list[Range]:
        """Those of many spans that are not wholly in this set."""
        if not self.starts:
            return [(start, end - start) for start, end in spans.tolist()]
        starts, ends = np.frombuffer(self.starts, np.uint32), np.frombuffer(self.ends, np.uint32)
        at = np.searchsorted(starts, spans[:, 0], "right") - 1
        covered = (at >= 0) & (ends[at] >= spans[:, 1])
        return [(start, end - start) for start, end in spans[~covered].tolist()]

    def _gaps(self, clock: int, end: int) -> Iterator[Range]:
        span = max(bisect_right(self.starts, clock) - 1, 0)
        while clock < end:
            if span == len(self.starts) or self.starts[span] >= end:
                yield clock, end - clock
                return
            if clock < self.starts[span]:
                yield clock, self.starts[span] - clock
            clock = max(clock, self.ends[span])
            span += 1

    def columns(self) -> list[bytes]:
        """What `from_columns` takes."""
        return [pack(self.starts), pack(self.ends)]

    @classmethod
    def from_columns(cls, starts: bytes, ends: bytes) -> Spans:
        """The inverse of `columns`. Raises InvalidInput for columns of different lengths."""
        spans = cls(unpack(starts), unpack(ends))
        if len(spans.starts) != len(spans.ends):
            raise InvalidInput(f"index: expected as many ends as starts, got {len(spans.ends)} and {len(spans.starts)}")
        return spans


def pack(column: array[int]) -> bytes:
    """Little-endian 32-bit words, whatever the machine's order."""
    if sys.byteorder == "big":
        column = array("I", column)
        column.byteswap()
    return column.tobytes()


def unpack(packed: bytes) -> array[int]:
    """The inverse of `pack`."""
    column = array("I")
    column.frombytes(packed)
    if sys.byteorder == "big":
        column.byteswap()
    return column


def content_of(kind: int) -> tuple[Content, int | None]:
    """The content of a kind, and the type ref when it is a type."""
    content = CONTENTS[kind & 15]
    return content, kind >> 4 if content is TYPE else None

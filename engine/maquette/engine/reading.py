"""One update as an index sees it: each struct with its location, what is missing, what it deletes.

These tuples are made for every edit of everybody; a frozen dataclass takes three times as long to make.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from maquette.engine.contents import ANY, JSON, STRING, TYPE
from maquette.engine.deletes import as_list
from maquette.engine.update import Content, Id, Struct, Update, low_surrogates

Why: TypeAlias = Literal["clock", "origin", "right origin", "parent", "deletion"]

_SEVERAL = (ANY, JSON, STRING)


@dataclass(frozen=True, slots=True)
class Hole:
    """The first id that neither the index nor the update holds (rule D3), and what in the update refers to it."""

    client: int
    clock: int
    why: Why


class Write(NamedTuple):
    """A struct with its location. `parent` is None when it lies nowhere."""

    id: Id
    length: int
    parent: str | Id | None
    key: str | None
    content: Content
    struct: Struct


class Erased(NamedTuple):
    """`length` clocks that an update deletes, of one kind in one location. `fresh`: the same update brought them."""

    client: int
    clock: int
    length: int
    parent: str | Id | None
    key: str | None
    content: Content
    type_ref: int | None
    fresh: bool


class Reading:
    """One update as the index sees it: its writes, each behind all that it refers to, and the hole that stops them."""

    __slots__ = ("_clocks", "_groups", "hole", "joined", "kinds", "pairs", "state", "update", "writes")

    def __init__(self, update: Update) -> None:
        self.update = update
        self.hole: Hole | None = None
        self.state: dict[int, int] = {}  # the next clock of each client that the update brings structs of
        self.writes: list[Write] = []
        self.joined: list[Write] = []  # those with several values at one key
        self.kinds: dict[Id, int] = {}  # of the types among them and of their parents, as `kind_of` gives them
        self.pairs: dict[int, array[int]] = {}
        self._groups: dict[int, list[Write]] = {client: [] for client in update.structs}
        self._clocks: dict[int, list[int]] = {}  # of groups that were searched

    def take(self, write: Write) -> None:
        id_, length, _, key, content, struct = write
        client, clock = id_
        self.state[client] = clock + length
        self.writes.append(write)
        self._groups[client].append(write)
        if content is TYPE:
            self.kinds[id_] = kind_of(write)
        elif content is STRING:
            text = struct.value()
            if not text.isascii():
                take_pairs(self.pairs, client, low_surrogates(text, clock))
        if length > 1 and key is not None and content in _SEVERAL:
            self.joined.append(write)

    def find(self, client: int, clock: int) -> Write | None:
        group = self._groups.get(client)
        if not group or not group[0].id[1] <= clock < self.state[client]:
            return None
        clocks = self._clocks.setdefault(client, [])
        if len(clocks) < len(group):
            clocks.extend([write.id[1] for write in group[len(clocks) :]])
        return group[bisect_right(clocks, clock) - 1]


def type_ref_of(write: Write) -> int | None:
    """The type ref of the type that was written; None for other content."""
    return write.struct.value() if write.content is TYPE else None


def kind_of(write: Write) -> int:
    """What was written, as `Runs` keeps it."""
    return write.content | write.struct.value() << 4 if write.content is TYPE else write.content


def seams(update: Update) -> Iterator[Id]:
    """The clocks before which an update cuts what is there in two."""
    for structs in update.structs.values():
        for struct in structs:
            if struct.origin is not None:
                yield struct.origin[0], struct.origin[1] + 1
            if struct.right_origin is not None:
                yield struct.right_origin
    for client, ranges in update.ranges.items():
        for clock, length in as_list(ranges):
            yield client, clock
            yield client, clock + length


def take_pairs(pairs: dict[int, array[int]], client: int, clocks: array[int]) -> None:
    """Add clocks of low surrogates behind those that a client has."""
    if clocks:
        pairs.setdefault(client, array("I")).extend(clocks)


def holds(clocks: array[int] | None, clock: int) -> bool:
    """Whether `clock` is among the sorted `clocks`."""
    if clocks is None:
        return False
    at = bisect_right(clocks, clock) - 1
    return at >= 0 and clocks[at] == clock

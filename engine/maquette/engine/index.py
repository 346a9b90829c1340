"""The index of an open document: for each (client, clock) where its item lies, without the items' content.

A register set or a typed character names its neighbour only; its parent is the neighbour's. So whoever reads updates
without applying them must know, for every item that there ever was, its parent and its key, and whether it is deleted.

Rule 1: the index takes in (`add`) what the replica integrates, in that order, and is stored with its snapshot.
Rule 2: judge first, then add: `trim`, `hole`, `writes`, `erased` and `misfit` change nothing.
Rule 3: an item below what was collected as garbage (GC) or blanked, or with no neighbour but such, lies nowhere: its
        location is None. That is no error; pycrdt integrates it as garbage too.
"""

from __future__ import annotations

import hashlib
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

import msgpack

from maquette.engine.contents import ANY, DELETED, GC, SKIP, TYPE
from maquette.engine.deletes import MAX_CLOCK, Deletes, Range, Vector, as_list, read_deletes
from maquette.engine.errors import InvalidInput, MalformedUpdate
from maquette.engine.fits import ALL_TYPES, holders, names
from maquette.engine.reading import Erased, Hole, Reading, Write, holds, kind_of, seams, take_pairs, type_ref_of
from maquette.engine.runs import Location, Runs, Spans, Tables, content_of, pack, unpack
from maquette.engine.update import Content, Id, Struct, Update

__all__ = ["MAX_TYPE_DEPTH", "Erased", "Hole", "Index", "Location", "Write"]

MAX_TYPE_DEPTH = 100
"""Shared types inside one another. pycrdt overflows its stack at 32,000 and Python's `to_py` at some hundreds."""
MAX_PATHS = 2_048  # kept, because where an item lies never changes; who edits, edits few things at a time
MAX_CUTS = 8  # readings for `ready`: the tabs of one browser; more would be somebody who wants to cost time

_FORMAT = 1
_MAP = TYPE | 1 << 4  # as `kind_of` gives it
_end_of = attrgetter("end")
_GONE = frozenset((GC, DELETED))


class Index:
    """What a document's updates need to be read. Not shared between threads.

    `roots` maps root names to type refs; then no other root fits. Without it, roots are open, and what each can be
    follows from what was first put into it.
    """

    __slots__ = ("_closed", "_deleted", "_pairs", "_paths", "_reading", "_roots", "_runs", "_tables", "grown")

    def __init__(self, roots: Mapping[str, int] | None = None) -> None:
        self._closed = roots is not None
        self._roots = {name: 1 << ref for name, ref in (roots or {}).items()}
        self._runs: dict[int, Runs] = {}
        self._deleted: dict[int, Spans] = {}
        self._pairs: dict[int, array[int]] = {}  # per client the clocks of low surrogates, in order
        self._tables = Tables()
        self.grown: set[int] = set()
        """The clients whose structs were added, until somebody takes them out: who waits for them can go on."""
        self._paths: dict[Id, tuple[str | Id, ...]] = {}
        self._reading: Reading | None = None  # of the update that was read last; every other question about it needs it

    # --- what is known -------------------------------------------------------------------------------------------

    @property
    def clients(self) -> list[int]:
        """The clients that wrote anything."""
        return list(self._runs)

    def clock(self, client: int) -> int:
        """The next clock of `client`; 0 for one that is unknown."""
        runs = self._runs.get(client)
        return 0 if runs is None else runs.end

    def clocks(self) -> list[tuple[int, int]]:
        """(client, next clock) of all clients, in order."""
        return sorted((client, runs.end) for client, runs in self._runs.items())

    def roots(self) -> dict[str, int]:
        """The roots, each with the type refs that it can still have, as a mask."""
        return dict(self._roots)

    def hash_deletes(self, digest: hashlib.blake2b) -> None:
        """Take all that is deleted into `digest`."""
        for client in sorted(self._deleted):
            for column in (str(client).encode(), *self._deleted[client].columns()):
                digest.update(column)

    def parent_of(self, item: Id) -> Location | None:
        """Where the item lies; None when it is unknown or lies nowhere."""
        found = self._find(item)
        return None if found is None else self._tables.location(*found[0].place(found[1]))

    def content(self, item: Id) -> Content | None:
        """What the item held when it came; None when it is unknown."""
        found = self._find(item)
        return None if found is None else content_of(found[0].kinds[found[1]])[0]

    def type_ref(self, item: Id) -> int | None:
        """The type ref of the shared type that the item holds; None when it holds none or is unknown."""
        found = self._find(item)
        return None if found is None else content_of(found[0].kinds[found[1]])[1]

    def is_deleted(self, item: Id) -> bool:
        """Whether a deletion of the item was added."""
        spans = self._deleted.get(item[0])
        if spans is None:
            return False
        span = bisect_right(spans.starts, item[1]) - 1  # in place, because it is asked of all that an op touches
        return span >= 0 and item[1] < spans.ends[span]

    def path(self, type_id: str | Id) -> tuple[str | Id, ...]:
        """The way from the root's name down to a type: map keys as str, elements of a sequence as their id.

        () when the type or something above it is unknown or lies nowhere. Whether all of it is still there, or was
        deleted or overwritten, is not in the path: see `is_deleted`.
        """
        if isinstance(type_id, str):
            return (type_id,)
        path = self._paths.get(type_id)
        if path is None:
            place = self.parent_of(type_id)
            above = () if place is None else self.path(place.parent)
            if place is None or not above:
                return ()
            if len(self._paths) >= MAX_PATHS:
                self._paths.clear()
            path = self._paths[type_id] = (*above, type_id if place.key is None else place.key)
        return path

    def _find(self, item: Id) -> tuple[Runs, int] | None:
        runs = self._runs.get(item[0])
        if runs is None or item[1] >= runs.end:
            return None
        return runs, runs.find(item[1])

    # --- judging an update ---------------------------------------------------------------------------------------

    def trim(self, update: Update) -> Update:
        """What the update brings that is new (rule D2); the same object when all of it is.

        A struct that is partly known is split as Yjs splits it. Raises nothing; what is left can still have holes.
        """
        for client, group in update.structs.items():
            if self.clock(client) > group[0].clock or group[-1].content is SKIP:
                return self._trimmed(update)
        for client, spans in update.ranges.items():
            if self._new_ranges(client, spans) is not spans:
                return self._trimmed(update)
        return update

    def _trimmed(self, update: Update) -> Update:
        structs = {client: self._behind(client, group) for client, group in update.structs.items()}
        ranges = {client: self._new_ranges(client, spans) for client, spans in update.ranges.items()}
        return Update(
            {client: group for client, group in structs.items() if group},
            {client: spans for client, spans in ranges.items() if len(spans)},
        )

    def _behind(self, client: int, group: list[Struct]) -> list[Struct]:
        """Structs behind what is known, without skips at the end, which bring nothing."""
        runs = self._runs.get(client)
        known = 0 if runs is None else runs.end
        if known <= group[0].clock and group[-1].content is not SKIP:
            return group
        left = group[bisect_right(group, known, key=_end_of) :]
        if left and left[0].clock < known:
            left[0] = left[0].behind(known)
        while left and left[-1].content is SKIP:
            left.pop()
        return left

    def _new_ranges(self, client: int, ranges: list[Range] | Vector) -> list[Range] | Vector:
        spans = self._deleted.get(client)
        if spans is None:
            return ranges
        if len(ranges) == 1 and isinstance(ranges, list) and spans.has_none_of(*ranges[0]):  # what is typed or set now
            return ranges
        lacking = spans.lacking(ranges)
        return ranges if isinstance(ranges, list) and lacking == ranges else lacking

    def read(self, update: Update) -> Reading:
        """A trimmed update as this index sees it: what the questions below are answered from, for who asks several.

        Raises MalformedUpdate for structs that wait for each other, which nothing that comes later can resolve.
        """
        reading = self._reading
        if reading is None or reading.update is not update:
            reading = self._reading = Reading(update)
            if len(update.structs) > 1:
                self._resolve(reading)
            else:
                self._resolve_alone(reading)
            if reading.hole is None and update.ranges:
                reading.hole = self._hole_in_deletes(update.ranges, reading.state)
        return reading

    def hole(self, update: Update) -> Hole | None:
        """The first id that is missing for a trimmed update to be integrated whole (rule D3); None when there is none.

        Raises MalformedUpdate for structs that wait for each other, which nothing that comes later can resolve.
        """
        return self.read(update).hole

    def ready(self, update: Update) -> Update:
        """What of a trimmed update with a hole can be integrated before the hole is filled: structs, no deletions.

        Two tabs that edited each other's text while the server was away bring updates of which each waits for the
        other's: without their beginnings, both would wait for ever. Deletions stay with the rest, because what they
        make room for may be there.
        """
        part = Update(update.structs, {})
        for _ in range(MAX_CUTS):
            if self.read(part).hole is None:
                return part
            part = Update(self._unstuck(part), {})
        return Update({}, {})

    def _unstuck(self, part: Update) -> dict[int, list[Struct]]:
        state = self.read(part).state
        kept = {}
        for client, group in part.structs.items():
            done = group[: bisect_right(group, state[client], key=_end_of)]
            is_stuck = len(done) < len(group) and self._missing(group[len(done)], state) is not None
            kept[client] = done if is_stuck else group
        return {client: group for client, group in kept.items() if group}

    def writes(self, update: Update) -> list[Write]:
        """Each struct of a trimmed update with its location, behind all that it refers to.

        Raises InvalidInput for an update with a hole.
        """
        return _whole(self.read(update)).writes

    def erased(self, update: Update) -> list[Erased]:
        """What the deletions of a trimmed update without holes hit: an entry per run of one kind in one location.

        Values that the update overwrites at a map key are among them, if the sender's replica held them: what a race
        overwrites only the replica knows.
        """
        reading = self.read(update)
        found: list[Erased] = []
        for client, ranges in update.ranges.items():
            for clock, length in as_list(ranges):
                self._hit(client, clock, clock + length, reading, found)
        return found

    def joined(self, update: Update) -> list[Write]:
        """The writes of a trimmed update, up to its hole, with several values at one key."""
        return self.read(update).joined

    def misfit(self, writes: Sequence[Write]) -> str | None:
        """Why the content of writes does not fit where it lies (rule G1), in words; None when all of it fits.

        Text in an array and the like, a parent that is no type, a root that the kind does not have, subdocuments,
        types nested deeper than MAX_TYPE_DEPTH, neighbours that lie in different places; a right neighbour at a map
        key, or one that is the left one too, which no editor writes: replicas that integrate them in another order come
        out differently; and an insertion or deletion that splits a surrogate pair: Yjs writes U+FFFD for the halves,
        pycrdt 0.14 keeps the pair and counts one clock too many from there on, so that later edits are lost.
        """
        reading = self._reading
        if reading is None or reading.writes is not writes:
            raise InvalidInput("misfit: expected the writes of the update that was read last")
        roots: dict[str, int] = {}
        for write in writes:
            reason = None if self._is_register(write, reading) else self._misfit(write, reading, roots)
            if reason is not None:
                return f"{write.content.name.lower()} at {write.id}: {reason}"
        if self._pairs or reading.pairs:
            return self._torn_pair(reading)
        return None

    def add(self, update: Update, deletes: bytes | None = None) -> None:
        """Take in a trimmed update without holes, which the replica integrates; `deletes` as for `note_deletes`."""
        reading = self.read(update)
        for write in _whole(reading).writes:
            self._append(write)
        for client, ranges in update.ranges.items():
            self._delete(client, ranges)
        for client, clocks in reading.pairs.items():
            take_pairs(self._pairs, client, clocks)
        self.grown.update(update.structs)
        self._reading = None
        if deletes is not None:
            self.note_deletes(deletes)

    def add_values(self, client: int, places: Iterable[tuple[Id, str]]) -> None:
        """Take in what `client` sets next, a plain value at a key of each map: registers of the server's, unread."""
        runs = self._runs.get(client)
        if runs is None:
            runs = self._runs[client] = Runs()
        for parent, key in places:
            runs.append(1, ANY, self._tables.place(parent, key))
        self.grown.add(client)
        self._reading = None

    def note_deletes(self, deletes: bytes) -> None:
        """Take in what an integration deleted in all: `delete_set` of pycrdt's TransactionEvent.

        It has what no update tells: values that lost a race, and what lay below a deleted type. A client that comes
        back sends them as deleted, and only if they are noted does that count as nothing new (rule D2).
        """
        for client, ranges in read_deletes(deletes, 0, MAX_CLOCK).items():
            self._delete(client, ranges)
        self._reading = None

    # --- reading -------------------------------------------------------------------------------------------------

    def _resolve_alone(self, reading: Reading) -> None:
        """`_resolve` for one client's structs at most, which need no other order: nearly every update there is."""
        for client, group in reading.update.structs.items():
            state = reading.state
            state[client] = self.clock(client)
            for struct in group:
                reading.hole = self._missing(struct, state)
                if reading.hole is not None:
                    return
                reading.take(self._placed(struct, reading))

    def _resolve(self, reading: Reading) -> None:
        """Yjs' order of integration: a struct that refers to another client's waits until that one is in."""
        groups, state = reading.update.structs, reading.state
        for client in groups:
            state[client] = self.clock(client)
        done = dict.fromkeys(groups, 0)
        for client in sorted(groups, reverse=True):
            waiting = {client: None}  # an ordered set: the last waits for nobody yet
            while waiting:
                current = next(reversed(waiting))
                if done[current] == len(groups[current]):
                    del waiting[current]
                    continue
                struct = groups[current][done[current]]
                hole = self._missing(struct, state)
                if hole is None:
                    reading.take(self._placed(struct, reading))
                    done[current] += 1
                    if len(waiting) > 1:  # perhaps the one before waited for just this
                        del waiting[current]
                elif hole.why == "clock" or done.get(hole.client, 0) == len(groups.get(hole.client, ())):
                    reading.hole = hole
                    return
                elif hole.client in waiting:
                    raise MalformedUpdate(struct.offset, "structs in some order", f"a circle through {struct.id}")
                else:
                    waiting[hole.client] = None

    def _missing(self, struct: Struct, state: dict[int, int]) -> Hole | None:
        """What the struct refers to and is not there. Its own client's clocks before it are there already."""
        client = struct.client
        if struct.clock != state[client] or struct.content is SKIP:
            return Hole(client, state[client], "clock")
        origin = struct.origin
        if origin is not None and origin[0] != client and not self._has(origin, state):
            return Hole(*origin, "origin")
        right = struct.right_origin
        if right is not None and right[0] != client and not self._has(right, state):
            return Hole(*right, "right origin")
        parent = struct.parent
        if isinstance(parent, tuple) and parent[0] != client and not self._has(parent, state):
            return Hole(*parent, "parent")
        return None

    def _has(self, item: Id, state: dict[int, int]) -> bool:
        client, clock = item
        known = state.get(client)
        return clock < (self.clock(client) if known is None else known)

    def _hole_in_deletes(self, deletes: Deletes, state: dict[int, int]) -> Hole | None:
        for client, ranges in deletes.items():
            known = state.get(client)
            if known is None:
                known = self.clock(client)
            last = ranges[-1]
            end = last[0] + last[1] if isinstance(ranges, list) else int(last[1])
            if end > known:
                return Hole(client, known, "deletion")
        return None

    def _placed(self, struct: Struct, reading: Reading) -> Write:
        parent, key = struct.parent, struct.key
        left, right = struct.origin, struct.right_origin
        if left is not None:
            parent, key = self._locate(left, reading)
            if parent is None and right is not None:  # as pycrdt does; Yjs makes garbage of it
                parent, key = self._locate(right, reading)
        elif right is not None:
            parent, key = self._locate(right, reading)
        elif isinstance(parent, tuple) and self._kind(parent, reading) & 15 in _GONE:
            parent = key = None
        return Write((struct.client, struct.clock), struct.length, parent, key, struct.content, struct)

    def _locate(self, item: Id, reading: Reading) -> tuple[str | Id | None, str | None]:
        client, clock = item
        runs = self._runs.get(client)
        if runs is None or clock >= runs.end:
            write = reading.find(client, clock)
            return (None, None) if write is None else (write.parent, write.key)
        return self._tables.place_of(runs, runs.find(clock))

    def _kind(self, item: Id, reading: Reading) -> int:
        kind = reading.kinds.get(item)
        if kind is None:
            found = self._find(item)
            if found is not None:
                kind = found[0].kinds[found[1]]
            else:
                write = reading.find(*item)
                kind = GC if write is None else kind_of(write)
            reading.kinds[item] = kind
        return kind

    def _hit(self, client: int, clock: int, end: int, reading: Reading, found: list[Erased]) -> None:
        runs = self._runs.get(client)
        if runs is not None and clock < runs.end:
            run, last = runs.find(clock), min(end, runs.end)
            while clock < last:
                content, type_ref = content_of(runs.kinds[run])
                parent, key = self._tables.place_of(runs, run)
                behind = min(last, runs.end_of(run))
                found.append(Erased(client, clock, behind - clock, parent, key, content, type_ref, False))
                clock, run = behind, run + 1
        while clock < end and (write := reading.find(client, clock)) is not None:
            last = min(end, write.struct.end)
            content, type_ref = content_of(kind_of(write))
            found.append(Erased(client, clock, last - clock, write.parent, write.key, content, type_ref, True))
            clock = last

    # --- what fits -----------------------------------------------------------------------------------------------

    def _is_register(self, write: Write, reading: Reading) -> bool:
        """Whether it is a plain value at a key of a map, without a right neighbour, which fits: nearly every write."""
        return (
            write.content is ANY
            and write.key is not None
            and write.struct.right_origin is None
            and isinstance(write.parent, tuple)
            and self._kind(write.parent, reading) == _MAP
        )

    def _misfit(self, write: Write, reading: Reading, roots: dict[str, int]) -> str | None:
        _, _, parent, key, content, struct = write
        fitting = holders(content, key, struct.value() if content is TYPE else None)
        if isinstance(parent, str):
            held = roots[parent] if parent in roots else self._root(parent)
            if not held:
                return f"expected one of the roots {sorted(self._roots)}, got {parent!r}"
            roots[parent] = held & fitting
        elif parent is not None:
            kind = self._kind(parent, reading)
            if kind & 15 != TYPE:
                return f"expected a shared type as parent, got {content_of(kind)[0].name.lower()} at {parent}"
            held = 1 << (kind >> 4)
        else:
            return None
        if not held & fitting:
            where = "without a key" if write.key is None else f"at key {write.key!r}"
            return f"expected to lie {where} in {names(fitting)}, got {names(held)}"
        if struct.right_origin is not None:
            if key is not None and content not in _GONE:
                return f"expected a value at key {key!r} to have no right neighbour, got {struct.right_origin}"
            if struct.origin == struct.right_origin:
                return f"expected two neighbours, got {struct.origin} on both sides"
        if struct.origin is not None and struct.right_origin is not None:
            right = self._locate(struct.right_origin, reading)
            if right[0] is not None and right != (parent, write.key):
                return f"expected neighbours in one place, got {(parent, write.key)} and {right}"
        if write.content is TYPE and self._depth(write, reading) > MAX_TYPE_DEPTH:
            return f"expected at most {MAX_TYPE_DEPTH} types inside one another, got more"
        return None

    def _root(self, name: str) -> int:
        """The types that a root can still be, as a mask."""
        return self._roots.get(name, 0 if self._closed else ALL_TYPES)

    def _depth(self, write: Write, reading: Reading) -> int:
        """The types around a write, counted up to one more than allowed."""
        depth, parent = 1, write.parent
        while isinstance(parent, tuple) and depth <= MAX_TYPE_DEPTH:
            depth += 1
            parent = self._locate(parent, reading)[0]
        return depth

    def _torn_pair(self, reading: Reading) -> str | None:
        for client, clock in seams(reading.update):
            if self._is_inside_pair(client, clock, reading):
                return f"expected whole characters, got half a surrogate pair at {(client, clock)}"
        return None

    def _is_inside_pair(self, client: int, clock: int, reading: Reading) -> bool:
        if holds(reading.pairs.get(client), clock):
            return True
        return holds(self._pairs.get(client), clock) and not self.is_deleted((client, clock))

    # --- taking in -----------------------------------------------------------------------------------------------

    def _append(self, write: Write) -> None:
        client, clock = write.id
        runs = self._runs.get(client)
        if runs is None:
            runs = self._runs[client] = Runs()
        content = write.content
        kind = kind_of(write) if content is TYPE else content
        runs.append(write.length, kind, self._tables.place(write.parent, write.key))
        if content is DELETED or content is GC:
            self._delete(client, [(clock, write.length)])
        parent = write.parent
        if isinstance(parent, str) and not self._closed:
            self._roots[parent] = self._root(parent) & holders(write.content, write.key, type_ref_of(write))

    def _delete(self, client: int, ranges: list[Range] | Vector) -> None:
        spans = self._deleted.get(client)
        if spans is None:
            spans = self._deleted[client] = Spans()
        for clock, length in as_list(ranges):
            spans.add(clock, clock + length)

    # --- storing -------------------------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """The index as bytes, to be stored with a snapshot."""
        stored = {
            "format": _FORMAT,
            "closed": self._closed,
            "roots": self._roots,
            "sources": self._tables.sources,
            "keys": self._tables.keys,
            "runs": {client: runs.columns() for client, runs in self._runs.items()},
            "pairs": {client: pack(clocks) for client, clocks in self._pairs.items()},
            "deleted": {client: spans.columns() for client, spans in self._deleted.items()},
        }
        return zlib.compress(msgpack.packb(stored), 1)

    @classmethod
    def decode(cls, data: bytes) -> Index:
        """The inverse of `encode`. Raises InvalidInput for bytes that it did not make."""
        try:
            stored = msgpack.unpackb(zlib.decompress(data), strict_map_key=False)
            if stored["format"] != _FORMAT:
                raise InvalidInput(f"index: expected format {_FORMAT}, got {stored['format']!r}")
            index = cls()
            index._closed = stored["closed"]
            index._roots = stored["roots"]
            index._tables = Tables(stored["sources"], stored["keys"])
            index._runs = {client: Runs.from_columns(*columns) for client, columns in stored["runs"].items()}
            index._pairs = {client: unpack(clocks) for client, clocks in stored["pairs"].items()}
            index._deleted = {client: Spans.from_columns(*columns) for client, columns in stored["deleted"].items()}
        except (zlib.error, ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
            raise InvalidInput(f"index: expected an encoded index, got {error!r}") from error
        return index


def _whole(reading: Reading) -> Reading:
    if reading.hole is not None:
        raise InvalidInput(f"update: expected no holes, got {reading.hole}")
    return reading

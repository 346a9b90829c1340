"""The reader: a Yjs v1 update, read without applying it, so that nothing reaches pycrdt unjudged (rule G1).

Format: https://github.com/yjs/yjs, `src/utils/encoding.js` and `src/structs/`. An update is a count of clients, for
each its structs (count, client, first clock, structs one behind the other), and a delete set. A struct is a byte of
flags and kind, the origin to its left and right, its parent if neither origin implies it, and its content.

Rule 1: what is read is well-formed to the last byte, nested no deeper and no longer than `Limits` say; lengths count
        UTF-16 units, as Yjs does. A struct refers only to what came before it: never to itself or its client's future.
Rule 2: a struct keeps the bytes that it was read from; `encode` joins them, so that what pycrdt applies is what was
        judged, byte for byte. Apply what `encode` gives, never the bytes from outside.
Rule 3: what pycrdt 0.14 cannot read or reads otherwise than Yjs (XML hooks, weak references, structs without length)
        is malformed here.

`_read_group` and `_read_item` read single bytes in place instead of calling `read_varint`: a call per number would make
the reader twice as slow, and each edit of everybody passes here.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from struct import error as OutOfBytes  # noqa: N812 - what `unpack_from` raises
from typing import Any, TypeAlias

import numpy as np

from maquette.engine.contents import ANY, CONTENTS, DEFAULT_LIMITS, DELETED, GC, READERS, SKIP, STRING, Content, Limits
from maquette.engine.deletes import MAX_CLOCK, Deletes, Range, as_list, is_canonical, read_deletes, unite, write_deletes
from maquette.engine.errors import InvalidInput, LimitExceeded, MalformedUpdate
from maquette.engine.varints import read_any, read_string, read_varint, write_numbers, write_string, write_varint

__all__ = [
    "DEFAULT_LIMITS",
    "Content",
    "Id",
    "Limits",
    "Struct",
    "Update",
    "blank",
    "cut",
    "ends",
    "is_heavy",
    "low_surrogates",
    "merge",
    "new_registers",
    "read_update",
    "rename_clients",
]

Id: TypeAlias = tuple[int, int]
"""(client, clock): the name of one unit of content, for as long as the epoch lasts."""


_WITHOUT_CONTENT = frozenset((GC, DELETED, SKIP))

_ORIGIN, _RIGHT_ORIGIN, _KEY = 0x80, 0x40, 0x20
_SHORT = 64
"""Bytes of a delete set that are compared rather than written again; a whole one is not worth the time (rule D2)."""


@dataclass(slots=True)
class Struct:
    """One struct: `length` clocks of `client` from `clock` on.

    `parent` and `key` are set only where no origin implies them: a root's name, or the id of the item that holds the
    parent type. Treat a struct as frozen: it is not declared so only because that would triple the time to make one.
    """

    client: int
    clock: int
    length: int
    content: Content
    origin: Id | None
    right_origin: Id | None
    parent: str | Id | None
    key: str | None
    _value: Any
    _data: bytes
    _start: int
    _body: int
    _end: int

    @property
    def id(self) -> Id:
        """The first clock's id."""
        return (self.client, self.clock)

    @property
    def end(self) -> int:
        """The clock behind the last."""
        return self.clock + self.length

    @property
    def offset(self) -> int:
        """Where the struct began in the update that it was read from."""
        return self._start

    @property
    def size(self) -> int:
        """Bytes inside an update."""
        return self._end - self._start

    def value(self) -> Any:
        """The content: ANY and JSON a list of plain values, STRING str, BINARY bytes, EMBED the value, FORMAT (key,
        value), TYPE its type ref (0 array, 1 map, 2 text, 3 XML element, 4 fragment, 6 XML text), DOC (guid, options),
        and None for GC, DELETED and SKIP. Integers are int here and float in pycrdt.
        """
        return self._value

    def encode(self) -> bytes:
        """The bytes of this struct inside an update."""
        return self._data[self._start : self._end]

    def blank(self) -> Struct:
        """The same item with deleted content of the same length; GC and SKIP stay what they are."""
        if self.content in _WITHOUT_CONTENT:
            return self
        body = write_varint(self.length)
        return self._rewritten(self.clock, self.length, DELETED, self.origin, body, None)

    def behind(self, clock: int) -> Struct:
        """What remains from `clock` on, which lies inside: its origin becomes the unit before, as Yjs writes it."""
        offset = clock - self.clock
        length = self.length - offset
        body, value = _slice(self, offset, length)
        return self._rewritten(clock, length, self.content, (self.client, clock - 1), body, value)

    def _rewritten(
        self, clock: int, length: int, content: Content, origin: Id | None, body: bytes, value: Any
    ) -> Struct:
        parent, key = (None, None) if origin is not None else (self.parent, self.key)
        if content is GC or content is SKIP:
            origin = right_origin = None
            header = bytes((content,))
        else:
            right_origin = self.right_origin
            keyed = self._data[self._start] & _KEY  # Yjs keeps the flag where an origin implies the key
            header = _header(content, keyed, origin, right_origin, parent, key)
        data, size = header + body, len(header)
        return Struct(
            self.client,
            clock,
            length,
            content,
            origin,
            right_origin,
            parent,
            key,
            value,
            data,
            0,
            size,
            size + len(body),
        )


@dataclass(slots=True)
class Update:
    """An update: per client its structs in order of clocks, without gaps, and the delete set. Treat it as frozen."""

    structs: dict[int, list[Struct]]
    ranges: Deletes
    """The delete set as read: long lists of ranges are vectors."""
    _read: bytes | None = field(default=None, compare=False, repr=False)
    """What `encode` gives: the bytes that it was read from, where it would make the same again."""
    said: bytes | None = field(default=None, compare=False, repr=False)
    """The bytes of the delete set, where they are known without writing them."""

    @property
    def deletes(self) -> dict[int, list[Range]]:
        """The delete set: per client (first clock, length) in order, neither touching nor overlapping."""
        return {client: as_list(ranges) for client, ranges in self.ranges.items()}

    @property
    def is_empty(self) -> bool:
        """Whether it brings neither structs nor deletions."""
        return not self.structs and not self.ranges

    def encode(self) -> bytes:
        """The update in Yjs v1: clients descending, each struct's bytes as they were read."""
        if self._read is None:
            self._read = self._joined()
        return self._read

    def _joined(self) -> bytes:
        parts = [write_varint(len(self.structs))]
        for client in sorted(self.structs, reverse=True):
            structs = self.structs[client]
            parts += [write_varint(len(structs)), write_varint(client), write_varint(structs[0].clock)]
            parts += [struct._data[struct._start : struct._end] for struct in structs]
        parts.append(write_deletes(self.ranges))
        return b"".join(parts)


def read_update(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Update:
    """Read `data` whole, without applying it.

    Raises MalformedUpdate for bytes that are not one Yjs v1 update and nothing else, LimitExceeded for too many.
    """
    if len(data) > limits.bytes:
        raise LimitExceeded("bytes", limits.bytes, len(data))
    try:
        structs, pos = _read_structs(data, limits)
        ranges = read_deletes(data, pos, limits.deletes)
    except (IndexError, OutOfBytes):
        raise MalformedUpdate(len(data), "more bytes", "the end of the update") from None
    if len(structs) > 1 or data[0] != len(structs) or len(data) - pos > _SHORT:
        return Update(structs, ranges)
    if not is_canonical(data, pos, ranges):
        return Update(structs, ranges)
    return Update(structs, ranges, data, data[pos:])  # integers are in their shortest form, structs keep their bytes


def is_heavy(data: bytes, octets: int, structs: int) -> bool:
    """Whether `data` brings more than so many bytes, or counts, of structs; its deletions do not count.

    Looks at the beginning only. What is malformed there may be called either.
    """
    limits = replace(DEFAULT_LIMITS, structs=structs)
    try:
        _read_structs(data[:octets], limits)
    except LimitExceeded as error:
        return error.limit == "structs"
    except (IndexError, OutOfBytes, MalformedUpdate):
        return len(data) > octets
    return False


def ends(data: bytes) -> Iterator[Id]:
    """The client and its next clock behind each struct of `data`, read one by one, as far as it can be read.

    Whoever looks for a single one need not read the rest.
    """
    try:
        groups, pos = read_varint(data, 0)
        for _ in range(groups):
            count, pos = read_varint(data, pos)
            named = pos
            client, pos = read_varint(data, pos)
            mine = data[named:pos]
            clock, pos = read_varint(data, pos)
            for _ in range(count):
                length, kind, pos = _passed(data, pos, client, clock, mine)
                clock += length
                if kind != SKIP:
                    yield client, clock
    except (IndexError, OutOfBytes, MalformedUpdate, LimitExceeded):
        return


def _passed(data: bytes, pos: int, client: int, clock: int, mine: bytes) -> tuple[int, Content, int]:
    kind = data[pos] & 31
    if kind == 0 or kind == 10:
        length, pos = read_varint(data, pos + 1)
        return length, CONTENTS[kind], pos
    item = _read_item(data, pos, client, clock, mine, DEFAULT_LIMITS)
    return item.length, item.content, item._end


def _read_structs(data: bytes, limits: Limits) -> tuple[dict[int, list[Struct]], int]:
    structs: dict[int, list[Struct]] = {}
    groups, pos = data[0], 1
    if groups > 127:
        groups, pos = read_varint(data, 0)
    if groups > limits.clients:
        raise LimitExceeded("clients", limits.clients, groups)
    left = limits.structs
    for _ in range(groups):
        start = pos
        count = data[pos]
        pos += 1
        if count > 127:
            count, pos = read_varint(data, start)
        left -= count
        if left < 0:
            raise LimitExceeded("structs", limits.structs, limits.structs - left)
        named = pos
        client, pos = read_varint(data, pos)
        if client in structs:
            raise MalformedUpdate(start, "each client once", f"client {client} again")
        group, pos = _read_group(data, pos, count, client, data[named:pos], limits)
        if group:
            structs[client] = group
    return structs, pos


def _read_group(
    data: bytes, pos: int, count: int, client: int, mine: bytes, limits: Limits
) -> tuple[list[Struct], int]:
    """One client's structs; `mine` is the client as it is written, by which most origins are recognised."""
    group = []
    clock, pos = read_varint(data, pos)
    for _ in range(count):
        info = data[pos]
        kind = info & 31
        if kind == 0 or kind == 10:
            start = pos
            if info != kind:
                raise MalformedUpdate(pos, f"no flags on a struct of kind {kind}", hex(info))
            length, pos = read_varint(data, pos + 1)
            item = Struct(
                client, clock, length, CONTENTS[kind], None, None, None, None, None, data, start, start + 1, pos
            )  # fmt: skip
        else:
            item = _read_item(data, pos, client, clock, mine, limits)
            length, pos = item.length, item._end
        if not length:
            raise MalformedUpdate(item._start, "a struct of at least one clock", "an empty one")
        clock += length
        group.append(item)
        if clock > MAX_CLOCK:
            raise LimitExceeded("clock", MAX_CLOCK, clock)
    return group, pos


def _read_item(data: bytes, start: int, client: int, clock: int, mine: bytes, limits: Limits) -> Struct:
    info = data[start]
    pos = start + 1
    origin = right_origin = key = None
    parent: str | Id | None = None
    if info & _ORIGIN:
        origin, pos = _read_id(data, pos, client, clock, mine)
    if info & _RIGHT_ORIGIN:
        right_origin, pos = _read_id(data, pos, client, clock, mine)
    if origin is None and right_origin is None:
        named = data[pos]
        pos += 1
        if named == 1:
            parent, pos = read_string(data, pos, limits.key, "key")
        elif named == 0:
            parent, pos = _read_id(data, pos, client, clock, mine)
        else:
            raise MalformedUpdate(pos - 1, "0 or 1 before a parent", str(named))
        if info & _KEY:
            key, pos = read_string(data, pos, limits.key, "key")
    kind = info & 31
    if kind > 9:
        raise MalformedUpdate(start, "a kind of content from 0 to 10", str(kind))
    body = pos
    length, value, pos = READERS[kind](data, pos, limits)
    return Struct(
        client, clock, length, CONTENTS[kind], origin, right_origin, parent, key, value, data, start, body, pos
    )


def _read_id(data: bytes, pos: int, client: int, clock: int, mine: bytes) -> tuple[Id, int]:
    if data.startswith(mine, pos):
        pos += len(mine)
        own = data[pos]
        pos += 1
        if own > 127:
            own, pos = read_varint(data, pos - 1)
        if own >= clock:
            raise MalformedUpdate(pos, f"a reference to a clock of client {client} before {clock}", str(own))
        return (client, own), pos
    other, pos = read_varint(data, pos)
    foreign, pos = read_varint(data, pos)
    if foreign >= MAX_CLOCK:
        raise LimitExceeded("clock", MAX_CLOCK, foreign)
    return (other, foreign), pos


# --- rewriting ---------------------------------------------------------------------------------------------------


def _header(
    content: Content, keyed: int, origin: Id | None, right_origin: Id | None, parent: str | Id | None, key: str | None
) -> bytes:
    info = content | keyed
    out = b""
    if origin is not None:
        info |= _ORIGIN
        out += write_varint(origin[0]) + write_varint(origin[1])
    if right_origin is not None:
        info |= _RIGHT_ORIGIN
        out += write_varint(right_origin[0]) + write_varint(right_origin[1])
    if isinstance(parent, str):
        out += b"\1" + write_string(parent)
    elif parent is not None:
        out += b"\0" + write_varint(parent[0]) + write_varint(parent[1])
    if key is not None:
        out += write_string(key)
    return bytes((info,)) + out


def _slice(struct: Struct, offset: int, length: int) -> tuple[bytes, Any]:
    """The content from `offset` on, as (bytes, value). Only content that can be longer than one is ever cut."""
    content, value = struct.content, struct._value
    if content is STRING:
        text = _slice_text(value, offset)
        return write_string(text), text
    if content in _WITHOUT_CONTENT:
        return write_varint(length), None
    _, pos = read_varint(struct._data, struct._body)
    for _ in range(offset):
        if content is ANY:
            _, pos = read_any(struct._data, pos, MAX_CLOCK, MAX_CLOCK)
        else:
            _, pos = read_string(struct._data, pos, MAX_CLOCK)
    return write_varint(length) + struct._data[pos : struct._end], value[offset:]


def _slice_text(text: str, offset: int) -> str:
    """`text` from the UTF-16 unit `offset` on; half a surrogate pair becomes U+FFFD, as in Yjs."""
    if text.isascii():
        return text[offset:]
    return text.encode("utf-16-le")[2 * offset :].decode("utf-16-le", "replace")


def low_surrogates(text: str, clock: int) -> array[int]:
    """The clocks of second halves of surrogate pairs in a STRING that begins at `clock`."""
    if text.isascii() or max(text) < "\U00010000":
        return array("I")
    units = np.frombuffer(text.encode("utf-16-le"), "<u2")
    return array("I", (np.flatnonzero(units & 0xFC00 == 0xDC00) + clock).tolist())


def blank(update: Update) -> Update:
    """The blank form (rules G5, L8): the same clocks, origins, parents, keys and deletions, and no content.

    What stays readable are root names, and the map key of an item that no origin places: without it, later items that
    take their place from this one would land under another key. Names and keys hold ids, never content.
    """
    return Update(
        {client: [struct.blank() for struct in structs] for client, structs in update.structs.items()}, update.ranges
    )


def cut(update: Update, keep: Callable[[int], bool]) -> tuple[Update, set[int]]:
    """The update without the structs of clients that are not kept, and those clients (rule D4). Deletions stay."""
    lost = {client for client in update.structs if not keep(client)}
    if not lost:
        return update, lost
    kept = {client: structs for client, structs in update.structs.items() if client not in lost}
    return Update(kept, update.ranges), lost


def merge(first: Update, second: Update) -> Update:
    """Both updates as one. A client's structs in `second` follow those in `first` without a gap.

    Raises InvalidInput for structs that both bring, or with a gap between them.
    """
    structs = dict(first.structs)
    for client, behind in second.structs.items():
        structs[client] = _joined(structs[client], behind) if client in structs else behind
    return Update(structs, unite(first.ranges, second.ranges), _beside(first, second))


def _beside(first: Update, second: Update) -> bytes | None:
    """The bytes of two updates with a client each and at most one delete set; None where they are others."""
    if len(first.structs) != 1 or first.structs.keys() == second.structs.keys() or second.said != b"\0":
        return None
    if first._read is None or first.said is None or second._read is None:
        return None
    one, other = first._read[1 : len(first._read) - len(first.said)], second._read[1:-1]
    if min(first.structs) > min(second.structs):
        return b"\2" + one + other + first.said
    return b"\2" + other + one + first.said


def _joined(first: Sequence[Struct], second: Sequence[Struct]) -> list[Struct]:
    if first[-1].end != second[0].clock:
        raise InvalidInput(
            f"structs of client {first[0].client}: expected the second update to go on at clock {first[-1].end}, "
            f"it starts at {second[0].clock}"
        )
    return [*first, *second]


def new_registers(client: int, clock: int, registers: Sequence[tuple[Id, str, Sequence[int]]]) -> Update:
    """The update by which `client`, from `clock` on, sets keys of maps that have nothing there yet to whole numbers.

    A register is (the id of the map's item, key, numbers).
    """
    structs = []
    for at, (parent, key, numbers) in enumerate(registers, clock):
        header = _header(ANY, _KEY, None, None, parent, key)
        data, value = header + b"\1" + write_numbers(numbers), [list(numbers)]
        structs.append(
            Struct(client, at, 1, ANY, None, None, parent, key, value, data, 0, len(header), len(data))
        )  # fmt: skip
    start = b"\1" + write_varint(len(structs)) + write_varint(client) + write_varint(clock)
    return Update({client: structs}, {}, b"".join((start, *(struct._data for struct in structs), b"\0")), b"\0")


def rename_clients(update: Update, names: Mapping[int, int]) -> Update:
    """The update with each client id replaced by what `names` has for it, in structs, origins, parents, deletions."""
    structs = {names[client]: [_renamed(struct, names) for struct in group] for client, group in update.structs.items()}
    return Update(structs, {names[client]: ranges for client, ranges in update.ranges.items()})


def _renamed(struct: Struct, names: Mapping[int, int]) -> Struct:
    def new(id_: Id | None) -> Id | None:
        return None if id_ is None else (names[id_[0]], id_[1])

    content = struct.content
    origin, right_origin = new(struct.origin), new(struct.right_origin)
    parent = struct.parent if isinstance(struct.parent, str) else new(struct.parent)
    if content is GC or content is SKIP:
        header = bytes((content,))
    else:
        keyed = struct._data[struct._start] & _KEY
        header = _header(content, keyed, origin, right_origin, parent, struct.key)
    data, size = header + struct._data[struct._body : struct._end], len(header)
    return replace(
        struct,
        client=names[struct.client],
        origin=origin,
        right_origin=right_origin,
        parent=parent,
        _data=data,
        _start=0,
        _body=size,
        _end=len(data),
    )

"""Honest updates, broken by chance: bytes, pieces, and the fields of their structs.

The structs are taken apart by the product's reader, and put together by `wire`, which knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from tests.support import wire
from tests.support.assault import mutated
from tests.support.wire import Id

from maquette.engine.update import Content, Struct, read_update

EXTREMES = (0, 1, 2, 127, 128, 2**14, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53 - 1, 2**53, 2**63)


def mutant(corpus: Sequence[bytes], known: Sequence[Id], random: Random) -> bytes:
    """A broken one of `corpus`; `known` are ids that it may be made to refer to."""
    data = random.choice(corpus)
    make = random.choice(_WAYS)
    return make(data, corpus, known, random)


def _bytes(data: bytes, corpus: Sequence[bytes], known: Sequence[Id], random: Random) -> bytes:
    return mutated(data, random)


def _splice(data: bytes, corpus: Sequence[bytes], known: Sequence[Id], random: Random) -> bytes:
    other = random.choice(corpus)
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


def _cut(data: bytes, corpus: Sequence[bytes], known: Sequence[Id], random: Random) -> bytes:
    start, end = sorted(random.randint(0, len(data)) for _ in range(2))
    piece = data[start:end]
    return random.choice((data[:end], data[:start] + data[end:], data[:end] + piece + data[end:], data + piece))


def _number(data: bytes, corpus: Sequence[bytes], known: Sequence[Id], random: Random) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + wire.number(random.choice(EXTREMES)) + data[at + 1 :]


def _fields(data: bytes, corpus: Sequence[bytes], known: Sequence[Id], random: Random) -> bytes:
    """One to three fields of its structs and deletions changed, everything else as it was."""
    update = read_update(data)
    groups = {client: list(structs) for client, structs in update.structs.items()}
    deletes = {client: list(ranges) for client, ranges in update.deletes.items()}
    ids = [*known, *(struct.id for group in groups.values() for struct in group)] or [(1, 0)]
    changes = _changes(groups, ids, random)
    if random.random() < 0.3:
        client, clock = random.choice(ids)
        deletes[client] = [(clock, random.choice((1, 1, 2, 50)))]
    return wire.update(*(_group(client, group, changes, random) for client, group in groups.items()), deletes=deletes)


_Changes = dict[int, dict[str, Any]]


def _changes(groups: dict[int, list[Struct]], ids: Sequence[Id], random: Random) -> _Changes:
    structs = [struct for group in groups.values() for struct in group]
    changes: _Changes = {}
    for _ in range(random.randint(1, 3) if structs else 0):
        changes.setdefault(id(random.choice(structs)), {}).update(_change(ids, random))
    return changes


def _change(ids: Sequence[Id], random: Random) -> dict[str, Any]:
    some, other = random.choice(ids), random.choice(ids)
    near = (some[0], max(0, some[1] + random.choice((-1, 1, 5))))
    key = random.choice((None, "k", "name", "place", "id", "reactions", ""))
    return random.choice(
        (
            {"origin": random.choice((some, near, None))},
            {"right": random.choice((other, near, None))},
            {"origin": some, "right": other},
            {"origin": None, "right": None, "parent": random.choice((some, near, "map", "nodes", "messages", "text"))},
            {"key": key},
            {"kind": random.randrange(11)},
            {"body": random.choice(BODIES)},
            {"kind": 7, "body": wire.number(random.randrange(8))},
        )
    )


BODIES = (
    b"", b"\0", wire.number(1) + wire.NULL, wire.number(2) + wire.ONE + wire.NULL, wire.string("a😀"),
    wire.string("bold") + wire.string("true"), wire.string('{"a":1}'), wire.number(2**31), wire.number(0),
)  # fmt: skip


def _group(client: int, group: Sequence[Struct], changes: _Changes, random: Random) -> bytes:
    clock = group[0].clock + (random.choice((-1, 1, 2)) if random.random() < 0.05 else 0)
    if random.random() < 0.05:
        group = [*group, random.choice(group)] if random.random() < 0.5 else list(group)[::-1]
    return wire.group(client, max(0, clock), *(_struct(struct, changes.get(id(struct))) for struct in group))


def _struct(struct: Struct, change: dict[str, Any] | None) -> bytes:
    if change is None:
        return struct.encode()
    body = struct._data[struct._body : struct._end]
    fields: dict[str, Any] = {
        "kind": int(struct.content), "body": body, "origin": struct.origin, "right": struct.right_origin,
        "parent": struct.parent, "key": struct.key,
    }  # fmt: skip
    fields |= change
    if fields["kind"] in (Content.GC, Content.SKIP):
        return bytes((fields["kind"],)) + wire.number(struct.length)
    if fields["origin"] is None and fields["right"] is None:
        fields["parent"] = fields["parent"] if fields["parent"] is not None else "map"
    else:
        fields["parent"] = None
    return wire.item(**fields)


_WAYS: Sequence[Callable[[bytes, Sequence[bytes], Sequence[Id], Random], bytes]] = (
    _bytes, _bytes, _splice, _cut, _number, _fields, _fields, _fields, _fields,
)  # fmt: skip

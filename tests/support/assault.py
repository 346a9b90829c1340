"""Hostile updates against pycrdt, with the reader and the index between: `python -m tests.support.assault SEED…`

Run in a process of its own with a limit on its time, because what the gate must keep out overflows pycrdt's stack or
never returns. Prints what became of the updates, as JSON; ends with an error when pycrdt raised or disagrees.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from pycrdt import Array, Doc, Map, Text, XmlFragment
from tests.support import wire
from tests.support.crowd import ROOTS, Crowd

from maquette.engine.errors import LimitExceeded, MalformedUpdate
from maquette.engine.index import Index
from maquette.engine.update import Update, read_update


class Target:
    """A replica and its index, as a server holds them."""

    def __init__(self, updates: Iterable[bytes]) -> None:
        self.doc: Doc[Any] = Doc(client_id=2**40)
        for name, kind in (("map", Map), ("list", Array), ("text", Text), ("rich", Text), ("page", XmlFragment)):
            self.doc.get(name, type=kind)
        self.index = Index(ROOTS)
        for data in updates:
            update = self.index.trim(read_update(data))
            if not update.is_empty and self.index.hole(update) is None:
                self.integrate(update)

    def attack(self, data: bytes) -> str:
        """What the gate says of `data`; what it admits is applied."""
        try:
            update = self.index.trim(read_update(data))
            hole = self.index.hole(update)
        except (MalformedUpdate, LimitExceeded):
            return "malformed"
        if update.is_empty:
            return "nothing new"
        if hole is not None:
            return "hole"
        if self.index.misfit(self.index.writes(update)) is not None:
            return "misfit"
        self.integrate(update)
        self.read_back()
        return "applied"

    def integrate(self, update: Update) -> None:
        deleted: list[bytes] = []
        subscription = self.doc.observe(lambda event: deleted.append(event.delete_set))
        self.doc.apply_update(update.encode())
        self.doc.unobserve(subscription)
        self.index.add(update)
        for deletes in deleted:
            self.index.note_deletes(deletes)

    def read_back(self) -> None:
        """Everything can be read, and the index holds what the replica holds."""
        for name in ("map", "list"):
            try:
                self.doc[name].to_py()
            except ValueError as error:  # Yjs puts XML into maps and arrays too
                if "no Python equivalent" not in str(error):
                    raise
        for name in ("text", "rich", "page"):
            str(self.doc[name])
        state = read_update(self.doc.get_update())
        assert self.index.trim(state).is_empty
        assert {client: structs[-1].end for client, structs in state.structs.items()} == {
            client: self.index.clock(client) for client in self.index.clients
        }


def mutated(data: bytes, random: Random) -> bytes:
    """`data` with a few bytes changed to what is most likely to mean something."""
    mutant = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        at = random.randrange(len(mutant))
        near = (mutant[at] + random.choice((-1, 1))) % 256
        mutant[at] = random.choice((0, 1, 2, 127, near, mutant[random.randrange(len(mutant))], random.randrange(256)))
    return bytes(mutant)


BODIES: Sequence[Callable[..., bytes]] = (
    lambda **place: wire.plain(wire.ONE, wire.NULL, **place),
    lambda **place: wire.text("ab😀c", **place),
    lambda **place: wire.shared(1, **place),
    lambda **place: wire.shared(0, **place),
    lambda **place: wire.shared(2, **place),
    lambda **place: wire.shared(3, wire.string("p"), **place),
    lambda **place: wire.shared(6, **place),
    lambda **place: wire.deleted(3, **place),
    lambda **place: wire.item(6, wire.string("bold") + wire.string("true"), **place),
    lambda **place: wire.item(5, wire.string("{}"), **place),
    lambda **_: wire.gc(2),
)


ROOMY = 2**31
"""A client whose clock is behind this has room for more."""


def invented(index: Index, random: Random, roots: Sequence[str] = tuple(ROOTS)) -> bytes:
    """A well-formed update whose structs refer to anything that there is, as no honest replica would write it."""
    clients = [client for client in index.clients if index.clock(client) < ROOMY]
    known = [(client, random.randrange(index.clock(client))) for client in clients for _ in range(4)]
    client, clock = random.choice([(77, index.clock(77)), *((id_[0], index.clock(id_[0])) for id_ in known)])
    structs = []
    start = clock
    for _ in range(random.randint(1, 6)):
        own = [(client, random.randrange(start, clock))] * 3 if clock > start else []
        ids = known + own
        place: dict[str, Any] = random.choice(
            (
                {"parent": random.choice(roots), "key": random.choice((None, "k", "name"))},
                {"parent": random.choice(ids or roots), "key": random.choice((None, "k"))},
                {"origin": random.choice(ids)} if ids else {"parent": "list"},
                {"right": random.choice(ids)} if ids else {"parent": "text"},
                {"origin": random.choice(ids), "right": random.choice(ids)} if ids else {"parent": "page"},
            )
        )
        struct = random.choice(BODIES)(**place)
        structs.append(struct)
        [[read]] = read_update(wire.update(wire.group(client, clock, struct))).structs.values()
        clock = read.end
    deletes = {owner: [(at, 1)] for owner, at in known[: random.randrange(3)]}
    return wire.update(wire.group(client, start, *structs), deletes=deletes)


def assault(seed: int) -> Counter[str]:
    """Mutants of one session's updates, each against an empty document and against one half-way through it; then
    invented updates, one upon the other, against the whole session.
    """
    random = Random(seed)
    crowd = Crowd(seed)
    updates = [data for _ in range(25) for data in crowd.step()]
    fate: Counter[str] = Counter()
    for _ in range(60):
        mutant = mutated(random.choice(updates), random)
        for base in ([], updates[: len(updates) // 2]):
            fate[Target(base).attack(mutant)] += 1
    target = Target(updates)
    for _ in range(60):
        fate[target.attack(invented(target.index, random))] += 1
    return fate


if __name__ == "__main__":
    total: Counter[str] = Counter()
    for argument in sys.argv[1:]:
        total += assault(int(argument))
    sys.stdout.write(json.dumps(total))

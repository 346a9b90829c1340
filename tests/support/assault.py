"""Hostile updates against pycrdt, with the reader and the index between: `python -m tests.support.assault SEED…`

Run in a process of its own with a limit on its time, because what the gate must keep out overflows pycrdt's stack or
never returns. Prints what became of the updates, as JSON; ends with an error when pycrdt raised or disagrees.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import Any

from pycrdt import Array, Doc, Map, Text, XmlFragment
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
        self.doc["map"].to_py()
        self.doc["list"].to_py()
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


def assault(seed: int) -> Counter[str]:
    """Mutants of one session's updates, each against an empty document and against one half-way through it."""
    random = Random(seed)
    crowd = Crowd(seed)
    updates = [data for _ in range(25) for data in crowd.step()]
    fate: Counter[str] = Counter()
    for _ in range(60):
        mutant = mutated(random.choice(updates), random)
        for base in ([], updates[: len(updates) // 2]):
            fate[Target(base).attack(mutant)] += 1
    return fate


if __name__ == "__main__":
    total: Counter[str] = Counter()
    for argument in sys.argv[1:]:
        total += assault(int(argument))
    sys.stdout.write(json.dumps(total))

"""Hostile updates against live documents of every kind, empty and populated, through `Document.submit`.

An attacker works on a true replica, under client ids of its own, so that its updates come as far as they can; what it
sends is its next updates broken, inventions over the index, and the known attacks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from tests.fuzz.became import Became
from tests.fuzz.besieged import KINDS, Besieged, session
from tests.fuzz.hostile import Aim, hostile
from tests.fuzz.mutants import mutant
from tests.support.assault import invented
from tests.support.crowd import ROOTS, Crowd
from tests.support.live import Peer
from tests.support.wire import Id

from maquette.engine.events import Actor
from maquette.engine.index import Index
from maquette.engine.kinds.kind import Kind
from maquette.engine.kinds.text import TEXT
from maquette.engine.replica import Replica
from maquette.engine.roles import Role

BATCH = 50
EMPTY_BATCH = 10
BATCHES = 4
"""Batches upon one document: long enough that one attack meets what another left."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What an attacker knows: the document that is attacked, and the client ids of the honest in it."""

    replica: Replica
    honest: Sequence[int]

    @property
    def kind(self) -> Kind:
        return self.replica.kind

    @property
    def index(self) -> Index:
        return self.replica.index

    @property
    def roots(self) -> list[str]:
        """The roots that there are, and those that the text corpus writes."""
        return [*(self.kind.roots or ROOTS)]


class Attacker:
    """Somebody with the right to write, a replica, and a corpus of updates that come next."""

    def __init__(self, ground: Ground, random: Random, name: str, client: int) -> None:
        self.ground = ground
        self.random = random
        self.actor = Actor(name)
        self.client = client
        self.corpus = self._corpus()

    def _corpus(self) -> list[bytes]:
        if self.ground.kind is TEXT:
            crowd = Crowd(self.random.randrange(2**32))
            made = [data for _ in range(12) for data in crowd.step()]
        else:
            peer = Peer(self.actor.id, self.client)
            peer.hear(self.ground.replica.diff(b"\0"))
            made = session(self.ground.kind, peer, self.random, 12)
        return made or [b"\0\0"]

    def known(self) -> list[Id]:
        """Some ids that there are."""
        index = self.ground.index
        return [(client, self.random.randrange(index.clock(client))) for client in index.clients for _ in range(2)]

    def next(self) -> bytes:
        """What it sends now: now and then the truth, so that its lies have something to stand on."""
        chance = self.random.random()
        if chance < 0.1:
            return self.random.choice(self.corpus)
        if chance < 0.65:
            return mutant(self.corpus, self.known(), self.random)
        if chance < 0.8:
            return invented(self.ground.index, self.random, self.ground.roots)
        return hostile(self.aim())

    def aim(self) -> Aim:
        index = self.ground.index
        victims = [*self.ground.honest, self.client, 7]
        return Aim(self.random, self.client, index.clock(self.client), self.ground.roots, victims, self.known())


async def besiege(random: Random, count: int, note: Callable[[bytes], None]) -> Became:
    """Send at least `count` updates; `note` hears of each before it is sent."""
    fates: Counter[str] = Counter()
    while fates.total() < count:
        for kind in KINDS:
            fates += await _one(kind, random, note, populated=random.random() < 0.7)
    return Became(fates)


async def _one(kind: Kind, random: Random, note: Callable[[bytes], None], *, populated: bool) -> Counter[str]:
    besieged = Besieged(kind, random)
    if populated:
        await besieged.populate()
    ground = Ground(besieged.document.replica, [peer.client for peer in besieged.honest])
    fates: Counter[str] = Counter()
    for number in range(BATCHES if populated else 1):
        client = random.choice((random.randrange(100, 2**7), random.randrange(2**32 - 9))) + number
        attacker = Attacker(ground, random, f"mallory{number % 2}", client)
        for _ in range(BATCH if populated else EMPTY_BATCH):
            data = attacker.next()
            note(data)
            own = client if random.random() < 0.9 else None
            role = Role.VIEWER if random.random() < 0.02 else Role.EDITOR
            fates[besieged.attack(attacker.actor, data, own, role)] += 1
        await besieged.check()
        await asyncio.sleep(0)
    return fates

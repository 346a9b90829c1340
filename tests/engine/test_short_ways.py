"""The short ways of small updates come to what the long ones come to: decisions, bytes, index and changes are the same.

An update of one client is resolved without looking for an order, the bytes that came are used where `encode` would
write the same, deletions that pycrdt says again are not read again, values that show are not looked up, and stamps come
in the transaction of their messages, and a value that is set by itself is read as that.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pycrdt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.besieged import KINDS, Besieged, assert_same_index
from tests.fuzz.mutants import mutant
from tests.fuzz.updates import Attacker, Ground
from tests.support.crowd import ROOTS, Crowd
from tests.support.live import open_document

from maquette.engine import reversal
from maquette.engine.document import Document
from maquette.engine.errors import LimitExceeded, MalformedUpdate
from maquette.engine.events import Actor, Event
from maquette.engine.index import Index
from maquette.engine.kinds.kind import Kind
from maquette.engine.reading import Reading, Write
from maquette.engine.receipts import Receipt
from maquette.engine.roles import Roles
from maquette.engine.update import Update, read_update

SEEDS = st.integers(0, 2**32 - 1)
LIKE_ALL = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class LongIndex(Index):
    """An index that takes no short way."""

    __slots__ = ()

    def trim(self, update: Update) -> Update:
        return super().trim(Update(update.structs, update.ranges))

    def _resolve_alone(self, reading: Reading) -> None:
        self._resolve(reading)

    def _is_register(self, write: Write, reading: Reading) -> bool:
        return False


def crowd_updates(random: Random) -> list[bytes]:
    crowd = Crowd(random.randrange(2**32))
    made = [data for _ in range(12) for data in crowd.step()]
    return [mutant(made, [(1, 0), (2, 3)], random) if random.random() < 0.5 else data for data in made]


def read(data: bytes) -> Update | None:
    try:
        return read_update(data)
    except (MalformedUpdate, LimitExceeded):
        return None


def test_g1_bytes_that_are_used_as_they_came_are_what_would_be_written() -> None:
    used = list[bytes]()

    @LIKE_ALL
    @given(seed=SEEDS)
    def each(seed: int) -> None:
        for data in crowd_updates(Random(seed)):
            update = read(data)
            if update is not None and update.encode() is data:
                assert Update(update.structs, update.ranges).encode() == data
                used.append(data)

    each()
    assert used


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("01000500" + "00"),  # a client without structs
        bytes.fromhex("00" + "010500"),  # a client without deletions
        bytes.fromhex("00" + "01050203010001"),  # ranges in the wrong order
        bytes.fromhex("00" + "010502000101" + "01"),  # ranges that touch
        bytes.fromhex("00" + "0201010001" + "05010001"),  # clients ascending
        bytes.fromhex("00" + "0105020001" + "0500"),  # a range of no clock
    ],
)
def test_g1_what_encode_writes_otherwise_is_written_again(data: bytes) -> None:
    update = read_update(data)
    assert update.encode() is not data
    assert update.encode() == Update(update.structs, update.ranges).encode() != data


class Twins:
    """A document, and another one that takes no short way and gets the same."""

    def __init__(self, besieged: Besieged) -> None:
        self.short = besieged.document
        self.long = open_document(besieged.kind)
        replica = self.long.replica
        replica.index = LongIndex(_type_refs(besieged.kind))
        replica._reading = lambda edits: replica.doc.transaction()  # type: ignore[method-assign]  # for all alike
        replica._alone = lambda writes, update: None  # type: ignore[method-assign]  # no edit is read by itself
        replica._are_new = lambda registers, writes: False  # type: ignore[method-assign]  # pycrdt writes all stamps
        replica.shows = lambda edit: False  # type: ignore[method-assign]  # every value is looked up
        replica.claims._claims.update(self.short.replica.claims._claims)
        self._submit = self.short.submit
        self.short.submit = self._both  # type: ignore[method-assign]  # what one gets, the other gets
        self.taken = 0

    def _both(self, actor: Actor, roles: Callable[[], Roles], data: bytes, own: int | None = None) -> Receipt:
        receipt, other = self._submit(actor, roles, data, own), self.long.submit(actor, roles, data, own)
        assert (receipt.denied, receipt.refused, receipt.hole) == (other.denied, other.refused, other.hole)
        self.taken += 1
        return receipt

    async def check(self) -> None:
        assert_same_index(self.short.replica.index, self.long.replica.index)
        events, others = [await _events(document) for document in (self.short, self.long)]
        assert len(events) == len(others)
        for event, other in zip(events, others, strict=True):
            assert (event.type, event.actor, event.data["changes"]) == (other.type, other.actor, other.data["changes"])
            if event.type == "document.edited":
                assert event.data["update"] == other.data["update"]


def _type_refs(kind: Kind) -> dict[str, int] | None:
    refs: dict[type[Any], int] = {pycrdt.Array: 0, pycrdt.Map: 1, pycrdt.Text: 2}
    return None if kind.roots is None else {name: refs[type_] for name, type_ in kind.roots.items()}


async def _events(document: Document) -> list[Event]:
    await document.drained()
    return [event async for page in document._log.read(document.stream) for event in page]


def revived_in_order(value: Any) -> Any:
    """As `revived`, but the server's ids of what it writes again do not depend on pycrdt's order of keys."""
    if isinstance(value, pycrdt.Map):
        return pycrdt.Map({key: revived_in_order(value[key]) for key in sorted(value.keys())})
    if isinstance(value, pycrdt.Array):
        return pycrdt.Array([revived_in_order(item) for item in value])
    return pycrdt.Text(str(value)) if isinstance(value, pycrdt.Text) else value


async def besieged_twins(kind: Kind, random: Random) -> Twins:
    besieged = Besieged(kind, random)
    twins = Twins(besieged)
    if random.random() < 0.8:
        await besieged.populate()
    ground = Ground(besieged.document.replica, [peer.client for peer in besieged.honest])
    for number in range(2):
        client = random.choice((random.randrange(100, 2**7), random.randrange(2**32 - 9))) + number
        attacker = Attacker(ground, random, f"mallory{number}", client)
        for _ in range(30):
            besieged.attack(attacker.actor, attacker.next(), client if random.random() < 0.9 else None)
        await besieged.edit()
    return twins


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=SEEDS)
async def test_g1_the_short_ways_come_to_what_the_long_ones_come_to(
    kind: Kind, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reversal, "revived", revived_in_order)
    twins = await besieged_twins(kind, Random(seed))
    assert twins.taken > 60
    await twins.check()


@LIKE_ALL
@given(seed=SEEDS)
def test_d3_one_clients_structs_are_resolved_as_those_of_many_are(seed: int) -> None:
    random = Random(seed)
    short, long = Index(ROOTS), LongIndex(ROOTS)
    for data in crowd_updates(random):
        update = read(data)
        if update is None:
            continue
        new, other = short.trim(update), long.trim(update)
        try:
            hole = short.hole(new)
        except MalformedUpdate:
            with pytest.raises(MalformedUpdate):
                long.hole(other)
            continue
        assert hole == long.hole(other)
        if hole is None:
            assert short.writes(new) == long.writes(other)
            assert short.joined(new) == long.joined(other)
            short.add(new)
            long.add(other)
    assert short.encode() == long.encode()

"""Updates that are known to hurt pycrdt 0.14, or to disturb others, when nobody judges them (rule G1).

Each maker takes an Aim and gives the bytes; what is wrong with them is in its name. Sizes vary around the limits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from tests.support import wire
from tests.support.wire import Id


@dataclass(frozen=True, slots=True)
class Aim:
    """What there is to attack: the sender's client and its next clock, roots with type refs, ids of others."""

    random: Random
    client: int
    clock: int
    roots: Sequence[str]
    victims: Sequence[int]
    known: Sequence[Id]

    def root(self) -> str:
        return self.random.choice(self.roots)

    def victim(self) -> int:
        return self.random.choice(self.victims)

    def item(self) -> Id:
        """An id that exists, or one that does not."""
        return self.random.choice(self.known) if self.known else (self.victim(), 0)

    def size(self) -> int:
        """A length that a limit may be at."""
        return self.random.choice((0, 1, 63, 64, 65, 100, 101, 1_000, 20_000, 30_000))

    def vast(self) -> int:
        return self.random.choice((2**16, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1, 2**32, 2**53 - 1, 2**53, 2**63))

    def update(self, *structs: bytes) -> bytes:
        """The sender's next structs."""
        return wire.update(wire.group(self.client, self.clock, *structs))


def deep_value(aim: Aim) -> bytes:
    nested = aim.random.choice((b"\x75\x01", b"\x76\x01\x01k")) * aim.size() + wire.NULL
    return aim.update(wire.plain(nested, parent=aim.root(), key=aim.random.choice((None, "k"))))


def deep_types(aim: Aim) -> bytes:
    structs = [wire.shared(1, parent=aim.root(), key="k")]
    for level in range(min(aim.size(), 2_000)):
        structs.append(wire.shared(1, parent=(aim.client, aim.clock + level), key="k"))
    return aim.update(*structs)


def text_in_array(aim: Aim) -> bytes:
    return aim.update(
        wire.shared(0, parent=aim.root(), key="k"),
        wire.text("abc", parent=(aim.client, aim.clock)),
        wire.text("d", origin=(aim.client, aim.clock + 2)),
    )


def beside(aim: Aim) -> bytes:
    """Text to the right of anything that there is."""
    return aim.update(wire.text("abc", origin=aim.item()), wire.plain(wire.ONE, right=aim.item()))


def many_clients(aim: Aim) -> bytes:
    count = aim.random.choice((10, 10, 10, 100, 2_001, 5_000))
    first = aim.random.randrange(2**31)
    groups = (wire.group(first + n, 0, wire.plain(wire.ONE, parent=aim.root(), key="k")) for n in range(count))
    return wire.update(*groups)


def deletes_of_the_future(aim: Aim) -> bytes:
    start = aim.random.choice((0, aim.vast()))
    return wire.update(deletes={aim.victim(): [(start, aim.vast())]})


def deletes_of_others(aim: Aim) -> bytes:
    return wire.update(deletes={client: [(at, aim.random.randint(1, 3))] for client, at in (aim.item(), aim.item())})


def garbage_of_a_victim(aim: Aim) -> bytes:
    length = aim.random.choice((1, 2, aim.vast()))
    struct = aim.random.choice((wire.gc(length), wire.skip(length), wire.deleted(length, parent=aim.root())))
    return wire.update(wire.group(aim.victim(), aim.random.choice((0, 5, aim.vast())), struct))


def own_garbage(aim: Aim) -> bytes:
    length = aim.random.choice((1, 1_000, aim.vast()))
    later = wire.plain(wire.ONE, parent=aim.root())
    return aim.update(
        aim.random.choice((wire.gc(length), wire.skip(length), wire.deleted(length, parent="list"))), later
    )


def vast_counts(aim: Aim) -> bytes:
    vast = wire.number(aim.vast())
    own = wire.number(aim.client)
    return aim.random.choice(
        (
            vast,
            b"\1" + vast + own + b"\0",
            b"\1\1" + own + b"\0" + b"\x08\1\4list" + vast,
            b"\1\1" + own + b"\0" + b"\x04\1\4text" + vast + b"a",
            b"\1\1" + own + vast + wire.plain(wire.ONE, parent="list") + b"\0",
            b"\0" + vast,
            b"\0\1" + own + vast + b"\0\1",
            b"\0\1" + own + b"\1" + vast + vast,
        )
    )


def wrong_type(aim: Aim) -> bytes:
    """XML, hooks, weak references and types that nobody knows, in maps and sequences."""
    ref = aim.random.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 127))
    body = wire.string("p") if ref in (3, 5) else b""
    parent = aim.random.choice((aim.root(), aim.item()))
    return aim.update(wire.shared(ref, body, parent=parent, key=aim.random.choice((None, "k"))))


def subdocument(aim: Aim) -> bytes:
    return aim.update(wire.item(9, wire.string("guid") + b"\x76\0", parent=aim.root(), key="k"))


def circle(aim: Aim) -> bytes:
    """Two clients whose structs wait for each other."""
    other = aim.client + 1
    return wire.update(
        wire.group(other, 0, wire.text("a", origin=(aim.client, aim.clock))),
        wire.group(aim.client, aim.clock, wire.text("b", origin=(other, 0))),
    )


def same_client_twice(aim: Aim) -> bytes:
    struct = wire.plain(wire.ONE, parent=aim.root(), key="k")
    return wire.update(wire.group(aim.client, aim.clock, struct), wire.group(aim.client, aim.clock, struct, struct))


def overlap(aim: Aim) -> bytes:
    """A struct that is known in part, of a content of another length or kind."""
    start = max(0, aim.clock - aim.random.randint(1, 3))
    struct = aim.random.choice(
        (wire.text("a😀bc", parent=aim.root()), wire.gc(5), wire.plain(*[wire.ONE] * 5, parent="list"))
    )
    return wire.update(wire.group(aim.client, start, struct))


def half_a_character(aim: Aim) -> bytes:
    return aim.update(
        wire.text("😀", parent=aim.root()),
        wire.text("x", origin=(aim.client, aim.clock), right=(aim.client, aim.clock + 1)),
    )


def neighbours_far_apart(aim: Aim) -> bytes:
    place = {"origin": aim.item(), "right": aim.item()}
    return aim.update(aim.random.choice((wire.plain(wire.ONE, **place), wire.text("a", **place))))


def long_names(aim: Aim) -> bytes:
    name = "x" * aim.random.choice((255, 256, 257, 1_025, 65_536))
    return aim.update(wire.plain(wire.ONE, parent=aim.random.choice((name, aim.root())), key=name))


def endless_number(aim: Aim) -> bytes:
    return b"\1\1" + b"\xff" * aim.random.randint(5, 40) + b"\1"


def bad_characters(aim: Aim) -> bytes:
    raw = aim.random.choice((b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"))
    return aim.update(wire.item(4, wire.number(len(raw)) + raw, parent=aim.root()))


def many_ranges(aim: Aim) -> bytes:
    """A large delete set of one's own, in order, out of order or overlapping."""
    step = aim.random.choice((1, 2, 0))
    ranges = [(n * step, 1) for n in range(aim.random.choice((10, 2_000)))]
    if aim.random.random() < 0.5:
        aim.random.shuffle(ranges)
    return wire.update(deletes={aim.random.choice((aim.client, aim.victim())): ranges})


MAKERS: Sequence[Callable[[Aim], bytes]] = (
    deep_value, deep_types, text_in_array, beside, many_clients, deletes_of_the_future, deletes_of_others,
    garbage_of_a_victim, own_garbage, vast_counts, wrong_type, subdocument, circle, same_client_twice, overlap,
    half_a_character, neighbours_far_apart, long_names, endless_number, bad_characters, many_ranges,
)  # fmt: skip
COSTLY = frozenset((many_clients, many_ranges, deep_value, deep_types, long_names))
"""Makers of updates that take milliseconds; they are drawn less often."""


def hostile(aim: Aim) -> bytes:
    """One of the known attacks."""
    maker = aim.random.choice(MAKERS)
    if maker in COSTLY and aim.random.random() < 0.8:
        maker = aim.random.choice(MAKERS)
    return maker(aim)

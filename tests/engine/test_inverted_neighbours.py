"""Items of a list whose right neighbour lies left of their left one. No editor writes them, and the gate lets them in.

It is told here what that costs, with pycrdt and with Yjs, because SECURITY.md says so: whoever may write into a text
can bring replicas of it apart. The index keeps where items lie, and not in which order, which a denial would take.
"""

from __future__ import annotations

import base64
from itertools import permutations
from typing import Any

from pycrdt import Doc, Text
from tests.support import node, wire

BASE = wire.update(wire.group(5, 0, wire.text("abc", parent="text")))
INVERTED = wire.update(wire.group(2, 0, wire.text("x", origin=(5, 2), right=(5, 1))))
HONEST = [
    wire.update(wire.group(7, 0, wire.text("w", origin=(5, 1), right=(5, 2)))),
    wire.update(wire.group(9, 0, wire.text("z", right=(5, 0)))),
]


def in_pycrdt(updates: list[bytes]) -> str:
    doc: Doc[Any] = Doc()
    text = doc.get("text", type=Text)
    for update in updates:
        doc.apply_update(update)
    return str(text)


def in_yjs(orders: list[list[bytes]]) -> list[str]:
    lines = [[base64.b64encode(update).decode() for update in order] for order in orders]
    return [reply["content"][0] for reply in node.run("integrate.mjs", lines)]


def orders_of(updates: list[bytes]) -> list[list[bytes]]:
    return [[BASE, *order] for order in permutations(updates)]


def test_g1_what_editors_write_at_once_is_the_same_in_any_order() -> None:
    orders = orders_of(HONEST)
    assert {in_pycrdt(order) for order in orders} == set(in_yjs(orders)) == {"zabwc"}


def test_g1_inverted_neighbours_bring_replicas_apart_and_break_none() -> None:
    orders = orders_of([INVERTED, *HONEST])
    shown = [in_pycrdt(order) for order in orders]
    assert shown == in_yjs(orders), "pycrdt and Yjs agree on what each order gives"
    assert len(set(shown)) > 1
    assert {"".join(sorted(text)) for text in shown} == {"abcwxz"}, "nothing is lost"

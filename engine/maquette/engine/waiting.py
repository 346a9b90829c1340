"""Ops that wait for what they lack (rule D3), by what they wait for.

Rule 1: at most MAX_WAITING ops and MAX_WAITING_BYTES wait; past that, who lets most wait loses the oldest one.
Rule 2: what happens beside them costs them nothing: only ops that wait for a client are looked at when it goes on.
Rule 3: an op keeps what was read of it and is still new, so that an op that comes in through many holes is read once;
        at most MAX_STRUCTS of all ops, because a struct in memory takes a hundred times its bytes.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maquette.engine.events import Actor
from maquette.engine.index import Hole, Index
from maquette.engine.roles import Roles
from maquette.engine.update import Update

if TYPE_CHECKING:
    from maquette.engine.receipts import Receipt
    from maquette.engine.replica import Late

MAX_WAITING = 256  # ops with holes, of all connections: a reconnect of two tabs brings two or three
MAX_WAITING_BYTES = 4 << 20
MAX_STRUCTS = 50_000  # some 12 MB


@dataclass(slots=True, eq=False)
class Submission:
    """An op on its way in. `read` is what of `data` is still new, as far as a call before has read it; `is_tried` when
    it is a piece of a large one, which was read elsewhere first."""

    actor: Actor
    roles: Callable[[], Roles]
    data: bytes
    own: int | None
    receipt: Receipt
    read: Update | None = None
    late: Late | None = None
    is_tried: bool = False
    is_counted: bool = False
    """Whether another piece of the same update was refused, and counted as such."""


class Waiting:
    """The ops of one document whose receipts tell of a hole."""

    def __init__(self) -> None:
        self._ops: dict[Submission, int] = {}  # in the order in which they came, with the structs that they keep
        self._by_client: dict[int, list[Submission]] = {}  # by the clock that they wait for
        self._bytes = self._structs = 0

    def __len__(self) -> int:
        return len(self._ops)

    def add(self, op: Submission) -> list[Submission]:
        """Let `op` wait. Answers those that are dropped for it (rule 1)."""
        count = 0 if op.read is None else sum(map(len, op.read.structs.values()))
        if self._structs + count > MAX_STRUCTS:
            op.read, count = None, 0
        self._ops[op] = count
        self._bytes += len(op.data)
        self._structs += count
        insort(self._by_client.setdefault(_hole(op).client, []), op, key=lambda one: _hole(one).clock)
        dropped = []
        while len(self._ops) > MAX_WAITING or self._bytes > MAX_WAITING_BYTES:
            dropped.append(self._greediest())
            self._remove(dropped[-1])
        return dropped

    def next_ready(self, index: Index) -> Submission | None:
        """Take out an op whose hole is filled; `index.grown` tells where to look."""
        if not self._ops:
            index.grown.clear()
        while index.grown:
            client = index.grown.pop()
            ops = self._by_client.get(client)
            if ops and _hole(first := ops[0]).clock < index.clock(client):
                index.grown.add(client)  # others may wait for it too
                self._remove(first)
                return first
        return None

    def clear(self) -> list[Submission]:
        """Take out all of them."""
        ops = list(self._ops)
        for op in ops:
            self._remove(op)
        return ops

    def _remove(self, op: Submission) -> None:
        self._structs -= self._ops.pop(op)
        self._bytes -= len(op.data)
        client = _hole(op).client
        self._by_client[client].remove(op)
        if not self._by_client[client]:
            del self._by_client[client]

    def _greediest(self) -> Submission:
        """The oldest op of whoever lets most wait, so that nobody can push out what others wait for."""
        share = Counter[str]()
        for op in self._ops:
            share[op.actor.id] += len(op.data) + MAX_WAITING_BYTES // MAX_WAITING
        greediest = max(share, key=lambda actor: share[actor])
        return next(op for op in self._ops if op.actor.id == greediest)


def _hole(op: Submission) -> Hole:
    hole = op.receipt.hole
    assert hole is not None
    return hole

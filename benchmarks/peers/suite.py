"""The sections of the comparison, in their order, and the short form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from benchmarks.peers import costs, edits, joining, lasting, people
from benchmarks.peers.bench import Bench, Row

Section = Callable[[Bench], Iterable[Row]]

SECTIONS: Mapping[str, Section] = {
    "hot": edits.hot,
    "hot-limit": edits.hot_limit,
    "many": edits.many,
    "many-limit": edits.many_limit,
    "audience": edits.audience,
    "presence": people.presence,
    "drag": people.drag,
    "chat": people.chat,
    "crowd": people.crowd,
    "join": joining.join,
    "idle": joining.idle,
    "history": lasting.history,
    "durability": lasting.durability,
    "cost": costs.cost,
}

TWICE = frozenset({"hot-limit", "many-limit", "join", "drag", "durability", "history", "cost"})
"""What takes long is repeated twice at most: all of it stays below three quarters of an hour."""

QUICK = ("hot", "many", "audience", "chat", "durability")

"""Locks on the nodes of a scene: who locked what, and what the gate asks about the tree because of them.

Rule 1: a node is locked while its register `locked` is true; its lock is of whoever wrote it last, as the log tells.
Rule 2: a lock holds its node where it is and as it is. What hangs above must not take it into the trash or away
        (`holds_lock`), but may move with it; what hangs below is free.
Rule 3: who may write the lock of a node is not held back by it within the op that does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from maquette.engine.scene.tree import Tree


class Locks:
    """The locked nodes of one scene, each with the actor whose lock it is."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._lockers: dict[str, str] = {}
        self._above: frozenset[str] | None = None
        self.get: Callable[[str], str | None] = self._lockers.get
        """Who locked a node; the lookup itself, because every change of a node asks."""

    def __bool__(self) -> bool:
        return bool(self._lockers)

    def set(self, node: str, actor: str | None) -> None:
        """`actor` locked `node`; None: it is not locked."""
        if actor is not None:
            self._lockers[node] = actor
        else:
            self._lockers.pop(node, None)
        self.move()

    def move(self) -> None:
        """The tree is another now."""
        self._above = None

    def above(self, opened: Collection[str] = ()) -> frozenset[str]:
        """All nodes that a locked one hangs below; `opened` do not count as locked."""
        if opened:
            return self._walk(self._lockers.keys() - opened)
        if self._above is None:
            self._above = self._walk(self._lockers)
        return self._above

    def _walk(self, locked: Collection[str]) -> frozenset[str]:
        """Each node is met once, however many locked ones are below it."""
        found: set[str] = set()
        for node in locked:
            above = self._tree.parent(node) if node in self._tree else None
            while above is not None and above not in found:
                found.add(above)
                above = self._tree.parent(above)
        return frozenset(found)

    def to_plain(self) -> dict[str, str]:
        """As msgpack values, for a snapshot."""
        return dict(self._lockers)


class SceneState:
    """What the gate may ask of a scene (`gate.State`). `opened`: see rule 3, while one op is judged.

    `new_parent` gives the parent of a node that the op under judgement makes.
    """

    __slots__ = ("_locks", "_tree", "new_parent", "opened")

    def __init__(self, tree: Tree, locks: Locks) -> None:
        self.opened: frozenset[str] = frozenset()
        self.new_parent: Callable[[str], str | None] = lambda node: None
        self._tree = tree
        self._locks = locks

    def ancestors(self, node: str) -> Sequence[str]:
        new: dict[str, None] = {}  # an ordered set: what an op brings may be a cycle
        above: str | None = node
        while above is not None and above not in self._tree:
            above = self.new_parent(above)
            if above is None or above in new:
                return list(new)
            new[above] = None
        return list(new) if above is None else [*new, *self._tree.ancestors(above)]

    def locker(self, node: str) -> str | None:
        locker = self._locks.get(node)
        return None if locker is None or node in self.opened else locker

    def holds_lock(self, node: str) -> bool:
        return bool(self._locks) and node in self._locks.above(self.opened)

    def is_hidden(self, node: str) -> bool:
        return node in self._tree and self._tree.is_hidden(node)

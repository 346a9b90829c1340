"""The effective tree of a scene: what the `place` registers of its nodes mean together.

Each node's place names the parent that somebody wrote for it. Concurrent writes can name parents that are gone and can
close cycles, so what is shown is derived:

Rule 1: a node hangs from the parent that its place names, when that parent has a place itself.
Rule 2: while it has none, the node hangs from the root, and goes to its parent when that appears. Nothing is repaired:
        the parent may be on its way, and a node beside it is better than a node lost.
Rule 3: of the nodes on a cycle, the one with the smallest id is detached: it hangs from the root; the others stay.
        Its owner repairs that by an op which writes what is shown already (`repairs`), so that a repair moves nothing.
Rule 4: children are in the order of (order, id), compared by bytes.
Rule 5: trash marks a node and moves nothing. A node is hidden when it or one of its effective ancestors is trashed.

So the tree is a function of the set of places and the set of trashed nodes, whatever the order in which they came
(rules 1 to 5 name no time and no writer), it is total, and nothing here writes. It is kept incrementally: an update
costs the depth of the node and of its new parent, and the number of children only where a node comes or goes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass

from maquette.engine.errors import NotFound


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node hangs: the id of its parent, None for the root, and its order among its siblings."""

    parent: str | None
    order: str


class Tree:
    """The effective tree over the places fed into it. The caller has checked ids and orders (see `schema`).

    Questions about a node without a place raise NotFound.
    """

    def __init__(self) -> None:
        self._written: dict[str, Place] = {}
        self._effective: dict[str, Place] = {}
        self._children: dict[str | None, list[tuple[str, str]]] = {}  # effective parent → sorted (order, id)
        self._waiting: dict[str, set[str]] = {}  # a parent without a place → the nodes whose place names it
        self._detached: set[str] = set()  # one node of each cycle (rule 3)
        self._trashed: set[str] = set()
        self._touched: dict[str, Place | None] = {}  # within one update: node → its effective place before

    def __len__(self) -> int:
        return len(self._written)

    def __contains__(self, node: object) -> bool:
        return node in self._written

    # --- feed --------------------------------------------------------------------------------------------------

    def place(self, node: str, parent: str | None, order: str) -> list[str]:
        """Give `node` a place, its first or another; any parent will do, an unknown one and `node` itself too.

        Returns the nodes whose effective place is another now, `node` or not, sorted.
        """
        known = node in self._written
        if known:
            self._release(node)
        self._written[node] = Place(parent, order)
        self._settle(node)
        for child in () if known else sorted(self._waiting.pop(node, ())):
            self._settle(child)
        return self._changed()

    def remove(self, node: str) -> list[str]:
        """Forget the place of `node`, and that it was trashed; its children hang from the root (rule 2).

        Returns the nodes whose effective place is another now, without `node` itself, sorted.
        """
        self._trashed.discard(node)
        if node not in self._written:
            return []
        self._release(node)
        del self._written[node]
        for _, child in tuple(self._children.get(node, ())):
            self._settle(child)
        del self._touched[node]
        return self._changed()

    def trash(self, node: str) -> None:
        """Mark `node` as trashed. It may have no place yet."""
        self._trashed.add(node)

    def restore(self, node: str) -> None:
        """Take the mark from `node`, when it has it."""
        self._trashed.discard(node)

    # --- ask ---------------------------------------------------------------------------------------------------

    def nodes(self) -> list[str]:
        """All nodes that have a place, in the order of their ids."""
        return sorted(self._written)

    def parent(self, node: str) -> str | None:
        """The effective parent; None for the root."""
        return self.effective(node).parent

    def effective(self, node: str) -> Place:
        """Where `node` hangs (rules 1 to 3)."""
        return self._known(node, self._effective)

    def written(self, node: str) -> Place:
        """What the node's place says, whether that can be shown or not."""
        return self._known(node, self._written)

    def children(self, node: str | None) -> list[str]:
        """The effective children of `node`, None for the root, in order (rule 4); trashed ones too."""
        if node is not None:
            self.effective(node)
        return [child for _, child in self._children.get(node, ())]

    def ancestors(self, node: str) -> list[str]:
        """The effective ancestors of `node`, its parent first."""
        found: list[str] = []
        above = self.parent(node)
        while above is not None:
            found.append(above)
            above = self._effective[above].parent
        return found

    def is_trashed(self, node: str) -> bool:
        """Whether `node` itself is trashed."""
        return node in self._trashed

    def is_hidden(self, node: str) -> bool:
        """Whether `node` or one of its effective ancestors is trashed (rule 5)."""
        return self.is_trashed(node) or any(above in self._trashed for above in self.ancestors(node))

    def would_cycle(self, node: str, parent: str | None) -> bool:
        """Whether `parent` is `node` or hangs below it, also through a parent that is still missing.

        Judged by what is shown: a cycle that others have closed is not held against who moves a node in it.
        """
        above = parent
        while above is not None and above != node:
            written = self._written.get(above)
            above = None if written is None or above in self._detached else written.parent
        return above is not None

    @property
    def has_cycles(self) -> bool:
        """Whether there is anything in `repairs`."""
        return bool(self._detached)

    def repairs(self) -> list[tuple[str, Place]]:
        """The places that the owner should write, by node: one for each cycle, none where there is no cycle."""
        return [(node, self._effective[node]) for node in sorted(self._detached)]

    def walk(self, below: str | None = None) -> Iterator[str]:
        """The nodes below `below`, None for the root, each before its children and in the order of the siblings."""
        waiting = self.children(below)[::-1]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(self.children(node)[::-1])

    def flat(self) -> tuple[list[str], list[int]]:
        """All nodes as `walk` gives them, and for each the index of its parent in that list, -1 for the root."""
        nodes = list(self.walk())
        index = {node: at for at, node in enumerate(nodes)}
        return nodes, [-1 if (above := self._effective[node].parent) is None else index[above] for node in nodes]

    # --- keep --------------------------------------------------------------------------------------------------

    def _settle(self, node: str) -> None:
        """Hang `node` by its written place. Only this closes cycles: before it, `node` leads nowhere."""
        written = self._written[node]
        if written.parent is not None and written.parent not in self._written:
            self._waiting.setdefault(written.parent, set()).add(node)
            self._hang(node, Place(None, written.order))
            return
        self._hang(node, None)
        cycle = self._path(written.parent, node)
        self._hang(node, written)
        if cycle:
            self._detach(min(cycle))

    def _release(self, node: str) -> None:
        """Take `node` out of where it hangs; a cycle through it is open then, and what was detached goes back."""
        written = self._written[node]
        if written.parent is not None and written.parent not in self._written:
            self._stop_waiting(node, written.parent)
        detached = self._detached_above(node)
        self._hang(node, None)
        if detached is not None:
            self._detached.discard(detached)
            if detached != node:
                self._hang(detached, self._written[detached])

    def _detached_above(self, node: str) -> str | None:
        """The detached node of the cycle on which `node` lies; None when it lies on none."""
        top = (node, *self.ancestors(node))[-1]
        if top not in self._detached or not self._path(self._written[top].parent, node):
            return None
        return top

    def _path(self, start: str | None, goal: str) -> list[str]:
        """The nodes from `start` up to `goal`, both included; none when `goal` is not there."""
        path: list[str] = []
        while start is not None:
            path.append(start)
            if start == goal:
                return path
            hanging = self._effective.get(start)
            start = None if hanging is None else hanging.parent
        return []

    def _detach(self, node: str) -> None:
        self._detached.add(node)
        self._hang(node, Place(None, self._written[node].order))

    def _stop_waiting(self, node: str, parent: str) -> None:
        waiting = self._waiting[parent]
        waiting.discard(node)
        if not waiting:
            del self._waiting[parent]

    def _hang(self, node: str, place: Place | None) -> None:
        """Make `place` the effective place of `node`; None takes the node out."""
        before = self._effective.pop(node, None)
        self._touched.setdefault(node, before)
        if before is not None:
            self._leave(before.parent, (before.order, node))
        if place is not None:
            self._effective[node] = place
            insort(self._children.setdefault(place.parent, []), (place.order, node))

    def _leave(self, parent: str | None, key: tuple[str, str]) -> None:
        siblings = self._children[parent]
        del siblings[bisect_left(siblings, key)]
        if not siblings:
            del self._children[parent]

    def _changed(self) -> list[str]:
        changed = [node for node, before in self._touched.items() if self._effective[node] != before]
        self._touched.clear()
        return sorted(changed)

    def _known(self, node: str, places: dict[str, Place]) -> Place:
        if node not in places:
            raise NotFound("node", node)
        return places[node]

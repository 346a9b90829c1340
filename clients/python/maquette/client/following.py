"""The effective tree of a replica, kept while the replica changes."""

from __future__ import annotations

from typing import Any

import pycrdt

from maquette.engine.kinds.scene import NODES
from maquette.engine.scene.order import is_order
from maquette.engine.scene.tree import Tree
from maquette.engine.watching import watch_deep


class TreeFollower:
    """Keeps `tree` equal to the places of the nodes in `doc`. What is no place (another client's bug) hangs nowhere."""

    def __init__(self, doc: pycrdt.Doc[Any]) -> None:
        self.tree = Tree()
        self._nodes: pycrdt.Map[Any] = doc.get(NODES, type=pycrdt.Map)
        for node in self._nodes.keys():  # noqa: SIM118  (not a dict)
            self._follow(node)
        watch_deep(self, self._nodes, TreeFollower._on_events)

    def _on_events(self, events: list[Any]) -> None:
        for event in events:
            path = event.path
            if not path:
                for node in event.keys:
                    self._follow(node)
            elif len(path) == 1 and event.keys.keys() & {"place", "trashed"}:
                self._follow(str(path[0]))

    def _follow(self, node: str) -> None:
        record = self._nodes.get(node)
        place = record.get("place") if isinstance(record, pycrdt.Map) else None
        if not (isinstance(place, list) and len(place) == 2 and is_order(place[1])):
            self.tree.remove(node)
            return
        self.tree.place(node, place[0] if isinstance(place[0], str) else None, place[1])
        if record is not None and record.get("trashed") is not None:
            self.tree.trash(node)
        else:
            self.tree.restore(node)

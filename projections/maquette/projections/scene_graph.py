"""The scene of each space: nodes with their values and effective parent, materials, comments, settings.

Rule 1: a scene is `tenant/space`; only the newest epoch of its document is shown. What comes late for an older one is
        passed over: its owner carries it over into the newer one.
Rule 2: the effective parents are those of `maquette.engine.scene.tree`, a function of the places alone. A tree is kept
        in memory for the scenes in use and made again from the table when it is cold.
Rule 3: a batch is folded in memory and written at its end: a node that changes often in it is written once.
Rule 4: a rewritten epoch comes in parts. They are folded beside the scene, under a key of their own, and take its place
        with the last one: nobody is shown a part of a scene.
Rule 5: a change of what is not there is an error, for it would be lost; removing what is not there is not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, select

from maquette.engine.events import Event
from maquette.engine.scene.tree import Tree
from maquette.projections.changes import DOCUMENT_EVENTS, Change, changes_of
from maquette.projections.errors import UnreadableEvent
from maquette.projections.places import place_of
from maquette.projections.scene_draft import SceneDraft
from maquette.projections.scene_tables import metadata, nodes, scenes

OPEN_TREES = 32  # scenes whose tree stays in memory: some 5 MB each at 10,000 nodes

FIELDS = {
    "node.added": ("id", "node"),
    "node.changed": ("id", "set", "unset"),
    "node.moved": ("id", "place"),
    "node.trashed": ("id", "by", "at"),
    "node.restored": ("id",),
    "node.removed": ("id",),
    "material.added": ("id", "material"),
    "material.changed": ("id", "set", "unset"),
    "material.removed": ("id",),
    "comment.added": ("id", "comment"),
    "comment.changed": ("id", "set", "unset"),
    "comment.removed": ("id",),
    "setting.changed": ("set", "unset"),
}

Key = tuple[str, str]


class SceneGraph:
    """The projection `scene_graph`; read it with `scene_reads.SceneReads`."""

    name = "scene_graph"
    version = 1
    metadata = metadata

    def __init__(self) -> None:
        self._trees: OrderedDict[Key, tuple[int, Tree]] = OrderedDict()

    def wants(self, event: Event) -> bool:
        """Edits of scene documents, and the opening of their epochs."""
        place = place_of(event.stream)
        if place is None:
            return False
        if event.type in DOCUMENT_EVENTS:
            return place.document == "scene"
        opened = event.type == "document.opened" and bool(place.space) and not place.document
        return opened and event.data.get("document") == "scene"

    def apply(self, connection: Connection, events: Sequence[Event]) -> None:
        """Fold `events`. Raises UnreadableEvent and SQLAlchemy's errors."""
        drafts: dict[Key, SceneDraft] = {}
        for event in events:
            place = place_of(event.stream)
            assert place is not None, "expected only events that are wanted"
            epoch = _opened(event) if event.type == "document.opened" else place.epoch
            part, parts = _part_of(event)
            key = (place.tenant, place.space)
            aside = (place.tenant, f"{place.space}@{epoch}")  # ids of spaces have no "@"
            draft = self._draft(connection, drafts, aside if parts > 1 else key, epoch)
            if event.type in DOCUMENT_EVENTS:
                changes = changes_of(event, FIELDS)
                if epoch == draft.epoch:
                    _fold(draft, changes)
            if part == parts > 1:
                self._promote(connection, drafts, aside, key)
        for draft in drafts.values():
            draft.write()
        self._trim()

    def _promote(self, connection: Connection, drafts: dict[Key, SceneDraft], aside: Key, key: Key) -> None:
        """Let the scene that was folded under `aside` be the one under `key`."""
        draft = drafts.pop(aside)
        draft.write()
        drafts.pop(key, None)
        draft.take_place_of(key)
        drafts[key] = SceneDraft(connection, key, *self._trees.pop(aside))
        self._trees[key] = (draft.epoch, draft.nodes.tree)

    def forget(self) -> None:
        """Drop the trees."""
        self._trees.clear()

    def _draft(self, connection: Connection, drafts: dict[Key, SceneDraft], key: Key, epoch: int) -> SceneDraft:
        """What this batch makes of a scene, at `epoch` or the newer one that it has."""
        draft = drafts.get(key)
        if draft is None:
            known, tree = self._tree(connection, key)
            draft = drafts[key] = SceneDraft(connection, key, known, tree)
        if epoch > draft.epoch:
            tree = Tree()
            draft = drafts[key] = SceneDraft.fresh(connection, key, epoch, tree)
            self._trees[key] = (epoch, tree)
        return draft

    def _tree(self, connection: Connection, key: Key) -> tuple[int, Tree]:
        if key not in self._trees:
            self._trees[key] = _load(connection, key)
        self._trees.move_to_end(key)
        return self._trees[key]

    def _trim(self) -> None:
        while len(self._trees) > OPEN_TREES:
            self._trees.popitem(last=False)


def _load(connection: Connection, key: Key) -> tuple[int, Tree]:
    """The epoch of a scene, 0 before its first, and its tree, from the tables."""
    tenant, space = key
    epoch = connection.execute(
        select(scenes.c.epoch).where(scenes.c.tenant == tenant, scenes.c.space == space)
    ).scalar_one_or_none()
    tree = Tree()
    places = select(nodes.c.id, nodes.c.parent, nodes.c.sibling_order)
    for row in connection.execute(places.where(nodes.c.tenant == tenant, nodes.c.space == space)):
        tree.place(row.id, row.parent, row.sibling_order)
    return epoch or 0, tree


def _opened(event: Event) -> int:
    epoch = event.data.get("epoch")
    if not isinstance(epoch, int) or epoch < 1:
        raise UnreadableEvent(f"document.opened: expected an epoch of 1 or more, got {epoch!r:.80}")
    return epoch


def _part_of(event: Event) -> tuple[int, int]:
    """Which part of a rewritten epoch the event is, of how many; (0, 0) for all others."""
    begins = event.data.get("begins")
    if begins is None:
        return 0, 0
    match begins:
        case {"part": [int(part), int(parts)]} if 1 <= part <= parts:
            return part, parts
    raise UnreadableEvent(f"begins: expected part [n, of how many], got {begins!r:.80}")


def _fold(draft: SceneDraft, changes: Sequence[Change]) -> None:
    for change in changes:
        HANDLERS[change["type"]](draft, change)


def _moved(draft: SceneDraft, change: Change) -> None:
    draft.nodes.change(change["id"], {"place": change["place"]}, ())


def _trashed(draft: SceneDraft, change: Change) -> None:
    draft.nodes.change(change["id"], {"trashed": {"by": change["by"], "at": change["at"]}}, ())


def _restored(draft: SceneDraft, change: Change) -> None:
    draft.nodes.change(change["id"], {}, ("trashed",))


HANDLERS: dict[str, Callable[[SceneDraft, Any], None]] = {
    "node.added": lambda draft, change: draft.nodes.add(change["id"], change["node"]),
    "node.changed": lambda draft, change: draft.nodes.change(change["id"], change["set"], change["unset"]),
    "node.moved": _moved,
    "node.trashed": _trashed,
    "node.restored": _restored,
    "node.removed": lambda draft, change: draft.nodes.remove(change["id"]),
    "material.added": lambda draft, change: draft.materials.add(change["id"], change["material"]),
    "material.changed": lambda draft, change: draft.materials.change(change["id"], change["set"], change["unset"]),
    "material.removed": lambda draft, change: draft.materials.remove(change["id"]),
    "comment.added": lambda draft, change: draft.comments.add(change["id"], change["comment"]),
    "comment.changed": lambda draft, change: draft.comments.change(change["id"], change["set"], change["unset"]),
    "comment.removed": lambda draft, change: draft.comments.remove(change["id"]),
    "setting.changed": lambda draft, change: draft.set(change["set"], change["unset"]),
}

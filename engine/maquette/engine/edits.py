"""What an update means to do to a document, resolved by the reader before anything is applied.

The reader gives writes and erasures, item by item; an `Edit` is the same at the level where policies think: this key of
that map is set, this element is inserted or removed.

Rule 1: an item that can never be seen (deleted content, garbage, under a parent that is gone) makes no edit.
Rule 2: writes of one update to one key are one edit, the newest value; an overwritten value's deletion is part of it.
Rule 3: deleting a type deletes what is in it: only the outermost deletion is an edit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from maquette.engine.index import Erased, Write
from maquette.engine.update import Content, Id

Parent = str | Id
"""A shared type: a root by its name, any other by the id of the item that created it."""


class Action(Enum):
    SET = "set"  # a key of a map gets a value or a new type
    UNSET = "unset"  # a key of a map is deleted
    INSERT = "insert"  # a sequence gets values, text or a new type
    REMOVE = "remove"  # a sequence loses an element


@dataclass(slots=True)
class Edit:
    """One change that an update asks for. `structs` are the ids that carry it, `erased` the items that it deletes."""

    action: Action
    parent: Parent
    key: str | None
    value: Any = None
    type_ref: int | None = None
    structs: list[Id] = field(default_factory=list)
    erased: list[Id] = field(default_factory=list)

    @property
    def id(self) -> Id:
        """The newest struct, or the first item deleted: the id of the type that the edit makes or ends."""
        return self.structs[-1] if self.structs else self.erased[0]


def edits(writes: Sequence[Write], erasures: Iterable[Erased]) -> list[Edit]:
    """The edits of an update, in the order of its structs, then its deletions."""
    found: list[Edit] = []
    by_key: dict[tuple[Parent, str], Edit] = {}
    for write in writes:
        if write.parent is None or write.content in (Content.GC, Content.SKIP):
            continue
        if write.key is not None:
            _write_key(write, write.parent, write.key, by_key, found)
        elif write.content is not Content.DELETED:
            found.append(_insertion(write, write.parent))
    erased = [item for item in erasures if not item.fresh]
    gone = {(item.client, item.clock) for item in erased if item.content is Content.TYPE}
    for item in erased:
        if item.parent is None or item.parent in gone:
            continue
        _erase(item, item.parent, by_key, found)
    return found


def _write_key(
    write: Write, parent: Parent, key: str, by_key: dict[tuple[Parent, str], Edit], found: list[Edit]
) -> None:
    edit = by_key.get((parent, key))
    if edit is None:
        edit = by_key[parent, key] = Edit(Action.UNSET, parent, key)
        found.append(edit)
    edit.structs.append(write.id)
    if write.content is Content.DELETED:
        edit.action, edit.value, edit.type_ref = Action.UNSET, None, None
    elif write.content is Content.TYPE:
        edit.action, edit.value, edit.type_ref = Action.SET, None, write.struct.value()
    else:
        edit.action, edit.value, edit.type_ref = Action.SET, _single(write), None


def _single(write: Write) -> Any:
    """The value of a map entry: of several in one item, Yjs shows the last."""
    value = write.struct.value()
    return value[-1] if isinstance(value, list) and write.content in (Content.ANY, Content.JSON) else value


def _insertion(write: Write, parent: Parent) -> Edit:
    if write.content is Content.TYPE:
        return Edit(Action.INSERT, parent, None, None, write.struct.value(), [write.id])
    return Edit(Action.INSERT, parent, None, write.struct.value(), None, [write.id])


def _erase(item: Erased, parent: Parent, by_key: dict[tuple[Parent, str], Edit], found: list[Edit]) -> None:
    ids = [(item.client, item.clock + offset) for offset in range(item.length)]
    if item.key is None:
        found.append(Edit(Action.REMOVE, parent, None, erased=ids))
        return
    edit = by_key.get((parent, item.key))
    if edit is None:
        edit = by_key[parent, item.key] = Edit(Action.UNSET, parent, item.key)
        found.append(edit)
    edit.erased.extend(ids)

"""What an update means to do to a document, resolved by the reader before anything is applied.

The reader gives writes and erasures, item by item; an `Edit` is the same at the level where policies think: this key of
that map is set, this element is inserted or removed.

Rule 1: an item that can never be seen (deleted content, garbage, under a parent that is gone or goes with the update,
        deleted by the update that brings it) makes no edit. Those of them that have content are in `hidden`.
Rule 2: every value that a key could show is an edit of its own: which of several wins is decided by ids that a peer
        may choose, so that each has to be judged. The deletion of what they overwrite is part of the last.
        Where the op alone tells what lies last at a key, an end there is an edit too, and one before it is none.
Rule 3: deleting a type deletes what is in it: only the outermost deletion is an edit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from maquette.engine.contents import ANY, DELETED, GC, JSON, SKIP, STRING, TYPE
from maquette.engine.deletes import Deletes
from maquette.engine.index import Erased, Write
from maquette.engine.update import Content, Id

Parent = str | Id
"""A shared type: a root by its name, any other by the id of the item that created it."""

EMPTY = frozenset((GC, DELETED, SKIP))
"""Structs without content."""


class Action(Enum):
    SET = "set"  # a key of a map gets a value or a new type
    UNSET = "unset"  # a key of a map is deleted
    INSERT = "insert"  # a sequence gets values, text or a new type
    REMOVE = "remove"  # a sequence loses an element


SET, UNSET, INSERT, REMOVE = Action
"""By name: see `contents`."""


@dataclass(slots=True)
class Edit:
    """One change that an update asks for. `structs` are the ids that carry it, `erased` the items that it deletes.

    Of a run of text or values, `erased` has the first id only: types alone are looked up by their ids.
    """

    action: Action
    parent: Parent
    key: str | None
    value: Any = None
    type_ref: int | None = None
    structs: list[Id] = field(default_factory=list)
    erased: list[Id] = field(default_factory=list)
    hidden: bool = False
    """Whether the same op writes something at the same key that lies behind it, wherever it stands in the op."""

    @property
    def id(self) -> Id:
        """The newest struct, or the first item deleted: the id of the type that the edit makes or ends."""
        return self.structs[-1] if self.structs else self.erased[0]


@dataclass(slots=True)
class Edits:
    """The edits of an update in the order of its structs, then its deletions; and the structs that nobody will see."""

    found: list[Edit] = field(default_factory=list)
    hidden: set[Id] = field(default_factory=set)
    repeats: bool = False
    """Whether a key was written more than once."""
    _keys: dict[tuple[Parent, str], Edit] = field(default_factory=dict)

    def write(self, write: Write, parent: Parent) -> None:
        """Take in one struct that lies in `parent`; at a key even a deleted one counts: it ends what was there."""
        id_, _, _, key, content, struct = write
        if id_ in self.hidden:
            content = DELETED
        if key is not None:
            self._write_key(write, (parent, key), content)
        elif content is TYPE:
            self.found.append(Edit(INSERT, parent, None, None, struct.value(), [id_]))
        elif content is not DELETED:
            self.found.append(Edit(INSERT, parent, None, struct.value(), None, [id_]))

    def _write_key(self, write: Write, place: tuple[Parent, str], content: Content) -> None:
        edit = self._keys.get(place)
        if edit is not None:
            self.repeats = True
        if edit is None or edit.action is SET:
            edit = self._keys[place] = Edit(UNSET, *place, None, None, [write.id])
            self.found.append(edit)
        else:
            edit.structs.append(write.id)
        if content is TYPE:
            edit.action, edit.type_ref = SET, write.struct.value()
        elif content is not DELETED:
            edit.action, edit.value = SET, _single(write)

    def order(self, writes: Sequence[Write]) -> None:
        """See to keys that are written more than once: what lies last there shows, and an end that lies last counts."""
        groups: dict[tuple[Parent, str], list[Write]] = {}
        for write in writes:
            if write.key is not None and write.parent is not None and (write.parent, write.key) in self._keys:
                groups.setdefault((write.parent, write.key), []).append(write)
        lasts = {
            place: last for place, group in groups.items() if len(group) > 1 and (last := _last(group)) is not None
        }
        if lasts:
            self._order_keys(lasts)

    def _order_keys(self, lasts: Mapping[tuple[Parent, str], Write]) -> None:
        kept: list[Edit] = []
        ended = {place: write.id for place, write in lasts.items() if self._is_blank(write)}
        for edit in self.found:
            last = None if edit.key is None else lasts.get((edit.parent, edit.key))
            if last is not None and edit.key is not None:
                place = (edit.parent, edit.key)
                if edit.action is SET and ended.get(place) in edit.structs:
                    edit.structs.remove(last.id)
                edit.hidden = last.id not in edit.structs
                if edit.action is UNSET and edit.hidden:
                    continue  # what it ended shows no more, whatever it does
                if not edit.hidden:
                    self._keys[place] = edit
                    ended.pop(place, None)
            kept.append(edit)
        self.found = kept
        for place, id_ in ended.items():
            self._at_key(*place).structs.append(id_)

    def _is_blank(self, write: Write) -> bool:
        return write.content is DELETED or write.id in self.hidden

    def erase(self, item: Erased, parent: Parent) -> None:
        """Take in one deletion in `parent`."""
        ids = _ids(item) if item.content is TYPE else [(item.client, item.clock)]
        if item.key is None:
            self.found.append(Edit(REMOVE, parent, None, erased=ids))
            return
        edit = self._keys.get((parent, item.key)) or self._at_key(parent, item.key)
        edit.erased.extend(ids)

    def _at_key(self, parent: Parent, key: str) -> Edit:
        edit = self._keys[parent, key] = Edit(UNSET, parent, key)
        self.found.append(edit)
        return edit


def read_edits(writes: Sequence[Write], erased: Sequence[Erased], is_gone: Callable[[Id], bool]) -> Edits:
    """What the writes and deletions of one update ask for. `is_gone` tells whether a known type is deleted."""
    brief: set[tuple[int, int, int]] = set()
    gone: dict[Parent, bool] = {}
    for item in erased:
        if item.fresh:
            brief.add((item.client, item.clock, item.length))
        if item.content is TYPE:
            gone.update(dict.fromkeys(_ids(item), True))
    read = Edits()
    hidden = read.hidden
    fresh: set[Id] = set()
    for write in writes:  # parents come before what is in them
        parent, content = write.parent, write.content
        lost = parent is None or _is_lost(parent, hidden, fresh, gone, is_gone)
        if content not in EMPTY and (lost or (brief and (*write.id, write.length) in brief)):
            hidden.add(write.id)
        elif content is TYPE:
            fresh.add(write.id)
        if not lost:
            read.write(write, parent)  # type: ignore[arg-type]  # lost without one
    if read.repeats:
        read.order(writes)
    for item in erased:
        parent = item.parent
        if not (item.fresh or parent is None or _is_lost(parent, hidden, fresh, gone, is_gone)):
            read.erase(item, parent)
    return read


def read_alone(write: Write, ranges: Deletes, is_gone: Callable[[Id], bool]) -> Edits | None:
    """As `read_edits` reads an update of one write that deletes nothing, or what it overwrites; None for all others.

    Nearly every op is such: a value set at a key, a character typed.
    """
    parent, key, content, struct = write.parent, write.key, write.content, write.struct
    if (content is not ANY and content is not STRING) or parent is None or write.length != 1:
        return None
    origin = struct.origin
    if ranges and (key is None or origin is None or not _is_just(ranges, origin) or struct.right_origin is not None):
        return None
    if not isinstance(parent, str) and is_gone(parent):
        return None
    erased = [origin] if ranges and origin is not None else []
    value = struct.value() if key is None else _single(write)
    return Edits([Edit(INSERT if key is None else SET, parent, key, value, None, [write.id], erased)])


def _is_just(ranges: Deletes, item: Id) -> bool:
    found = ranges.get(item[0])
    return len(ranges) == 1 and isinstance(found, list) and len(found) == 1 and found[0] == (item[1], 1)


def _last(group: Sequence[Write]) -> Write | None:
    """The write that lies last at their key; None where that depends on what is there already.

    Behind its origin, and of those behind one origin: the one of the largest client, of one client the earliest
    (YATA, as Yjs and yrs integrate items that have no right neighbour).
    """
    behind: dict[Id | None, list[Write]] = {}
    for write in group:
        behind.setdefault(write.struct.origin, []).append(write)
    ends = {(write.id[0], write.id[1] + write.length - 1) for write in group}
    heads = [origin for origin in behind if origin not in ends]
    if len(heads) != 1:
        return None
    end, last = heads[0], group[0]
    while end in behind:
        last = max(behind.pop(end), key=lambda write: (write.id[0], -write.id[1]))
        end = (last.id[0], last.id[1] + last.length - 1)
    return last


def _is_lost(
    parent: Parent, hidden: set[Id], fresh: set[Id], gone: dict[Parent, bool], is_gone: Callable[[Id], bool]
) -> bool:
    if isinstance(parent, str):
        return False
    if hidden and parent in hidden:
        return True
    known = gone.get(parent)
    if known is None:
        known = gone[parent] = parent not in fresh and is_gone(parent)
    return known


def _ids(item: Erased) -> list[Id]:
    return [(item.client, item.clock + offset) for offset in range(item.length)]


def _single(write: Write) -> Any:
    value = write.struct.value()
    return value[-1] if (write.content is ANY or write.content is JSON) and isinstance(value, list) else value

"""How refused edits of an op are taken back (rule G5 b): what goes in blank, and what the server writes again.

Rule 1: the structs of a refused edit, and all that lies inside what it makes, are blanked and deleted.
Rule 2: what a refused edit overwrote or deleted is written again where it does not show any more. A type comes back as
        a copy under other ids, so it is copied before the op is applied and only written when it is gone.
Rule 3: in a document with a schema, content that nobody can see is blanked too: it was never judged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from maquette.engine.deletes import Deletes, normalise, unite
from maquette.engine.edits import EMPTY, Action, Edit, Parent
from maquette.engine.index import Write
from maquette.engine.kinds.kind import Verdict, plain, revived
from maquette.engine.update import Id, Struct, Update

MAX_RESTORED = 1_000
"""Edits of one op that the server would have to undo. A few bytes can delete all that there is: writing it again would
cost everybody megabytes each time, so an op with more is denied as a whole."""


def with_inner(verdicts: Sequence[Verdict], found: Sequence[Edit]) -> tuple[list[Edit], list[Edit]]:
    """The admitted edits and the refused ones among `found`, which refers to what makes a type before what is in it."""
    refused_ids = {id(verdict.edit) for verdict in verdicts}
    dead: set[Parent] = set()
    admitted, refused = [], []
    for edit in found:
        if id(edit) in refused_ids or edit.parent in dead:
            refused.append(edit)
            dead.update(edit.structs)
        else:
            admitted.append(edit)
    return admitted, refused


def dead_structs(writes: Sequence[Write], refused: Iterable[Edit], hidden: Collection[Id]) -> set[Id]:
    """The structs that must not enter as they are: of refused edits, hidden ones, and what lies inside either."""
    dead = {id_ for edit in refused for id_ in edit.structs} | set(hidden)
    if dead:
        for write in writes:  # parents come before what is in them
            if write.parent in dead:
                dead.add(write.id)
    return dead


def blanked(update: Update, dead: Collection[Id]) -> Update:
    """The update with the dead structs blanked and deleted."""
    structs: dict[int, list[Struct]] = {}
    deletes: Deletes = {}
    for client, group in update.structs.items():
        structs[client] = [struct.blank() if struct.id in dead else struct for struct in group]
        ranges = [
            (struct.clock, struct.length) for struct in group if struct.id in dead and struct.content not in EMPTY
        ]
        if ranges:
            deletes[client] = normalise(ranges)
    return Update(structs, unite(update.ranges, deletes))


class Holder:
    """Where edits land: what the replica answers about its live types."""

    def __init__(
        self,
        shared: Callable[[Parent], Any],
        element: Callable[[Any, Id], int | None],
        is_deleted: Callable[[Id], bool],
    ) -> None:
        self.shared = shared
        self.element = element
        self._is_deleted = is_deleted

    def is_there(self, parent: Parent) -> bool:
        """Whether the type still shows. One that was deleted and restored is another one, and whole already."""
        return isinstance(parent, str) or not self._is_deleted(parent)


@dataclass(slots=True)
class _Register:
    parent: Parent
    target: Any  # not looked up again: the refused edit may have hidden what it is found by
    key: str
    was: Any
    copy: Any

    def write(self, holder: Holder) -> None:
        if holder.is_there(self.parent) and not (self.key in self.target and plain(self.target[self.key]) == self.was):
            self.target[self.key] = self.copy


@dataclass(slots=True)
class _Elements:
    parent: Parent
    target: Any
    lost: list[tuple[int, Any]]

    def write(self, holder: Holder) -> None:
        for place, value in self.lost if holder.is_there(self.parent) else ():  # ascending: each finds its place again
            self.target.insert(min(place, len(self.target)), value)


class Reversal:
    """What the server has to write again after an op with refused edits. Make it before the op is applied."""

    def __init__(self, refused: Sequence[Edit], holder: Holder) -> None:
        self._holder = holder
        self._parts: list[_Register | _Elements] = []
        self._registers: set[tuple[Parent, str]] = set()
        self.excess = False
        """Whether it would be more than MAX_RESTORED."""
        made: set[Parent] = {id_ for edit in refused for id_ in edit.structs}
        count = 0
        for edit in refused:
            if edit.action is not Action.INSERT and edit.parent not in made:
                count += self._take(edit)
            if count > MAX_RESTORED:
                self.excess = True
                return

    def _take(self, edit: Edit) -> int:
        target = self._holder.shared(edit.parent)
        if target is None:
            return 0
        if edit.key is None:
            return self._take_elements(edit, target)
        if (edit.parent, edit.key) in self._registers or edit.key not in target:
            return 0
        self._registers.add((edit.parent, edit.key))
        value = target[edit.key]
        self._parts.append(_Register(edit.parent, target, edit.key, plain(value), revived(value)))
        return 1

    def _take_elements(self, edit: Edit, target: Any) -> int:
        if len(edit.erased) > MAX_RESTORED:
            return len(edit.erased)
        places = sorted(place for id_ in edit.erased if (place := self._holder.element(target, id_)) is not None)
        self._parts.append(_Elements(edit.parent, target, [(place, revived(target[place])) for place in places]))
        return len(places)

    def __bool__(self) -> bool:
        return bool(self._parts)

    def write(self) -> None:
        """Write again what does not show any more."""
        for part in self._parts:
            part.write(self._holder)


def told(verdicts: Sequence[Verdict], show: Callable[[Verdict], str]) -> tuple[str, ...]:
    """Why edits are refused, each reason once and not all of thousands."""
    reasons = tuple(dict.fromkeys(show(verdict) for verdict in verdicts))
    return reasons if len(reasons) <= _SHOWN else (*reasons[:_SHOWN], f"and {len(reasons) - _SHOWN} more")


_SHOWN = 20

"""What a kind of document has to say: its roots, who may write what, and what an op did.

Rule 1: `judge` refuses before anything is applied, from the edits and the kind's own small memory of the document:
        itself what has no fitting shape, and by the gate's decision what the actor may not do.
Rule 2: `describe` tells effective values, read from the replica after the op; the same op on the same state gives the
        same changes, live and in a rebuild.
Rule 3: a kind keeps no clock, no randomness and no I/O; what it needs is in the `Op`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import pycrdt

from maquette.engine.edits import Edit, Parent
from maquette.engine.events import Actor
from maquette.engine.gate import Refuse
from maquette.engine.index import Index
from maquette.engine.roles import Role, Roles
from maquette.engine.update import Id

MAP = 1
"""The type ref of a map."""

Change = dict[str, Any]
"""What an op did, in words: `type` and its fields, msgpack values only (the vocabulary of docs/spec.md)."""

Path = tuple[str | Id, ...]
"""From a root's name down: map keys as strings, elements of arrays by their type id."""


class Op(NamedTuple):
    """One update by one actor, with its roles of this moment, on its way into the log. `now`: ms since 1970."""

    actor: Actor
    roles: Roles
    now: int
    refusable: bool = True
    """Whether parts of it may be refused and logged (G5 b); else it is taken whole or denied."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`edit` is refused: see `gate.Refuse` for what of that goes where."""

    edit: Edit
    refusal: Refuse


class Register(NamedTuple):
    """What the server sets at a key of a map that an op makes: whole numbers."""

    parent: Id
    key: str
    value: list[int]


class View(Protocol):
    """What a kind may ask of the document that it judges or describes."""

    def path(self, parent: Parent) -> Path:
        """Where the shared type `parent` is."""
        ...

    def shared(self, parent: Parent) -> Any:
        """The live shared type, None when it is deleted."""
        ...

    def creator(self, type_id: Id) -> str | None:
        """The id of the actor who made this type."""
        ...

    def shows(self, edit: Edit) -> bool:
        """Whether what the edit brought is there: nothing else won its key, and nothing around it is gone.

        Then its value need not be looked up: reading a replica takes ten times as long.
        """
        ...


class Memory(Protocol):
    """What a kind remembers of one document, so that it need not search the replica."""

    def judge(self, op: Op, edits: Sequence[Edit], view: View) -> list[Verdict]:
        """The refused edits among `edits`, each with its reason."""
        ...

    def learn(self, edits: Sequence[Edit]) -> None:
        """Take in what admitted edits make, before they are applied; live and in a replay."""
        ...

    def settle(self, edits: Sequence[Edit], changes: Sequence[Change], actor: str) -> None:
        """Take in what the applied edits of `actor` did, which the log tells as `changes`; live and in a replay."""
        ...

    def finish(self, op: Op, edits: Sequence[Edit]) -> Sequence[Register]:
        """What the server adds to admitted `edits`, in the same event."""
        ...

    def describe(self, edits: Sequence[Edit], view: View) -> list[Change]:
        """What the applied edits did, in effective values."""
        ...

    def is_broken(self) -> bool:
        """Whether there is anything that the owner should repair by an op of its own."""
        ...

    def repair(self, view: View) -> None:
        """Write it."""
        ...

    def is_full(self, index: Index) -> bool:
        """Whether the document has reached the limits of one epoch."""
        ...

    def element(self, array: Any, type_id: Id) -> int | None:
        """The index in the live `array` of the element that `type_id` made."""
        ...

    def extras(self) -> Mapping[str, Any]:
        """Fields that the kind adds to each event."""
        ...

    def to_plain(self) -> Any:
        """As msgpack values, for a snapshot."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """`roots` are the shared types at the top with the only content admitted in them; None admits any (text).

    `writers` is the least role that may send ops at all; `describe` the version of the kind's `describe`.
    """

    name: str
    roots: Mapping[str, type[Any]] | None
    writers: Role
    describe: int
    memory: Callable[[], Memory]
    remembered: Callable[[Any], Memory]


def inside(edits: Sequence[Edit]) -> dict[Parent, list[Edit]]:
    """The edits by what they lie in."""
    found: dict[Parent, list[Edit]] = {}
    for edit in edits:
        found.setdefault(edit.parent, []).append(edit)
    return found


def made(edit: Edit, parts: Mapping[Parent, Sequence[Edit]], view: View) -> dict[str, Any] | None:
    """What a map that `edit` makes holds, as plain values, going by the edits inside; None when not all of it shows.

    Whoever makes a map makes all that is in it: nobody else can know it before.
    """
    if edit.type_ref != MAP or not view.shows(edit):
        return None
    fields: dict[str, Any] = {}
    for part in parts.get(edit.id, ()):
        value = made(part, parts, view) if part.type_ref is not None else plain(part.value)
        if part.key is None or not view.shows(part) or (value is None and part.type_ref is not None):
            return None
        fields[part.key] = value
    return fields


def plain(value: Any) -> Any:
    """A value out of a replica as msgpack values: shared types become lists and dicts, whole numbers become ints.

    pycrdt gives every number below 2^53 as a float (Yjs has one kind of number).
    """
    kind = type(value)
    if kind is list:
        return [plain(item) for item in value]
    if kind is str or value is None or isinstance(value, int):
        return value
    if kind is float:
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, (pycrdt.Map, pycrdt.Array)):
        return plain(value.to_py())
    if isinstance(value, pycrdt.Text):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return bytes(value) if isinstance(value, bytearray) else value


def revived(value: Any) -> Any:
    """A copy of a value out of a replica that can be written into it again: shared types become new ones."""
    if isinstance(value, pycrdt.Map):
        return pycrdt.Map({key: revived(value[key]) for key in value.keys()})  # noqa: SIM118  (not a dict)
    if isinstance(value, pycrdt.Array):
        return pycrdt.Array([revived(item) for item in value])
    return pycrdt.Text(str(value)) if isinstance(value, pycrdt.Text) else value

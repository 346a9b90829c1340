"""What a late edit, made in an epoch of a scene that is over, still does in the one that goes on (D9).

Rule 1: by id and register: a late value is taken where the register still shows what it showed in the old epoch before
        the late edit. Where it shows anything else, somebody has changed it since, and theirs stays.
Rule 2: a late record is added unless its id is taken; a late removal counts unless anybody has changed the record.
Rule 3: a late place below a parent that is gone hangs from the root, as the effective tree would show it.
Rule 4: what a late edit set without effect in its own epoch, because somebody else's value won there, has none here.

So nobody who worked on finds their work undone by somebody who was away, and whoever was away loses nothing that no
one else has touched. Two late edits in a row follow one another: the first makes the new epoch show what the old one
showed before the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pycrdt

from maquette.engine.kinds.kind import Change, plain
from maquette.engine.kinds.scene import COMMENTS, MATERIALS, NODES, SETTINGS, SLOTS

Fields = dict[str, Any]
Record = tuple[str, str]
"""A root and the id of a record in it; the settings are one record, without an id."""
Before = Mapping[Record, Fields | None]
"""The records that an edit changed, as they were in its epoch before it; None for one that was not there."""

_GONE = object()
"""What a register shows that is not there; null is a value like others."""
_ROOTS = {"node": NODES, "material": MATERIALS, "comment": COMMENTS, "setting": SETTINGS}


def touched(changes: Iterable[Change]) -> set[Record]:
    """The records that `changes` tell of."""
    return {_record(change) for change in changes}


def fields_of(doc: pycrdt.Doc[Any], record: Record) -> Fields | None:
    """The fields of a record as they are in `doc`; None when it is not there."""
    found = _find(doc, record)
    fields: Fields | None = None if found is None else plain(found)
    return fields


def merge(changes: Sequence[Change], before: Before, doc: pycrdt.Doc[Any]) -> None:
    """Write into `doc`, a replica of the newer epoch, what the late `changes` still do there."""
    nodes: pycrdt.Map[Any] = doc.get(NODES, type=pycrdt.Map)
    added = {change["id"] for change in changes if change["type"] == "node.added"}
    for change in changes:
        record = _record(change)
        match change["type"].partition(".")[2]:
            case "added":
                fields = change[change["type"].partition(".")[0]]
                _add(doc, record, {**fields, **_hung(fields, nodes, added)})
            case "removed":
                _remove(doc, record, before.get(record))
            case _:
                found = _find(doc, record)
                if found is not None:
                    late = {key: _hung({key: value}, nodes, added).get(key, value) for key, value in _set(change)}
                    _change(found, late, before.get(record) or {})


def _record(change: Change) -> Record:
    root = _ROOTS[change["type"].partition(".")[0]]
    return root, "" if root == SETTINGS else change["id"]


def _find(doc: pycrdt.Doc[Any], record: Record) -> Any:
    root, id_ = record
    records: pycrdt.Map[Any] = doc.get(root, type=pycrdt.Map)
    return records.get(id_) if id_ else records


def _set(change: Change) -> Iterable[tuple[str, Any]]:
    """The registers that a change sets, _GONE for one that it takes away."""
    match change["type"]:
        case "node.moved":
            return [("place", change["place"])]
        case "node.trashed":
            return [("trashed", {"by": change["by"], "at": change["at"]})]
        case "node.restored":
            return [("trashed", _GONE)]
    return [*change["set"].items(), *((key, _GONE) for key in change["unset"])]


def _hung(fields: Fields, nodes: pycrdt.Map[Any], added: set[str]) -> Fields:
    """A place among `fields` that names a parent which is not there, with the root in its stead (rule 3)."""
    match fields.get("place"):
        case [str(parent), order] if parent not in nodes and parent not in added:
            return {"place": [None, order]}
    return {}


def _add(doc: pycrdt.Doc[Any], record: Record, fields: Fields) -> None:
    root, id_ = record
    records: pycrdt.Map[Any] = doc.get(root, type=pycrdt.Map)
    if id_ not in records:
        shared = {key: pycrdt.Map(value) if (root, key) == (NODES, SLOTS) else value for key, value in fields.items()}
        records[id_] = pycrdt.Map(shared)


def _remove(doc: pycrdt.Doc[Any], record: Record, before: Fields | None) -> None:
    root, id_ = record
    if before is not None and fields_of(doc, record) == before:
        del doc.get(root, type=pycrdt.Map)[id_]


def _change(found: Any, late: Fields, before: Fields) -> None:
    """Set the registers of a record that still show what they showed before (rule 1)."""
    for key, value in late.items():
        old = before.get(key, _GONE)
        if key == SLOTS and key in found and value is not _GONE:
            slots: Fields = {} if old is _GONE else before[key]
            gone = {slot: _GONE for slot in slots if slot not in value}
            _change(found[key], {**value, **gone}, slots)
        elif _shown(found, key) == old and value != old:
            _put(found, key, value)


def _shown(found: Any, key: str) -> Any:
    return plain(found[key]) if key in found else _GONE


def _put(found: Any, key: str, value: Any) -> None:
    if value is _GONE:
        del found[key]
    else:
        found[key] = pycrdt.Map(value) if key == SLOTS else value

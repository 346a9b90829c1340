"""Reading the `changes` of a document's event: what an op did, in words, checked before a projection folds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from maquette.engine.events import Event
from maquette.projections.errors import UnreadableEvent

Change = Mapping[str, Any]

DOCUMENT_EVENTS = frozenset({"document.edited", "document.refused"})
"""A refused op is folded like any other: its changes are what is left of it after the server's reversal."""


def changes_of(event: Event, fields: Mapping[str, Sequence[str]]) -> list[Change]:
    """The changes of `event`; `fields` gives the known types of change and the fields that each must have.

    Raises UnreadableEvent when there are none to read, for an unknown type and for a missing field.
    """
    changes = event.data.get("changes")
    if not isinstance(changes, list):
        raise UnreadableEvent(f"{event.type}: expected a list of changes, got {changes!r:.80}")
    for change in changes:
        _check(change, fields)
    return changes


def runs(changes: Sequence[Change]) -> Iterator[tuple[str, list[Change]]]:
    """Neighbours of one type together, in order: what comes in crowds is written in crowds."""
    for kind, run in groupby(changes, key=lambda change: str(change["type"])):
        yield kind, list(run)


def milliseconds(value: object) -> int | None:
    """A time as whole milliseconds since 1970; None stays None. Raises UnreadableEvent for what is no number."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, float) and value - value == 0:  # finite
        return int(value)
    raise UnreadableEvent(f"expected a time in milliseconds, got {value!r:.80}")


def _check(change: object, fields: Mapping[str, Sequence[str]]) -> None:
    kind = change.get("type") if isinstance(change, dict) else None
    if not isinstance(change, dict) or not isinstance(kind, str):
        raise UnreadableEvent(f"expected a change with a type, got {change!r:.80}")
    if kind not in fields:
        raise UnreadableEvent(f"expected a change of type {', '.join(fields)}, got {kind!r}")
    for name in fields[kind]:
        if name not in change:
            raise UnreadableEvent(f"{kind}: expected a field {name!r}, got {', '.join(sorted(change))}")

"""The conversation of each space: every message, edit, deletion and reaction, over all pages of its chat.

Rule 1: a conversation is `tenant/space`; its pages `chat@1`, `chat@2`, … are one history, ordered by stamp number.
        A message is one of its page: an id that a client used on another page is another message.
Rule 2: a deleted message keeps its row and its body, because a moderator may restore it; `chat_reads` never shows it.
        What must be gone for good is erased in the log (rule L8) and here by a rebuild.
Rule 3: names live in a table of their own, so that a profile can be erased without touching a message.
Rule 4: a change of a message that is not there is an error, for it would be lost; taking away what is not there is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Update,
    and_,
    bindparam,
    func,
    select,
)

from maquette.engine.events import Event
from maquette.projections.changes import DOCUMENT_EVENTS, Change, changes_of, milliseconds, runs
from maquette.projections.errors import UnreadableEvent
from maquette.projections.places import Place, place_of

metadata = MetaData()

messages = Table(
    "messages",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("space", Text, primary_key=True),
    Column("page", Integer, primary_key=True),  # the epoch of the chat document that holds it
    Column("id", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("stamped", BigInteger, nullable=False),
    Column("author", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("sent", BigInteger),
    Column("thread", Text),
    Column("mentions", JSON(none_as_null=True)),
    Column("attachments", JSON(none_as_null=True)),
    Column("notice", Boolean, nullable=False),
    Column("edited", BigInteger),
    Column("deleted_by", Text),
    Column("deleted_at", BigInteger),
    Index("messages_in_order", "tenant", "space", "number"),
    Index("messages_of_thread", "tenant", "space", "thread", "number"),
)

edits = Table(
    "edits",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("space", Text, primary_key=True),
    Column("page", Integer, primary_key=True),
    Column("message", Text, primary_key=True),
    Column("number", Integer, primary_key=True),  # 1, 2, 3, … of the message
    Column("body", Text, nullable=False),  # what the edit replaced
    Column("edited", BigInteger),  # when that had been written, if it was an edit itself
)

reactions = Table(
    "reactions",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("space", Text, primary_key=True),
    Column("page", Integer, primary_key=True),
    Column("message", Text, primary_key=True),
    Column("emoji", Text, primary_key=True),
    Column("actor", Text, primary_key=True),
)

names = Table(
    "names",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("space", Text, primary_key=True),
    Column("actor", Text, primary_key=True),
    Column("name", Text, nullable=False),
)

FIELDS = {
    "message.posted": ("id", "author", "body", "sent", "stamp"),
    "message.edited": ("id", "body"),
    "message.deleted": ("id", "by", "at"),
    "message.restored": ("id",),
    "message.removed": ("id",),
    "reaction.added": ("id", "emoji", "actor"),
    "reaction.removed": ("id", "emoji", "actor"),
}


class ChatHistory:
    """The projection `chat_history`; read it with `chat_reads.ChatReads`."""

    name = "chat_history"
    version = 1
    metadata = metadata

    def wants(self, event: Event) -> bool:
        """Edits of chat documents, and names that are given in a space."""
        place = place_of(event.stream)
        if place is None:
            return False
        if event.type in DOCUMENT_EVENTS:
            return place.document == "chat"
        return event.type == "profile.named" and bool(place.space) and not place.document

    def apply(self, connection: Connection, events: Sequence[Event]) -> None:
        """Fold `events`. Raises UnreadableEvent and SQLAlchemy's errors."""
        for stream, run in groupby(events, key=lambda event: event.stream):
            place = place_of(stream)
            assert place is not None, "expected only events that are wanted"
            if place.document:
                _fold(connection, place, run)
            else:
                for event in run:
                    _name(connection, place, event)

    def forget(self) -> None:
        """Nothing is kept in memory."""


def _fold(connection: Connection, place: Place, events: Iterable[Event]) -> None:
    changes = [change for event in events for change in changes_of(event, FIELDS)]
    for kind, run in runs(changes):
        HANDLERS[kind](connection, place, run)


def _name(connection: Connection, place: Place, event: Event) -> None:
    actor, name = event.data.get("id"), event.data.get("name")
    if not isinstance(actor, str) or not isinstance(name, str | None):
        raise UnreadableEvent(f"profile.named: expected an actor's id and a name, got {actor!r:.80} and {name!r:.80}")
    key = {"tenant": place.tenant, "space": place.space, "actor": actor}
    connection.execute(names.delete().filter_by(**key))
    if name:
        connection.execute(names.insert(), key | {"name": name})


def _post(connection: Connection, place: Place, run: list[Change]) -> None:
    connection.execute(messages.insert(), [_key(place) | _message(place, change) for change in run])


def _message(place: Place, change: Change) -> dict[str, Any]:
    number, stamped = _stamp(change)
    return {
        "id": change["id"],
        "number": number,
        "stamped": stamped,
        "author": change["author"],
        "body": change["body"],
        "sent": milliseconds(change["sent"]),
        "thread": change.get("thread"),
        "mentions": change.get("mentions"),
        "attachments": change.get("attachments"),
        "notice": bool(change.get("notice")),
        "edited": milliseconds(change.get("edited")),  # an import brings what was edited elsewhere
    }


def _stamp(change: Change) -> tuple[int, int]:
    match change["stamp"]:
        case [int(number), int(time)]:
            return number, time
    raise UnreadableEvent(f"message.posted: expected a stamp [number, ms], got {change['stamp']!r:.80}")


def _edit(connection: Connection, place: Place, run: list[Change]) -> None:
    # one by one: an edit keeps what the one before it wrote
    for change in run:
        connection.execute(KEEP_BODY, _of(place, change))
        written = {"text": change["body"], "when": milliseconds(change.get("edited"))}
        beside = {"told": change.get("mentions"), "with": change.get("attachments")}
        _change(connection, SET_BODY, place, change, written | beside)


def _delete(connection: Connection, place: Place, run: list[Change]) -> None:
    for change in run:
        if not isinstance(change["by"], str):
            raise UnreadableEvent(f"message.deleted: expected the id of an actor, got {change['by']!r:.80}")
        _change(connection, SET_DELETED, place, change, {"who": change["by"], "when": milliseconds(change["at"])})


def _restore(connection: Connection, place: Place, run: list[Change]) -> None:
    for change in run:
        _change(connection, SET_DELETED, place, change, {"who": None, "when": None})


def _change(connection: Connection, statement: Update, place: Place, change: Change, values: dict[str, Any]) -> None:
    if connection.execute(statement, _of(place, change) | values).rowcount == 0:
        raise UnreadableEvent(f"{change['type']}: expected a known message, got {change['id']!r:.80}")


def _remove(connection: Connection, place: Place, run: list[Change]) -> None:
    for statement in REMOVE:
        connection.execute(statement, [_of(place, change) for change in run])


def _react(connection: Connection, place: Place, run: list[Change]) -> None:
    for change in run:
        if connection.execute(IS_THERE, _of(place, change)).first() is None:
            raise UnreadableEvent(f"reaction.added: expected a known message, got {change['id']!r:.80}")
    rows = [{"message": change["id"], "emoji": change["emoji"], "actor": change["actor"]} for change in run]
    connection.execute(reactions.insert().prefix_with("OR IGNORE"), [_key(place) | row for row in rows])


def _unreact(connection: Connection, place: Place, run: list[Change]) -> None:
    gone = [_of(place, change) | {"sign": change["emoji"], "who": change["actor"]} for change in run]
    connection.execute(UNREACT, gone)


def _key(place: Place) -> dict[str, Any]:
    return {"tenant": place.tenant, "space": place.space, "page": place.epoch}


def _of(place: Place, change: Change) -> dict[str, Any]:
    # names of their own: SQLAlchemy takes a column's name for a value to set
    return {"in_tenant": place.tenant, "in_space": place.space, "in_page": place.epoch, "of": change["id"]}


HANDLERS: dict[str, Callable[[Connection, Place, list[Change]], None]] = {
    "message.posted": _post,
    "message.edited": _edit,
    "message.deleted": _delete,
    "message.restored": _restore,
    "message.removed": _remove,
    "reaction.added": _react,
    "reaction.removed": _unreact,
}


def _mine(table: Table, column: str) -> ColumnElement[bool]:
    """The rows of the message that `_of` names."""
    columns = table.c
    return and_(
        columns.tenant == bindparam("in_tenant"),
        columns.space == bindparam("in_space"),
        columns.page == bindparam("in_page"),
        columns[column] == bindparam("of"),
    )


# Statements are built once: building them costs more than running them.
IS_THERE = select(messages.c.id).where(_mine(messages, "id"))
SET_BODY = (
    messages.update()
    .where(_mine(messages, "id"))
    .values(
        body=bindparam("text"),
        edited=bindparam("when"),
        mentions=bindparam("told", type_=messages.c.mentions.type),
        attachments=bindparam("with", type_=messages.c.attachments.type),
    )
)
SET_DELETED = (
    messages.update().where(_mine(messages, "id")).values(deleted_by=bindparam("who"), deleted_at=bindparam("when"))
)
KEEP_BODY = edits.insert().from_select(
    ["tenant", "space", "page", "message", "number", "body", "edited"],
    select(
        messages.c.tenant,
        messages.c.space,
        messages.c.page,
        messages.c.id,
        select(func.count() + 1).where(_mine(edits, "message")).scalar_subquery(),
        messages.c.body,
        messages.c.edited,
    ).where(_mine(messages, "id")),
)
REMOVE = (
    messages.delete().where(_mine(messages, "id")),
    edits.delete().where(_mine(edits, "message")),
    reactions.delete().where(_mine(reactions, "message")),
)
UNREACT = reactions.delete().where(
    _mine(reactions, "message"),
    reactions.c.emoji == bindparam("sign"),
    reactions.c.actor == bindparam("who"),
)

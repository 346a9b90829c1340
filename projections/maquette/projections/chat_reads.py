"""What can be asked of the chat history. A deleted message is a tombstone: its place, author and times, no words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select

from maquette.engine.errors import InvalidInput, NotFound
from maquette.projections.chat_history import ChatHistory, edits, messages, names, reactions
from maquette.projections.view import View

Given = dict[str, list[str]]
"""Emoji → who gave it."""

MAX_PAGE = 500
"""The most messages in one answer; what asks for more pages on."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """Who deleted a message, and when (ms)."""

    by: str
    at: int | None


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it stands. `number` orders the conversation; `stamped`, `sent` and `edited` are times in ms.

    `name` is the author's display name where one is known. `reactions` maps an emoji to the actors who gave it, sorted.
    A deleted message has no body, mentions, attachments and reactions.
    """

    id: str
    number: int
    stamped: int
    author: str
    name: str | None
    sent: int | None
    body: str | None
    thread: str | None
    mentions: tuple[str, ...]
    attachments: tuple[Any, ...]
    notice: bool
    edited: int | None
    deleted: Deletion | None
    reactions: Given


@dataclass(frozen=True, slots=True)
class Version:
    """A body that a message had; `written` is when (ms), None when the edit did not say."""

    body: str
    written: int | None


class ChatReads:
    """Reads of the chat history in `view`, the runner's view called `chat_history`."""

    def __init__(self, view: View) -> None:
        if view.name != ChatHistory.name:
            raise InvalidInput(f"expected the view {ChatHistory.name!r}, got {view.name!r}")
        self._view = view

    async def page(
        self,
        tenant: str,
        space: str,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = 50,
        thread: str | None = None,
    ) -> list[Message]:
        """Up to `limit` messages with before > number > after, in stamp order, of one `thread` or of all.

        With `after` the oldest of them, otherwise the newest. Raises InvalidInput for a limit out of 1 to MAX_PAGE.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidInput(f"limit: expected 1 to {MAX_PAGE}, got {limit}")
        wanted = _between(before, after, thread)
        return await self._view.read(partial(_page, tenant, space, wanted, limit, after is not None))

    async def message(self, tenant: str, space: str, message: str) -> Message:
        """One message, which may be deleted; of several pages' messages of that id, the first. Raises NotFound."""
        found = await self._view.read(partial(_page, tenant, space, [messages.c.id == message], 1, True))
        if not found:
            raise NotFound("message", message)
        return found[0]

    async def epoch_of(self, tenant: str, space: str, message: str) -> int:
        """The page of the chain that holds a message: where to write about it. Raises NotFound."""
        return await self._view.read(partial(_epoch_of, tenant, space, message))

    async def count(self, tenant: str, space: str) -> int:
        """How many messages the conversation has, without the deleted ones."""
        return await self._view.read(partial(_count, tenant, space))

    async def versions(self, tenant: str, space: str, message: str) -> list[Version]:
        """The bodies that a message had, the first one first and the current one last; none when it is deleted.

        Raises NotFound.
        """
        return await self._view.read(partial(_versions, tenant, space, message))

    async def names(self, tenant: str, space: str) -> dict[str, str]:
        """The display names that are known in a space, by actor."""
        return await self._view.read(partial(_names, tenant, space))


def _between(before: int | None, after: int | None, thread: str | None) -> list[ColumnElement[bool]]:
    wanted = []
    if before is not None:
        wanted.append(messages.c.number < before)
    if after is not None:
        wanted.append(messages.c.number > after)
    if thread is not None:
        wanted.append(messages.c.thread == thread)
    return wanted


def _page(
    tenant: str, space: str, wanted: list[ColumnElement[bool]], limit: int, oldest: bool, connection: Connection
) -> list[Message]:
    rows = connection.execute(_select(tenant, space, wanted, limit, oldest)).all()
    given = _reactions(connection, tenant, space, [row.id for row in rows])
    found = [_message(row, given.get((row.page, row.id), {})) for row in rows]
    return found if oldest else found[::-1]


def _select(
    tenant: str, space: str, wanted: list[ColumnElement[bool]], limit: int, oldest: bool
) -> Select[tuple[Any, ...]]:
    author = (
        (names.c.tenant == messages.c.tenant)
        & (names.c.space == messages.c.space)
        & (names.c.actor == messages.c.author)
    )
    order = (messages.c.number, messages.c.id)
    return (
        select(messages, names.c.name)
        .outerjoin_from(messages, names, author)
        .where(messages.c.tenant == tenant, messages.c.space == space, *wanted)
        .order_by(*(column.asc() if oldest else column.desc() for column in order))
        .limit(limit)
    )


def _reactions(connection: Connection, tenant: str, space: str, ids: Sequence[str]) -> dict[tuple[int, str], Given]:
    """What was given to each message, by page and id."""
    table = reactions.c
    rows = connection.execute(
        select(table.page, table.message, table.emoji, table.actor)
        .where(table.tenant == tenant, table.space == space, table.message.in_(ids))
        .order_by(table.emoji, table.actor)
    )
    given: dict[tuple[int, str], Given] = {}
    for row in rows:
        given.setdefault((row.page, row.message), {}).setdefault(row.emoji, []).append(row.actor)
    return given


def _message(row: Row[tuple[Any, ...]], given: Given) -> Message:
    deleted = None if row.deleted_by is None else Deletion(row.deleted_by, row.deleted_at)
    return Message(
        id=row.id,
        number=row.number,
        stamped=row.stamped,
        author=row.author,
        name=row.name,
        sent=row.sent,
        body=row.body if deleted is None else None,
        thread=row.thread,
        mentions=tuple(row.mentions or ()) if deleted is None else (),
        attachments=tuple(row.attachments or ()) if deleted is None else (),
        notice=row.notice,
        edited=row.edited,
        deleted=deleted,
        reactions=given if deleted is None else {},
    )


def _epoch_of(tenant: str, space: str, message: str, connection: Connection) -> int:
    row = connection.execute(_select(tenant, space, [messages.c.id == message], 1, True)).first()
    if row is None:
        raise NotFound("message", message)
    return int(row.page)


def _count(tenant: str, space: str, connection: Connection) -> int:
    table = messages.c
    counted = select(func.count()).where(table.tenant == tenant, table.space == space, table.deleted_by.is_(None))
    return connection.execute(counted).scalar_one()


def _versions(tenant: str, space: str, message: str, connection: Connection) -> list[Version]:
    old, new = edits.c, messages.c
    mine = (new.tenant == tenant, new.space == space, new.id == message)
    columns = (new.page, new.body, new.edited, new.sent, new.deleted_by)
    now = connection.execute(select(*columns).where(*mine).order_by(new.number)).first()
    if now is None:
        raise NotFound("message", message)
    if now.deleted_by is not None:
        return []
    before = connection.execute(
        select(old.body, old.edited)
        .where(old.tenant == tenant, old.space == space, old.page == now.page, old.message == message)
        .order_by(old.number)
    )
    bodies = [(row.body, row.edited) for row in before] + [(now.body, now.edited)]
    return [Version(body, now.sent if index == 0 else at) for index, (body, at) in enumerate(bodies)]


def _names(tenant: str, space: str, connection: Connection) -> dict[str, str]:
    table = names.c
    rows = connection.execute(select(table.actor, table.name).where(table.tenant == tenant, table.space == space))
    return {row.actor: row.name for row in rows}

"""Plain methods for a chat document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pycrdt

from maquette.engine.errors import NotFound
from maquette.engine.ids import mint
from maquette.engine.kinds.chat import MESSAGES, SEPARATOR
from maquette.engine.kinds.kind import plain


class ChatWriter:
    """Writes messages as `author` into a replica of a chat document. `clock` gives milliseconds since 1970."""

    def __init__(self, doc: pycrdt.Doc[Any], author: str, clock: Callable[[], int]) -> None:
        self._doc = doc
        self._messages: pycrdt.Array[Any] = doc.get(MESSAGES, type=pycrdt.Array)
        self._author = author
        self._clock = clock

    def post(
        self,
        body: str,
        *,
        id: str | None = None,  # noqa: A002  (the field's name)
        author: str | None = None,
        sent: int | None = None,
        thread: str | None = None,
        mentions: Sequence[str] = (),
        attachments: Sequence[Mapping[str, Any]] = (),
        notice: bool = False,
        edited: int | None = None,
        deleted: tuple[str, int] | None = None,
        reactions: Mapping[str, Sequence[str]] | None = None,
    ) -> str:
        """Post a message and return its id.

        `author`, `sent`, `edited`, `deleted` (by, at) and `reactions` (emoji → actors) are for imports, which post
        for others.
        """
        message = id or mint()
        fields: dict[str, Any] = {
            "id": message,
            "author": author or self._author,
            "body": body,
            "sent": self._clock() if sent is None else sent,
            "reactions": pycrdt.Map(
                {f"{emoji}{SEPARATOR}{actor}": True for emoji, actors in (reactions or {}).items() for actor in actors}
            ),
        }
        optional = {"thread": thread, "mentions": list(mentions), "attachments": list(attachments), "notice": notice}
        fields |= {key: value for key, value in optional.items() if value}
        if edited is not None:
            fields["edited"] = edited
        if deleted is not None:
            fields["deleted"] = {"by": deleted[0], "at": deleted[1]}
        self._messages.append(pycrdt.Map(fields))
        return message

    def edit(self, message: str, body: str) -> None:
        """Give one's own message another body."""
        record = self._record(message)
        with self._doc.transaction():
            record["body"] = body
            record["edited"] = self._clock()

    def delete(self, message: str) -> None:
        """Leave a tombstone in place of the message. Its author and moderators may."""
        self._record(message)["deleted"] = {"by": self._author, "at": self._clock()}

    def restore(self, message: str) -> None:
        """Take the tombstone away."""
        self._record(message).pop("deleted", None)

    def react(self, message: str, emoji: str) -> None:
        """Add one's reaction."""
        self._record(message)["reactions"][f"{emoji}{SEPARATOR}{self._author}"] = True

    def unreact(self, message: str, emoji: str) -> None:
        """Take one's reaction back."""
        self._record(message)["reactions"].pop(f"{emoji}{SEPARATOR}{self._author}", None)

    def messages(self) -> list[dict[str, Any]]:
        """The messages of this page in the order of their stamps; those on their way to the log come last.

        Deleted ones are there, with `deleted` and without their body.
        """
        records = [plain(record) for record in self._messages]
        for record in records:
            if "deleted" in record:
                record.pop("body", None)
        return sorted(records, key=lambda record: record.get("stamp", [float("inf")])[0])

    def message(self, message: str) -> dict[str, Any]:
        """One message. Raises NotFound."""
        fields: dict[str, Any] = plain(self._record(message))
        return fields

    def _record(self, message: str) -> Any:
        for index in range(len(self._messages) - 1, -1, -1):  # most talk is about what was said last
            record = self._messages[index]
            if record.get("id") == message:
                return record
        raise NotFound("message", message)

"""The kinds of document with plain methods: `chat.post`, `scene.add`, `scene.move`, `text.insert`, …"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pycrdt

from maquette.client.errors import ClientError, Moved
from maquette.client.following import TreeFollower
from maquette.client.remote import RemoteDocument
from maquette.client.rewriting import rewrite
from maquette.engine.writers.chat import ChatWriter
from maquette.engine.writers.scene import SceneWriter


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class _Remote(RemoteDocument):
    """A remote document that knows under which actor it writes."""

    @property
    def actor(self) -> str:
        """Our own actor id, as the server says. Raises ClientError before the first sync."""
        if self.presence.me is None:
            raise ClientError("expected a document that was synced once, got one that has never been connected")
        return str(self.presence.me["id"])


class RemoteChat(_Remote):
    """A conversation, or one page of it.

    When a page is full, the conversation goes on on the next one: what waits raises Moved, and `follow` is that page.
    """

    def follow(self) -> RemoteChat:
        """The page on which the conversation goes on, after Moved was raised; enter it with `async with`.

        What was not flushed is in `doc` here only. Raises ClientError when the conversation has not moved.
        """
        if not isinstance(self._end, Moved):
            raise ClientError(f"expected a conversation that has moved, got one that is {self.status}")
        url, space, token, name = self._origin
        return RemoteChat(url, space, self._end.successor, token=token, name=name)

    @property
    def writer(self) -> ChatWriter:
        """Plain methods on the replica, as they are also used inside the server."""
        return ChatWriter(self.doc, self.actor, _now_ms)

    def post(self, body: str, **fields: Any) -> str:
        """Post a message; returns its id. See ChatWriter.post."""
        return self.writer.post(body, **fields)

    def edit(self, message: str, body: str) -> None:
        """Give one's own message another body."""
        self.writer.edit(message, body)

    def delete(self, message: str) -> None:
        """Leave a tombstone in place of a message."""
        self.writer.delete(message)

    def restore(self, message: str) -> None:
        """Take the tombstone away."""
        self.writer.restore(message)

    def react(self, message: str, emoji: str) -> None:
        """Add one's reaction."""
        self.writer.react(message, emoji)

    def unreact(self, message: str, emoji: str) -> None:
        """Take one's reaction back."""
        self.writer.unreact(message, emoji)

    def messages(self) -> list[dict[str, Any]]:
        """The messages in the order of their stamps."""
        return self.writer.messages()


class RemoteScene(_Remote):
    """A 3D scene. `nodes`, `tree` and the methods are those of SceneWriter."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._follower = TreeFollower(self.doc)
        self.on_reset.append(self._follow)

    def _follow(self) -> None:
        self._follower = TreeFollower(self.doc)

    @property
    def writer(self) -> SceneWriter:
        """Plain methods on the replica, as they are also used inside the server."""
        return SceneWriter(self.doc, self._follower.tree, self.actor, _now_ms)

    def add(self, type: str = "group", name: str = "", **fields: Any) -> str:  # noqa: A002  (the field's name)
        """Add a node; returns its id. See SceneWriter.add."""
        return self.writer.add(type, name, **fields)

    def change(self, node: str, **fields: Any) -> None:
        """Set fields of a node; None takes an optional one away."""
        self.writer.change(node, **fields)

    def move(self, node: str, parent: str | None = None, index: int | None = None) -> None:
        """Hang a node below `parent`, at `index` or last."""
        self.writer.move(node, parent, index)

    def trash(self, node: str) -> None:
        """Put a node into the trash."""
        self.writer.trash(node)

    def restore(self, node: str) -> None:
        """Take a node out of the trash."""
        self.writer.restore(node)

    def nodes(self) -> dict[str, dict[str, Any]]:
        """All nodes by id."""
        return self.writer.nodes()

    async def rewrite(self, *, dry_run: bool = False) -> dict[str, Any]:
        """Let the scene go on in a new epoch, as its owner, and go on there; see `rewriting.rewrite`."""
        url, space, token, name = self._origin
        return await rewrite(url, space, token=token, name=name, dry_run=dry_run)

    def children(self, node: str | None = None) -> Sequence[str]:
        """The effective children of a node, or of the root, in order."""
        return self._follower.tree.children(node)


class RemoteText(_Remote):
    """A text document with one Y.Text, for notes; `doc` takes any other content."""

    root = "text"

    @property
    def text(self) -> pycrdt.Text:
        """The shared text. pycrdt counts its positions in UTF-8 bytes; `insert` and `delete` here in code points."""
        text: pycrdt.Text = self.doc.get(self.root, type=pycrdt.Text)
        return text

    def insert(self, position: int, text: str) -> None:
        """Insert before the code point at `position`."""
        shared = self.text
        shared.insert(_bytes_before(str(shared), position), text)

    def delete(self, position: int, length: int) -> None:
        """Delete `length` code points from `position` on."""
        shared, whole = self.text, str(self.text)
        start, end = _bytes_before(whole, position), _bytes_before(whole, position + length)
        del shared[start:end]

    def __str__(self) -> str:
        return str(self.text)


def _bytes_before(text: str, position: int) -> int:
    return len(text[:position].encode())

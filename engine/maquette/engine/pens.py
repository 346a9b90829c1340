"""Pens: how participants without a replica of their own (REST, imports, embedding code) write into a document.

A pen is a replica under a client id that belongs to one actor, on one document, at one node (rule D4). It writes with
ordinary CRDT operations, and what it wrote goes through the same gate as everybody's.

Rule 1: a pen is brought up to the live replica before each use; it is thrown away when its op was not taken whole.
Rule 2: its client id is derived, never stored: the same actor gets the same id again, also after a restart, and the
        clock goes on where the log ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import pycrdt

from maquette.engine.document import Document
from maquette.engine.errors import OpRefused
from maquette.engine.events import Actor
from maquette.engine.receipts import Receipt
from maquette.engine.replica import Late
from maquette.engine.roles import Role
from maquette.engine.watching import watch

T = TypeVar("T")

MAX_PENS = 8  # each holds the document's state once more


def client_id(node: bytes, *names: str) -> int:
    """A client id for whoever `names` name at the node with the secret `node`: 32 bits, as Yjs chooses them."""
    digest = hashlib.blake2b("\0".join(names).encode(), key=node, digest_size=4).digest()
    return int.from_bytes(digest)


class Pen:
    """One actor's replica of one document."""

    def __init__(self, document: Document, client: int) -> None:
        self._document = document
        self._client = client
        self._captured: list[bytes] = []
        self.doc: pycrdt.Doc[Any] = pycrdt.Doc(client_id=client)
        watch(self, self.doc, lambda pen, event: pen._captured.append(event.update))

    def write(
        self,
        actor: Actor,
        roles: Callable[[], Role],
        edit: Callable[[pycrdt.Doc[Any]], T],
        late: Late | None = None,
    ) -> tuple[T, Receipt]:
        """Run `edit` on the replica as one transaction and submit what it did."""
        with self._document.reading():
            self.doc.apply_update(self._document.replica.diff(self.doc.get_state()))
            self._captured.clear()
            with self.doc.transaction():
                result = edit(self.doc)
        if not self._captured:
            receipt = Receipt()
            self._document.settle_after_commit(receipt)
            return result, receipt
        update = self._captured[-1]
        if late is not None:
            return result, self._document.carry(actor, update, self._client, late)
        return result, self._document.submit(actor, roles, update, self._client)


class Pens:
    """The pens of one document, the least recently used thrown away."""

    def __init__(self, document: Document, node: bytes, role_of: Callable[[str, Role | None], Role | None]) -> None:
        """`role_of` gives the role that an actor has now, of the one that it was given from outside."""
        self._document = document
        self._node = node
        self._role_of = role_of
        self._pens: OrderedDict[tuple[str, str], Pen] = OrderedDict()
        self._on_trial: dict[tuple[str, str], asyncio.Event] = {}

    async def write(self, actor: Actor, role: Role, edit: Callable[[pycrdt.Doc[Any]], T]) -> tuple[T, Receipt]:
        """Run `edit` as `actor` and wait until it is on disk.

        Raises OpRefused with the reasons when the gate takes it not at all or not whole, and LogError when the log
        cannot take it; then nothing of it is shown to anyone. `role` counts where the space says nothing else of the
        actor when the op is judged (G3).
        """
        if self._role_of(actor.id, role) is None:
            raise OpRefused([f"expected a member of the space, {actor.id!r} was removed or banned"])
        return await self._write(actor, lambda: self._role_of(actor.id, role) or Role.VIEWER, edit)

    async def carry(self, actor: Actor, edit: Callable[[pycrdt.Doc[Any]], None], late: Late) -> None:
        """The same for what `actor` did in the epoch before (D9): what they may do by now is not asked again."""
        await self._write(actor, lambda: Role.OWNER, edit, late)

    async def _write(
        self,
        actor: Actor,
        roles: Callable[[], Role],
        edit: Callable[[pycrdt.Doc[Any]], T],
        late: Late | None = None,
    ) -> tuple[T, Receipt]:
        key = (actor.id, actor.via or "")
        while key in self._on_trial:  # what comes next is written above it, under the same client id
            await self._on_trial[key].wait()
        pen = self._pens.pop(key, None) or Pen(self._document, self._client(key))
        result, receipt = pen.write(actor, roles, edit, late)
        if receipt.on_trial:
            await self._tried(key, receipt)
        else:
            await receipt.wait()
        if receipt.denied is not None:
            raise OpRefused([receipt.denied])
        if receipt.refused:
            raise OpRefused(receipt.refused)
        self._pens[key] = pen
        while len(self._pens) > MAX_PENS:
            self._pens.popitem(last=False)
        return result, receipt

    async def _tried(self, key: tuple[str, str], receipt: Receipt) -> None:
        done = self._on_trial[key] = asyncio.Event()
        try:
            await receipt.wait()
        finally:
            del self._on_trial[key]
            done.set()

    def _client(self, key: tuple[str, str]) -> int:
        """The actor's id in this document; the next one when somebody else happens to have it."""
        claims = self._document.replica.claims
        for number in itertools.count():
            client = client_id(self._node, self._document.stream, *key, *([str(number)] if number else []))
            if claims.admits(client, key[0], client):
                return client
        raise AssertionError("count() never ends")

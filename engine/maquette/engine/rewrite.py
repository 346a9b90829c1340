"""Rewriting a scene: `Space.rewrite`, and what it takes to find out that one was begun.

Rule 1: edits go on meanwhile. Those behind the revision that was copied are late, and carried over like all others.
Rule 2: once the new epoch is in the log it has begun; nothing that fails behind that takes it back.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from maquette.engine.epochs import Beginning, Fresh, Rewriting, Weight, fresh_epoch
from maquette.engine.errors import InvalidInput
from maquette.engine.events import SERVER, Actor
from maquette.engine.kinds.chat import CHAT
from maquette.engine.kinds.scene import SCENE
from maquette.engine.pens import client_id
from maquette.engine.reports import Progress

if TYPE_CHECKING:
    from maquette.engine.space import Space
    from maquette.engine.spaces import DocumentRecord


async def rewrite(
    space: Space, record: DocumentRecord, actor: Actor, progress: Progress, *, dry_run: bool
) -> Rewriting:
    """See `Space.rewrite`."""
    epoch = record.current
    _require_rewritable(space, record)
    heads = await _carried(space, record)
    old = await space.engine.replica(space, record, epoch)
    if old.revision == 0:
        raise InvalidInput(f"rewrite: expected a scene that was edited, got {record.name}@{epoch}, which never was")
    heads[epoch] = old.revision
    beginning = Beginning(epoch + 1, tuple(old.index.clients), heads, actor)
    stream = space.record.document_stream(record, epoch + 1)
    fresh = await fresh_epoch(old, client_id(space.engine.node, stream, SERVER.id), beginning, progress)
    _require_rewritable(space, record)  # it may have been frozen meanwhile
    if not dry_run:
        await space.engine.finish(_begin(space, record, beginning, fresh))
    before = Weight.of(old)
    await asyncio.sleep(0)  # each takes a look at all that a replica holds
    return Rewriting(record.name, epoch + 1, fresh.records, before, Weight.of(fresh.replica), dry_run)


def _require_rewritable(space: Space, record: DocumentRecord) -> None:
    frozen = space.frozen(record, record.current)
    if frozen is not None:
        raise frozen
    if record.kind is CHAT:
        raise InvalidInput(f"rewrite: expected a scene, got {record.name!r}, which turns its pages by itself")
    if record.kind is not SCENE:
        raise InvalidInput(
            f"rewrite: expected a scene, got {record.name!r}: free text has no ids by which what people write offline "
            "could be carried over"
        )


async def _carried(space: Space, record: DocumentRecord) -> dict[int, int]:
    """Old epoch → a revision up to which it is carried over by now; the current one is not among them."""
    heads = {}
    for epoch in record.over:
        heads[epoch] = await space.engine.log.revision(space.record.document_stream(record, epoch))
        await space.carry(record, epoch)
    return heads


async def _begin(space: Space, record: DocumentRecord, beginning: Beginning, fresh: Fresh) -> None:
    stream = space.record.document_stream(record, beginning.epoch)
    appended = await space.engine.log.append(stream, fresh.events, 0)
    space.engine.install(space, record, beginning.epoch, fresh.replica, appended.position)
    await space.begin(record, beginning)


async def beginning_of(space: Space, record: DocumentRecord, epoch: int) -> Beginning | None:
    """How a rewrite began `epoch` of the document; None when none did."""
    async for page in space.engine.log.read(space.record.document_stream(record, epoch), until=1):
        return Beginning.told(page[0])
    return None

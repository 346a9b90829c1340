"""What a space holds as files: its scene as one GLB, its chat as JSON Lines (transfer.py, rule 4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import asdict, replace
from functools import partial
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, BinaryIO

from maquette.engine.document import Document
from maquette.engine.errors import InvalidInput
from maquette.engine.files import replacing
from maquette.engine.kinds.chat import MESSAGES, SEPARATOR
from maquette.engine.kinds.kind import plain
from maquette.engine.kinds.scene import MATERIALS, NODES
from maquette.engine.receipts import Receipt
from maquette.engine.reports import Notes, Progress, Report, quiet
from maquette.engine.scene.gltf_export import Exported, write_glb
from maquette.engine.scene.tree import Tree
from maquette.engine.space import Space
from maquette.engine.spaces import DocumentRecord
from maquette.engine.transcripts.jsonl import Record, write_jsonl

Stamped = tuple[int, str, Record]
"""A message behind its place in the conversation; the id decides between equals, which a log does not have."""


# --- the scene -----------------------------------------------------------------------------------------------------


async def scene_glb(space: Space) -> Exported:
    """The scene of `space` as it is on disk, without what is trashed, as one GLB."""
    document = await space.open("scene")
    with document.reading():
        nodes, materials, tree = _scene(document)
    held = Receipt()
    document.settle_after_commit(held)
    await held.wait()  # what was read above may still be on its way to the disk (D1)
    write = partial(write_glb, nodes, materials, space.engine.assets.get, tree)
    return await space.engine.convert(space, "scene", write)


async def export_scene(space: Space, to: Path, progress: Progress = quiet) -> Report:
    """Write the scene of `space` to the file `to`, as one GLB. Raises InvalidInput when `to` cannot be written."""
    progress("scene", 0, 1)
    exported = await scene_glb(space)
    with _written(to) as file:
        await asyncio.to_thread(file.write, exported.data)
    progress("scene", 1, 1)
    warnings = Notes()
    for warning in exported.warnings:
        warnings.add(warning)
    return Report(to.name, "scene", asdict(exported.counts), warnings.kept())


def _scene(document: Document) -> tuple[dict[str, Any], dict[str, Any], Tree]:
    """Nodes and materials with their registers, and a tree of one's own: the document's goes on changing."""
    nodes, materials = plain(document.replica.shared(NODES)), plain(document.replica.shared(MATERIALS))
    tree = Tree()
    for node, fields in nodes.items():
        tree.place(node, *fields["place"])
        if "trashed" in fields:
            tree.trash(node)
    return nodes, materials, tree


# --- the chat ------------------------------------------------------------------------------------------------------


async def chat_records(space: Space, progress: Progress = quiet) -> AsyncGenerator[Record, None]:
    """Every message on disk of the conversation of `space`, over all pages, in the order of the stamps.

    A deleted one is a tombstone: who deleted it and when, no words. At most one page is held, and those messages of
    older pages that came after it began.
    """
    waiting: list[Stamped] = []
    record = space.record.documents["chat"]
    pages = [epoch.number for epoch in record.epochs]
    for done, page in enumerate(pages):
        progress("chat", done, len(pages))
        for stamped in await _page(space, record, page):
            heappush(waiting, stamped)
        bound = await _first_stamp(space, record, pages[done + 1 :])
        while waiting and (bound is None or waiting[0][0] < bound):
            yield heappop(waiting)[2]
    progress("chat", len(pages), len(pages))


async def chat_lines(space: Space, progress: Progress = quiet) -> AsyncGenerator[bytes, None]:
    """The same as JSON Lines (`transcripts.jsonl`), line by line."""
    async with aclosing(chat_records(space, progress)) as records:
        async for record in records:
            for line in write_jsonl((record,)):
                yield line


async def export_chat(space: Space, to: Path, progress: Progress = quiet) -> Report:
    """Write the conversation of `space` to the file `to`, as JSON Lines. Raises InvalidInput when it cannot be."""
    counts = {"messages": 0, "deleted": 0}
    with _written(to) as file:
        async with aclosing(chat_records(space, progress)) as records:
            async for record in records:
                counts["messages"] += 1
                counts["deleted"] += record.deleted is not None
                file.writelines(write_jsonl((record,)))
    return Report(to.name, "jsonl", counts)


async def _page(space: Space, record: DocumentRecord, page: int) -> list[Stamped]:
    replica = await space.engine.replica(space, record, page)
    with space.engine.reading(space.record.document_stream(record, page), replica):
        messages = plain(replica.shared(MESSAGES))
    return [(message["stamp"][0], message["id"], _record(message, space.record.profiles)) for message in messages]


async def _first_stamp(space: Space, record: DocumentRecord, pages: list[int]) -> int | None:
    """The stamp of the first message of the first of `pages` that has one: stamps rise along each page's stream."""
    for page in pages:
        async for events in space.engine.log.read(space.record.document_stream(record, page)):
            for event in events:
                for change in event.data.get("changes") or ():
                    if change["type"] == "message.posted":
                        return int(change["stamp"][0])
    return None


def _record(message: dict[str, Any], names: Mapping[str, str]) -> Record:
    tombstone = message.get("deleted")
    whole = Record(
        id=message["id"],
        author=message["author"],
        name=names.get(message["author"]),
        sent=message["sent"],
        body=message["body"],
        thread=message.get("thread"),
        edited=message.get("edited"),
        notice=message.get("notice", False),
        mentions=tuple(message.get("mentions", ())),
        attachments=tuple(message.get("attachments", ())),
        reactions=_reactions(message["reactions"]),
    )
    if tombstone is None:
        return whole
    deleted = (tombstone["by"], tombstone["at"])
    return replace(whole, body="", deleted=deleted, mentions=(), attachments=(), reactions={})


def _reactions(keys: Iterable[str]) -> dict[str, tuple[str, ...]]:
    given: dict[str, tuple[str, ...]] = {}
    for key in sorted(keys):
        emoji, _, actor = key.partition(SEPARATOR)
        given[emoji] = (*given.get(emoji, ()), actor)
    return given


@contextmanager
def _written(to: Path) -> Iterator[BinaryIO]:
    if not to.parent.is_dir():
        raise InvalidInput(f"export: expected to write {to.name!r} into an existing folder, got {str(to.parent)!r}")
    try:
        with replacing(to) as file:
            yield file
    except OSError as error:  # its own words name a temporary file
        raise InvalidInput(f"export: expected to write {to}, got: {error.strerror or error}") from error

"""A glTF file into a scene: the asset first, then materials, then nodes, parents before their children."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, BinaryIO

import pycrdt

from maquette.engine.assets import LIMIT, AssetTooLarge
from maquette.engine.document import Document
from maquette.engine.events import Actor
from maquette.engine.kinds.scene import MATERIALS, NODES, SceneMemory
from maquette.engine.reports import Notes, Progress, Report
from maquette.engine.roles import Role
from maquette.engine.scene.gltf_import import Imported, read_gltf
from maquette.engine.scene.schema import check_material, check_node
from maquette.engine.scene.tree import Tree
from maquette.engine.space import Space
from maquette.engine.writers.scene import SceneWriter

MOST_RECORDS = 100
"""Nodes or materials of one op. The serving thread stood still for 70 ms with 100 and for 331 ms with 500."""

MOST_BYTES = 1 << 20
"""Bytes of one op, as JSON: far below what the gate takes (`Limits.bytes`)."""

Records = Mapping[str, Mapping[str, Any]]


async def import_scene(space: Space, file: BinaryIO, name: str, actor: Actor, role: Role, progress: Progress) -> Report:
    """Take the GLB or glTF in `file` into the scene of `space`, behind what is at its root."""
    progress("read", 0, 1)
    data = await asyncio.to_thread(_read, file)
    document = await space.open("scene")
    imported = await _read_for(space, document, data)
    progress("read", 1, 1)
    for content in imported.assets.values():
        await asyncio.to_thread(space.engine.assets.put, content)
    done, total = 0, len(imported.materials) + len(imported.nodes)
    for records, add in ((imported.materials, SceneWriter.add_materials), (imported.nodes, SceneWriter.add_all)):
        for part in parts(records):
            progress("scene", done, total)
            await space.write("scene", actor, role, _adding(space, actor, part, add))
            done += len(part)
    progress("scene", done, total)
    return _report(name, imported)


def check_scene(file: BinaryIO) -> None:
    """Read what `import_scene` would take. Raises GltfError and AssetTooLarge when it would refuse it."""
    _checked(_read(file), None, False)


def parts(records: Records) -> Iterator[Records]:
    """`records` in their order, in pieces of at most MOST_RECORDS and about MOST_BYTES."""
    part: dict[str, Mapping[str, Any]] = {}
    size = 0
    for key, fields in records.items():
        weight = len(json.dumps(fields))
        if part and (len(part) == MOST_RECORDS or size + weight > MOST_BYTES):
            yield part
            part, size = {}, 0
        part[key] = fields
        size += weight
    if part:
        yield part


def _read(file: BinaryIO) -> bytes:
    data = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise AssetTooLarge(LIMIT)
    return data


async def _read_for(space: Space, document: Document, data: bytes) -> Imported:
    """The file's records, under the ids that an export of ours gave them when all of those are free here."""
    after = _last_order(_tree(document))
    imported = await space.engine.convert(space, "scene", lambda: _checked(data, after, True))
    taken = document.replica.shared(NODES), document.replica.shared(MATERIALS)
    wanted = imported.nodes, imported.materials
    if any(key in there for there, records in zip(taken, wanted, strict=True) for key in records):
        imported = await space.engine.convert(space, "scene", lambda: _checked(data, after, False))
    return imported


def _checked(data: bytes, after: str | None, keep_ids: bool) -> Imported:
    imported = read_gltf(data, after=after, keep_ids=keep_ids)
    for material in imported.materials.values():
        check_material(material)
    for node, fields in imported.nodes.items():
        check_node(fields, node)
    return imported


def _tree(document: Document) -> Tree:
    assert isinstance(document.replica.memory, SceneMemory)
    return document.replica.memory.tree


def _last_order(tree: Tree) -> str | None:
    roots = tree.children(None)
    return tree.effective(roots[-1]).order if roots else None


def _adding(
    space: Space, actor: Actor, part: Records, add: Callable[[SceneWriter, Records], None]
) -> Callable[[pycrdt.Doc[Any]], None]:
    # whole records under fresh ids need no tree: their places are in them
    return lambda doc: add(SceneWriter(doc, Tree(), actor.id, space.engine.clock), part)


def _report(name: str, imported: Imported) -> Report:
    warnings = Notes()
    for warning in imported.warnings:
        warnings.add(warning)
    return Report(name, "scene", asdict(imported.counts), warnings.kept())

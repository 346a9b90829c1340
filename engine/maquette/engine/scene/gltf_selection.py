"""Which nodes of a scene an export takes, and in which order.

Rule 1: all that are shown: neither trashed nor below a trashed node.
Rule 2: a trashed joint of a skin that is shown comes along as a bare node, with the trashed nodes above it, so that
        the mesh keeps its form. A skin whose joint is gone for good is given up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from maquette.engine.scene.gltf_copy import Warn
from maquette.engine.scene.gltf_file import Json
from maquette.engine.scene.gltf_sources import Source, Sources, source_of
from maquette.engine.scene.tree import Tree


@dataclass(frozen=True, slots=True)
class Selection:
    """The exported nodes in tree order, each with its index in the file; `bare` ones have no content of their own.

    `skins` gives for a node the skin it is exported with and the skin's joints; `by_source` finds exported nodes.
    """

    indices: Mapping[str, int]
    bare: frozenset[str]
    skins: Mapping[str, tuple[str, int, tuple[str, ...]]]
    by_source: Mapping[Source, str]


def select(nodes: Mapping[str, Json], tree: Tree, sources: Sources, warn: Warn) -> Selection:
    """Choose by rules 1 and 2."""
    shown = dict.fromkeys(_shown(tree))
    order = [node for node in tree.walk() if node in nodes]
    shown_first = [*shown, *(node for node in order if node not in shown)]
    by_source = _by_source(nodes, shown_first)
    skins = dict(_skins(nodes, shown, by_source, sources, warn))
    bare = _bare(tree, shown, skins)
    chosen = [node for node in order if node in shown or node in bare]
    return Selection(
        {node: index for index, node in enumerate(chosen)},
        frozenset(bare),
        skins,
        {source: node for source, node in by_source.items() if node in shown or node in bare},
    )


def _shown(tree: Tree) -> Iterator[str]:
    waiting = tree.children(None)[::-1]
    while waiting:
        node = waiting.pop()
        if not tree.is_trashed(node):
            yield node
            waiting.extend(tree.children(node)[::-1])


def _by_source(nodes: Mapping[str, Json], order: list[str]) -> dict[Source, str]:
    """The first node of each source: where somebody copied a node with its source, that is the one that animates."""
    found: dict[Source, str] = {}
    for node in order:
        if (source := source_of(nodes[node])) is not None:
            found.setdefault(source, node)
    return found


def _skins(
    nodes: Mapping[str, Json], shown: Mapping[str, None], by_source: Mapping[Source, str], sources: Sources, warn: Warn
) -> Iterator[tuple[str, tuple[str, int, tuple[str, ...]]]]:
    for node in shown:
        if (skin := _skin_of(nodes[node], sources)) is None:
            continue
        asset, index, instance, numbers = skin
        joints = [by_source.get((asset, number, instance)) for number in numbers]
        present = tuple(joint for joint in joints if joint is not None)
        if len(present) == len(joints):
            yield node, (asset, index, present)
        else:
            lost = len(joints) - len(present)
            warn(f"node {node}: {lost} of the {len(joints)} joints of its skin are gone: exported without the skin")


def _skin_of(node: Json, sources: Sources) -> tuple[str, int, str, list[int]] | None:
    """Asset, skin, instance and joints, when the node came with a skin and still has the mesh that it bends."""
    source = source_of(node)
    mesh = node.get("mesh")
    if source is None or isinstance(mesh, Mapping) or mesh is None or (found := sources.find("nodes", source)) is None:
        return None
    copier, index = found
    origin = copier.file.items("nodes")[index]
    if "skin" not in origin or [origin.get("mesh"), source[0]] != [int(mesh[1]), mesh[0]]:
        return None
    primitives = copier.file.items("meshes")[origin["mesh"]]["primitives"]
    if not all("JOINTS_0" in primitive["attributes"] for primitive in primitives):
        return None
    return source[0], origin["skin"], source[2], copier.file.items("skins")[origin["skin"]]["joints"]


def _bare(tree: Tree, shown: Mapping[str, None], skins: Mapping[str, tuple[str, int, tuple[str, ...]]]) -> set[str]:
    found: set[str] = set()
    for _, _, joints in skins.values():
        for joint in joints:
            above: str | None = joint
            while above is not None and above not in shown and above not in found:
                found.add(above)
                above = tree.parent(above)
    return found

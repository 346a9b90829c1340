"""The effective tree by its rules, from scratch: the trivial model that the incremental one must agree with."""

from __future__ import annotations

from collections.abc import Mapping, Set

from maquette.engine.scene.tree import Place, Tree


def derive(places: Mapping[str, Place]) -> dict[str, str | None]:
    """The effective parent of each node."""
    parents = {node: place.parent if place.parent in places else None for node, place in places.items()}
    for node in sorted(places):
        seen, above = [node], parents[node]
        while above is not None and above not in seen:
            seen.append(above)
            above = parents[above]
        if above == node:  # on a cycle, and the smallest on it: a smaller one would have been cut already
            parents[node] = None
    return parents


def assert_is(tree: Tree, places: Mapping[str, Place], trashed: Set[str] = frozenset()) -> None:
    """Compare everything that `tree` answers with what follows from `places` and `trashed`."""
    parents = derive(places)
    assert {node: tree.parent(node) for node in places} == parents
    for parent in (None, *places):
        expected = sorted((places[node].order, node) for node in places if parents[node] == parent)
        assert tree.children(parent) == [node for _, node in expected]
    assert sorted(tree.walk()) == tree.nodes() == sorted(places)  # acyclic, and no node lost
    assert len(tree) == len(places)
    for node in places:
        ancestors = tree.ancestors(node)
        assert tree.is_hidden(node) == bool(trashed & {node, *ancestors})
        assert [parents[below] for below in (node, *ancestors)] == [*ancestors, None]
    detached = [node for node, place in places.items() if place.parent in places and parents[node] is None]
    assert tree.repairs() == [(node, Place(None, places[node].order)) for node in sorted(detached)]

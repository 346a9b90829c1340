"""Who may write what in a scene, what is refused, and the tree that the server repairs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycrdt import Map, Text
from tests.support import wire
from tests.support.live import Peer, events_of, node, open_document

from maquette.engine.document import Document
from maquette.engine.kinds.kind import plain
from maquette.engine.kinds.scene import COMMENTS, MATERIALS, NODES, SCENE, SETTINGS, SceneMemory
from maquette.engine.roles import Role
from maquette.engine.scene.tree import Tree


async def started() -> tuple[Document, Peer]:
    document = open_document(SCENE)
    ada = Peer("ada", 7).join(document)
    for id_, parent in (("a", None), ("b", "a"), ("c", "b")):
        ada.map(NODES)[id_] = node(parent)
    ada.map(COMMENTS)["k"] = comment("ada")
    await ada.send(document).wait()
    return document, ada


def comment(author: str) -> Map[Any]:
    return Map({"author": author, "node": None, "point": [0, 0, 0], "body": "hm", "at": 1})


def stored(document: Document, root: str = NODES) -> Any:
    return plain(document.replica.shared(root))


def tree(document: Document) -> Tree:
    memory = document.replica.memory
    assert isinstance(memory, SceneMemory)
    return memory.tree


ROLES = (Role.COMMENTER, Role.EDITOR, Role.OWNER)
EDITS: dict[str, tuple[Any, set[Role]]] = {
    "a node": (lambda p: p.map(NODES).__setitem__("z", node()), {Role.EDITOR, Role.OWNER}),
    "a field": (lambda p: p.map(NODES)["a"].__setitem__("name", "x"), {Role.EDITOR, Role.OWNER}),
    "a setting": (lambda p: p.map(SETTINGS).__setitem__("exposure", 1.5), {Role.EDITOR, Role.OWNER}),
    "a material": (lambda p: p.map(MATERIALS).__setitem__("m", Map({})), {Role.EDITOR, Role.OWNER}),
    "a comment": (lambda p: p.map(COMMENTS).__setitem__("z", comment("ben")), set(ROLES)),
    "a comment for another": (lambda p: p.map(COMMENTS).__setitem__("z", comment("ada")), set()),
    "another's comment": (lambda p: p.map(COMMENTS)["k"].__setitem__("body", "x"), set()),
    "a comment resolved": (lambda p: p.map(COMMENTS)["k"].__setitem__("resolved", True), set(ROLES)),
    "another's node removed": (lambda p: p.map(NODES).__delitem__("c"), {Role.OWNER}),
    "another's comment removed": (lambda p: p.map(COMMENTS).__delitem__("k"), {Role.OWNER}),
    "a node trashed": (
        lambda p: p.map(NODES)["a"].__setitem__("trashed", {"by": "ben", "at": 1}), {Role.EDITOR, Role.OWNER}
    ),
    "a node trashed for another": (
        lambda p: p.map(NODES)["a"].__setitem__("trashed", {"by": "ada", "at": 1}), set()
    ),
}  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("edit", EDITS)
async def test_g3_who_may_change_what_of_a_scene(edit: str, role: Role) -> None:
    document, _ = await started()
    ben = Peer("ben", 20, role).join(document)
    change, allowed = EDITS[edit]
    change(ben)
    done = await ben.send(document).wait()
    assert (done.refused == ()) == (role in allowed)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("place", ["a", "V"], "another"),
        ("place", ["nobody", "V"], "expected an existing parent"),
        ("place", ["b"], "expected"),
        ("translation", [0, 0, float("nan")], "expected a finite number"),
        ("translation", [0] * 100_000, "expected"),
        ("rotation", [0, 0, 0, 2], "expected a quaternion of length 1"),
        ("scale", None, "expected"),
        ("name", b"bytes", "expected a string"),
        ("extras", {"x": float("inf")}, "expected"),
        ("__class__", "x", "expected one of the fields"),
        ("slots", {"0": "m"}, "expected a shared map"),
        ("extras", Text("x"), "expected plain values"),
        ("trashed", Map({"by": "ada", "at": 1}), "expected plain values"),
    ],
)
async def test_g1_a_field_that_does_not_fit_is_refused(field: str, value: Any, expected: str) -> None:
    document, ada = await started()
    before = stored(document)
    ada.map(NODES)["a"][field] = value
    done = await ada.send(document).wait()
    assert (done.denied, len(done.refused)) == (None, 1)
    assert expected in done.refused[0]
    assert stored(document) == before


async def test_a_setting_is_never_a_type() -> None:
    document, ada = await started()
    ada.map(SETTINGS)["extras"] = Map({})
    assert "expected plain values" in (await ada.send(document).wait()).refused[0]


async def test_who_made_a_node_takes_it_out_again() -> None:
    document, ada = await started()
    del ada.map(NODES)["c"]
    assert (await ada.send(document).wait()).refused == ()
    assert sorted(stored(document)) == ["a", "b"]


@pytest.mark.parametrize("quiet", [wire.deleted(1, right=None, origin=(7, 0)), wire.plain(wire.ONE, origin=(7, 0))])
async def test_a_node_is_not_removed_by_what_merely_lies_over_it(quiet: bytes) -> None:
    """No deletion says so: an item behind the node's own at its key ends it all the same."""
    document, _ = await started()
    before = stored(document)
    assert document.replica.index.path((7, 0)) == (NODES, "a")
    for deletes in ({}, {9: [(0, 1)]}):
        mallory = Peer("mallory", 9)
        done = await mallory.submit(document, wire.update(wire.group(9, 0, quiet), deletes=deletes)).wait()
        assert stored(document) == before
        assert done.denied or done.refused or deletes
    assert [event.type for event in await events_of(document)][1:] == ["document.refused"]


async def test_a_cycle_that_concurrent_moves_close_is_repaired_by_the_server() -> None:
    document, ada = await started()
    ben = Peer("ben", 8).join(document)
    ada.map(NODES)["a2"] = node()
    await ada.send(document).wait()
    ada.map(NODES)["a"]["place"] = ["a2", "V"]
    ben.map(NODES)["a2"]["place"] = ["c", "V"]
    for peer in (ada, ben):
        assert (await peer.submit(document, peer.made[-1]).wait()).refused == ()
    [*_, cause, repair] = await events_of(document)
    assert (repair.actor.id, [change["type"] for change in repair.data["changes"]]) == ("server", ["node.moved"])
    assert repair.cause == cause.id
    assert not tree(document).has_cycles
    ada.hear(document.replica.diff(ada.doc.get_state()))
    assert plain(ada.map(NODES)) == stored(document)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 5), st.booleans()), max_size=14))
async def test_the_tree_in_memory_is_that_of_the_places(turns: list[tuple[int, int, int, bool]]) -> None:
    document = open_document(SCENE)
    peers = [Peer(name, client, Role.OWNER).join(document) for name, client in (("a", 3), ("b", 99), ("c", 2**31))]
    for peer in peers:
        document.subscribers.discard(peer)
    for who, id_, parent, late in turns:
        nodes = peers[who].map(NODES)
        name, above = f"n{id_}", f"n{parent}" if f"n{parent}" in nodes and parent != id_ else None
        if name not in nodes:
            nodes[name] = node(above)
        elif parent == id_:
            del nodes[name]
        elif parent == 5:
            nodes[name]["trashed"] = {"by": peers[who].actor.id, "at": 1}
        else:
            nodes[name]["place"] = [above, "V"]
        if not late:
            assert (await peers[who].send(document).wait()).denied is None
            peers[who].hear(document.replica.diff(peers[who].doc.get_state()))
    for peer in peers:
        await peer.send(document).wait()
    fresh = Tree()
    for id_, fields in stored(document).items():
        fresh.place(id_, *fields["place"])
        if "trashed" in fields:
            fresh.trash(id_)
    kept = tree(document)
    assert sorted(kept.nodes()) == sorted(fresh.nodes())
    assert kept.flat() == fresh.flat()
    assert [kept.is_trashed(id_) for id_ in fresh.nodes()] == [fresh.is_trashed(id_) for id_ in fresh.nodes()]
    assert not kept.has_cycles

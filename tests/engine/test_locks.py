"""Locks on nodes in live documents: what replicas show after a race, what a replay and a snapshot remember."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
from pycrdt import Map
from tests.engine.test_gate import PlacedRoles
from tests.support.live import Peer, assert_same, node, open_document, replayed

from maquette.engine.document import Document
from maquette.engine.kinds.kind import plain
from maquette.engine.kinds.scene import NODES, SCENE, SceneMemory, remembered
from maquette.engine.roles import Role
from maquette.engine.snapshots import SnapshotStore


async def started() -> tuple[Document, Peer, Peer]:
    """Nodes a > b > c, of ada; ben is there, too."""
    document = open_document(SCENE)
    ada, ben = Peer("ada", 7).join(document), Peer("ben", 8).join(document)
    for id_, parent in (("a", None), ("b", "a"), ("c", "b")):
        ada.map(NODES)[id_] = node(parent)
    await ada.send(document).wait()
    return document, ada, ben


async def lock(document: Document, peer: Peer, id_: str, value: bool = True) -> tuple[str, ...]:
    peer.map(NODES)[id_]["locked"] = value
    return (await peer.send(document).wait()).refused


def stored(document: Document) -> Any:
    return plain(document.replica.shared(NODES))


def locker(document: Document, id_: str) -> str | None:
    memory = document.replica.memory
    assert isinstance(memory, SceneMemory)
    return memory.locks.get(id_)


async def test_g5_b_an_edit_that_a_lock_overtook_is_reversed_everywhere() -> None:
    document, ada, ben = await started()
    ben.made.clear()
    ben.map(NODES)["b"]["name"] = "late"
    assert await lock(document, ada, "b") == ()
    done = await ben.submit(document, ben.made[-1]).wait()
    assert "expected it to be unlocked first, by 'ada'" in done.refused[0]
    assert stored(document)["b"]["name"] == "n"
    assert plain(ada.map(NODES)) == plain(ben.map(NODES)) == stored(document)
    assert_same(await replayed(document), document.replica)


async def test_g3_an_edit_that_came_before_a_lock_stays() -> None:
    document, ada, ben = await started()
    ada.made.clear()
    ada.map(NODES)["b"]["locked"] = True
    ben.map(NODES)["b"]["name"] = "first"
    assert (await ben.send(document).wait()).refused == ()
    assert (await ada.submit(document, ada.made[-1]).wait()).refused == ()
    assert (stored(document)["b"]["name"], stored(document)["b"]["locked"]) == ("first", True)


async def test_g5_b_who_may_not_unlock_finds_it_locked_by_who_did() -> None:
    document, ada, ben = await started()
    await lock(document, ada, "b")
    assert "expected its lock to be changed by 'ada'" in (await lock(document, ben, "b", False))[0]
    assert stored(document)["b"]["locked"] is True
    assert locker(document, "b") == "ada"
    assert plain(ben.map(NODES)) == stored(document)
    assert await lock(document, ada, "b", False) == ()
    assert await lock(document, ben, "b") == ()
    assert locker(document, "b") == "ben"


async def test_g3_two_who_lock_at_once_share_no_lock() -> None:
    document, ada, ben = await started()
    ben.made.clear()
    ben.map(NODES)["b"]["locked"] = True
    await lock(document, ada, "b")
    assert (await ben.submit(document, ben.made[-1]).wait()).refused != ()
    assert (stored(document)["b"]["locked"], locker(document, "b")) == (True, "ada")
    assert plain(ben.map(NODES)) == plain(ada.map(NODES)) == stored(document)


async def test_g3_an_op_that_unlocks_may_change_too_and_lock_again() -> None:
    document, ada, ben = await started()
    await lock(document, ada, "b")
    for value in (False, True):
        ada.map(NODES)["b"]["locked"] = False
        ada.map(NODES)["b"]["name"] = f"changed {value}"
        ada.map(NODES)["b"]["locked"] = value
        assert (await ada.send(document).wait()).refused == ()
        await lock(document, ada, "b")
    ben.map(NODES)["b"]["locked"] = False
    ben.map(NODES)["b"]["name"] = "by another"
    assert len((await ben.send(document).wait()).refused) == 2
    assert stored(document)["b"]["name"] == "changed True"


async def test_g3_a_lock_holds_the_slots_of_its_node() -> None:
    document, ada, ben = await started()
    ada.map(NODES)["m"] = node(type="mesh", slots={"0": "x"}, locked=True)
    await ada.send(document).wait()
    ben.map(NODES)["m"]["slots"]["0"] = "y"
    assert len((await ben.send(document).wait()).refused) == 1
    assert stored(document)["m"]["slots"] == {"0": "x"} == plain(ben.map(NODES)["m"]["slots"])


async def test_g5_b_a_locked_node_survives_the_trashing_and_removal_of_all_above_it() -> None:
    document, ada, ben = await started()
    await lock(document, ada, "c")
    before = stored(document)
    for id_ in ("a", "b", "c"):
        ben.map(NODES)[id_]["trashed"] = {"by": "ben", "at": 1}
    assert len((await ben.send(document).wait()).refused) == 3
    for id_ in ("a", "b", "c"):
        del ada.map(NODES)[id_]
    assert len((await ada.send(document).wait()).refused) == 3
    assert before == stored(document) == plain(ada.map(NODES)) == plain(ben.map(NODES))


async def test_g3_what_is_above_a_locked_node_moves_but_not_into_the_trash() -> None:
    document, ada, ben = await started()
    for id_ in ("bin", "shelf"):
        ben.map(NODES)[id_] = node()
    ben.map(NODES)["bin"]["trashed"] = {"by": "ben", "at": 1}
    await ben.send(document).wait()
    await lock(document, ada, "c")
    ben.map(NODES)["b"]["place"] = ["bin", "V"]
    assert len((await ben.send(document).wait()).refused) == 1
    ben.map(NODES)["b"]["place"] = ["shelf", "V"]
    assert (await ben.send(document).wait()).refused == ()
    ben.map(NODES)["shelf"]["trashed"] = {"by": "ben", "at": 1}
    assert len((await ben.send(document).wait()).refused) == 1  # the lock has gone with it
    ben.map(NODES)["a"]["trashed"] = {"by": "ben", "at": 1}
    assert (await ben.send(document).wait()).refused == ()


async def test_g3_a_removed_node_leaves_no_lock_to_the_next_of_its_id() -> None:
    document, ada, ben = await started()
    await lock(document, ada, "c")
    await lock(document, ada, "c", False)
    del ada.map(NODES)["c"]
    assert (await ada.send(document).wait()).refused == ()
    ben.map(NODES)["c"] = node()
    await ben.send(document).wait()
    ben.map(NODES)["c"]["name"] = "mine"
    assert (await ben.send(document).wait()).refused == ()


async def test_g3_locks_are_the_same_after_a_replay_and_out_of_a_snapshot(tmp_path: Path) -> None:
    document, ada, ben = await started()
    await lock(document, ada, "c")
    await lock(document, ben, "b")
    await lock(document, ben, "b", False)
    await lock(document, ben, "c", False)  # refused: the server writes the lock again, and it stays ada's
    rebuilt = (await replayed(document)).memory
    memory = document.replica.memory
    stored_memory = remembered(msgpack.unpackb(msgpack.packb(memory.to_plain())))
    SnapshotStore(tmp_path).save(document.stream, document.replica)
    SnapshotStore(tmp_path).accept(document.stream)
    loaded = SnapshotStore(tmp_path).load(document.stream, SCENE, 1, document.replica.revision).memory
    for one in (memory, rebuilt, stored_memory, loaded):
        assert isinstance(one, SceneMemory)
        assert one.locks.to_plain() == {"c": "ada"}
        assert one.locks.above() == {"a", "b"}


async def test_g3_a_guest_edits_the_subtree_that_is_theirs_through_the_whole_gate() -> None:
    document, _, _ = await started()
    guest = Peer("guest", 20).join(document)
    guest.map(NODES)["c"]["name"] = "mine"
    guest.map(NODES)["d"] = node("c")
    guest.map(NODES)["e"] = node("d")  # below a node of the same op
    guest.map(NODES)["a"]["name"] = "not mine"
    guest.map(NODES)["f"] = node()
    update = guest.doc.get_update(document.replica.state_vector())
    roles = PlacedRoles(Role.VIEWER, {"b": Role.EDITOR})
    done = await document.submit(guest.actor, lambda: roles, update, 20).wait()
    assert (done.denied, done.refused) == (None, ("node: expected a role of editor or above, got viewer ('guest')",))
    after = stored(document)
    assert (sorted(after), after["c"]["name"], after["a"]["name"]) == (["a", "b", "c", "d", "e"], "mine", "n")


async def test_a_scene_of_locked_nodes_comes_in_and_stays_whole() -> None:
    document, ada, ben = await started()
    for number in range(50):
        ada.map(NODES)[f"n{number}"] = node("c" if number == 0 else f"n{number - 1}", locked=True)
    assert (await ada.send(document).wait()).refused == ()
    ben.map(NODES)["n49"]["name"] = "x"
    ben.map(NODES)["x"] = Map({})
    assert len((await ben.send(document).wait()).refused) == 2

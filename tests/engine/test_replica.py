"""Refusals that every replica survives (G5 b), and changes that tell what happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycrdt import Map, UndoManager
from tests.support.edits import CHAT_BADS, CHAT_GOODS, SCENE_BADS, SCENE_GOODS, SECRET, Bad, find
from tests.support.live import (
    Peer,
    assert_nothing_pending,
    assert_same,
    blank_state,
    events_of,
    fold,
    message,
    node,
    open_document,
    replayed,
    state_of,
)

from maquette.engine.document import Document
from maquette.engine.kinds.chat import CHAT, SEPARATOR
from maquette.engine.kinds.scene import COMMENTS, MATERIALS, NODES, SCENE, SETTINGS
from maquette.engine.reversal import MAX_RESTORED
from maquette.engine.roles import Role
from maquette.engine.sync import read_state_vector


async def scene() -> tuple[Document, Peer, Peer, Peer]:
    """A scene with two nodes of ada's; ben edits, cy watches."""
    document = open_document(SCENE)
    ada, ben, cy = (
        Peer(name, client).join(document) for name, client in (("ada", 50), ("ben", 3_000_000_000), ("cy", 900))
    )
    ada.map(NODES)["a"] = node(slots={"0": "m"})
    ada.map(NODES)["b"] = node("a")
    ada.map(MATERIALS)["m"] = Map({"metallic": 0.5})
    await ada.send(document).wait()
    return document, ada, ben, cy


async def chat() -> tuple[Document, Peer, Peer, Peer]:
    """A chat with two messages of ada's; ben takes part, cy watches."""
    document = open_document(CHAT)
    ada, ben, cy = (
        Peer(name, client, Role.COMMENTER).join(document)
        for name, client in (("ada", 50), ("ben", 3_000_000_000), ("cy", 900))
    )
    ada.messages.append(message("one", "ada"))
    ada.messages.append(message("two", "ada", reactions=Map({f"👍{SEPARATOR}ada": True})))
    await ada.send(document).wait()
    return document, ada, ben, cy


async def converge(document: Document, *peers: Peer) -> Any:
    """Everybody, a newcomer and a replay of the log show the same; the state that they show."""
    await document.drained()
    newcomer = Peer("newcomer", 123).join(document)
    kind = document.replica.kind
    shown = state_of(document.replica.doc, kind)
    for peer in (*peers, newcomer):
        assert state_of(peer.doc, kind) == shown
        assert read_state_vector(peer.doc.get_state()) == read_state_vector(document.replica.state_vector())
    assert_nothing_pending(document.replica)
    assert_same(document.replica, await replayed(document))
    return shown


async def last_event(document: Document) -> Any:
    return (await events_of(document))[-1]


@pytest.mark.parametrize("bad", SCENE_BADS)
async def test_g5_b_scene_replicas_survive_a_refusal(bad: str) -> None:
    document, ada, ben, cy = await scene()
    before = await converge(document, ada, ben, cy)
    changes: list[Any] = []
    SCENE_BADS[bad](ben)
    done = await ben.send(document).wait()
    assert (done.denied, len(done.refused)) == (None, 1)
    assert "expected" in done.refused[0]
    event = await last_event(document)
    assert (event.type, event.actor.id, event.data["changes"]) == ("document.refused", "ben", changes)
    assert SECRET.encode() not in repr(event.data).encode()
    assert await converge(document, ada, ben, cy) == before
    ben.map(NODES)["a"]["name"] = "later"
    ben.map(NODES)["c"] = node("a", "W")
    assert (await ben.send(document).wait()).refused == ()
    after = await converge(document, ada, ben, cy)
    assert (after[NODES]["a"]["name"], "c" in after[NODES]) == ("later", True)


@pytest.mark.parametrize("bad", CHAT_BADS)
async def test_g5_b_chat_replicas_survive_a_refusal(bad: str) -> None:
    document, ada, ben, cy = await chat()
    before = await converge(document, ada, ben, cy)
    CHAT_BADS[bad](ben)
    done = await ben.send(document).wait()
    assert done.denied is None
    assert done.refused
    event = await last_event(document)
    assert (event.type, event.data["changes"]) == ("document.refused", [])
    assert SECRET.encode() not in repr(event.data).encode()
    assert await converge(document, ada, ben, cy) == before
    ben.messages.append(message("later", "ben"))
    find(ben, "one")["reactions"][f"👍{SEPARATOR}ben"] = True
    assert (await ben.send(document).wait()).refused == ()
    after = await converge(document, ada, ben, cy)
    assert list(after["one"]["reactions"]) == [f"👍{SEPARATOR}ben"]
    assert after["later"]["body"] == "hello"


@pytest.mark.parametrize("kind", [SCENE, CHAT])
async def test_g5_b_undo_and_redo_after_a_refusal_keep_everybody_together(kind: Any) -> None:
    bads = SCENE_BADS if kind is SCENE else CHAT_BADS
    for name, bad in bads.items():
        document, ada, ben, cy = await (scene() if kind is SCENE else chat())
        roots = [ben.map(root) for root in (NODES, MATERIALS, COMMENTS, SETTINGS)] if kind is SCENE else [ben.messages]
        undo = UndoManager(scopes=list(roots), capture_timeout_millis=0)
        bad(ben)
        await ben.send(document).wait()
        for step in (undo.undo, undo.redo, undo.undo):
            step()
            done = await ben.send(document).wait()
            assert done.denied is None, name
        await converge(document, ada, ben, cy)


async def test_g5_b_good_and_bad_edits_of_one_op_are_told_apart() -> None:
    document, ada, ben, cy = await scene()
    nodes = ben.map(NODES)
    nodes["a"]["name"] = "good"
    nodes["a"]["colour"] = SECRET
    nodes["new"] = node("a")
    nodes["worse"] = Map({"name": SECRET})
    del nodes["b"]
    nodes["a"]["visible"] = False
    done = await ben.send(document).wait()
    assert len(done.refused) == 3
    after = await converge(document, ada, ben, cy)
    assert sorted(after[NODES]) == ["a", "b", "new"]
    assert (after[NODES]["a"]["name"], after[NODES]["a"]["visible"]) == ("good", False)
    assert SECRET not in repr((await last_event(document)).data)


async def test_g5_b_an_edit_inside_what_was_refused_is_blanked_too() -> None:
    document, ada, ben, cy = await scene()
    ben.map(NODES)["z"] = Map({"name": SECRET})
    ben.made, made = [], ben.made
    ben.map(NODES)["z"]["more"] = SECRET
    inside = ben.made[-1]
    await ben.submit(document, made[-1]).wait()
    done = await ben.submit(document, inside).wait()
    assert done.denied is None
    for event in await events_of(document):
        assert SECRET not in repr(event.data)
    await converge(document, ada, ben, cy)


async def test_g5_b_a_refused_overwrite_keeps_what_a_third_person_set_meanwhile() -> None:
    for client in (1, 4_100_000_000):  # on either side of the race
        document, ada, ben, _ = await scene()
        dora = Peer("dora", client).join(document)
        dora.map(NODES)["a"]["name"] = SECRET * 30  # too long
        ada.map(NODES)["a"]["name"] = "meanwhile"
        await ada.send(document).wait()
        assert (await dora.submit(document, dora.made[-1]).wait()).refused
        after = await converge(document, ada, ben, dora)
        assert after[NODES]["a"]["name"] == "meanwhile"


async def test_g5_b_content_that_nobody_can_see_is_judged_by_nobody_and_blanked() -> None:
    document, ada, ben, cy = await scene()
    ben.map(NODES)["hidden"] = Map({"name": SECRET})
    first = ben.made[-1]
    del ben.map(NODES)["hidden"]
    both = Peer("ben", 77)
    both.hear(first)
    assert SECRET.encode() in first
    done = await ben.send(document).wait()
    assert (done.denied, done.refused) == (None, ())
    for event in await events_of(document):
        assert SECRET.encode() not in event.data["update"]
    await converge(document, ada, ben, cy)


async def test_g5_an_op_that_would_make_the_server_write_without_end_is_denied() -> None:
    document, ada, ben, _ = await scene()
    for number in range(MAX_RESTORED + 1):
        ada.map(MATERIALS)[f"m{number}"] = Map({"metallic": 0.5})
    await ada.send(document).wait()
    for number in range(MAX_RESTORED + 1):
        del ben.map(MATERIALS)[f"m{number}"]
    done = await ben.send(document).wait()
    assert done.denied == f"expected an op with at most {MAX_RESTORED} edits that have to be undone, got more"
    assert len(document.replica.shared(MATERIALS)) == MAX_RESTORED + 2


async def test_g5_b_a_record_hidden_behind_a_refused_one_at_its_key_tells_nothing_and_leaves_the_key_free() -> None:
    document = open_document(SCENE)
    ada, cy = Peer("ada", 40).join(document), Peer("cy", 10).join(document)
    ada.map(NODES)["a"] = Map({"name": SECRET})  # refused; its blank form still is the last at the key
    cy.map(NODES)["a"] = node()
    assert (await ada.send(document).wait()).refused
    assert (await cy.send(document).wait()).denied is None
    assert [event.data["changes"] for event in await events_of(document)] == [[], []]
    again = Peer("cy", 11).join(document)
    again.map(NODES)["a"] = node()
    assert (await again.send(document).wait()).refused == ()
    assert (await converge(document, ada, cy, again))[NODES].keys() == {"a"}


# --- random histories --------------------------------------------------------------------------------------------


Step = tuple[int, bool, list[tuple[int, int, str]]]
"""Who, whether it stays offline for now, and what it does: good or bad (0), which one, on which id."""
ACTIONS = st.tuples(st.integers(0, 3), st.integers(0, 99), st.sampled_from("ab"))
HISTORIES = st.lists(
    st.tuples(st.integers(0, 5), st.booleans(), st.lists(ACTIONS, min_size=1, max_size=3)), min_size=1, max_size=14
)


async def play(kind: Any, history: list[Step], goods: list[Callable[[Peer, str], None]], bads: dict[str, Bad]) -> None:
    document = open_document(kind)
    roles = (("ada", 40, Role.OWNER), ("ben", 4_100_000_000, Role.EDITOR), ("cy", 9, Role.EDITOR))
    online = [Peer(name, client, role).join(document) for name, client, role in roles]
    late = [Peer(name, client + 1, role) for name, client, role in roles]
    model = blank_state(kind)
    told = 0
    for number, (who, offline, actions) in enumerate(history):
        peer = [*online, *late][who]
        for bad, which, id_ in actions:
            try:
                if bad == 0:
                    list(bads.values())[which % len(bads)](peer)
                else:
                    goods[which % len(goods)](peer, f"{id_}{number}" if kind is CHAT else id_)
            except (KeyError, IndexError, StopIteration, TypeError, AttributeError, RuntimeError):
                pass  # nothing there to edit
        if peer in late and offline:
            continue  # it sends all at once when it comes back
        told = await exchange(document, peer, model, told)
    for peer in late:
        told = await exchange(document, peer, model, told)
    for peer in late:
        peer.hear(document.replica.diff(peer.doc.get_state()))
    await converge(document, *online, *late)


async def exchange(document: Document, peer: Peer, model: Any, told: int) -> int:
    """A peer sends and hears; the changes of the new events, folded into the model, make the replica's state."""
    done = await peer.send(document).wait()
    assert (done.denied, done.hole) == (None, None)
    peer.hear(document.replica.diff(peer.doc.get_state()))
    events = await events_of(document)
    for event in events[told:]:
        for change in event.data["changes"]:
            fold(model, document.replica.kind, change)
    assert model == state_of(document.replica.doc, document.replica.kind)
    return len(events)


QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(HISTORIES)
async def test_any_history_of_a_scene_converges_and_its_changes_fold_to_it(history: list[Step]) -> None:
    await play(SCENE, history, SCENE_GOODS, SCENE_BADS)


@QUICK
@given(HISTORIES)
async def test_any_history_of_a_chat_converges_and_its_changes_fold_to_it(history: list[Step]) -> None:
    await play(CHAT, history, CHAT_GOODS, CHAT_BADS)

"""Refusals seen by real Yjs: the sender's stock client converges, and its later edits count (G5 b)."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support import node as nodejs
from tests.support.live import (
    Peer,
    assert_nothing_pending,
    assert_same,
    events_of,
    message,
    node,
    open_document,
    replayed,
)

from maquette.engine.document import Document
from maquette.engine.kinds.chat import CHAT, MESSAGES, SEPARATOR
from maquette.engine.kinds.kind import plain
from maquette.engine.kinds.scene import COMMENTS, MATERIALS, NODES, SCENE, SETTINGS
from maquette.engine.roles import Role

SECRET = "qxzsecretzxq"
ROOTS = {SCENE.name: (NODES, MATERIALS, COMMENTS, SETTINGS), CHAT.name: (MESSAGES,)}


class YjsPeer:
    """A replica in Node, who sends by hand."""

    def __init__(self, dialogue: nodejs.Dialogue, actor: Peer) -> None:
        self.dialogue = dialogue
        self.actor = actor
        self.dialogue.ask({"client": actor.client})

    def hear(self, document: Document) -> None:
        self.dialogue.ask({"hear": b64encode(document.replica.diff(b"\0")).decode()})

    def do(self, *edits: list[Any]) -> None:
        self.dialogue.ask({"do": edits})

    async def send(self, document: Document) -> Any:
        update = self.dialogue.ask({"send": b64encode(document.replica.state_vector()).decode()})
        done = await self.actor.submit(document, b64decode(update)).wait()
        self.hear(document)
        assert (done.denied, done.hole) == (None, None)
        return done

    def state(self, kind: Any) -> Any:
        state = self.dialogue.ask({"state": True})
        return {root: state[root] for root in ROOTS[kind.name]}


@pytest.fixture
def yjs() -> Iterator[nodejs.Dialogue]:
    with nodejs.talk("refusals.mjs") as dialogue:
        yield dialogue


async def started(kind: Any, yjs: nodejs.Dialogue, client: int) -> tuple[Document, Peer, YjsPeer]:
    document = open_document(kind)
    ada = Peer("ada", 50).join(document)
    if kind is SCENE:
        ada.map(NODES)["a"] = node(slots={"0": "m"})
        ada.map(NODES)["b"] = node("a")
    else:
        ada.messages.append(message("one", "ada"))
        ada.messages.append(message("two", "ada"))
    await ada.send(document).wait()
    ben = YjsPeer(yjs, Peer("ben", client, Role.EDITOR))
    ben.hear(document)
    return document, ada, ben


async def converge(document: Document, ada: Peer, ben: YjsPeer) -> Any:
    kind = document.replica.kind
    ben.hear(document)
    shown = {root: plain(document.replica.shared(root)) for root in ROOTS[kind.name]}
    assert ben.state(kind) == shown
    assert {root: plain(ada.doc.get(root, type=type_)) for root, type_ in (kind.roots or {}).items()} == shown
    assert_nothing_pending(document.replica)
    assert_same(document.replica, await replayed(document))
    for event in await events_of(document):
        assert SECRET not in repr(event.data)
    return shown


A, B = [NODES, "a"], [NODES, "b"]
ONE = [MESSAGES, 0]
POST = {"id": "x", "author": "ben", "body": "hello", "sent": 5, "reactions": {"$map": {}}}
BADS: dict[str, tuple[Any, list[list[Any]]]] = {
    "scene: an overwrite": (SCENE, [["set", A, "translation", SECRET]]),
    "scene: an insertion": (SCENE, [["map", [NODES], "z", {"name": SECRET}]]),
    "scene: nested types": (SCENE, [["map", [NODES], "z", {"x": {"$map": {"y": {"$map": {"z": SECRET}}}}}]]),
    "scene: a type for a value": (SCENE, [["text", A, "name", SECRET]]),
    "scene: slots overwritten by a value": (SCENE, [["set", A, "slots", SECRET]]),
    "scene: a deletion": (SCENE, [["unset", [NODES], "a"]]),
    "scene: a field deleted": (SCENE, [["unset", A, "place"]]),
    "scene: a record overwritten": (SCENE, [["map", [NODES], "a", {"name": SECRET}]]),
    "scene: several": (
        SCENE,
        [["set", A, "scale", [SECRET]], ["unset", [NODES], "b"], ["set", [SETTINGS], "exposure", SECRET]],
    ),
    "chat: an overwrite": (CHAT, [["set", ONE, "body", SECRET]]),
    "chat: an id overwritten": (CHAT, [["set", ONE, "id", SECRET]]),
    "chat: an insertion": (CHAT, [["insert", [MESSAGES], 1, {**POST, "author": "ada", "body": SECRET}]]),
    "chat: a value": (CHAT, [["value", [MESSAGES], 1, SECRET]]),
    "chat: a deletion": (CHAT, [["remove", [MESSAGES], 0, 1]]),
    "chat: all deleted": (CHAT, [["remove", [MESSAGES], 0, 2]]),
    "chat: nested types": (CHAT, [["insert", [MESSAGES], 0, {**POST, "thread": {"$map": {"x": SECRET}}}]]),
    "chat: several": (CHAT, [["set", ONE, "body", SECRET], ["remove", [MESSAGES], 1, 1], ["unset", ONE, "sent"]]),
}


@pytest.mark.parametrize("client", [5, 4_000_000_123])
@pytest.mark.parametrize("bad", BADS)
async def test_g5_b_a_stock_yjs_client_survives_a_refusal(bad: str, client: int, yjs: nodejs.Dialogue) -> None:
    kind, edits = BADS[bad]
    document, ada, ben = await started(kind, yjs, client)
    before = await converge(document, ada, ben)
    ben.do(*edits)
    assert (await ben.send(document)).refused
    assert await converge(document, ada, ben) == before
    for step in ("undo", "redo", "undo"):
        yjs.ask({"undo": step})
        await ben.send(document)
    await converge(document, ada, ben)
    if kind is SCENE:
        ben.do(["set", A, "name", "later"])
    else:
        ben.do(["insert", [MESSAGES], 2, {**POST, "id": "later"}])
    assert (await ben.send(document)).refused == ()
    assert "later" in repr(await converge(document, ada, ben))


async def test_g5_b_good_and_bad_edits_made_offline_are_told_apart(yjs: nodejs.Dialogue) -> None:
    document, ada, ben = await started(SCENE, yjs, 5)
    ben.do(["set", A, "name", "good"], ["set", A, "colour", SECRET])
    ben.do(["set", A, "colour", SECRET], ["set", B, "visible", False])
    ben.do(["unset", [NODES], "b"])
    ben.do(["map", [NODES], "z", {"name": SECRET}], ["set", [SETTINGS], "exposure", 2])
    ada.map(NODES)["a"]["weights"] = [0.5]
    await ada.send(document).wait()
    assert len((await ben.send(document)).refused) == 3
    after = await converge(document, ada, ben)
    assert sorted(after[NODES]) == ["a", "b"]
    assert (after[NODES]["a"]["name"], after[NODES]["a"]["weights"], after[SETTINGS]) == (
        "good",
        [0.5],
        {"exposure": 2},
    )


async def test_a_message_that_is_taken_back_and_brought_again_gets_another_stamp(yjs: nodejs.Dialogue) -> None:
    document, ada, ben = await started(CHAT, yjs, 5)
    ben.do(["insert", [MESSAGES], 2, POST])
    await ben.send(document)
    yjs.ask({"undo": "undo"})
    assert (await ben.send(document)).refused == ()
    assert len((await converge(document, ada, ben))[MESSAGES]) == 2
    yjs.ask({"undo": "redo"})
    assert (await ben.send(document)).refused == ()
    again = (await converge(document, ada, ben))[MESSAGES][2]
    assert (again["id"], again["stamp"][0]) == ("x", 4)


async def test_reactions_by_yjs_are_told(yjs: nodejs.Dialogue) -> None:
    document, ada, ben = await started(CHAT, yjs, 5)
    ben.do(["set", [*ONE, "reactions"], f"👍{SEPARATOR}ben", True])
    await ben.send(document)
    [*_, event] = await events_of(document)
    assert event.data["changes"] == [{"type": "reaction.added", "id": "one", "emoji": "👍", "actor": "ben"}]
    await converge(document, ada, ben)


async def test_g5_b_a_stock_client_that_a_lock_overtook_converges_and_may_edit_after_it(yjs: nodejs.Dialogue) -> None:
    document, ada, ben = await started(SCENE, yjs, 5)
    ben.do(["set", A, "name", "late"], ["set", A, "trashed", {"by": ben.actor.actor.id, "at": 1}])
    ada.map(NODES)["a"]["locked"] = True
    await ada.send(document).wait()
    assert len((await ben.send(document)).refused) == 2
    assert (await converge(document, ada, ben))[NODES]["a"]["locked"] is True
    ada.map(NODES)["a"]["locked"] = False
    await ada.send(document).wait()
    ben.hear(document)
    ben.do(["set", A, "name", "in time"])
    assert (await ben.send(document)).refused == ()
    assert (await converge(document, ada, ben))[NODES]["a"]["name"] == "in time"

"""The projections over the log of a real engine: what the documents hold is what the views show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pycrdt
import pytest
from tests.support.live import Peer
from tests.support.projections import dump

from maquette.engine.engine import Engine
from maquette.engine.events import Actor
from maquette.engine.kinds.scene import SceneMemory
from maquette.engine.roles import Role
from maquette.engine.scene.tree import Tree
from maquette.engine.space import Space
from maquette.engine.writers.chat import ChatWriter
from maquette.engine.writers.scene import SceneWriter
from maquette.projections.chat_history import ChatHistory
from maquette.projections.chat_reads import ChatReads
from maquette.projections.runner import Runner
from maquette.projections.scene_graph import SceneGraph
from maquette.projections.scene_reads import SceneReads

ANN = Actor("ann4567890")
NOW = 1_700_000_000_000


async def talk(space: Space, line: Any) -> Any:
    """Let `line` write as Ann into the chat."""
    return (await space.write("chat", ANN, Role.OWNER, lambda doc: line(ChatWriter(doc, ANN.id, lambda: NOW))))[0]


async def build(space: Space, step: Any) -> Any:
    """Let `step` write as Ann into the scene."""
    document = await space.open("scene")
    memory = document.replica.memory
    assert isinstance(memory, SceneMemory)

    def edit(doc: pycrdt.Doc[Any]) -> Any:
        return step(SceneWriter(doc, memory.tree, ANN.id, lambda: NOW))

    return (await space.write("scene", ANN, Role.OWNER, edit))[0]


async def a_session(space: Space) -> None:
    """A little of everything."""
    await space.name_profile(ANN, ANN.id, "Ann")
    first = await talk(space, lambda chat: chat.post("hello", mentions=[ANN.id]))
    await talk(space, lambda chat: chat.edit(first, "hello all"))
    await talk(space, lambda chat: chat.react(first, "👍"))
    gone = await talk(space, lambda chat: chat.post("secret"))
    await talk(space, lambda chat: chat.delete(gone))
    table = await build(space, lambda scene: scene.add("group", "Table", translation=[1, 0, 0]))
    lamp = await build(space, lambda scene: scene.add("group", "Lamp", parent=table, translation=[0, 2, 0]))
    await build(space, lambda scene: scene.change(lamp, scale=[2, 2, 2]))
    await build(space, lambda scene: scene.move(lamp))
    await build(space, lambda scene: scene.move(table, lamp))
    await build(space, lambda scene: scene.trash(table))
    await build(space, lambda scene: scene.comment("too bright", (0, 2, 0), node=lamp))
    await build(space, lambda scene: scene.set(exposure=2))


@pytest.mark.smoke
async def test_v2_the_views_show_what_the_documents_hold_live_and_rebuilt(tmp_path: Path) -> None:
    async with await Engine.open(tmp_path / "log") as engine:
        space = await engine.create_space("acme", "demo", ANN)
        async with await Runner.open(engine.log, tmp_path / "views", [ChatHistory, SceneGraph]) as runner:
            await a_session(space)
            await runner.wait_for(await engine.log.head(), 5)
            for projection in (ChatHistory(), SceneGraph()):
                assert await runner.parked(projection.name) == []
                live = await dump(runner.view(projection.name), projection)
                await runner.rebuild(projection.name)
                assert await dump(runner.view(projection.name), projection) == live
            await compare_chat(space, ChatReads(runner.view("chat_history")))
            await compare_scene(space, SceneReads(runner.view("scene_graph")))


async def compare_chat(space: Space, reads: ChatReads) -> None:
    held = await talk(space, lambda chat: chat.messages())
    shown = await reads.page("acme", space.id)
    assert [(one.id, one.body, one.edited) for one in shown] == [
        (one["id"], one.get("body"), one.get("edited")) for one in held
    ]
    assert [(one.name, one.reactions) for one in shown] == [("Ann", {"👍": [ANN.id]}), ("Ann", {})]


async def compare_scene(space: Space, reads: SceneReads) -> None:
    held = await build(space, lambda scene: scene.nodes())
    shown = await reads.nodes("acme", space.id)
    assert {one.id: one.fields for one in shown} == held
    tree = Tree()
    for node, fields in held.items():
        tree.place(node, *fields["place"])
    assert {one.id: one.parent for one in shown} == {node: tree.parent(node) for node in held}
    assert [one.fields["name"] for one in shown if one.hidden] == ["Table"]
    assert len(await reads.comments("acme", space.id)) == 1
    assert (await reads.scene("acme", space.id)).settings == {"exposure": 2}


async def test_v2_d9_the_scene_graph_follows_a_rewritten_scene_and_rebuilds_to_the_same(tmp_path: Path) -> None:
    async with await Engine.open(tmp_path / "log") as engine:
        space = await engine.create_space("acme", "demo", ANN)
        await a_session(space)
        offline = Peer("cy", 77).join(await space.open("scene"))
        [lamp] = [
            id_ for id_, node in (await build(space, lambda scene: scene.nodes())).items() if not node["place"][0]
        ]
        async with await Runner.open(engine.log, tmp_path / "views", [ChatHistory, SceneGraph]) as runner:
            await space.rewrite("scene", ANN)
            await build(space, lambda scene: scene.change(lamp, scale=[3, 3, 3]))
            offline.map("nodes")[lamp]["visible"] = False
            late = await space.resolve("scene@1", late=True)
            await offline.send(await space.open_resolved(late)).wait()
            await space.carry(late.record, 1)
            await runner.wait_for(await engine.log.head(), 5)
            await compare_scene(space, SceneReads(runner.view("scene_graph")))
            live = await dump(runner.view("scene_graph"), SceneGraph())
            await runner.rebuild("scene_graph")
            assert await dump(runner.view("scene_graph"), SceneGraph()) == live
            assert live["scenes"][0][2] == 2

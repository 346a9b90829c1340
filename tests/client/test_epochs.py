"""The Python client where a scene goes on in another epoch: nothing is lost, nothing doubled, nobody is asked (D9)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.client.test_remote import events_of, until
from tests.support.main_job import maquette
from tests.support.server import LocalServer, ServerProcess, local_server

from maquette.client import EditRefused, Moved, NotAdmitted, RemoteScene
from maquette.client.crossing import Crossing
from maquette.engine.engine import Engine
from maquette.engine.events import Actor
from maquette.engine.roles import Role
from maquette.server.closing import Close

OWNER = Actor("owner")


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with local_server() as one:
        yield one


def scene(server: LocalServer | ServerProcess, name: str, document: str = "scene") -> RemoteScene:
    return RemoteScene(server.url, "demo", document, name=name)


async def rewrite(server: LocalServer) -> None:
    await (await server.engine.space("dev", "demo")).rewrite("scene", OWNER)


async def moved(client: RemoteScene, epoch: int) -> None:
    """Wait until the client is in that epoch."""
    await until(client, lambda: client._crossing.name == f"scene@{epoch}" and client._crossing.fresh is None)


async def test_d9_clients_that_are_connected_go_on_in_the_new_epoch_by_themselves(server: LocalServer) -> None:
    async with scene(server, "Ann") as ann, scene(server, "Ben") as ben:
        resets: list[str] = []
        ann.on_reset.append(lambda: resets.append("ann"))
        lamp = ann.add("mesh", "lamp", mesh={"shape": "box"})
        await ann.flush()
        await until(ben, lambda: lamp in ben.nodes())
        await rewrite(server)
        await asyncio.gather(moved(ann, 2), moved(ben, 2))
        assert ann.nodes().keys() == ben.nodes().keys() == {lamp}
        ann.change(lamp, name="bright")
        await ann.flush()
        await until(ben, lambda: ben.nodes()[lamp]["name"] == "bright")
        assert resets == ["ann"]
        assert (await events_of(server.engine, "scene"))[-1].data["changes"][0]["set"] == {"name": "bright"}


async def test_d9_what_is_edited_while_the_scene_is_rewritten_arrives_once(server: LocalServer) -> None:
    async with scene(server, "Ann") as ann, scene(server, "Ben") as ben:
        made = {ann.add(name="first")}
        await ann.flush()
        for _ in range(3):
            rewriting = asyncio.ensure_future(rewrite(server))
            while not rewriting.done():
                made.add(ann.add(name="more"))
                await ann.flush()
            made.add(ann.add(name="at the end"))
            await rewriting
            await ann.flush()
        await until(ben, lambda: ben.nodes().keys() == made)
        await until(ann, lambda: ann.nodes().keys() == made)


async def test_d9_a_client_that_was_away_brings_its_edits_and_goes_on(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path) as server, scene(server, "Ann") as ann:
        room, lamp = ann.add("group", "room"), ann.add("light", "lamp")
        await ann.flush()
        await server.stop()
        ann.move(lamp, room)
        ann.change(room, name="late")
        chair = ann.add("group", "chair", parent=room)
        async with await Engine.open(tmp_path) as engine:
            space = await engine.space("dev", "demo")
            for _ in range(2):
                await space.rewrite("scene", OWNER)
            await space.write_scene(OWNER, Role.EDITOR, lambda writer: writer.change(lamp, name="newer"))
        await server.start()
        await moved(ann, 3)
        await ann.flush()
        nodes = ann.nodes()
        assert nodes.keys() == {room, lamp, chair}
        assert (nodes[room]["name"], nodes[lamp]["name"], nodes[lamp]["place"][0]) == ("late", "newer", room)
        assert list(ann.children(room)) == [lamp, chair] or list(ann.children(room)) == [chair, lamp]
        async with scene(server, "Ben") as ben:
            assert ben.nodes() == nodes
            ben.change(chair, name="ours")
            await ben.flush()
            await until(ann, lambda: ann.nodes()[chair]["name"] == "ours")


async def test_d9_a_client_on_a_named_epoch_is_told_that_it_has_moved(server: LocalServer) -> None:
    async with scene(server, "Ann", "scene@1") as ann:
        ann.add(name="late")
        await rewrite_with_content(server)
        with pytest.raises(Moved) as raised:
            await until(ann, lambda: False)
        assert raised.value.successor == "scene@2"


async def rewrite_with_content(server: LocalServer) -> None:
    async with scene(server, "Ben") as ben:
        ben.add(name="ben's")
        await ben.flush()
    await rewrite(server)


async def test_d9_a_client_of_an_epoch_that_was_closed_by_a_restore_is_told_so(server: LocalServer) -> None:
    async with scene(server, "Ann") as ann:
        ann.add(name="perhaps lost")
        await ann.flush()
        space = await server.engine.space("dev", "demo")
        await space.reopen_restored("mark")
        for connection in tuple(server.hub.connections):
            connection.close(Close.RESTART)
        with pytest.raises(Moved, match="scene@2"):
            await until(ann, lambda: False)
        assert [node["name"] for node in ann.nodes().values()] == ["perhaps lost"]


async def test_d9_a_client_whose_old_epoch_takes_nothing_says_so_and_goes_on(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path) as server, scene(server, "Ann") as ann:
        await server.stop()
        ann.add(name="lost")  # to her the epoch was empty: she can show nothing of it
        async with await Engine.open(tmp_path) as engine:
            space = await engine.space("dev", "demo")
            await space.write_scene(OWNER, Role.EDITOR, lambda writer: writer.add(name="kept"))
            await space.rewrite("scene", OWNER)
        await server.start()
        await moved(ann, 2)
        with pytest.raises(EditRefused, match="goes on as scene@2"):
            await ann.flush()
        assert [node["name"] for node in ann.nodes().values()] == ["kept"]


def test_d9_a_client_stops_bringing_what_nobody_takes() -> None:
    crossing = Crossing(follows=True)
    crossing.named("scene@1")
    tries = 0
    while crossing.move(is_stored=False, progress=False):
        tries += 1
    assert (tries, crossing.name) == (2, None)
    assert crossing.fresh is not None


def test_d9_a_client_that_edits_on_while_it_crosses_turns_back_first() -> None:
    crossing = Crossing(follows=True)
    crossing.named("scene@1")
    assert crossing.move(is_stored=True, progress=True)
    crossing.named("scene@2")
    crossing.turn_back()
    assert (crossing.name, crossing.fresh) == ("scene@1", None)
    assert crossing.move(is_stored=True, progress=True)
    crossing.named("scene@3")
    crossing.arrive()
    assert crossing.name == "scene@3"


async def test_d9_an_owner_rewrites_through_the_client_and_the_command_line_through_the_server(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path) as server, scene(server, "Ann") as ann:
        lamp = ann.add(name="lamp")
        await ann.flush()
        assert (await ann.rewrite(dry_run=True))["dry_run"]
        assert (await ann.rewrite())["epoch"] == 2
        await moved(ann, 2)
        told = await maquette("rewrite", "demo/scene", "--data", str(tmp_path))
        assert "scene goes on as scene@3 with 1 nodes" in told
        await moved(ann, 3)
        assert ann.nodes().keys() == {lamp}


async def test_d9_who_is_no_owner_does_not_rewrite(server: LocalServer) -> None:
    await server.engine.create_space("dev", "demo", OWNER)
    async with RemoteScene(server.url, "demo", "scene", token=server.token("eve")) as eve:
        with pytest.raises(NotAdmitted, match="expected the role owner, got editor"):
            await eve.rewrite()

"""The main job in small, with nothing but the product: this also runs against the installed wheel."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import main_job
from tests.support.server import ServerProcess

from maquette.client import RemoteChat, RemoteScene

pytestmark = pytest.mark.smoke


async def test_chat_and_scene_survive_a_kill_and_are_read_by_name(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path) as server:
        async with (
            RemoteChat(server.url, main_job.SPACE, "chat", name="Ada") as chat,
            RemoteScene(server.url, main_job.SPACE, "scene", name="Bob") as scene,
        ):
            chat.post("hello 👋")
            lamp = scene.add("light", "Lamp", light={"type": "point", "intensity": 100})
            await chat.flush()
            await scene.flush()
            await server.kill()
            await server.start()
            chat.post("still here")
            scene.move(scene.add("group", "Room"), None, 0)
            await chat.flush()
            await scene.flush()
            assert [scene.nodes()[node]["name"] for node in scene.children()] == ["Room", "Lamp"]
        spoken = main_job.spoken(await main_job.conversation(server))
        assert [(line.name, line.body) for line in spoken] == [("Ada", "hello 👋"), ("Ada", "still here")]
        await server.stop()
    assert "Lamp" in await main_job.maquette("log", "--json", "--data", str(tmp_path))
    assert lamp in await main_job.maquette("log", "--json", "--data", str(tmp_path))
    await main_job.maquette("doctor", "--data", str(tmp_path))


async def test_l6_a_bit_that_flipped_in_the_log_is_named_by_the_doctor(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path) as server:
        async with RemoteChat(server.url, main_job.SPACE, "chat", name="Ada") as chat:
            chat.post("a sentence that the disk will garble")
            await chat.flush()
        await server.stop()
    database = tmp_path / "log.sqlite"
    data = bytearray(database.read_bytes())
    data[data.index(b"a sentence that the disk")] ^= 1
    database.write_bytes(data)
    with pytest.raises(AssertionError, match=r"expected .+ got"):
        await main_job.maquette("doctor", "--data", str(tmp_path))

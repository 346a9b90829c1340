"""A log that came out of a backup: clients hold what came after it, and must not meet what is stored now."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support import main_job
from tests.support.server import ServerProcess

from maquette.client import Moved, RemoteChat, RemoteScene, RemoteText


@pytest.mark.timeout(120)
async def test_d9_a_restored_log_goes_on_in_new_epochs_and_sends_stale_clients_there(tmp_path: Path) -> None:
    space, kept, restored = main_job.SPACE, tmp_path / "kept", tmp_path / "restored"
    async with (
        ServerProcess(kept) as server,
        RemoteChat(server.url, space, "chat", name="Ada") as chat,
        RemoteScene(server.url, space, "scene", name="Ada") as scene,
        RemoteText(server.url, space, "text:notes", name="Ada") as notes,
    ):
        chat.post("before the backup")
        room = scene.add("group", "Room")
        table = scene.add("mesh", "Table", parent=room, mesh={"shape": "box"}, slots={})
        notes.insert(0, "kept")
        await asyncio.gather(chat.flush(), scene.flush(), notes.flush())
        await main_job.maquette("backup", str(restored), "--data", str(kept))
        chat.post("after the backup")
        scene.trash(table)
        notes.insert(4, " and lost")
        await asyncio.gather(chat.flush(), scene.flush(), notes.flush())
        await server.kill()
        again = ServerProcess(restored, port=server.port)
        async with again:
            for document in (chat, scene, notes):
                with pytest.raises(Moved, match=r"@2$"):
                    await document.flush()
            await _shows_the_backup(again, room, table)
    await main_job.maquette("doctor", "--data", str(restored))


async def _shows_the_backup(server: ServerProcess, room: str, table: str) -> None:
    space = main_job.SPACE
    async with (
        RemoteChat(server.url, space, "chat", name="Ben") as chat,
        RemoteScene(server.url, space, "scene", name="Ben") as scene,
        RemoteText(server.url, space, "text:notes", name="Ben") as notes,
    ):
        assert str(notes) == "kept"
        assert list(scene.children()) == [room]
        assert list(scene.children(room)) == [table]
        chat.post("after the restore")
        scene.move(table)
        notes.insert(4, "!")
        await asyncio.gather(chat.flush(), scene.flush(), notes.flush())
        assert list(scene.children()) == [room, table]
    spoken = main_job.spoken(await main_job.conversation(server))
    assert [line.body for line in spoken] == ["before the backup", "after the restore"]

"""What a machine does to a server under load, but for killing it and cutting its power.

full       there is no room on the disk, then there is again; or the server is killed and started while there is none
errors     calls to the disk fail with EIO or ENOSPC, drawn from a seed
clock      the clock jumps by hours, back and forth, also while the server is down
intruders  others want to write the same log, copy it, and take its lock away
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random

import pytest
from tests.conftest import ROOT
from tests.crash.archive import SPACE
from tests.crash.faults import CLOCK, FAULTS, FIRED, OFFSET
from tests.crash.kills import HurriedServer, kill_under_load
from tests.crash.room import Room, room
from tests.crash.trials import Stage, Trouble
from tests.support.server import ServerFailed

from maquette.engine.engine import Engine
from maquette.engine.errors import LogDamaged, LogHeld, LogLost
from maquette.engine.events import Actor

HOUR = 3_600_000
PATIENCE = 20.0
"""Seconds for a server to notice that the disk is full, or not any more."""


# --- no room ---------------------------------------------------------------------------------------------------------


class Full(Trouble):
    """No room on the disk."""

    name = "full"

    def __init__(self, folder: Path, *, mount: bool = True) -> None:
        super().__init__(folder)
        self._mount = mount

    def place(self, server: HurriedServer) -> AbstractContextManager[Room | None]:
        return room(server.folder, lambda: server.pid, mount=self._mount)

    async def befall(self, stage: Stage) -> None:
        assert stage.room is not None
        await stage.load.evidence.more(stage.dice.randint(10, 60))
        stage.room.fill()
        await _until(lambda: self._is_full(stage), "a server that says that its log cannot be written")
        await self._reads_go_on(stage)
        stage.tally.seen[f"times no room on {stage.room.name}"] += 1
        if stage.dice.random() < 0.7:
            stage.room.free()
            await _until(lambda: self._is_ready(stage), "a server that writes again when there is room")
            stage.tally.seen["times room again"] += 1
        await kill_under_load(stage.server, stage.load, stage.dice.randint(10, 60))

    async def between(self, stage: Stage) -> None:
        assert stage.room is not None
        try:
            await stage.server.start()
            stage.tally.seen["starts that served"] += 1
        except ServerFailed:
            said = stage.server.said.read_text()[-2_000:]
            assert "expected to" in said, said
            assert "Traceback" not in said.splitlines()[-20:], said
            stage.tally.seen["starts that were refused for want of room"] += 1
        await stage.server.kill()
        if stage.room.name == "tmpfs":
            stage.room.free()

    async def _is_full(self, stage: Stage) -> bool:
        response = await stage.ask("GET", "/readyz")
        return response.status_code == 503 and any(one.startswith("log:") for one in response.json()["reasons"])

    async def _is_ready(self, stage: Stage) -> bool:
        return (await stage.ask("GET", "/readyz")).status_code == 200

    async def _reads_go_on(self, stage: Stage) -> None:
        """While the disk is full; what is written then is refused with its reason, and when to come back."""
        for path in ("chat/messages", "scene/nodes", "chat", "export?format=jsonl"):
            response = await stage.ask("GET", f"/v1/spaces/{SPACE}/{path}")
            assert response.status_code in (200, 404), (path, response.text)
        wide = {"body": "x" * 30_000}
        response = await stage.ask("POST", f"/v1/spaces/{SPACE}/chat/messages", json=wide)
        if response.status_code != 201:  # a commit that overwrites the beginning of the WAL needs no room
            assert response.status_code == 503, response.text
            assert response.json()["type"] == "urn:maquette:problem:read-only", response.text
            assert int(response.headers["Retry-After"]) > 0
            stage.tally.seen["writes refused"] += 1


async def _until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not await holds():
        assert time.monotonic() < end, f"expected {what} within {PATIENCE} s"
        await asyncio.sleep(0.05)


# --- errors ----------------------------------------------------------------------------------------------------------

CALLS = (
    *("wal:write", "wal:sync", "wal:sync", "database:write", "database:sync", "wal:read", "database:read"),
    *("witness:write", "witness:sync", "asset:write", "asset:sync", "asset:rename", "asset:read"),
    *("snapshot:write", "snapshot:rename", "snapshot:read"),
    *("projection:write", "projection:sync", "projection:read", "projection:rename"),
)


class Errors(Trouble):
    """Calls to the disk that fail."""

    name = "errors"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._told = 0

    def environment(self, dice: Random) -> Mapping[str, str]:
        faults = [
            f"{dice.choice(CALLS)}:{dice.choice(('EIO', 'EIO', 'ENOSPC'))}:{dice.randint(1, 40)}:{dice.randint(1, 9)}"
            for _ in range(dice.randint(3, 6))
        ]
        return {FAULTS: ",".join(faults)}

    async def between(self, stage: Stage) -> None:
        said = stage.server.said.read_text()
        new, self._told = said[self._told :], len(said)
        for line in new.splitlines():
            if line.startswith(FIRED):
                stage.tally.seen[f"failed calls of {line.removeprefix(FIRED).rpartition(':')[0]}"] += 1


# --- the clock -------------------------------------------------------------------------------------------------------


class Clock(Trouble):
    """A clock that jumps."""

    name = "clock"

    @property
    def _file(self) -> Path:
        return self.folder / "clock"

    def environment(self, dice: Random) -> Mapping[str, str]:
        self._jump(dice)
        return {CLOCK: str(self._file)}

    async def befall(self, stage: Stage) -> None:
        for _ in range(3):
            await stage.load.evidence.more(stage.dice.randint(5, 40))
            self._jump(stage.dice)
            stage.tally.seen["jumps of the clock"] += 1
        await kill_under_load(stage.server, stage.load, stage.dice.randint(5, 40))

    def _jump(self, dice: Random) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._file.open("wb" if not self._file.exists() else "r+b") as file:
            file.write(OFFSET.pack(dice.choice((0, -6, -48, 30, 3, -1)) * HOUR))


# --- a second writer -------------------------------------------------------------------------------------------------


class Intruders(Trouble):
    """Others who want to write the same log."""

    name = "intruders"

    async def befall(self, stage: Stage) -> None:
        folder, mine = stage.server.folder, f"process {stage.server.pid} "
        await stage.load.evidence.more(10)
        await self._serve(folder, mine, stage)
        await self._open(folder, mine, stage)
        await self._write(folder, stage)
        await self._copy(folder, stage)
        (folder / "log.lock").unlink()
        stage.tally.seen["locks removed"] += 1
        await self._serve(folder, mine, stage)
        await self._open(folder, mine, stage)
        await kill_under_load(stage.server, stage.load, 10)

    async def _serve(self, folder: Path, holder: str, stage: Stage) -> None:
        code, said = await _command("serve", "--dev", "--data", str(folder), "--port", "0")
        assert code == 1, said
        assert holder in said.replace("\n", " "), f"expected the holder's name, {holder!r}, got {said!r}"
        stage.tally.seen["servers refused"] += 1

    async def _open(self, folder: Path, holder: str, stage: Stage) -> None:
        with pytest.raises(LogHeld, match=rf"{holder.strip()}\b"):
            await Engine.open(folder)
        stage.tally.seen["engines refused"] += 1

    async def _write(self, folder: Path, stage: Stage) -> None:
        """Commands that write go through the server."""
        mark = f"<cli-{stage.tally.lives}-{stage.dice.randrange(1 << 30)}>"
        lines = stage.server.folder.parent / "cli.jsonl"
        lines.write_text(f'{{"id": "{mark[1:-1]}", "author": "ann", "body": "{mark}", "sent": 1}}\n')
        code, said = await _command("import", SPACE, str(lines), "--data", str(folder))
        assert code == 0, said
        await stage.load.evidence.acknowledge([mark], None)
        stage.tally.seen["commands that wrote"] += 1

    async def _copy(self, folder: Path, stage: Stage) -> None:
        """A copy file by file, while all this goes on, opens or says what is missing."""
        copy = folder.with_name("copy")
        await asyncio.to_thread(shutil.copytree, folder, copy, dirs_exist_ok=True, ignore=_vanishing)
        try:
            async with await Engine.open(copy) as engine:
                await engine.create_space("dev", "theirs", Actor("theirs"))
            stage.tally.seen["copies that opened"] += 1
        except (LogLost, LogDamaged):
            stage.tally.seen["copies that said what they lack"] += 1
        await asyncio.to_thread(shutil.rmtree, copy)


def _vanishing(_: str, names: list[str]) -> set[str]:
    """What comes and goes while it is copied."""
    return {name for name in names if name.endswith((".tmp", "-shm")) or name in ("projections", "snapshots")}


async def _command(*arguments: str) -> tuple[int, str]:
    """What `maquette ARGUMENTS` answers: its exit code, and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "maquette.server.cli", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


TROUBLES: Mapping[str, Callable[[Path], Trouble]] = {kind.name: kind for kind in (Full, Errors, Clock, Intruders)}

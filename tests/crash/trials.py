"""Lives of a server under load to which something happens; each ends with a kill, and its folder is judged.

As behind the kills (`kills.py`): what was shown or told is in the log, once; replicas, snapshots and read models equal
what is built anew.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import httpx
from tests.crash.archive import SPACE, read_archive
from tests.crash.evidence import Evidence
from tests.crash.kills import LIMITS, NOTHING, HurriedServer, impatient_clients, kill_under_load
from tests.crash.load import Load
from tests.crash.room import Room
from tests.support.server import ServerFailed

from maquette.client import RemoteText

LIVES = 6
"""Of one folder, before a fresh one is begun."""


@dataclass(slots=True)
class Tally:
    """What a run came to; whatever is lost or doubled raises."""

    lives: int = 0
    compared: int = 0
    events: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    """What happened, by name."""

    def line(self) -> str:
        """One line for people."""
        seen = ", ".join(f"{number} {what}" for what, number in sorted(self.seen.items()))
        return (
            f"{self.lives} lives ({seen}): {self.compared} echoes, states, acknowledgements and reads compared with "
            f"{self.events} events in the log, 0 lost, 0 doubled"
        )


@dataclass(slots=True)
class Stage:
    """Where a trouble happens."""

    server: HurriedServer
    load: Load
    dice: Random
    tally: Tally
    room: Room | None = None

    async def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """The server's answer, as the operator gets it."""
        async with self.load.client() as client:
            return await client.request(method, f"{self.server.url}{path}", **request)


class Trouble:
    """One kind; this one is none."""

    name = "quiet"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, server: HurriedServer) -> AbstractContextManager[Room | None]:
        """The disk of the server, whose folder is made."""
        server.folder.mkdir(parents=True)
        return nullcontext()

    def environment(self, dice: Random) -> Mapping[str, str]:
        """Of the next server."""
        return NOTHING

    async def befall(self, stage: Stage) -> None:
        """Let it happen while the load is at work, and end with the server killed."""
        await kill_under_load(stage.server, stage.load, stage.dice.randint(20, 150))

    async def between(self, stage: Stage) -> None:
        """What happens while no server runs."""


async def run_trials(folder: Path, make: Callable[[Path], Trouble], lives: int, seed: int) -> Tally:
    """So many lives, some of one folder, then some of the next. Raises AssertionError when anything is lost."""
    dice, tally = Random(seed), Tally()
    with impatient_clients():
        for number in count():
            if tally.lives >= lives:
                break
            place = folder / f"{number}"
            server = HurriedServer(place / "data")
            place.mkdir(parents=True)
            trouble = make(place)
            with trouble.place(server) as room:
                await _lives(place, server, trouble, room, min(LIVES, lives - tally.lives), dice, tally)
            shutil.rmtree(place)
    return tally


async def _lives(
    folder: Path, server: HurriedServer, trouble: Trouble, room: Room | None, lives: int, dice: Random, tally: Tally
) -> None:
    (server.folder / "limits.toml").write_text(LIMITS)
    async with server:
        async with RemoteText(server.url, SPACE, "text:notes", name="Founder") as text:
            await text.flush()
        load = Load(server.url, server.folder, dice, Evidence())
        stage = Stage(server, load, dice, tally, room)
        await server.kill()
        await _start(stage, trouble)
        async with load.at_work():
            for number in range(lives):
                await trouble.befall(stage)
                await trouble.between(stage)
                await _judge(folder / "copy", stage)
                tally.lives += 1
                if number + 1 < lives:
                    await _start(stage, trouble)
                    load.up.set()
            await server.start()
            load.up.set()
            agreed = await load.in_step()
        await server.kill()
        archive = await read_archive(server.folder)
        load.evidence.judge(archive)
        [stream] = archive.streams("text:notes")
        assert str(archive.docs[stream].get("text", type=type(load.texts[0].text))) == agreed
        tally.events += archive.head


async def _start(stage: Stage, trouble: Trouble) -> None:
    """Start the server in its trouble; when it says that it cannot, without."""
    try:
        await stage.server.start(environment=trouble.environment(stage.dice))
    except ServerFailed:
        await stage.server.kill()
        said = stage.server.said.read_text()[-4_000:]
        assert "maquette: " in said, f"expected a server that says why it does not start: {said}"
        stage.tally.seen["starts that were refused"] += 1
        await stage.server.start()


async def _judge(copy: Path, stage: Stage) -> None:
    await asyncio.to_thread(shutil.copytree, stage.server.folder, copy, ignore=shutil.ignore_patterns("ballast"))
    stage.tally.compared += stage.load.evidence.judge(await read_archive(copy))
    await asyncio.to_thread(shutil.rmtree, copy)

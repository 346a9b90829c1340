"""SIGKILL of the real server under load, again and again over one folder; behind each kill the folder is judged.

The folder of the dead server is copied as it is; the copy is judged while the server starts again over the original.
Half of the kills come from outside when a random amount of evidence has come, half from inside at a point of the code.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import MappingProxyType
from unittest.mock import patch

from tests.conftest import ROOT
from tests.crash.archive import SPACE, Archive, read_archive
from tests.crash.evidence import Evidence
from tests.crash.hurried import OFTEN, SELDOM, VARIABLE
from tests.crash.load import Load
from tests.support.server import START_SECONDS, ServerFailed, ServerProcess

from maquette.client import RemoteText, remote
from maquette.engine.errors import LogDamaged, LogLost

KILLS_IN_A_ROUND = 8
MOST_EVIDENCE = 150
LIFE_SECONDS = 5.0
"""When a server is killed at the latest, although the moment that was drawn has not come."""

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(slots=True)
class Tally:
    """What a run came to."""

    kills: int = 0
    inside: Counter[str] = field(default_factory=Counter)
    """Kills from inside, by the point of the code."""
    starts: int = 0
    """Kills before the server listened."""
    compared: int = 0
    events: int = 0
    pages: int = 0
    snapshots: int = 0
    refused: int = 0

    def line(self) -> str:
        """One line for people. Whatever is lost or doubled raises, so it is not counted."""
        return (
            f"{self.kills} kills ({sum(self.inside.values())} at {len(self.inside)} points of the code, {self.starts} "
            f"during the start): {self.compared} echoes, states, acknowledgements and reads compared with "
            f"{self.events} events in the log, {self.pages} pages turned, {self.snapshots} snapshots compared with a "
            f"replay, 0 lost, 0 doubled, {self.refused} logs refused"
        )


class HurriedServer(ServerProcess):
    """The server of `hurried.py`. What it says goes to `said` beside its folder."""

    dies_at = ""
    """The point of the code at which it kills itself."""

    async def start(
        self, *, file_limit: int | None = None, dies_at: str = "", environment: Mapping[str, str] = NOTHING
    ) -> None:
        """Start, and return when it listens. Raises ServerFailed when it ends before."""
        command = ["-m", "tests.crash.hurried", "serve", "--dev", "--data", str(self.folder), "--port", str(self.port)]
        self.dies_at = dies_at.rpartition(":")[0].rpartition(":")[0]
        with self.said.open("ab") as said:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *command,
                cwd=ROOT,
                env=os.environ | {VARIABLE: dies_at} | dict(environment),
                stdout=asyncio.subprocess.PIPE,
                stderr=said,
            )
        assert self._process.stdout is not None
        line = (await asyncio.wait_for(self._process.stdout.readline(), START_SECONDS)).decode()
        if not line:
            raise ServerFailed(f"expected a server that starts, it ended with {await self._process.wait()}")
        self.url = line.removeprefix("Listening on ").strip()
        self.port = int(self.url.rpartition(":")[2])

    @property
    def said(self) -> Path:
        return self.folder.with_suffix(".said")

    async def ended(self) -> None:
        """Return when the process has ended by itself."""
        assert self._process is not None
        await self._process.wait()


async def run_kills(folder: Path, kills: int, seed: int) -> Tally:
    """`kills` kills in rounds, each over a fresh folder. Raises AssertionError when anything is lost or doubled."""
    dice, tally = Random(seed), Tally()
    with impatient_clients():
        while tally.kills < kills:
            number = min(KILLS_IN_A_ROUND, kills - tally.kills)
            await _round(folder / f"round{tally.kills}", number, dice, tally)
    return tally


async def _round(folder: Path, kills: int, dice: Random, tally: Tally) -> None:
    data = fresh(folder)
    server = HurriedServer(data)
    async with server:
        async with RemoteText(server.url, SPACE, "text:notes", name="Founder") as text:
            await text.flush()
        evidence = Evidence()
        load = Load(server.url, data, dice, evidence)
        async with load.at_work():
            for number in range(kills):
                if await kill_under_load(server, load, dice.randint(1, MOST_EVIDENCE)):
                    tally.inside[server.dies_at] += 1
                tally.kills += 1
                point = _point(dice) if number + 1 < kills else ""
                await _judged(folder / str(number), server, load, point, tally)
            agreed = await load.in_step()
        await server.kill()
        archive = await read_archive(data)
        evidence.judge(archive)
        [stream] = archive.streams("text:notes")
        assert str(archive.docs[stream].get("text", type=type(load.texts[0].text))) == agreed
        tally.events += archive.head
        tally.pages += len(archive.streams("chat")) - 1


def fresh(folder: Path) -> Path:
    """A data folder without a log, in which nobody is too fast."""
    data = folder / "data"
    data.mkdir(parents=True)
    (data / "limits.toml").write_text(LIMITS)
    return data


async def kill_under_load(server: HurriedServer, load: Load, evidence: int) -> bool:
    """Kill the server when so much more evidence has come; whether it has killed itself before."""
    came = asyncio.ensure_future(load.evidence.more(evidence))
    ended = asyncio.ensure_future(server.ended())
    await asyncio.wait([came, ended], timeout=LIFE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    load.up.clear()
    ended_itself = ended.done()
    came.cancel()
    await asyncio.gather(came, return_exceptions=True)
    await server.kill()
    await ended
    load.require_sound()
    return ended_itself


async def _judged(copy: Path, server: HurriedServer, load: Load, point: str, tally: Tally) -> None:
    """Judge the folder of the dead server, and start it again meanwhile."""
    await asyncio.to_thread(shutil.copytree, server.folder, copy)
    starting = asyncio.ensure_future(_start(server, point, tally))
    try:
        archive: Archive = await read_archive(copy)
        tally.compared += load.evidence.judge(archive)
        tally.snapshots += archive.snapshots
    except (LogLost, LogDamaged):
        tally.refused += 1
        raise
    finally:
        await starting
    load.up.set()
    await asyncio.to_thread(shutil.rmtree, copy)


async def _start(server: HurriedServer, point: str, tally: Tally) -> None:
    try:
        await server.start(dies_at=point)
    except ServerFailed:
        assert point, f"expected a server that starts: {server.said.read_text()[-2_000:]}"
        tally.starts += 1
        await server.kill()
        await server.start()


def _point(dice: Random) -> str:
    """Where the next server kills itself; nowhere in half of the cases."""
    if dice.random() < 0.5:
        return ""
    if dice.random() < 0.4:
        return f"{dice.choice(OFTEN)}:{dice.randint(1, 30)}:{dice.choice(('before', 'after'))}"
    return f"{dice.choice(SELDOM)}:{dice.randint(1, 2)}:{dice.choice(('before', 'after'))}"


@contextmanager
def impatient_clients() -> Iterator[None]:
    """Clients that come back soon: a kill shall meet them at work."""
    with patch.object(remote, "LONGEST_WAIT", 0.2), patch.object(remote, "CLOSE_SECONDS", 0.2):
        yield


LIMITS = """[default]
accepts_per_actor = 100_000
accepts_per_address = 100_000
accepts_per_tenant = 100_000
requests_per_actor = 1_000_000
requests_per_address = 1_000_000
requests_per_tenant = 1_000_000
"""

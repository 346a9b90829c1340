"""Bits that flip and files that end too soon, in the folder of a server that was killed under load.

Each damage is one of three things: *named* (an error that says where), *harmless* (all that is read is what was there),
or silently wrong, which no damage may be. All is read as a server reads it: the log, the documents from snapshots, the
read models from where they are, the assets, the keys.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.crash.archive import SPACE, TENANT
from tests.crash.evidence import Evidence
from tests.crash.kills import HurriedServer, fresh, impatient_clients, kill_under_load
from tests.crash.load import Load
from tests.support.logs import flip
from tests.support.projections import Dump, dump

from maquette.engine.engine import Engine
from maquette.engine.errors import MaquetteError
from maquette.engine.events import Event
from maquette.engine.testing.log_contract import collected
from maquette.projections.runner import Runner
from maquette.server.app import PROJECTIONS, PROJECTIONS_FOLDER
from maquette.server.tokens import Keyring

PARTS = {
    "database": "log.sqlite",
    "WAL": "log.sqlite-wal",
    "WAL index": "log.sqlite-shm",
    "witness": "log.witness",
    "snapshot": "snapshots/*.snapshot",
    "asset": "assets/??/*",
    "read model": "projections/*/*.sqlite",
    "WAL of a read model": "projections/*/*.sqlite-wal",
    "pointer to a read model": "projections/*/live",
    "sums of a read model": "projections/*/*.sums",
    "keys": "keys.json",
    "secret": "node.secret",
    "address": "server.json",
}
EVIDENCE = 250
CATCH_UP_SECONDS = 30.0


class SilentlyWrong(AssertionError):
    """What was read is not what was there, and nothing said so."""


@dataclass(slots=True)
class Whole:
    """What a folder holds, as a server reads it."""

    events: list[Event]
    documents: dict[str, bytes]
    views: dict[str, Dump]
    assets: dict[str, bytes]


@dataclass(slots=True)
class Tally:
    """What a run came to, by part; what is silently wrong raises."""

    named: Counter[str] = field(default_factory=Counter)
    harmless: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        """One line for people."""
        parts = (f"{part} {self.named[part]}/{self.harmless[part]}" for part in PARTS)
        number = self.named.total() + self.harmless.total()
        return f"{number} damages, named/harmless: {', '.join(parts)}; 0 silently wrong"


async def run_flips(
    folder: Path, damages: int, seed: int, told: tuple[type[Exception], ...] = (MaquetteError,)
) -> Tally:
    """`damages` of a killed server's folder, as it was left and as the next start leaves it, one at a time, in equal
    parts. Errors in `told` name a damage. Raises SilentlyWrong."""
    dice, tally = Random(seed), Tally()
    data = await _killed(folder / "killed", dice)
    token = Keyring.load(data).sign("ann", "Ann", TENANT, {"*": "owner"})
    ended = await _copied(data, folder / "ended")
    whole = await _read(ended, token)
    parts = [(place, part) for place in (data, ended) for part in PARTS if any(place.glob(PARTS[part]))]
    for number in range(damages):
        place, part = parts[number % len(parts)]
        copy = await _copied(place, folder / f"{number}")
        what = _damage(dice.choice(sorted(copy.glob(PARTS[part]))), dice)
        try:
            _compare(await _read(copy, token), whole, f"seed {seed}, damage {number}: {what}")
        except told:
            tally.named[part] += 1
        else:
            tally.harmless[part] += 1
        await asyncio.to_thread(shutil.rmtree, copy)
    return tally


async def _killed(folder: Path, dice: Random) -> Path:
    """The folder of a server that was killed under load, the second time that it was."""
    data = fresh(folder)
    server = HurriedServer(data)
    with impatient_clients():
        async with server:
            load = Load(server.url, data, dice, Evidence())
            async with load.at_work():
                await kill_under_load(server, load, EVIDENCE)
                await server.start()
                load.up.set()
                await kill_under_load(server, load, EVIDENCE)
    return data


async def _copied(data: Path, copy: Path) -> Path:
    return Path(await asyncio.to_thread(shutil.copytree, data, copy))


def _damage(path: Path, dice: Random) -> str:
    """Flip a bit of the file, or cut it off; what was done."""
    size = path.stat().st_size
    at = dice.randrange(size) if size else 0
    if size and dice.random() < 0.7:
        bit = dice.randrange(8)
        flip(path, at, bit)
        return f"bit {bit} of byte {at} in {path.name}"
    with path.open("r+b") as file:
        file.truncate(at)
    return f"{path.name} cut off at byte {at} of {size}"


async def _read(folder: Path, token: str) -> Whole:
    """All that the folder holds, for whoever has `token`. Raises MaquetteError for what it says itself."""
    async with (
        await Engine.open(folder) as engine,
        await Runner.open(engine.log, folder / PROJECTIONS_FOLDER, PROJECTIONS, retry_after=0.05) as runner,
    ):
        events = await collected(engine.log.read_all())
        documents = await _documents(engine)
        await runner.wait_for(await engine.log.head(), CATCH_UP_SECONDS)
        views = {make().name: await dump(runner.view(make().name), make()) for make in PROJECTIONS}
        Keyring.load(folder).verify(token)
        assets = {asset: engine.assets.get(asset) for asset in engine.assets.ids()}
        return Whole(events, documents, views, assets)


async def _documents(engine: Engine) -> dict[str, bytes]:
    found: dict[str, Any] = {}
    space = await engine.space(TENANT, SPACE)
    for record in space.record.documents.values():
        for epoch in record.epochs:
            document = await engine.document(space, record, epoch.number)
            found[document.stream] = document.replica.doc.get_update()
    return found


def _compare(found: Whole, whole: Whole, what: str) -> None:
    for part in ("events", "documents", "views", "assets"):
        if getattr(found, part) != getattr(whole, part):
            raise SilentlyWrong(f"{what}: {part} are not what they were, and nothing says so")

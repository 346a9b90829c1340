"""Power cuts of a whole data folder: log, assets, snapshots, read models, keys and backups, from one recording.

A life is what an engine with its read models does: imports of models, messages, texts, evictions with snapshots,
rebuilds, backups, tokens. Then the disk states of random moments are made, and each must start like any other folder.
"""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from unittest.mock import patch

from tests.crash.archive import SPACE, TENANT, read_archive
from tests.crash.cuts import put
from tests.crash.medium import Medium, Step
from tests.crash.recording import Journal, recording
from tests.support.gltf import textured

from maquette.engine import keeping
from maquette.engine.engine import Engine
from maquette.engine.events import Actor
from maquette.engine.logs import writer
from maquette.engine.logs.backup import backup
from maquette.engine.roles import Role
from maquette.engine.transfer import import_file
from maquette.projections.runner import Runner
from maquette.server.app import PROJECTIONS, PROJECTIONS_FOLDER
from maquette.server.checkup import check
from maquette.server.tokens import FILE as KEYS
from maquette.server.tokens import Keyring

ANN = Actor("ann")
ROUNDS = 4
"""Of each kind of work in a life."""

CUTS_IN_A_LIFE = 10
BACKUP = "backup"


@dataclass(frozen=True, slots=True)
class Told:
    """Somebody was told `what` when the journal was `step` long."""

    step: int
    kind: str
    what: str


@dataclass(slots=True)
class Life:
    """What happened, and what was there before."""

    files: dict[str, bytes]
    steps: list[Step] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """What a run came to; what is lost raises."""

    cuts: int = 0
    torn: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    """What had been told and was found, by kind."""
    found: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        """One line for people."""
        kept = ", ".join(f"{number} {kind}s" for kind, number in sorted(self.kept.items()))
        found = ", ".join(f"{number} {what}" for what, number in sorted(self.found.items()))
        return f"{self.cuts} power cuts of a data folder ({self.torn} torn): {kept} found again, {found}, 0 lost"


async def run_folder_cuts(folder: Path, cuts: int, seed: int) -> Tally:
    """`cuts` power cuts, in one life after another. Raises AssertionError and MaquetteError when anything is lost."""
    dice, tally = Random(seed), Tally()
    files: dict[str, bytes] = {}
    for number in count():
        if tally.cuts >= cuts:
            break
        life = await live(folder / f"life{number}" / "data", files, dice)
        medium, at = Medium(life.files), 0
        for moment in sorted(_moments(life, min(CUTS_IN_A_LIFE, cuts - tally.cuts), dice)):
            medium.take(life.steps[at:moment])
            at = moment
            left = medium.after_power_cut(dice)
            tally.cuts += 1
            tally.torn += medium.is_torn(left)
            await _examine(folder / f"cut{tally.cuts}" / "data", left, life, moment, tally)
        files = left if number % 2 == 0 else {}
    return tally


def _moments(life: Life, cuts: int, dice: Random) -> list[int]:
    told = [one.step for one in life.told]
    return [dice.choice(told) if dice.random() < 0.5 else dice.randint(0, len(life.steps)) for _ in range(cuts)]


# --- a life ----------------------------------------------------------------------------------------------------------


async def live(folder: Path, files: Mapping[str, bytes], dice: Random) -> Life:
    """Let an engine work over `files`, and tell what happened."""
    folder.parent.mkdir(parents=True)
    put(folder, files)
    life = Life(dict(files))
    snapshots = patch.object(keeping, "AFTER", 3)
    with snapshots, patch.object(writer, "FOLD_PAGES", 40), recording(folder) as journal:
        async with (
            await Engine.open(folder) as engine,
            await Runner.open(engine.log, folder / PROJECTIONS_FOLDER, PROJECTIONS) as runner,
        ):
            work = _Work(folder, engine, runner, journal, life, dice)
            await work.all()
        life.steps = list(journal.steps)
    return life


@dataclass(slots=True)
class _Work:
    folder: Path
    engine: Engine
    runner: Runner
    journal: Journal
    life: Life
    dice: Random

    async def all(self) -> None:
        await self._sign()
        await self.engine.create_space(TENANT, SPACE, ANN)
        for number in range(ROUNDS):
            await asyncio.gather(self._import(), self._post(), self._edit())
            self.engine.evict_idle(0)
            await self.engine.keeper.settled()
            name = self.dice.choice(self.runner.names)
            await asyncio.gather(self.runner.rebuild(name), self._import(), self._post())
            if number == self.dice.randrange(ROUNDS):
                await self._back_up()
        await self.runner.wait_for(await self.engine.log.head(), 30)

    def _tell(self, kind: str, what: str) -> None:
        self.life.told.append(Told(len(self.journal.steps), kind, what))

    def _mark(self, kind: str) -> str:
        return f"<{kind}-{self.dice.getrandbits(40)}>"

    async def _sign(self) -> None:
        keyring = await asyncio.to_thread(Keyring.load, self.folder)
        self._tell("token", keyring.sign("ann", "Ann", TENANT, {"*": "owner"}))

    async def _import(self) -> None:
        space = await self.engine.space(TENANT, SPACE)
        mark, model = self._mark("glb"), textured()
        model.node(root=True, name=mark)
        await import_file(space, io.BytesIO(model.glb()), "model.glb", ANN, Role.OWNER)
        self._tell("mark", mark)

    async def _post(self) -> None:
        space = await self.engine.space(TENANT, SPACE)
        marks = [self._mark("chat") for _ in range(self.dice.randint(1, 3))]
        for mark in marks:
            await space.write_chat(ANN, Role.EDITOR, lambda chat, body=mark: chat.post(body))  # type: ignore[misc]  # bound in the loop
            self._tell("mark", mark)

    async def _edit(self) -> None:
        space = await self.engine.space(TENANT, SPACE)
        mark = self._mark("node")
        await space.write_scene(ANN, Role.EDITOR, lambda scene: scene.add("group", mark))
        self._tell("mark", mark)

    async def _back_up(self) -> None:
        target = self.folder / f"{BACKUP}{self.dice.getrandbits(40)}"
        await backup(self.engine.log, target)  # type: ignore[arg-type]  # on disk here
        self._tell("backup", target.name)


# --- its cuts --------------------------------------------------------------------------------------------------------


async def _examine(folder: Path, files: Mapping[str, bytes], life: Life, moment: int, tally: Tally) -> None:
    """Start over what a cut at `moment` left, and find there what must be."""
    _lay_out(folder, files)
    async with (
        await Engine.open(folder) as engine,
        await Runner.open(engine.log, folder / PROJECTIONS_FOLDER, PROJECTIONS) as runner,
    ):
        await runner.wait_for(await engine.log.head(), 30)
    told = [one for one in life.told if one.step <= moment]
    keyring = Keyring.load(folder)
    archive = await read_archive(folder, torn=True)
    marks, backups = Counter(archive.marks), _found(folder, f"{BACKUP}*")
    assert not [mark for mark, number in marks.items() if number > 1]
    for one in told:
        match one.kind:
            case "mark":
                assert one.what in marks, f"{one.what} was acknowledged and is gone"
            case "token":
                keyring.verify(one.what)
            case "backup":
                assert one.what in backups, f"the backup {one.what} was made and is gone"
        tally.kept[one.kind] += 1
    for name in backups:
        found = await check(folder / name)
        assert not found.problems, found.problems
    tally.found["snapshots equal to a replay"] += archive.snapshots
    tally.found["assets"] += len(_found(folder, "assets/??/*"))
    tally.found["whole backups"] += len(backups)


def _lay_out(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True)
    put(folder, files)
    for keys in folder.glob(KEYS):
        keys.chmod(0o600)  # the recording knows no modes


def _found(folder: Path, pattern: str) -> set[str]:
    return {path.name for path in folder.glob(pattern)}

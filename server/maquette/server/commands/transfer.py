"""`maquette import` and `maquette export`: files into a space and out of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Annotated, Protocol

import typer

from maquette.engine.engine import Engine
from maquette.engine.errors import InvalidInput, LogHeld, NotFound
from maquette.engine.reports import Progress, Report
from maquette.engine.roles import Role
from maquette.engine.spaces import check_slug
from maquette.engine.transfer import check_file, export_chat, export_scene, import_file
from maquette.server.commands.options import DEFAULT_DATA, DEFAULT_TENANT, Data, Tenant
from maquette.server.commands.remote import Remote, remote_of
from maquette.server.commands.terminal import FAILED, progress, run, say, tell
from maquette.server.running import OPERATOR, operator

_EXPORTS = {".glb": export_scene, ".jsonl": export_chat, ".ndjson": export_chat}


class _Target(Protocol):
    """The space that files go into: in a log of our own, or of the server that holds it."""

    async def take(self, path: Path, day: date | None, told: Progress) -> Report: ...


class _Local:
    def __init__(self, engine: Engine, tenant: str, name: str) -> None:
        self._engine = engine
        self._tenant = tenant
        self._name = name

    async def take(self, path: Path, day: date | None, told: Progress) -> Report:
        who = operator(self._engine.node)
        try:
            space = await self._engine.space(self._tenant, self._name)
        except NotFound:
            await _check(path, day)
            space = await self._engine.create_space(self._tenant, self._name, who)
            _tell_made(self._name)
        await space.name_profile(who, who.id, OPERATOR)
        return await import_file(space, path, path.name, who, Role.OWNER, told, day=day)


class _Served:
    def __init__(self, remote: Remote, name: str) -> None:
        self._remote = remote
        self._name = name

    async def take(self, path: Path, day: date | None, told: Progress) -> Report:
        if not await self._remote.has_space(self._name):
            await _check(path, day)
            if await self._remote.create_space(self._name):
                _tell_made(self._name)
        return await self._remote.import_file(self._name, path, None if day is None else day.isoformat(), told)


async def _check(path: Path, day: date | None) -> None:
    """Before a space is made: a file that is refused leaves none behind."""
    await asyncio.to_thread(check_file, path, path.name, day=day)


def _tell_made(name: str) -> None:
    tell(f"space {name!r} was not there and was made")


def import_files(
    space: Annotated[str, typer.Argument(metavar="SPACE", help="Its slug or id; made when it is not there.")],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="GLB, glTF, JSON Lines, or IRC logs NAME-YYYY-MM-DD.txt.")
    ],
    day: Annotated[
        str | None,
        typer.Option("--day", metavar="YYYY-MM-DD", help="The day of an IRC log that its name does not tell."),
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    data: Data = DEFAULT_DATA,
) -> None:
    """Take files into a space: GLB and glTF into the scene, IRC logs and JSON Lines into the chat.

    Beside a running server the files go through it. A file that cannot be read leaves nothing, no space either; lines
    of a chat that cannot be read are left out and told. Importing a chat again adds what is new. The exit code is 1
    when a file was refused, or a line left out.
    """

    if not data.exists():
        tell(f"{data} was not there and is made")

    async def work() -> bool:
        whole = True
        async with _target(data, tenant, space) as target:
            for path in files:
                whole = await _take(target, path, _day(day)) and whole
        return whole

    if not run(work()):
        raise typer.Exit(FAILED)


def export_file(
    space: Annotated[str, typer.Argument(metavar="SPACE", help="Its slug or id.")],
    to: Annotated[
        Path, typer.Option("--to", metavar="FILE", help="FILE.glb: the scene. FILE.jsonl: the chat.", dir_okay=False)
    ],
    tenant: Tenant = DEFAULT_TENANT,
    data: Data = DEFAULT_DATA,
) -> None:
    """Write a space's scene as one GLB, or its chat as JSON Lines. Works beside a running server.

    FILE is there whole or not at all; one that is there already is replaced.
    """

    async def work() -> Report:
        export = _EXPORTS.get(to.suffix.lower())
        if export is None:
            raise InvalidInput(f"--to: expected a file that ends in {', '.join(_EXPORTS)}, got {str(to)!r}")
        async with await Engine.open_readonly(data) as engine:
            with progress("export") as told:
                return await export(await engine.space(tenant, space), to, told)

    _say(str(to), run(work()))


@asynccontextmanager
async def _target(data: Path, tenant: str, name: str) -> AsyncGenerator[_Target, None]:
    try:
        engine = await Engine.open(data)
    except LogHeld as held:
        async with remote_of(data, tenant, held) as remote:
            tell(f"through the server at {remote.running.url}, which holds the log")
            if not await remote.has_space(name):
                check_slug(name)
            yield _Served(remote, name)
        return
    async with engine:
        try:
            await engine.space(tenant, name)
        except NotFound:
            check_slug(name)
        yield _Local(engine, tenant, name)


async def _take(target: _Target, path: Path, day: date | None) -> bool:
    """Whether everything in the file was taken. A file that is refused does not keep the next ones out."""
    try:
        _require_file(path)
        with progress(path.name) as told:
            report = await target.take(path, day, told)
    except InvalidInput as error:
        tell(f"maquette: {path}: {error}")
        return False
    _say(str(path), report)
    return not report.errors


def _require_file(path: Path) -> None:
    """A pipe may never end, and cannot be read twice. One that is not there is told where it is opened."""
    if path.exists() and not path.is_file():
        raise InvalidInput(f"expected a file, got {'a folder' if path.is_dir() else 'a pipe or a device'}")


def _say(name: str, report: Report) -> None:
    counts = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in report.counts.items() if count)
    say(f"{name}: {counts or 'nothing'}")
    for warning in report.warnings:
        tell(f"  note: {warning}")
    for error in report.errors:
        tell(f"  left out: {error}")


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"--day: expected YYYY-MM-DD, got {text!r}") from error

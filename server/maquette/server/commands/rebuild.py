"""`maquette rebuild`: a projection anew from the log."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from maquette.engine.errors import LogHeld, NotFound
from maquette.engine.logs.schema import open_for_reading
from maquette.engine.logs.sqlite import SqliteLog
from maquette.projections.runner import Runner
from maquette.server.app import PROJECTIONS, PROJECTIONS_FOLDER
from maquette.server.commands.options import DEFAULT_DATA, DEFAULT_TENANT, Data
from maquette.server.commands.remote import remote_of
from maquette.server.commands.terminal import progress, run, say, tell

NAMES = [make().name for make in PROJECTIONS]


def rebuild(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"The projection: {', '.join(NAMES)}, or all.")],
    data: Data = DEFAULT_DATA,
) -> None:
    """Build a projection anew from the whole log and put it in the place of the old one, which is read meanwhile.

    Beside a running server, the server does it. Nothing but time is lost: a projection holds nothing of its own.
    """

    async def work() -> None:
        if name not in (*NAMES, "all"):
            raise NotFound("projection", name)
        open_for_reading(data).close()  # or a folder without a log would get one
        try:
            log = await SqliteLog.open(data)
        except LogHeld as held:
            await _through_server(held)
            return
        try:
            await _here(log)
        finally:
            await log.close()

    async def _through_server(held: LogHeld) -> None:
        async with remote_of(data, DEFAULT_TENANT, held) as remote:
            tell(f"through the server at {remote.running.url}, which holds the log")
            for one in chosen:
                await remote.rebuild(one)
                say(f"{one}: built anew")

    async def _here(log: SqliteLog) -> None:
        factories = [make for make in PROJECTIONS if make().name in chosen]
        runner = await Runner.open(log, data / PROJECTIONS_FOLDER, factories, accept_loss=True)
        try:
            with progress("rebuild") as told:
                for one in chosen:
                    await runner.rebuild(one, partial(told, one))
                    say(f"{one}: built anew, up to position {runner.view(one).checkpoint}")
        finally:
            await runner.close()

    chosen = NAMES if name == "all" else [name]
    run(work())

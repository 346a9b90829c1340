"""`maquette backup`: a copy of the log while the server runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maquette.engine.logs.backup import backup as copy
from maquette.server.commands.options import DEFAULT_DATA, Data
from maquette.server.commands.terminal import progress, run, say


def backup(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A folder that is not there yet, or is empty.")],
    data: Data = DEFAULT_DATA,
) -> None:
    """Copy the log and the assets to TARGET, also while a server runs.

    The copy is the log as it was at one moment. Serve it with --data TARGET: every document then begins a new epoch,
    because clients may hold edits that the copy lacks. The keys that sign tokens are not in it.
    """

    async def work() -> int:
        with progress("backup") as told:
            return await copy(data, target, told)

    say(f"{target}: the log up to position {run(work())}")

"""`maquette doctor`: is everything in the data folder as it should be?"""

from __future__ import annotations

import typer

from maquette.server.checkup import Checkup, check
from maquette.server.commands.options import DEFAULT_DATA, Data
from maquette.server.commands.terminal import FAILED, progress, run, say


def doctor(data: Data = DEFAULT_DATA) -> None:
    """Check the log (every record, chain, witness, gaps), documents, assets, projections and keys.

    It reads everything and changes nothing, also beside a running server. The exit code is 1 when something is wrong.
    """

    async def work() -> Checkup:
        with progress("doctor") as told:
            return await check(data, told)

    found = run(work())
    for fact in found.facts:
        say(f"  {fact}")
    for note in found.notes:
        say(f"  note: {note}")
    for problem in found.problems:
        say(f"  PROBLEM: {problem}")
    say("1 problem" if len(found.problems) == 1 else f"{len(found.problems) or 'no'} problems")
    if found.problems:
        raise typer.Exit(FAILED)

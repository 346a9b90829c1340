"""The large run: `python -m tests.crash.run --kills 200 --cuts 1000` prints what docs/reliability.md shows."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random

from tests.crash.cuts import run_cuts
from tests.crash.folders import run_folder_cuts
from tests.crash.kills import run_kills
from tests.crash.recording import Failing
from tests.crash.trials import run_trials
from tests.crash.troubles import TROUBLES


def say(line: str) -> None:
    """One line to whoever started this."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def run(folder: Path, kills: int, cuts: int, folders: int, troubles: Mapping[str, int], seed: int) -> None:
    """All of it, and the controls that must lose. Raises AssertionError when anything acknowledged is lost."""
    started = time.monotonic()
    if cuts:
        tally = await run_cuts(folder / "full", cuts, seed)
        say(f"synchronous=FULL: {tally.line()}")
        for synchronous in ("NORMAL", "OFF"):
            control = await run_cuts(folder / synchronous, max(1, cuts // 10), seed, synchronous)
            say(f"control, synchronous={synchronous}: {control.line()}")
            assert control.lost > 0, "expected the control to lose something"
        assert (tally.lost, tally.doubled, tally.refused) == (0, 0, {})
        failing = Failing(0.3, dice=Random(seed))
        failed = await run_cuts(folder / "failing", cuts // 2, seed, failing=failing)
        say(f"flushes that fail: {failed.line()}")
        again = await run_cuts(folder / "again", max(10, cuts // 10), seed, failing=Failing(0.3, True, Random(seed)))
        say(f"control, a failed flush tried again: {again.line()}")
        assert again.lost > 0, "expected the control to lose something"
        assert (failed.lost, failed.doubled, failed.refused) == (0, 0, {})
    if folders:
        say((await run_folder_cuts(folder / "folders", folders, seed)).line())
    if kills:
        say((await run_kills(folder / "kills", kills, seed)).line())
    for name, lives in troubles.items():
        if lives:
            say(f"{name}: {(await run_trials(folder / name, TROUBLES[name], lives, seed)).line()}")
    say(f"seed {seed}, {time.monotonic() - started:.0f} s")


def main() -> None:
    """Read the command line, and run in a temporary folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.run", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs of the server under load")
    parser.add_argument("--cuts", type=int, default=100, help="power cuts of the log under load")
    parser.add_argument("--folders", type=int, default=20, metavar="CUTS", help="power cuts of a whole data folder")
    for name, kind in TROUBLES.items():
        parser.add_argument(f"--{name}", type=int, default=6, metavar="LIVES", help=f"of a server with: {kind.__doc__}")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        troubles = {name: getattr(options, name) for name in TROUBLES}
        asyncio.run(run(Path(folder), options.kills, options.cuts, options.folders, troubles, options.seed))


if __name__ == "__main__":
    main()

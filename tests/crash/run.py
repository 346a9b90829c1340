"""The large run: `python -m tests.crash.run --kills 200 --cuts 1000` prints what docs/reliability.md shows."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.cuts import run_cuts
from tests.crash.kills import run_kills


def say(line: str) -> None:
    """One line to whoever started this."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def run(folder: Path, kills: int, cuts: int, seed: int) -> None:
    """Both runs, and the controls that must lose. Raises AssertionError when anything acknowledged is lost."""
    started = time.monotonic()
    if cuts:
        tally = await run_cuts(folder / "full", cuts, seed)
        say(f"synchronous=FULL: {tally.line()}")
        for synchronous in ("NORMAL", "OFF"):
            control = await run_cuts(folder / synchronous, max(1, cuts // 10), seed, synchronous)
            say(f"control, synchronous={synchronous}: {control.line()}")
            assert control.lost > 0, "expected the control to lose something"
        assert (tally.lost, tally.doubled, tally.refused) == (0, 0, {})
    if kills:
        say((await run_kills(folder / "kills", kills, seed)).line())
    say(f"seed {seed}, {time.monotonic() - started:.0f} s")


def main() -> None:
    """Read the command line, and run in a temporary folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.run", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs of the server under load")
    parser.add_argument("--cuts", type=int, default=100, help="power cuts of the log under load")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder), options.kills, options.cuts, options.seed))


if __name__ == "__main__":
    main()

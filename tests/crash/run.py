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
from tests.crash.flips import run_flips
from tests.crash.folders import run_folder_cuts
from tests.crash.kills import run_kills
from tests.crash.recording import Failing
from tests.crash.trials import run_trials
from tests.crash.troubles import TROUBLES


def say(line: str) -> None:
    """One line to whoever started this."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def cut(folder: Path, cuts: int, seed: int) -> None:
    """Power cuts of the log, also behind flushes that fail, and the controls that must lose."""
    tally = await run_cuts(folder / "full", cuts, seed)
    say(f"synchronous=FULL: {tally.line()}")
    failed = await run_cuts(folder / "failing", cuts // 2, seed, failing=Failing(0.3, dice=Random(seed)))
    say(f"flushes that fail: {failed.line()}")
    few = max(10, cuts // 10)
    controls = {
        "synchronous=NORMAL": await run_cuts(folder / "normal", few, seed, "NORMAL"),
        "synchronous=OFF": await run_cuts(folder / "off", few, seed, "OFF"),
        "a failed flush tried again": await run_cuts(folder / "a", few, seed, failing=Failing(0.3, True, Random(seed))),
    }
    for name, control in controls.items():
        say(f"control, {name}: {control.line()}")
        assert control.lost > 0, "expected the control to lose something"
    for one in (tally, failed):
        assert (one.lost, one.doubled, one.refused) == (0, 0, {})


async def run(folder: Path, numbers: Mapping[str, int], seed: int) -> None:
    """All of it, so many times each. Raises AssertionError when anything acknowledged is lost."""
    started = time.monotonic()
    if cuts := numbers["cuts"]:
        await cut(folder / "cuts", cuts, seed)
    if folders := numbers["folders"]:
        say(f"folders: {(await run_folder_cuts(folder / 'folders', folders, seed)).line()}")
    if flips := numbers["flips"]:
        say(f"flips: {(await run_flips(folder / 'flips', flips, seed)).line()}")
    if kills := numbers["kills"]:
        say(f"kills: {(await run_kills(folder / 'kills', kills, seed)).line()}")
    for name, trouble in TROUBLES.items():
        if number := numbers[name]:
            say(f"{name}: {(await run_trials(folder / name, trouble, number, seed)).line()}")
    say(f"seed {seed}, {time.monotonic() - started:.0f} s")


CAMPAIGNS = {
    "kills": (20, "SIGKILLs of the server under load"),
    "cuts": (100, "power cuts of the log under load"),
    "folders": (20, "power cuts of a whole data folder"),
    "flips": (44, "bits flipped and files cut short, in the folder of a killed server"),
    "full": (6, "lives of a server whose disk fills up"),
    "errors": (6, "lives of a server whose calls to the disk fail"),
    "clock": (6, "lives of a server whose clock jumps"),
    "intruders": (3, "lives of a server whose log others want to write"),
}


def main() -> None:
    """Read the command line, and run in a temporary folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.run", description=__doc__)
    for name, (number, what) in CAMPAIGNS.items():
        parser.add_argument(f"--{name}", type=int, default=number, metavar="N", help=f"{what} (default {number})")
    parser.add_argument("--only", action="store_true", help="nothing but what is named here")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of everything that is drawn")
    options = vars(parser.parse_args())
    named = {argument.removeprefix("--").partition("=")[0] for argument in sys.argv[1:]}
    numbers = {name: options[name] if name in named or not options["only"] else 0 for name in CAMPAIGNS}
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder), numbers, options["seed"]))


if __name__ == "__main__":
    main()

"""`make fuzz`: rounds against every target, for a time or a number of inputs.

    python -m tests.fuzz [--seconds N | --count N] [--seed N] [TARGET…]

`--seconds` is shared by the targets, `--count` is for each of them. The same seed gives the same inputs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from tests.fuzz.became import Became
from tests.fuzz.campaign import TARGETS, Finding, attack, run_round


def main() -> int:
    """Run what the command line asks for; 1 when something was found."""
    asked = _arguments()
    if asked.round:
        name, seed, count, *last = asked.round
        became = attack(name, int(seed), int(count), last[0] if last else None)
        sys.stdout.write(json.dumps([became.fates, became.echoes]))
        return 0
    names = asked.targets or list(TARGETS)
    share = None if asked.count else asked.seconds / len(names)
    return max(_siege(name, asked.seed, asked.count, share) for name in names)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--seconds", type=float, default=120.0)
    amount.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--round", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    unknown = {*asked.targets} - {*TARGETS}
    if unknown:
        parser.error(f"expected targets of {', '.join(TARGETS)}, got {', '.join(sorted(unknown))}")
    return asked


def _siege(name: str, seed: int, count: int | None, seconds: float | None) -> int:
    start, became, first = time.monotonic(), Became(), seed
    size = TARGETS[name].round
    while (count is not None and became.total < count) or (seconds is not None and time.monotonic() - start < seconds):
        try:
            became.add(run_round(name, seed, size if count is None else min(size, count - became.total)))
        except Finding as finding:
            sys.stdout.write(f"{finding}\n")
            return 1
        seed += 1
    took = time.monotonic() - start
    sys.stdout.write(f"{name}: {became.total} inputs, seeds {first}–{seed - 1}, {took:.0f} s: {became}\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Runs rounds of hostile input, each in a process of its own, and says with which seed and input one failed.

A round that crashes, raises, or does not end in time is a finding: its seed repeats it, and the input at which it was
is in the message. The process ends itself with a traceback when native code never returns.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import mmap
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from random import Random

from tests.fuzz.became import Became

ROOT = Path(__file__).resolve().parent.parent.parent
ROOM = 1 << 16
SHOWN = 2_000

Note = Callable[[bytes], None]
Attack = Callable[[Random, int, Note], Awaitable[Became]]


@dataclass(frozen=True, slots=True)
class Target:
    """What is attacked: the function that does it, and how many inputs make a round of some seconds."""

    function: str
    round: int
    options: tuple[str, ...] = ("-X", "dev")
    """Of the interpreter."""
    seconds: int = 120
    """After so long a round hangs: it takes a tenth of that on two busy cores."""

    def load(self) -> Attack:
        module, _, name = self.function.partition(":")
        attack: Attack = getattr(import_module(module), name)
        return attack


TARGETS: Mapping[str, Target] = {
    "updates": Target("tests.fuzz.updates:besiege", 5_000),
    "sockets": Target("tests.fuzz.sockets:storm", 1_000),
    "served": Target("tests.fuzz.served:lay_siege", 4_000, (), 600),  # asyncio's debugging takes more than the server
    "tokens": Target("tests.fuzz.tokens:forge", 5_000),
    "rest": Target("tests.fuzz.rest:call", 500),
    "files": Target("tests.fuzz.files:import_broken", 500),
}


class Finding(AssertionError):
    """A round that failed. The message repeats it."""


def run_round(name: str, seed: int, count: int) -> Became:
    """What became of at least `count` inputs. Raises Finding."""
    options = [*TARGETS[name].options, "-W", "error"]
    command = [sys.executable, *options, "-m", "tests.fuzz", "--round", name, str(seed), str(count)]
    with tempfile.NamedTemporaryFile() as last:
        last.write(bytes(ROOM))
        last.flush()
        try:
            done = subprocess.run(
                [*command, last.name], cwd=ROOT, capture_output=True, text=True, timeout=TARGETS[name].seconds + 10
            )
        except subprocess.TimeoutExpired as error:
            raise Finding(_told(name, seed, count, last.name, f"no end within {TARGETS[name].seconds} s")) from error
        if done.returncode != 0:
            raise Finding(_told(name, seed, count, last.name, f"exit code {done.returncode}\n{done.stderr[-6_000:]}"))
    fates, echoes = json.loads(done.stdout)
    return Became(Counter(fates), echoes)


def _told(name: str, seed: int, count: int, last: str, got: str) -> str:
    held = Path(last).read_bytes()
    size = int.from_bytes(held[:8], "little")
    shown = held[8 : 8 + min(size, SHOWN)].hex()
    return (
        f"python -m tests.fuzz --round {name} {seed} {count}: expected all input to be survived, got {got}\n"
        f"the input was {size} bytes: {shown}"
    )


def attack(name: str, seed: int, count: int, last: str | None) -> Became:
    """One round in this process. What it is at goes to the file `last`, where it outlives us."""
    faulthandler.dump_traceback_later(TARGETS[name].seconds, exit=True)
    target = TARGETS[name].load()
    if last is None:
        return asyncio.run(_run(target, seed, count, lambda _: None))
    with Path(last).open("r+b") as file, mmap.mmap(file.fileno(), ROOM) as held:

        def note(data: bytes) -> None:
            part = data[: ROOM - 8]
            held[: 8 + len(part)] = len(data).to_bytes(8, "little") + part

        return asyncio.run(_run(target, seed, count, note))


async def _run(target: Attack, seed: int, count: int, note: Note) -> Became:
    return await target(Random(seed), count, note)

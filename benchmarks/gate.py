"""What judging costs: microseconds per op, beside what pycrdt alone takes for the same updates.

    .venv/bin/python benchmarks/gate.py [--profile]

`bare` is pycrdt's `apply_update` without anybody who observes: the yardstick of the run. `judge` is all of
`Replica.admit` but pycrdt's `apply_update`: reader, index, judgement, what the server adds, and `tell`, the changes in
words. `admit` has `apply_update` too, with its observer. `submit` is `Document.submit`: the event and its place in a
log in memory besides. Each op is measured several times over, each time in a new replica; its fastest counts, so that
other work on the machine shows as little as possible. Ratios to the yardstick of the same run are what to compare
between machines and versions.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import pycrdt

from maquette.engine.document import Document
from maquette.engine.events import Actor
from maquette.engine.kinds.chat import CHAT, SEPARATOR
from maquette.engine.kinds.kind import Kind, Op
from maquette.engine.kinds.scene import SCENE
from maquette.engine.kinds.text import TEXT
from maquette.engine.logs.memory import MemoryLog
from maquette.engine.replica import Integrated, Replica
from maquette.engine.roles import Role
from maquette.engine.scene.schema import new_node
from maquette.engine.update import DEFAULT_LIMITS

OPS = 400
ROUNDS = 9
ADA = Actor("ada")
CLIENT, SERVER_CLIENT = 1_234_567_890, 4_000_000_000  # of five bytes, as nearly all are
Step = Callable[["pycrdt.Doc[Any]", int], None]


def add_node(doc: pycrdt.Doc[Any], number: int) -> None:
    doc.get("nodes", type=pycrdt.Map)[f"n{number:010d}"] = pycrdt.Map(new_node("group", "n", (None, "V")))


def move(doc: pycrdt.Doc[Any], number: int) -> None:
    doc.get("nodes", type=pycrdt.Map)[f"n{number % 100:010d}"]["translation"] = [number + 0.5, 1.5, 2.5]


def hide(doc: pycrdt.Doc[Any], number: int) -> None:
    doc.get("nodes", type=pycrdt.Map)[f"n{number % 100:010d}"]["visible"] = number // 100 % 2 == 0


def post(doc: pycrdt.Doc[Any], number: int) -> None:
    fields = {"id": f"m{number:010d}", "author": "ada", "body": "hello there", "sent": number}
    doc.get("messages", type=pycrdt.Array).append(pycrdt.Map({**fields, "reactions": pycrdt.Map()}))


def react(doc: pycrdt.Doc[Any], number: int) -> None:
    message = doc.get("messages", type=pycrdt.Array)[number % 100]
    message["reactions"][f"{chr(0x1F600 + number // 100)}{SEPARATOR}ada"] = True


def press(doc: pycrdt.Doc[Any], number: int) -> None:
    doc.get("text", type=pycrdt.Text).insert(number, "x")


def erase(doc: pycrdt.Doc[Any], number: int) -> None:
    del doc.get("text", type=pycrdt.Text)[0]


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: OPS steps behind `before` steps of another sort."""

    name: str
    kind: Kind
    step: Step
    before: int = 0
    prepare: Step = press

    def updates(self) -> tuple[list[bytes], list[bytes]]:
        """Those that lead there, and those to measure."""
        doc: pycrdt.Doc[Any] = pycrdt.Doc(client_id=CLIENT)
        made: list[bytes] = []
        watch = doc.observe(lambda event: made.append(event.update))
        for number in range(self.before):
            self.prepare(doc, number)
        for number in range(OPS):
            self.step(doc, number)
        doc.unobserve(watch)
        return made[: self.before], made[self.before :]


CASES = (
    Case("text: a character typed", TEXT, press),
    Case("text: a character deleted", TEXT, erase, OPS),
    Case("scene: a boolean set", SCENE, hide, 100, add_node),
    Case("scene: a translation set", SCENE, move, 100, add_node),
    Case("scene: a node added", SCENE, add_node),
    Case("chat: a message posted", CHAT, post),
    Case("chat: a reaction", CHAT, react, 100, post),
)


def fastest(rounds: Sequence[Sequence[float]]) -> float:
    """In µs: of each op its fastest round, of these the median."""
    times: list[float] = [min(one) for one in zip(*rounds, strict=True)]
    return median(times) * 1e6


def timed(act: Callable[[bytes], object], updates: Sequence[bytes]) -> list[float]:
    times = []
    for update in updates:
        start = perf_counter()
        act(update)
        times.append(perf_counter() - start)
    return times


def bare(before: Sequence[bytes], updates: Sequence[bytes]) -> list[float]:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    for update in before:
        doc.apply_update(update)
    return timed(doc.apply_update, updates)


def noted(act: Callable[..., Any], times: list[float]) -> Callable[..., Any]:
    """`act`, whose every call adds its time."""

    def call(*arguments: object) -> Any:
        start = perf_counter()
        try:
            return act(*arguments)
        finally:
            times.append(perf_counter() - start)

    return call


class Judged:
    """A replica that takes updates, and for each the time that pycrdt needed, and the changes in words."""

    def __init__(self, kind: Kind) -> None:
        self.replica = Replica(kind, SERVER_CLIENT)
        self.applying: list[float] = []
        self.telling: list[float] = []
        doc, memory = self.replica.doc, self.replica.memory
        doc.apply_update = noted(doc.apply_update, self.applying)  # type: ignore[method-assign]  # told apart
        memory.describe = noted(memory.describe, self.telling)  # type: ignore[method-assign]  # told apart

    def admit(self, update: bytes) -> None:
        done = self.replica.admit(Op(ADA, Role.EDITOR, 1_800_000_000_000), update, CLIENT, DEFAULT_LIMITS)
        if not isinstance(done, Integrated) or done.reasons:
            raise SystemExit(f"expected every op to be admitted, got {done}")


def admitted(kind: Kind, before: Sequence[bytes], updates: Sequence[bytes]) -> tuple[list[float], ...]:
    """For each update all of `admit`, that without what pycrdt took, and the changes in words alone."""
    judged = Judged(kind)
    timed(judged.admit, before)
    judged.applying.clear()
    judged.telling.clear()
    whole = timed(judged.admit, updates)
    return whole, [all_ - pycrdts for all_, pycrdts in zip(whole, judged.applying, strict=True)], judged.telling


async def submitted(kind: Kind, before: Sequence[bytes], updates: Sequence[bytes]) -> list[float]:
    log = MemoryLog()
    document = Document("bench", Replica(kind, SERVER_CLIENT), log, lambda: 1_800_000_000_000)
    for update in before:
        document.submit(ADA, lambda: Role.EDITOR, update, CLIENT)
    times = timed(lambda update: document.submit(ADA, lambda: Role.EDITOR, update, CLIENT), updates)
    await document.drained()
    if document.durable != len(before) + len(updates):
        raise SystemExit(f"expected every op in the log, got {document.durable}")
    await log.close()
    return times


def show(case: Case) -> None:
    before, updates = case.updates()
    yardstick = fastest([bare(before, updates) for _ in range(ROUNDS)])
    rounds = [admitted(case.kind, before, updates) for _ in range(ROUNDS)]
    admit, judge, tell = (fastest(column) for column in zip(*rounds, strict=True))
    submit = fastest([asyncio.run(submitted(case.kind, before, updates)) for _ in range(ROUNDS)])
    size = round(median(map(len, updates)))
    print(
        f"{case.name:28}{size:>7}{yardstick:>9.1f}{judge:>9.1f}{judge / yardstick:>8.1f}{tell:>9.1f}"
        f"{admit:>9.1f}{submit:>9.1f}{submit / yardstick:>8.1f}"
    )


def profile(case: Case) -> None:
    before, updates = case.updates()
    with cProfile.Profile() as profile:
        admitted(case.kind, before, updates)
    pstats.Stats(profile).sort_stats("tottime").print_stats(16)


def main() -> None:
    """Print the table."""
    print(
        f"{'op':28}{'bytes':>7}{'bare µs':>9}{'judge':>9}{'ratio':>8}{'tell':>9}{'admit':>9}{'submit':>9}{'ratio':>8}"
    )
    for case in CASES:
        show(case)
        if "--profile" in sys.argv:
            profile(case)


if __name__ == "__main__":
    main()

"""What judging costs: microseconds per op through `Replica.admit`, beside what pycrdt alone takes for the same updates.

    .venv/bin/python benchmarks/gate.py [--profile]

The ratio to bare pycrdt in the same run is what to compare between machines and versions.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import pycrdt

from maquette.engine.events import Actor
from maquette.engine.kinds.chat import CHAT
from maquette.engine.kinds.kind import Kind, Op
from maquette.engine.kinds.scene import SCENE
from maquette.engine.kinds.text import TEXT
from maquette.engine.replica import Integrated, Replica
from maquette.engine.roles import Role
from maquette.engine.scene.schema import new_node
from maquette.engine.update import DEFAULT_LIMITS

OPS = 1_500
Step = Callable[["pycrdt.Doc[Any]", int], None]


def move(doc: pycrdt.Doc[Any], number: int) -> None:
    nodes = doc.get("nodes", type=pycrdt.Map)
    if number < 100:
        nodes[f"n{number}"] = pycrdt.Map(new_node("group", "n", (None, "V")))
    else:
        nodes[f"n{number % 100}"]["translation"] = [number + 0.5, 1.5, 2.5]


def post(doc: pycrdt.Doc[Any], number: int) -> None:
    fields = {"id": f"m{number}", "author": "ada", "body": "hello there", "sent": number, "reactions": pycrdt.Map()}
    doc.get("messages", type=pycrdt.Array).append(pycrdt.Map(fields))


def press(doc: pycrdt.Doc[Any], number: int) -> None:
    doc.get("text", type=pycrdt.Text).insert(number, "x")


def updates(step: Step) -> list[bytes]:
    doc: pycrdt.Doc[Any] = pycrdt.Doc(client_id=7)
    made: list[bytes] = []
    watch = doc.observe(lambda event: made.append(event.update))
    for number in range(OPS):
        step(doc, number)
    doc.unobserve(watch)
    return made


def bare(made: list[bytes], first: int) -> float:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    for update in made[:first]:
        doc.apply_update(update)
    start = perf_counter()
    for update in made[first:]:
        doc.apply_update(update)
    return (perf_counter() - start) / (OPS - first) * 1e6


def judged(kind: Kind, made: list[bytes], first: int) -> float:
    replica, actor = Replica(kind, 1), Actor("ada")
    for number, update in enumerate(made):
        if number == first:
            start = perf_counter()
        done = replica.admit(Op(actor, Role.EDITOR, number), update, 7, DEFAULT_LIMITS)
        if not isinstance(done, Integrated) or done.reasons:
            raise SystemExit(f"expected every op to be admitted, got {done}")
    return (perf_counter() - start) / (OPS - first) * 1e6


def main() -> None:
    print(f"{'op':28}{'pycrdt µs':>12}{'gate µs':>12}{'ratio':>8}")
    for name, kind, step, first in (
        ("node.translation set", SCENE, move, 100),
        ("chat post", CHAT, post, 0),
        ("text keystroke", TEXT, press, 0),
    ):
        made = updates(step)
        alone, gate = min(bare(made, first) for _ in range(3)), min(judged(kind, made, first) for _ in range(3))
        print(f"{name:28}{alone:12.1f}{gate:12.1f}{gate / alone:8.1f}")
        if "--profile" in sys.argv:
            with cProfile.Profile() as profile:
                judged(kind, made, first)
            pstats.Stats(profile).sort_stats("tottime").print_stats(14)


if __name__ == "__main__":
    main()

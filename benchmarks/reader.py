"""What it costs to read an update before pycrdt applies it: python benchmarks/reader.py

Each row is one update that a server gets, in µs: pycrdt's `apply_update`, and what the reader and the index add to it
(read, trim, hole, writes, misfit, erased, add). Ratios hold from machine to machine, times do not.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from statistics import median
from typing import Any

from pycrdt import Doc, Map, Text

from maquette.engine.deletes import write_deletes
from maquette.engine.index import Index
from maquette.engine.update import Update, read_update

NODES = 10_000


def scene(nodes: int) -> Doc[Map[object]]:
    """A scene as an import makes it: each node's map written once, whole."""
    doc: Doc[Map[object]] = Doc(client_id=1_234_567_890)
    root = doc.get("nodes", type=Map)
    with doc.transaction():
        for number in range(nodes):
            root[f"n{number:09d}"] = Map(
                {
                    "name": f"Chair {number}",
                    "type": "mesh",
                    "place": [None, f"a{number:06d}"],
                    "translation": [1.5, 2.5, float(number)],
                    "rotation": [0.0, 0.0, 0.0, 1.0],
                    "scale": [1.0, 1.0, 1.0],
                    "visible": True,
                    "locked": False,
                    "mesh": ["x" * 43, 0],
                }
            )
    return doc


def edits(doc: Doc[Map[object]], make: Callable[[int], None], count: int) -> list[bytes]:
    """The updates of `count` edits."""
    made: list[bytes] = []
    subscription = doc.observe(lambda event: made.append(event.update))
    for number in range(count):
        make(number)
    doc.unobserve(subscription)
    return made


def judge(index: Index, data: bytes) -> Update:
    """All that the gate does with an update before pycrdt sees it."""
    update = index.trim(read_update(data))
    if not update.is_empty:
        assert index.hole(update) is None
        assert index.misfit(index.writes(update)) is None
        index.erased(update)
        index.add(update)
    return update


def each(act: Callable[[bytes], object], updates: list[bytes]) -> float:
    """The median time of `act` over `updates`, in µs."""
    times = []
    for data in updates:
        started = time.perf_counter()
        act(data)
        times.append(time.perf_counter() - started)
    return median(times) * 1e6


def row(name: str, base: bytes, updates: list[bytes]) -> None:
    """Measure `updates` upon the state `base`, and print."""
    doc: Doc[Any] = Doc()
    doc.get("nodes", type=Map)
    doc.get("text", type=Text)
    doc.apply_update(base)
    index = Index()
    judge(index, base)
    applied = each(doc.apply_update, updates)
    read = each(read_update, updates)
    judged = each(lambda data: judge(index, data), updates)
    size = round(median(map(len, updates)))
    print(f"{name:34}{size:>10}{applied:>12.1f}{read:>12.1f}{judged:>12.1f}{judged / applied:>10.1f}")


def shredded_text(ranges: int) -> tuple[bytes, bytes]:
    """A text of which every third character is left, and what its client sends when it comes back."""
    doc: Doc[Text] = Doc(client_id=1_234_567_890)
    text = doc.get("text", type=Text)
    text += "abc" * ranges
    with doc.transaction():
        for number in reversed(range(ranges)):
            del text[3 * number : 3 * number + 2]
    state = doc.get_update()
    return state, b"\0" + write_deletes(read_update(state).ranges)


def index_size(state: bytes) -> None:
    """Print what the index of `state` takes, in memory and stored."""
    tracemalloc.start()
    index = Index()
    index.add(index.trim(read_update(state)))
    memory, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    stored = index.encode()
    started = time.perf_counter()
    Index.decode(stored)
    took = (time.perf_counter() - started) * 1e3
    print(
        f"\nindex of {NODES} nodes: {memory / 1e6:.1f} MB in memory, {len(stored) / 1e3:.0f} kB stored beside "
        f"{len(state) / 1e6:.1f} MB of state, opened in {took:.1f} ms"
    )


def main() -> None:
    """Print the table."""
    doc = scene(100)
    nodes = doc.get("nodes", type=Map)
    node = nodes["n000000007"]
    assert isinstance(node, Map)
    base = doc.get_update()
    moves = edits(doc, lambda number: node.__setitem__("visible", number % 2 == 0), 2_000)
    moved = doc.get_update()
    notes = edits(doc, lambda number: node.__setitem__("extras", f"{number:6d}" + "x" * 1_000), 500)
    large = scene(NODES).get_update()
    state, known = shredded_text(20_000)
    print(f"{'update':34}{'bytes':>10}{'apply µs':>12}{'read µs':>12}{'judge µs':>12}{'ratio':>10}")
    row("a register set", base, moves)
    row("a register set to 1 kB", moved, notes)
    row(f"a scene of {NODES} nodes", b"\0\0", [large])
    row("20,000 deleted ranges, all known", state, [known] * 9)
    index_size(large)


if __name__ == "__main__":
    main()

"""Rows of typing: everybody in one document, few in each of many, one before an audience."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.peers.bench import FULL, Bench, LoadFailed, Row, Task, notes_of
from benchmarks.peers.servers import ALL, FAST, PYCRDT, Server

LIMIT_MS = 100.0
STEP_SECONDS = 3.0
SLOW_START = 100.0  # ops a second, for a peer that is known to be slow


def hot(bench: Bench) -> Iterable[Row]:
    """Everybody in one document."""
    yield _edits(bench, "hot room, 50 clients × 20 ops/s", ALL, 1, 50, 20)
    yield _edits(bench, "hot room, 100 clients × 50 ops/s", FAST, 1, 100, 50)


def hot_limit(bench: Bench) -> Iterable[Row]:
    """Everybody in one document, ever faster."""
    yield _highest(bench, "hot room of 50 clients", 1, 50, 800)


def many(bench: Bench) -> Iterable[Row]:
    """Few in each of many documents."""
    yield _edits(bench, "many rooms, 100 × 4 clients × 10 ops/s", ALL, 100, 4, 10)
    yield _edits(bench, "many rooms, 300 × 2 clients × 10 ops/s", FAST, 300, 2, 10)


def many_limit(bench: Bench) -> Iterable[Row]:
    """Few in each of many documents, ever faster."""
    yield _highest(bench, "many rooms, 100 × 4 clients", 100, 4, 3_000)


def audience(bench: Bench) -> Iterable[Row]:
    """One writes, many read."""
    yield _edits(bench, "audience, 1 writer × 20 ops/s to 1,500 readers", FAST, 1, 1, 20, readers=1_500)


def _edits(
    bench: Bench, title: str, names: Sequence[str], rooms: int, writers: int, rate: float, readers: int = 0
) -> Row:
    row = Row(f"{title}, p95", "ms")
    shape: Task = {
        "rooms": rooms,
        "writers": writers,
        "readers": readers,
        "rate": rate,
        "seconds": bench.seconds,
    }

    def measure(server: Server) -> None:
        server.make(())
        try:
            told = bench.load(server, "ops", **shape)
        except LoadFailed as error:
            row.add(server.name, None, str(error))
            return
        row.add(server.name, told["p95"], *notes_of(told))

    bench.turns(names, measure)
    return row


def _highest(bench: Bench, title: str, rooms: int, writers: int, begin: float) -> Row:
    row = Row(f"{title}: highest rate with p95 within {LIMIT_MS:g} ms", "ops/s")
    shape: Task = {"rooms": rooms, "writers": writers, "limit": LIMIT_MS, "seconds": STEP_SECONDS}

    def measure(server: Server) -> None:
        server.make(())
        try:
            told = bench.load(server, "climb", **shape, begin=SLOW_START if server.name == PYCRDT else begin)
        except LoadFailed as error:
            row.add(server.name, 0.0, str(error))
            return
        limited = ["beyond it the load generator is at its own limit"] if told["load"] > FULL else []
        row.add(server.name, told["reached"], *limited)

    bench.turns((*FAST, PYCRDT), measure)
    return row

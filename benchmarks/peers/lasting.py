"""Rows of what remains: after kill -9, and of the past."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from benchmarks.peers.bench import Bench, LoadFailed, Row
from benchmarks.peers.logs import log_rows
from benchmarks.peers.servers import DURABLE, MAQUETTE, Server

KILLED_AFTER = 10.0
OPS = 100_000
POSITIONS = 5


def durability(bench: Bench) -> Iterable[Row]:
    """kill -9 after 10 s: what somebody else had seen, and is gone."""
    row = Row(
        f"kill -9 after {KILLED_AFTER:g} s of 5 rooms × 4 clients × 10 ops/s: ops that others had seen and are gone",
        "ops",
    )
    for _ in range(bench.repeats):
        for name in bench.of(DURABLE):
            with TemporaryDirectory(prefix="maquette-bench-") as folder:
                lost, seen = _lost(bench, name, Path(folder))
                row.add(name, float(lost), f"of {round(seen, -2):,}")
    yield row


def _lost(bench: Bench, name: str, folder: Path) -> tuple[int, int]:
    """How many ops are gone, and of how many."""
    with bench.server(name, folder) as server:
        server.make(())
        with bench.begin(server, "seen", rooms=5, writers=4, rate=10, seconds=KILLED_AFTER + 1) as load:
            load.until("joined")
            time.sleep(KILLED_AFTER)
            server.kill()
            seen: dict[str, int] = load.end()["seen"]
    with bench.server(name, folder) as server:
        found: dict[str, int] = bench.load(server, "held", rooms=5)["found"]
    return sum(max(0, count - found.get(client, 0)) for client, count in seen.items()), sum(seen.values())


def history(bench: Bench) -> Iterable[Row]:
    """The past of a document, and the log itself."""
    if MAQUETTE in bench.among:
        yield _past(bench)
    yield from log_rows(bench)


def _past(bench: Bench) -> Row:
    row = Row(f"history: state at a random revision of {OPS:,} ops", "ms")
    with bench.server(MAQUETTE) as server:
        server.make(())
        try:
            bench.load(server, "fill", name="long", letters=OPS)
        except LoadFailed as error:
            row.add(MAQUETTE, None, str(error))
            return row
        for revision in random.Random(4).sample(range(1, OPS), POSITIONS * bench.repeats):
            row.add(MAQUETTE, _state_at(server, revision), "no peer here keeps the past")
    return row


def _state_at(server: Server, revision: int) -> float:
    """Milliseconds for the state at `revision`, over HTTP. Raises for a text that is not so long."""
    address = f"{server.http}/v1/spaces/bench/documents/text:long/state?revision={revision}&{server.queries[0]}"
    began = time.perf_counter()
    answer = httpx.get(address, timeout=120).raise_for_status()
    took = 1_000 * (time.perf_counter() - began)
    if len(answer.json()["state"]["text"]) > revision:
        raise ValueError(f"expected at most {revision} letters at revision {revision}, got {answer.text[:80]!r}")
    return took

"""Rows of coming and staying: what is on disk is opened, and people and documents who do nothing are kept."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peers.bench import Bench, LoadFailed, Row
from benchmarks.peers.servers import FAST, HOCUSPOCUS, LEVELDB, MAQUETTE, Server

STORE_MS = 12_000  # Hocuspocus stores 2 s after the last edit, and 10 s after the first
STORM = 150
WHOLE = 0.9  # of the bytes that a joiner got before the restart: encodings differ a little
STILL = 5_000
STILL_PEOPLE = f"connection, {STILL:,} of them in rooms of 20"
OPEN_DOCUMENTS = f"open document, {STILL:,} of them with one person each"
STILL_MEMORY, STILL_CPU = f"memory per {STILL_PEOPLE}", f"processor per {STILL_PEOPLE}"
OPEN_MEMORY = f"memory per {OPEN_DOCUMENTS}"
SETTLE_SECONDS = 2.0
WATCHED_SECONDS = 5.0


def join(bench: Bench) -> Iterable[Row]:
    """Opening what is on disk."""
    yield from _Join("a text of 259,778 edits", "text", {"edits": 259_778}).rows(bench)
    yield from _Join("a scene of 10,000 nodes, 4 MB", "scene", {"nodes": 10_000}).rows(bench)


@dataclass(slots=True)
class _Join:
    title: str
    kind: str
    content: dict[str, int]
    cold: Row = field(init=False)
    storm: Row = field(init=False)
    beside: Row = field(init=False)

    def __post_init__(self) -> None:
        self.cold = Row(f"join, {self.title}: cold open and full sync after a restart", "ms")
        self.storm = Row(f"join, {self.title}: {STORM} clients at once after a restart, until all have it", "ms")
        self.beside = Row(f"join, {self.title}: the longest wait of an edit elsewhere during that storm", "ms")

    def rows(self, bench: Bench) -> Iterable[Row]:
        for name in bench.of((MAQUETTE, HOCUSPOCUS, LEVELDB)):
            with TemporaryDirectory(prefix="maquette-bench-") as folder:
                self._measure(bench, name, Path(folder))
        return self.cold, self.storm, self.beside

    def _measure(self, bench: Bench, name: str, folder: Path) -> None:
        try:
            with bench.server(name, folder) as server:
                server.make(("filled",))
                filled = bench.load(server, "fill", self.kind, name="filled", linger=STORE_MS, **self.content)
        except LoadFailed as error:
            self.cold.add(name, None, str(error))
            return
        wanted = int(WHOLE * filled["state"])
        for _ in range(bench.repeats):
            with bench.server(name, folder) as server:
                self._open(bench, server, wanted)
            with bench.server(name, folder) as server:
                self._rush(bench, server, wanted)

    def _open(self, bench: Bench, server: Server, wanted: int) -> None:
        try:
            told = bench.load(server, "join", self.kind, clients=1, name="filled", wanted=wanted)
        except LoadFailed as error:
            self.cold.add(server.name, None, str(error))
            return
        self.cold.add(server.name, told["longest"])

    def _rush(self, bench: Bench, server: Server, wanted: int) -> None:
        try:
            told = bench.load(server, "join", self.kind, clients=STORM, seconds=2, name="filled", wanted=wanted)
        except LoadFailed as error:
            self.storm.add(server.name, None, str(error))
            return
        self.storm.add(server.name, told["longest"])
        self.beside.add(server.name, told["beside"]["longest"])


def idle(bench: Bench) -> Iterable[Row]:
    """What it costs to keep people and documents who do nothing."""
    yield from _idle(bench, STILL_PEOPLE, 20)
    yield from _idle(bench, OPEN_DOCUMENTS, 1)


def _idle(bench: Bench, title: str, per_room: int) -> Iterable[Row]:
    memory = Row(f"idle: memory per {title}", "KiB")
    cpu = Row(f"idle: processor per {title}", "µs/s")
    for name in bench.of(FAST):
        with bench.server(name) as server:
            server.make(())
            _stay(bench, server, per_room, memory, cpu)
    return memory, cpu


def _stay(bench: Bench, server: Server, per_room: int, memory: Row, cpu: Row) -> None:
    before = server.memory()
    try:
        with bench.begin(server, "idle", clients=STILL, perRoom=per_room) as load:
            load.until("joined")
            time.sleep(SETTLE_SECONDS)
            memory.add(server.name, (server.memory() - before) / STILL / 1024)
            spent = server.cpu()
            time.sleep(WATCHED_SECONDS)
            cpu.add(server.name, (server.cpu() - spent) / WATCHED_SECONDS / STILL * 1e6)
            load.go_on()
            closed = load.end()["closed"]
    except LoadFailed as error:
        memory.add(server.name, None, str(error))
        return
    if closed:
        memory.add(server.name, None, f"{closed} connections were closed")

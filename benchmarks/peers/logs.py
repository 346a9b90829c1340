"""Our log beside the `eventsourcing` library's on SQLite: both in WAL mode, both on disk when an append returns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID, uuid4

import msgpack
from benchmarks import log_append
from benchmarks.peers.bench import Bench, Row
from benchmarks.peers.servers import MAQUETTE
from eventsourcing.persistence import StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

EVENTSOURCING = "eventsourcing"
AT_ONCE = 100
PAGE = 1_000


def log_rows(bench: Bench) -> Iterable[Row]:
    """Appends one after the other, appends of a hundred at a time, and reading everything back."""
    single = Row("log: appends, one caller who waits for the disk each time", "events/s")
    many = Row(f"log: appends, {AT_ONCE} at a time", "events/s")
    read = Row("log: reading all of it, in order, by pages", "events/s")
    for _ in range(bench.repeats):
        for name, measure in ((MAQUETTE, _ours), (EVENTSOURCING, _theirs)):
            bench.tell(f"    {time.strftime('%H:%M:%S')} log of {name}")
            with TemporaryDirectory(prefix="maquette-bench-") as folder:
                figures = measure(Path(folder))
            for row, figure in zip((single, many, read), figures, strict=True):
                row.add(name, figure)
    single.add(MAQUETTE, None, "hash-chained, with a checksum each")
    many.add(MAQUETTE, None, f"{AT_ONCE} callers who know nothing of one another")
    many.add(EVENTSOURCING, None, f"one caller who gives {AT_ONCE}")
    return single, many, read


def _ours(folder: Path) -> tuple[float, float, float]:
    rates = []
    for callers in (1, AT_ONCE):
        events, seconds, _ = asyncio.run(log_append.log_appends(folder / str(callers), callers))
        rates.append(events / seconds)
    return rates[0], rates[1], asyncio.run(log_append.log_reads(folder / str(AT_ONCE)))


def _theirs(folder: Path) -> tuple[float, float, float]:
    store = SQLiteDatastore(str(folder / "events.sqlite"))
    recorder = SQLiteApplicationRecorder(store)
    recorder.create_table()
    try:
        return _appends(recorder, 1), _appends(recorder, AT_ONCE), _reads(recorder)
    finally:
        store.close()


def _appends(recorder: SQLiteApplicationRecorder, streams: int) -> float:
    """Events per second, an event for each of `streams` in a call."""
    event = log_append.edit()
    ids: list[UUID] = [uuid4() for _ in range(streams)]
    version, began = 0, time.perf_counter()
    while time.perf_counter() - began < log_append.SECONDS:
        version += 1
        recorder.insert_events(
            [StoredEvent(one, version, event.type, bytes(msgpack.packb(dict(event.data)))) for one in ids]
        )
    return version * streams / (time.perf_counter() - began)


def _reads(recorder: SQLiteApplicationRecorder) -> float:
    count, last, began = 0, 0, time.perf_counter()
    while found := recorder.select_notifications(start=last + 1, limit=PAGE):
        count, last = count + len(found), found[-1].id
    return count / (time.perf_counter() - began)

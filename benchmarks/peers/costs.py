"""What work costs Maquette: processor per op and delivery, and bytes of log. docs/scaling.md is computed from these.

Two loads with the same ops but other numbers of readers tell the cost of taking an op in from that of handing it out.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peers.bench import Bench, Row, Task, Told, notes_of
from benchmarks.peers.people import PER_ROOM
from benchmarks.peers.servers import MAQUETTE, Server

APART = "cost: an edit taken in, in 100 rooms × 4 clients × 5 ops/s, without handing it out"
EACH = "cost: an edit handed out to one more person, in a room of 50 × 10 ops/s"
SAID = f"cost: a chat message taken in and handed out to its room of {PER_ROOM}, 1,000 people, one per 5 s each"
EDIT_BYTES = "cost: log on disk per edit"
CHAT_BYTES = "cost: log on disk per chat message"


def cost(bench: Bench) -> Iterable[Row]:
    """Ours alone, well below what a core takes, so that nothing queues."""
    apart, each, said = Row(APART, "µs"), Row(EACH, "µs"), Row(SAID, "µs")
    edit_bytes, chat_bytes = Row(EDIT_BYTES, "bytes"), Row(CHAT_BYTES, "bytes")
    for _ in bench.of((MAQUETTE,)) * bench.repeats:
        few, few_bytes = _typing(bench, rooms=100, writers=4, rate=5)
        crowd, _ = _typing(bench, rooms=1, writers=50, rate=10)
        # few = taken + 4 × handed; crowd = taken + 50 × handed
        handed = max(0.0, (crowd - few) / (50 - 4))
        apart.add(MAQUETTE, max(0.0, few - 4 * handed))
        each.add(MAQUETTE, handed)
        edit_bytes.add(MAQUETTE, few_bytes)
        message, message_bytes = _saying(bench)
        said.add(MAQUETTE, message)
        chat_bytes.add(MAQUETTE, message_bytes)
    return apart, each, said, edit_bytes, chat_bytes


def _typing(bench: Bench, rooms: int, writers: int, rate: float) -> tuple[float, float]:
    """Microseconds of the server's processor, and bytes of log, per op."""
    shape: Task = {"rooms": rooms, "writers": writers, "rate": rate, "seconds": bench.seconds, "warmup": 1}
    rate *= rooms * writers
    return _measured(bench, rate, rate * (bench.seconds + 1), (), "ops", "text", shape)


def _saying(bench: Bench) -> tuple[float, float]:
    people, every = 1_000, 5
    shape: Task = {
        "people": people,
        "perRoom": PER_ROOM,
        "every": every,
        "seconds": bench.seconds,
        "warmup": 1,
    }
    rooms = [f"run-{number}" for number in range(people // PER_ROOM)]
    return _measured(bench, people / every, people / every * (bench.seconds + 1), rooms, "chat", "chat", shape)


def _measured(
    bench: Bench, rate: float, ops: float, rooms: Iterable[str], row: str, kind: str, shape: Task
) -> tuple[float, float]:
    with TemporaryDirectory(prefix="maquette-bench-") as folder:
        with bench.server(MAQUETTE, Path(folder)) as server:
            server.make(tuple(rooms))
            before = _log_bytes(Path(folder))
            told = _whole(bench.load(server, row, kind, **shape), server)
        return told["server"] / rate * 1e6, (_log_bytes(Path(folder)) - before) / ops


def _whole(told: Told, server: Server) -> Told:
    """A cost counts only when all work was done. Raises ValueError."""
    if notes := notes_of(told):
        raise ValueError(f"{server.name}: expected a load that it carries with ease, got: {'; '.join(notes)}")
    return told


def _log_bytes(folder: Path) -> int:
    """Of the log; when the server has ended, its write-ahead log is in the database."""
    return sum(path.stat().st_size for path in folder.glob("log.*") if path.is_file())

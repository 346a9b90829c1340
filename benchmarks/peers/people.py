"""Rows of people: where they point, what they drag, what they say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.peers.bench import Bench, LoadFailed, Row, Task, notes_of
from benchmarks.peers.servers import FAST, MAQUETTE, Server

NODES = 10_000
PER_ROOM = 20
_DRAGGED = {"drag": {"node": "node0000001", "translation": [1.5, 2.5, 3.5]}}


def presence(bench: Bench) -> Iterable[Row]:
    """Cursors of many, and what they cost those who edit."""
    shown = Row("presence, 500 clients at 10 Hz: p95 of what 20 of them see", "ms")
    quiet = Row("presence: p95 of edits in that room before anybody moves", "ms")
    edits = Row("presence: p95 of edits while all move", "ms")

    def measure(server: Server) -> None:
        server.make(())
        try:
            told = bench.load(server, "presence", clients=500, rate=10, writers=5, seconds=bench.seconds)
        except LoadFailed as error:
            shown.add(server.name, None, str(error))
            return
        shown.add(server.name, told["p95"], _seen(told["part"], told["gap"]), *notes_of(told))
        quiet.add(server.name, told["quiet"]["p95"])
        edits.add(server.name, told["edits"]["p95"])

    bench.turns(FAST, measure)
    yield from (shown, quiet, edits)


def drag(bench: Bench) -> Iterable[Row]:
    """Objects that are dragged go through presence, in a large scene."""
    row = Row(f"drag, 20 clients at 60 Hz in a scene of {NODES:,} nodes, p95", "ms")
    shape: Task = {"clients": 20, "rate": 60, "seconds": bench.seconds, "state": _DRAGGED}

    def measure(server: Server) -> None:
        server.make(("big",))
        try:
            bench.load(server, "fill", "scene", nodes=NODES, name="big")
            told = bench.load(server, "presence", "scene", name="big", **shape)
        except LoadFailed as error:
            row.add(server.name, None, str(error))
            return
        row.add(server.name, told["p95"], _seen(told["part"], told["gap"]), *notes_of(told))

    bench.turns(FAST, measure)
    yield row


def _seen(part: float, gap: float | None) -> str:
    tenths = f"{round(part, 1):.0%} of all moves seen"
    return tenths if gap is None else f"{tenths}, each person's at most {_rounded(gap):,} ms apart (p95)"


def _rounded(ms: float) -> int:
    """One digit: notes of several repeats shall be one."""
    digits = len(str(int(ms))) - 1
    return int(round(ms, -digits))


def chat(bench: Bench) -> Iterable[Row]:
    """Messages, from sending to one's own echo."""
    yield _chat(bench, "chat, 1,000 people in 50 spaces, a message per 5 s each: p95 of the echo", FAST, 1_000, 5)


def crowd(bench: Bench) -> Iterable[Row]:
    """As many as one process shall hold."""
    yield _chat(
        bench, "chat, 10,000 people in 500 spaces, a message per 10 s each: p95 of the echo", (MAQUETTE,), 10_000, 10
    )


def _chat(bench: Bench, title: str, names: Sequence[str], people: int, every: float) -> Row:
    row = Row(title, "ms")
    rooms = [f"run-{number}" for number in range(people // PER_ROOM)]
    shape: Task = {
        "people": people,
        "perRoom": PER_ROOM,
        "every": every,
        "seconds": bench.seconds,
        "warmup": every / 2,
    }

    def measure(server: Server) -> None:
        server.make(rooms)
        try:
            told = bench.load(server, "chat", "chat", **shape)
        except LoadFailed as error:
            row.add(server.name, None, str(error))
            return
        row.add(server.name, told["p95"], *notes_of(told))

    bench.turns(names, measure)
    return row

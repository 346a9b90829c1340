"""How fast the projections catch up with a log: `python benchmarks/projections.py [EVENTS]`.

One SQLite log of chat and scene events, one op each, is read from its start by a projection that does nothing, by the
chat history and by the scene graph, one after the other. The ratio to the one that does nothing says what folding costs
beyond reading the log, on whatever machine this runs.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, MetaData

from maquette.engine.events import Actor, Event, NewEvent
from maquette.engine.logs.sqlite import SqliteLog
from maquette.projections.chat_history import ChatHistory
from maquette.projections.fold import Projection
from maquette.projections.runner import Runner
from maquette.projections.scene_graph import SceneGraph

APPEND = 500
ANN = Actor("a1b2c3d4e5")

Change = dict[str, Any]


class Nothing:
    """Takes every event and does nothing with it."""

    name = "nothing"
    version = 1
    metadata = MetaData()

    def wants(self, event: Event) -> bool:
        return True

    def apply(self, connection: Connection, events: Sequence[Event]) -> None:
        """Nothing."""

    def forget(self) -> None:
        """Nothing."""


def chat(count: int, rng: random.Random) -> Iterator[Change]:
    """Posts, and to every fourth an edit or a reaction."""
    for number in range(count):
        name = f"m{number // 4 * 4}"
        if number % 4 == 3 and rng.random() < 0.5:
            yield {"type": "message.edited", "id": name, "body": "better words " * 5, "edited": number}
        elif number % 4 == 3:
            yield {"type": "reaction.added", "id": name, "emoji": "👍", "actor": ANN.id}
        else:
            stamp = [number, number]
            yield {"type": "message.posted", "id": f"m{number}", "author": ANN.id, "body": "words " * 10} | {
                "sent": number,
                "stamp": stamp,
            }


def scene(count: int, rng: random.Random) -> Iterator[Change]:
    """Half of it builds a scene, three levels deep; the other half moves and changes its nodes."""
    for number in range(count // 2):
        place = [f"n{rng.randrange(number) // 10}" if number > 10 else None, f"V{number:06}"]
        fields = {"name": f"Node {number}", "type": "mesh", "place": place, "visible": True, "locked": False}
        local = {"translation": [number, 0, 0], "rotation": [0, 0, 0, 1], "scale": [1, 1, 1], "mesh": {"shape": "box"}}
        yield {"type": "node.added", "id": f"n{number}", "node": fields | local}
    for number in range(count - count // 2):
        name = f"n{rng.randrange(count // 2)}"
        if number % 4:
            yield {"type": "node.changed", "id": name, "set": {"translation": [0, number, 0]}, "unset": []}
        else:
            yield {"type": "node.moved", "id": name, "place": [f"n{rng.randrange(count // 2)}", "V"]}


async def fill(log: SqliteLog, stream: str, changes: Iterator[Change]) -> None:
    """Write each change as the event of one op."""
    events = [NewEvent("document.edited", ANN, {"update": b"\0" * 60, "changes": [change]}) for change in changes]
    for start in range(0, len(events), APPEND):
        await log.append(stream, events[start : start + APPEND])


async def catch_up(log: SqliteLog, folder: Path, make: Callable[[], Projection]) -> float:
    """Seconds until a fresh view reflects the whole log."""
    runner = await Runner.open(log, folder, [make])
    started = time.perf_counter()
    async with runner:
        await runner.wait_for(await log.head())
        seconds = time.perf_counter() - started
        assert await runner.parked(make().name) == []
    return seconds


async def main(count: int) -> None:
    """Fill a log, let each projection catch up with it, and print."""
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for make, stream, changes in (
            (ChatHistory, "t/s/chat@1", chat(count, rng)),
            (SceneGraph, "t/s/scene@1", scene(count, rng)),
        ):
            log = await SqliteLog.open(folder / make.name / "log")
            await fill(log, stream, changes)
            nothing = await catch_up(log, folder / make.name, Nothing)
            seconds = await catch_up(log, folder / make.name, make)
            await log.close()
            print(
                f"{make.name}: {count} events in {seconds:.2f} s, {count / seconds:,.0f} events/s; "
                f"{seconds / nothing:.1f} times what reading them alone takes ({count / nothing:,.0f} events/s)"
            )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000))

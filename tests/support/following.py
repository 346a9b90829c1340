"""A process that follows a log, for tests that kill it: `python -m tests.support.following FOLDER follow|rebuild`.

Prints a line after each batch. The log is in memory and the same in every process, so that a test can go on where the
killed process stopped.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from uuid import UUID

from tests.support.projections import Tally

from maquette.engine.events import SERVER, NewEvent, Position
from maquette.engine.logs.memory import MemoryLog
from maquette.projections.chat_history import ChatHistory
from maquette.projections.runner import Runner
from maquette.projections.scene_graph import SceneGraph

COUNT = 3000
BATCH = 10
PROJECTIONS = (Tally, ChatHistory, SceneGraph)


async def the_log(count: int) -> MemoryLog:
    """The first `count` events of the one log that this module knows."""
    log = MemoryLog(clock=lambda: 1_700_000_000_000)
    for number in range(count):
        stream, kind, data = _event(number)
        await log.append(stream, [NewEvent(kind, SERVER, data, id=UUID(int=number + 1))])
    return log


def _event(number: int) -> tuple[str, str, dict[str, object]]:
    name = f"x{number}"
    match number % 3:
        case 0:
            return f"s{number % 7}", "number.added", {"number": number}
        case 1:
            change = {
                "type": "message.posted",
                "id": name,
                "author": "ann",
                "body": name,
                "sent": 0,
                "stamp": [number, 0],
            }
            return f"t/s/chat@{number // 1000 + 1}", "document.edited", {"changes": [change]}
    node = {"name": name, "type": "group", "place": [f"x{number // 2}", "V"], "translation": [number, 0, 0]}
    return "t/s/scene@1", "document.edited", {"changes": [{"type": "node.added", "id": name, "node": node}]}


async def follow(folder: Path) -> None:
    """Follow the log to its end, and tell after each batch of the tally."""
    log = await the_log(COUNT)
    async with await Runner.open(log, folder, PROJECTIONS, batch=BATCH) as runner:
        for position in range(BATCH, COUNT, BATCH):
            await runner.view("tally").wait_for(Position(position), 30)
            tell(position)
        await runner.wait_for(await log.head(), 30)


async def rebuild(folder: Path) -> None:
    """Build every projection again, and tell after each batch."""
    log = await the_log(COUNT)
    runner = await Runner.open(log, folder, PROJECTIONS, batch=BATCH)
    for projection in PROJECTIONS:
        await runner.rebuild(projection.name, lambda position, head: tell(position))
    await runner.close()


def tell(position: int) -> None:
    """Print a position for the test that reads along."""
    sys.stdout.write(f"{position}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    folder, mode = Path(sys.argv[1]), sys.argv[2]
    asyncio.run({"follow": follow, "rebuild": rebuild}[mode](folder))

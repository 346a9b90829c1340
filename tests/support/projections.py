"""What the tests of the projections share: a small read model, ways to write events, and whole dumps of a view."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, select

from maquette.engine.events import SERVER, Event, NewEvent, Position
from maquette.engine.log import EventLog
from maquette.projections.fold import Projection
from maquette.projections.runner import Runner
from maquette.projections.view import View

Dump = dict[str, list[tuple[Any, ...]]]


class Tally:
    """Sums the numbers of `number.added` by stream, and counts all events that it was given."""

    name = "tally"
    version = 1
    metadata = MetaData()
    sums = Table(
        "sums", metadata, Column("stream", Text, primary_key=True), Column("sum", Integer), Column("count", Integer)
    )

    def wants(self, event: Event) -> bool:
        return event.type == "number.added"

    def apply(self, connection: Connection, events: Sequence[Event]) -> None:
        for event in events:
            key = {"stream": event.stream}
            connection.execute(self.sums.insert().prefix_with("OR IGNORE"), key | {"sum": 0, "count": 0})
            table = self.sums.c
            values = {"count": table.count + 1, "sum": table.sum + self.number(event)}
            connection.execute(self.sums.update().filter_by(**key).values(values))

    def number(self, event: Event) -> int:
        """The event's number; what is no number raises."""
        return int(event.data["number"])

    def forget(self) -> None:
        """Nothing is kept in memory."""


async def add(log: EventLog, stream: str, *numbers: object) -> Position:
    """Append a `number.added` for each number; the last one's position."""
    return await write(log, stream, *(("number.added", {"number": number}) for number in numbers))


async def write(log: EventLog, stream: str, *events: tuple[str, dict[str, Any]]) -> Position:
    """Append events given as type and data; the last one's position."""
    return (await log.append(stream, [NewEvent(kind, SERVER, data) for kind, data in events])).position


async def edit(log: EventLog, stream: str, *changes: dict[str, Any]) -> Position:
    """Append one `document.edited` with `changes`; its position."""
    data = {"update": b"", "changes": list(changes), "describe": 1, "client": None}
    return await write(log, stream, ("document.edited", data))


async def dump(view: View, projection: Projection) -> Dump:
    """Every row of every table of a view."""
    return await view.read(lambda connection: dump_of(connection, projection.metadata))


def dump_of(connection: Connection, metadata: MetaData) -> Dump:
    """Every row of every table of `metadata`, in the order of the keys."""
    return {
        table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
        for table in metadata.sorted_tables
    }


async def dumps_by_batch(
    log: EventLog, folder: Path, make: Callable[[], Projection], batches: Sequence[int]
) -> list[Dump]:
    """The view of a whole log, built live once for each size of batch, and the last one built again."""
    name, dumps = make().name, []
    position = await log.head()
    for batch in batches:
        async with await Runner.open(log, folder / str(batch), [make], batch=batch) as runner:
            await runner.wait_for(position, 10)
            assert await runner.parked(name) == []
            dumps.append(await dump(runner.view(name), make()))
            if batch == batches[-1]:
                await runner.rebuild(name)
                dumps.append(await dump(runner.view(name), make()))
    return dumps


async def on_file(view: View, statement: str) -> None:
    """Run SQL on the file of a view, beside whoever uses it."""
    await view._live.store.write(lambda connection: connection.exec_driver_sql(statement).close())


async def until(view: View, position: Position) -> None:
    """Wait through failures until the view got there."""
    async with asyncio.timeout(5):
        while view.checkpoint < position:
            await view._moved.wait()

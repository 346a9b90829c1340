"""`maquette log`: the events, one line each."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from maquette.engine.errors import NotFound
from maquette.engine.events import Event, Position
from maquette.engine.logs.sqlite import SqliteLog
from maquette.server.commands.options import DEFAULT_DATA, Data, Json
from maquette.server.commands.terminal import run, say


def log(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events until Ctrl-C.")] = False,
    stream: Annotated[
        str | None,
        typer.Option(
            "--stream",
            metavar="NAME",
            help="Only this stream and those below it: TENANT, TENANT/SPACE or TENANT/SPACE/DOCUMENT@EPOCH.",
        ),
    ] = None,
    after: Annotated[int, typer.Option("--after", metavar="POSITION", min=0, help="Begin behind this position.")] = 0,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Read the log, or follow it. Works beside a running server.

    A line has position, time (UTC), stream and revision, type, actor, and what the event did. With --json it has the
    whole event; bytes are {"$bytes": base64}.
    """

    async def work() -> None:
        opened = await SqliteLog.open_readonly(data)
        try:
            if stream is not None and not follow:
                await _require(opened, stream)
            show = _json if as_json else line
            async with aclosing(_pages(opened, stream, Position(after), follow)) as pages:
                async for page in pages:
                    for event in page:
                        if event.position > after and is_below(event.stream, stream):
                            say(show(event))
        finally:
            await opened.close()

    run(work())


async def _require(log: SqliteLog, stream: str) -> None:
    """Raises NotFound for a stream without events, below which there are none either."""
    if await log.revision(stream) == 0:
        missing = NotFound("stream", stream)
        missing.add_note("streams are named by ids, which `maquette spaces` shows beside the names")
        raise missing


def _pages(log: SqliteLog, stream: str | None, after: Position, follow: bool) -> AsyncGenerator[Sequence[Event], None]:
    if follow:
        return log.subscribe(after=after)
    if stream is not None and "@" in stream:  # a document has no streams below it
        return log.read(stream)
    return log.read_all(after=after)


def is_below(stream: str, top: str | None) -> bool:
    """Whether `stream` is `top` or below it; everything is below None."""
    return top is None or stream == top or stream.startswith(f"{top}/")


def line(event: Event) -> str:
    """The event in one line that a person can read."""
    time = datetime.fromtimestamp(event.time / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    place = f"{event.stream} #{event.revision}"
    return f"{event.position:>8}  {time}  {place}  {event.type}  {_actor(event)}  {_what(event)}".rstrip()


def _actor(event: Event) -> str:
    actor = event.actor
    ways = [
        way for way in (actor.via and f"via {actor.via}", actor.on_behalf_of and f"for {actor.on_behalf_of}") if way
    ]
    return f"{actor.kind} {actor.id}" + (f" ({', '.join(ways)})" if ways else "")


def _what(event: Event) -> str:
    update = event.data.get("update")
    if update is None:
        return " ".join(f"{key}={_short(value)}" for key, value in event.data.items())
    counts = Counter(change["type"] for change in event.data.get("changes") or ())
    told = ", ".join(kind if count == 1 else f"{count} × {kind}" for kind, count in counts.items())
    reason = f"; refused: {_short(event.data['reason'])}" if event.data.get("reason") else ""
    return f"{told or 'nothing'}, {len(update)} bytes{reason}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=_plain)
    return text if len(text) <= 60 else text[:59] + "…"


def _json(event: Event) -> str:
    whole = asdict(event) | {"id": str(event.id), "cause": event.cause and str(event.cause)}
    return json.dumps(whole, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    return {"$bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else str(value)

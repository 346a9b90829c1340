"""Updates that harm pycrdt, and logs that hold one: written by hand, because no gate lets them in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pycrdt import Doc, Map

from maquette.engine.events import Actor, NewEvent
from maquette.engine.log import EventLog
from maquette.engine.logs.sqlite import SqliteLog

STREAM = "t/space/notes@1"
HANG = bytes.fromhex(
    "011107002701016d0463756265012700070003706f730008000701017c0000000081070201880703017c400000000001000400010003c80703"
    "0704017c40a000000001000188070e037e787601016b75027c3f8000007c400000000002810713020001840716072077c3b6726c6400"
)
"""A run of text inside an array: pycrdt takes it in, and never returns from reading it."""


def word(client: int, text: str) -> bytes:
    """A sound update: one key of the map `m`."""
    doc: Doc[Any] = Doc(client_id=client)
    doc.get("m", type=Map)[text] = text
    return doc.get_update()


def edited(update: bytes) -> NewEvent:
    """The event of an update in a text document."""
    changes = [{"type": "text.changed", "roots": ["m"]}]
    return NewEvent(
        "document.edited", Actor("eve"), {"update": update, "changes": changes, "describe": 1, "client": None}
    )


async def poison(log: EventLog, stream: str, *updates: bytes) -> None:
    """Append updates as if a gate had let them in."""
    for update in updates:
        await log.append(stream, [edited(update)])


async def stream_with(folder: Path, *updates: bytes) -> Mapping[str, Any]:
    """A log with a sound event, `updates` and another sound one; what a fold of its stream is given."""
    log = await SqliteLog.open(folder)
    await poison(log, STREAM, word(1, "before"), *updates, word(2, "after"))
    await log.close()
    return {
        "folder": str(folder),
        "snapshots": str(folder / "snapshots"),
        "stream": STREAM,
        "kind": "text",
        "server": 4_000_000_000,
        "until": 2 + len(updates),
        "claims": None,
        "careful": True,
    }

"""Incidents: what a process that served was busy with when it ended, written down for the next one (G4).

The supervisor writes, before it starts another process; that one acts on it before anybody is served (`aftermath`).
Each is a file in the folder `incidents` of the data folder, until it has become events in the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from maquette.engine.events import new_event_id
from maquette.engine.files import sync_folder, write_atomically
from maquette.engine.pulse import Busy, Work

FOLDER = "incidents"


@dataclass(frozen=True, slots=True)
class Incident:
    """`cause` is how the process ended, for people; `times`: how often it ended over the same since the supervisor
    began. `id` is the id of the event that says what came of it, so that it is said once."""

    id: UUID
    cause: str
    times: int
    busy: Busy


def report(data: Path, cause: str, times: int, busy: Busy) -> Incident:
    """Write an incident down, durably, in the data folder. Raises OSError."""
    incident = Incident(new_event_id(), cause, times, busy)
    folder = data / FOLDER
    if not folder.exists():
        folder.mkdir()
        sync_folder(data)
    row = {"cause": cause, "times": times, "busy": asdict(busy)}
    write_atomically(folder / f"{incident.id}.json", json.dumps(row).encode(), durable=True)
    return incident


def unsettled(data: Path) -> Iterator[tuple[Path, Incident | None]]:
    """The incidents that were not acted on yet, the oldest first; None for a file that is none."""
    for path in sorted((data / FOLDER).glob("*.json")):
        try:
            row = json.loads(path.read_bytes())
            busy = Busy(**row["busy"] | {"work": Work(row["busy"]["work"])})
            yield path, Incident(UUID(path.stem), row["cause"], row["times"], busy)
        except (ValueError, KeyError, TypeError):
            yield path, None

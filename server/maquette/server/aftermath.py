"""What comes of incidents: the process that serves next says it in the log, before it serves anybody (G4).

    judged an update that is not logged   → it is quarantined; when others' did it too, the document is frozen
    replayed a revision                   → the document is frozen before it
    loaded or stored a snapshot           → that is discarded, so that a replay tells which revision it is
    folded an event into a projection     → that event is parked there (V4); when it was among others, the next ones are
                                            folded one by one
    read or wrote a file                  → it is told
    read what a document holds            → at the second time it is frozen: before its last revision, then further back

Rule 1: what is said carries the incident's id: after a kill in between it is not said twice.
Rule 2: an incident that nothing can come of, because its document is not there, is left out and told.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from maquette.engine.engine import Engine
from maquette.engine.errors import LogError, MaquetteError, NotFound
from maquette.engine.pulse import Busy, Work
from maquette.engine.space import Space
from maquette.engine.spaces import DocumentRecord
from maquette.projections.guard import Hung
from maquette.server.incidents import Incident, unsettled

READS = 2  # that a process may end over: one may be of a document that is large, on a machine that is slow
_logger = logging.getLogger(__name__)


async def settle(engine: Engine, data: Path) -> list[Hung]:
    """Act on the incidents in the data folder, and remove them. One that cannot be stored stays for the next start.

    The answer is what hung in projections, which are opened behind this.
    """
    hung: list[Hung] = []
    for path, incident in await asyncio.to_thread(list, unsettled(data)):
        try:
            if incident is None:
                raise NotFound("incident in the file", path.name)
            if incident.busy.work is Work.FOLDING:
                hung.append(_hung(incident.busy))
            elif incident.busy.work is not Work.CONVERTING:
                await _settle(engine, incident)
        except LogError as error:
            _logger.error("%s: what came of it could not be stored: %s", path, error)
            continue
        except MaquetteError as error:
            _logger.error("%s is left out: %s", path, error)
        path.unlink()
    return hung


def _hung(busy: Busy) -> Hung:
    return Hung(busy.by, busy.stream, busy.revision, busy.size)


async def _settle(engine: Engine, incident: Incident) -> None:
    space, record, epoch = await _found(engine, incident.busy.stream)
    busy = incident.busy
    reason = f"{_what(incident)}, and the server with it: {incident.cause}"
    match busy.work:
        case Work.JUDGING:
            await space.quarantine(record, epoch, busy, event=incident.id)
            if record.quarantined[epoch].suspects_document:
                reason = f"edits of several people stopped the server: {incident.cause}"
                await space.freeze(record, epoch, busy.revision + 1, reason)
        case Work.REPLAYING:
            await space.freeze(record, epoch, busy.revision, reason, event=incident.id)
        case Work.READING if incident.times >= READS:
            before = further_back(record, epoch, busy.revision)
            await space.freeze(record, epoch, before, reason, event=incident.id)
        case Work.LOADING:
            engine.discard_snapshot(busy.stream)
        case _:
            return
    _logger.warning("%s: %s", busy.stream, reason)


def further_back(record: DocumentRecord, epoch: int, revision: int) -> int:
    """Before which revision to freeze a document that harms whoever reads it at `revision`; which one of those up to
    there it is, nobody knows. The steps double, so that a long history is soon gone through."""
    frozen = record.frozen.get(epoch)
    return revision if frozen is None else max(1, frozen.before - 2**frozen.times)


async def _found(engine: Engine, stream: str) -> tuple[Space, DocumentRecord, int]:
    tenant, _, rest = stream.partition("/")
    name, _, document = rest.partition("/")
    document, _, epoch = document.rpartition("@")
    space = await engine.space(tenant, name)
    for record in space.record.documents.values():
        if record.id == document and epoch.isdecimal() and record.has(int(epoch)):
            return space, record, int(epoch)
    raise NotFound("document's stream", stream)


def _what(incident: Incident) -> str:
    match incident.busy.work:
        case Work.REPLAYING:
            return f"the replay of revision {incident.busy.revision} did not end well"
        case Work.READING:
            return f"a reading at revision {incident.busy.revision} did not end well"
        case Work.LOADING:
            return "a snapshot did not end well"
        case _:
            return "an edit did not end well"

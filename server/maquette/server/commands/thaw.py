"""`maquette thaw`: a frozen document whole again."""

from __future__ import annotations

from typing import Annotated

import typer

from maquette.engine.engine import Engine
from maquette.engine.errors import InvalidInput, LogHeld, NotFound
from maquette.engine.logs.schema import open_for_reading
from maquette.engine.spaces import DocumentName
from maquette.server.commands.options import DEFAULT_DATA, DEFAULT_TENANT, Data, Tenant
from maquette.server.commands.remote import remote_of
from maquette.server.commands.terminal import run, say, tell
from maquette.server.running import operator


def thaw(
    document: Annotated[
        str, typer.Argument(metavar="SPACE/DOCUMENT", help="The space's slug or id, and chat, scene or text:NAME.")
    ],
    tenant: Tenant = DEFAULT_TENANT,
    data: Data = DEFAULT_DATA,
) -> None:
    """Show a frozen document whole again and let it take edits, also those that were quarantined in it.

    Beside a running server, the server does it. What stopped the server may stop it again; then the document is frozen
    again. `maquette doctor` names the frozen documents and why they are.
    """

    async def work() -> None:
        space, _, name = document.partition("/")
        if not name:
            raise InvalidInput(f"document: expected SPACE/DOCUMENT, got {document!r}")
        wanted = DocumentName.parse(name)
        open_for_reading(data).close()  # or a folder without a log would get one
        try:
            engine = await Engine.open(data)
        except LogHeld as held:
            async with remote_of(data, tenant, held) as remote:
                tell(f"through the server at {remote.running.url}, which holds the log")
                await remote.thaw(space, name)
        else:
            async with engine:
                await _thaw(engine, tenant, space, wanted)
        say(f"{document}: takes edits")

    run(work())


async def _thaw(engine: Engine, tenant: str, name: str, wanted: DocumentName) -> None:
    space = await engine.space(tenant, name)
    record = space.record.documents.get(wanted.name)
    if record is None or not record.has(wanted.epoch or record.current):
        raise NotFound("document", f"{name}/{wanted.name}")
    await space.thaw(operator(engine.node), record, wanted.epoch or record.current)

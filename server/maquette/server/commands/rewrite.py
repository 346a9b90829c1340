"""`maquette rewrite`: a scene without all that it was."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maquette.engine.engine import Engine
from maquette.engine.epochs import Rewriting, Weight
from maquette.engine.errors import InvalidInput, LogHeld
from maquette.engine.logs.schema import open_for_reading
from maquette.server.commands.options import DEFAULT_DATA, DEFAULT_TENANT, Data, Tenant
from maquette.server.commands.remote import remote_of
from maquette.server.commands.terminal import progress, run, say, tell
from maquette.server.running import operator


def rewrite(
    document: Annotated[str, typer.Argument(metavar="SPACE/DOCUMENT", help="A space's slug or id, and `scene`.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be saved, and write nothing.")] = False,
    tenant: Tenant = DEFAULT_TENANT,
    data: Data = DEFAULT_DATA,
) -> None:
    """Let a scene go on in a new epoch that holds what it shows, and nothing of how it came to that.

    Every value that was overwritten and every client that ever wrote stays in a document for good, and is sent to
    whoever joins. A rewrite leaves that to the old epoch, whose history can be read as before; the log grows by one
    copy of the scene. People who are connected go on; what offline clients bring late is carried over. Beside a
    running server, the server does it.
    """
    say(_told(run(_rewritten(data, tenant, document, dry_run))))


async def _rewritten(data: Path, tenant: str, document: str, dry_run: bool) -> Rewriting:
    space, slash, name = document.partition("/")
    if not (space and slash and name):
        raise InvalidInput(f"rewrite: expected SPACE/DOCUMENT, such as demo/scene, got {document!r}")
    open_for_reading(data).close()  # or a folder without a log would get one
    try:
        engine = await Engine.open(data)
    except LogHeld as held:
        async with remote_of(data, tenant, held) as remote:
            tell(f"through the server at {remote.running.url}, which holds the log")
            return await remote.rewrite(space, name, dry_run=dry_run)
    async with engine:
        with progress(document) as told:
            found = await engine.space(tenant, space)
            return await found.rewrite(name, operator(engine.node), dry_run=dry_run, progress=told)


def _told(done: Rewriting) -> str:
    records = ", ".join(f"{count:,} {what}" for what, count in done.records.items())
    begun = "would go on" if done.dry_run else "goes on"
    return (
        f"{done.document} {begun} as {done.document}@{done.epoch} with {records}\n"
        f"  state: {_change(done.before, done.after, 'bytes')} bytes\n"
        f"  clients: {_change(done.before, done.after, 'clients')}\n"
        f"  values: {_change(done.before, done.after, 'clocks')}"
    )


def _change(before: Weight, after: Weight, what: str) -> str:
    return f"{getattr(before, what):,} → {getattr(after, what):,}"

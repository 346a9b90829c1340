"""`maquette spaces`: which spaces there are."""

from __future__ import annotations

import json
from typing import Any

from maquette.engine.engine import Engine
from maquette.engine.space import Space
from maquette.server.commands.options import DEFAULT_DATA, DEFAULT_TENANT, Data, Json, Tenant
from maquette.server.commands.terminal import columns, run, say, tell


def spaces(tenant: Tenant = DEFAULT_TENANT, data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """List the spaces of a tenant: slug, id, name and documents. Works beside a running server."""

    async def work() -> list[dict[str, Any]]:
        async with await Engine.open_readonly(data) as engine:
            return [_row(space) for space in await engine.spaces(tenant)]

    found = run(work())
    if as_json:
        for row in found:
            say(json.dumps(row, ensure_ascii=False))
    elif found:
        table = [(row["slug"], row["id"], row["name"], " ".join(row["documents"])) for row in found]
        for line in columns([("SLUG", "ID", "NAME", "DOCUMENTS"), *table]):
            say(line)
    else:
        tell(f"tenant {tenant!r} has no spaces yet")


def _row(space: Space) -> dict[str, Any]:
    documents = [f"{record.name}@{record.current}" for record in space.record.documents.values()]
    return {"slug": space.slug, "id": space.id, "name": space.record.name, "documents": documents}

"""Files into a space and out of it over HTTP."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import date
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, Field

from maquette.engine.errors import OpRefused
from maquette.engine.roles import Role
from maquette.engine.transfer import Report, chat_lines, import_file, scene_glb
from maquette.server.bodies import limited
from maquette.server.rest.access import Access, Entered

MAX_FILE = 256 << 20  # bytes; assets have the same limit

router = APIRouter(prefix="/v1/spaces/{space}", tags=["files"])


class ReportOut(BaseModel):
    """What became of a file. `position`: pass it as `wait` to a read that shall reflect the import."""

    file: str = Field(examples=["Fox.glb"])
    kind: str = Field(description="`scene`, `irc` or `jsonl`.", examples=["scene"])
    counts: dict[str, int] = Field(examples=[{"nodes": 4, "materials": 1}])
    warnings: list[str]
    errors: list[str] = Field(description="Lines that were left out, and why.")
    position: str = Field(examples=["42"])


@router.post(
    "/import",
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
)
async def import_into(
    access: Entered,
    request: Request,
    filename: Annotated[str, Query(min_length=1, max_length=255, description="Its suffix tells what it is.")],
    day: Annotated[date | None, Query(description="Of an IRC log; default: the day that its name ends in.")] = None,
) -> ReportOut:
    """Take a file into the space: GLB or glTF into the scene, an IRC log or JSON Lines into the chat.

    The body is the file itself. A scene takes the role editor; a chat, which is posted in the name of others, owner.
    """
    if access.role < Role.EDITOR:  # before the upload; `import_file` asks again, by what the file is
        needed, given = Role.EDITOR.name.lower(), access.role.name.lower()
        raise OpRefused([f"import of {filename!r}: expected a role of {needed} or above, got {given}"])
    services = access.services
    with tempfile.TemporaryFile() as spool:
        async for piece in limited(request, MAX_FILE):
            spool.write(piece)
        spool.seek(0)
        async with services.heavy:  # not before: a slow upload must not keep others out
            report = await import_file(access.space, spool, filename, access.actor, access.role, day=day)
    return _out(report, str(await services.engine.log.head()))


@router.get(
    "/export",
    response_class=Response,
    responses={200: {"description": "The file.", "content": {"model/gltf-binary": {}, "application/jsonl": {}}}},
)
async def export_from(
    access: Entered,
    format: Annotated[Literal["glb", "jsonl"], Query(description="The scene, or the chat.")],  # noqa: A002  (the query's name)
) -> Response:
    """The scene as one GLB, or the conversation as JSON Lines, as they are on disk."""
    headers = {"Content-Disposition": f'attachment; filename="{access.space.slug}.{format}"'}
    if format == "jsonl":
        return StreamingResponse(_lines(access), media_type="application/jsonl", headers=headers)
    async with access.services.heavy:
        exported = await scene_glb(access.space)
    return Response(exported.data, media_type="model/gltf-binary", headers=headers)


async def _lines(access: Access) -> AsyncIterator[bytes]:
    async with aclosing(chat_lines(access.space)) as lines:
        async for line in lines:
            yield line


def _out(report: Report, position: str) -> ReportOut:
    return ReportOut(
        file=report.file,
        kind=report.kind,
        counts=dict(report.counts),
        warnings=list(report.warnings),
        errors=list(report.errors),
        position=position,
    )

"""Documents over HTTP: the state now or at any revision of their stream, and the rewriting of scenes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import pycrdt
from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from maquette.engine.errors import NotFound
from maquette.engine.kinds.kind import plain
from maquette.engine.replica import Replica
from maquette.engine.roles import Role
from maquette.engine.space import Space
from maquette.engine.spaces import DocumentName, DocumentRecord
from maquette.server.errors import Forbidden
from maquette.server.rest.access import Entered

NOTHING = b"\x00"  # the state vector of an empty document
UPDATE = "application/octet-stream"

router = APIRouter(prefix="/v1/spaces/{space}/documents", tags=["documents"])


@router.get(
    "/{document}/state",
    response_class=Response,
    responses={
        200: {
            "description": "`{document, epoch, revision, state}`, or the Yjs update that makes the state from nothing.",
            "content": {
                "application/json": {
                    "example": {"document": "scene", "epoch": 1, "revision": 7, "state": {"nodes": {}}}
                },
                UPDATE: {},
            },
        }
    },
)
async def get_state(
    access: Entered,
    document: Annotated[str, Path(description="`chat`, `scene`, `text:NAME`, each perhaps with `@epoch`.")],
    revision: Annotated[int | None, Query(ge=0, description="Of the document's stream; default: the newest.")] = None,
    format: Annotated[Literal["json", "update"], Query(description="`update`: a Yjs v1 update.")] = "json",  # noqa: A002  (the query's name)
) -> Response:
    """What a document holds, replayed from its stream beside the live one. Old epochs can be read too.

    Of a text document the JSON holds each root as text; for maps, arrays and XML in it, take `format=update`.
    """
    record, epoch = _find(access.space, document)
    async with access.services.heavy:
        # from the log, never from the live replica: what leaves is on disk (D1)
        replica = await access.services.engine.replica(access.space, record, epoch, revision=revision)
    headers = {"Maquette-Revision": str(replica.revision)}
    with access.services.engine.reading(access.space.record.document_stream(record, epoch), replica):
        if format == "update":
            return Response(replica.diff(NOTHING), media_type=UPDATE, headers=headers)
        state = _state(replica)
    told = {"document": record.name, "epoch": epoch, "revision": replica.revision, "state": state}
    return JSONResponse(told, headers=headers)


class WeightOut(BaseModel):
    """What an epoch carries."""

    bytes: int = Field(description="Of its state, as a joiner gets it.", examples=[12_400])
    clients: int = Field(description="Client ids that wrote in it.", examples=[3])
    clocks: int = Field(description="Values ever written in it.", examples=[780])


class RewritingOut(BaseModel):
    """What a rewrite did, or would do."""

    document: str = Field(examples=["scene"])
    epoch: int = Field(description="The new epoch.", examples=[2])
    dry_run: bool
    records: dict[str, int] = Field(examples=[{"nodes": 60, "materials": 4, "comments": 2}])
    before: WeightOut
    after: WeightOut


@router.post("/{document}/rewrite")
async def rewrite_document(
    access: Entered,
    document: Annotated[str, Path(description="`scene`.", examples=["scene"])],
    dry_run: Annotated[bool, Query(description="Write nothing, and say what would be saved.")] = False,
) -> RewritingOut:
    """Let a scene go on in a new epoch that holds what it shows, and nothing of how it came to that (D9).

    Edits go on meanwhile; what offline clients bring late is carried over. Takes the role owner.
    """
    if access.role < Role.OWNER and not access.session.visitor:
        raise Forbidden(f"rewrite: expected the role owner, got {access.role.name.lower()}")
    async with access.services.heavy:
        done = await access.space.rewrite(document, access.actor, dry_run=dry_run)
    return RewritingOut(
        document=done.document,
        epoch=done.epoch,
        dry_run=done.dry_run,
        records=dict(done.records),
        before=WeightOut(**asdict(done.before)),
        after=WeightOut(**asdict(done.after)),
    )


@router.post("/{document}/thaw", status_code=204)
async def thaw_document(
    access: Entered,
    document: Annotated[str, Path(description="`chat`, `scene`, `text:NAME`, each perhaps with `@epoch`.")],
) -> None:
    """Show a frozen document whole again and let it take edits, also those quarantined in it. Takes the role owner.

    What harmed the server may do so again; then the document is frozen again.
    """
    if access.role < Role.OWNER:
        raise Forbidden(f"document: expected the role owner, got {access.role.name.lower()}")
    record, epoch = _find(access.space, document)
    await access.space.thaw(access.actor, record, epoch)


def _find(space: Space, name: str) -> tuple[DocumentRecord, int]:
    """Not `Space.resolve`, which keeps writers from old epochs: history stays readable."""
    wanted = DocumentName.parse(name)
    record = space.record.documents.get(wanted.name)
    if record is None or not record.has(wanted.epoch or record.current):
        raise NotFound("document", name)
    return record, wanted.epoch or record.current


def _state(replica: Replica) -> Any:
    if replica.kind.roots is not None:
        return {name: plain(replica.shared(name)) for name in replica.kind.roots}
    return {name: str(replica.doc.get(name, type=pycrdt.Text)) for name in sorted(replica.doc.keys())}

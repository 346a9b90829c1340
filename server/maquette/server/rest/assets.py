"""The assets of a space over HTTP.

Rule 1: an asset is given only to who may enter a space whose scene names it. Its id is a digest of 256 bits, so that
        nobody can guess it; but who has a file can compute it, and must not learn by it who else has the file.
Rule 2: browsers only download it: models and images can hold what a browser would run.
Rule 3: nothing damaged leaves: it is hashed before it is sent, in pieces, so that large ones take no memory.
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response, StreamingResponse

from maquette.engine.assets import CHUNK, ID, AssetDamaged, Assets
from maquette.engine.errors import NotFound
from maquette.projections.scene_graph import SceneGraph
from maquette.server.rest.access import Access, Entered

router = APIRouter(prefix="/v1/spaces/{space}/assets", tags=["assets"])

HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",  # its name fixes its content
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


@router.get(
    "/{asset}",
    response_class=Response,
    responses={
        200: {"description": "The bytes.", "content": {"application/octet-stream": {}}},
        304: {"description": "The `If-None-Match` of the request has it."},
    },
)
async def get_asset(
    access: Entered,
    request: Request,
    asset: Annotated[str, Path(description="The asset's id: the SHA-256 of its bytes in base64url.")],
) -> Response:
    """The bytes of an asset that the scene names."""
    assets = access.services.engine.assets
    if not ID.fullmatch(asset) or not await _is_named(access, asset):
        raise NotFound("asset", asset)
    headers = {**HEADERS, "ETag": f'"{asset}"', "Content-Disposition": f'attachment; filename="{asset}"'}
    if f'"{asset}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    size = await asyncio.to_thread(assets.size, asset)
    await asyncio.to_thread(_verify, assets, asset, size)
    headers["Content-Length"] = str(size)
    # an iterator that is not async: Starlette runs it in a thread, where the disk may block
    return StreamingResponse(_pieces(assets, asset, size), media_type="application/octet-stream", headers=headers)


async def _is_named(access: Access, asset: str) -> bool:
    reads = access.services.scene
    if await reads.names_asset(*access.where, asset):
        return True
    await access.services.catch_up(SceneGraph.name)  # an import may have ended a moment ago
    return await reads.names_asset(*access.where, asset)


def _pieces(assets: Assets, asset: str, size: int) -> Iterator[bytes]:
    for start in range(0, size, CHUNK):
        yield assets.range(asset, start, start + CHUNK)


def _verify(assets: Assets, asset: str, size: int) -> None:
    digest = hashlib.sha256()
    for piece in _pieces(assets, asset, size):
        digest.update(piece)
    if (actual := urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()) != asset:
        raise AssetDamaged(asset, f"{size} bytes with digest {actual}")

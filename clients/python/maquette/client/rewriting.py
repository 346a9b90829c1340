"""Rewriting a scene over REST, for owners."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx

from maquette.client.errors import NotAdmitted


async def rewrite(
    url: str, space: str, *, token: str | None = None, name: str | None = None, dry_run: bool = False
) -> dict[str, Any]:
    """Let the scene of `space` go on in a new epoch, without what was overwritten in it (D9).

    `url` is the server's, `http://` or `ws://`; `token` that of an owner; a server with --dev takes a `name` instead.
    Answers `document`, `epoch`, `dry_run`, `records`, and `before` and `after` with `bytes`, `clients` and `clocks`.
    Takes as long as it takes. Raises NotAdmitted with the status and the reason, and httpx.HTTPError when nobody
    answers.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    query = {"dry_run": str(dry_run).lower()} | ({"name": name} if name else {})
    base = url.replace("ws", "http", 1) if url.startswith("ws") else url
    where = f"{base.rstrip('/')}/v1/spaces/{quote(space, safe='')}/documents/scene/rewrite"
    async with httpx.AsyncClient(headers=headers, timeout=None) as client:
        response = await client.post(where, params=query)
    if not response.is_success:
        problem = response.headers.get("Content-Type") == "application/problem+json"
        raise NotAdmitted(response.status_code, response.json()["detail"] if problem else response.reason_phrase)
    told: dict[str, Any] = response.json()
    return told

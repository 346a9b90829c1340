"""The server that holds the log, for the commands that write: they go through its REST API, with their own token."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from maquette.engine.epochs import Rewriting, Weight
from maquette.engine.errors import InvalidInput, LogHeld, MaquetteError
from maquette.engine.reports import Progress, Report
from maquette.server.running import OPERATOR, Running, find
from maquette.server.sessions import ALL_SPACES
from maquette.server.tokens import Keyring

LIFETIME = 600.0  # seconds that the token holds; it is looked at when a request begins
CONNECT_SECONDS = 10.0
CHUNK = 1 << 18


class RemoteError(MaquetteError):
    """The server that holds the log could not be asked, or failed; says what it said."""


class RemoteRefused(RemoteError, InvalidInput):
    """The server does not take what was sent; says why."""


class Remote:
    """The REST API of a running server, as its operator. Made by `remote_of`."""

    def __init__(self, running: Running, token: str) -> None:
        self.running = running
        self._client = httpx.AsyncClient(
            base_url=running.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),  # an import takes as long as it takes
            trust_env=False,  # a proxy is for elsewhere; the server is on this machine
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def create_space(self, slug: str) -> bool:
        """Make the space, when it is not there yet; whether it was made."""
        response = await self._ask("POST", "/v1/spaces", json={"slug": slug}, expected=(201, 409))
        return response.status_code == 201

    async def has_space(self, name: str) -> bool:
        """Whether there is a space of this slug or id."""
        return (await self._ask("GET", f"/v1/spaces/{name}", expected=(200, 404))).status_code == 200

    async def import_file(self, space: str, path: Path, day: str | None, progress: Progress) -> Report:
        """Take the file at `path` into the space. Raises RemoteError, InvalidInput for a file that cannot be read."""
        query = {"filename": path.name} | ({} if day is None else {"day": day})
        try:
            size = _size(path)
            response = await self._ask(
                "POST",
                f"/v1/spaces/{space}/import",
                params=query,
                content=_chunks(path, size, progress),
                headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)},
            )
        except OSError as error:
            raise InvalidInput(f"import: expected a readable file, got {error}") from error
        said = response.json()
        return Report(said["file"], said["kind"], said["counts"], tuple(said["warnings"]), tuple(said["errors"]))

    async def change_member(self, space: str, method: str, path: str, body: Any = None) -> None:
        """Set, remove, ban or unban a member, as the REST API has it. Raises RemoteRefused."""
        await self._ask(method, f"/v1/spaces/{space}/members/{path}", json=body)

    async def rewrite(self, space: str, document: str, *, dry_run: bool) -> Rewriting:
        """Rewrite a scene. Raises RemoteError, RemoteRefused."""
        path = f"/v1/spaces/{quote(space, safe='')}/documents/{quote(document, safe='')}/rewrite"
        said = (await self._ask("POST", path, params={"dry_run": dry_run})).json()
        return Rewriting(**{**said, "before": Weight(**said["before"]), "after": Weight(**said["after"])})

    async def thaw(self, space: str, document: str) -> None:
        """Lift the freeze and the quarantine of a document. Raises RemoteError."""
        path = f"/v1/spaces/{quote(space, safe='')}/documents/{quote(document, safe='')}/thaw"
        await self._ask("POST", path, expected=(204,))

    async def rebuild(self, name: str) -> None:
        """Build the projection `name` anew."""
        await self._ask("POST", f"/v1/projections/{name}/rebuild", expected=(204,))

    async def _ask(
        self, method: str, path: str, *, expected: tuple[int, ...] = (200,), **request: Any
    ) -> httpx.Response:
        try:
            response = await self._client.request(method, path, **request)
        except httpx.HTTPError as error:
            where = f"the server at {self.running.url} (process {self.running.pid}), which holds the log"
            raise RemoteError(f"expected an answer of {where}, got {error or type(error).__name__}") from error
        if response.status_code not in expected:
            kind = RemoteRefused if response.is_client_error else RemoteError
            raise kind(f"{_problem(response)} (said the server at {self.running.url})")
        return response


@asynccontextmanager
async def remote_of(data: Path, tenant: str, held: LogHeld) -> AsyncGenerator[Remote, None]:
    """The server that holds the log in `data`. Raises `held` when it is no server that could be asked."""
    running = find(data)
    if running is None or running.pid == os.getpid():
        raise held
    roles = {ALL_SPACES: "owner"}
    token = Keyring.load(data).sign(running.operator, OPERATOR, tenant, roles, kind="bot", lifetime=LIFETIME)
    async with Remote(running, token) as remote:
        yield remote


def _size(path: Path) -> int:
    return path.stat().st_size


async def _chunks(path: Path, size: int, progress: Progress) -> AsyncGenerator[bytes, None]:
    sent = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
            sent += len(chunk)
            progress("upload", sent, size)


def _problem(response: httpx.Response) -> str:
    """What a problem document (RFC 9457) says."""
    try:
        problem = response.json()
        return str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, AttributeError):
        return f"HTTP {response.status_code}"

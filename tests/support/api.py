"""A whole server in this process for tests of the HTTP side: a real engine, real projections, real requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from maquette.engine.engine import Engine
from maquette.projections.runner import Runner
from maquette.server.app import PROJECTIONS, create_app, running
from maquette.server.auth import Authenticator
from maquette.server.limits import DEFAULT_TABLE, LimitTable
from maquette.server.tokens import Keyring

PROBLEM = "application/problem+json"
on_each_log = pytest.mark.parametrize("api", ["memory", "sqlite"], indirect=True)
"""Runs a test of the fixture `api` over each kind of log."""


@dataclass(frozen=True, slots=True)
class Api:
    """The server, and requests as whom the test likes."""

    engine: Engine
    runner: Runner
    keyring: Keyring
    app: FastAPI
    http: httpx.AsyncClient

    def headers(
        self, sub: str = "ann", role: str = "owner", *, tenant: str = "t1", roles: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The header of a token of `sub`, whose name is the same with a capital, with `role` in all spaces."""
        token = self.keyring.sign(sub, sub.capitalize(), tenant, {"*": role} if roles is None else roles)
        return {"Authorization": f"Bearer {token}"}

    async def call(self, method: str, path: str, body: Any = None, **who: Any) -> httpx.Response:
        """One request below /v1 as `who` (see `headers`)."""
        return await self.http.request(method, f"/v1{path}", json=body, headers=self.headers(**who))

    async def done(self, method: str, path: str, body: Any = None, **who: Any) -> Any:
        """The answer of a request that shall succeed."""
        response = await self.call(method, path, body, **who)
        assert response.is_success, response.text
        return response.json()

    async def refused(self, status: int, method: str, path: str, body: Any = None, **who: Any) -> Any:
        """The problem document of a request that shall fail; every one says what was expected and what came."""
        response = await self.call(method, path, body, **who)
        return problem(response, status)

    async def space(self, slug: str = "demo", **who: Any) -> str:
        """The path of a new space."""
        await self.done("POST", "/spaces", {"slug": slug}, **who)
        return f"/spaces/{slug}"


def problem(response: httpx.Response, status: int) -> Any:
    """The problem document in `response`, checked for what every one has (RFC 9457)."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == PROBLEM
    document = response.json()
    assert document["status"] == status
    assert document["type"].startswith("urn:maquette:problem:")
    assert document["title"]
    assert document["instance"] == response.request.url.path
    assert "expected" in document["detail"]
    return document


@asynccontextmanager
async def serving(
    url: str | Path, views: Path, *, dev: bool = False, limits: LimitTable = DEFAULT_TABLE
) -> AsyncGenerator[Api, None]:
    """A server over the log at `url` with its projections in the folder `views`."""
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(await Engine.open(url))
        runner = await stack.enter_async_context(await Runner.open(engine.log, views, PROJECTIONS))
        keyring = Keyring.fresh()
        app = create_app(engine, Authenticator(keyring, engine.node, dev=dev), projections=runner, limits=limits)
        await stack.enter_async_context(running(app))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        http = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://localhost"))
        yield Api(engine, runner, keyring, app, http)

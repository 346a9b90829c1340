"""The ASGI application: sync, REST and health in one, over an engine.

    create_app          over an engine of one's own, to mount into another application or to serve
    create_server_app   over a folder: opens and closes the engine and its projections with the server

An application that is mounted gets no lifespan of its own from its host: the host's runs `running(app)`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from maquette.engine.engine import Engine
from maquette.engine.update import Limits
from maquette.projections.chat_history import ChatHistory
from maquette.projections.fold import Projection
from maquette.projections.runner import Runner
from maquette.projections.scene_graph import SceneGraph
from maquette.server import health, problems
from maquette.server.aftermath import settle
from maquette.server.allowances import ToldAllowances
from maquette.server.auth import Authenticator
from maquette.server.doorkeeper import Doorkeeper
from maquette.server.limits import DEFAULT_TABLE, LimitTable, TenantLimits
from maquette.server.privacy import PrivateAnswers
from maquette.server.redaction import keep_tokens_out_of_logs
from maquette.server.rest import assets, chat, documents, files, members, operations, scene, spaces
from maquette.server.services import Services
from maquette.server.supervised import Supervised
from maquette.server.sync import Hub, sync_route
from maquette.server.tokens import Keyring

PROJECTIONS: Sequence[Callable[[], Projection]] = (ChatHistory, SceneGraph)
PROJECTIONS_FOLDER = "projections"
ROUTERS = (
    spaces.router,
    members.router,
    chat.router,
    scene.router,
    documents.router,
    files.router,
    assets.router,
    operations.router,
)

ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "Any error, as a problem document (RFC 9457).",
        "model": problems.Problem,
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    engine: Engine,
    authenticator: Authenticator,
    *,
    projections: Runner | None = None,
    cors: Sequence[str] = (),
    limits: LimitTable = DEFAULT_TABLE,
) -> FastAPI:
    """An application over an open engine. Without `projections`, which the caller starts, reads answer 503.

    `cors` are the origins whose pages may call it from a browser; none by default. `limits` are those of its tenants,
    also of the documents that the engine opens from now on.
    """
    app = _app(running, cors)
    _serve(app, engine, authenticator, projections, limits)
    return app


def create_server_app(
    data: Path,
    *,
    dev: bool = False,
    cors: Sequence[str] = (),
    accept_loss: bool = False,
    limits: LimitTable = DEFAULT_TABLE,
    watched: Supervised | None = None,
) -> FastAPI:
    """An application that opens the log in the folder `data` when the server starts, and closes it at its end.

    `watched` when a supervisor watches this process. The lifespan raises LogHeld, LogTooNew, LogDamaged, LogLost
    (unless `accept_loss`), KeysDamaged.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        async with AsyncExitStack() as stack:
            engine = await stack.enter_async_context(await Engine.open(data, accept_loss=accept_loss))
            hung = await settle(engine, data)
            if watched is not None:
                engine.pulse = watched.pulse
            runner = await Runner.open(
                engine.log,
                data / PROJECTIONS_FOLDER,
                PROJECTIONS,
                accept_loss=accept_loss,
                hung=hung,
                pulse=engine.pulse,
            )
            await stack.enter_async_context(runner)
            _serve(app, engine, Authenticator(Keyring.load(data), engine.node, dev=dev), runner, limits, watched)
            await stack.enter_async_context(running(app))
            yield

    return _app(lifespan, cors)


@asynccontextmanager
async def running(app: FastAPI) -> AsyncGenerator[None, None]:
    """Keep the connections of `app` alive meanwhile; at the end, store what they sent, then close them."""
    hub: Hub = app.state.maquette.hub
    keeping = asyncio.ensure_future(hub.keep_alive())
    try:
        yield
    finally:
        await hub.drain()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


def _app(lifespan: Lifespan, cors: Sequence[str]) -> FastAPI:
    keep_tokens_out_of_logs()
    app = FastAPI(
        title="Maquette",
        summary="Chat and 3D scenes, edited together, from one durable log.",
        version=version("maquette"),
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        responses=ERRORS,
    )
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    app.include_router(health.router)
    app.add_middleware(ToldAllowances)
    app.add_middleware(PrivateAnswers)
    if cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors),
            allow_methods=["*"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Link", "Location", "Maquette-Revision", "RateLimit", "RateLimit-Policy", "Retry-After"],
        )
    return app


def _serve(
    app: FastAPI,
    engine: Engine,
    authenticator: Authenticator,
    projections: Runner | None,
    limits: LimitTable,
    watched: Supervised | None = None,
) -> None:
    engine.limits_of = lambda tenant: _limits(engine, limits.of(tenant))
    hub = Hub(engine, authenticator, Doorkeeper(limits))
    app.state.maquette = Services(engine, authenticator, hub, projections, 0 if watched is None else watched.restarts)
    app.router.routes.insert(0, sync_route(hub))  # before the many of REST, whose matching took a third of a handshake


def _limits(engine: Engine, tenant: TenantLimits) -> Limits:
    return replace(engine.limits, document=tenant.document_bytes, refused=tenant.refused_per_document)

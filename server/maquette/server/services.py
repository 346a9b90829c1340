"""What the routes of one server work with. Kept at `app.state.maquette`, because a server opens its log after its app
is made."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from maquette.engine.engine import Engine
from maquette.engine.errors import InvalidInput
from maquette.engine.events import Position
from maquette.projections.chat_history import ChatHistory
from maquette.projections.chat_reads import ChatReads
from maquette.projections.runner import Runner
from maquette.projections.scene_graph import SceneGraph
from maquette.projections.scene_reads import SceneReads
from maquette.projections.view import View
from maquette.server.auth import Authenticator
from maquette.server.errors import Unavailable
from maquette.server.sync import Hub

MAX_HEAVY = 2  # requests at once that hold a whole document or file in memory beside the live documents
WAIT_SECONDS = 10.0  # for a projection to reach a position; a healthy one is some ms behind


@dataclass(frozen=True, slots=True)
class Services:
    """One engine, who may use it, its connections, and its read models when there are any.

    `restarts`: how many processes of the same supervisor served before. `heavy` is held by requests that take much
    memory, so that the others find some.
    """

    engine: Engine
    authenticator: Authenticator
    hub: Hub
    projections: Runner | None
    restarts: int = 0
    heavy: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_HEAVY))

    @property
    def chat(self) -> ChatReads:
        """Raises Unavailable when the server runs without projections."""
        return ChatReads(self.view(ChatHistory.name))

    @property
    def scene(self) -> SceneReads:
        """Raises as `chat` does."""
        return SceneReads(self.view(SceneGraph.name))

    def view(self, name: str) -> View:
        """The projection called `name`. Raises as `chat` does."""
        if self.projections is None or name not in self.projections.names:
            raise Unavailable(f"expected the projection {name!r}, this server runs without it")
        return self.projections.view(name)

    async def reach(self, name: str, position: str | None) -> View:
        """The projection called `name` once it reflects `position`, a token that a write answered (rule V5).

        Raises InvalidInput for what is no such token, ProjectionBehind, ProjectionStopped.
        """
        view = self.view(name)
        if position is not None:
            await view.wait_for(await self._checked(position), WAIT_SECONDS)
        return view

    async def catch_up(self, name: str) -> View:
        """The projection called `name` once it reflects all that the log holds now."""
        view = self.view(name)
        await view.wait_for(await self.engine.log.head(), WAIT_SECONDS)
        return view

    async def _checked(self, position: str) -> Position:
        digits = position.isascii() and position.isdigit() and len(position) < 20
        if not digits or int(position) > await self.engine.log.head():
            raise InvalidInput(f"wait: expected a position that a write answered, got {position!r:.40}")
        return Position(int(position))


def services_of(connection: HTTPConnection) -> Services:
    """The services of the application that handles `connection`. Raises Unavailable before its start."""
    services = getattr(connection.app.state, "maquette", None)
    if not isinstance(services, Services):
        raise Unavailable("expected a server that has started, it is starting or was not started")
    return services

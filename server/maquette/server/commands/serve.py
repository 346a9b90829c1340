"""`maquette serve`: the server."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from fastapi import FastAPI
from rich.console import Console
from rich.panel import Panel

from maquette.engine.errors import InvalidInput, MaquetteError
from maquette.server.app import create_server_app
from maquette.server.auth import is_loopback
from maquette.server.commands.options import DEFAULT_DATA, Data
from maquette.server.commands.terminal import run, say
from maquette.server.handshakes import Door
from maquette.server.limits import DEFAULT_TABLE, FILE, LimitTable, read_limits
from maquette.server.running import Running, announced, operator
from maquette.server.services import Services
from maquette.server.sockets import Wire
from maquette.server.supervised import Supervised, supervised

MAX_FRAME = 16 << 20  # bytes of a WebSocket frame: twice what the gate takes, which tells why it does not take more
SWITCH_SECONDS = 0.001  # of Python work after which a thread lets another one in: a commit asks for the lock 7 times
DRAIN_SECONDS = 15  # for requests that run when the server is told to end
BACKLOG = 2_048  # connections that wait to be accepted: a restart brings all clients back at once
ACCEPTED_AT_ONCE = 8  # of them, before those who are connected get their turn: a handshake takes a millisecond


class PortTaken(MaquetteError):
    """Something else listens at the address."""


def serve(
    data: Data = DEFAULT_DATA,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65_535, help="The port; 0 takes a free one.")
    ] = 8000,
    dev: Annotated[
        bool,
        typer.Option("--dev", help="Let everybody on this machine in as an editor, without a token. For trying out."),
    ] = False,
    cors: Annotated[
        list[str] | None,
        typer.Option("--cors", metavar="ORIGIN", help="A web origin whose pages may call the API. Again for more."),
    ] = None,
    limits: Annotated[
        Path | None,
        typer.Option(
            "--limits",
            metavar="FILE",
            dir_okay=False,
            help="The limits of tenants, in TOML (docs/api.md). [default: limits.toml in the data folder, when there]",
            show_default=False,
        ),
    ] = None,
    answer_seconds: Annotated[
        float,
        typer.Option(
            "--answer-seconds",
            metavar="S",
            min=0,
            help="How long the server may not answer before it is started again; 0 for ever. More for large updates.",
        ),
    ] = 5.0,
    opening_seconds: Annotated[
        float,
        typer.Option(
            "--opening-seconds",
            metavar="S",
            min=0,
            help="The same while it loads a document, or stores all at its end.",
        ),
    ] = 60.0,
    accept_loss: Annotated[
        bool,
        typer.Option("--accept-loss", help="Open a log that ends before its witness, and give up what it has lost."),
    ] = False,
) -> None:
    """Serve sync (WebSocket), the REST API and the health endpoints over a data folder, which is made when missing.

    The process that serves is watched by another. When it dies or no longer answers it is started again; the edit that
    it was busy with is then denied, or, when it is in the log already, its document is shown as before, read-only.

    Ends cleanly on SIGTERM, SIGHUP and Ctrl-C: what was sent is stored, clients are told to come back. Without --dev
    everybody needs a token: see `maquette token`.
    """
    watched = supervised()
    run(_serve(data, host, port, dev, cors or [], accept_loss, limits, watched, (answer_seconds, opening_seconds)))


async def _serve(
    data: Path,
    host: str,
    port: int,
    dev: bool,
    cors: list[str],
    accept_loss: bool,
    limits: Path | None,
    watched: Supervised | None,
    silence: tuple[float, float],
) -> None:
    if dev and not is_loopback(host):
        raise InvalidInput(
            f"--dev: expected a loopback address such as 127.0.0.1 as --host, got {host!r}: it lets everybody in who "
            f"can reach it"
        )
    sys.setswitchinterval(SWITCH_SECONDS)
    table = _table(data, limits)
    with _listening(host, port, watched) as listener:
        if watched is not None:
            watched.introduce(data, *silence, listener)
            watched.begin()
        app = create_server_app(data, dev=dev, cors=cors, accept_loss=accept_loss, limits=table, watched=watched)
        async with app.router.lifespan_context(app):  # not uvicorn's, which would log a traceback for a held log
            await _Server(app, listener, data, dev, watched).run()


class _Server(uvicorn.Server):
    """uvicorn, which says where it listens and lets the hub drain before connections are closed."""

    def __init__(
        self, app: FastAPI, listener: socket.socket, data: Path, dev: bool, watched: Supervised | None
    ) -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",
            http=Door,
            ws=Wire,
            ws_per_message_deflate=False,  # triples the cost of small pushes
            ws_max_size=MAX_FRAME,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            backlog=ACCEPTED_AT_ONCE,  # asyncio takes it for both; `startup` gives the kernel the larger one
            log_level="warning",
            access_log=False,  # addresses hold tokens
        )
        super().__init__(config)
        self._services: Services = app.state.maquette
        self._listener = listener
        self._data = data
        self._dev = dev
        self._watched = watched
        self._announced = ExitStack()

    async def run(self) -> None:  # type: ignore[override]  # uvicorn's own starts a loop, and we are on one
        """Serve until a signal comes."""
        with self._ending_quietly(), self._announced:
            await self.serve(sockets=[self._listener])

    @contextmanager
    def _ending_quietly(self) -> Iterator[None]:
        """uvicorn raises the signal again that ended it; by then all is done, and the exit code shall say so. One that
        comes before uvicorn listens for it ends the server too."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(one, self.handle_exit) for one in signals]
        try:
            yield
        finally:
            for one, handler in zip(signals, before, strict=True):
                signal.signal(one, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listener.listen(BACKLOG)
        url = _url(self._listener)
        who = operator(self._services.engine.node).id
        pid = os.getpid() if self._watched is None else os.getppid()
        self._announced.enter_context(announced(self._data, Running(url, pid, who)))
        if self._watched is None or not self._watched.restarts:
            _greet(url, self._data, self._dev)
            say(f"Listening on {url}")
        _keep_what_is_loaded()
        if self._watched is not None:
            self._watched.served()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()  # nobody new
        with suppress(TimeoutError):  # a client that does not read must not keep the server from ending
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._services.hub.drain()
        await super().shutdown(sockets)


def _keep_what_is_loaded() -> None:
    """Leave all that is there at the start out of collections of garbage, which stop everybody.

    Modules and tables are more than 100,000 objects that stay: with them, a full collection takes six times as long.
    """
    gc.collect()
    gc.freeze()


def _table(data: Path, limits: Path | None) -> LimitTable:
    """The limits in the file that is named, or in that of the data folder. Raises InvalidInput."""
    if limits is None and not (data / FILE).exists():
        return DEFAULT_TABLE
    return read_limits(limits or data / FILE)


@contextmanager
def _listening(host: str, port: int, watched: Supervised | None) -> Iterator[socket.socket]:
    """A bound socket, so that a port that is taken is known before the log is opened; over a restart the same."""
    if watched is not None and watched.listener is not None:
        with watched.listener:
            yield watched.listener
        return
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InvalidInput(f"--host: expected an address of this machine, got {host!r}: {error}") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise _unbound(host, port, error) from error
        yield listener


def _unbound(host: str, port: int, error: OSError) -> MaquetteError:
    if error.errno == errno.EADDRINUSE:
        return PortTaken(
            f"expected port {port} of {host} to be free, something listens there already: end it, or choose another "
            f"with --port (0 takes a free one)"
        )
    return InvalidInput(f"expected to listen at {host}, port {port}, got {error.strerror}")


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # listening everywhere is no address to go to
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _greet(url: str, data: Path, dev: bool) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if dev:
        warning = (
            "Anyone on this machine may edit, under any name, without a token,\n"
            "and joining a space makes it. Do not put this behind a proxy."
        )
        console.print(Panel.fit(warning, title="--dev: NO ACCESS CONTROL", style="bold yellow", border_style="red"))
    sync = url.replace("http", "ws", 1) + "/sync"
    params = "{ name: 'Ann' }" if dev else "{ token }  // from `maquette token`"
    for line in (
        f"data    {data.resolve()}",
        f"sync    {sync}/SPACE/scene, /chat, /text:NAME",
        f"REST    {url}/v1  (described at {url}/openapi.json)",
        f"health  {url}/healthz  {url}/readyz  {url}/metrics",
        "",
        f"  const params = {params}",
        f"  new WebsocketProvider('{sync}', 'demo/scene', new Y.Doc(), {{ params }})",
        "",
    ):
        console.print(line, markup=False)

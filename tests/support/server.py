"""A real server for the tests: in a child process that can be killed and started again, or in the test's own loop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from tests.conftest import ROOT

from maquette.engine.engine import Engine
from maquette.server.app import create_app
from maquette.server.auth import Authenticator
from maquette.server.commands.serve import MAX_FRAME
from maquette.server.handshakes import Door
from maquette.server.limits import DEFAULT_TENANT_LIMITS, LimitTable, TenantLimits
from maquette.server.sockets import Wire
from maquette.server.sync import Hub
from maquette.server.tokens import Keyring

LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
from maquette.server.cli import main
main()
"""
EVICTING = """
import sys
from maquette.engine import engine
engine.IDLE_SECONDS = float(sys.argv.pop(1))
from maquette.server.cli import main
main()
"""
START_SECONDS = 60  # two cores, two test runners, and whatever else the machine does


def serving(supervisor: int) -> int:
    """The process that serves, by its supervisor."""
    [child] = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return int(child)


class ServerFailed(AssertionError):
    """The child ended before it listened, or did not end in time."""


class ServerProcess:
    """`maquette serve` over a folder, in a process of its own, killed at the end of an `async with`.

    `start` again uses the same port; `port` is that of the first start, 0 for a free one. What it says on
    stderr is added to `stderr`. `idle_seconds`: documents that nobody watches are evicted after so long. `module` is
    run in place of the command line, `options` are further ones of `serve`.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        dev: bool = True,
        port: int = 0,
        stderr: Path | None = None,
        idle_seconds: float | None = None,
        module: str = "maquette.server.cli",
    ) -> None:
        self.folder = folder
        self.options = options
        self.module = module
        self.dev = dev
        self._stderr = stderr or Path(os.devnull)
        self._idle_seconds = idle_seconds
        self.port = port
        self.url = ""
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> ServerProcess:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    @property
    def ws(self) -> str:
        """The address of the sync endpoint, as stock providers want it."""
        return f"ws{self.url.removeprefix('http')}/sync"

    def memory(self) -> int:
        """Resident memory of the process that serves, in bytes."""
        fields = Path(f"/proc/{self.serving}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def pid(self) -> int:
        """Of the running child: the supervisor."""
        assert self._process is not None
        return self._process.pid

    @property
    def serving(self) -> int:
        """Of the process that serves, or is about to."""
        return serving(self.pid)

    async def start(self, *, file_limit: int | None = None) -> None:
        """Start, and return when it listens. `file_limit`: no file may grow beyond so many bytes, as on a full disk."""
        command = self._command(file_limit)
        options = [
            "--data",
            str(self.folder),
            "--port",
            str(self.port),
            *(["--dev"] if self.dev else []),
            *self.options,
        ]
        pipe = asyncio.subprocess.PIPE
        with self._stderr.open("ab") as stderr:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *command, "serve", *options, cwd=ROOT, stdout=pipe, stderr=stderr
            )
        assert self._process.stdout is not None
        line = (await asyncio.wait_for(self._process.stdout.readline(), START_SECONDS)).decode()
        if not line:
            raise ServerFailed(f"expected a server that starts, it ended with {await self._process.wait()}")
        self.url = line.removeprefix("Listening on ").strip()
        self.port = int(self.url.rpartition(":")[2])

    def _command(self, file_limit: int | None) -> list[str]:
        if file_limit is not None:
            return ["-c", LIMITED, str(file_limit)]
        if self._idle_seconds is not None:
            return ["-c", EVICTING, str(self._idle_seconds)]
        return ["-m", self.module]

    async def kill(self) -> None:
        """End it as a power cut would: SIGKILL."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """End it politely: SIGTERM. Returns its exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(number)
        try:
            await asyncio.wait_for(process.communicate(), START_SECONDS)
        except TimeoutError:
            process.kill()
            await process.communicate()
            raise ServerFailed(f"expected an end after {number.name} within {START_SECONDS} s, got none") from None
        assert process.returncode is not None
        return process.returncode


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A server in the test's own event loop."""

    engine: Engine
    keyring: Keyring
    hub: Hub
    url: str

    def token(self, name: str, role: str = "editor", *, tenant: str = "dev", lifetime: float = 600) -> str:
        """A token for `name`, whose actor id is `actor-NAME`, with `role` in all spaces."""
        return self.keyring.sign(f"actor-{name}", name, tenant, {"*": role}, lifetime=lifetime)


@asynccontextmanager
async def local_server(
    engine: Engine | None = None, *, dev: bool = True, limits: TenantLimits = DEFAULT_TENANT_LIMITS
) -> AsyncIterator[LocalServer]:
    """A server over `engine`, or over one in memory, on a free port; drained and stopped at the end of the block.

    `limits` are those of each tenant.
    """
    keyring = Keyring.fresh()
    async with engine or await Engine.open() as open_engine:
        app = create_app(open_engine, Authenticator(keyring, open_engine.node, dev=dev), limits=LimitTable(limits))
        hub: Hub = app.state.maquette.hub
        hub.close_seconds = hub.hold_seconds = 0.2
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(
                uvicorn.Config(
                    app,
                    http=Door,
                    ws=Wire,
                    ws_per_message_deflate=False,
                    ws_max_size=MAX_FRAME,
                    log_level="error",
                    lifespan="off",
                )
            )
            server.config.load()
            server.lifespan = server.config.lifespan_class(server.config)
            await server.startup(sockets=[listener])
            watching = asyncio.ensure_future(hub.keep_alive())
            try:
                yield LocalServer(open_engine, keyring, hub, f"http://127.0.0.1:{listener.getsockname()[1]}")
            finally:
                await hub.drain()
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
                await server.shutdown(sockets=[listener])

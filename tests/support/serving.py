"""A real server in a process of its own, `maquette serve`, that tests start, kill and start again at its place."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

START_SECONDS = 60.0
LISTENING = "Listening on "


class ServerProcess:
    """`maquette serve` over `folder`. The first start takes a free port; later ones take the same."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.url = ""
        self._options = options
        self._port = "0"
        self._process: asyncio.subprocess.Process | None = None
        self._drain: asyncio.Task[bytes] | None = None

    async def start(self) -> None:
        """Return when it listens."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "from maquette.server.cli import main; main()", "serve",
            "--data", str(self.folder), "--port", self._port, *self._options,
            stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            while not self.url or self._drain is None:
                line = (await self._process.stdout.readline()).decode()
                assert line, f"expected {LISTENING!r} from the server, got its end ({self._process.returncode})"
                if line.startswith(LISTENING):
                    self.url = line.removeprefix(LISTENING).strip()
                    self._port = self.url.rpartition(":")[2]
                    self._drain = asyncio.create_task(self._process.stdout.read())

    def moved_to(self, folder: Path) -> ServerProcess:
        """Another server over `folder`, at this one's place: this one has ended."""
        other = ServerProcess(folder, *self._options)
        other._port = self._port
        return other

    @property
    def ws(self) -> str:
        """The address of the sync endpoint, as stock providers want it."""
        return f"ws{self.url.removeprefix('http')}/sync"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def memory(self) -> int:
        """Resident memory in bytes."""
        fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    async def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is written any more."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM; its exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        code = await self._process.wait()
        if self._drain is not None:
            await self._drain
            self._drain = None
        return code

    async def __aenter__(self) -> ServerProcess:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

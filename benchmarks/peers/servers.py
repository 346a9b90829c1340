"""The servers that are compared, each a process over a folder of its own, on a core of its own.

Rule 1: each is started as its own documentation says, at a pinned version, without logs and compression.
Rule 2: what the load needs to know of it is its dialect, how it names rooms, and who comes.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import httpx

from maquette.server.limits import FILE, TenantLimits
from maquette.server.tokens import Keyring

HERE = Path(__file__).resolve().parent
MAQUETTE, HOCUSPOCUS, Y_WEBSOCKET = "Maquette", "Hocuspocus", "y-websocket"
LEVELDB, PYCRDT = "y-websocket, LevelDB", "pycrdt-websocket"
FAST = (MAQUETTE, HOCUSPOCUS, Y_WEBSOCKET)
ALL = (*FAST, LEVELDB, PYCRDT)
DURABLE = (MAQUETTE, HOCUSPOCUS, LEVELDB, PYCRDT)
PEOPLE = 10_000
START_SECONDS = 60.0
STOP_SECONDS = 60.0
_DAY = 86_400.0
_ANY_ROOM = {"text": "{room}", "chat": "{room}", "scene": "{room}"}
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Server:
    """One running server. `paths` maps what a row needs (text, chat, scene) to the path of a room."""

    name: str
    dialect: str
    url: str
    process: subprocess.Popen[bytes]
    paths: Mapping[str, str] = field(default_factory=lambda: _ANY_ROOM)
    queries: Sequence[str] = ()
    """What each participant adds to the address: its token."""
    make: Callable[[Sequence[str]], None] = lambda rooms: None
    """Makes rooms that do not come into being by joining."""

    @property
    def http(self) -> str:
        """Where it answers HTTP."""
        return "http" + self.url.removeprefix("ws").partition("/sync")[0]

    def pids(self) -> list[int]:
        """The process and those below it."""
        found: list[int] = []
        left = [self.process.pid]
        while left:
            pid = left.pop()
            try:
                left += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
                found.append(pid)
            except FileNotFoundError:
                continue
        return found

    def memory(self) -> int:
        """Proportional resident memory in bytes, of all of them."""
        return sum(_pss(pid) for pid in self.pids())

    def cpu(self) -> float:
        """Seconds of processor time so far, of all of them."""
        return sum(_cpu(pid) for pid in self.pids())

    def stop(self) -> None:
        """End it politely."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it, and what it started, by SIGKILL."""
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()


def start(name: str, folder: Path, core: int) -> Server:
    """Start the server `name`, one of SERVERS, over `folder` and pin it to `core`."""
    folder.mkdir(parents=True, exist_ok=True)
    return SERVERS[name](folder, core)


def _maquette(folder: Path, core: int) -> Server:
    (folder / FILE).write_text(
        "\n".join(["[default]", *(f"{one.name} = 1_000_000_000" for one in fields(TenantLimits))])
    )
    port = _free_port()
    command = [sys.executable, "-m", "maquette.server.cli", "serve", "--data", str(folder), "--port", str(port)]
    process = _run(MAQUETTE, command, core, port)
    keys = Keyring.load(folder)
    queries = [
        "token=" + keys.sign(f"person{number}", f"Person {number}", "bench", {"*": "editor"}, lifetime=_DAY)
        for number in range(PEOPLE)
    ]
    owner = keys.sign("owner", "Owner", "bench", {"*": "owner"}, lifetime=_DAY)

    def make(rooms: Sequence[str]) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {owner}"}) as http:
            for room in ("bench", *rooms):
                http.post("/v1/spaces", json={"slug": room}).raise_for_status()

    paths = {"text": "bench/text:{room}", "chat": "{room}/chat", "scene": "{room}/scene"}
    return Server(MAQUETTE, "y", f"ws://127.0.0.1:{port}/sync", process, paths, queries, make)


def _hocuspocus(folder: Path, core: int) -> Server:
    port = _free_port()
    environment = {"PORT": str(port), "FOLDER": str(folder)}
    process = _run(HOCUSPOCUS, ["node", str(HERE / "hocuspocus.mjs")], core, port, environment)
    return Server(HOCUSPOCUS, "hocuspocus", f"ws://127.0.0.1:{port}", process)


def _y_websocket(folder: Path, core: int) -> Server:
    return _y_server(Y_WEBSOCKET, {}, core)


def _y_websocket_leveldb(folder: Path, core: int) -> Server:
    return _y_server(LEVELDB, {"YPERSISTENCE": str(folder / "level")}, core)


def _y_server(name: str, environment: Mapping[str, str], core: int) -> Server:
    port = _free_port()
    command = ["node", str(HERE / "node_modules/y-websocket/bin/server.js")]
    process = _run(name, command, core, port, {"PORT": str(port), "HOST": "127.0.0.1", **environment})
    return Server(name, "y", f"ws://127.0.0.1:{port}", process)


def _pycrdt(folder: Path, core: int) -> Server:
    port = _free_port()
    process = _run(PYCRDT, [sys.executable, str(HERE / "pycrdt_server.py"), str(port), str(folder)], core, port)
    return Server(PYCRDT, "y", f"ws://127.0.0.1:{port}", process)


SERVERS: Mapping[str, Callable[[Path, int], Server]] = {
    MAQUETTE: _maquette,
    HOCUSPOCUS: _hocuspocus,
    Y_WEBSOCKET: _y_websocket,
    LEVELDB: _y_websocket_leveldb,
    PYCRDT: _pycrdt,
}


def _run(
    name: str, command: Sequence[str], core: int, port: int, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a server and wait until something listens at its port."""
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C comes to us alone, who end it
        env={**os.environ, **(environment or {})},
    )
    try:
        _await_port(name, process, port)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


def _await_port(name: str, process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{name}: expected a server that stays, it ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{name}: expected it to listen within {START_SECONDS:g} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _cpu(pid: int) -> float:
    rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(rest[11]) + int(rest[12])) / _TICKS

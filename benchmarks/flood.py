"""Flooding sockets, clients that reconnect without end and requests in a row, against honest clients: what these feel.

    python benchmarks/flood.py [--floods 900] [--reconnects 100] [--requests 0] [--honest 50] [--seconds 6] [--rounds 3]
                               [--limits FILE]

Honest clients type five times a second each, five in a document, and wait for the echo from the disk. The
attackers have tokens of the same tenant, in the same space: few actors with many sockets each. A flooding socket sends
edits as fast as the server reads them and is back a second after it was closed, whatever it was told; a reconnecting
one joins and leaves five times a second; a requesting one asks for the chat as soon as it was answered, every other
time over a new connection. Server, honest clients and each kind of attacker are processes of their own on this machine;
attackers run when nobody else wants to (SCHED_IDLE), because in the world they bring machines of their own. Each round
is quiet first,
then under attack. Prints the medians of the honest ones' p95, and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pycrdt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.server import ServerProcess  # noqa: E402  (behind the path above)

from maquette.engine.sync import SyncStep1, SyncUpdate, read_frame, write_frame  # noqa: E402
from maquette.server.limits import FILE  # noqa: E402
from maquette.server.tokens import Keyring  # noqa: E402

ADDRESSES = {"honest": "127.0.0.1", "flood": "127.0.0.2", "reconnect": "127.0.0.3", "request": "127.0.0.4"}
ACTORS = {"honest": 1, "flood": 100, "reconnect": 10, "request": 10}
"""Sockets of one actor."""
PER_DOCUMENT = 5
HONEST = ("edits", "lost", "closed")
RETURN_SECONDS = 1.0
Told = Counter[str]


def updates_of(count: int) -> list[bytes]:
    """So many updates, each a letter, of one new client."""
    doc, updates = pycrdt.Doc[Any](), list[bytes]()
    text = doc.get("notes", type=pycrdt.Text)
    subscription = doc.observe(lambda event: updates.append(event.update))
    for _ in range(count):
        text += "x"
    doc.unobserve(subscription)
    return updates


def socket_of(kind: str, url: str, document: str, token: str) -> connect:
    address = f"{url.replace('http', 'ws', 1)}/sync/demo/text:{document}?token={token}"
    return connect(
        address, compression=None, proxy=None, ping_interval=None, close_timeout=1, open_timeout=30, max_size=None,
        local_addr=(ADDRESSES[kind], 0),
    )  # fmt: skip


# --- who comes -------------------------------------------------------------------------------------------------------


async def type_honestly(url: str, number: int, token: str, seconds: float, waits: list[float], told: Told) -> None:
    """Type five times a second; how long each edit took to come back."""
    updates = updates_of(int(seconds * 5))
    async with socket_of("honest", url, f"honest{number // PER_DOCUMENT}", token) as socket:
        await socket.send(write_frame(SyncStep1(b"\0")))
        sent: dict[bytes, float] = {}
        listening = asyncio.ensure_future(_listen(socket, sent, waits))
        await asyncio.sleep(random.random())
        for update in updates:
            sent[update] = time.perf_counter()
            told["edits"] += 1
            await socket.send(write_frame(SyncUpdate(update)))
            await asyncio.sleep(0.2)
        deadline = time.monotonic() + 20
        while sent and time.monotonic() < deadline:  # noqa: ASYNC110  (a program, and the last echoes are near)
            await asyncio.sleep(0.1)
        told["lost"] += len(sent)
        told["closed"] += listening.done()
        listening.cancel()


async def _listen(socket: ClientConnection, sent: dict[bytes, float], waits: list[float]) -> None:
    async for frame in socket:
        assert isinstance(frame, bytes)
        message = read_frame(frame)
        if isinstance(message, SyncUpdate) and message.update in sent:
            waits.append(time.perf_counter() - sent.pop(message.update))


async def flood(url: str, number: int, token: str, updates: Sequence[bytes], told: Told) -> None:
    frames = [write_frame(SyncUpdate(update)) for update in updates]
    while True:
        try:
            async with socket_of("flood", url, f"flood{number // PER_DOCUMENT}", token) as socket:
                await _pour(socket, frames, told)
        except (WebSocketException, OSError) as error:
            told[_word(error)] += 1
        await asyncio.sleep(RETURN_SECONDS)


async def _pour(socket: ClientConnection, frames: Sequence[bytes], told: Told) -> None:
    reading = asyncio.ensure_future(_drop(socket))
    try:
        while not reading.done():
            for frame in frames:
                await socket.send(frame)
                told["frames"] += 1
                await asyncio.sleep(0)
    finally:
        reading.cancel()
    await socket.recv()  # raises with the code


async def _drop(socket: ClientConnection) -> None:
    with suppress(WebSocketException):
        while True:
            await socket.recv()


async def reconnect(url: str, number: int, token: str, told: Told) -> None:
    due = time.monotonic() + random.random() / 5
    while True:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        due = max(due + 0.2, time.monotonic() - 1.0)
        told["joins"] += 1
        try:
            async with socket_of("reconnect", url, "notes", token) as socket:
                await socket.recv()
        except (WebSocketException, OSError) as error:
            told[_word(error)] += 1


async def request(url: str, number: int, token: str, told: Told) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    head = (
        f"GET /v1/spaces/demo/chat/messages HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, int(port), local_addr=(ADDRESSES["request"], 0))
            for _ in range(2):
                writer.write(head)
                told[await _answer(reader)] += 1
            writer.close()
        except (OSError, EOFError) as error:
            told[type(error).__name__] += 1
            await asyncio.sleep(0.01)


async def _answer(reader: asyncio.StreamReader) -> str:
    """The status of a response, once all of it is read."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
    return head[9:12]


def _word(error: Exception) -> str:
    closed = getattr(error, "rcvd", None)
    return type(error).__name__ if closed is None else str(closed.code)


# --- a process of them -----------------------------------------------------------------------------------------------


async def act(kind: str, url: str, tokens: Sequence[str], count: int, seconds: float) -> dict[str, Any]:
    told: Told = Counter()
    waits: list[float] = []
    updates = updates_of(200)
    ways: dict[str, Callable[[int, str], Awaitable[None]]] = {
        "honest": lambda number, token: type_honestly(url, number, token, seconds, waits, told),
        "flood": lambda number, token: flood(url, number, token, updates, told),
        "reconnect": lambda number, token: reconnect(url, number, token, told),
        "request": lambda number, token: request(url, number, token, told),
    }
    tasks = [asyncio.ensure_future(ways[kind](number, tokens[number // ACTORS[kind]])) for number in range(count)]
    if kind == "honest":
        await asyncio.gather(*tasks)
    else:
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {"told": told, "waits": waits}


def start(kind: str, url: str, keyring: Keyring, count: int, seconds: float) -> subprocess.Popen[str]:
    """A process of `count` of a kind, which ends by itself."""
    people = -(-count // ACTORS[kind])
    tokens = [keyring.sign(f"{kind}{n}", f"{kind} {n}", "dev", {"*": "editor"}, lifetime=3_600) for n in range(people)]
    process = subprocess.Popen(
        [sys.executable, __file__, "--act", kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"url": url, "tokens": tokens, "count": count, "seconds": seconds}))
    process.stdin.close()
    return process


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    said: dict[str, Any] = json.loads(process.stdout.read())
    process.wait()
    return said


def cpu(pid: int) -> float:
    """Seconds that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def p95(waits: Sequence[float]) -> float:
    return 1_000 * sorted(waits)[int(0.95 * (len(waits) - 1))]


@dataclass(slots=True)
class Siege:
    """A server, who attacks it, and what honest clients told before and under attack."""

    server: ServerProcess
    keyring: Keyring
    honest: int
    seconds: float
    attackers: dict[str, int]
    calm: list[dict[str, Any]] = field(default_factory=list)
    attacked: list[dict[str, Any]] = field(default_factory=list)
    attacks: dict[str, Told] = field(default_factory=dict)
    computed: float = 0.0

    async def round(self) -> None:
        """One more of each."""
        self.calm.append(await self._listen())
        begin = cpu(self.server.serving)
        attacks = {
            kind: start(kind, self.server.url, self.keyring, count, self.seconds + 8)
            for kind, count in self.attackers.items()
            if count
        }
        await asyncio.sleep(4)  # until the attack stands
        self.attacked.append(await self._listen())
        for kind, process in attacks.items():
            self.attacks.setdefault(kind, Counter()).update((await asyncio.to_thread(ended, process))["told"])
        self.computed += cpu(self.server.serving) - begin

    async def _listen(self) -> dict[str, Any]:
        process = start("honest", self.server.url, self.keyring, self.honest, self.seconds)
        return await asyncio.to_thread(ended, process)

    def tell(self) -> None:
        """Print what came of it."""
        print(f"server: {self.server.memory() / 2**20:.0f} MiB, {self.computed:.1f} s of CPU under attack")
        for kind, told in self.attacks.items():
            print(f"attackers, {kind}: {dict(told)}")
        middles = []
        for name, phases in (("quiet", self.calm), ("attacked", self.attacked)):
            tails = [p95(phase["waits"]) for phase in phases]
            edits, lost, closed = (sum(phase["told"].get(what, 0) for phase in phases) for what in HONEST)
            each = ", ".join(f"{tail:.1f}" for tail in tails)
            print(f"{name}: p95 {median(tails):.1f} ms ({each}), {edits} edits, {lost} lost, {closed} closed")
            middles.append(median(tails))
        print(f"ratio of the honest ones' p95: {middles[1] / middles[0]:.2f}")


async def measure(honest: int, seconds: float, rounds: int, limits: Path | None, attackers: dict[str, int]) -> None:
    who = ", ".join(f"{count} {kind}" for kind, count in attackers.items())
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{who}, {honest} honest, {rounds} rounds of {seconds:g} s, {machine}")
    with TemporaryDirectory() as folder:
        if limits is not None:
            shutil.copy(limits, Path(folder) / FILE)
        async with ServerProcess(Path(folder), dev=False) as server:
            keyring = Keyring.load(Path(folder))
            owner = keyring.sign("owner", "Owner", "dev", {"*": "owner"}, lifetime=3_600)
            headers = {"Authorization": f"Bearer {owner}"}
            async with httpx.AsyncClient(base_url=server.url, headers=headers) as http:
                (await http.post("/v1/spaces", json={"slug": "demo"})).raise_for_status()
                for number in range(30):
                    body = {"body": f"message {number}"}
                    (await http.post("/v1/spaces/demo/chat/messages", json=body)).raise_for_status()
            siege = Siege(server, keyring, honest, seconds, attackers)
            for _ in range(rounds):
                await siege.round()
            siege.tell()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--floods", type=int, default=900)
    parser.add_argument("--reconnects", type=int, default=100)
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--honest", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limits", type=Path, help="a limits.toml for the server (docs/api.md)")
    parser.add_argument("--act", choices=ADDRESSES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.act:
        if options.act != "honest":
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        print(json.dumps(asyncio.run(act(options.act, **json.load(sys.stdin)))))
    else:
        attackers = {"flood": options.floods, "reconnect": options.reconnects, "request": options.requests}
        asyncio.run(measure(options.honest, options.seconds, options.rounds, options.limits, attackers))


if __name__ == "__main__":
    main()

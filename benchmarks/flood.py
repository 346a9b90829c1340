"""Flooding sockets and clients that reconnect without end, against honest ones: what the honest ones feel.

    python benchmarks/flood.py [--floods 900] [--reconnects 100] [--honest 50] [--seconds 10] [--limits FILE]

Honest clients type five times a second each, five in a document, and wait for the echo from the disk. The
attackers have tokens of the same tenant, in the same space: few actors with many sockets each. A flooding socket sends
edits as fast as the server reads them and is back a second after it was closed, whatever it was told; a reconnecting
one joins and leaves five times a second. Server, honest clients and each kind of attacker are processes of their own on
this machine; attackers have the lowest priority, because in the world they bring machines of their own. Prints the
honest ones' p95 in quiet and under attack.
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
from pathlib import Path
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

ADDRESSES = {"honest": "127.0.0.1", "flood": "127.0.0.2", "reconnect": "127.0.0.3"}
ACTORS = {"honest": 1, "flood": 100, "reconnect": 10}
"""Sockets of one actor."""
PER_DOCUMENT = 5
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


async def measure(floods: int, reconnects: int, honest: int, seconds: float, limits: Path | None) -> None:
    print(f"{floods} flooding, {reconnects} reconnecting, {honest} honest, {seconds:g} s, {os.cpu_count()} cores")
    with TemporaryDirectory() as folder:
        if limits is not None:
            shutil.copy(limits, Path(folder) / FILE)
        async with ServerProcess(Path(folder), dev=False) as server:
            keyring = Keyring.load(Path(folder))
            owner = keyring.sign("owner", "Owner", "dev", {"*": "owner"}, lifetime=3_600)
            headers = {"Authorization": f"Bearer {owner}"}
            async with httpx.AsyncClient(base_url=server.url, headers=headers) as http:
                (await http.post("/v1/spaces", json={"slug": "demo"})).raise_for_status()
            calm = await asyncio.to_thread(lambda: ended(start("honest", server.url, keyring, honest, seconds)))
            calm_cpu = cpu(server.pid)
            attackers = [
                start(kind, server.url, keyring, count, seconds + 8)
                for kind, count in (("flood", floods), ("reconnect", reconnects))
                if count
            ]
            await asyncio.sleep(4)  # until the attack stands
            attacked = await asyncio.to_thread(lambda: ended(start("honest", server.url, keyring, honest, seconds)))
            attacks = [await asyncio.to_thread(ended, one) for one in attackers]
            print(f"server: {server.memory() / 2**20:.0f} MiB, {cpu(server.pid) - calm_cpu:.1f} s of CPU under attack")
    for name, said in (("quiet", calm), ("attacked", attacked)):
        print(f"{name}: p95 {p95(said['waits']):.1f} ms, {said['told']['edits']} edits, {said['told']['lost']} lost")
    for attack in attacks:
        print(f"attackers: {attack['told']}")
    print(f"ratio of the honest ones' p95: {p95(attacked['waits']) / p95(calm['waits']):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--floods", type=int, default=900)
    parser.add_argument("--reconnects", type=int, default=100)
    parser.add_argument("--honest", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--limits", type=Path, help="a limits.toml for the server (docs/api.md)")
    parser.add_argument("--act", choices=ADDRESSES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.act:
        os.nice(0 if options.act == "honest" else 19)
        print(json.dumps(asyncio.run(act(options.act, **json.load(sys.stdin)))))
    else:
        asyncio.run(measure(options.floods, options.reconnects, options.honest, options.seconds, options.limits))


if __name__ == "__main__":
    main()

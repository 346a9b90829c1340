"""What the log costs in bytes: per op and per editing session; and what a rewrite saves.

    .venv/bin/python benchmarks/log_size.py

Each way to work goes into a log of its own on disk, op by op as a connected client sends it. `update` is what Yjs
sends, `event` the whole event as it is stored, `log` what the database grew by per op once it was closed, indexes,
chain and all. The keystrokes and the messages are real ones (`../shared/data`, or the folder that MAQUETTE_DATA names).

Then a scene that 1,000 agents came to, edited and left is rewritten. It is opened from its events by a process of its
own, which tells how long that takes and by how much its memory grows.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import pycrdt

from maquette.engine.document import Document
from maquette.engine.engine import Engine
from maquette.engine.epochs import Rewriting, Weight
from maquette.engine.events import Actor, encode_actor, encode_data
from maquette.engine.logs.schema import DATABASE
from maquette.engine.roles import Role
from maquette.engine.scene.schema import new_node
from maquette.engine.space import Space

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("MAQUETTE_DATA", ROOT.parent / "shared" / "data"))

TENANT, SPACE = "t", "demo"
KEYS = 10_000
DRAGS = 2_000
LINES = 1_000
SESSIONS = 1_000
EDITS = 10  # of a session
NODES = 200
ADA = Actor("ada4567890x")
Work = Callable[[Space], Awaitable[int]]


class Client:
    """A connected client: what it does in its replica is submitted at once, and told when all is on disk."""

    def __init__(self, document: Document, actor: Actor) -> None:
        self.doc: pycrdt.Doc[Any] = pycrdt.Doc()
        self.doc.apply_update(document.replica.diff(self.doc.get_state()))
        self._document = document
        self._actor = actor
        self._receipts = [document.submit(actor, lambda: Role.EDITOR, b"\x00\x00", self.doc.client_id)]
        self._watch = self.doc.observe(self._send)

    def _send(self, event: pycrdt.TransactionEvent) -> None:
        receipt = self._document.submit(self._actor, lambda: Role.EDITOR, event.update, self.doc.client_id)
        assert receipt.denied is None, receipt.denied
        assert not receipt.refused, receipt.refused
        self._receipts.append(receipt)

    async def leave(self) -> None:
        """Wait until everything is on disk."""
        for receipt in self._receipts:
            await receipt.wait()
        self.doc.unobserve(self._watch)


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes: of a median update and event, and of the log per op; and how many ops there were."""

    ops: int
    update: float
    event: float
    log: float


# --- ways to work --------------------------------------------------------------------------------------------------


async def typing(space: Space) -> int:
    """Somebody writes a program: recorded keystrokes, one after the other."""
    with gzip.open(DATA / "traces/sveltecomponent.json.gz", "rt") as file:
        typed = json.load(file)["txns"][:KEYS]
    client = Client(await space.open("text:notes", create_as=ADA), ADA)
    text: pycrdt.Text = client.doc.get("text", type=pycrdt.Text)
    for step in typed:
        with client.doc.transaction():
            for position, deleted, inserted in step["patches"]:
                whole = str(text)
                start = len(whole[:position].encode())
                if deleted:
                    del text[start : start + len(whole[position : position + deleted].encode())]
                if inserted:
                    text.insert(start, inserted)
    await client.leave()
    return len(typed)


async def dragging(space: Space) -> int:
    """Nodes are dragged; each commits its place when it is let go."""
    client = Client(await space.open("scene"), ADA)
    nodes = await furnish(client)
    chance = Random(1)
    for _ in range(DRAGS):
        nodes[f"n{chance.randrange(NODES):010}"]["translation"] = [chance.uniform(-9, 9) for _ in range(3)]
    await client.leave()
    return DRAGS


async def chatting(space: Space) -> int:
    """The lines of a public channel, as their writer posts them."""
    client = Client(await space.open("chat"), ADA)
    messages: pycrdt.Array[Any] = client.doc.get("messages", type=pycrdt.Array)
    for number, body in enumerate(lines()):
        fields = {"id": f"m{number:010}", "author": ADA.id, "body": body, "sent": 1_700_000_000_000 + number}
        messages.append(pycrdt.Map({**fields, "reactions": pycrdt.Map()}))
    await client.leave()
    return LINES


def lines() -> Iterator[str]:
    said = (DATA / "chat/ubuntu-irc-2008-04-27.txt").read_text(errors="replace").splitlines()
    posts = [line.split("> ", 1)[1] for line in said if line.startswith("[") and "> " in line]
    yield from [post for post in posts if post.strip()][:LINES]


async def visiting(space: Space) -> int:
    """Agents come, each with a client id of its own, edit ten registers, and go."""
    keeper = Client(await space.open("scene"), ADA)
    await furnish(keeper)
    await keeper.leave()
    chance = Random(2)
    for number in range(SESSIONS):
        agent = Client(await space.open("scene"), Actor(f"agent{number % 20:06}", "ai"))
        nodes = agent.doc.get("nodes", type=pycrdt.Map)
        for _ in range(EDITS):
            node = nodes[f"n{chance.randrange(NODES):010}"]
            node["translation"] = [round(chance.uniform(-9, 9), 3) for _ in range(3)]
        await agent.leave()
    return SESSIONS * EDITS


async def furnish(client: Client) -> Any:
    """A scene of simple nodes; not counted."""
    nodes = client.doc.get("nodes", type=pycrdt.Map)
    for number in range(NODES):
        nodes[f"n{number:010}"] = pycrdt.Map(new_node("mesh", "a box", (None, "V"), mesh={"shape": "box"}))
    return nodes


# --- measuring -----------------------------------------------------------------------------------------------------


async def cost(work: Work, folder: Path) -> Cost:
    """Let `work` go into a new log in `folder`, and read what that came to."""
    async with await Engine.open(folder) as engine:
        space = await engine.create_space(TENANT, SPACE, ADA)
        ops = await work(space)
    updates, events, size = [], [], 0
    async with await Engine.open(folder) as engine:
        async for page in engine.log.read_all():
            for event in page:
                bytes_ = len(encode_data(event.data)) + len(encode_actor(event.actor)) + len(event.type) + 32
                size += bytes_
                if "update" in event.data:
                    updates.append(len(event.data["update"]))
                    events.append(bytes_)
    counted = sum(events[-ops:])  # what was built before is at the beginning
    log = (folder / DATABASE).stat().st_size * counted / size
    return Cost(ops, median(updates[-ops:]), median(events[-ops:]), log / ops)


async def rewritten(folder: Path) -> Rewriting:
    """Rewrite the scene in `folder`."""
    async with await Engine.open(folder) as engine:
        return await (await engine.space(TENANT, SPACE)).rewrite("scene", ADA)


def opened(folder: Path, epoch: int) -> tuple[float, float]:
    """Milliseconds that opening an epoch from its events takes, and KiB that it takes, in a process of its own."""
    command = [sys.executable, __file__, "--open", str(folder), str(epoch)]
    milliseconds, kib = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return milliseconds, kib


async def open_one(folder: Path, epoch: int) -> None:
    engine = await Engine.open_readonly(folder, snapshots=False)
    space = await engine.space(TENANT, SPACE)
    before, start = resident(), perf_counter()
    replica = await engine.replica(space, space.record.documents["scene"], epoch)
    print(json.dumps([1e3 * (perf_counter() - start), (resident() - before) / 1024]))
    assert replica.revision > 0
    await engine.close()


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def tell(folder: Path) -> None:
    """The tables, for docs/benchmarks.md."""
    print("| | ops | bytes of an update | of an event | of the log per op |\n|---|---|---|---|---|")
    visits = 0.0
    for name, work in (("typing", typing), ("dragging", dragging), ("chat", chatting), ("agents", visiting)):
        found = asyncio.run(cost(work, folder / name))
        print(f"| {name} | {found.ops:,} | {found.update:.0f} | {found.event:.0f} | {found.log:.0f} |")
        visits = found.log * EDITS
    print(f"\nA session of an agent, {EDITS} edits: {visits / 1024:.1f} KiB of log.\n")
    done = asyncio.run(rewritten(folder / "agents"))
    old, new = opened(folder / "agents", 1), opened(folder / "agents", 2)
    print("| | before | after |\n|---|---|---|")
    for what, field in (("bytes of state", "bytes"), ("client ids", "clients"), ("values", "clocks")):
        print(f"| {what} | {of(done.before, field):,} | {of(done.after, field):,} |")
    print(f"| opening it from its events | {old[0]:,.0f} ms | {new[0]:,.0f} ms |")
    print(f"| memory | {old[1] / 1024:.1f} MiB | {new[1] / 1024:.1f} MiB |")


def of(weight: Weight, field: str) -> int:
    value: int = getattr(weight, field)
    return value


if __name__ == "__main__":
    if sys.argv[1:2] == ["--open"]:
        asyncio.run(open_one(Path(sys.argv[2]), int(sys.argv[3])))
    else:
        with TemporaryDirectory() as temporary:
            tell(Path(temporary))

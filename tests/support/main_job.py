"""The main job, end to end, on real input: what the end-to-end tests assert and `benchmarks/main_job.py` measures.

Each part drives a real server over the wire, then reads the log beside it and answers with what it found.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pycrdt
from pygltflib import GLTF2
from tests.support.agents import Agent, NodeAgent, PythonAgent, Replay
from tests.support.server import ServerProcess
from tests.support.traces import Trace

from maquette.client import RemoteText
from maquette.engine.events import Event
from maquette.engine.kinds.text import TEXT
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.replica import Replica
from maquette.engine.update import read_update

SPACE = "main"
MODELS = (
    "Fox.glb", "Box.glb", "MorphStressTest.gltf", "kenney/alien.glb", "kenney/cakeBirthday.glb", "kenney/tile.glb",
)  # fmt: skip


@dataclass(slots=True)
class TraceRun:
    """What a replayed trace left behind."""

    texts: list[str]
    """Of each agent, in order."""
    events: list[Event]
    seconds: float
    reconnects: int
    actors: list[str]
    """The actor id of each agent, in order."""

    def replayed(self) -> str:
        """The text by a replay of the log, from nothing."""
        replica = Replica(TEXT, 1)
        for event in self.events:
            replica.replay(event)
        return str(replica.doc.get(RemoteText.root, type=pycrdt.Text))

    def authors(self) -> dict[int, set[str]]:
        """Client id → the actors under whom its structs are in the log."""
        found: dict[int, set[str]] = {}
        for event in self.events:
            for client in read_update(event.data["update"]).structs:
                found.setdefault(client, set()).add(event.actor.id)
        return found

    def stored_twice(self) -> list[tuple[int, int]]:
        """The (client, clock)s that the log holds more than once, or with a gap before them."""
        wrong, clocks = [], Counter[int]()
        for event in self.events:
            for client, structs in read_update(event.data["update"]).structs.items():
                if structs[0].clock != clocks[client]:
                    wrong.append((client, structs[0].clock))
                clocks[client] = structs[-1].end
        return wrong

    @property
    def bytes_per_op(self) -> float:
        """Of the updates alone."""
        return sum(len(event.data["update"]) for event in self.events) / len(self.events)


def clients(count: int) -> list[int]:
    """Client ids in the order of agents: Yjs orders concurrent insertions by client id, the recordings by agent."""
    return [1_000 * (number + 1) for number in range(count)]


def merged_text(trace: Trace, steps: int) -> str:
    """What the first `steps` edits come to when all are merged: by pycrdt alone, without a server."""
    docs: list[pycrdt.Doc[pycrdt.Text]] = [pycrdt.Doc(client_id=client) for client in clients(trace.agents)]
    made: list[list[bytes]] = [[] for _ in docs]
    watches = [
        doc.observe(lambda event, mine=mine: mine.append(event.update)) for doc, mine in zip(docs, made, strict=True)
    ]
    known = [[0] * trace.agents for _ in docs]
    for step in trace.steps[:steps]:
        doc, own = docs[step.agent], made[step.agent]
        before = len(own)
        for other, count in enumerate(step.parents):
            for update in made[other][known[step.agent][other] : count] if other != step.agent else ():
                doc.apply_update(update)
        del own[before:]  # what was merged, not made
        known[step.agent] = list(step.parents)
        text = doc.get(RemoteText.root, type=pycrdt.Text)
        with doc.transaction():
            for position, deleted, inserted in step.patches:
                del text[position : position + deleted]
                if inserted:
                    text.insert(position, inserted)
    del watches
    whole: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc()
    for update in (update for mine in made for update in mine):
        whole.apply_update(update)
    return str(whole.get(RemoteText.root, type=pycrdt.Text))


async def replay_trace(server: ServerProcess, trace: Trace, name: str) -> TraceRun:
    """Replay `trace` by its agents, Python and Node in turn; kill the server halfway, start it again, go on."""
    started = time.monotonic()
    half = trace.quiet_near(len(trace.steps) // 2)
    async with AsyncExitStack() as stack:
        agents = [await _agent(server, name, number, stack) for number in range(trace.agents)]
        replay = Replay(trace, agents)
        await _each(agents, "hold")
        await replay.run(0, half)
        await server.kill()  # with edits on their way
        await _each(agents, "release")
        await server.start()
        middle = merged_text(trace, half)
        await asyncio.gather(*(agent.reaches(middle) for agent in agents))
        await _each(agents, "hold")
        replay.all_merged()
        await replay.run(half, len(trace.steps))
        await _each(agents, "release")
        await asyncio.gather(*(agent.reaches(trace.end) for agent in agents))
        python = [agent for agent in agents if isinstance(agent, PythonAgent)]
        await asyncio.gather(*(agent.flush() for agent in python))
        seconds = time.monotonic() - started
        texts = [await agent.read_text() for agent in agents]
        actors = [await _actor(server, name, number) for number in range(trace.agents)]
        reconnects = sum(agent.reconnects for agent in python)
    return TraceRun(texts, await document_events(server.folder, name), seconds, reconnects, actors)


def person(name: str, number: int) -> str:
    """The name of an agent of a trace."""
    return f"{name}-{number}"


async def _agent(server: ServerProcess, name: str, number: int, stack: AsyncExitStack) -> Agent:
    client, who = clients(number + 1)[number], person(name, number)
    if number % 2 == 0:
        return await stack.enter_async_context(PythonAgent(client, server.url, SPACE, f"text:{name}", name=who))
    agent = await NodeAgent.open(server.ws, f"{SPACE}/text:{name}", client, name=who)
    stack.push_async_callback(agent.close)
    return agent


async def _actor(server: ServerProcess, name: str, number: int) -> str:
    async with RemoteText(server.url, SPACE, f"text:{name}", name=person(name, number)) as text:
        return text.actor


async def _each(agents: Sequence[Agent], command: str) -> None:
    await asyncio.gather(*(getattr(agent, command)() for agent in agents))


async def events(folder: Path) -> list[Event]:
    """The whole log, read beside the server."""
    log = await SqliteLog.open_readonly(folder)
    try:
        return [event async for page in log.read_all() for event in page]
    finally:
        await log.close()


async def document_events(folder: Path, name: str) -> list[Event]:
    """The events of the text document `name` of the one space."""
    found = await events(folder)
    opened = next(
        event for event in found if event.type == "document.opened" and event.data.get("name") == f"text:{name}"
    )
    stream = f"{opened.stream}/{opened.data['document']}@1"
    return [event for event in found if event.stream == stream]


@dataclass(slots=True)
class Latencies:
    """Milliseconds from sending an edit to its echo from the disk, under a steady load."""

    milliseconds: list[float] = field(default_factory=list)

    def percentile(self, percent: float) -> float:
        """The value below which `percent` of them lie."""
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


async def steady(server: ServerProcess, *, people: int, rate: float, seconds: float) -> Latencies:
    """`people` type into one text, each `rate` characters a second; how long each waits for its own echo."""
    latencies = Latencies()
    async with AsyncExitStack() as stack:
        texts = [
            await stack.enter_async_context(RemoteText(server.url, SPACE, "text:steady", name=f"typist-{number}"))
            for number in range(people)
        ]
        await asyncio.gather(*(_type(text, rate, seconds, latencies) for text in texts))
    return latencies


async def _type(text: RemoteText, rate: float, seconds: float, latencies: Latencies) -> None:
    for _ in range(int(rate * seconds)):
        started = time.perf_counter()
        text.insert(0, "x")
        await text.flush()
        took = time.perf_counter() - started
        latencies.milliseconds.append(1_000 * took)
        await asyncio.sleep(max(0.0, 1 / rate - took))


# --- files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shown:
    """What a glTF file shows, counted by pygltflib, which knows nothing of ours."""

    triangles: int
    animations: int
    skins: int

    def __add__(self, other: Shown) -> Shown:
        return Shown(self.triangles + other.triangles, self.animations + other.animations, self.skins + other.skins)


def shown_by(path: Path) -> Shown:
    """Triangles of all nodes of the scene (a mesh shown three times counts three times), animations, skins in use."""
    file = GLTF2().load(str(path))
    waiting, triangles, skins = list(file.scenes[file.scene or 0].nodes), 0, set()
    while waiting:
        node = file.nodes[waiting.pop()]
        waiting += node.children or []
        skins |= {node.skin} - {None}
        for primitive in file.meshes[node.mesh].primitives if node.mesh is not None else ():
            accessor = primitive.indices if primitive.indices is not None else primitive.attributes.POSITION
            triangles += file.accessors[accessor].count // 3
    return Shown(triangles, len(file.animations), len(skins))


async def maquette(*arguments: str) -> str:
    """Run the command line in a process of its own; what it prints. Its errors fail the test."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from maquette.server.cli import main; main()", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, errors = await process.communicate()
    assert process.returncode == 0, f"maquette {chr(32).join(arguments)}: {printed.decode()}{errors.decode()}"
    return printed.decode()


async def import_files(server: ServerProcess, files: Sequence[Path]) -> str:
    """Import files through the server; the report."""
    return await maquette("import", SPACE, *map(str, files), "--data", str(server.folder))


async def export_to(server: ServerProcess, path: Path) -> str:
    """Export the scene (.glb) or the chat (.jsonl) through the server."""
    return await maquette("export", SPACE, "--to", str(path), "--data", str(server.folder))


@dataclass(frozen=True, slots=True)
class Line:
    """What one line of a chat says: who said what, when (ms)."""

    name: str
    body: str
    sent: int


async def conversation(server: ServerProcess) -> list[dict[str, Any]]:
    """Every message of the conversation, by REST, oldest first, over all pages, once the view holds the whole log."""
    messages: list[dict[str, Any]] = []
    head = max(event.position for event in await events(server.folder))
    params: dict[str, Any] = {"limit": 200, "after": 0, "wait": str(head)}
    async with httpx.AsyncClient(base_url=f"{server.url}/v1/spaces/{SPACE}", params={"name": "Reader"}) as client:
        while True:
            answer = await client.get("/chat/messages", params=params)
            answer.raise_for_status()
            page = answer.json()["messages"]
            messages += page
            if not page:
                return messages
            params["after"] = page[-1]["number"]


def spoken(messages: Sequence[dict[str, Any]]) -> list[Line]:
    """What people said, without the notices (joins, parts, renames)."""
    return [Line(m["name"], m["body"], m["sent"]) for m in messages if not m["notice"]]


def lines_of(path: Path) -> list[Line]:
    """The same out of the log file itself, in its order: `[hh:mm] <nick> text`, and `[hh:mm]  * nick does` as /me."""
    day = datetime.fromisoformat(path.stem[-10:]).replace(tzinfo=UTC)
    found = []
    for line in path.read_bytes().decode("utf-8").splitlines():
        said = re.fullmatch(r"\[(\d\d):(\d\d)\] <([^>]*)> ?(.*)", line)
        done = re.fullmatch(r"\[(\d\d):(\d\d)\]\s+\* (\S+) ?(.*)", line)
        if match := said or done:
            sent = day + timedelta(hours=int(match[1]), minutes=int(match[2]))
            body = match[4] if said else f"/me {match[4]}"
            found.append(Line(match[3].strip(), body, int(sent.timestamp() * 1_000)))
    return found

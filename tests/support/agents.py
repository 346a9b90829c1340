"""Participants that replay a trace over real connections: one kind in Python, one with stock Yjs in Node.

Each holds back what others send until the trace merges it, so that forks and merges happen as they were recorded.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Protocol

import pycrdt
from tests.support.node import FOLDER, require_node
from tests.support.traces import Step, Trace

from maquette.client import RemoteText


def sha1(update: bytes) -> str:
    return hashlib.sha1(update).hexdigest()


class Agent(Protocol):
    """One participant of a trace. Updates are named by their SHA-1."""

    async def edits(self, steps: Sequence[tuple[Sequence[str], Step]]) -> list[str]:
        """For each: merge these updates, make this edit; the names of what was made."""
        ...

    async def hold(self) -> None:
        """Hold back what comes from now on."""
        ...

    async def release(self) -> None:
        """Take in all that was held back, and whatever comes."""
        ...

    async def reaches(self, text: str) -> None:
        """Wait until this is the text."""
        ...

    async def read_text(self) -> str: ...

    async def close(self) -> None: ...


class PythonAgent(RemoteText):
    """A participant on the Python client."""

    def __init__(self, client: int, *args: Any, **options: Any) -> None:
        self._client = client
        self._holding = False
        self._held: dict[str, bytes] = {}
        self._arrived = asyncio.Condition()
        self._made: list[str] = []
        super().__init__(*args, **options)

    def _fresh(self) -> None:
        super()._fresh()
        self.doc = pycrdt.Doc(client_id=self._client)
        self._subscription = self.doc.observe(self._on_update)

    def _on_update(self, event: pycrdt.TransactionEvent) -> None:
        if not self._applying:
            self._made.append(sha1(event.update))
        super()._on_update(event)

    def _apply(self, update: bytes) -> None:
        if self._holding:
            self._held[sha1(update)] = update
        else:
            super()._apply(update)

    async def edits(self, steps: Sequence[tuple[Sequence[str], Step]]) -> list[str]:
        made = []
        for merges, step in steps:
            for name in merges:
                await self._until(lambda name=name: name in self._held)  # type: ignore[misc]
                super()._apply(self._held.pop(name))
            with self.doc.transaction():
                for position, deleted, inserted in step.patches:
                    if deleted:
                        self.delete(position, deleted)
                    if inserted:
                        self.insert(position, inserted)
            made.append(self._made.pop())
        return made

    async def hold(self) -> None:
        self._holding = True

    async def release(self) -> None:
        self._holding = False
        for update in self._held.values():
            super()._apply(update)
        self._held.clear()

    async def reaches(self, text: str) -> None:
        await self._until(lambda: str(self) == text)

    async def read_text(self) -> str:
        return str(self)


class NodeAgent:
    """A participant with yjs and y-websocket, unchanged, in Node (`tests/js/agent.mjs`)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def open(cls, url: str, room: str, client: int, **params: str) -> NodeAgent:
        process = await asyncio.create_subprocess_exec(
            require_node(), "agent.mjs", cwd=FOLDER, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
        )  # fmt: skip
        agent = cls(process)
        await agent._ask("open", url=url, room=room, params=params, client=client)
        return agent

    async def _ask(self, do: str, **fields: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
        await self._process.stdin.drain()
        line = await self._process.stdout.readline()
        assert line, f"agent.mjs: expected an answer to {do!r}, got its end"
        return json.loads(line)

    async def edits(self, steps: Sequence[tuple[Sequence[str], Step]]) -> list[str]:
        rows = [{"merges": list(merges), "patches": list(step.patches)} for merges, step in steps]
        made: list[str] = await self._ask("edits", edits=rows)
        return made

    async def hold(self) -> None:
        await self._ask("hold")

    async def release(self) -> None:
        await self._ask("release")

    async def reaches(self, text: str) -> None:
        await self._ask("reaches", wanted=text)

    async def read_text(self) -> str:
        text: str = await self._ask("text")
        return text

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b'{"do": "close"}\n')
        self._process.stdin.close()
        await self._process.wait()


class Replay:
    """Replays a trace by its agents, in the recorded order of edits."""

    def __init__(self, trace: Trace, agents: Sequence[Agent]) -> None:
        self._trace = trace
        self._agents = agents
        self._made: list[list[str]] = [[] for _ in agents]
        self._known = [[0] * len(agents) for _ in agents]

    async def run(self, first: int, last: int) -> None:
        """Make the edits from `first` to before `last`; runs of one agent go to it in one piece."""
        steps = self._trace.steps
        start = first
        while start < last:
            end = start
            while end < last and steps[end].agent == steps[start].agent and end - start < 500:
                end += 1
            await self._run_of(steps[start].agent, steps[start:end])
            start = end

    async def _run_of(self, agent: int, steps: Sequence[Step]) -> None:
        batch = []
        for step in steps:
            known = self._known[agent]
            merges = [
                name
                for other, count in enumerate(step.parents)
                if other != agent
                for name in self._made[other][known[other] : count]
            ]
            self._known[agent] = list(step.parents)
            batch.append((merges, step))
        self._made[agent] += await self._agents[agent].edits(batch)
        self._known[agent][agent] = len(self._made[agent])

    def all_merged(self) -> None:
        """Everybody was given everything, outside of the recorded merges."""
        counts = [len(made) for made in self._made]
        self._known = [list(counts) for _ in self._agents]

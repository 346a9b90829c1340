"""People who come to documents of every kind, edit and leave, and what a server's memory does meanwhile: what the short
soak among the tests asserts and `benchmarks/soak.py` measures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pycrdt
from tests.support.live import message, node
from tests.support.peer import Peer, peer
from tests.support.server import ServerProcess

from maquette.server.limits import FILE
from maquette.server.tokens import Keyring

KINDS = ("chat", "scene", "text:plan", "text:notes")
AT_ONCE = 8
IDLE_SECONDS = 0.5
LIMITS = """[default]
accepts_per_actor = 1_000_000
accepts_per_address = 1_000_000
accepts_per_tenant = 1_000_000
requests_per_actor = 1_000_000
requests_per_address = 1_000_000
requests_per_tenant = 1_000_000
"""
"""What a crowd on one address, in a hurry, needs; counters of rates that nobody reaches are kept all the same."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of the serving process, in MiB."""

    rss: float
    pss: float

    def __str__(self) -> str:
        return f"RSS {self.rss:.1f} MiB, PSS {self.pss:.1f} MiB"


def memory_of(pid: int) -> Memory:
    """What the kernel says of the process `pid`."""
    rows = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]]
    kilobytes = {row[0].rstrip(":"): int(row[1]) for row in rows}
    return Memory(kilobytes["Rss"] / 1024, kilobytes["Pss"] / 1024)


class Soak:
    """A server, and people who come and go."""

    def __init__(self, server: ServerProcess, http: httpx.AsyncClient, keyring: Keyring, spaces: int) -> None:
        self._server = server
        self._http = http
        self._tokens = [keyring.sign(name, name, "dev", {"*": "editor"}, lifetime=86_400) for name in ("ann", "ben")]
        self._rooms = [(f"s{number}", kind) for number in range(spaces) for kind in KINDS]

    async def begin(self) -> None:
        """Make the spaces."""
        for slug in dict.fromkeys(slug for slug, _ in self._rooms):
            (await self._http.post("/v1/spaces", json={"slug": slug})).raise_for_status()

    async def cycle(self, number: int, edits: int) -> Memory:
        """Open, edit and leave all documents; the memory when all are evicted."""
        rooms = iter(self._rooms)

        async def work() -> None:
            for slug, kind in rooms:
                await self._visit(slug, kind, number, edits)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        await self._all_evicted()
        return memory_of(self._server.serving)

    async def _visit(self, slug: str, kind: str, cycle: int, edits: int) -> None:
        room = f"{slug}/{kind}"
        async with self._person(room, 0) as ann, self._person(room, 1) as ben:
            for number in range(edits):
                writer = (ann, ben)[number % 2]
                await writer.announce(clock=number + 1, cursor=number)
                await writer.edit(partial(_write, writer.doc, kind, f"c{cycle}e{number}", ("ann", "ben")[number % 2]))
            if kind in ("chat", "scene"):
                await self._rest(slug, kind, cycle)
            name = f"c{cycle}e{edits - 1}"
            for one in (ann, ben):
                await one.until(partial(_has, one.doc, kind, name))

    @asynccontextmanager
    async def _person(self, room: str, number: int) -> AsyncIterator[Peer]:
        async with peer(self._server.url, room, token=self._tokens[number]) as one:
            yield one

    async def _rest(self, slug: str, kind: str, cycle: int) -> None:
        space = f"/v1/spaces/{slug}"
        if kind == "chat":
            (await self._http.post(f"{space}/chat/messages", json={"body": f"cycle {cycle}"})).raise_for_status()
            (await self._http.get(f"{space}/chat/messages")).raise_for_status()
        else:
            (await self._http.post(f"{space}/scene/nodes", json={"name": f"cycle {cycle}"})).raise_for_status()
        (await self._http.get(f"{space}/documents/{kind}/state")).raise_for_status()

    async def _all_evicted(self) -> None:
        for _ in range(600):
            lines = (await self._http.get("/metrics")).text.splitlines()
            if "maquette_documents_open 0.0" in lines and "maquette_connections 0.0" in lines:
                return
            await asyncio.sleep(0.1)
        raise TimeoutError("expected every document to be evicted within a minute, some are still open")


def _write(doc: pycrdt.Doc[Any], kind: str, name: str, actor: str) -> None:
    if kind == "chat":
        doc.get("messages", type=pycrdt.Array).append(message(name, actor))
    elif kind == "scene":
        doc.get("nodes", type=pycrdt.Map)[name] = node()
    else:
        text = doc.get("notes", type=pycrdt.Text)
        text.insert(len(text), f"{name} ")


def _has(doc: pycrdt.Doc[Any], kind: str, name: str) -> bool:
    if kind == "chat":
        return any(one["id"] == name for one in doc.get("messages", type=pycrdt.Array))
    if kind == "scene":
        return name in doc.get("nodes", type=pycrdt.Map)
    return name in str(doc.get("notes", type=pycrdt.Text))


async def soak(data: Path, documents: int, cycles: int, edits: int) -> AsyncIterator[Memory]:
    """The memory behind each cycle over `documents` documents, of a server over the folder `data`."""
    (data / FILE).write_text(LIMITS)
    async with ServerProcess(data, dev=False, idle_seconds=IDLE_SECONDS) as server:
        keyring = Keyring.load(data)
        headers = {"Authorization": f"Bearer {keyring.sign('owner', 'Owner', 'dev', {'*': 'owner'}, lifetime=86_400)}"}
        once = httpx.Limits(max_keepalive_connections=0)  # one that was kept may be closed just when it is used again
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60, limits=once) as http:
            people = Soak(server, http, keyring, -(-documents // len(KINDS)))
            await people.begin()
            for number in range(cycles):
                yield await people.cycle(number, edits)


def growth(found: Sequence[Memory]) -> tuple[float, float]:
    """By how many parts the last cycle's memory is above that of the one before: RSS, PSS."""
    before, last = found[-2:]
    return last.rss / before.rss - 1, last.pss / before.pss - 1

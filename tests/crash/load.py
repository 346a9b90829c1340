"""People at work on a server that may be killed at any moment: writers, visitors, joiners, readers, importers.

Those of the Python client live through a kill, as people do; connections frame by frame and requests end with it, and
new ones come. Everything that any of them was shown or told becomes evidence.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import httpx
from tests.crash.archive import SPACE, TENANT, TEXT_ROOT
from tests.crash.evidence import Evidence
from tests.support.gltf import textured
from tests.support.peer import Peer, peer
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from maquette.client import Moved, RemoteChat, RemoteScene, RemoteText
from maquette.engine.sync import Message, SyncStep1, SyncStep2, SyncUpdate
from maquette.server.running import operator
from maquette.server.tokens import Keyring

DOCUMENTS = ("text:notes", "text:visited0", "text:visited1", "scene", "chat")
AGREE_SECONDS = 20.0
DAYS = 30 * 24 * 3600.0
GONE = (OSError, ConnectionClosed, InvalidHandshake, httpx.HTTPError, TimeoutError)
"""How a connection or a request ends when its server is killed."""


class Load:
    """Everybody who is at work. `up` is set while a server listens at `url`."""

    def __init__(self, url: str, folder: Path, dice: Random, evidence: Evidence) -> None:
        self.url = url
        self.folder = folder
        self.dice = dice
        self.evidence = evidence
        self.up = asyncio.Event()
        self.up.set()
        self.texts: list[RemoteText] = []
        self._numbers = count()
        self._tasks: list[asyncio.Task[None]] = []
        self._resting = asyncio.Event()

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Everybody works inside, and has gone home behind."""
        jobs: list[Callable[[], Coroutine[Any, Any, None]]] = [
            *(self._write_text, self._write_text, self._write_chat, self._write_scene),
            *(self._visit, self._visit, self._observe, self._observe, self._observe, self._type_by_hand),
            *(self._read, self._post, self._import_chat, self._import_scene, self._rebuild),
        ]
        self._tasks = [asyncio.create_task(job(), name=job.__name__) for job in jobs]
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def require_sound(self) -> None:
        """Raises what ended somebody's work."""
        for task in self._tasks:
            if task.done():
                task.result()
                raise AssertionError(f"expected {task.get_name()} to go on for ever")

    async def in_step(self) -> str:
        """Let those who write the text finish, and give the text in which they agree."""
        self._resting.set()
        await next(task for task in self._tasks if task.get_name() == self._type_by_hand.__name__)
        for text in self.texts:
            text.insert(0, self._mark("last"))
            await text.flush()  # its answer comes behind what others wrote before
        async with asyncio.timeout(AGREE_SECONDS):
            while len({str(text) for text in self.texts}) > 1:  # noqa: ASYNC110  (what is on its way to several)
                await asyncio.sleep(0.01)
        return str(self.texts[0])

    def _mark(self, who: str) -> str:
        return f"<{who}-{next(self._numbers)}>"

    # --- by the Python client: they live through kills ---------------------------------------------------------------

    async def _write_text(self) -> None:
        async with RemoteText(self.url, SPACE, "text:notes", name=f"Writer {next(self._numbers)}") as text:
            self.texts.append(text)
            while not self._resting.is_set():
                marks = [self._mark("text") for _ in range(self.dice.randint(1, 8))]
                for mark in marks:
                    text.insert(0, mark)
                await self.evidence.acknowledge(marks, await text.flush())
            await asyncio.Event().wait()

    async def _write_scene(self) -> None:
        async with RemoteScene(self.url, SPACE, "scene", name="Builder") as scene:
            while True:
                marks = [self._mark("node") for _ in range(self.dice.randint(1, 4))]
                homes = [None, *scene.nodes()]
                nodes = [scene.add(name=mark) for mark in marks]
                scene.move(nodes[-1], self.dice.choice(homes))
                await self.evidence.acknowledge([*marks, *nodes], await scene.flush())

    async def _write_chat(self) -> None:
        chat = RemoteChat(self.url, SPACE, "chat", name="Talker")
        while True:
            try:
                async with chat:
                    while True:
                        marks = [self._mark("chat") for _ in range(self.dice.randint(1, 4))]
                        ids = [chat.post(mark) for mark in marks]
                        await self.evidence.acknowledge([*marks, *ids], await chat.flush())
            except Moved:  # what was not flushed is no evidence
                chat = RemoteChat(self.url, SPACE, "chat", name="Talker")

    async def _visit(self) -> None:
        """Come, write, go: what nobody watches is evicted, with a snapshot."""
        while True:
            document = f"text:visited{self.dice.randrange(2)}"
            async with RemoteText(self.url, SPACE, document, name=f"Visitor {next(self._numbers)}") as text:
                marks = [self._mark("visit") for _ in range(self.dice.randint(6, 15))]
                for mark in marks:
                    text.insert(0, mark)
                await self.evidence.acknowledge(marks, await text.flush())

    # --- frame by frame, and by request: they end with the server ----------------------------------------------------

    async def _again(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await self._try(work)

    async def _try(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self.up.wait()
        try:
            await work()
        except GONE:
            await asyncio.sleep(0.02)  # it may have died by itself, which nobody has told us yet

    async def _observe(self) -> None:
        await self._again(self._observe_once)

    async def _observe_once(self) -> None:
        document = self.dice.choice(DOCUMENTS)
        async with peer(self.url, f"{SPACE}/{document}", name=f"Observer {next(self._numbers)}", sync=False) as one:
            await self._join(one)
            await self._watch(one, document, self.dice.randint(1, 60))

    async def _type_by_hand(self) -> None:
        while not self._resting.is_set():
            await self._try(self._type_once)

    async def _type_once(self) -> None:
        """Write without waiting for anything; the own echo is evidence."""
        async with peer(self.url, f"{SPACE}/text:notes", name=f"Typist {next(self._numbers)}", sync=False) as one:
            await self._join(one)
            text = one.doc.get(TEXT_ROOT, type=type(one.text))
            for _ in range(10):
                edits = self.dice.randint(1, 5)
                for _ in range(edits):
                    await one.edit(lambda: text.insert(0, self._mark("hand")))
                await self._watch(one, "text:notes", edits)
            await one.send(SyncStep1(one.doc.get_state()))
            await one.expect(SyncStep2)  # comes when everything is stored

    async def _join(self, one: Peer) -> None:
        await one.send(SyncStep1(one.doc.get_state()))
        await one.announce()

    async def _watch(self, one: Peer, document: str, messages: int) -> None:
        """Receive so many updates; all that came is evidence."""
        echoes: list[tuple[str, bytes]] = []
        self.evidence.echoes.append(echoes)
        while messages > 0:
            message: Message = await one.receive()
            match message:
                case SyncStep2(update):
                    await self.evidence.state(document, update)
                    messages -= 1
                case SyncUpdate(update):
                    echoes.append((document, update))
                    await self.evidence.state(document, update)
                    messages -= 1

    async def _read(self) -> None:
        async with self.client() as client:

            async def once() -> None:
                messages = (await self._ask(client, "GET", "/chat/messages", params={"limit": 200}))["messages"]
                nodes = (await self._ask(client, "GET", "/scene/nodes", params={"limit": 200}))["nodes"]
                await self.evidence.read(messages, nodes)

            await self._again(once)

    async def _post(self) -> None:
        async with self.client() as client:

            async def once() -> None:
                mark = self._mark("rest")
                written = await self._ask(client, "POST", "/chat/messages", json={"body": mark})
                await self.evidence.acknowledge([mark, written["id"]], written["position"])

            await self._again(once)

    async def _import_chat(self) -> None:
        """A file whose import was cut off is imported again: what is there already does not come twice."""
        async with self.client() as client:
            marks: list[str] = []

            async def once() -> None:
                marks[:] = marks or [self._mark("import") for _ in range(30)]
                lines = [{"id": mark.strip("<>"), "author": "ann", "body": mark, "sent": 1} for mark in marks]
                content = "\n".join(map(json.dumps, lines)).encode()
                report = await self._ask(client, "POST", "/import", params={"filename": "chat.jsonl"}, content=content)
                assert not report["errors"], report
                await self.evidence.acknowledge(marks, report["position"])
                marks.clear()

            await self._again(once)

    async def _import_scene(self) -> None:
        async with self.client() as client:

            async def once() -> None:
                mark = self._mark("glb")
                model = textured()
                model.node(root=True, name=mark)
                report = await self._ask(
                    client, "POST", "/import", params={"filename": "model.glb"}, content=model.glb()
                )
                await self.evidence.acknowledge([mark], report["position"])

            await self._again(once)

    async def _rebuild(self) -> None:
        async with self.client() as client:

            async def once() -> None:
                name = self.dice.choice(("chat_history", "scene_graph"))
                (await client.post(f"{self.url}/v1/projections/{name}/rebuild")).raise_for_status()

            await self._again(once)

    def client(self) -> httpx.AsyncClient:
        who = operator((self.folder / "node.secret").read_bytes())
        keyring = Keyring.load(self.folder, clock=lambda: time.time() - DAYS)  # valid wherever the clock jumps
        token = keyring.sign(who.id, "Operator", TENANT, {"*": "owner"}, kind="bot", lifetime=2 * DAYS)
        return httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=10, trust_env=False)

    async def _ask(self, client: httpx.AsyncClient, method: str, path: str, **request: Any) -> dict[str, Any]:
        response = await client.request(method, f"{self.url}/v1/spaces/{SPACE}{path}", **request)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

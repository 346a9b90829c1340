"""Hostile updates over real WebSockets against a `maquette serve` process, beside honest clients in each document.

Several documents are besieged at once, each empty or populated, in a space of its own, by several connections. Whoever
was denied, or left waiting for a hole, leaves, and somebody else comes, so that nearly every update is judged in full.
What attackers know, they have from the log, which is read beside the server.

Behind each siege: an honest edit comes back to both honest clients; they, a newcomer, the export over REST and a replay
of the log hold the same; everything can be read. Behind each round: the server ends with 0, it has logged nothing, and
`maquette doctor` finds nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pycrdt
from tests.fuzz.became import Became
from tests.fuzz.besieged import KINDS, assert_same_index, read_back, whole
from tests.fuzz.sockets import FAULTS, write
from tests.fuzz.updates import Attacker, Ground
from tests.support.live import assert_nothing_pending, message, node
from tests.support.peer import Peer, peer
from tests.support.server import ServerProcess
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from maquette.engine.engine import Engine
from maquette.engine.kinds.kind import Kind
from maquette.engine.kinds.scene import SCENE
from maquette.engine.kinds.text import TEXT
from maquette.engine.replica import UNLIMITED, Replica
from maquette.engine.space import Space
from maquette.engine.sync import (
    AwarenessState,
    AwarenessUpdate,
    PermissionDenied,
    Refused,
    SyncStep1,
    SyncStep2,
    SyncUpdate,
    read_state_vector,
    write_frame,
)
from maquette.engine.update import read_update
from maquette.server.checkup import check
from maquette.server.limits import FILE, TenantLimits
from maquette.server.tokens import Keyring

AT_ONCE = 4
"""Sieges."""
INVADERS = 4
"""Connections of one siege."""
POPULATED, EMPTY = 60, 4
"""Updates of each of them."""
PER_ATTACKER = 20
"""Updates, then somebody else comes with other client ids."""
HONEST_EVERY = 3
"""Visits of one invader, then an honest edit."""
ECHO_SECONDS = 20.0
NOTHING = b"\0"
LIMITS = "\n".join(("[default]", *(f"{name} = {10**9}" for name in TenantLimits.__slots__)))
"""Rates that a fuzzer on one address does not meet: they have tests of their own."""


@dataclass(frozen=True, slots=True)
class Field:
    """A server, its keys, and the way to its API."""

    server: ServerProcess
    keyring: Keyring
    http: httpx.AsyncClient

    def token(self, actor: str, role: str = "editor") -> str:
        return self.keyring.sign(actor, actor.title(), "dev", {"*": role}, lifetime=3_600)


class Honest:
    """A stock client that is listening all the time; it is never denied anything."""

    def __init__(self, actor: str, peer: Peer) -> None:
        self.actor = actor
        self.peer = peer
        self._echoes: dict[int, asyncio.Future[float]] = {}  # by the next clock behind an edit
        self._answers: list[asyncio.Future[float]] = []

    async def listen(self) -> None:
        """Take in what comes, until the server closes, which it must not do."""
        while True:
            said = await self.peer.receive()
            self.peer.seen.clear()
            assert not isinstance(said, PermissionDenied), said
            if isinstance(said, SyncUpdate):
                self._hear(said.update)
            elif isinstance(said, SyncStep2) and self._answers:
                self._answers.pop(0).set_result(time.perf_counter())

    def _hear(self, data: bytes) -> None:
        """Note the echo of an own edit: its structs, perhaps with what the server added (D5)."""
        own = read_update(data, UNLIMITED).structs.get(self.peer.doc.client_id)
        for clock in sorted(self._echoes) if own else ():
            if own and clock <= own[-1].end:
                self._echoes.pop(clock).set_result(time.perf_counter())

    async def edit(self, make: Callable[[], object]) -> float:
        """Write, and wait until it is shown: how many milliseconds that took."""
        update = self.peer.change(make)
        clock = read_state_vector(self.peer.doc.get_state())[self.peer.doc.client_id]
        shown = self._echoes[clock] = asyncio.get_running_loop().create_future()
        start = time.perf_counter()
        await self.peer.send(SyncUpdate(update))
        end: float = await asyncio.wait_for(shown, ECHO_SECONDS)
        return 1_000 * (end - start)

    async def catch_up(self) -> None:
        """Hold what the server holds now."""
        answered: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._answers.append(answered)
        await self.peer.send(SyncStep1(self.peer.doc.get_state()))
        await asyncio.wait_for(answered, ECHO_SECONDS)


class Siege:
    """One document, two honest clients in it, and what became of what others sent."""

    def __init__(self, field: Field, space: Space, kind: Kind, honest: list[Honest], note: Callable[[bytes], None]):
        self.field = field
        self.space = space
        self.kind = kind
        self.honest = honest
        self.note = note
        self.became = Became()
        self.replica: Replica
        """What the log held when it was last read."""
        self._edits = 0

    @property
    def name(self) -> str:
        return "text:notes" if self.kind is TEXT else self.kind.name

    @property
    def room(self) -> str:
        return f"{self.space.slug}/{self.name}"

    async def begin(self, *, populated: bool) -> None:
        self.replica = await self._replayed()
        if populated:
            await self.honest[0].edit(lambda: _populate(self.honest[0].peer.doc, self.kind, self.honest[0].actor))
            for _ in range(6):
                await self.edit()

    async def _replayed(self) -> Replica:
        record = self.space.record.documents[self.name]
        return await self.space.engine.replica(self.space, record, record.current)

    async def follow(self) -> None:
        """Read on in the log."""
        record = self.space.record.documents[self.name]
        stream = self.space.record.document_stream(record, record.current)
        async for page in self.space.engine.log.read(stream, after=self.replica.revision):
            for event in page:
                if event.revision == self.replica.revision + 1:  # else another invader was faster
                    self.replica.replay(event)

    async def edit(self) -> None:
        """One of the honest makes an edit, which comes back."""
        self._edits += 1
        name, one = f"h{self._edits}", self.honest[self._edits % 2]
        took = await one.edit(lambda: write(one.peer.doc, self.kind.name, name, one.actor))
        self.became.echoes.append(took)

    async def invade(self, number: int, random: Random, count: int) -> None:
        """Send `count` updates as many actors, one after the other."""
        sent, visits = 0, 0
        while sent < count:
            await self.follow()
            ground = Ground(self.replica, [one.peer.doc.client_id for one in self.honest])
            attacker = Attacker(ground, random, f"mallory{number}x{visits}", random.randrange(100, 2**32))
            token = self.field.token(attacker.actor.id, "viewer" if random.random() < 0.02 else "editor")
            due = min(PER_ATTACKER, count - sent)
            while due > 0:
                fates = await self._visit(attacker, token, random, due)
                self.became.fates += fates
                sent, due, visits = sent + fates.total(), due - fates.total(), visits + 1
                if visits % HONEST_EVERY == 0:
                    await self.edit()

    async def _visit(self, attacker: Attacker, token: str, random: Random, most: int) -> Counter[str]:
        """One connection: what became of what it sent."""
        address = f"{self.field.server.ws}/{self.room}?acks=1&token={token}"
        fates: Counter[str] = Counter()
        async with connect(address, compression=None, max_size=None, proxy=None, ping_interval=None) as socket:
            try:
                if random.random() < 0.8:
                    await socket.send(write_frame(AwarenessUpdate((AwarenessState(attacker.client, 1, {}),))))
                while fates.total() < most:
                    fate = await self._send(socket, attacker, random)
                    fates[fate] += 1
                    if fate in ("denied", "waits") and random.random() < 0.8:
                        break
            except ConnectionClosed:
                assert socket.close_code not in FAULTS, (socket.close_code, socket.close_reason)
                assert socket.close_reason, f"closed with {socket.close_code} and no reason"
                fates[f"closed with {socket.close_code}"] += 1
        return fates

    async def _send(self, socket: ClientConnection, attacker: Attacker, random: Random) -> str:
        data = attacker.next()
        self.note(data)
        await socket.send(write_frame(random.choice((SyncUpdate, SyncUpdate, SyncStep2))(data)))
        await socket.send(write_frame(SyncStep1(self.replica.state_vector())))
        fate = "waits"
        while True:
            frame = await socket.recv()
            assert isinstance(frame, bytes)
            if frame.startswith(b"\0\1"):  # the answer, which comes behind all that it was asked behind
                return fate
            fate = _FATES.get(frame[:1], fate) if fate in ("waits", "taken") else fate

    async def end(self) -> None:
        """Everything that must hold when the attackers have gone."""
        await self.edit()
        for one in self.honest:
            await one.catch_up()
        await self.follow()
        content, replayed = whole(self.replica.doc), await self._replayed()
        for one in self.honest:
            assert whole(one.peer.doc) == content
            read_back(one.peer.doc, self.replica)
        assert_nothing_pending(self.replica)
        assert whole(replayed.doc) == content
        assert_same_index(replayed.index, self.replica.index)
        async with peer(self.field.server.url, self.room, token=self.field.token("newcomer", "viewer")) as newcomer:
            assert whole(newcomer.doc) == content
            read_back(newcomer.doc, self.replica)
        await self._export(content)

    async def _export(self, content: Any) -> None:
        path = f"/v1/spaces/{self.space.slug}"
        state = await self._get(f"{path}/documents/{self.name}/state?format=update")
        exported: pycrdt.Doc[Any] = pycrdt.Doc()
        exported.apply_update(state)
        assert whole(exported) == content
        await self._get(f"{path}/documents/{self.name}/state")
        if self.kind is not TEXT:
            await self._get(f"{path}/export?format={'glb' if self.kind is SCENE else 'jsonl'}")

    async def _get(self, path: str) -> bytes:
        response = await self.field.http.get(path)
        assert response.status_code == 200, response.text
        return response.content


_FATES = {
    write_frame(PermissionDenied(""))[:1]: "denied",
    write_frame(Refused(""))[:1]: "refused",
    b"\x64": "taken",
}
"""What the first byte of an answer says of the update before it; an update that waits has none."""


def _populate(doc: pycrdt.Doc[Any], kind: Kind, actor: str) -> None:
    with doc.transaction():
        if kind is SCENE:
            doc.get("nodes", type=pycrdt.Map)["a"] = node(slots={"0": "m"})
            doc.get("nodes", type=pycrdt.Map)["b"] = node("a")
            doc.get("materials", type=pycrdt.Map)["m"] = pycrdt.Map({"metallic": 0.5})
        elif kind is TEXT:
            doc.get("text", type=pycrdt.Text).insert(0, "honest 😀 words")
            doc.get("map", type=pycrdt.Map)["a"] = pycrdt.Map({"x": pycrdt.Text("secret"), "y": pycrdt.Array([1, 2])})
            doc.get("list", type=pycrdt.Array).extend([1, "two", pycrdt.Map({"z": 3})])
        else:
            reactions = pycrdt.Map({f"👍\x1f{actor}": True})
            doc.get("messages", type=pycrdt.Array).append(message("one", actor, reactions=reactions))


# --- rounds ----------------------------------------------------------------------------------------------------------


async def lay_siege(random: Random, count: int, note: Callable[[bytes], None]) -> Became:
    """Send at least `count` updates."""
    became = Became()
    with TemporaryDirectory() as folder:
        async with _field(Path(folder)) as field:
            number = 0
            while became.total < count:
                sieges = [_siege(field, random, number + n, note) for n in range(AT_ONCE)]
                for told in await asyncio.gather(*sieges):
                    became.add(told)
                number += AT_ONCE
        found = await check(Path(folder))
        assert found.problems == []
    return became


@asynccontextmanager
async def _field(folder: Path) -> AsyncIterator[Field]:
    (folder / FILE).write_text(LIMITS)
    said = folder.parent / f"{folder.name}.log"
    async with AsyncExitStack() as stack:
        stack.callback(said.unlink)
        server = await stack.enter_async_context(ServerProcess(folder, dev=False, stderr=said))
        greeting = said.read_text()
        keyring = Keyring.load(folder)
        owner = {"Authorization": f"Bearer {keyring.sign('owner', 'Owner', 'dev', {'*': 'owner'}, lifetime=3_600)}"}
        once = httpx.Limits(max_keepalive_connections=0)  # one that was kept may be closed just when it is used again
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=server.url, headers=owner, timeout=60, limits=once)
        )
        try:
            yield Field(server, keyring, http)
        except Exception as error:
            error.add_note(f"the server said: {said.read_text().removeprefix(greeting)[-3_000:]!r}")
            raise
        assert await server.stop() == 0
        assert said.read_text().removeprefix(greeting) == ""


async def _siege(field: Field, random: Random, number: int, note: Callable[[bytes], None]) -> Became:
    """One document, from its making to its end."""
    chance = Random(random.randrange(2**64))
    kind, populated = KINDS[number % len(KINDS)], chance.random() < 0.6
    (await field.http.post("/v1/spaces", json={"slug": f"s{number}"})).raise_for_status()
    async with AsyncExitStack() as stack:
        room = f"s{number}/{'text:notes' if kind is TEXT else kind.name}"
        honest = []
        for name in ("ann", "ben"):
            actor = f"{name}{number}"
            one = await stack.enter_async_context(peer(field.server.url, room, token=field.token(actor)))
            honest.append(Honest(actor, one))
        listening = [asyncio.ensure_future(one.listen()) for one in honest]
        log = await stack.enter_async_context(await Engine.open_readonly(field.server.folder, snapshots=False))
        siege = Siege(field, await log.space("dev", f"s{number}"), kind, honest, note)
        try:
            await _while_all_listen(_besiege(siege, chance, populated=populated), listening)
        finally:
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)
    return siege.became


async def _besiege(siege: Siege, chance: Random, *, populated: bool) -> None:
    await siege.begin(populated=populated)
    randoms = [Random(chance.randrange(2**64)) for _ in range(INVADERS)]
    count = POPULATED if populated else EMPTY
    await asyncio.gather(*(siege.invade(number, random, count) for number, random in enumerate(randoms)))
    await siege.end()


async def _while_all_listen(work: Awaitable[None], listening: Sequence[asyncio.Future[None]]) -> None:
    """Do the work; whoever cannot listen any more ends it with the reason."""
    task = asyncio.ensure_future(work)
    await asyncio.wait((task, *listening), return_when=asyncio.FIRST_COMPLETED)
    for ended in (one for one in listening if one.done()):
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        ended.result()
    await task

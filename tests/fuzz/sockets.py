"""Hostile updates, frames and presence over real WebSockets, beside two honest clients in each kind of document.

Whatever a connection sends, it is answered or closed with a code of ours; nothing is logged as a fault; nobody speaks
for the honest in presence (P2); what one honest client writes, the other sees, and both hold what the server holds.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import pycrdt
from tests.fuzz.became import Became
from tests.fuzz.besieged import assert_same_index, whole
from tests.fuzz.hostile import hostile
from tests.fuzz.mutants import EXTREMES
from tests.fuzz.updates import Attacker, Ground
from tests.support import wire
from tests.support.assault import mutated
from tests.support.live import message, node, replayed
from tests.support.peer import Peer, peer
from tests.support.server import LocalServer, local_server
from websockets.exceptions import ConnectionClosed

from maquette.engine.document import Document
from maquette.engine.sync import (
    AwarenessState,
    AwarenessUpdate,
    PermissionDenied,
    QueryAwareness,
    Stored,
    SyncStep1,
    SyncStep2,
    SyncUpdate,
    write_frame,
)
from maquette.server.limits import TenantLimits

ROOMS = ("demo/text:notes", "demo/chat", "demo/scene")
MOODS = (("update",), ("update",), ("update", "presence"), ("presence",), ("message", "update"), ("broken",), ("raw",))
"""What a connection sends: most are closed at the first frame that is none, and what comes behind it is not read."""
PER_CONNECTION = 6
CONNECTIONS = 8
"""Between two checks."""
FAULTS = (1002, 1005, 1006, 1011)
"""Codes with which no connection may end that the client did not end itself."""
OPEN = TenantLimits(
    refused_per_document=10**9,
    accepts_per_actor=10**6, accepts_per_address=10**6, accepts_per_tenant=10**6, frames_per_address=10**6,
    frames_per_space=10**6, frames_per_tenant=10**6, ops_per_address=10**6, ops_per_space=10**6,
    ops_per_tenant=10**6, bytes_per_address=1 << 40, bytes_per_space=1 << 40, bytes_per_tenant=1 << 40,
)  # fmt: skip
"""Rates that a fuzzer on one address does not meet: they have tests of their own."""
STATES: tuple[Any, ...] = (
    None, {}, 5, {"user": {"name": "ada", "color": "\u202e"}}, {"user": 5}, {"actor": {"id": "ada"}},
    {"cursor": {"x": 1e308}}, {"deep": json.loads("[" * 200 + "]" * 200)}, {"x": "y" * 20_000}, {"": None},
)  # fmt: skip


@dataclass(slots=True)
class Room:
    """A document with two honest connections."""

    document: Document
    ann: Peer
    ben: Peer
    edits: int = 0

    @property
    def ground(self) -> Ground:
        return Ground(self.document.replica, [self.ann.doc.client_id, self.ben.doc.client_id])

    async def go_on(self) -> None:
        """Ann writes, Ben and she herself see it, and both hold what the server holds."""
        self.edits += 1
        name = f"h{self.edits}"
        await self.ann.edit(lambda: write(self.ann.doc, self.document.replica.kind.name, name, _actor(self.ann)))
        for one in (self.ann, self.ben):
            await one.send(SyncStep1(one.doc.get_state()))  # its answer comes behind everything before it
            await one.expect(SyncStep2)
        assert whole(self.ann.doc) == whole(self.ben.doc) == whole(self.document.replica.doc)
        for one in (self.ann, self.ben):
            self._look_at(one)

    def _look_at(self, one: Peer) -> None:
        names = {self.ann.doc.client_id: "Ann", self.ben.doc.client_id: "Ben"}
        for said in one.seen:
            assert not isinstance(said, PermissionDenied), said
            for state in said.states if isinstance(said, AwarenessUpdate) else ():
                if state.client in names and state.state is not None:
                    assert state.state["actor"]["name"] == names[state.client]
        one.seen[:] = [said for said in one.seen if isinstance(said, AwarenessUpdate) and _actor_in(one, said)][-1:]


def write(doc: pycrdt.Doc[Any], kind: str, name: str, actor: str) -> None:
    if kind == "scene":
        doc.get("nodes", type=pycrdt.Map)[name] = node()
    elif kind == "chat":
        doc.get("messages", type=pycrdt.Array).append(message(name, actor))
    else:
        doc.get("honest", type=pycrdt.Text).insert(0, name)


def _has_said(one: Peer) -> bool:
    """Whether the server said who this is."""
    return any(_actor_in(one, said) for said in one.seen if isinstance(said, AwarenessUpdate))


def _actor(one: Peer) -> str:
    return next(found for said in one.seen if isinstance(said, AwarenessUpdate) and (found := _actor_in(one, said)))


def _actor_in(one: Peer, said: AwarenessUpdate) -> str | None:
    for state in said.states:
        if state.client == one.doc.client_id and state.state:
            return str(state.state["actor"]["id"])
    return None


class Invader:
    """One hostile connection: what it sends, and how it ended."""

    def __init__(self, attacker: Attacker, random: Random, room: Room) -> None:
        self.attacker = attacker
        self.random = random
        self.room = room
        self.moods = random.choice(MOODS)

    def frame(self) -> bytes | str:
        """What it sends next."""
        match self.random.choice(self.moods):
            case "update":
                return write_frame(self.random.choice((SyncUpdate, SyncUpdate, SyncStep2))(self.attacker.next()))
            case "presence":
                states = (self._state() for _ in range(self.random.choice((0, 1, 1, 3, 40))))
                return write_frame(AwarenessUpdate(tuple(states)))
            case "message":
                return write_frame(self._message())
            case "broken":
                return mutated(write_frame(self._message()), self.random)
            case _:
                return self._handmade() if self.random.random() < 0.9 else self.random.choice(("", "text", "\0\1"))

    def _state(self) -> AwarenessState:
        client = self.random.choice((self.attacker.client, *self.attacker.ground.honest, self.random.randrange(2**32)))
        return AwarenessState(client, self.random.choice((0, 1, 2, 2**31, 2**53 - 1)), self.random.choice(STATES))

    def _message(self) -> Any:
        vector = wire.number(2) + b"".join(
            wire.number(client) + wire.number(self.random.choice((0, 5, 2**32 - 1)))
            for client in (self.attacker.client, self.random.choice(self.attacker.ground.honest))
        )
        return self.random.choice(
            (
                SyncStep1(self.random.choice((vector, b"\0", self.attacker.ground.replica.state_vector()))),
                SyncStep2(self.random.choice(self.attacker.corpus)),
                SyncUpdate(hostile(self.attacker.aim())),
                AwarenessUpdate((self._state(),)),
                QueryAwareness(),
                QueryAwareness() if self.random.random() < 0.8 else Stored(3, "9"),
            )
        )

    def _handmade(self) -> bytes:
        vast = wire.number(self.random.choice(EXTREMES))
        return self.random.choice(
            (
                b"", vast, b"\0" + vast, b"\1" + vast, b"\2" + vast, b"\0\0" + vast, b"\0\2" + vast, b"\0\0\1" + vast,
                b"\1" + wire.number(len(vast)) + vast, b"\0\0" + wire.number(len(vast)) + vast,
                b"\1" + wire.number(4) + b"\1\1\0" + vast, self.random.randbytes(self.random.randrange(40)),
            )
        )  # fmt: skip

    async def run(self, url: str, room: str, note: Callable[[bytes], None]) -> str:
        """Send some frames, then wait until all are answered or the server closes."""
        doc: pycrdt.Doc[Any] = pycrdt.Doc(client_id=self.attacker.client)
        greets = self.random.random() < 0.7
        async with peer(url, room, doc=doc, sync=greets, name=self.attacker.actor.id) as eve:
            try:
                for _ in range(PER_CONNECTION):
                    frame = self.frame()
                    note(frame if isinstance(frame, bytes) else frame.encode())
                    await eve.socket.send(frame)
                await eve.send(QueryAwareness())
                await eve.send(SyncStep1(b"\0"))
                while eve.socket.close_code is None and not await _is_behind_all(eve):
                    pass
            except ConnectionClosed:
                pass
            code = eve.socket.close_code
            assert code not in FAULTS, (code, eve.socket.close_reason)
            assert code is None or eve.socket.close_reason, f"closed with {code} and no reason"
            return "open" if code is None else str(code)


async def _is_behind_all(eve: Peer) -> bool:
    """Take the next frame unread; whether it is an answer with all that there is, which was asked for last."""
    frame = await eve.socket.recv()
    assert isinstance(frame, bytes)
    return frame.startswith(b"\0\1")


@contextmanager
def no_faults() -> Iterator[None]:
    """Fail when something is logged as an error meanwhile."""
    found: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: found.append(handler.format(record))  # type: ignore[method-assign]  # a small one
    loggers = [logging.getLogger(name) for name in ("", "uvicorn", "uvicorn.error")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    assert found == []


async def storm(random: Random, count: int, note: Callable[[bytes], None]) -> Became:
    """Send `count` frames or a few more over connections of `PER_CONNECTION`."""
    fates: Counter[str] = Counter()
    async with _rooms() as (server, rooms):
        with no_faults():
            while fates.total() * PER_CONNECTION < count:
                for _ in range(CONNECTIONS):
                    place = random.randrange(len(ROOMS))
                    name, client = f"mallory{random.randrange(5)}", random.randrange(2**32)
                    attacker = Attacker(rooms[place].ground, random, name, client)
                    invader = Invader(attacker, random, rooms[place])
                    fates[await invader.run(server.url, ROOMS[place], note)] += 1
                for room in rooms:
                    await room.go_on()
            for room in rooms:
                await _check(room)
    return Became(Counter({fate: number * PER_CONNECTION for fate, number in fates.items()}))


@asynccontextmanager
async def _rooms() -> AsyncIterator[tuple[LocalServer, list[Room]]]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(local_server(limits=OPEN))
        rooms = []
        for name in ROOMS:
            ann = await stack.enter_async_context(peer(server.url, name, name="Ann"))
            ben = await stack.enter_async_context(peer(server.url, name, name="Ben"))
            for one in (ann, ben):
                await one.until(partial(_has_said, one))
            space = await server.engine.space("dev", "demo")
            room = Room(await space.open(name.partition("/")[2]), ann, ben)
            await room.go_on()
            rooms.append(room)
        yield server, rooms


async def _check(room: Room) -> None:
    again = await replayed(room.document)
    assert room.document.error is None
    assert whole(again.doc) == whole(room.document.replica.doc)
    assert_same_index(again.index, room.document.replica.index)

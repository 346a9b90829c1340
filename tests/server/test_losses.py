"""A document whose commit fails (D1): its connections stay, begin anew when the log can write; nothing is doubled."""

from __future__ import annotations

import asyncio
import os
from asyncio import Future
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from tests.support.peer import Peer, peer
from tests.support.server import LocalServer, ServerProcess, local_server

from maquette.engine.assets import MemoryAssets
from maquette.engine.engine import Engine
from maquette.engine.errors import LogUnwritable
from maquette.engine.events import Event, NewEvent
from maquette.engine.log import Appended
from maquette.engine.logs.memory import MemoryLog
from maquette.engine.snapshots import SnapshotStore
from maquette.engine.sync import AwarenessState, AwarenessUpdate, Stored, SyncStep1, SyncStep2, SyncUpdate

NOTES = "demo/text:notes"


class Disk(MemoryLog):
    """A log in memory whose disk can be full, or slow: then appends are `held` until it is fast again."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[str, Sequence[NewEvent], int | None, Future[Appended]]] = []
        self._slow = False
        self._free = asyncio.Event()
        self._free.set()
        self.readable = asyncio.Event()
        self.readable.set()
        self.reading = asyncio.Event()

    def fill(self) -> None:
        self._free.clear()

    def free(self) -> None:
        self._free.set()

    def slow_down(self) -> None:
        self._slow = True

    async def speed_up(self) -> None:
        self._slow = False
        for stream, events, expected, future in self.held:
            future.set_result(await super().append(stream, events, expected))
        self.held.clear()

    def append(self, stream: str, events: Sequence[NewEvent], expected: int | None = None) -> Future[Appended]:
        if self._free.is_set() and not self._slow:
            return super().append(stream, events, expected)
        future: Future[Appended] = asyncio.get_running_loop().create_future()
        if self._slow:
            self.held.append((stream, events, expected, future))
            return future
        future.set_exception(LogUnwritable("expected room on the disk, got none"))
        return future

    async def until_writable(self) -> None:
        await self._free.wait()

    async def read(
        self, stream: str, *, after: int = 0, until: int | None = None, backwards: bool = False
    ) -> AsyncGenerator[Sequence[Event], None]:
        self.reading.set()
        await self.readable.wait()
        async for page in super().read(stream, after=after, until=until, backwards=backwards):
            yield page


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def server(disk: Disk) -> AsyncIterator[LocalServer]:
    engine = Engine(disk, MemoryAssets(), SnapshotStore(None), node=os.urandom(16))
    async with local_server(engine) as one:
        one.hub.retry_seconds = 0.0
        yield one
        await disk.speed_up()  # a server that ends waits for the disk


def states(one: Peer) -> list[AwarenessState]:
    """The presence that came to it."""
    return [state for message in one.seen if isinstance(message, AwarenessUpdate) for state in message.states]


async def lost(server: LocalServer) -> None:
    """Wait until no document is open any more."""
    while server.engine.open_documents:  # noqa: ASYNC110  (turns of the loop, not time)
        await asyncio.sleep(0)


async def test_d1_what_is_not_on_disk_yet_is_in_no_answer(server: LocalServer, disk: Disk) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Ben") as ben:
        disk.slow_down()
        await ann.write("early")
        while not disk.held:  # noqa: ASYNC110  (turns of the loop, not time)
            await asyncio.sleep(0)
        ben.seen.clear()
        await ben.send(SyncStep1(b"\0"))
        await ben.announce(7, cursor=1)  # heard back only after the question was handled
        await ben.until(lambda: any("cursor" in (state.state or {}) for state in states(ben)))
        assert not any(isinstance(message, SyncStep2) for message in ben.seen)
        assert str(ben.text) == ""
        await disk.speed_up()
        await ben.expect(SyncStep2)
        assert str(ben.text) == "early"


async def test_d1_what_was_not_stored_is_shown_to_nobody_and_comes_back_once(server: LocalServer, disk: Disk) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Ben") as ben:
        await ann.write("before")
        await ben.until_text("before")
        ann.seen.clear()
        disk.fill()
        await ann.write(" lost")
        await ann.write(" and more")
        await lost(server)
        assert str(ben.text) == "before"
        disk.free()
        await ann.expect(SyncStep1)
        await ben.until_text("before lost and more")
        await ben.write("!")
        await ann.until_text("before lost and more!")


async def test_d1_every_connection_of_a_lost_document_is_asked_what_it_has(server: LocalServer, disk: Disk) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Ben") as ben:
        for one in (ann, ben):
            one.seen.clear()
        disk.fill()
        await ann.write("a")
        await lost(server)
        disk.free()
        await ann.expect(SyncStep1)
        await ben.expect(SyncStep1)


async def test_d1_lost_edits_are_not_acknowledged_before_they_are_stored(server: LocalServer, disk: Disk) -> None:
    async with peer(server.url, NOTES, name="Ann", acks="1") as ann:
        assert (await ann.expect(Stored)).frames == 1
        disk.fill()
        for letter in "abc":
            await ann.write(letter)
        await lost(server)
        disk.free()
        stored = await ann.expect(Stored)
        assert stored.frames == 5, "the three that failed count with the answer that brings them again"
        assert int(stored.position) == await disk.head()
        await ann.write("d")
        assert (await ann.expect(Stored)).frames == 6


async def test_d1_what_others_stored_meanwhile_is_shown_to_who_lost_the_document(
    server: LocalServer, disk: Disk
) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann:
        await ann.write("a")
        await ann.until(lambda: any(isinstance(one, SyncUpdate) for one in ann.seen))
        server.hub.retry_seconds = 1_000.0  # Ann's connection is away for long
        disk.fill()
        await ann.write("b")
        await lost(server)
        disk.free()
        server.hub.retry_seconds = 0.0
        async with peer(server.url, NOTES, name="Ben") as ben:
            await ben.write("c")
            await ben.until(lambda: any(isinstance(one, SyncUpdate) for one in ben.seen))
            [connection] = (one for one in server.hub.connections if one.session.name == "Ann")
            await server.hub._show(connection)
            await ann.until(lambda: "c" in str(ann.text))
            await ben.until_text(str(ann.text))


async def test_d1_what_was_missed_is_shown_before_what_is_newer(server: LocalServer, disk: Disk) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann:
        await ann.write("a")
        await ann.until(lambda: any(isinstance(one, SyncUpdate) for one in ann.seen))
        server.hub.retry_seconds = 1_000.0  # Ann's connection is away for long
        disk.fill()
        await ann.write("b")
        await lost(server)
        disk.free()
        async with peer(server.url, NOTES, name="Ben") as ben:
            await ben.write("c")
            await ben.expect(SyncUpdate)
            [connection] = (one for one in server.hub.connections if one.session.name == "Ann")
            disk.readable.clear()
            disk.reading.clear()
            showing = asyncio.ensure_future(server.hub._show(connection))
            await disk.reading.wait()
            await ben.write("d")
            await ben.expect(SyncUpdate)
            disk.readable.set()
            await showing
            ann.seen.clear()
            await ann.until(lambda: len([one for one in ann.seen if isinstance(one, SyncUpdate)]) >= 2)
            shown = [one.update for one in ann.seen if isinstance(one, SyncUpdate)]
            [stream] = (one for one in server.engine._live._open)
            stored = [event.data["update"] async for page in disk.read(stream) for event in page]
            assert shown[:2] == stored[-2:]


async def test_d1_a_client_that_syncs_while_the_disk_is_full_is_answered_later(server: LocalServer, disk: Disk) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann:
        disk.fill()
        await ann.write("a")
        await lost(server)
        await ann.send(SyncStep1(b"\0"))
        disk.free()
        await ann.until(lambda: len([one for one in ann.seen if isinstance(one, SyncStep1)]) == 2)


async def test_presence_goes_on_while_the_document_is_lost(server: LocalServer, disk: Disk) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Ben") as ben:
        await ann.until(lambda: any(isinstance(one, AwarenessUpdate) for one in ann.seen))
        ben.seen.clear()
        disk.fill()
        await ann.write("a")
        await lost(server)
        disk.free()
        await ann.expect(SyncStep1)
        await ben.until_text("a")
        assert not [state for state in states(ben) if state.state is None]
        await ann.announce(5, cursor=1)
        await ben.until(lambda: any(state.state.get("cursor") == 1 for state in states(ben)))


async def test_l7_on_a_full_disk_everything_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path) as server:
        async with peer(server.url, NOTES, name="Ann") as ann:
            await ann.write("start ")
            await ann.until(lambda: any(isinstance(one, SyncUpdate) for one in ann.seen))
        await server.stop()
        await server.start(file_limit=1 << 20)
        async with (
            peer(server.url, NOTES, name="Ann", acks="1", doc=ann.doc) as ann,
            peer(server.url, NOTES, name="Ben") as ben,
        ):
            acknowledged = (await ann.expect(Stored)).frames
            with suppress(TimeoutError):
                while acknowledged < 100:
                    await ann.write("x" * 50_000)
                    acknowledged = (await asyncio.wait_for(ann.expect(Stored), 0.5)).frames
            assert 1 < acknowledged < 100, "the disk was to be full halfway"
            await ben.send(SyncStep1(ben.doc.get_state()))
            shown = str(ben.text)
        await server.kill()
        await server.start()
        async with peer(server.url, NOTES, name="Cat") as cat:
            assert str(cat.text).startswith(shown)
            assert len(str(cat.text)) >= 6 + (acknowledged - 1) * 50_000


async def test_at_sigterm_everything_acknowledged_or_shown_is_in_the_log_and_clients_are_told_1012(
    tmp_path: Path,
) -> None:
    async with ServerProcess(tmp_path) as server:
        async with (
            peer(server.url, NOTES, name="Ann", acks="1") as ann,
            peer(server.url, NOTES, name="Ben") as ben,
        ):
            for _ in range(100):
                await ann.write("x")
            stopping = asyncio.ensure_future(server.stop())
            ends = await asyncio.gather(ann.end(), ben.end())
            assert await stopping == 0
            assert [code for code, _ in ends] == [1012, 1012]
            acknowledged = max(one.frames for one in ann.seen if isinstance(one, Stored))
            shown = str(ben.text)
        await server.start()
        async with peer(server.url, NOTES, name="Cat") as cat:
            assert len(str(cat.text)) >= max(acknowledged - 1, len(shown))
        async with peer(server.url, NOTES, name="Ann", doc=ann.doc) as ann:
            await ann.until_text("x" * 100)
            assert str(ann.text) == "x" * 100

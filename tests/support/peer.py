"""A client of the sync protocol, frame by frame: what the tests of the endpoint send and see. Knows no retries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import urlencode

import pycrdt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from maquette.engine.sync import (
    AwarenessState,
    AwarenessUpdate,
    Message,
    SyncStep1,
    SyncStep2,
    SyncUpdate,
    read_frame,
    write_frame,
)

M = TypeVar("M")
TEXT = "notes"


class Peer:
    """One WebSocket and one replica. `seen` holds every message that came."""

    def __init__(self, socket: ClientConnection, doc: pycrdt.Doc[Any]) -> None:
        self.socket = socket
        self.doc = doc
        self.seen: list[Message] = []

    @property
    def text(self) -> pycrdt.Text:
        """The text that the tests write."""
        text: pycrdt.Text = self.doc.get(TEXT, type=pycrdt.Text)
        return text

    async def send(self, message: Message) -> None:
        """Send one message."""
        await self.socket.send(write_frame(message))

    async def announce(self, clock: int = 0, **state: Any) -> None:
        """Say in presence who we are."""
        await self.send(AwarenessUpdate((AwarenessState(self.doc.client_id, clock, state),)))

    def change(self, write: Callable[[], object]) -> bytes:
        """The update that `write` makes in the replica."""
        updates: list[bytes] = []
        subscription = self.doc.observe(lambda event: updates.append(event.update))
        write()
        self.doc.unobserve(subscription)
        [update] = updates
        return update

    async def edit(self, write: Callable[[], object]) -> None:
        """Write into the replica and send that."""
        await self.send(SyncUpdate(self.change(write)))

    async def write(self, text: str) -> None:
        """Append to the text and send that."""
        await self.edit(lambda: self.text.insert(len(self.text), text))

    async def receive(self) -> Message:
        """The next message; what it holds is applied, and a question answered, as stock clients do."""
        frame = await self.socket.recv()
        assert isinstance(frame, bytes)
        message = read_frame(frame)
        self.seen.append(message)
        match message:
            case SyncStep1(state_vector):
                await self.send(SyncStep2(self.doc.get_update(state_vector)))
            case SyncStep2(update) | SyncUpdate(update):
                self.doc.apply_update(update)
        return message

    async def expect(self, kind: type[M]) -> M:
        """The next message of `kind`, the others handled on the way."""
        while True:
            message = await self.receive()
            if isinstance(message, kind):
                return message

    async def until(self, condition: Callable[[], bool]) -> None:
        """Receive until `condition` holds."""
        while not condition():
            await self.receive()

    async def until_text(self, text: str) -> None:
        """Receive until the text is `text`."""
        try:
            await self.until(lambda: str(self.text) == text)
        except ConnectionClosed as closed:
            raise AssertionError(f"expected the text {text!r}, got {str(self.text)!r} and {closed}") from closed

    async def end(self) -> tuple[int, str]:
        """Receive until the server closes: its code and reason."""
        while self.socket.close_code is None:
            with suppress(ConnectionClosed):
                await self.receive()
        return self.socket.close_code, self.socket.close_reason or ""


@asynccontextmanager
async def peer(
    url: str, document: str, *, doc: pycrdt.Doc[Any] | None = None, sync: bool = True, **query: str
) -> AsyncIterator[Peer]:
    """A connection to `document` (`demo/scene`); `sync` greets as stock clients do and waits for the answer."""
    address = f"{url.replace('http', 'ws', 1)}/sync/{document}?{urlencode(query)}"
    async with connect(
        address, compression=None, max_size=None, proxy=None, ping_interval=None, open_timeout=50, close_timeout=0.5
    ) as socket:
        one = Peer(socket, pycrdt.Doc() if doc is None else doc)
        if sync:
            await one.send(SyncStep1(one.doc.get_state()))
            await one.announce()
            await one.expect(SyncStep2)
        try:
            yield one
        finally:
            if not one.socket.transport.is_reading():  # it was sent more than was received, and would not see the end
                one.socket.transport.abort()

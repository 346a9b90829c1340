"""A document on a server, kept in sync with a replica here.

Rule 1: edits are made in the replica at once, connected or not; on each connection a sync brings both sides together,
        so that nothing is sent twice and nothing is kept in a queue beside the replica.
Rule 2: `flush` returns when everything that was edited before it is on the server's disk, also across reconnects.
Rule 3: a refused edit is reversed by the server, here too, and `flush` raises it once. An edit that was denied as a
        whole leaves this replica apart from the others': it is laid aside, and `doc` is a fresh one with all that the
        server has stored. Who is told to read only, and has nothing on its way, reads on with the replica it has.
Rule 4: what cannot get better by trying again ends the connection; everything that waits raises it.
Rule 5: when a scene goes on in another epoch (D9), what was edited here and is not on disk is brought to the old one,
        which carries it over. Then `doc` is a fresh replica, which takes the place of the old one once it is synced.
Rule 6: a callback of the application that fails is logged, and disturbs neither the connection nor other callbacks.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import pycrdt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus

from maquette.client.crossing import Crossing
from maquette.client.errors import ClientError, Closed, EditRefused, Moved, NotAdmitted
from maquette.client.presence import RENEW_SECONDS, Presence
from maquette.engine.kinds.scene import SCENE
from maquette.engine.sync import (
    AwarenessUpdate,
    Named,
    PermissionDenied,
    QueryAwareness,
    Refused,
    Stored,
    SyncStep1,
    SyncStep2,
    SyncUpdate,
    read_frame,
    write_frame,
)
from maquette.engine.watching import watch

FIRST_WAIT = 0.1  # seconds before the first try again; doubled each time, with jitter
LONGEST_WAIT = 15.0
MAX_FRAME = 64 << 20  # bytes: the first sync of a large document
CLOSE_SECONDS = 2.0  # for the closing handshake
_FINAL = range(4400, 4500)
_TRANSIENT_STATUS = (408, 425, 429)  # of the handshake; other 4xx say that there is no such server
Status = Literal["connecting", "synced", "offline", "closed"]
_logger = logging.getLogger(__name__)


class RemoteDocument:
    """A document over the wire, an async context manager. `doc` is the replica: any pycrdt code may edit it."""

    def __init__(
        self,
        url: str,
        space: str,
        document: str,
        *,
        token: str | None = None,
        name: str | None = None,
    ) -> None:
        """`url` is the server's, `http://` or `ws://`. `token` signs in; a server with --dev takes a `name` instead."""
        self.doc: pycrdt.Doc[Any]
        self.presence = Presence(self._send)
        self.on_change: list[Callable[[], None]] = []
        """Called when an edit of somebody else, or the server's reversal of one of ours, has reached the replica."""
        self.on_reset: list[Callable[[], None]] = []
        """Called when `doc` has become a fresh replica (rules 3 and 5)."""
        self.on_refused: list[Callable[[str], None]] = []
        """Called with the reason when the server refuses an edit, denies one, or says that we only read (rule 3)."""
        self.read_only: str | None = None
        """Why we only read, as the server last said; None again once it takes an edit."""
        self.laid_aside: pycrdt.Doc[Any] | None = None
        """The replica before the last denial, to take out of it what did not get through."""
        self.position: str | None = None
        """The log's position after the newest edit that is known to be stored."""
        self._origin = (url, space, token, name)
        _endpoint(url, space, document, name)  # what is wrong with the address is raised here
        self._document = document
        self._crossing = Crossing(follows=document == SCENE.name)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._random = random.random
        self._socket: ClientConnection | None = None
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self._generation = 0
        self._sent = 0
        self._stored = 0
        self._answered = 0  # frames with updates that had been sent when the server's question was answered
        self._synced = self._taken = self._denied = self._afresh = False  # of this connection
        self._refusals: list[str] = []
        self._unsent = False  # whether the replica has edits that no connection was given
        self._edits = self._safe = 0  # made in this replica; of them known to be stored, as far as all before are
        self._end: ClientError | None = None
        self._task: asyncio.Task[None] | None = None
        self._connections = 0
        self._applied = 0
        self._stop_watching: Callable[[], object] | None = None
        self._fresh()

    # --- life ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        try:
            await self.synced()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. What was not flushed may be lost with this replica."""
        self._end = self._end or Closed("the document is closed")
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._tell()

    @property
    def status(self) -> Status:
        """`synced` once this connection brought both sides together, `offline` while there is none."""
        if self._end is not None:
            return "closed"
        if self._socket is None:
            return "offline"
        return "synced" if self._synced else "connecting"

    @property
    def reconnects(self) -> int:
        """How often the connection was made again."""
        return max(0, self._connections - 1)

    # --- waiting -------------------------------------------------------------------------------------------------

    async def synced(self) -> None:
        """Wait until this replica holds what the server held, and knows who we are. Raises what ends the connection."""
        await self._until(lambda: self._synced and self.presence.me is not None)

    async def flush(self) -> str | None:
        """Wait until everything edited here before is on the server's disk; returns the log's position after it.

        Raises EditRefused when the server refused any of it since the last flush, and what ended the connection.
        """
        generation, target = self._generation, self._sent

        def done() -> bool:
            if self._answered == 0 or self._unsent:
                return False
            return self._stored >= (max(target, self._answered) if generation == self._generation else self._answered)

        await self._until(done)
        if self._refusals:
            reasons, self._refusals = self._refusals, []
            raise EditRefused(reasons)
        return self.position

    async def changes(self) -> AsyncGenerator[None, None]:
        """One item now, and one whenever others' edits have reached the replica since the last. Ends at `close`.

        Raises what else ended the connection.
        """
        seen = -1
        while not isinstance(self._end, Closed):
            await self._until(lambda last=seen: self._applied != last or isinstance(self._end, Closed))  # type: ignore[misc]  # bound in the loop
            if self._applied != seen:
                seen = self._applied
                yield

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._end is not None or condition())
        if self._end is not None and not condition():
            raise self._end

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # --- the replica -----------------------------------------------------------------------------------------------

    def _fresh(self) -> None:
        self._show(pycrdt.Doc())

    def _show(self, doc: pycrdt.Doc[Any]) -> None:
        if self._stop_watching is not None:  # edits of the old replica are nobody's
            self._stop_watching()
        self.doc = doc
        self._applying = self._unsent = False
        self._edits = self._safe = 0
        self._stop_watching = watch(self, doc, RemoteDocument._on_update)

    def _on_update(self, event: pycrdt.TransactionEvent) -> None:
        if self._applying:
            return
        self._edits += 1
        if self._socket is not None and self._answered and self._crossing.fresh is None:
            self._send_update(write_frame(SyncUpdate(event.update)))
        else:
            self._unsent = True

    def _apply(self, update: bytes) -> None:
        if self._crossing.fresh is not None:
            self._crossing.fresh.apply_update(update)
            return
        self._applying = True
        try:
            self.doc.apply_update(update)
        finally:
            self._applying = False
        self._applied += 1
        self._call(self.on_change)

    def _arrive(self) -> None:
        """Both sides hold the same: a fresh replica takes its place (rule 5)."""
        if self._crossing.fresh is not None:
            if self._unsent:  # edited while the fresh one was on its way
                self._crossing.turn_back()
                raise _Afresh
            self._show(self._crossing.arrive())
            self._applied += 1
            self._call(self.on_reset)
            self._call(self.on_change)
        self._synced = True

    def _call(self, callbacks: Sequence[Callable[[], None]]) -> None:
        for callback in tuple(callbacks):
            try:
                callback()
            except Exception:
                _logger.exception("a callback of the application failed")

    def _send_update(self, frame: bytes) -> None:
        self._sent += 1
        self._send(frame)

    def _send(self, frame: bytes) -> None:
        if self._socket is not None:
            self._outbox.put_nowait(frame)

    # --- the connection ----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        wait = FIRST_WAIT
        while self._end is None:
            if await self._connection():
                wait = FIRST_WAIT
            self._socket = None
            self._answered = 0  # what is edited from now on is sent by the next connection's sync
            await self._tell()
            if self._end is None:
                await asyncio.sleep(wait * (0.5 + self._random()))
                wait = min(2 * wait, LONGEST_WAIT)

    async def _connection(self) -> bool:
        """One connection from its beginning to its end; whether it was of use. What ends all is kept in `_end`."""
        url, space, _, name = self._origin
        where = _endpoint(url, space, self._crossing.name or self._document, name)
        try:
            async with connect(
                where,
                additional_headers=self._headers,
                compression=None,
                max_size=MAX_FRAME,
                proxy=None,
                close_timeout=CLOSE_SECONDS,
            ) as socket:
                await self._converse(socket)
        except ConnectionClosed as error:
            self._judge_close(error)
        except InvalidStatus as error:
            self._judge_status(error.response.status_code, where.partition("?")[0])
        except (OSError, InvalidHandshake, InvalidMessage, TimeoutError) as error:
            _logger.info("no connection to %s: %s", where.partition("?")[0], error)
        except _Afresh:
            pass
        except Exception as error:  # whoever waits must hear of it
            _logger.exception("the connection failed")
            self._end = ClientError(f"expected to speak with the server, got {error!r}")
        return self._taken or (self._synced and not self._afresh)  # whoever is denied each time comes less often

    def _judge_status(self, status: int, where: str) -> None:
        _logger.info("expected a WebSocket at %s, got HTTP status %d", where, status)
        if 400 <= status < 500 and status not in _TRANSIENT_STATUS:
            self._end = NotAdmitted(status, f"expected a WebSocket, got HTTP status {status}")

    def _judge_close(self, error: ConnectionClosed) -> None:
        code = error.rcvd.code if error.rcvd is not None else 1006
        reason = error.rcvd.reason if error.rcvd is not None else ""
        if code == 4403 and self._denied:  # it went on with edits that were made before it was told
            self._start_afresh(reason)
        elif code == 4409:
            self._move(code, reason)
        elif code in _FINAL or code == 1009:
            self._end = NotAdmitted(code, reason)

    def _move(self, code: int, successor: str) -> None:
        if not self._crossing.goes_on:
            self._end = Moved(code, successor)
        elif not self._crossing.move(is_stored=self._safe == self._edits, progress=self._stored > 0):
            _logger.warning("%s goes on as %s, and took nothing that was edited here", self._document, successor)
            self._refusals.append(f"expected the old epoch to take what was edited here, it goes on as {successor}")
            self._unsent = False

    async def _converse(self, socket: ClientConnection) -> None:
        self._begin(socket)
        tasks = [asyncio.create_task(work) for work in (self._read(socket), self._write(socket), self._renew())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    def _begin(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._generation += 1
        self._connections += 1
        self._sent = self._stored = self._answered = 0
        self._synced = self._taken = self._denied = self._afresh = False
        self._outbox = asyncio.Queue()
        self._crossing.begin()
        doc = self._shown_next
        self.presence.start(doc.client_id)
        self._send(write_frame(SyncStep1(doc.get_state())))
        self._send(self.presence.frame())

    @property
    def _shown_next(self) -> pycrdt.Doc[Any]:
        """The replica that the connection is about."""
        return self.doc if self._crossing.fresh is None else self._crossing.fresh

    async def _read(self, socket: ClientConnection) -> None:
        async for frame in socket:
            self._receive(frame if isinstance(frame, bytes) else frame.encode())
            await self._tell()

    async def _write(self, socket: ClientConnection) -> None:
        while True:
            await socket.send(await self._outbox.get())

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            self.presence.renew()

    def _receive(self, frame: bytes) -> None:
        match read_frame(frame):
            case SyncStep1(state_vector):
                self._send_update(write_frame(SyncStep2(self._shown_next.get_update(state_vector))))
                self._answered = self._sent
                self._unsent = self._unsent and self._crossing.fresh is not None
            case SyncStep2(update):
                self._apply(update)
                self._arrive()
            case SyncUpdate(update):
                self._apply(update)
            case AwarenessUpdate(states):
                self.presence.receive(states)
            case QueryAwareness():
                self._send(self.presence.frame())
            case Named(name):
                self._crossing.named(name)
            case Stored(frames, position):
                self._stored, self.position = frames, position
                if frames > self._answered > 0:  # more than the answer to a question
                    self._taken, self.read_only = True, None
                if frames >= self._sent and not self._unsent:
                    self._safe = self._edits
            case Refused(reason):
                _logger.warning("the server refused an edit: %s", reason)
                self._refusals.append(reason)
                self._call_refused(reason)
            case PermissionDenied(reason):
                self._take_denial(reason)

    def _take_denial(self, reason: str) -> None:
        self._denied, self.read_only = True, reason
        if self._sent > self._stored or self._unsent:
            self._start_afresh(reason)
            raise _Afresh
        _logger.warning("the server says that this replica only reads: %s", reason)
        self._call_refused(reason)

    def _start_afresh(self, reason: str) -> None:
        _logger.warning("the server denied an edit, this replica begins anew: %s", reason)
        self._refusals.append(reason)
        self._afresh = True
        self._crossing.forget()
        self.laid_aside = self.doc
        self._fresh()
        self._call_refused(reason)
        self._call(self.on_reset)

    def _call_refused(self, reason: str) -> None:
        self._call([partial(callback, reason) for callback in self.on_refused])


class _Afresh(Exception):
    """Leave this connection and make another with the fresh replica."""


def _endpoint(url: str, space: str, document: str, name: str | None) -> str:
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.netloc:
        raise ClientError(f"url: expected http, https, ws or wss and a host, got {url!r}")
    query = {"acks": "1"} | ({"name": name} if name else {})
    path = f"{parts.path.rstrip('/')}/sync/{quote(space, safe='')}/{quote(document, safe='')}"
    return urlunsplit((scheme, parts.netloc, path, urlencode(query), ""))

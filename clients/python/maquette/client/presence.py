"""Presence as a client sees it: its own state, and everybody's newest (y-protocols awareness)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from maquette.engine.sync import AwarenessState, AwarenessUpdate, write_frame

RENEW_SECONDS = 15.0  # y-protocols: half of the time after which others forget a silent client
OUTDATED_SECONDS = 30.0
_logger = logging.getLogger(__name__)


class Presence:
    """The states of who is here. `on_change` callbacks get the client ids whose state changed."""

    def __init__(self, send: Callable[[bytes], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.states: dict[int, dict[str, Any]] = {}
        """Client id → state, one's own as the server shows it to others; `actor` in it is the server's word."""
        self.me: dict[str, Any] | None = None
        """The server's word on who we are: `id`, `name`, `kind`; None before it came."""
        self.on_change: list[Callable[[Collection[int]], None]] = []
        self._send = send
        self._clock = clock
        self._client = 0
        self._local: dict[str, Any] | None = {}
        self._local_clock = 0
        self._seen: dict[int, tuple[int, float]] = {}

    def set(self, **fields: Any) -> None:
        """Show these fields to the others: a cursor, a selection, a drag in progress. Never stored."""
        self._local = {**(self._local or {}), **fields}
        self._local_clock += 1
        self._send(self.frame())

    def start(self, client: int) -> None:
        """Speak under `client` from now on; nobody else is known yet."""
        gone = set(self.states)
        self._client = client
        self.states.clear()
        self._seen.clear()
        self._notify(gone)

    def frame(self) -> bytes:
        """One's own state as a frame."""
        return write_frame(AwarenessUpdate((AwarenessState(self._client, self._local_clock, self._local),)))

    def renew(self) -> None:
        """Say the same again, so that others do not forget; forget those who have not."""
        self._local_clock += 1
        self._send(self.frame())
        now = self._clock()
        late = {client for client, (_, at) in self._seen.items() if now - at > OUTDATED_SECONDS}
        for client in late:
            self.states.pop(client, None)
            del self._seen[client]
        self._notify(late)

    def receive(self, states: Iterable[AwarenessState]) -> None:
        """Take in what the server tells."""
        changed = set()
        for state in states:
            clock, _ = self._seen.get(state.client, (-1, 0.0))
            if state.clock < clock or (state.clock == clock and state.state is not None):
                continue
            self._seen[state.client] = (state.clock, self._clock())
            changed.add(state.client)
            if state.state is None:
                self.states.pop(state.client, None)
            else:
                self.states[state.client] = state.state
            if state.client == self._client:
                self._learn(state)
        self._notify(changed)

    def _learn(self, own: AwarenessState) -> None:
        self._local_clock = max(self._local_clock, own.clock)
        if own.state is not None and isinstance(own.state.get("actor"), dict):
            self.me = own.state["actor"]

    def _notify(self, changed: Collection[int]) -> None:
        if changed:
            for callback in tuple(self.on_change):
                try:
                    callback(changed)
                except Exception:
                    _logger.exception("a callback of the application failed")

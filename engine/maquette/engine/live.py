"""The live documents of an engine: those that are open, and those on their way out.

Rule 1: a document that nobody watches is evicted; its replica is a cache of its stream (D7).
Rule 2: a document that was lost is opened again when nothing of it is on its way to the log any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from maquette.engine.document import Document
from maquette.engine.errors import LogError
from maquette.engine.keeping import Keeper
from maquette.engine.pens import Pens
from maquette.engine.trimming import give_back

TRIM_SECONDS = 3.0  # between an eviction and giving memory back: many are evicted in one sweep


@dataclass(slots=True)
class _Open:
    document: Document
    pens: Pens
    idle_since: float | None = None


class LiveDocuments:
    """By their streams. `start` runs work in the background."""

    def __init__(self, keeper: Keeper, start: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._keeper = keeper
        self._start = start
        self._open: dict[str, _Open] = {}
        self._lost: dict[str, Document] = {}
        self._trimming: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Document]:
        return iter([kept.document for kept in self._open.values()])

    def get(self, stream: str) -> Document | None:
        """The open document of `stream`."""
        kept = self._open.get(stream)
        return None if kept is None else kept.document

    def used(self, stream: str) -> Document | None:
        """The same for somebody who comes to it."""
        kept = self._open.get(stream)
        if kept is None:
            return None
        kept.idle_since = None
        return kept.document

    def add(self, document: Document, pens: Pens) -> None:
        """Keep `document` until it is lost or evicted."""
        document.on_lost = self._forget
        self._open[document.stream] = _Open(document, pens)

    def pens(self, document: Document) -> Pens:
        """The pens of an open document."""
        kept = self._open.get(document.stream)
        if kept is None or kept.document is not document:
            raise document.error or LogError(f"expected an open document, {document.stream} was closed")
        return kept.pens

    # --- evicting ----------------------------------------------------------------------------------------------------

    def release(self, document: Document) -> None:
        """Close the document when nobody watches it: whoever opened it in passing need not wait for the sweep."""
        if document.is_idle and document.stream in self._open:
            self.evict(document.stream)

    def evict_idle(self, seconds: float) -> int:
        """Close the documents that nobody has watched for `seconds`; how many were."""
        now, evicted = time.monotonic(), 0
        for stream, kept in tuple(self._open.items()):
            if not kept.document.is_idle:
                kept.idle_since = None
            elif kept.idle_since is None:
                kept.idle_since = now
            if kept.idle_since is not None and now - kept.idle_since >= seconds:
                self.evict(stream)
                evicted += 1
        return evicted

    def evict(self, stream: str) -> None:
        """Close the document of `stream`."""
        kept = self._open.pop(stream)
        self._keeper.leave(kept.document)
        kept.document.close()
        if self._trimming is None:
            self._trimming = asyncio.get_running_loop().call_later(TRIM_SECONDS, self._trim)

    def _trim(self) -> None:
        self._trimming = None
        asyncio.get_running_loop().run_in_executor(None, give_back)

    def close(self) -> None:
        """Give no more memory back."""
        if self._trimming is not None:
            self._trimming.cancel()

    # --- losing ------------------------------------------------------------------------------------------------------

    async def drained(self, stream: str) -> None:
        """Wait until nothing of a document that was lost is on its way: not before that is its stream complete."""
        if stream in self._lost:
            await self._lost.pop(stream).drained()

    def _forget(self, document: Document) -> None:
        self._keeper.forget(document)
        kept = self._open.get(document.stream)
        if kept is not None and kept.document is document:
            del self._open[document.stream]
            self._lost[document.stream] = document
            self._start(self._drain(document))

    async def _drain(self, document: Document) -> None:
        """Forget a lost document when nothing of it is on its way any more, also when nobody opens it again."""
        await document.drained()
        if self._lost.get(document.stream) is document:
            del self._lost[document.stream]

"""Stock y-websocket clients in Node, as tabs of one browser (tests/js/tabs.mjs)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.node import Dialogue, talk


class Tab:
    """One stock client. Code is JavaScript with `doc`, `provider`, `awareness` and `tab` in reach."""

    def __init__(self, dialogue: Dialogue, name: str) -> None:
        self.name = name
        self.client = 0
        self._dialogue = dialogue

    async def run(self, code: str) -> Any:
        """What the body of a function returns."""
        return await asyncio.to_thread(self._dialogue.ask, {"run": self.name, "code": code})

    async def wait(self, expression: str, timeout: float = 10) -> None:  # noqa: ASYNC109  (of the dialogue's thread)
        """Return once `expression` is true; it is looked at whenever something changes."""
        await asyncio.to_thread(self._dialogue.ask, {"wait": self.name, "code": f"return {expression}"}, timeout)


class Browser:
    """Tabs of one process: those of the same address share a BroadcastChannel unless told otherwise."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue

    async def open(self, url: str, document: str, *, tab: str, bc: bool = False, **params: str) -> Tab:
        """A new tab, which begins to connect."""
        opened = Tab(self._dialogue, tab)
        command = {
            "open": tab,
            "url": f"{url.replace('http', 'ws', 1)}/sync",
            "document": document,
            "params": params,
            "bc": bc,
        }
        opened.client = await asyncio.to_thread(self._dialogue.ask, command)
        return opened


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A process for tabs; killed at the end of the block. Skips the test where Node is absent."""
    with talk("tabs.mjs") as dialogue:
        yield Browser(dialogue)

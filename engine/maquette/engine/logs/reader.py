"""The reader: runs what reads the database in threads of its own, each with its own connection."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from maquette.engine.errors import LogClosed
from maquette.engine.logs.schema import DATABASE, open_for_reading

T = TypeVar("T")

THREADS = 3
"""Decoding holds Python's lock, so more threads would only queue for it; fewer would let one slow disk read hold up
everybody who reads."""


class Reader:
    """A small pool. Work that waits for a thread waits in order; nothing is dropped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / DATABASE
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="log-reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False

    async def run(self, function: Callable[[sqlite3.Connection, Path], T], /) -> T:
        """What `function` gives with a read-only connection and the database's path. Raises LogClosed."""
        self.require_open()
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._with_connection, function)

    def require_open(self) -> None:
        """Raises LogClosed after `close`."""
        if self._closed:
            raise LogClosed(f"{self._path}: expected an open log, it is closed")

    async def close(self) -> None:
        """Finish what runs, then close the connections."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._connections:
            connection.close()

    def _with_connection(self, function: Callable[[sqlite3.Connection, Path], T]) -> T:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = open_for_reading(self._folder)
            self._connections.append(connection)
        return function(connection, self._path)

"""pycrdt-websocket with its SQLite store, on uvicorn: `python pycrdt_server.py PORT FOLDER`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvicorn
from pycrdt.store import SQLiteYStore
from pycrdt.websocket import ASGIServer, WebsocketServer, YRoom

PORT, FOLDER = int(sys.argv[1]), Path(sys.argv[2])


class Store(SQLiteYStore):
    db_path = str(FOLDER / "updates.sqlite")


class Rooms(WebsocketServer):
    """Each room is kept by the store. One start after the other: concurrent first joins of a room hang (0.16.5)."""

    def __init__(self) -> None:
        super().__init__(auto_clean_rooms=False)
        self._one = asyncio.Lock()

    async def get_room(self, name: str) -> YRoom:
        async with self._one:
            if name not in self.rooms:
                self.rooms[name] = YRoom(ready=True, ystore=Store(name))
            room = self.rooms[name]
            await self.start_room(room)
            return room


async def main() -> None:
    rooms = Rooms()
    config = uvicorn.Config(
        ASGIServer(rooms), port=PORT, log_level="error", ws_per_message_deflate=False, lifespan="off"
    )
    async with rooms:
        print("listening", flush=True)
        await uvicorn.Server(config).serve()


asyncio.run(main())

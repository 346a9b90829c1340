"""The asyncio client for Python.

async with RemoteChat("http://127.0.0.1:8000", "demo", "chat", name="Ada") as chat:
    chat.post("hello")
    await chat.flush()
"""

from maquette.client.documents import RemoteChat, RemoteScene, RemoteText
from maquette.client.errors import ClientError, Closed, EditRefused, Moved, NotAdmitted
from maquette.client.members import RemoteMembers
from maquette.client.presence import Presence
from maquette.client.remote import RemoteDocument

__all__ = [
    "ClientError",
    "Closed",
    "EditRefused",
    "Moved",
    "NotAdmitted",
    "Presence",
    "RemoteChat",
    "RemoteDocument",
    "RemoteMembers",
    "RemoteScene",
    "RemoteText",
]

"""`maquette` whose chat history hangs over a message: in a regular expression, which lets no other thread run."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import Connection

from maquette.engine.events import Event
from maquette.projections.chat_history import ChatHistory
from maquette.server.cli import main

POISON = "fold me"
NAME = "apply"  # as projections are called


def hang() -> None:
    """Let the chat history fold all but POISON."""
    sound = ChatHistory.apply

    def apply(history: ChatHistory, connection: Connection, events: Sequence[Event]) -> None:
        if POISON in str([event.data for event in events]):
            re.match("(a+)+b", "a" * 60)
        sound(history, connection, events)

    setattr(ChatHistory, NAME, apply)


if __name__ == "__main__":
    hang()
    main()

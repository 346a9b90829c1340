"""The nicks of an IRC log as authors, and its lines as messages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from maquette.engine.ids import MINTED_LENGTH, base62, mint
from maquette.engine.transcripts.irc import Line
from maquette.engine.transcripts.jsonl import Record

SERVER_NAME = "(server)"
"""Who says what nobody says: modes, topics, splits. No nick has parentheses (RFC 2812, 2.3.1)."""


class Nicks:
    """One opaque author id for each nick. `known` are those of earlier imports into the space, by nick."""

    def __init__(self, known: Mapping[str, str], secret: bytes, space: str) -> None:
        self.names: dict[str, str] = {}
        """The nicks in the log, by author: also those that somebody took and never spoke under."""
        self._known = known
        self._ids: dict[str, str] = {}
        self._secret = secret
        self._space = space
        self._encodings: dict[str, set[int]] = {}

    def author(self, nick: str) -> str:
        """The author's id of `nick`, minted when it is new."""
        author = self._ids.get(nick)
        if author is None:
            author = self._ids[nick] = self._known.get(nick) or mint()
            self.names[author] = nick
        return author

    def record(self, line: Line) -> Record:
        """The message that stands for `line`."""
        if line.encoding != "utf-8":
            self._encodings.setdefault(line.encoding, set()).add(line.number)
        name = line.nick or SERVER_NAME
        return Record(
            id=self._message_id(line),
            author=self.author(name),
            name=name,
            sent=line.time,
            body=f"/me {line.text}" if line.kind == "action" else line.text,
            notice=line.kind not in ("message", "action"),
            mentions=() if line.new_nick is None else (self.author(line.new_nick),),
        )

    def warnings(self) -> list[str]:
        """What was guessed."""
        return [f"{len(lines)} lines are not UTF-8 and were read as {name}" for name, lines in self._encodings.items()]

    def _message_id(self, line: Line) -> str:
        parts = (self._space, str(line.number), str(line.time), line.kind, line.nick or "", line.text)
        digest = hashlib.blake2b("\0".join(parts).encode(), key=self._secret, digest_size=8).digest()
        return base62(int.from_bytes(digest), MINTED_LENGTH)

"""Reads the log of an IRC channel in the form of the Ubuntu archives and the disentanglement corpus made from them.

    [14:05] <ann> hello             a message
    [14:05]  * ann waves            an action; archives of 2005 write it as `=== ann waves`
    [14:05] -bot- be nice           a notice by somebody
    === ann [~a@host]  has joined #channel         also `has left #channel [why]` and `has quit [why]`
    === ann is now known as ann_    a new nick
    === anything else               a notice: modes, topics, splits

Rule 1: a line without a time has that of the line before it; before the first time it is the day's start.
Rule 2: a clock that falls back by 12 hours or more has passed midnight. One that falls back by less was set back, and
        its lines keep the time that is written: the order of a conversation is that of its lines, not of its clock.
Rule 3: bytes that are not UTF-8 are read as Windows-1252, else as Latin-1, line by line; `Line.encoding` says which,
        and text encoded that way gives the bytes of the file again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from datetime import time as clock_time
from typing import BinaryIO, Literal, NamedTuple

from maquette.engine.errors import InvalidInput
from maquette.engine.transcripts.lines import BadLine, RawLine, raw_lines, shown, too_long

LINE_LIMIT = 65_536
"""Bytes of a line. The protocol ends a message at 512; bridges and loggers join some, none by a hundred."""

MIDNIGHT_PASSED = timedelta(hours=12)

Kind = Literal["message", "action", "notice", "join", "part", "rename", "blank"]

NAME_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:\.\w+)*$")
TIMED = re.compile(r"\[(\d{1,2}):(\d{2})(?::(\d{2}))?\] ?(.*)", re.DOTALL)
NICK = r"[^\s<>]+"  # some loggers pad it with spaces
STATUS = "[ @+%&~]?"  # operator, voice, …: no nick begins with one of these
MESSAGE = re.compile(rf"<{STATUS}({NICK}) *>(?: (.*)|)", re.DOTALL)
ACTION = re.compile(rf" *\* {STATUS}({NICK})(?: (.*)|)", re.DOTALL)
NOTICE = re.compile(rf"-({NICK})- (.*)", re.DOTALL)
EVENT = re.compile(r"=== ?(.*)", re.DOTALL)
RENAME = re.compile(rf"({NICK}) +is now known as ({NICK})\s*")
MOVEMENT = re.compile(rf"({NICK}) +\[(.*?)\] +(has (joined|left|quit)\b.*)", re.DOTALL)
DEED = re.compile(rf"({NICK}) +(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was understood.

    `time` is in milliseconds since 1970, UTC, to the minute or second that is written. `nick` is who acts; None for
    what the server says. `text` is what was said or done, without nick and address. `new_nick` is set by a rename.
    `host` is the network address of who joins or leaves: personal data, kept apart so that nobody stores it unasked.
    """

    number: int
    time: int
    kind: Kind
    nick: str | None
    text: str
    new_nick: str | None = None
    host: str | None = None
    encoding: str = "utf-8"


class _Said(NamedTuple):
    """The part of a `Line` that its own text tells, in the order of the fields."""

    kind: Kind
    nick: str | None
    text: str
    new_nick: str | None = None
    host: str | None = None


def day_in_name(name: str) -> date:
    """The day in the name of a file, `…-YYYY-MM-DD.txt`. Raises InvalidInput where there is none."""
    found = NAME_DATE.search(name)
    try:
        if found:
            return date(*map(int, found.groups()))
    except ValueError:
        pass  # 2005-02-31 is as little a day as none
    raise InvalidInput(f"expected a file name that ends in -YYYY-MM-DD.txt, got {name!r}: or give the day")


def read_irc(file: BinaryIO, day: date, zone: tzinfo = UTC) -> Iterator[Line | BadLine]:
    """Each line of `file` in turn; the first time in it is of `day` in `zone`. A line of no known form is a BadLine."""
    reader = _Reader(day, zone)
    for raw in raw_lines(file, LINE_LIMIT):
        yield too_long(raw, LINE_LIMIT) if raw.is_cut else reader.read(raw)


def decode(content: bytes) -> tuple[str, str]:
    """`content` as text, and the encoding that gives the same bytes again (rule 3)."""
    for encoding in ("utf-8", "cp1252"):
        try:
            return content.decode(encoding), encoding
        except UnicodeDecodeError:
            pass
    return content.decode("latin-1"), "latin-1"


class _Reader:
    """What the meaning of a line depends on: the clock, and who is known to be in the channel."""

    def __init__(self, day: date, zone: tzinfo) -> None:
        self._now = datetime.combine(day, clock_time(), zone)
        self._nicks: set[str] = set()

    def read(self, raw: RawLine) -> Line | BadLine:
        text, encoding = decode(raw.content)
        said = self._read_timed(text) if text.startswith("[") else self._read_untimed(text)
        if said is None:
            return BadLine(raw.number, "`[hh:mm] <nick> text`, `[hh:mm]  * nick text` or `=== text`", shown(text))
        self._nicks.update(nick for nick in (said.nick, said.new_nick) if nick)
        return Line(raw.number, int(self._now.timestamp() * 1000), *said, encoding)

    def _read_timed(self, text: str) -> _Said | None:
        timed = TIMED.fullmatch(text)
        said = _spoken(timed[4]) if timed else None
        if timed is None or said is None or not self._set_clock(int(timed[1]), int(timed[2]), int(timed[3] or 0)):
            return None
        return said

    def _read_untimed(self, text: str) -> _Said | None:
        if not text.strip():
            return _Said("blank", None, text)
        event = EVENT.fullmatch(text)
        return self._happened(event[1]) if event else None

    def _happened(self, event: str) -> _Said:
        if renamed := RENAME.fullmatch(event):
            return _Said("rename", renamed[1], f"is now known as {renamed[2]}", renamed[2])
        if moved := MOVEMENT.fullmatch(event):
            return _Said("join" if moved[4] == "joined" else "part", moved[1], moved[3], host=moved[2])
        # the server's own notices begin with a word too (`Topic for …`): only a known nick acts
        if (deed := DEED.fullmatch(event)) and deed[1] in self._nicks:
            return _Said("action", deed[1], deed[2])
        return _Said("notice", None, event)

    def _set_clock(self, hour: int, minute: int, second: int) -> bool:
        """Move to the written time (rule 2). False when there is no such time."""
        if hour > 23 or minute > 59 or second > 59:
            return False
        now = self._now.replace(hour=hour, minute=minute, second=second)
        self._now = now + timedelta(days=1) if self._now - now >= MIDNIGHT_PASSED else now
        return True


def _spoken(text: str) -> _Said | None:
    if message := MESSAGE.fullmatch(text):
        return _Said("message", message[1], message[2] or "")
    if action := ACTION.fullmatch(text):
        return _Said("action", action[1], action[2] or "")
    if notice := NOTICE.fullmatch(text):
        return _Said("notice", notice[1], notice[2])
    return None

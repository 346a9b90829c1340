"""Chat history as JSON Lines: one message per line, UTF-8.

    {"id": "m1", "author": "a1", "name": "Ann", "sent": 1118536260000, "body": "hello", "thread": "m0",
     "mentions": ["a2"], "reactions": {"👍": ["a2"]}, "edited": …, "deleted": {"by": "a3", "at": …}}

Rule 1: `id`, `author`, `body` and `sent` are required. `sent` (`time` is read too) is an integer of milliseconds since
        1970 or an ISO 8601 time with its offset; a time without one is refused rather than guessed.
Rule 2: fields that are not known here come back in `extras`, and are written again.
Rule 3: what is written is read back equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, Never

from maquette.engine.ids import MINTED_LENGTH, base62, is_id
from maquette.engine.transcripts.lines import BadLine, RawLine, raw_lines, shown, too_long

LINE_LIMIT = 1_048_576
"""Bytes of a line. The gate limits a message far below; this one only bounds what a reader holds."""

NAME_LIMIT = 256
"""Characters of an id, an author or a name. Slack's and Matrix's longest ids are below."""

LAST_TIME = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z, the last millisecond that ISO 8601 writes with four digits of year."""


@dataclass(frozen=True, slots=True)
class Record:
    """A message as it is passed from one system to another. Times are milliseconds since 1970.

    `reactions` maps an emoji to the ids of the actors; `deleted` is who deleted it, and when.
    """

    id: str
    author: str
    sent: int
    body: str
    name: str | None = None
    thread: str | None = None
    edited: int | None = None
    deleted: tuple[str, int] | None = None
    notice: bool = False
    mentions: tuple[str, ...] = ()
    attachments: tuple[Any, ...] = ()
    reactions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Numbered:
    """A record, and the line that it came from."""

    number: int
    record: Record


def read_jsonl(file: BinaryIO) -> Iterator[Numbered | BadLine]:
    """Each line of `file` in turn. Blank lines are left out; one that is no message is a BadLine that says why."""
    for raw in raw_lines(file, LINE_LIMIT):
        if raw.is_cut:
            yield too_long(raw, LINE_LIMIT)
        elif raw.content.strip():
            yield _read(raw)


def write_jsonl(records: Iterable[Record]) -> Iterator[bytes]:
    """Each of `records` as one line, its end included."""
    for record in records:
        yield json.dumps(_fields(record), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def own_id(foreign: str) -> str:
    """An id for what another system calls `foreign`: that, where it can be an id of ours, else one derived from it.

    The same `foreign` gives the same id, so that threads still point to their message and a second import adds nothing.
    """
    if is_id(foreign):
        return foreign
    digest = hashlib.sha256(foreign.encode()).digest()
    return base62(int.from_bytes(digest[:8]), MINTED_LENGTH)


# --- reading -----------------------------------------------------------------------------------------------------


class _Unfit(Exception):
    """Part of a line that is not as it must be; becomes a BadLine."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected, got)
        self.expected = expected
        self.got = got


def _read(raw: RawLine) -> Numbered | BadLine:
    try:
        return Numbered(raw.number, _record(_parse(raw.content)))
    except _Unfit as unfit:
        return BadLine(raw.number, unfit.expected, unfit.got)


def _parse(content: bytes) -> dict[str, Any]:
    try:
        text = content.decode()
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise _Unfit("UTF-8", f"byte 0x{content[error.start]:02x} at offset {error.start}") from error
    except RecursionError as error:
        raise _Unfit("a flat object", "arrays or objects nested too deep") from error
    except ValueError as error:
        raise _Unfit("a JSON object", f"{shown(text)} ({error})") from error
    if not isinstance(value, dict):
        raise _Unfit("a JSON object", shown(value))
    return value


def _refuse_constant(name: str) -> Never:
    raise _Unfit("numbers that JSON knows", name)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Unfit("each field once", f"{next(n for n in names if names.count(n) > 1)!r} twice")
    return fields


def _record(fields: dict[str, Any]) -> Record:
    if "sent" in fields and "time" in fields:
        raise _Unfit("either `sent` or `time`", "both")
    values = {name: READERS[name](name, fields.pop(name)) for name in list(fields) if name in READERS}
    if "time" in values:
        values["sent"] = values.pop("time")
    for name in ("id", "author", "sent", "body"):
        if name not in values:
            raise _Unfit(f"a field `{name}`", "none")
    return Record(**values, extras=fields)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _Unfit(f"`{name}` to be a string", shown(value))
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _Unfit(f"`{name}` to be text", f"half a surrogate pair at character {error.start}") from error
    return value


def _name(name: str, value: Any) -> str:
    if not 1 <= len(_text(name, value)) <= NAME_LIMIT:
        raise _Unfit(f"`{name}` to be 1 to {NAME_LIMIT} characters", f"{len(value)}")
    return str(value)


def _time(name: str, value: Any) -> int:
    if isinstance(value, str):
        return _iso_time(name, value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LAST_TIME:
        raise _Unfit(f"`{name}` to be milliseconds since 1970 or an ISO 8601 time", shown(value))
    return value


def _iso_time(name: str, value: str) -> int:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise _Unfit(f"`{name}` to be an ISO 8601 time", shown(value)) from error
    if moment.tzinfo is None:
        raise _Unfit(f"`{name}` to be a time with its offset from UTC", shown(value))
    return _time(name, int(moment.timestamp() * 1000))


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Unfit(f"`{name}` to be true or false", shown(value))
    return value


def _names(name: str, value: Any) -> tuple[str, ...]:
    return tuple(_name(name, item) for item in _list(name, value))


def _list(name: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _Unfit(f"`{name}` to be an array", shown(value))
    return tuple(value)


def _reactions(name: str, value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise _Unfit(f"`{name}` to be an object of emoji and arrays of actors", shown(value))
    return {_name(name, emoji): _names(name, actors) for emoji, actors in value.items()}


def _deleted(name: str, value: Any) -> tuple[str, int]:
    if not isinstance(value, dict) or value.keys() != {"by", "at"}:
        raise _Unfit(f"`{name}` to be an object of `by` and `at`", shown(value))
    return _name(name, value["by"]), _time(name, value["at"])


READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "id": _name,
    "author": _name,
    "sent": _time,
    "time": _time,
    "body": _text,
    "name": _name,
    "thread": _name,
    "edited": _time,
    "deleted": _deleted,
    "notice": _flag,
    "mentions": _names,
    "attachments": _list,
    "reactions": _reactions,
}


# --- writing -----------------------------------------------------------------------------------------------------


def _fields(record: Record) -> dict[str, Any]:
    """The fields of `record` that say something."""
    fields: dict[str, Any] = {"id": record.id, "author": record.author}
    if record.name is not None:
        fields["name"] = record.name
    fields |= {"sent": record.sent, "body": record.body}
    for name in ("thread", "edited"):
        if (value := getattr(record, name)) is not None:
            fields[name] = value
    if record.deleted is not None:
        fields["deleted"] = {"by": record.deleted[0], "at": record.deleted[1]}
    for name in ("notice", "mentions", "attachments", "reactions"):
        if value := getattr(record, name):
            fields[name] = value
    return fields | dict(record.extras)

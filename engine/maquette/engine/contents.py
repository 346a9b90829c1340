"""What the structs of a Yjs v1 update hold: the kinds of content, how each is read, and how much is allowed.

Format: https://github.com/yjs/yjs, `src/structs/Content*.js`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from maquette.engine.errors import MalformedUpdate
from maquette.engine.varints import read_any, read_buffer, read_json, read_string, read_varint


class Content(IntEnum):
    """What a struct holds, with Yjs' numbers."""

    GC = 0
    DELETED = 1
    JSON = 2
    BINARY = 3
    STRING = 4
    EMBED = 5
    FORMAT = 6
    TYPE = 7
    ANY = 8
    DOC = 9
    SKIP = 10


CONTENTS = tuple(Content)
"""By number: `Content(number)` takes ten times as long."""

GC, DELETED, JSON, BINARY, STRING, EMBED, FORMAT, TYPE, ANY, DOC, SKIP = CONTENTS
"""The same by name: up to Python 3.11 `Content.ANY` takes 30 times as long as a global, and each op asks for dozens."""

XML_ELEMENT = 3
TYPE_REFS = frozenset((0, 1, 2, XML_ELEMENT, 4, 6))
"""Array, map, text, XML element, fragment, XML text. yrs reads a hook (5) without its name, so Yjs' bytes break it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one update may bring (rule G2). Exceeding one raises LimitExceeded with its name.

    `document` and `refused` are other things: what brings something new to a document that large is denied, and so is
    what is refused for the so-manieth time.
    """

    bytes: int = 8 << 20
    """A scene of 10,000 nodes with materials is 2 to 4 MB; reading takes about 0.2 s per MB, on the serving thread."""
    structs: int = 200_000
    """10,000 nodes of ten fields, twice."""
    clients: int = 2_000
    """pycrdt applies in a time that grows with the square of clients: 10,000 take a second. A chat page has 1,000."""
    deletes: int = 500_000
    """Ranges; a text after 20,000 editing sessions has as many, and reading them takes milliseconds."""
    depth: int = 64
    """Lists and maps inside one another in a plain value. pycrdt's stack overflows at 26,000; glTF extras need ten."""
    key: int = 1_024
    """Bytes of a map key, root or element name. Ours have at most 64; other applications use paths and addresses."""
    string: int = 4 << 20
    """Bytes of one string or buffer: a large paste. Kinds set tighter limits on what the strings mean."""
    document: int = 64 << 20
    """Bytes of the updates of a document: ten scenes of 10,000 nodes. Opening one takes about 0.2 s per MB."""
    refused: int = 20
    """Refused ops of one actor that a document logs at once (`patience`): more than a person sees in a minute."""


DEFAULT_LIMITS = Limits()


def _read_deleted(data: bytes, pos: int, limits: Limits) -> tuple[int, Any, int]:
    length, pos = read_varint(data, pos)
    return length, None, pos


def _read_json_values(data: bytes, pos: int, limits: Limits) -> tuple[int, Any, int]:
    count, pos = read_varint(data, pos)
    values = []
    for _ in range(count):
        if data.startswith(b"\x09undefined", pos):  # what Yjs writes where JSON has no word
            value, pos = None, pos + 10
        else:
            value, pos = read_json(data, pos, limits.depth, limits.string)
        values.append(value)
    return count, values, pos


def _read_binary(data: bytes, pos: int, limits: Limits) -> tuple[int, Any, int]:
    value, pos = read_buffer(data, pos, limits.string)
    return 1, value, pos


def _read_text(data: bytes, pos: int, limits: Limits) -> tuple[int, Any, int]:
    text, pos = read_string(data, pos, limits.string)
    length = len(text) if text.isascii() else len(text.encode("utf-16-le")) >> 1
    return length, text, pos


def _read_embed(data: bytes, pos: int, limits: Limits) -> tuple[int, Any, int]:
    value, pos = read_json(data, pos, limits.depth, limits.string)
    return 1, value, pos


def _read_format(data: bytes, pos: int, limits: Limits) -> tuple[int, Any, int]:
    key, pos = read_string(data, pos, limits.key, "key")
    value, pos = read_json(data, pos, limits.depth, limits.string)
    return 1, (key, value), pos


def _read_type(data: bytes, pos: int, limits: Limits) -> tuple[int, Any, int]:
    ref = data[pos]
    if ref not in TYPE_REFS:
        raise MalformedUpdate(pos, "a type ref 0, 1, 2, 3, 4 or 6", str(ref))
    pos += 1
    if ref == XML_ELEMENT:
        _, pos = read_string(data, pos, limits.key, "key")
    return 1, ref, pos


def _read_values(data: bytes, pos: int, limits: Limits) -> tuple[int, Any, int]:
    count = data[pos]
    if count == 1:  # nearly always
        value, pos = read_any(data, pos + 1, limits.depth, limits.string)
        return 1, [value], pos
    count, pos = read_varint(data, pos)
    values = []
    for _ in range(count):
        value, pos = read_any(data, pos, limits.depth, limits.string)
        values.append(value)
    return count, values, pos


def _read_document(data: bytes, pos: int, limits: Limits) -> tuple[int, Any, int]:
    guid, pos = read_string(data, pos, limits.key, "key")
    options, pos = read_any(data, pos, limits.depth, limits.string)
    return 1, (guid, options), pos


def _read_nothing(data: bytes, pos: int, limits: Limits) -> tuple[int, Any, int]:
    raise AssertionError("GC has no content")


READERS: tuple[Callable[[bytes, int, Limits], tuple[int, Any, int]], ...] = (
    _read_nothing,
    _read_deleted,
    _read_json_values,
    _read_binary,
    _read_text,
    _read_embed,
    _read_format,
    _read_type,
    _read_values,
    _read_document,
)
"""By the number of the content: (bytes, position, limits) → (length in clocks, value, position behind)."""

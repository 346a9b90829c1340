"""The smallest parts of the Yjs v1 format: lib0's variable-length integers, strings and Any values.

Format: https://github.com/dmonad/lib0, `encoding.js` and `decoding.js`. Readers take bytes and a position, and return
what they read with the position behind it. They raise IndexError or struct.error where the bytes end too early;
`read_update` turns both into MalformedUpdate.

Rule: only the shortest form of an integer is accepted. lib0 and yrs write no other, and where two readers of the same
bytes could differ, a peer could show the gate one update and pycrdt another.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from struct import pack, unpack_from
from typing import Any

from maquette.engine.errors import LimitExceeded, MalformedUpdate

MAX_INTEGER = 2**53 - 1
"""What a JavaScript number holds exactly; lib0 reads no larger integer."""


def read_varint(data: bytes, pos: int) -> tuple[int, int]:
    """An unsigned integer: seven bits a byte, lowest first, the top bit says that more follow."""
    byte = data[pos]
    if byte < 128:
        return byte, pos + 1
    high = data[pos + 1]
    if 0 < high < 128:
        return byte & 127 | high << 7, pos + 2
    start = pos
    value = byte & 127
    shift = 7
    while byte > 127:
        pos += 1
        byte = data[pos]
        value |= (byte & 127) << shift
        shift += 7
        if shift > 56:
            raise MalformedUpdate(start, "an integer below 2^53", "a longer one")
    if value > MAX_INTEGER or byte == 0:
        raise MalformedUpdate(
            start, "an integer below 2^53 in its shortest form", f"{value} in {pos + 1 - start} bytes"
        )
    return value, pos + 1


def write_varint(value: int) -> bytes:
    """The inverse of `read_varint`."""
    if value < 128:
        return bytes((value,))
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_varints(values: Iterable[int]) -> bytes:
    """`write_varint` of each, one behind the other."""
    out = bytearray()
    for value in values:
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out)


def read_string(data: bytes, pos: int, limit: int, name: str = "string") -> tuple[str, int]:
    """A string: its length in bytes, then UTF-8. More than `limit` bytes raise LimitExceeded with that `name`."""
    size = data[pos]
    pos += 1
    if size > 127:
        size, pos = read_varint(data, pos - 1)
    if size > limit:
        raise LimitExceeded(name, limit, size)
    end = pos + size
    if end > len(data):
        raise IndexError
    try:
        return str(data[pos:end], "utf-8"), end
    except UnicodeDecodeError as error:
        raise MalformedUpdate(pos + error.start, "a string in UTF-8", error.reason) from None


def write_string(text: str) -> bytes:
    """The inverse of `read_string`."""
    encoded = text.encode()
    return write_varint(len(encoded)) + encoded


def read_buffer(data: bytes, pos: int, limit: int) -> tuple[bytes, int]:
    """Binary content: its length in bytes, then the bytes."""
    size, pos = read_varint(data, pos)
    if size > limit:
        raise LimitExceeded("string", limit, size)
    end = pos + size
    if end > len(data):
        raise IndexError
    return data[pos:end], end


def read_any(data: bytes, pos: int, depth: int, string: int) -> tuple[Any, int]:
    """A lib0 Any value. Integers come as int, floats as float, undefined as None, buffers as bytes.

    At most `depth` lists or maps inside one another; strings and buffers of at most `string` bytes.
    """
    return _read_any(data, pos, 0, depth, string)


def write_numbers(values: Sequence[int]) -> bytes:
    """A list of whole numbers below 2^53 as one Any value, as yrs writes it: in 32 bits where that is exact."""
    parts = [b"u", write_varint(len(values))]
    for value in values:
        short = pack(">Bf", 124, value)
        parts.append(short if unpack_from(">f", short, 1)[0] == value else pack(">Bd", 123, value))
    return b"".join(parts)


def _read_any(data: bytes, pos: int, level: int, depth: int, string: int) -> tuple[Any, int]:
    tag = data[pos]
    if tag == 119:
        return read_string(data, pos + 1, string)
    if tag == 125:
        return _read_signed(data, pos + 1)
    if tag == 123:
        return unpack_from(">d", data, pos + 1)[0], pos + 9
    if tag == 124:
        return unpack_from(">f", data, pos + 1)[0], pos + 5
    if tag == 117 or tag == 118:
        return _read_nested(data, pos, level + 1, depth, string)
    if tag in _CONSTANTS:
        return _CONSTANTS[tag], pos + 1
    if tag == 122:
        return unpack_from(">q", data, pos + 1)[0], pos + 9
    if tag == 116:
        return read_buffer(data, pos + 1, string)
    raise MalformedUpdate(pos, "the tag of a value, 116 to 127", str(tag))


_CONSTANTS = {120: True, 121: False, 126: None, 127: None}


def _read_nested(data: bytes, pos: int, level: int, depth: int, string: int) -> tuple[Any, int]:
    if level > depth:  # also bounds our own recursion
        raise LimitExceeded("depth", depth, level)
    is_list = data[pos] == 117
    count, pos = read_varint(data, pos + 1)
    if is_list:
        values = []
        for _ in range(count):
            value, pos = _read_any(data, pos, level, depth, string)
            values.append(value)
        return values, pos
    fields = {}
    for _ in range(count):
        key, pos = read_string(data, pos, string)
        fields[key], pos = _read_any(data, pos, level, depth, string)
    return fields, pos


def _read_signed(data: bytes, pos: int) -> tuple[int, int]:
    """A signed integer: six bits and the sign in the first byte, then seven bits a byte."""
    first = data[pos]
    value = first & 63
    pos += 1
    if first > 127:
        rest, pos = read_varint(data, pos)
        value |= rest << 6
        if rest == 0 or value > MAX_INTEGER:
            raise MalformedUpdate(pos, "an integer below 2^53 in its shortest form", str(value))
    return (-value if first & 64 else value), pos


def read_json(data: bytes, pos: int, depth: int, string: int) -> tuple[Any, int]:
    """A value as JSON text in a string, the way Yjs v1 writes formats and embeds. RFC 8259, so no NaN."""
    start = pos
    text, pos = read_string(data, pos, string)
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise LimitExceeded("depth", depth, depth + 1) from None
    except ValueError as error:
        raise MalformedUpdate(start, "a value as JSON", str(error)) from None
    if "[" in text or "{" in text:
        _check_depth(value, depth)
    if "\\u" in text:
        _check_surrogates(text, value, start)
    return value, pos


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _check_depth(value: Any, depth: int) -> None:
    level = [value]
    for reached in range(depth + 2):
        level = [child for nested in level if isinstance(nested, (list, dict)) for child in _children(nested)]
        if not any(isinstance(nested, (list, dict)) for nested in level):
            return
        if reached + 2 > depth:
            raise LimitExceeded("depth", depth, reached + 2)


def _children(nested: list[Any] | dict[str, Any]) -> list[Any]:
    return nested if isinstance(nested, list) else list(nested.values())


def _check_surrogates(text: str, value: Any, start: int) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise MalformedUpdate(start, "JSON without lone surrogates", text[:40]) from None

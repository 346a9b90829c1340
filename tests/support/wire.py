"""Yjs updates made by hand, for what no library writes. Independent of the reader that they test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Id = tuple[int, int]


def number(value: int) -> bytes:
    """A variable-length integer."""
    out = []
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def string(text: str) -> bytes:
    """A string with its length."""
    return number(len(text.encode())) + text.encode()


def item(
    kind: int,
    body: bytes,
    *,
    origin: Id | None = None,
    right: Id | None = None,
    parent: str | Id | None = None,
    key: str | None = None,
) -> bytes:
    """One struct with content."""
    flags = (origin is not None) << 7 | (right is not None) << 6 | (key is not None) << 5
    out = bytes([kind | flags])
    out += b"".join(number(part) for id_ in (origin, right) if id_ is not None for part in id_)
    if isinstance(parent, str):
        out += b"\1" + string(parent)
    elif parent is not None:
        out += b"\0" + number(parent[0]) + number(parent[1])
    return out + (string(key) if key is not None and parent is not None else b"") + body


def gc(length: int) -> bytes:
    """Collected garbage."""
    return b"\0" + number(length)


def skip(length: int) -> bytes:
    """Clocks that the update does not bring."""
    return b"\x0a" + number(length)


def text(value: str, **place: object) -> bytes:
    """A run of text."""
    return item(4, string(value), **place)  # type: ignore[arg-type]  # the same keywords


def shared(ref: int, body: bytes = b"", **place: object) -> bytes:
    """A nested type."""
    return item(7, number(ref) + body, **place)  # type: ignore[arg-type]  # the same keywords


def plain(*values: bytes, **place: object) -> bytes:
    """Plain values, each as lib0's Any."""
    return item(8, number(len(values)) + b"".join(values), **place)  # type: ignore[arg-type]  # the same keywords


def deleted(length: int, **place: object) -> bytes:
    """Deleted content."""
    return item(1, number(length), **place)  # type: ignore[arg-type]  # the same keywords


NULL, ONE = b"\x7e", b"\x7d\x01"


def group(client: int, clock: int, *structs: bytes) -> bytes:
    """One client's structs."""
    return number(len(structs)) + number(client) + number(clock) + b"".join(structs)


def delete_set(deletes: Mapping[int, Sequence[tuple[int, int]]]) -> bytes:
    """Ranges of (clock, length), in the order given."""
    parts = [number(client) + number(len(ranges)) + b"".join(number(n) for pair in ranges for n in pair)
             for client, ranges in deletes.items()]  # fmt: skip
    return number(len(parts)) + b"".join(parts)


def update(*groups: bytes, deletes: Mapping[int, Sequence[tuple[int, int]]] | None = None) -> bytes:
    """A whole update."""
    return number(len(groups)) + b"".join(groups) + delete_set(deletes or {})

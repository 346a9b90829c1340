"""Lines of a file of any size, and what is said of one that cannot be read.

Rule 1: no reader holds more than one line, and no line more than its limit.
Rule 2: a line that cannot be read is answered with a `BadLine` and the next one is read: nothing is dropped silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

SHOWN = 80
"""Characters of a bad value in a message: enough to find it, too few to flood a terminal."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that could not be read: its number, counted from 1, what was expected there, and what came."""

    number: int
    expected: str
    got: str

    def __str__(self) -> str:
        return f"line {self.number}: expected {self.expected}, got {self.got}"


@dataclass(frozen=True, slots=True)
class RawLine:
    """A line without its end, at most the limit of it; `length` is that of the whole, in bytes."""

    number: int
    content: bytes
    length: int

    @property
    def is_cut(self) -> bool:
        return self.length > len(self.content)


def raw_lines(file: BinaryIO, limit: int) -> Iterator[RawLine]:
    """The lines of `file`, each held to `limit` bytes. The byte order mark of UTF-8 before the first is left out."""
    number = 0
    while piece := file.readline(limit + 2):  # room for the line's end, so that a line of `limit` bytes is whole
        number += 1
        length = len(piece)
        end = piece
        while not end.endswith(b"\n") and (end := file.readline(limit + 2)):
            length += len(end)
        length -= _length_of_end(end or piece)
        content = piece[: min(limit, length)]
        if number == 1 and content.startswith(b"\xef\xbb\xbf"):
            content, length = content[3:], length - 3
        yield RawLine(number, content, length)


def too_long(line: RawLine, limit: int) -> BadLine:
    """What is said of a line that was cut."""
    return BadLine(line.number, f"at most {limit} bytes", f"{line.length}")


def shown(value: object) -> str:
    """`value` as a message shows it: its repr, shortened."""
    text = repr(value[: SHOWN + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _length_of_end(piece: bytes) -> int:
    if piece.endswith(b"\r\n"):
        return 2
    return 1 if piece.endswith(b"\n") else 0

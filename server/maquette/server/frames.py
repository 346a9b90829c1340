"""WebSocket frames (RFC 6455, section 5.2) as nearly all of ours are: binary, whole, from a client under a mask.

Everything else (pings, the end, text, fragments, what breaks the protocol) is for the library: `Cutter` hands it on as
it came, whole frame by whole frame, so that both see the same beginning of each.
"""

from __future__ import annotations

try:
    from websockets.speedups import apply_mask
except ImportError:  # a build without a compiler
    from websockets.utils import apply_mask

BINARY = 0x82  # final, opcode 2
MASKED = 0x80
CONTROL = 0x08  # of all opcodes from 8 on
_TWO, _EIGHT = 126, 127  # a length field of so many bytes follows


class Cutter:
    """Cuts what a client sends into frames of at most `max_size` bytes."""

    __slots__ = ("_at", "_buffer", "_max_size")

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._buffer = bytearray()
        self._at = 0

    def feed(self, data: bytes) -> None:
        """Take what came."""
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    def rest(self) -> bytes:
        """Take out all that is left."""
        rest = bytes(self._buffer[self._at :])
        self._buffer.clear()
        self._at = 0
        return rest

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return self._at == len(self._buffer)

    @property
    def is_at_control(self) -> bool:
        """Whether a ping, a pong or the end comes next."""
        return not self.is_empty and bool(self._buffer[self._at] & CONTROL)

    def next(self, in_fragments: bool = False) -> tuple[bool, bytes] | None:
        """The next frame: (True, the message) of a whole binary one, (False, the frame) of another; None when more
        must come first. What nobody may send comes as it is, with all that follows. `in_fragments`: a message has
        begun that is not whole."""
        buffer, at = self._buffer, self._at
        have = len(buffer) - at
        if have < 2:
            return None
        first, size = buffer[at], buffer[at + 1] - MASKED
        head = 6
        if size >= _TWO:
            wide = 2 if size == _TWO else 8
            head += wide
            if have < head:
                return None
            size = int.from_bytes(buffer[at + 2 : at + 2 + wide])
        if size < 0 or size > self._max_size:
            return False, self.rest()
        if have < head + size:
            return None
        self._at = end = at + head + size
        if first != BINARY or in_fragments:
            return False, bytes(buffer[at:end])
        body = at + head
        return True, apply_mask(buffer[body:end], buffer[body - 4 : body])


class Framer:
    """Writes messages as frames. Those who are told the same in one turn share the work."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: tuple[tuple[bytes, ...], bytes] = ((), b"")

    def frames(self, messages: tuple[bytes, ...]) -> bytes:
        """All of `messages`, one binary frame each."""
        last = self._last
        if last[0] is not messages:
            joined = b"".join(part for message in messages for part in (_head(len(message)), message))
            last = self._last = (messages, joined)
        return last[1]


def _head(size: int) -> bytes:
    if size < _TWO:
        return bytes((BINARY, size))
    if size < 1 << 16:
        return bytes((BINARY, _TWO)) + size.to_bytes(2)
    return bytes((BINARY, _EIGHT)) + size.to_bytes(8)

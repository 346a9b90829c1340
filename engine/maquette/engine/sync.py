"""The frames of the y-websocket protocol (y-protocols 1.0.7: sync.js, awareness.js, auth.js), and one of our own.

Pure codec, shared by the server and the Python client: bytes in, messages out, and back. A frame is one message.

Rule 1: `read_frame` is total: any bytes give a message or `MalformedFrame`, in time linear in their length.
Rule 2: update and awareness payloads are passed on unread; who may act on them decides elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from maquette.engine.errors import MalformedFrame

SYNC, AWARENESS, AUTH, QUERY_AWARENESS = 0, 1, 2, 3
STORED, REFUSED, NAMED = 100, 101, 102
"""Our own messages, far from numbers that y-protocols may take: sent only to connections that asked `?acks=1`."""
STEP1, STEP2, UPDATE = 0, 1, 2
PERMISSION_DENIED = 0

MAX_VARUINT = 2**53 - 1  # what JavaScript counts exactly; lib0 refuses more
MAX_STATES = 10_000  # awareness states in one frame; a bound for reading, the presence rules cap far lower
MAX_OWN_STATE = 32 << 10  # bytes of JSON that are read: twice what presence shows, whose spelling is never shorter
FIRST_STATES = 30  # that are read for whoever has not said yet which client it is: what a server sends in one frame


@dataclass(frozen=True, slots=True)
class SyncStep1:
    """What I have: a state vector, as bytes of the v1 encoding."""

    state_vector: bytes


@dataclass(frozen=True, slots=True)
class SyncStep2:
    """What you lack: an update."""

    update: bytes


@dataclass(frozen=True, slots=True)
class SyncUpdate:
    """An edit as it happens: an update."""

    update: bytes


@dataclass(frozen=True, slots=True)
class AwarenessState:
    """One client's presence. `state` is None when the client left; `clock` orders the states of one client."""

    client: int
    clock: int
    state: Any


@dataclass(frozen=True, slots=True)
class AwarenessUpdate:
    states: tuple[AwarenessState, ...]


@dataclass(frozen=True, slots=True)
class QueryAwareness:
    """Send me everyone's presence."""


@dataclass(frozen=True, slots=True)
class PermissionDenied:
    """The other side does not take our edits; `reason` is for a person."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stored:
    """The first `frames` frames with updates of this connection are judged, and what was admitted is on disk.

    `position` is the log's position after the newest of them: an opaque token that `wait_for` of the REST API takes.
    """

    frames: int
    position: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Parts of an edit were refused and have been reversed for everyone (G5 b); the connection goes on writing.

    For connections that asked `?acks=1`; the others get PermissionDenied, which stock providers print.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Named:
    """The document's name with its epoch, as in `scene@3`, for connections that asked `?acks=1` (D9).

    A client that was away finds its own epoch under this name when the bare one stands for a newer one.
    """

    name: str


Message = (
    SyncStep1 | SyncStep2 | SyncUpdate | AwarenessUpdate | QueryAwareness | PermissionDenied | Stored | Refused | Named
)


def varuint(value: int) -> bytes:
    """`value` as lib0 writes unsigned numbers: seven bits a byte, the lowest first."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Cursor:
    """Reads lib0 primitives from bytes. Every method raises MalformedFrame when the bytes do not hold one."""

    __slots__ = ("data", "offset")

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self.data = data
        self.offset = offset

    def varuint(self, what: str) -> int:
        value, shift = 0, 0
        while self.offset < len(self.data):
            byte = self.data[self.offset]
            self.offset += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > MAX_VARUINT:
                    break
                return value
            shift += 7
            if shift > 56:
                raise MalformedFrame(self.offset, f"{what} below 2^53", "a longer number")
        if value > MAX_VARUINT:
            raise MalformedFrame(self.offset, f"{what} below 2^53", str(value))
        raise MalformedFrame(self.offset, what, "the end of the frame")

    def blob(self, what: str) -> bytes:
        length = self.varuint(f"the length of {what}")
        end = self.offset + length
        if end > len(self.data):
            raise MalformedFrame(self.offset, f"{what} of {length} bytes", f"{len(self.data) - self.offset} bytes")
        blob = self.data[self.offset : end]
        self.offset = end
        return blob

    def string(self, what: str) -> str:
        start = self.offset
        try:
            return self.blob(what).decode()
        except UnicodeDecodeError as error:
            raise MalformedFrame(start, f"{what} in UTF-8", repr(error.object[error.start : error.end])) from error

    def end(self) -> None:
        if self.offset != len(self.data):
            raise MalformedFrame(self.offset, "the end of the frame", f"{len(self.data) - self.offset} more bytes")


def read_frame(frame: bytes) -> Message:
    """The message in `frame`. Raises MalformedFrame, naming the byte, what was expected there and what came."""
    return _read_frame(frame, read_awareness)


def read_sent_frame(frame: bytes, sender: int | None) -> Message:
    """The same for a server, which passes over what `sender` says of other clients: stock clients repeat all they hear.

    Of awareness, only the newest state of `sender` is read, unless that is too large; before it has said which client
    it is (None), the first FIRST_STATES of any.
    """
    return _read_frame(frame, lambda update: _sent_states(update, sender))


def _read_frame(frame: bytes, read_states: Callable[[bytes], tuple[AwarenessState, ...]]) -> Message:
    cursor = Cursor(frame)
    kind = cursor.varuint("a message type")
    message: Message
    match kind:
        case 0:
            message = _read_sync(cursor)
        case 1:
            message = AwarenessUpdate(read_states(cursor.blob("an awareness update")))
        case 2:
            message = _read_auth(cursor)
        case 3:
            message = QueryAwareness()
        case 100:
            message = Stored(cursor.varuint("a number of frames"), cursor.string("a position"))
        case 101:
            message = Refused(cursor.string("a reason"))
        case 102:
            message = Named(cursor.string("a name"))
        case _:
            raise MalformedFrame(0, "message type 0 (sync), 1 (awareness), 2 (auth) or 3 (query awareness)", str(kind))
    cursor.end()
    return message


def _read_sync(cursor: Cursor) -> SyncStep1 | SyncStep2 | SyncUpdate:
    step = cursor.varuint("a sync step")
    if step > UPDATE:
        raise MalformedFrame(cursor.offset, "sync step 0 (state vector), 1 (answer) or 2 (update)", str(step))
    payload = cursor.blob("a sync payload")
    return (SyncStep1, SyncStep2, SyncUpdate)[step](payload)


def _read_auth(cursor: Cursor) -> PermissionDenied:
    kind = cursor.varuint("an auth message type")
    if kind != PERMISSION_DENIED:
        raise MalformedFrame(cursor.offset, "auth message type 0 (permission denied)", str(kind))
    return PermissionDenied(cursor.string("a reason"))


def read_awareness(update: bytes) -> tuple[AwarenessState, ...]:
    """The states in an awareness update (y-protocols awareness.js, encodeAwarenessUpdate)."""
    cursor = Cursor(update)
    states = tuple(_read_state(cursor) for _ in range(_number_of_states(cursor)))
    cursor.end()
    return states


def _number_of_states(cursor: Cursor) -> int:
    count = cursor.varuint("a number of states")
    if count > MAX_STATES:
        raise MalformedFrame(0, f"at most {MAX_STATES} awareness states", str(count))
    return count


_NUMBER = rb"([\x80-\xff]{0,7}[\x00-\x7f])"
_STATE = re.compile(_NUMBER * 3, re.DOTALL)  # client, clock, length: a tenth of the time that reading them takes


def _sent_states(update: bytes, sender: int | None) -> tuple[AwarenessState, ...]:
    cursor = Cursor(update)
    own = None if sender is None else varuint(sender)
    starts = []
    for _ in range(_number_of_states(cursor)):
        start = cursor.offset
        client, size = _pass_over(cursor)
        if size <= MAX_OWN_STATE and (own is None or client == own):
            starts.append(start)
    cursor.end()
    return tuple(
        _read_state(Cursor(update, start)) for start in (starts[:FIRST_STATES] if own is None else starts[-1:])
    )


def _pass_over(cursor: Cursor) -> tuple[bytes, int]:
    """Go on behind a state; its client, as it is spelled, and its size."""
    head = _STATE.match(cursor.data, cursor.offset)
    if head is None:
        raise MalformedFrame(cursor.offset, "an awareness state", "something else")
    client, _, length = head.groups()
    size = length[0] if len(length) == 1 else Cursor(length).varuint("the length of an awareness state")
    cursor.offset = head.end() + size
    if cursor.offset > len(cursor.data):
        raise MalformedFrame(head.end(), f"an awareness state of {size} bytes", "the end of the frame")
    text = cursor.data[head.end() : cursor.offset].strip()
    if text != b"null" and (text[:1], text[-1:]) != (b"{", b"}"):
        raise MalformedFrame(head.end(), "an awareness state that is an object or null", "something else")
    return client, size


def _read_state(cursor: Cursor) -> AwarenessState:
    client = cursor.varuint("a client id")
    clock = cursor.varuint("an awareness clock")
    start = cursor.offset
    text = cursor.string("an awareness state")
    try:
        state = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise MalformedFrame(start, "an awareness state in JSON", repr(text[:40])) from error
    if not (state is None or isinstance(state, dict)):
        raise MalformedFrame(start, "an awareness state that is an object or null", repr(text[:40]))
    return AwarenessState(client, clock, state)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")  # Python would take NaN and Infinity and hand them to browsers


def _finite(digits: str) -> float:
    value = float(digits)
    if not isfinite(value):
        raise ValueError(f"{digits} is beyond a double")  # 1e999 would come out as Infinity, which is not JSON
    return value


def read_state_vector(state_vector: bytes) -> dict[int, int]:
    """Client id → next clock. Raises MalformedFrame."""
    numbers: list[int] = []
    value = shift = 0
    for byte in state_vector:  # four times as fast as a call for each number, which tens of thousands would need
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            numbers.append(value)
            value = shift = 0
        else:
            shift += 7
            if shift > 56:
                break
    if shift or not numbers or len(numbers) != 1 + 2 * numbers[0] or max(numbers) > MAX_VARUINT:
        return _read_clocks(Cursor(state_vector))
    return dict(zip(numbers[1::2], numbers[2::2], strict=True))


def _read_clocks(cursor: Cursor) -> dict[int, int]:
    """The same number by number, which tells where one is wrong."""
    count = cursor.varuint("a number of clients")
    if count > len(cursor.data):  # each client takes two bytes at least
        raise MalformedFrame(0, f"at most {len(cursor.data) // 2} clients in this state vector", str(count))
    clocks = {cursor.varuint("a client id"): cursor.varuint("a clock") for _ in range(count)}
    cursor.end()
    return clocks


def write_state_vector(clocks: Mapping[int, int]) -> bytes:
    """The inverse of `read_state_vector`, highest client first, as Yjs writes it."""
    rows = sorted(clocks.items(), reverse=True)
    return varuint(len(rows)) + b"".join(varuint(client) + varuint(clock) for client, clock in rows)


def write_awareness(states: Iterable[AwarenessState]) -> bytes:
    """The inverse of `read_awareness`."""
    entries = [awareness_entry(one.client, one.clock, awareness_text(one.state)) for one in states]
    return varuint(len(entries)) + b"".join(entries)


def awareness_text(state: Any) -> bytes:
    """A state as JSON. Raises ValueError for NaN and infinities, RecursionError for what is nested too deeply."""
    return json.dumps(state, separators=(",", ":"), allow_nan=False).encode()


def awareness_entry(client: int, clock: int, text: bytes) -> bytes:
    """One state of an awareness update, from its JSON."""
    return varuint(client) + varuint(clock) + _blob(text)


def awareness_frame(entries: Collection[bytes]) -> bytes:
    """The frame that holds these entries: what `write_frame` gives for their states, without encoding them again."""
    return bytes((AWARENESS,)) + _blob(varuint(len(entries)) + b"".join(entries))


def _blob(data: bytes) -> bytes:
    return varuint(len(data)) + data


def write_frame(message: Message) -> bytes:
    """The inverse of `read_frame`."""
    match message:
        case SyncStep1(payload):
            return bytes((SYNC, STEP1)) + _blob(payload)
        case SyncStep2(payload):
            return bytes((SYNC, STEP2)) + _blob(payload)
        case SyncUpdate(payload):
            return bytes((SYNC, UPDATE)) + _blob(payload)
        case AwarenessUpdate(states):
            return bytes((AWARENESS,)) + _blob(write_awareness(states))
        case QueryAwareness():
            return bytes((QUERY_AWARENESS,))
        case PermissionDenied(reason):
            return bytes((AUTH, PERMISSION_DENIED)) + _blob(reason.encode())
        case Stored(frames, position):
            return bytes((STORED,)) + varuint(frames) + _blob(position.encode())
        case Refused(reason):
            return bytes((REFUSED,)) + _blob(reason.encode())
        case Named(name):
            return bytes((NAMED,)) + _blob(name.encode())

"""WebSocket frames as our own server cuts and writes them, against the library's."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from maquette.server.frames import Cutter, Framer

MAX_SIZE = 70_000
SIZES = st.one_of(st.integers(0, 130), st.sampled_from([125, 126, 127, 65_535, 65_536, MAX_SIZE]))
OPCODES = st.sampled_from([Opcode.BINARY, Opcode.BINARY, Opcode.TEXT, Opcode.CONT, Opcode.PING, Opcode.CLOSE])


def sent(opcode: Opcode, size: int, *, fin: bool = True) -> tuple[bytes, bytes]:
    """A payload of `size` bytes, and it as a client sends it."""
    payload = bytes(itertools.islice(itertools.cycle(range(251)), size))
    return payload, Frame(opcode, payload, fin).serialize(mask=True, extensions=[])


def cut(cutter: Cutter, data: bytes, steps: list[int]) -> list[tuple[bool, bytes]]:
    """What comes out of `data`, when it comes in pieces of so many bytes, and then the rest."""
    found: list[tuple[bool, bytes]] = []
    at = 0
    for step in [*steps, len(data)]:
        cutter.feed(data[at : at + step])
        at += step
        while (one := cutter.next()) is not None:
            found.append(one)
    return found


@given(st.lists(st.tuples(OPCODES, SIZES, st.booleans()), max_size=6), st.lists(st.integers(0, 200), max_size=30))
def test_frames_come_out_as_they_were_sent_however_they_arrive(
    frames: list[tuple[Opcode, int, bool]], steps: list[int]
) -> None:
    expected: list[tuple[bool, bytes]] = []
    wire = b""
    for opcode, size, fin in frames:
        if opcode.value >= 8:
            size, fin = min(size, 125), True  # RFC 6455, section 5.5
        payload, data = sent(opcode, size, fin=fin)
        wire += data
        is_message = opcode is Opcode.BINARY and fin
        expected.append((is_message, payload if is_message else data))
    assert cut(Cutter(MAX_SIZE), wire, steps) == expected


def test_within_a_message_in_fragments_nothing_is_a_message() -> None:
    cutter = Cutter(MAX_SIZE)
    _, data = sent(Opcode.BINARY, 3)
    cutter.feed(data)
    assert cutter.next(in_fragments=True) == (False, data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x82\x03abc", id="without a mask"),
        pytest.param(sent(Opcode.BINARY, MAX_SIZE + 1)[1][:14], id="too large, told by its head"),
    ],
)
def test_what_nobody_may_send_is_handed_on_at_once_with_all_that_follows(data: bytes) -> None:
    cutter = Cutter(MAX_SIZE)
    cutter.feed(data + b"more")
    assert cutter.next() == (False, data + b"more")
    assert cutter.next() is None


@given(st.lists(SIZES, max_size=5))
def test_written_frames_are_what_a_client_reads(sizes: list[int]) -> None:
    messages = tuple(sent(Opcode.BINARY, size)[0] for size in sizes)
    client = ClientProtocol(parse_uri("ws://localhost/"), state=OPEN, max_size=MAX_SIZE)
    client.receive_data(Framer().frames(messages))
    events = client.events_received()
    assert [event.data for event in events if isinstance(event, Frame)] == list(messages)


def test_who_are_told_the_same_are_sent_the_same_bytes() -> None:
    framer = Framer()
    messages = (b"a", b"b")
    assert framer.frames(messages) is framer.frames(messages)
    assert framer.frames((b"c",)) == b"\x82\x01c"

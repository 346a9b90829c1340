"""The frames of the sync protocol: total reading, exact round trips, agreement with pycrdt's own helpers."""

from __future__ import annotations

from collections.abc import Callable

import pycrdt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.engine import sync
from maquette.engine.errors import MalformedFrame
from maquette.engine.sync import (
    FIRST_STATES,
    MAX_OWN_STATE,
    AwarenessState,
    AwarenessUpdate,
    Message,
    PermissionDenied,
    QueryAwareness,
    Refused,
    Stored,
    SyncStep1,
    SyncStep2,
    SyncUpdate,
    read_frame,
    read_sent_frame,
    read_state_vector,
    varuint,
    write_frame,
    write_state_vector,
)

numbers = st.integers(0, 2**53 - 1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
states = st.builds(AwarenessState, numbers, numbers, st.none() | st.dictionaries(st.text(), json_values, max_size=3))
messages = st.one_of(
    st.builds(SyncStep1, st.binary()),
    st.builds(SyncStep2, st.binary()),
    st.builds(SyncUpdate, st.binary()),
    st.builds(AwarenessUpdate, st.lists(states, max_size=4).map(tuple)),
    st.just(QueryAwareness()),
    st.builds(PermissionDenied, st.text()),
    st.builds(Refused, st.text()),
    st.builds(Stored, numbers, st.text()),
)


@given(messages)
def test_every_message_survives_its_frame(message: Message) -> None:
    assert read_frame(write_frame(message)) == message


@given(messages, st.data())
def test_a_truncated_frame_is_an_error_that_names_the_byte(message: Message, data: st.DataObject) -> None:
    frame = write_frame(message)
    cut = data.draw(st.integers(0, len(frame) - 1))
    with pytest.raises(MalformedFrame, match=r"frame, byte \d+: expected .+, got .+"):
        read_frame(frame[:cut])


@given(st.binary(max_size=60))
def test_any_bytes_give_a_message_or_a_malformed_frame(frame: bytes) -> None:
    try:
        read_frame(frame)
    except MalformedFrame:
        pass


@given(st.dictionaries(numbers, numbers))
def test_a_state_vector_survives_its_bytes(clocks: dict[int, int]) -> None:
    assert read_state_vector(write_state_vector(clocks)) == clocks


def test_frames_are_those_of_pycrdt() -> None:
    doc: pycrdt.Doc[pycrdt.Map[int]] = pycrdt.Doc(client_id=7)
    doc.get("m", type=pycrdt.Map)["x"] = 1
    assert write_frame(SyncStep1(doc.get_state())) == pycrdt.create_sync_message(doc)
    assert write_frame(SyncUpdate(doc.get_update())) == pycrdt.create_update_message(doc.get_update())
    assert read_state_vector(doc.get_state()) == {7: 1}


def test_awareness_is_that_of_pycrdt() -> None:
    awareness = pycrdt.Awareness(pycrdt.Doc(client_id=9))
    awareness.set_local_state({"user": {"name": "Zoë"}})
    frame = bytes((1,)) + pycrdt.write_message(awareness.encode_awareness_update([9]))
    message = read_frame(frame)
    assert isinstance(message, AwarenessUpdate)
    assert [(state.client, state.state) for state in message.states] == [(9, {"user": {"name": "Zoë"}})]


@pytest.mark.parametrize("text", ["NaN", '{"x":Infinity}', "[1]", "3", "{", "[" * 5000])
def test_an_awareness_state_that_browsers_cannot_read_is_refused(text: str) -> None:
    payload = bytes((1, 5, 1)) + pycrdt.write_message(text.encode())
    with pytest.raises(MalformedFrame):
        read_frame(bytes((1,)) + pycrdt.write_message(payload))


def _spelled(*entries: tuple[int, bytes]) -> bytes:
    body = varuint(len(entries)) + b"".join(varuint(c) + b"\x05" + varuint(len(text)) + text for c, text in entries)
    return b"\x01" + varuint(len(body)) + body


@given(st.lists(states, max_size=6), numbers)
def test_of_what_a_client_sends_a_server_reads_its_own_newest_state(sent: list[AwarenessState], sender: int) -> None:
    own = [one for one in sent if one.client == sender]
    frame = write_frame(AwarenessUpdate(tuple(sent)))
    assert read_sent_frame(frame, sender) == AwarenessUpdate(tuple(own[-1:]))
    assert read_sent_frame(frame, None) == read_frame(frame)


@given(messages)
def test_what_is_no_presence_is_the_same_to_a_server(message: Message) -> None:
    if not isinstance(message, AwarenessUpdate):
        assert read_sent_frame(write_frame(message), 7) == message


def test_g2_of_thousands_of_states_those_of_others_are_passed_over_unread() -> None:
    others = [(client, b"{never read}") for client in range(100, 9_000)]
    frame = _spelled(*others, (7, b'{"a":1}'))
    assert read_sent_frame(frame, 7) == AwarenessUpdate((AwarenessState(7, 5, {"a": 1}),))
    with pytest.raises(MalformedFrame):
        read_frame(frame)


def test_g2_a_state_too_large_to_be_shown_is_not_read() -> None:
    assert read_sent_frame(_spelled((7, b"{" + bytes(MAX_OWN_STATE) + b"}")), 7) == AwarenessUpdate(())


def test_g2_who_has_not_said_which_client_it_is_is_heard_for_a_frames_worth() -> None:
    frame = _spelled(*((client, b"{}") for client in range(1, 2_000)))
    read = read_sent_frame(frame, None)
    assert isinstance(read, AwarenessUpdate)
    assert [state.client for state in read.states] == list(range(1, FIRST_STATES + 1))


@pytest.mark.parametrize(
    "frame",
    [
        b"\x01\x02\x01\x09",
        b"\x01\x05\x01\x09\x05\x40\x7b",
        b"\x01\x05\x01\x09\x05\x01x",
        b"\x01\x06\x01\x09\x05\x02{{",
    ],
    ids=["no length", "too short", "no object", "no end"],
)
def test_presence_of_others_that_does_not_hold_together_is_malformed(frame: bytes) -> None:
    with pytest.raises(MalformedFrame):
        read_sent_frame(frame, 7)


@given(st.binary(max_size=40) | st.dictionaries(numbers, numbers).map(write_state_vector))
def test_a_state_vector_reads_the_same_in_one_go_and_number_by_number(data: bytes) -> None:
    def told(read: Callable[[], dict[int, int]]) -> object:
        try:
            return read()
        except MalformedFrame as error:
            return str(error)

    assert told(lambda: read_state_vector(data)) == told(lambda: sync._read_clocks(sync.Cursor(data)))


def test_g2_a_state_vector_of_one_endless_number_ends_at_once() -> None:
    with pytest.raises(MalformedFrame):
        read_state_vector(b"\xff" * (1 << 20))

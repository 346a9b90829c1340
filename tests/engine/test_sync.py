"""The frames of the sync protocol: total reading, exact round trips, agreement with pycrdt's own helpers."""

from __future__ import annotations

import pycrdt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.engine.errors import MalformedFrame
from maquette.engine.sync import (
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
    read_state_vector,
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

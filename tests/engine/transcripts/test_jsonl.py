"""Reading and writing chat history as JSON Lines."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.engine.ids import is_id
from maquette.engine.transcripts.jsonl import (
    LAST_TIME,
    LINE_LIMIT,
    Numbered,
    Record,
    own_id,
    read_jsonl,
    write_jsonl,
)
from maquette.engine.transcripts.lines import BadLine

GOOD = {"id": "m1", "author": "a1", "sent": 1118536260000, "body": "hello"}


def read(*lines: bytes) -> list[Numbered | BadLine]:
    return list(read_jsonl(BytesIO(b"\n".join(lines))))


def record(**fields: Any) -> Record:
    [only] = read(json.dumps(GOOD | fields).encode())
    assert isinstance(only, Numbered), only
    return only.record


def bad(line: bytes) -> str:
    [only] = read(line)
    assert isinstance(only, BadLine)
    return str(only)


def test_the_least_record_is_read() -> None:
    assert record() == Record("m1", "a1", 1118536260000, "hello")


def test_every_field_is_read() -> None:
    full = record(
        name="Ann",
        thread="m0",
        edited=5,
        deleted={"by": "a3", "at": 6},
        notice=True,
        mentions=["a2"],
        attachments=[{"asset": "x"}],
        reactions={"👍": ["a2", "a3"]},
        source="elsewhere",
    )
    assert full == Record(
        "m1",
        "a1",
        1118536260000,
        "hello",
        name="Ann",
        thread="m0",
        edited=5,
        deleted=("a3", 6),
        notice=True,
        mentions=("a2",),
        attachments=({"asset": "x"},),
        reactions={"👍": ("a2", "a3")},
        extras={"source": "elsewhere"},
    )


@pytest.mark.parametrize("when", ["2005-06-12T00:31:00Z", "2005-06-12T02:31:00.0+02:00", 1118536260000])
def test_a_time_is_milliseconds_or_iso_8601(when: Any) -> None:
    line = {"id": "m1", "author": "a1", "time": when, "body": ""}
    [only] = read(json.dumps(line).encode())
    assert isinstance(only, Numbered)
    assert only.record.sent == 1118536260000


def test_blank_lines_count_but_are_left_out() -> None:
    [only] = read(b"", b" ", json.dumps(GOOD).encode(), b"")
    assert only == Numbered(3, record())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": ""}, "expected `id` to be 1 to 256 characters, got 0"),
        ({"author": "a" * 257}, "expected `author` to be 1 to 256 characters, got 257"),
        ({"author": None}, "expected `author` to be a string, got None"),
        ({"body": 5}, "expected `body` to be a string, got 5"),
        ({"body": "\ud800"}, "expected `body` to be text, got half a surrogate pair at character 0"),
        ({"sent": "2005-06-12T00:31:00"}, "a time with its offset from UTC, got '2005-06-12T00:31:00'"),
        ({"sent": "yesterday"}, "expected `sent` to be an ISO 8601 time, got 'yesterday'"),
        ({"sent": 1.5}, "expected `sent` to be milliseconds since 1970 or an ISO 8601 time, got 1.5"),
        ({"sent": True}, "expected `sent` to be milliseconds since 1970 or an ISO 8601 time, got True"),
        ({"sent": -1}, "expected `sent` to be milliseconds since 1970 or an ISO 8601 time, got -1"),
        ({"sent": LAST_TIME + 1}, "expected `sent` to be milliseconds since 1970"),
        ({"time": 1}, "expected either `sent` or `time`, got both"),
        ({"notice": 1}, "expected `notice` to be true or false, got 1"),
        ({"mentions": "a2"}, "expected `mentions` to be an array, got 'a2'"),
        ({"reactions": ["👍"]}, "expected `reactions` to be an object of emoji and arrays of actors, got ['👍']"),
        ({"reactions": {"👍": [1]}}, "expected `reactions` to be a string, got 1"),
        ({"deleted": {"by": "a"}}, "expected `deleted` to be an object of `by` and `at`, got {'by': 'a'}"),
    ],
)
def test_a_field_that_is_not_as_it_must_be_is_named(fields: dict[str, Any], message: str) -> None:
    assert message in bad(json.dumps(GOOD | fields).encode())


@pytest.mark.parametrize("name", ["id", "author", "body", "sent"])
def test_a_field_that_is_missing_is_named(name: str) -> None:
    line = {field: value for field, value in GOOD.items() if field != name}
    assert bad(json.dumps(line).encode()) == f"line 1: expected a field `{name}`, got none"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "expected a JSON object, got '{'"),
        (b"[1]", "expected a JSON object, got [1]"),
        (b'{"sent": NaN}', "expected numbers that JSON knows, got NaN"),
        (b'{"sent": -Infinity}', "expected numbers that JSON knows, got -Infinity"),
        (b'{"id": "a", "id": "b"}', "expected each field once, got 'id' twice"),
        (b'{"id": "\xff"}', "expected UTF-8, got byte 0xff at offset 8"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"sent": ' + b"9" * 5000 + b"}", "expected a JSON object"),
    ],
)
def test_a_line_that_is_no_json_object_is_refused(line: bytes, message: str) -> None:
    assert message in bad(line)


def test_a_bad_line_does_not_stop_the_next() -> None:
    first, second = read(b"{", json.dumps(GOOD).encode())
    assert isinstance(first, BadLine)
    assert second == Numbered(2, record())


def test_a_line_above_the_limit_is_refused() -> None:
    line = json.dumps(GOOD | {"body": "x" * LINE_LIMIT}).encode()
    assert bad(line) == f"line 1: expected at most {LINE_LIMIT} bytes, got {len(line)}"


@given(st.binary(max_size=80).filter(lambda line: b"\n" not in line and line.strip(b"\xef\xbb\xbf \t\r\v\f")))
def test_any_line_is_answered(line: bytes) -> None:
    assert len(read(line)) == 1


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
name = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
time = st.integers(0, LAST_TIME)
plain = st.recursive(st.none() | st.booleans() | st.integers() | text, lambda x: st.lists(x, max_size=3), max_leaves=5)
records = st.builds(
    Record,
    name,
    name,
    time,
    text,
    name=st.none() | name,
    thread=st.none() | name,
    edited=st.none() | time,
    deleted=st.none() | st.tuples(name, time),
    notice=st.booleans(),
    mentions=st.lists(name, max_size=3).map(tuple),
    attachments=st.lists(plain, max_size=2).map(tuple),
    reactions=st.dictionaries(name, st.lists(name, min_size=1, max_size=3).map(tuple), max_size=3),
    extras=st.dictionaries(text.map("x-{}".format), plain, max_size=2),
)


@given(st.lists(records, max_size=4))
def test_what_is_written_is_read_back_equal(history: list[Record]) -> None:
    lines = list(write_jsonl(history))
    assert all(line.count(b"\n") == 1 for line in lines)
    back = list(read_jsonl(BytesIO(b"".join(lines))))
    assert back == [Numbered(number, one) for number, one in enumerate(history, 1)]


def test_an_id_of_ours_is_kept_and_a_foreign_one_always_gives_the_same() -> None:
    assert own_id("m1") == "m1"
    assert own_id("$event:matrix.org") == own_id("$event:matrix.org")
    assert own_id("1512085950.000216") != own_id("1512085950.000217")


@given(name)
def test_a_foreign_id_becomes_one_that_the_gate_admits(foreign: str) -> None:
    assert is_id(own_id(foreign))

"""Reading IRC logs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.engine.errors import InvalidInput
from maquette.engine.transcripts.irc import LINE_LIMIT, Line, day_in_name, read_irc
from maquette.engine.transcripts.lines import BadLine

DAY = date(2005, 6, 12)
DAYS = ["ubuntu-irc-2005-06-12.txt", "ubuntu-irc-2008-04-27.txt"]


def read(*content: bytes) -> list[Line | BadLine]:
    return list(read_irc(BytesIO(b"\n".join(content)), DAY))


def line(content: bytes) -> Line:
    [only] = read(content)
    assert isinstance(only, Line)
    return only


def at(day: int, hour: int, minute: int, second: int = 0) -> int:
    return int(datetime(2005, 6, day, hour, minute, second, tzinfo=UTC).timestamp() * 1000)


def times(*clocks: str) -> list[int]:
    content = [f"[{clock}] <ann> x".encode() for clock in clocks]
    return [one.time for one in read(*content) if isinstance(one, Line)]


def test_a_message_has_nick_text_and_time() -> None:
    assert line(b"[14:05] <ann>  two  spaces ") == Line(1, at(12, 14, 5), "message", "ann", " two  spaces ")


@pytest.mark.parametrize("nick", ["@ann", "+ann", " ann", "ann "])
def test_the_status_and_padding_of_a_nick_are_left_out(nick: str) -> None:
    assert line(f"[14:05] <{nick}> hello".encode()).nick == "ann"


def test_an_empty_message_is_a_message() -> None:
    assert line(b"[14:05] <ann>").text == ""


def test_seconds_are_kept() -> None:
    assert line(b"[14:05:09] <ann> x").time == at(12, 14, 5, 9)


def test_an_action_has_who_and_what() -> None:
    action = line(b"[14:05]  * ann waves at <bob>")
    assert (action.kind, action.nick, action.text) == ("action", "ann", "waves at <bob>")


def test_a_notice_by_somebody_has_its_nick() -> None:
    notice = line(b"[14:05] -bot- be nice")
    assert (notice.kind, notice.nick, notice.text) == ("notice", "bot", "be nice")


def test_a_join_keeps_the_address_apart_from_the_text() -> None:
    join = line(b"=== ann [[H] -8@58.10.69.123]  has joined #ubuntu")
    assert (join.kind, join.nick, join.text, join.host) == ("join", "ann", "has joined #ubuntu", "[H] -8@58.10.69.123")


@pytest.mark.parametrize("how", ["has left #ubuntu [bye]", 'has quit ["bye"]'])
def test_a_part_says_how(how: str) -> None:
    part = line(f"=== ann [a@b]  {how}".encode())
    assert (part.kind, part.nick, part.text) == ("part", "ann", how)


def test_a_rename_has_both_nicks() -> None:
    rename = line(b"=== ann is now known as ann|away")
    assert (rename.kind, rename.nick, rename.new_nick) == ("rename", "ann", "ann|away")


def test_a_known_nick_acts_and_an_unknown_word_is_a_notice() -> None:
    lines = read(b"[14:05] <ann> hi", b"=== ann waves", b"=== Topic for #ubuntu is support")
    assert [(x.kind, x.nick, x.text) for x in lines if isinstance(x, Line)] == [
        ("message", "ann", "hi"),
        ("action", "ann", "waves"),
        ("notice", None, "Topic for #ubuntu is support"),
    ]


def test_a_renamed_nick_is_known() -> None:
    lines = read(b"=== ann is now known as eve", b"=== eve waves")
    assert [x.kind for x in lines if isinstance(x, Line)] == ["rename", "action"]


@pytest.mark.parametrize("content", [b"hello", b"[25:00] <ann> x", b"[14:60] <ann> x", b"[14:05] hello", b"\x89PNG\r"])
def test_a_line_of_no_known_form_is_named_and_the_next_is_read(content: bytes) -> None:
    first, second, third = read(b"[14:05] <ann> one", content, b"[14:06] <ann> two")
    assert isinstance(first, Line)
    assert isinstance(second, BadLine)
    assert str(second).startswith("line 2: expected `[hh:mm] <nick> text`")
    assert isinstance(third, Line)


def test_a_blank_line_is_blank() -> None:
    assert [x.kind for x in read(b"[14:05] <ann> x", b"", b"=== a") if isinstance(x, Line)] == [
        "message",
        "blank",
        "notice",
    ]


def test_the_mark_and_line_ends_of_windows_are_left_out() -> None:
    lines = read(b"\xef\xbb\xbf[14:05] <ann> x\r", b"[14:05] <ann> y\r", b"")
    assert [x.text for x in lines if isinstance(x, Line)] == ["x", "y"]


def test_a_line_without_a_time_has_that_of_the_line_before() -> None:
    lines = read(b"=== early", b"[14:05] <ann> x", b"=== late")
    assert [x.time for x in lines if isinstance(x, Line)] == [at(12, 0, 0), at(12, 14, 5), at(12, 14, 5)]


def test_midnight_begins_the_next_day() -> None:
    assert times("23:58", "00:01", "23:59", "00:00") == [at(12, 23, 58), at(13, 0, 1), at(13, 23, 59), at(14, 0, 0)]


def test_a_clock_that_is_set_back_stays_on_its_day() -> None:
    assert times("03:10", "02:59", "03:20") == [at(12, 3, 10), at(12, 2, 59), at(12, 3, 20)]


def test_times_are_read_in_the_zone_that_is_given() -> None:
    [one] = read_irc(BytesIO(b"[14:05] <ann> x"), DAY, timezone(timedelta(hours=2)))
    assert isinstance(one, Line)
    assert one.time == at(12, 12, 5)


def test_midnight_is_found_in_a_zone_with_summer_time() -> None:
    lines = list(read_irc(BytesIO(b"[23:59] <a> x\n[00:01] <a> y"), date(2005, 3, 26), ZoneInfo("Europe/Berlin")))
    first, second = (x.time for x in lines if isinstance(x, Line))
    assert second - first == 120_000


@pytest.mark.parametrize(
    ("content", "text", "encoding"),
    [(b"gr\xc3\xbcn", "grün", "utf-8"), (b"gr\xfcn \x80", "grün €", "cp1252"), (b"\xfc\x81", "ü\x81", "latin-1")],
)
def test_bytes_that_are_not_utf8_are_read_and_counted(content: bytes, text: str, encoding: str) -> None:
    one = line(b"[14:05] <ann> " + content)
    assert (one.text, one.encoding) == (text, encoding)


@given(st.binary(max_size=60).filter(lambda content: b"\n" not in content and not content.endswith(b"\r")))
def test_no_byte_of_a_message_is_lost(content: bytes) -> None:
    one = line(b"[14:05] <ann> " + content)
    assert one.text.encode(one.encoding) == content


@given(st.lists(st.binary(max_size=40).map(lambda content: content.replace(b"\n", b"")), max_size=20))
def test_any_file_is_answered_line_by_line(contents: list[bytes]) -> None:
    file = b"".join(content + b"\n" for content in contents)
    assert [x.number for x in read_irc(BytesIO(file), DAY)] == list(range(1, len(contents) + 1))


class Endless(BytesIO):
    """A file of one line that never ends, which counts what was asked of it at once."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.left = size
        self.largest = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size > 0, "a whole line was asked for"
        self.largest = max(self.largest, size)
        size = min(size, self.left)
        self.left -= size
        return b"x" * size


def test_a_line_without_end_is_refused_and_never_held_whole() -> None:
    file = Endless(50 * LINE_LIMIT)
    [bad] = read_irc(file, DAY)
    assert str(bad) == f"line 1: expected at most {LINE_LIMIT} bytes, got {50 * LINE_LIMIT}"
    assert file.largest <= LINE_LIMIT + 2


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize(("extra", "kinds"), [(0, Line), (1, BadLine)])
def test_the_limit_of_a_line_is_exact(end: bytes, extra: int, kinds: type) -> None:
    head = b"[14:05] <ann> "
    content = head + b"x" * (LINE_LIMIT - len(head) + extra) + end + b"[14:05] <ann> y" * bool(end)
    lines = list(read_irc(BytesIO(content), DAY))
    assert isinstance(lines[0], kinds)
    assert all(isinstance(x, Line) and x.text == "y" for x in lines[1:])


@pytest.mark.parametrize("name", ["ubuntu-irc-2005-06-12.txt", "/logs/#c-2005-06-12", "2005-06-12.log.txt"])
def test_the_day_is_in_the_name(name: str) -> None:
    assert day_in_name(name) == DAY


@pytest.mark.parametrize("name", ["irc.txt", "irc-2005-02-31.txt", "2005-06-12-a.txt"])
def test_a_name_without_a_day_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="-YYYY-MM-DD"):
        day_in_name(name)


@pytest.fixture(params=DAYS)
def real_day(real_data: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, BinaryIO]]:
    path = real_data / "chat" / request.param
    with path.open("rb") as file:
        yield path, file


def test_every_line_of_a_real_day_is_accounted_for(real_day: tuple[Path, BinaryIO]) -> None:
    path, file = real_day
    written = path.read_bytes().splitlines()
    found = Counter(x.kind if isinstance(x, Line) else "bad" for x in read_irc(file, day_in_name(path.name)))
    assert found.total() == len(written)
    assert found["bad"] == found["blank"] == 0
    assert found["message"] == sum(re.match(rb"\[\d\d:\d\d\] <", one) is not None for one in written)
    assert found["rename"] == sum(b" is now known as " in one for one in written if one.startswith(b"==="))
    assert found["join"] == sum(b" has joined #" in one for one in written if one.startswith(b"==="))


def test_every_byte_of_a_real_day_is_in_its_line(real_day: tuple[Path, BinaryIO]) -> None:
    path, file = real_day
    for content, one in zip(path.read_bytes().splitlines(), read_irc(file, DAY), strict=True):
        assert isinstance(one, Line)
        parts = [part.encode(one.encoding) for part in (one.nick, one.host, one.text) if part]
        assert sum(map(len, parts)) >= len(content) - len(b"[00:00] <> ") - 4
        assert all(part in content for part in parts if one.kind != "rename")


def test_the_times_of_a_real_day_rise_within_that_day(real_day: tuple[Path, BinaryIO]) -> None:
    path, file = real_day
    day = day_in_name(path.name)
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
    found = [x.time for x in read_irc(file, day) if isinstance(x, Line)]
    assert found == sorted(found)
    assert start <= found[0] < found[-1] < start + 86_400_000

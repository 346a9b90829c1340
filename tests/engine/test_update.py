"""The reader: what is well-formed, what is not, and what rewriting keeps."""

from __future__ import annotations

import time
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from pycrdt import Doc, Map
from tests.support.crowd import MARK, Crowd
from tests.support.wire import (
    NULL,
    ONE,
    deleted,
    gc,
    group,
    item,
    number,
    plain,
    shared,
    skip,
    string,
    text,
    update,
)

from maquette.engine.errors import InvalidInput, LimitExceeded, MalformedUpdate
from maquette.engine.update import Content, Limits, Update, blank, cut, merge, new_registers, read_update


def sample_updates(seed: int, steps: int) -> list[bytes]:
    crowd = Crowd(seed)
    return [data for _ in range(steps) for data in crowd.step()]


def only(data: bytes) -> Any:
    [[struct]] = read_update(data).structs.values()
    return struct


# --- reading -----------------------------------------------------------------------------------------------------


def test_reads_what_pycrdt_writes_and_writes_the_same_bytes() -> None:
    doc: Doc[Map[object]] = Doc(client_id=11)
    nodes = doc.get("nodes", type=Map)
    nodes["chair"] = Map({"name": "Chair"})
    data = doc.get_update()
    read = read_update(data)
    assert [(struct.id, struct.parent, struct.key, struct.content) for struct in read.structs[11]] == [
        ((11, 0), "nodes", "chair", Content.TYPE),
        ((11, 1), (11, 0), "name", Content.ANY),
    ]
    assert read.structs[11][1].value() == ["Chair"]
    assert read.encode() == data


@pytest.mark.parametrize(
    ("struct", "content", "length", "value"),
    [
        (gc(7), Content.GC, 7, None),
        (skip(9), Content.SKIP, 9, None),
        (deleted(300, parent="r"), Content.DELETED, 300, None),
        (item(2, b"\2" + string('{"a":[1]}') + string("undefined"), parent="r"), Content.JSON, 2, [{"a": [1]}, None]),
        (item(3, b"\2\xff\0", parent="r"), Content.BINARY, 1, b"\xff\0"),
        (text("a😀é", parent="r"), Content.STRING, 4, "a😀é"),
        (item(5, string('{"image":"x"}'), parent="r"), Content.EMBED, 1, {"image": "x"}),
        (item(6, string("bold") + string("true"), parent="r"), Content.FORMAT, 1, ("bold", True)),
        (shared(1, parent="r", key="k"), Content.TYPE, 1, 1),
        (shared(3, string("p"), parent="r"), Content.TYPE, 1, 3),
        (item(9, string("guid") + b"\x76\0", parent="r"), Content.DOC, 1, ("guid", {})),
    ],
)
def test_reads_each_content(struct: bytes, content: Content, length: int, value: object) -> None:
    data = update(group(5, 0, struct))
    read = only(data)
    assert (read.content, read.length, read.value()) == (content, length, value)
    assert read_update(data).encode() == data


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        (b"\x7f", None),
        (b"\x7e", None),
        (b"\x7d\x3f", 63),
        (b"\x7d\x41", -1),
        (b"\x7d\x80\x01", 64),
        (b"\x7d\xc0\x01", -64),
        (b"\x7c\x3f\x80\0\0", 1.0),
        (b"\x7b\x3f\xf8\0\0\0\0\0\0", 1.5),
        (b"\x7a\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
        (b"\x79", False),
        (b"\x78", True),
        (b"\x77\x02hi", "hi"),
        (b"\x76\x01\x01k\x75\x01\x7e", {"k": [None]}),
        (b"\x74\x02\0\xff", b"\0\xff"),
    ],
)
def test_reads_each_plain_value(encoded: bytes, value: object) -> None:
    read = only(update(group(5, 0, plain(encoded, parent="r")))).value()[0]
    assert read == value
    assert type(read) is type(value)


def test_an_origin_hides_the_parent_and_its_key() -> None:
    data = update(group(5, 0, plain(ONE, parent="m", key="k"), plain(ONE, origin=(5, 0), key="implied")))
    first, second = read_update(data).structs[5]
    assert (first.parent, first.key) == ("m", "k")
    assert (second.origin, second.parent, second.key) == ((5, 0), None, None)


def test_deletes_are_sorted_and_joined() -> None:
    read = read_update(update(deletes={5: [(8, 2), (0, 3), (3, 1), (9, 5)], 6: [(1, 0)]}))
    assert read.deletes == {5: [(0, 4), (8, 6)]}
    assert read_update(read.encode()).deletes == read.deletes


@pytest.mark.parametrize("seed", range(20))
def test_long_delete_sets_are_read_as_short_ones_are(seed: int) -> None:
    random = Random(seed)
    space = random.choice((4_000, 10**6))
    ranges = [(random.randrange(space), random.randint(0, 30)) for _ in range(400)]
    if seed % 2:
        ranges = [(start * 40, length + 1) for start, (_, length) in enumerate(ranges)]
    read = read_update(update(deletes={7: ranges, 9: [(3, 1)]}))
    covered = [clock for start, length in read.deletes[7] for clock in range(start, start + length)]
    assert covered == sorted({clock for start, length in ranges for clock in range(start, start + length)})
    assert all(start + length < after for (start, length), (after, _) in pairwise(read.deletes[7]))
    assert read.deletes[9] == [(3, 1)]
    assert read_update(read.encode()).deletes == read.deletes


def test_an_update_without_anything_is_empty() -> None:
    assert read_update(b"\0\0").is_empty
    assert read_update(update(b"\0\5\0")).is_empty
    assert not read_update(update(deletes={1: [(0, 1)]})).is_empty


# --- what is malformed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0\0\0",
        update(group(5, 0, gc(0))),
        update(group(5, 0, text("", parent="r"))),
        update(group(5, 0, plain(parent="r"))),
        update(group(5, 0, b"\x80\1")),
        update(group(5, 0, item(11, b"\1", parent="r"))),
        update(group(5, 0, b"\x08\x02\x01r\x01\x7e")),
        update(group(5, 0, plain(b"\x73", parent="r"))),
        update(group(5, 0, plain(b"\x7d\x80\0", parent="r"))),
        update(group(5, 0, text("x", parent="r")), group(5, 1, text("x", parent="r"))),
        update(group(5, 0, text("x", parent="r"), text("x", origin=(5, 1)))),
        update(group(5, 0, text("x", parent="r"), text("x", right=(5, 9)))),
        update(group(5, 0, shared(1, parent=(5, 0), key="k"))),
        update(group(5, 0, shared(5, parent="r"))),
        update(group(5, 0, shared(5, string("hook"), parent="r"))),
        update(group(5, 0, shared(7, parent="r"))),
        update(group(5, 0, item(4, b"\2\xff\xff", parent="r"))),
        update(group(5, 0, item(4, b"\3\xed\xa0\x80", parent="r"))),
        update(group(5, 0, item(5, string("{"), parent="r"))),
        update(group(5, 0, item(5, string("NaN"), parent="r"))),
        update(group(5, 0, item(5, string('"\\ud800"'), parent="r"))),
        update(group(5, 0, item(5, string("9" * 5000), parent="r"))),
        b"\x01\x01\x85\x00\x00\x00\x01\x00",
        b"\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00",
        b"\x00" + b"\xff" * 600 + b"\x01",
        b"\x00\x02\x05\x01\x00\x01\x05\x01\x05\x01",
    ],
)
def test_g1_malformed_bytes_are_named(data: bytes) -> None:
    with pytest.raises(MalformedUpdate, match=r"expected .* got "):
        read_update(data)


@pytest.mark.parametrize(
    ("limit", "data"),
    [
        ("bytes", bytes(2000)),
        ("structs", update(number(2**40) + b"\5\0")),
        ("clients", number(2**40)),
        ("clients", update(*(group(client, 0, gc(1)) for client in range(51)))),
        ("deletes", update(deletes={5: [(2 * n, 1) for n in range(300)]})),
        ("depth", update(group(5, 0, plain(b"\x75\x01" * 12 + NULL, parent="r")))),
        ("depth", update(group(5, 0, item(5, string("[" * 12 + "]" * 12), parent="r")))),
        ("key", update(group(5, 0, plain(ONE, parent="m", key="k" * 99)))),
        ("key", update(group(5, 0, plain(ONE, parent="m" * 99)))),
        ("string", update(group(5, 0, text("x" * 700, parent="m")))),
        ("string", update(group(5, 0, item(3, number(2**40), parent="m")))),
        ("clock", update(group(5, 0, gc(2**40)))),
        ("clock", update(group(5, 2**40, gc(1)))),
        ("clock", update(group(5, 0, text("x", origin=(6, 2**40))))),
        ("clock", update(deletes={5: [(0, 2**40)]})),
    ],
)
def test_g2_each_limit_is_named_with_what_it_allows_and_what_came(limit: str, data: bytes) -> None:
    limits = Limits(bytes=1500, structs=100, clients=50, deletes=200, depth=10, key=50, string=600)
    with pytest.raises(LimitExceeded) as caught:
        read_update(data, limits)
    assert caught.value.limit == limit
    assert caught.value.actual > caught.value.expected


def test_g1_nesting_that_overflows_pycrdts_stack_is_refused() -> None:
    for nested in (b"\x75\x01" * 30_000 + NULL, b"\x76\x01\x00" * 30_000 + NULL):
        with pytest.raises(LimitExceeded, match="depth"):
            read_update(update(group(5, 0, plain(nested, parent="m", key="k"))))
    with pytest.raises(LimitExceeded, match="depth"):
        read_update(update(group(5, 0, item(5, string("[" * 100_000 + "]" * 100_000), parent="r"))))


def test_nesting_up_to_the_limit_is_read() -> None:
    limits = Limits(depth=10)
    assert read_update(update(group(5, 0, plain(b"\x75\x01" * 10 + NULL, parent="r"))), limits).structs
    assert read_update(update(group(5, 0, item(5, string("[" * 10 + "]" * 10), parent="r"))), limits).structs


def read_or_refuse(data: bytes) -> Update | None:
    try:
        return read_update(data)
    except (MalformedUpdate, LimitExceeded):
        return None


def test_g1_every_prefix_of_an_update_is_refused() -> None:
    for data in [data for data in sample_updates(1, 40) if len(data) < 2000]:
        for end in range(len(data)):
            assert read_or_refuse(data[:end]) is None


def test_g1_no_mutation_raises_anything_else_or_takes_long() -> None:
    random = Random(20)
    read = 0
    for data in sample_updates(2, 60):
        for _ in range(120):
            mutant = bytearray(data)
            for _ in range(random.choice((1, 1, 2, 5))):
                mutant[random.randrange(len(mutant))] = random.choice((0, 1, 127, 128, 255, random.randrange(256)))
            started = time.perf_counter()
            update = read_or_refuse(bytes(mutant))
            assert time.perf_counter() - started < 2
            if update is not None:
                read += 1
                assert read_update(update.encode()).encode() == update.encode()
    assert read > 100


# --- rewriting ---------------------------------------------------------------------------------------------------


def test_l8_the_blank_form_keeps_ids_places_and_deletes_and_no_content() -> None:
    data = update(
        group(
            5,
            0,
            shared(1, parent="nodes", key="chair"),
            plain(b"\x77\x06secret", parent=(5, 0), key="name"),
            plain(b"\x77\x06secret", b"\x77\x06secret", origin=(5, 1), right=(9, 4)),
            text("secret😀", parent="t"),
            gc(3),
            item(6, string("link") + string('"secret"'), origin=(5, 5)),
        ),
        deletes={9: [(1, 2)]},
    )
    read = read_update(data)
    empty = blank(read)
    assert b"secret" not in empty.encode()
    assert b"link" not in empty.encode()
    places = [
        [
            (struct.id, struct.length, struct.origin, struct.right_origin, struct.parent, struct.key)
            for struct in structs
        ]
        for structs in (read.structs[5], empty.structs[5])
    ]
    assert places[0] == places[1]
    assert {struct.content for struct in empty.structs[5]} == {Content.DELETED, Content.GC}
    assert empty.deletes == {9: [(1, 2)]}
    again = read_update(empty.encode())
    assert [struct.id for struct in again.structs[5]] == [struct.id for struct in read.structs[5]]
    assert blank(again).encode() == empty.encode()


def test_d4_structs_of_others_are_cut_out_and_named() -> None:
    data = update(group(9, 0, text("x", parent="t")), group(5, 0, text("y", parent="t")), deletes={9: [(0, 1)]})
    kept, lost = cut(read_update(data), lambda client: client == 5)
    assert lost == {9}
    assert kept.encode() == update(group(5, 0, text("y", parent="t")), deletes={9: [(0, 1)]})


def test_d4_nothing_is_cut_when_all_is_ones_own() -> None:
    read = read_update(update(group(5, 0, text("y", parent="t"))))
    assert cut(read, lambda client: True) == (read, set())


def test_merge_joins_structs_and_deletes() -> None:
    first = read_update(update(group(5, 0, text("ab", parent="t")), deletes={1: [(0, 2)], 2: [(7, 1)]}))
    second = read_update(
        update(group(9, 4, text("s", parent="t")), group(5, 2, text("c", origin=(5, 1))), deletes={1: [(2, 2)]})
    )
    assert merge(first, second).encode() == update(
        group(9, 4, text("s", parent="t")),
        group(5, 0, text("ab", parent="t"), text("c", origin=(5, 1))),
        deletes={2: [(7, 1)], 1: [(0, 4)]},
    )


@pytest.mark.parametrize("client", [4, 2**32 - 9])
def test_new_registers_beside_an_update_are_what_pycrdt_reads(client: int) -> None:
    doc: Doc[Any] = Doc(client_id=2**20)
    nodes = doc.get("nodes", type=Map)
    nodes["a"] = "gone"
    nodes["a"] = Map({"name": "Chair"})
    made = read_update(doc.get_update())
    numbers = [[1, 1_800_000_000_000], [0, 2**24 + 1, 2**53 - 1]]
    added = new_registers(client, 0, [((2**20, 1), "stamp", numbers[0]), ((2**20, 1), "x", numbers[1])])
    both = merge(made, added)
    assert both.encode() == Update(both.structs, both.ranges).encode()
    assert read_update(both.encode()).structs[client][1].value() == [numbers[1]]
    doc.apply_update(both.encode())
    assert nodes["a"].to_py() == {"name": "Chair", "stamp": numbers[0], "x": numbers[1]}
    assert doc.get_update() == both.encode()


def test_merge_refuses_a_gap_and_an_overlap() -> None:
    first = read_update(update(group(5, 0, text("ab", parent="t"))))
    for clock in (1, 3):
        with pytest.raises(InvalidInput, match="expected the second update to go on at clock 2"):
            merge(first, read_update(update(group(5, clock, text("c", parent="t")))))


@pytest.mark.parametrize(
    ("struct", "clock", "rest"),
    [
        (text("abcd", parent="t"), 12, text("cd", origin=(5, 11))),
        (text("a😀b", right=(9, 1)), 13, text("b", origin=(5, 12), right=(9, 1))),
        (text("a😀b", parent="t"), 12, text("\ufffdb", origin=(5, 11))),
        (plain(b"\x75\x01\x7e", ONE, b"\x77\x02hi", parent="l"), 11, plain(ONE, b"\x77\x02hi", origin=(5, 10))),
        (item(2, b"\2" + string("1") + string("[2]"), parent="l"), 11, item(2, b"\1" + string("[2]"), origin=(5, 10))),
        (deleted(9, parent="m", key="k"), 13, deleted(6, origin=(5, 12), key="k")),
        (gc(9), 13, gc(6)),
        (skip(9), 13, skip(6)),
    ],
)
def test_a_struct_is_split_as_yjs_splits_it(struct: bytes, clock: int, rest: bytes) -> None:
    read = only(update(group(5, 10, struct)))
    assert read.behind(clock).encode() == rest


def test_no_content_of_random_edits_is_left_in_their_blank_form() -> None:
    marked = 0
    for data in sample_updates(3, 80):
        read = read_update(data)
        marked += MARK.encode() in read.encode()
        assert MARK.encode() not in blank(read).encode()
    assert marked > 20

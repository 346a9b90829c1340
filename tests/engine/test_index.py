"""The index: what is new, what is missing, where items lie, and what does not fit."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import pytest
from tests.support.wire import (
    NULL,
    ONE,
    deleted,
    gc,
    group,
    item,
    plain,
    shared,
    skip,
    string,
    text,
    update,
)

from maquette.engine.errors import InvalidInput, MalformedUpdate
from maquette.engine.index import MAX_TYPE_DEPTH, Erased, Hole, Index
from maquette.engine.runs import Location
from maquette.engine.update import Content, Update, blank, read_update

NODE = group(5, 0, shared(1, parent="nodes", key="chair"), plain(NULL, parent=(5, 0), key="name"))


def index_of(*updates: bytes, roots: Mapping[str, int] | None = None) -> Index:
    index = Index(roots)
    for data in updates:
        read = read_update(data)
        assert index.trim(read) is read
        assert index.hole(read) is None
        index.add(read)
    return index


def hole(index: Index, data: bytes) -> Hole | None:
    return index.hole(index.trim(read_update(data)))


def misfit(index: Index, *groups: bytes, deletes: Mapping[int, Sequence[tuple[int, int]]] | None = None) -> str | None:
    read = index.trim(read_update(update(*groups, deletes=deletes)))
    return index.misfit(index.writes(read))


def places(index: Index, read: Update) -> list[tuple[object, object, object]]:
    return [(write.id, write.parent, write.key) for write in index.writes(read)]


# --- what is new (D2) --------------------------------------------------------------------------------------------


def test_d2_what_is_known_leaves_nothing() -> None:
    data = update(NODE, deletes={5: [(1, 1)]})
    assert index_of(data).trim(read_update(data)).is_empty


def test_d2_a_struct_that_is_partly_known_is_split() -> None:
    index = index_of(update(group(5, 0, text("ab", parent="t"))))
    trimmed = index.trim(read_update(update(group(5, 0, text("abcd", parent="t"), text("e", origin=(5, 3))))))
    assert trimmed.encode() == update(group(5, 2, text("cd", origin=(5, 1)), text("e", origin=(5, 3))))


def test_d2_only_new_deletions_are_left() -> None:
    index = index_of(update(group(5, 0, text("x" * 20, parent="t")), deletes={5: [(2, 3), (8, 2)]}))
    trimmed = index.trim(read_update(update(deletes={5: [(0, 4), (5, 1), (7, 6)]})))
    assert trimmed.deletes == {5: [(0, 2), (5, 1), (7, 1), (10, 3)]}


def test_d2_deleted_content_and_garbage_count_as_deleted() -> None:
    index = index_of(update(group(5, 0, deleted(4, parent="t"), gc(3))))
    assert index.trim(read_update(update(deletes={5: [(0, 7)]}))).is_empty


def test_d2_what_a_race_deleted_is_known_when_its_loser_comes_back() -> None:
    index = index_of(update(NODE))
    index.add(read_update(update(group(9, 0, plain(ONE, origin=(5, 1))))), deletes=update(deletes={5: [(1, 1)]})[1:])
    assert index.is_deleted((5, 1))
    assert index.trim(read_update(update(deletes={5: [(1, 1)]}))).is_empty


def test_d2_a_large_delete_set_that_is_known_costs_milliseconds() -> None:
    ranges = [(3 * n, 2) for n in range(20_000)]
    index = index_of(update(group(5, 0, gc(60_000)), deletes={5: ranges}))
    live = index_of(update(group(5, 0, text("x" * 60_000, parent="t")), deletes={5: ranges}))
    data = update(deletes={5: [*ranges[:-1], (59_997, 3)]})
    costs = []
    for _ in range(5):
        started = time.perf_counter()
        trimmed = live.trim(read_update(data))
        costs.append(time.perf_counter() - started)
        assert trimmed.deletes == {5: [(59_999, 1)]}
    assert index.trim(read_update(data)).is_empty
    assert min(costs) < 0.02, "ten times what it takes"


def test_d2_a_skip_over_known_clocks_brings_nothing_and_stops_nothing() -> None:
    index = index_of(update(group(5, 0, text("abc", parent="t"))))
    trimmed = index.trim(read_update(update(group(5, 0, skip(3), text("d", origin=(5, 2)), skip(4)))))
    assert trimmed.encode() == update(group(5, 3, text("d", origin=(5, 2))))
    assert index.hole(trimmed) is None


# --- holes (D3) --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (update(group(5, 3, text("x", parent="t"))), Hole(5, 2, "clock")),
        (update(group(5, 2, skip(2), text("x", parent="t"))), Hole(5, 2, "clock")),
        (update(group(6, 1, text("x", parent="t"))), Hole(6, 0, "clock")),
        (update(group(6, 0, text("x", origin=(5, 2)))), Hole(5, 2, "origin")),
        (update(group(6, 0, text("x", origin=(7, 0)))), Hole(7, 0, "origin")),
        (update(group(6, 0, text("x", right=(5, 2)))), Hole(5, 2, "right origin")),
        (update(group(6, 0, plain(ONE, parent=(5, 2), key="k"))), Hole(5, 2, "parent")),
        (update(deletes={5: [(0, 3)]}), Hole(5, 2, "deletion")),
        (update(deletes={7: [(0, 2**32 - 1)]}), Hole(7, 0, "deletion")),
        (update(group(6, 0, text("x", parent="t")), deletes={6: [(0, 2)]}), Hole(6, 1, "deletion")),
        (update(group(6, 0, text("x", parent="t")), group(5, 2, text("y", origin=(6, 1)))), Hole(6, 1, "origin")),
        (update(deletes={5: [(2 * n, 1) for n in range(300)]}), Hole(5, 2, "deletion")),
        (update(deletes={5: [(1, 2**31)]}), Hole(5, 2, "deletion")),
        (update(deletes={5: [(0, 1)], 6: [(0, 1)]}), Hole(6, 0, "deletion")),
    ],
)
def test_d3_a_hole_is_named(data: bytes, expected: Hole) -> None:
    assert hole(index_of(update(NODE)), data) == expected


@pytest.mark.parametrize("count", [1, 300])
def test_d3_a_deletion_that_is_known_up_to_its_end_is_a_hole(count: int) -> None:
    index = index_of(update(NODE), update(deletes={5: [(0, 1)]}))
    index.add(read_update(update(group(5, 2, text("x" * 2 * count, parent="t")))))
    ranges = [(2 * number, 1) for number in range(1, count)]
    known = index.clock(5)
    assert hole(index, update(deletes={5: [*ranges, (known - 2, 2)]})) is None
    assert hole(index, update(deletes={5: [*ranges, (known - 2, 3)]})) == Hole(5, known, "deletion")


@pytest.mark.parametrize(
    "data",
    [
        update(group(6, 0, plain(ONE, origin=(5, 1))), deletes={5: [(1, 1)], 6: [(0, 1)]}),
        update(group(6, 0, text("x", parent="t")), group(4, 0, text("y", origin=(6, 0), right=(5, 1)))),
        update(group(4, 0, text("y", parent="t")), group(6, 0, text("x", origin=(4, 0)), text("z", origin=(6, 0)))),
        update(
            group(6, 0, text("a", parent="t"), text("c", origin=(4, 0))),
            group(4, 0, text("b", origin=(6, 0)), text("d", origin=(6, 1))),
        ),
    ],
)
def test_d3_what_the_update_itself_brings_is_no_hole(data: bytes) -> None:
    index = index_of(update(NODE))
    assert hole(index, data) is None


def test_structs_that_wait_for_each_other_are_malformed() -> None:
    circle = update(group(6, 0, text("a", origin=(4, 0))), group(4, 0, text("b", origin=(6, 0))))
    with pytest.raises(MalformedUpdate, match="circle"):
        hole(Index(), circle)


def test_a_chain_through_many_clients_is_followed_quickly() -> None:
    clients = range(1000, 0, -1)
    structs = [group(client, 0, text("x", origin=(client - 1, 0))) for client in clients]
    started = time.perf_counter()
    assert hole(Index(), update(*structs)) == Hole(0, 0, "origin")
    assert hole(Index(), update(*structs, group(0, 0, text("x", parent="t")))) is None
    assert time.perf_counter() - started < 1


def test_writes_of_an_update_with_a_hole_are_refused() -> None:
    with pytest.raises(InvalidInput, match="expected no holes"):
        Index().writes(read_update(update(group(5, 3, text("x", parent="t")))))


# --- where items lie ---------------------------------------------------------------------------------------------


def test_a_parent_that_an_origin_implies_is_found() -> None:
    index = index_of(update(NODE))
    read = read_update(update(group(6, 0, plain(ONE, origin=(5, 1)), plain(NULL, origin=(6, 0)))))
    assert places(index, read) == [((6, 0), (5, 0), "name"), ((6, 1), (5, 0), "name")]
    index.add(read)
    assert index.parent_of((6, 1)) == Location((5, 0), "name")


def test_writes_come_behind_what_they_refer_to() -> None:
    read = read_update(update(group(6, 0, text("a", origin=(4, 0))), group(4, 0, text("b", parent="t"))))
    assert places(Index(), read) == [((4, 0), "t", None), ((6, 0), "t", None)]


def test_an_item_beside_or_below_garbage_lies_nowhere() -> None:
    index = index_of(update(group(5, 0, gc(3), deleted(1, parent="nodes", key="chair"))))
    read = read_update(
        update(
            group(
                6,
                0,
                text("x", origin=(5, 1)),
                text("x", right=(5, 1)),
                plain(ONE, parent=(5, 2), key="k"),
                plain(ONE, parent=(5, 3), key="k"),
                plain(ONE, origin=(6, 3)),
            )
        )
    )
    assert [write.parent for write in index.writes(read)] == [None] * 5
    assert index.misfit(index.writes(read)) is None
    index.add(read)
    assert index.parent_of((6, 4)) is None
    assert index.path((6, 2)) == ()


def test_g1_an_item_between_garbage_and_a_neighbour_lies_where_pycrdt_puts_it() -> None:
    """Where the reader took it for garbage, a text in an array went unseen, and pycrdt hung."""
    index = index_of(update(group(5, 0, gc(1), plain(ONE, parent="list"))), roots={"list": 0})
    read = read_update(update(group(6, 0, text("x", origin=(5, 0), right=(5, 1)))))
    assert places(index, read) == [((6, 0), "list", None)]
    assert index.misfit(index.writes(read)) is not None


def test_a_path_leads_from_the_root_by_keys_and_ids() -> None:
    index = index_of(
        update(
            NODE,
            group(
                6,
                0,
                shared(0, parent=(5, 0), key="slots"),
                shared(1, parent=(6, 0)),
                shared(2, parent=(6, 1), key="text"),
            ),
        )
    )
    assert index.path((6, 2)) == ("nodes", "chair", "slots", (6, 1), "text")
    assert index.path("nodes") == ("nodes",)
    assert index.path((7, 0)) == ()
    assert [index.type_ref(id_) for id_ in ((6, 0), (6, 1), (5, 1), (9, 9))] == [0, 1, None, None]
    assert [index.content(id_) for id_ in ((6, 0), (5, 1), (9, 9))] == [Content.TYPE, Content.ANY, None]


def test_erased_names_each_run_and_what_is_fresh() -> None:
    index = index_of(update(NODE, group(7, 0, text("abc", parent="t"))))
    written = group(6, 0, plain(ONE, origin=(5, 1)), plain(NULL, origin=(6, 0)))
    read = read_update(update(written, deletes={5: [(0, 2)], 6: [(0, 1)], 7: [(1, 1)]}))
    assert index.erased(read) == [
        Erased(5, 0, 1, "nodes", "chair", Content.TYPE, 1, fresh=False),
        Erased(5, 1, 1, (5, 0), "name", Content.ANY, None, fresh=False),
        Erased(6, 0, 1, (5, 0), "name", Content.ANY, None, fresh=True),
        Erased(7, 1, 1, "t", None, Content.STRING, None, fresh=False),
    ]


def test_judging_changes_nothing() -> None:
    index = index_of(update(NODE))
    before = index.encode()
    read = read_update(update(group(6, 0, plain(ONE, origin=(5, 1)), text("x", parent="new")), deletes={5: [(1, 1)]}))
    index.misfit(index.writes(index.trim(read)))
    index.erased(read)
    assert index.encode() == before


def test_runs_in_one_place_are_one_entry() -> None:
    typed = [text("a", parent="t"), *(text("b", origin=(5, clock)) for clock in range(999))]
    sets = [plain(ONE, parent="m", key="x"), *(plain(ONE, origin=(6, clock)) for clock in range(999))]
    index = index_of(update(group(5, 0, *typed), group(6, 0, *sets)))
    assert len(index.encode()) < 300
    assert index.parent_of((5, 999)) == Location("t", None)
    assert index.parent_of((6, 999)) == Location("m", "x")


# --- storing -----------------------------------------------------------------------------------------------------


def test_d6_an_index_is_the_same_after_storing() -> None:
    index = index_of(update(NODE, group(9, 0, text("a😀b", parent="t")), deletes={5: [(1, 1)], 9: [(0, 1)]}))
    again = Index.decode(index.encode())
    assert again.encode() == index.encode()
    assert again.clients == index.clients
    assert again.path((5, 0)) == ("nodes", "chair")
    assert again.is_deleted((5, 1))
    assert not again.is_deleted((5, 0))
    assert misfit(again, group(6, 0, text("x", origin=(9, 1)))) is not None
    assert misfit(again, group(6, 0, plain(ONE, parent="t"))) is not None


def test_d6_a_stored_index_keeps_that_roots_are_given() -> None:
    again = Index.decode(Index({"nodes": 1}).encode())
    assert misfit(again, group(6, 0, text("x", parent="t"))) is not None


@pytest.mark.parametrize("data", [b"", b"junk", Index().encode()[:-6]])
def test_bytes_that_are_no_index_are_named(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="index"):
        Index.decode(data)


# --- what fits (G1) ----------------------------------------------------------------------------------------------

HANG = bytes.fromhex(
    "011107002701016d0463756265012700070003706f730008000701017c0000000081070201880703017c4000000000010004000100"
    "03c807030704017c40a000000001000188070e037e787601016b75027c3f8000007c400000000002810713020001840716072077c3b6726c6400"
)
"""Text in an array: pycrdt applies it, and whoever then reads the array never returns."""


def test_g1_the_update_that_hangs_pycrdt_is_a_misfit() -> None:
    index = Index({"m": 1})
    reason = index.misfit(index.writes(read_update(HANG)))
    assert reason == "string at (7, 25): expected to lie without a key in text or XML text, got array"


@pytest.mark.parametrize(
    "structs",
    [
        [text("x", parent="list")],
        [text("x", parent="map", key="k")],
        [text("x", parent="map")],
        [plain(ONE, parent="map")],
        [plain(ONE, parent="list", key="k")],
        [plain(ONE, parent="text")],
        [item(6, string("bold") + string("true"), parent="list")],
        [item(5, string("{}"), parent="map", key="k")],
        [deleted(1, parent="map")],
        [shared(1, parent="map")],
        [shared(1, parent="page")],
        [item(9, string("guid") + b"\x76\0", parent="map", key="k")],
        [item(9, string("guid") + b"\x76\0", parent="list")],
        [plain(ONE, parent="other")],
        [plain(ONE, parent="map", key="k"), plain(ONE, parent=(6, 0), key="k")],
        [text("x", parent="text"), plain(ONE, parent=(6, 0), key="k")],
        [plain(ONE, parent="list"), plain(ONE, parent="list"), shared(2, parent="list"), plain(ONE, parent=(6, 2))],
        [plain(ONE, parent="list"), text("x", origin=(6, 0))],
        [
            shared(0, parent="map", key="k"),
            plain(ONE, parent="list"),
            plain(ONE, parent=(6, 0)),
            plain(ONE, origin=(6, 1), right=(6, 2)),
        ],
        [plain(ONE, parent="map", key="k"), plain(ONE, right=(6, 0))],
        [plain(ONE, parent="map", key="k"), plain(ONE, origin=(6, 0)), plain(ONE, origin=(6, 0), right=(6, 1))],
        [text("x", parent="text"), text("y", origin=(6, 0), right=(6, 0))],
    ],
)
def test_g1_content_that_does_not_fit_its_parent_is_named(structs: list[bytes]) -> None:
    index = Index({"map": 1, "list": 0, "text": 2, "page": 4})
    assert misfit(index, group(6, 0, *structs)) is not None
    if len(structs) > 1:  # also when what it lies in is known already
        index = index_of(update(group(6, 0, *structs[:-1])), roots={"map": 1, "list": 0, "text": 2, "page": 4})
        assert misfit(index, group(6, len(structs) - 1, structs[-1])) is not None


def test_g1_nested_types_have_a_greatest_depth() -> None:
    nested = [shared(1, parent="m", key="k"), *(shared(1, parent=(6, n), key="k") for n in range(MAX_TYPE_DEPTH))]
    index = Index({"m": 1})
    assert misfit(index, group(6, 0, *nested[:-1])) is None
    assert misfit(index, group(6, 0, *nested)) is not None
    index.add(read_update(update(group(6, 0, *nested[:-1]))))
    assert misfit(index, group(6, MAX_TYPE_DEPTH, nested[-1])) is not None


def test_roots_that_nobody_gave_are_what_was_first_put_into_them() -> None:
    index = index_of(update(group(5, 0, shared(3, string("p"), parent="page"), text("x", parent="t"))))
    assert misfit(index, group(6, 0, text("y", parent="page"))) is None  # may still be a text with an embedded element
    assert misfit(index, group(6, 0, plain(ONE, parent="t"))) is not None
    index.add(read_update(update(group(6, 0, shared(3, string("p"), parent="list"), plain(ONE, parent="list")))))
    assert misfit(index, group(7, 0, text("y", parent="list"))) is not None
    assert misfit(index, group(7, 0, shared(1, parent="list"))) is None


def test_a_misfit_is_not_remembered() -> None:
    index = Index()
    assert misfit(index, group(6, 0, text("x", parent="t"), plain(ONE, parent="t"))) is not None
    assert misfit(index, group(6, 0, plain(ONE, parent="t"))) is None


@pytest.mark.parametrize(
    ("structs", "deletes"),
    [
        ([text("X", origin=(5, 1))], {}),
        ([text("X", right=(5, 2))], {}),
        ([], {5: [(2, 2)]}),
        ([], {5: [(0, 2)]}),
        ([text("😀", origin=(5, 3)), text("X", origin=(6, 0))], {}),
    ],
)
def test_g1_half_a_surrogate_pair_is_a_misfit(
    structs: list[bytes], deletes: Mapping[int, Sequence[tuple[int, int]]]
) -> None:
    index = index_of(update(group(5, 0, text("a😀b", parent="t"))))
    groups = [group(6, 0, *structs)] if structs else []
    assert "half a surrogate pair" in str(misfit(index, *groups, deletes=deletes))


def test_whole_characters_beside_and_deleted_halves_fit() -> None:
    index = index_of(update(group(5, 0, text("a😀b", parent="t"))))
    assert misfit(index, group(6, 0, text("X", origin=(5, 2), right=(5, 3))), deletes={5: [(1, 2)]}) is None
    index.add(read_update(update(deletes={5: [(1, 2)]})))
    assert misfit(index, group(6, 0, text("X", origin=(5, 1)))) is None


def test_l8_a_blank_update_is_indexed_where_it_lies() -> None:
    index = index_of(blank(read_update(update(NODE))).encode())
    assert index.parent_of((5, 0)) == Location("nodes", "chair")
    assert index.is_deleted((5, 0))
    assert index.parent_of((5, 1)) is None  # below a type that is no more

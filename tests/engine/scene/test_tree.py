from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.trees import assert_is

from maquette.engine.errors import NotFound
from maquette.engine.scene import tree as tree_module
from maquette.engine.scene.tree import Place, Tree

Places = dict[str, Place]


def planted(**places: tuple[str | None, str]) -> Tree:
    tree = Tree()
    for node, (parent, order) in places.items():
        tree.place(node, parent, order)
    return tree


# --- the rules, one by one ---------------------------------------------------------------------------------------


def test_children_are_in_order_then_by_id() -> None:
    tree = planted(b=(None, "V"), a=(None, "V"), c=(None, "A"), d=("c", "V"))
    assert tree.children(None) == ["c", "a", "b"]
    assert tree.children("c") == ["d"]
    assert tree.children("d") == []


def test_a_node_waits_at_the_root_for_its_parent() -> None:
    tree = planted(child=("later", "V"))
    assert tree.children(None) == ["child"]
    assert tree.repairs() == []
    assert tree.place("later", None, "W") == ["child", "later"]
    assert tree.children("later") == ["child"]


def test_children_of_a_removed_node_hang_from_the_root_until_it_returns() -> None:
    tree = planted(p=(None, "V"), c=("p", "V"), g=("c", "V"))
    assert tree.remove("p") == ["c"]
    assert tree.children(None) == ["c"]
    assert tree.ancestors("g") == ["c"]
    tree.place("p", None, "W")
    assert tree.ancestors("g") == ["c", "p"]


def test_the_smallest_id_of_a_cycle_is_detached_and_the_others_stay() -> None:
    tree = planted(b=("c", "V"), c=("a", "V"), d=("b", "V"))
    assert tree.place("a", "b", "V") == ["a", "c"]
    assert tree.children(None) == ["a"]
    assert [tree.parent(node) for node in "bcd"] == ["c", "a", "b"]
    assert tree.repairs() == [("a", Place(None, "V"))]


def test_a_node_under_itself_hangs_from_the_root() -> None:
    tree = planted(a=("a", "V"))
    assert tree.children(None) == ["a"]
    assert tree.children("a") == []
    assert tree.repairs() == [("a", Place(None, "V"))]


def test_a_repair_moves_nothing_and_leaves_none() -> None:
    tree = planted(a=("b", "V"), b=("a", "V"), c=("a", "V"))
    shown = list(tree.walk())
    for node, place in tree.repairs():
        assert tree.place(node, place.parent, place.order) == []
    assert tree.repairs() == []
    assert list(tree.walk()) == shown


def test_moving_any_node_out_of_a_cycle_brings_the_detached_one_back() -> None:
    tree = planted(a=("b", "V"), b=("c", "V"), c=("a", "V"))
    assert tree.place("b", None, "V") == ["a", "b"]
    assert (tree.parent("a"), tree.parent("b"), tree.parent("c")) == ("b", None, "a")
    assert tree.repairs() == []


def test_what_changed_is_told_also_when_only_the_order_did() -> None:
    tree = planted(a=(None, "V"), b=(None, "W"))
    assert tree.place("a", None, "X") == ["a"]
    assert tree.place("a", None, "X") == []


def test_a_trashed_node_hides_what_hangs_below_and_keeps_its_place() -> None:
    tree = planted(p=(None, "V"), c=("p", "V"), other=(None, "W"))
    tree.trash("p")
    assert [node for node in tree.walk() if tree.is_hidden(node)] == ["p", "c"]
    assert not tree.is_trashed("c")
    tree.restore("p")
    assert not tree.is_hidden("c")


def test_a_node_may_be_trashed_before_it_has_a_place() -> None:
    tree = Tree()
    tree.trash("n")
    tree.place("n", None, "V")
    assert tree.is_hidden("n")


def test_a_removed_node_that_returns_is_not_trashed() -> None:
    tree = planted(n=(None, "V"))
    tree.trash("n")
    tree.remove("n")
    tree.place("n", None, "V")
    assert not tree.is_hidden("n")


def test_removing_what_is_not_there_changes_nothing() -> None:
    tree = planted(n=(None, "V"))
    assert tree.remove("other") == []
    assert "n" in tree
    assert "other" not in tree


def test_questions_about_an_unknown_node_say_which() -> None:
    tree = planted(n=("missing", "V"))
    for ask in (tree.parent, tree.written, tree.effective, tree.children, tree.ancestors, tree.is_hidden):
        with pytest.raises(NotFound, match="expected an existing node, got 'missing'"):
            ask("missing")


def test_the_written_place_stays_beside_the_effective_one() -> None:
    tree = planted(n=("missing", "V"))
    assert tree.written("n") == Place("missing", "V")
    assert tree.effective("n") == Place(None, "V")


def test_flat_gives_parents_before_children_with_their_indices() -> None:
    tree = planted(b=("a", "V"), a=(None, "W"), c=(None, "V"), d=("b", "V"))
    assert tree.flat() == (["c", "a", "b", "d"], [-1, -1, 1, 2])


@pytest.mark.parametrize(
    ("node", "parent", "cycle"),
    [("a", "a", True), ("a", "c", True), ("c", "a", False), ("b", None, False), ("b", "x", False), ("x", "w", True)],
)
def test_a_move_below_itself_is_known_before_it_is_made(node: str, parent: str | None, cycle: bool) -> None:
    tree = planted(a=(None, "V"), b=("a", "V"), c=("b", "V"), w=("x", "V"))
    assert tree.would_cycle(node, parent) is cycle


def test_a_move_within_a_cycle_of_others_is_judged_by_what_is_shown() -> None:
    tree = planted(a=("b", "V"), b=("a", "V"), c=("b", "V"))
    assert not tree.would_cycle("b", "a")
    assert tree.would_cycle("b", "c")


# --- against the model -------------------------------------------------------------------------------------------

ids = st.sampled_from("abcdefgh")
orders = st.sampled_from(["A", "V", "z"])
steps = st.lists(
    st.tuples(st.just("place"), ids, st.none() | ids, orders)
    | st.tuples(st.sampled_from(["remove", "trash", "restore"]), ids),
    max_size=60,
)


@given(steps)
def test_the_incremental_tree_equals_one_derived_from_scratch_after_each_step(steps: list[tuple[Any, ...]]) -> None:
    tree, places, trashed = Tree(), dict[str, Place](), set[str]()
    for action, node, *rest in steps:
        before = {n: tree.effective(n) for n in places}
        changed = getattr(tree, action)(node, *rest)
        if action == "place":
            places[node] = Place(*rest)
        elif action == "remove":
            places.pop(node, None)
        elif action == "trash":
            trashed.add(node)
        if action in ("remove", "restore"):
            trashed.discard(node)
        assert_is(tree, places, trashed)
        if changed is not None:
            assert changed == sorted(n for n in places if before.get(n) != tree.effective(n))


@given(st.dictionaries(ids, st.builds(Place, st.none() | ids, orders)), st.randoms(use_true_random=False))
def test_the_tree_is_the_same_whatever_the_order_of_arrival(places: Places, shuffler: random.Random) -> None:
    arrivals = list(places) * 2
    shuffler.shuffle(arrivals)
    tree = Tree()
    for node in arrivals:
        tree.place(node, places[node].parent, places[node].order)
    assert_is(tree, places)


@given(st.dictionaries(ids, st.builds(Place, st.none() | ids, orders)))
def test_repairs_move_nothing_and_leave_none(places: Places) -> None:
    tree = planted(**{node: (place.parent, place.order) for node, place in places.items()})
    for node, place in tree.repairs():
        assert tree.place(node, place.parent, place.order) == []
    assert tree.repairs() == []


@given(st.dictionaries(ids, st.builds(Place, st.none() | ids, orders)), ids, st.none() | ids)
def test_would_cycle_tells_what_would_be_shown(places: Places, node: str, parent: str | None) -> None:
    tree = planted(**{n: (place.parent, place.order) for n, place in places.items()})
    for broken, repaired in tree.repairs():
        tree.place(broken, repaired.parent, repaired.order)
    foreseen = tree.would_cycle(node, parent)
    tree.place(node, parent, "V")
    assert foreseen == (tree.repairs() != [])


# --- cost --------------------------------------------------------------------------------------------------------


def lines_run(action: Callable[[], object]) -> int:
    """How many lines of the tree's module `action` runs: a cost that does not depend on the machine."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename != tree_module.__file__:
            return None
        count += event == "line"
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(previous)
    return count


def grown(count: int) -> Tree:
    """A scene of `count` nodes: groups of ten below groups of ten, and a root with many children."""
    tree = Tree()
    for index in range(count):
        parent = None if index % 10 == 0 else f"n{index // 10 * 10}"
        tree.place(f"n{index}", parent, f"V{index:06d}")
    return tree


@pytest.mark.parametrize(
    "action",
    [
        lambda tree: tree.place("n55", "n40", "V"),
        lambda tree: tree.place("n50", None, "V"),
        lambda tree: tree.place("new", None, "V"),
        lambda tree: tree.place("n50", "n51", "V"),
        lambda tree: tree.remove("n60"),
        lambda tree: tree.trash("n50"),
        lambda tree: tree.is_hidden("n55"),
        lambda tree: tree.children("n40"),
        lambda tree: tree.would_cycle("n40", "n55"),
        lambda tree: tree.repairs(),
    ],
)
def test_an_update_costs_the_same_among_1_000_and_10_000_nodes(action: Callable[[Tree], object]) -> None:
    small, large = grown(1_000), grown(10_000)
    cost = lines_run(lambda: action(small))
    assert 0 < lines_run(lambda: action(large)) <= cost
    assert cost < 500


def test_the_cost_of_a_move_grows_with_depth_alone() -> None:
    def chain(length: int) -> Tree:
        return planted(**{f"n{i:05d}": (f"n{i - 1:05d}" if i else None, "V") for i in range(length)})

    short, long = chain(100), chain(1_000)
    cost = lines_run(lambda: short.place("n00099", "n00097", "V"))
    assert lines_run(lambda: long.place("n00999", "n00997", "V")) < 11 * cost


# --- the third failure of yjs-orderedtree; the others are in test_convergence.py ---------------------------------


def test_yjs_orderedtree_an_operation_does_not_visit_the_whole_tree() -> None:
    """It took 10 ms per operation at 2,200 nodes, in proportion to their number."""
    few, many = grown(220), grown(2_200)
    cost = lines_run(lambda: few.place("n25", "n30", "V"))
    assert lines_run(lambda: many.place("n25", "n30", "V")) == cost < 200

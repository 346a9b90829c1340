"""The decision of the gate, given operations and states in plain words: no document is needed for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

import pytest

from maquette.engine.events import SERVER, Actor
from maquette.engine.gate import ADMITTED, IMPORT, LEAST, NAMES, NO_STATE, Refuse, State, admit
from maquette.engine.operations import (
    AddComment,
    AddMaterial,
    AddNode,
    ChangeComment,
    ChangeMaterial,
    ChangeNode,
    ChangeSetting,
    DeleteMessage,
    EditMessage,
    LockNode,
    MoveNode,
    Operation,
    Post,
    React,
    RemoveComment,
    RemoveMaterial,
    RemoveMessage,
    RemoveNode,
    RestoreMessage,
    RestoreNode,
    SendOps,
    TrashNode,
    Unreact,
)
from maquette.engine.roles import Role, Roles

ME = Actor("me")
V, C, E, M, O = Role  # noqa: E741  (the owner's initial)
NOBODY = ""


@dataclass(frozen=True)
class Scene:
    """A state told in words: who hangs below whom, who locked what, what is in the trash."""

    parents: Mapping[str, str] = field(default_factory=dict)
    lockers: Mapping[str, str] = field(default_factory=dict)
    trash: frozenset[str] = frozenset()

    def ancestors(self, node: str) -> Sequence[str]:
        above = self.parents.get(node)
        return () if above is None else (above, *self.ancestors(above))

    def locker(self, node: str) -> str | None:
        return self.lockers.get(node)

    def holds_lock(self, node: str) -> bool:
        return any(node in self.ancestors(locked) for locked in self.lockers)

    def is_hidden(self, node: str) -> bool:
        return bool(self.trash & {node, *self.ancestors(node)})


TABLE: list[tuple[str, Operation, str]] = [
    # what, the operation, and the initials of the roles that may do it
    ("ops to a chat", SendOps("chat", C), "CEMO"),
    ("ops to a scene", SendOps("scene", C), "CEMO"),
    ("ops to a text", SendOps("text", E), "EMO"),
    ("a post", Post("me", None), "CEMO"),
    ("a post in a thread", Post("me", "t"), "CEMO"),
    ("a post for another", Post("you", None), NOBODY),
    ("a post for a list", Post(["me"], None), NOBODY),
    ("an edit of one's own", EditMessage("m", "me", "body", None), "CEMO"),
    ("an edit of another's", EditMessage("m", "you", "body", None), NOBODY),
    ("a deletion of one's own", DeleteMessage("m", "me", None, "me", None), "CEMO"),
    ("a deletion of another's", DeleteMessage("m", "you", None, "me", None), "MO"),
    ("a deletion as another", DeleteMessage("m", "me", None, "you", None), NOBODY),
    ("a deletion over a moderator's", DeleteMessage("m", "me", "mod", "me", None), "MO"),
    ("a restoration of one's own", RestoreMessage("m", "me", "me", None), "CEMO"),
    ("a restoration of what a moderator deleted", RestoreMessage("m", "me", "mod", None), "MO"),
    ("a restoration of another's", RestoreMessage("m", "you", "you", None), "MO"),
    ("a removal of one's own message", RemoveMessage("m", "me"), "CEMO"),
    ("a removal of another's message", RemoveMessage("m", "you"), NOBODY),
    ("a reaction", React("x", "me", None), "CEMO"),
    ("a reaction for another", React("x", "you", None), NOBODY),
    ("a reaction for another on one's own new message", React("x", "you", None, posted=True), NOBODY),
    ("a reaction back", Unreact("x", "me", None), "CEMO"),
    ("another's reaction back", Unreact("x", "you", None), "MO"),
    ("a node", AddNode("n", None), "EMO"),
    ("a node below another", AddNode("n", "p"), "EMO"),
    ("a node in the trash", AddNode("n", None, "me"), "EMO"),
    ("a node in another's trash", AddNode("n", None, "you"), NOBODY),
    ("a field of a node", ChangeNode("n", "name"), "EMO"),
    ("a lock", LockNode("n"), "EMO"),
    ("a move", MoveNode("n", "p"), "EMO"),
    ("a move to the root", MoveNode("n", None), "EMO"),
    ("a trashing", TrashNode("n", "me"), "EMO"),
    ("a trashing as another", TrashNode("n", "you"), NOBODY),
    ("a restoration of a node", RestoreNode("n"), "EMO"),
    ("a removal of one's own node", RemoveNode("n", "me"), "EMO"),
    ("a removal of another's node", RemoveNode("n", "you"), "O"),
    ("a removal of a node of nobody known", RemoveNode("n", None), "O"),
    ("a material", AddMaterial("m"), "EMO"),
    ("a field of a material", ChangeMaterial("m"), "EMO"),
    ("a removal of one's own material", RemoveMaterial("m", "me"), "EMO"),
    ("a removal of another's material", RemoveMaterial("m", "you"), "O"),
    ("a comment", AddComment("me", None), "CEMO"),
    ("a comment for another", AddComment("you", None), NOBODY),
    ("a field of one's own comment", ChangeComment("me", "body", None), "CEMO"),
    ("a field of another's comment", ChangeComment("you", "body", None), NOBODY),
    ("another's comment resolved", ChangeComment("you", "resolved", None), "CEMO"),
    ("a removal of one's own comment", RemoveComment("c", "me"), "CEMO"),
    ("a removal of another's comment", RemoveComment("c", "you"), "O"),
    ("a setting", ChangeSetting("exposure"), "EMO"),
]


@pytest.mark.parametrize("role", Role, ids=lambda role: role.name.lower())
@pytest.mark.parametrize(("operation", "allowed"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_g3_each_operation_takes_its_role(operation: Operation, allowed: str, role: Role) -> None:
    assert (admit(operation, ME, role, NO_STATE) is ADMITTED) == (role.name[0] in allowed)


def test_g3_the_table_of_this_test_and_that_of_the_gate_leave_no_operation_out() -> None:
    kinds = set(get_args(Operation)) - {SendOps}
    assert {type(operation) for _, operation, _ in TABLE} == kinds | {SendOps}
    assert set(LEAST) == set(NAMES) == kinds


@pytest.mark.parametrize("operation", LEAST, ids=lambda operation: operation.__name__)
def test_g3_any_other_role_in_the_gates_table_is_noticed_here(operation: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutation of each row: this test's table must tell them apart."""
    least = LEAST[operation]
    for other in set(Role) - {least}:
        monkeypatch.setitem(LEAST, operation, other)
        told = [
            (admit(one, ME, role, NO_STATE) is ADMITTED) == (role.name[0] in may)
            for _, one, may in TABLE
            for role in Role
        ]
        assert not all(told)


def test_g3_who_acts_for_somebody_acts_in_that_name_too() -> None:
    bot = Actor("bot", "bot", on_behalf_of="you")
    for operation in (Post("you", None), EditMessage("m", "you", "body", None), React("x", "you", None)):
        assert admit(operation, bot, C, NO_STATE) is ADMITTED
        assert isinstance(admit(operation, replace(bot, on_behalf_of=None), C, NO_STATE), Refuse)


@pytest.mark.parametrize("operation", [Post("you", None), React("x", "you", None, posted=True)])
@pytest.mark.parametrize(("via", "role", "admitted"), [(IMPORT, O, True), (IMPORT, M, False), (None, O, False)])
def test_g3_an_owners_import_speaks_for_anybody(
    operation: Operation, via: str | None, role: Role, admitted: bool
) -> None:
    assert (admit(operation, replace(ME, via=via), role, NO_STATE) is ADMITTED) == admitted


@pytest.mark.parametrize("operation", [Post("no id!", None), React("x", "no id!", None, posted=True)])
def test_g3_an_import_speaks_for_nobody_who_cannot_be(operation: Operation) -> None:
    assert isinstance(admit(operation, replace(ME, via=IMPORT), O, NO_STATE), Refuse)


@pytest.mark.parametrize(
    ("operation", "foreign"),
    [
        (Post("you", None), True),
        (React("x", "you", None), True),
        (Unreact("x", "you", None), True),
        (AddComment("you", None), True),
        (TrashNode("n", "you"), True),
        (EditMessage("m", "you", "body", None), False),
        (RemoveNode("n", "you"), False),
    ],
)
def test_g5_what_is_in_anothers_name_is_told_apart(operation: Operation, foreign: bool) -> None:
    refused = admit(operation, ME, E, NO_STATE)
    assert isinstance(refused, Refuse)
    assert refused.foreign is foreign


@pytest.mark.parametrize(("operation", "allowed"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_g5_a_refusal_says_what_was_expected_and_its_rule_holds_nothing_of_what_came(
    operation: Operation, allowed: str
) -> None:
    refused = [decision for role in Role if isinstance(decision := admit(operation, ME, role, NO_STATE), Refuse)]
    for one in refused:
        assert "expected" in one.rule
        assert one.reason.startswith(one.rule + ", got ")


# --- locks ---------------------------------------------------------------------------------------------------------

LOCKED = Scene({"n": "p", "p": "g", "k": "n"}, {"n": "ada"}, frozenset({"bin"}))
UNLOCKED = replace(LOCKED, lockers={})
HELD: list[Operation] = [
    ChangeNode("n", "name"),
    ChangeNode("n", "slots"),
    MoveNode("n", None),
    TrashNode("n", "me"),
    RestoreNode("n"),
    RemoveNode("n", "me"),
]


@pytest.mark.parametrize("actor", ["me", "ada"])
@pytest.mark.parametrize("operation", HELD, ids=lambda operation: type(operation).__name__)
def test_g3_a_locked_node_takes_no_change_of_anybody(operation: Operation, actor: str) -> None:
    if isinstance(operation, (TrashNode, RemoveNode)):
        operation = TrashNode("n", actor) if isinstance(operation, TrashNode) else RemoveNode("n", actor)
    assert admit(operation, Actor(actor), O, UNLOCKED) is ADMITTED
    refused = admit(operation, Actor(actor), O, LOCKED)
    assert isinstance(refused, Refuse)
    assert "expected it to be unlocked first, by 'ada', who locked it, or a moderator" in refused.rule


@pytest.mark.parametrize(
    ("who", "role", "admitted"),
    [("ada", E, True), ("ada", C, False), ("me", E, False), ("me", M, True), ("me", O, True)],
)
def test_g3_who_locked_a_node_and_moderators_unlock_it(who: str, role: Role, admitted: bool) -> None:
    assert (admit(LockNode("n"), Actor(who), role, LOCKED) is ADMITTED) == admitted


def test_g3_a_lock_that_the_log_gives_to_nobody_is_anybodys() -> None:
    restored = replace(LOCKED, lockers={"n": SERVER.id})
    assert admit(LockNode("n"), ME, E, restored) is ADMITTED
    assert isinstance(admit(ChangeNode("n", "name"), ME, E, restored), Refuse)


@pytest.mark.parametrize("above", ["p", "g"])
def test_g3_what_a_locked_node_hangs_below_does_not_take_it_away(above: str) -> None:
    away: list[Operation] = [TrashNode(above, "me"), RemoveNode(above, "me"), MoveNode(above, "bin")]
    for operation in away:
        assert admit(operation, ME, O, UNLOCKED) is ADMITTED
        refused = admit(operation, ME, O, LOCKED)
        assert isinstance(refused, Refuse)
        assert refused.rule.endswith("expected no locked node below what goes")


@pytest.mark.parametrize(
    "operation",
    [MoveNode("p", None), MoveNode("p", "q"), ChangeNode("p", "translation"), RestoreNode("p"), TrashNode("k", "me"),
     ChangeNode("k", "name"), MoveNode("x", "n"), AddNode("x", "n"), AddComment("me", "n")],
)  # fmt: skip
def test_g3_what_is_around_a_locked_node_is_free(operation: Operation) -> None:
    assert admit(operation, ME, E, LOCKED) is ADMITTED


# --- rights at a place ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlacedRoles:
    """Another implementation than today's: a role in the space, and others below certain nodes and in threads."""

    space: Role
    subtrees: Mapping[str, Role] = field(default_factory=dict)
    threads: Mapping[str, Role] = field(default_factory=dict)

    def anywhere(self) -> Role:
        return max([self.space, *self.subtrees.values(), *self.threads.values()])

    def in_space(self) -> Role:
        return self.space

    def in_subtree(self, node: str, ancestors: Callable[[str], Sequence[str]]) -> Role:
        return max([self.space, *(self.subtrees.get(one, self.space) for one in (node, *ancestors(node)))])

    def in_thread(self, thread: str | None) -> Role:
        return self.threads.get(thread or "", self.space)


TREE: State = Scene({"n": "p", "p": "g", "o": "q"})
GUEST: Roles = PlacedRoles(V, {"g": E}, {"t": C})


@pytest.mark.parametrize(
    ("operation", "admitted"),
    [
        (SendOps("scene", C), True),
        (ChangeNode("n", "name"), True),
        (ChangeNode("g", "name"), True),
        (ChangeNode("o", "name"), False),
        (AddNode("x", "p"), True),
        (AddNode("x", "q"), False),
        (AddNode("x", None), False),
        (LockNode("n"), True),
        (TrashNode("o", "me"), False),
        (MoveNode("n", "g"), True),
        (MoveNode("n", "q"), False),
        (MoveNode("n", None), False),
        (MoveNode("o", "p"), False),
        (RemoveNode("n", "me"), True),
        (RemoveNode("o", "me"), False),
        (AddComment("me", "n"), True),
        (AddComment("me", "o"), False),
        (ChangeSetting("exposure"), False),
        (AddMaterial("m"), False),
        (Post("me", "t"), True),
        (Post("me", "u"), False),
        (Post("me", None), False),
        (EditMessage("m", "me", "body", "t"), True),
        (EditMessage("m", "me", "body", None), False),
    ],
)
def test_g3_a_right_in_a_subtree_or_a_thread_holds_there_and_nowhere_else(operation: Operation, admitted: bool) -> None:
    assert (admit(operation, ME, GUEST, TREE) is ADMITTED) == admitted


@pytest.mark.parametrize("role", Role)
def test_g3_a_role_is_the_same_at_every_place(role: Role) -> None:
    asked = (role.anywhere(), role.in_space(), role.in_subtree("n", TREE.ancestors), role.in_thread("t"))
    assert asked == (role,) * 4

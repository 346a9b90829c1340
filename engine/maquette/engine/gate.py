"""The gate: whether an actor may do an operation, as one pure decision, `admit` (G3, G5).

Rule 1: a kind resolves the edits of an update into operations, and refuses itself what has no meaning or no fitting
        shape. Whether an operation may be done, by whom, is decided here and nowhere else.
Rule 2: nothing is remembered: roles, locks and authors are those of the moment, asked at the place that is touched.
Rule 3: each operation has its branch; the type checker finds the one that is forgotten (`assert_never`).
Rule 4: a reason says what was expected and what came. Its first half is the rule that goes into the log, and so holds
        nothing of what came but ids.

What a role is for is in `LEAST`; whose something is, and who holds a lock, in the branches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

from maquette.engine.events import SERVER, Actor
from maquette.engine.ids import is_id
from maquette.engine.operations import (
    AddComment,
    AddMaterial,
    AddNode,
    ChangeComment,
    ChangeMaterial,
    ChangeNode,
    ChangeSetting,
    ChatOperation,
    CommentOperation,
    DeleteMessage,
    EditMessage,
    LockNode,
    MoveNode,
    NodeOperation,
    OnComment,
    OnMessage,
    OnNode,
    OnSpace,
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
    SpaceOperation,
    TrashNode,
    Unreact,
)
from maquette.engine.roles import Role, Roles

IMPORT = "import"
"""`Actor.via` of an import, set by the code that imports, never by what comes over the wire."""


# --- the answer ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Admit:
    """The operation may enter the log."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """It may not. `reason` is for who sent it, `rule` for the log.

    `foreign`: it is in another person's name, and may have come by way of their neighbour's tab (D4).
    """

    reason: str
    rule: str
    foreign: bool = False


Decision = Admit | Refuse
ADMITTED = Admit()


def refuse(reason: str, *, foreign: bool = False) -> Refuse:
    """A refusal whose rule is what was expected."""
    return Refuse(reason, reason.partition(", got ")[0], foreign)


LEAST: Mapping[type, Role] = {
    AddNode: Role.EDITOR,
    ChangeNode: Role.EDITOR,
    LockNode: Role.EDITOR,
    MoveNode: Role.EDITOR,
    TrashNode: Role.EDITOR,
    RestoreNode: Role.EDITOR,
    RemoveNode: Role.EDITOR,
    AddMaterial: Role.EDITOR,
    ChangeMaterial: Role.EDITOR,
    RemoveMaterial: Role.EDITOR,
    AddComment: Role.COMMENTER,
    ChangeComment: Role.COMMENTER,
    RemoveComment: Role.COMMENTER,
    ChangeSetting: Role.EDITOR,
    Post: Role.COMMENTER,
    EditMessage: Role.COMMENTER,
    DeleteMessage: Role.COMMENTER,
    RestoreMessage: Role.COMMENTER,
    RemoveMessage: Role.COMMENTER,
    React: Role.COMMENTER,
    Unreact: Role.COMMENTER,
}
"""The least role that an operation takes. Whose that is which it touches may take more."""

NAMES: Mapping[type, str] = {
    AddNode: "node",
    ChangeNode: "node",
    LockNode: "node",
    MoveNode: "node",
    TrashNode: "node",
    RestoreNode: "node",
    RemoveNode: "node",
    AddMaterial: "material",
    ChangeMaterial: "material",
    RemoveMaterial: "material",
    AddComment: "comment",
    ChangeComment: "comment",
    RemoveComment: "comment",
    ChangeSetting: "settings",
    Post: "message",
    EditMessage: "message",
    DeleteMessage: "message",
    RestoreMessage: "message",
    RemoveMessage: "message",
    React: "reaction",
    Unreact: "reaction",
}
"""What an operation is about, for whoever lacks the role."""


class State(Protocol):
    """What a decision may ask of the document."""

    def ancestors(self, node: str) -> Sequence[str]:
        """The nodes above, the parent first."""
        ...

    def locker(self, node: str) -> str | None:
        """Who locked the node; None when it is not locked."""
        ...

    def holds_lock(self, node: str) -> bool:
        """Whether a locked node hangs below."""
        ...

    def is_hidden(self, node: str) -> bool:
        """Whether the node, or one above it, is in the trash."""
        ...


class NoState:
    """Of documents without nodes."""

    def ancestors(self, node: str) -> Sequence[str]:
        return ()

    def locker(self, node: str) -> str | None:
        return None

    def holds_lock(self, node: str) -> bool:
        return False

    def is_hidden(self, node: str) -> bool:
        return False


NO_STATE = NoState()


# --- the decision --------------------------------------------------------------------------------------------------


def admit(op: Operation, actor: Actor, roles: Roles, state: State) -> Decision:
    """Whether `actor`, who has `roles` now, may do `op` to a document in this `state`."""
    match op:
        case SendOps():
            return ADMITTED if roles.anywhere() >= op.writers else _may_not_write(op, roles.anywhere())
        case OnNode():
            return _node(op, actor, roles, state)
        case OnMessage():
            return _message(op, actor, roles)
        case OnComment():
            return _comment(op, actor, roles, state)
        case OnSpace():
            return _of_space(op, actor, roles.in_space())
        case _:
            assert_never(op)


def authors(actor: Actor) -> tuple[str, ...]:
    """In whose names an actor acts: its own, and that of the one for whom it acts."""
    return (actor.id,) if actor.on_behalf_of is None else (actor.id, actor.on_behalf_of)


def imports(actor: Actor, roles: Roles) -> bool:
    """Whether the op is an owner's import, which posts for anybody."""
    return actor.via == IMPORT and roles.in_space() >= Role.OWNER


def _may_not_write(op: SendOps, role: Role) -> Refuse:
    return refuse(
        f"expected a role of {op.writers.name.lower()} or above to edit a {op.kind} document, got {role.name.lower()}"
    )


def _lacking(op: Operation, actor: Actor, role: Role) -> Refuse:
    least = LEAST[type(op)]
    return refuse(
        f"{NAMES[type(op)]}: expected a role of {least.name.lower()} or above, got {role.name.lower()} ({actor.id!r})"
    )


# --- chat ----------------------------------------------------------------------------------------------------------


def _message(op: ChatOperation, actor: Actor, roles: Roles) -> Decision:
    role = roles.in_space() if isinstance(op, RemoveMessage) else roles.in_thread(op.thread)
    if role < LEAST[type(op)]:
        return _lacking(op, actor, role)
    match op:
        case Post(author):
            if author in authors(actor) or (is_id(author) and imports(actor, roles)):
                return ADMITTED
            return refuse(f"message.author: expected {actor.id!r}, who sends it, got {author!r:.80}", foreign=True)
        case EditMessage(message, author, field):
            if author in authors(actor):
                return ADMITTED
            return refuse(f"message {message!r}: expected an edit by its author, got one of {field!r} by {actor.id!r}")
        case DeleteMessage(message, author, there, by):
            return _tombstone(message, author, there, by, actor, role)
        case RestoreMessage(message, author, there):
            return _tombstone(message, author, there, actor.id, actor, role)
        case RemoveMessage(message, author):
            if author in authors(actor):
                return ADMITTED
            return refuse(
                f"messages: expected 'deleted' to be set on message {message!r}, "
                f"got the removal of somebody else's record"
            )
        case React(key, who, _, posted):
            if who in authors(actor) or (posted and is_id(who) and imports(actor, roles)):
                return ADMITTED
            return _foreign_reaction(key, actor)
        case Unreact(key, who):
            return ADMITTED if who in authors(actor) or role >= Role.MODERATOR else _foreign_reaction(key, actor)
        case _:
            assert_never(op)


def _tombstone(message: str, author: str, there: str | None, by: str, actor: Actor, role: Role) -> Decision:
    names = authors(actor)
    if role < Role.MODERATOR and (author not in names or (there is not None and there not in names)):
        return refuse(
            f"message {message!r}: expected its author or a moderator to delete it, and who deleted it or "
            f"a moderator to restore it, got {actor.id!r} ({role.name.lower()})"
        )
    if by not in names:
        return refuse(f"message.deleted.by: expected {actor.id!r}, got {by!r:.80}")
    return ADMITTED


def _foreign_reaction(key: str, actor: Actor) -> Refuse:
    return refuse(f"reaction: expected one in the name of {actor.id!r}, got {key!r:.80}", foreign=True)


# --- scene ---------------------------------------------------------------------------------------------------------


def _node(op: NodeOperation, actor: Actor, roles: Roles, state: State) -> Decision:
    role = _role_at(op.parent if isinstance(op, AddNode) else op.node, roles, state)
    if role < LEAST[type(op)]:
        return _lacking(op, actor, role)
    match op:
        case ChangeNode():
            locker = state.locker(op.node)
            return ADMITTED if locker is None else _refuse_held(op.node, locker, f"a change of {op.field!r:.80}", actor)
        case AddNode(_, _, trasher):
            return ADMITTED if trasher is None else _trasher(trasher, actor)
        case LockNode(node):
            return _opens(node, actor, role, state)
        case MoveNode():
            return _moves(op, actor, roles, state)
        case TrashNode(node, by):
            return _held(node, "its trashing", actor, state) or _holds(node, state) or _trasher(by, actor)
        case RestoreNode(node):
            return _held(node, "its restoration", actor, state) or ADMITTED
        case RemoveNode(node, creator):
            return (
                _removes("node", node, creator, actor, role)
                or _held(node, "its removal", actor, state)
                or _holds(node, state)
                or ADMITTED
            )
        case _:
            assert_never(op)


def _role_at(node: str | None, roles: Roles, state: State) -> Role:
    return roles.in_space() if node is None else roles.in_subtree(node, state.ancestors)


def _moves(op: MoveNode, actor: Actor, roles: Roles, state: State) -> Decision:
    there = _role_at(op.parent, roles, state)
    if there < LEAST[MoveNode]:
        return _lacking(op, actor, there)
    if op.parent is not None and state.holds_lock(op.node) and state.is_hidden(op.parent):
        return _holds(op.node, state) or ADMITTED
    return _held(op.node, "its move", actor, state) or ADMITTED


def _held(node: str, what: str, actor: Actor, state: State) -> Refuse | None:
    locker = state.locker(node)
    return None if locker is None else _refuse_held(node, locker, what, actor)


def _refuse_held(node: str, locker: str, what: str, actor: Actor) -> Refuse:
    return refuse(f"node {node!r}: expected it to be unlocked first, {_unlockers(locker)}, got {what} by {actor.id!r}")


def _holds(node: str, state: State) -> Refuse | None:
    if not state.holds_lock(node):
        return None
    return refuse(f"node {node!r}: expected no locked node below what goes, got one")


def _opens(node: str, actor: Actor, role: Role, state: State) -> Decision:
    locker = state.locker(node)
    if locker is None or locker == SERVER.id or locker in authors(actor) or role >= Role.MODERATOR:
        return ADMITTED
    return refuse(f"node {node!r}: expected its lock to be changed {_unlockers(locker)}, got {actor.id!r}")


def _unlockers(locker: str) -> str:
    return "by an editor" if locker == SERVER.id else f"by {locker!r}, who locked it, or a moderator"


def _trasher(by: str, actor: Actor) -> Decision:
    if by == actor.id:
        return ADMITTED
    return refuse(f"node.trashed.by: expected {actor.id!r}, got {by!r:.80}", foreign=True)


def _removes(what: str, id_: str, creator: str | None, actor: Actor, role: Role) -> Refuse | None:
    if role >= Role.OWNER or creator == actor.id:
        return None
    return refuse(f"{what}: expected 'trashed' to be set, got the removal of somebody else's record {id_!r}")


def _of_space(op: SpaceOperation, actor: Actor, role: Role) -> Decision:
    if role < LEAST[type(op)]:
        return _lacking(op, actor, role)
    match op:
        case RemoveMaterial(material, creator):
            return _removes("material", material, creator, actor, role) or ADMITTED
        case AddMaterial() | ChangeMaterial() | ChangeSetting():
            return ADMITTED
        case _:
            assert_never(op)


def _comment(op: CommentOperation, actor: Actor, roles: Roles, state: State) -> Decision:
    role = roles.in_space() if isinstance(op, RemoveComment) else _role_at(op.node, roles, state)
    if role < LEAST[type(op)]:
        return _lacking(op, actor, role)
    match op:
        case AddComment(author):
            if author == actor.id:
                return ADMITTED
            return refuse(f"comment.author: expected {actor.id!r}, got {author!r:.80}", foreign=True)
        case ChangeComment(author, field):
            if field == "resolved" or author == actor.id:  # whoever may comment may settle a discussion
                return ADMITTED
            return refuse(f"comment: expected an edit by its author, got one of {field!r:.80} by {actor.id!r}")
        case RemoveComment(comment, creator):
            return _removes("comment", comment, creator, actor, role) or ADMITTED
        case _:
            assert_never(op)

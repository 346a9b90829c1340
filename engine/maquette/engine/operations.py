"""The operations that the gate decides about: what the edits of an update come to, kind by kind (`gate.admit`).

Who made what is on record, and so are the facts in them: kinds take them from the document, never from the update,
except where the update names somebody (`author`, `by`, `who`, `trasher`), which is what is judged.
The base classes only sort them, so that a decision takes few comparisons: it is on the way of every op.
"""

from __future__ import annotations

from dataclasses import dataclass

from maquette.engine.roles import Role


class OnMessage:
    """Operations on messages, judged in their thread."""

    __slots__ = ()


class OnNode:
    """Operations on nodes, judged in their subtree."""

    __slots__ = ()


class OnComment:
    """Operations on comments, judged at the node that they are pinned to."""

    __slots__ = ()


class OnSpace:
    """Operations on what belongs to the whole scene."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SendOps:
    """To send ops to a document of `kind` at all, which takes a role of `writers` somewhere in it."""

    kind: str
    writers: Role


@dataclass(frozen=True, slots=True)
class Post(OnMessage):
    """A message in the name of `author`."""

    author: object
    thread: str | None


@dataclass(frozen=True, slots=True)
class EditMessage(OnMessage):
    """Another value for a `field` of a message by `author`."""

    message: str
    author: str
    field: str
    thread: str | None


@dataclass(frozen=True, slots=True)
class DeleteMessage(OnMessage):
    """A tombstone that says that it is `by` somebody; `there` is who is named by the one that is there, if any."""

    message: str
    author: str
    there: str | None
    by: str
    thread: str | None


@dataclass(frozen=True, slots=True)
class RestoreMessage(OnMessage):
    """The end of a tombstone by `there`."""

    message: str
    author: str
    there: str | None
    thread: str | None


@dataclass(frozen=True, slots=True)
class RemoveMessage(OnMessage):
    """A message is taken out of the conversation, its record too."""

    message: str
    author: str


@dataclass(frozen=True, slots=True)
class React(OnMessage):
    """A reaction in the name of `who`, under `key`; `posted` on a message of the same op."""

    key: str
    who: str
    thread: str | None
    posted: bool = False


@dataclass(frozen=True, slots=True)
class Unreact(OnMessage):
    """The end of a reaction in the name of `who`."""

    key: str
    who: str
    thread: str | None


@dataclass(frozen=True, slots=True)
class AddNode(OnNode):
    """A node below `parent` (None: the root), perhaps in the trash already, by `trasher`."""

    node: str
    parent: str | None
    trasher: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeNode(OnNode):
    """Another value for a `field` of a node, or none."""

    node: str
    field: str


@dataclass(frozen=True, slots=True)
class LockNode(OnNode):
    """A node is locked or unlocked."""

    node: str


@dataclass(frozen=True, slots=True)
class MoveNode(OnNode):
    """A node goes below another parent, or to another place among its siblings."""

    node: str
    parent: str | None


@dataclass(frozen=True, slots=True)
class TrashNode(OnNode):
    """A node goes into the trash, `by` somebody."""

    node: str
    by: str


@dataclass(frozen=True, slots=True)
class RestoreNode(OnNode):
    """A node comes out of the trash."""

    node: str


@dataclass(frozen=True, slots=True)
class RemoveNode(OnNode):
    """The record of a node that `creator` made goes."""

    node: str
    creator: str | None


@dataclass(frozen=True, slots=True)
class AddMaterial(OnSpace):
    """A material."""

    material: str


@dataclass(frozen=True, slots=True)
class ChangeMaterial(OnSpace):
    """Another value for a field of a material, or none."""

    material: str


@dataclass(frozen=True, slots=True)
class RemoveMaterial(OnSpace):
    """The record of a material that `creator` made goes."""

    material: str
    creator: str | None


@dataclass(frozen=True, slots=True)
class AddComment(OnComment):
    """A comment in the name of `author`, pinned to `node` or to the scene."""

    author: object
    node: str | None


@dataclass(frozen=True, slots=True)
class ChangeComment(OnComment):
    """Another value for a `field` of a comment by `author`, or none."""

    author: str | None
    field: str
    node: str | None


@dataclass(frozen=True, slots=True)
class RemoveComment(OnComment):
    """The record of a comment that `creator` made goes."""

    comment: str
    creator: str | None


@dataclass(frozen=True, slots=True)
class ChangeSetting(OnSpace):
    """Another value for a setting of the scene, or none."""

    setting: str


ChatOperation = Post | EditMessage | DeleteMessage | RestoreMessage | RemoveMessage | React | Unreact
NodeOperation = AddNode | ChangeNode | LockNode | MoveNode | TrashNode | RestoreNode | RemoveNode
CommentOperation = AddComment | ChangeComment | RemoveComment
SpaceOperation = AddMaterial | ChangeMaterial | RemoveMaterial | ChangeSetting
Operation = SendOps | ChatOperation | NodeOperation | CommentOperation | SpaceOperation

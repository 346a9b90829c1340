"""Chat documents: an array of messages, each a map, each with a flat map of reactions (docs/spec.md, "chat").

Rule 1: a message is inserted whole, by its author; id, author, sent and thread never change after.
Rule 2: the body is its author's; the tombstone (`deleted`) is its author's or a moderator's; a reaction is its actor's.
        What a moderator deleted, its author cannot restore.
Rule 3: `stamp` is the server's alone, written in the event that brings the message: the one order of the conversation.
        A message that comes back by an undo brings its old stamp, which the new one overwrites in the same event.
Rule 4: an owner's import posts whole messages for anybody, with their reactions, edit times and tombstones.
Who may do what of this is the gate's word (`gate`); here is what has a fitting shape.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import pycrdt

from maquette.engine.checks import plain as plain_value
from maquette.engine.edits import INSERT, REMOVE, SET, UNSET, Edit, Parent
from maquette.engine.errors import SchemaError
from maquette.engine.events import Actor
from maquette.engine.gate import ADMITTED, NO_STATE, Decision, Refuse, admit, authors, imports, refuse
from maquette.engine.ids import is_id
from maquette.engine.index import Index
from maquette.engine.kinds.kind import Change, Kind, Op, Register, Verdict, View, inside, made, plain
from maquette.engine.operations import (
    DeleteMessage,
    EditMessage,
    Post,
    React,
    RemoveMessage,
    RestoreMessage,
    Unreact,
)
from maquette.engine.roles import Role
from maquette.engine.update import Id

MESSAGES = "messages"
SEPARATOR = "\x1f"
"""Between emoji and actor in the key of a reaction: a character that neither holds."""

PAGE_MESSAGES = 2_000  # opening a page and its state vector stay cheap (docs/why.md)
PAGE_CLIENTS = 1_000  # a state vector of 1,000 clients is 6 KB at each connect; of 20,000 it was 119 KB


@dataclass(frozen=True, slots=True)
class PageLimits:
    """When a conversation turns its page (D9)."""

    messages: int = PAGE_MESSAGES
    clients: int = PAGE_CLIENTS


DEFAULT_PAGE = PageLimits()
MAX_BODY = 32_768  # UTF-8 bytes: a long post; more belongs into an attachment
MAX_EMOJI = 64  # UTF-8 bytes: the longest joined emoji sequence has 35
MAX_LIST = 100  # mentions or attachments of one message
MAX_ATTACHMENTS = 65_536  # bytes of their plain form

_REQUIRED = {"id", "author", "body", "sent", "reactions"}
_OPTIONAL = {"thread", "mentions", "attachments", "notice"}
_AGAIN = {"stamp", "edited"}  # in a message that an undo brings back
_IMPORTED = {"edited", "deleted"}  # a live message is posted first, and edited or deleted later
_ARRAY, _MAP = 0, 1


@dataclass(frozen=True, slots=True)
class Message:
    """What the policy needs of a message. `hint` is where in the array it was inserted; later inserts may shift it."""

    id: str
    author: str
    hint: int = field(compare=False)
    thread: str | None = None


class StampCounter:
    """The newest stamp number of a conversation, shared by all pages of its chain."""

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def next(self) -> int:
        self.last += 1
        return self.last


@dataclass(slots=True)
class _Ids:
    """Which ids of messages are taken while an op is judged; not a copy of thousands for each op."""

    known: Collection[str]
    gone: Collection[str]
    made: set[str] = field(default_factory=set)

    def __contains__(self, id_: str) -> bool:
        return id_ in self.made or (id_ in self.known and id_ not in self.gone)


class ChatMemory:
    """The messages of one page by the id of the item that made them."""

    def __init__(self, messages: Mapping[Id, Message] | None = None) -> None:
        self.messages: dict[Id, Message] = dict(messages or {})
        self._ids = {message.id for message in self.messages.values()}
        self.stamps = StampCounter()  # the chain's own replaces it when the page joins its chain
        self.limits = DEFAULT_PAGE

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the messages."""
        return frozenset(self._ids)

    # --- judging ---------------------------------------------------------------------------------------------

    def judge(self, op: Op, edits: Sequence[Edit], view: View) -> list[Verdict]:
        fields: dict[Parent, dict[str, Edit]] = {}
        ended: dict[Parent, set[str]] = {}
        for edit in edits:
            if edit.key is not None and edit.action is SET:
                shown = fields.setdefault(edit.parent, {})
                if edit.key not in shown or not edit.hidden:
                    shown[edit.key] = edit
            elif edit.key is not None:
                ended.setdefault(edit.parent, set()).add(edit.key)
        new: dict[Parent, str | None] = {}
        ids = _Ids(self._ids, self._gone(op, edits))
        verdicts = []
        dead: set[Parent] = set()
        for edit in edits:
            if edit.parent in dead:
                dead.update(edit.structs)  # refused with what it lies in
                continue
            if edit.parent == MESSAGES and edit.action is INSERT:
                new[edit.id] = _thread(fields.get(edit.id, {}))
                decision = _ended(fields.get(edit.id, {}), ended.get(edit.id, ())) or self._judge_post(
                    op, edit, fields.get(edit.id, {}), ids
                )
            elif edit.parent in new:
                # its message's verdict covers all fields but those set more than once
                repeated = edit.action is SET and fields[edit.parent].get(edit.key or "") is not edit
                decision = refuse(f"message: expected {edit.key!r:.80} once") if repeated else ADMITTED
            else:
                decision = self._judge_edit(op, edit, view, new)
            if isinstance(decision, Refuse):
                dead.update(edit.structs)
                foreign = decision.foreign or _names_another(op.actor, edit, fields)
                verdicts.append(Verdict(edit, replace(decision, foreign=foreign)))
        return verdicts

    def _gone(self, op: Op, edits: Sequence[Edit]) -> set[str]:
        """The ids of messages that the op takes out, and may."""
        removals = [edit for edit in edits if edit.action is REMOVE and edit.parent == MESSAGES]
        gone = [id_ for edit in removals if self._judge_removal(op, edit) is ADMITTED for id_ in edit.erased]
        return {self.messages[type_id].id for type_id in gone if type_id in self.messages}

    def _judge_post(self, op: Op, edit: Edit, fields: dict[str, Edit], ids: _Ids) -> Decision:
        bad = self._bad_post(op, edit, fields, ids)
        if bad is not None:
            return refuse(bad)
        decision = admit(Post(fields["author"].value, _thread(fields)), op.actor, op.roles, NO_STATE)
        if decision is ADMITTED:
            ids.made.add(fields["id"].value)
        return decision

    def _bad_post(self, op: Op, edit: Edit, fields: dict[str, Edit], ids: _Ids) -> str | None:
        if edit.type_ref != _MAP:
            return f"{MESSAGES}: expected a map for each message, got {_kind_of(edit.value)}"
        optional = _OPTIONAL | _IMPORTED if imports(op.actor, op.roles) else _OPTIONAL
        allowed = _REQUIRED | optional | (_AGAIN if "stamp" in fields else set())
        if not _REQUIRED <= fields.keys() <= allowed:
            return (
                f"message: expected the fields {sorted(_REQUIRED)} and perhaps {sorted(optional)}, "
                f"got {sorted(fields)[:20]!s:.300}"
            )
        message = fields["id"].value
        if not is_id(message):
            return f"message.id: expected 1 to 64 characters of [A-Za-z0-9_-], got {message!r:.80}"
        if message in ids:
            return f"message.id: expected a new id, got {message!r}, which this page holds already"
        return next(filter(None, (_bad_field(key, field) for key, field in fields.items())), None)

    def _judge_edit(self, op: Op, edit: Edit, view: View, new: Mapping[Parent, str | None]) -> Decision:
        path = view.path(edit.parent)
        if path == (MESSAGES,):
            return self._judge_removal(op, edit)
        if len(path) < 2 or path[0] != MESSAGES:
            return refuse(f"chat: expected edits in {MESSAGES!r}, got one elsewhere")
        if path[1] in new:
            return _judge_reaction(op, edit, new[path[1]], True) if len(path) == 3 else _not_a_reaction(op, edit)
        message = self.messages.get(path[1]) if isinstance(path[1], tuple) else None
        if message is None:
            return refuse("chat: expected an edit of an existing message, got one of a message that is gone")
        if len(path) == 2:
            return self._judge_field(op, edit, message, view)
        return _judge_reaction(op, edit, message.thread, False)

    def _judge_removal(self, op: Op, edit: Edit) -> Decision:
        for type_id in edit.erased:
            message = self.messages.get(type_id)
            if message is not None:
                decision = admit(RemoveMessage(message.id, message.author), op.actor, op.roles, NO_STATE)
                if decision is not ADMITTED:
                    return decision
        return ADMITTED

    def _judge_field(self, op: Op, edit: Edit, message: Message, view: View) -> Decision:
        match edit.key:
            case "body" | "edited" | "mentions" | "attachments":
                operation = EditMessage(message.id, message.author, edit.key, message.thread)
            case "deleted":
                return self._judge_tombstone(op, edit, message, view)
            case _:
                return refuse(
                    f"message {message.id!r}: expected all but its body, mentions, attachments, edited and deleted "
                    f"to stay, got a change of {edit.key!r:.80}"
                )
        decision = admit(operation, op.actor, op.roles, NO_STATE)
        if decision is not ADMITTED:
            return decision
        if edit.key == "body" and edit.action is not SET:
            return refuse(f"message {message.id!r}: expected a body, got its removal")
        bad = _bad_field(edit.key, edit) if edit.action is SET else None
        return ADMITTED if bad is None else refuse(bad)

    def _judge_tombstone(self, op: Op, edit: Edit, message: Message, view: View) -> Decision:
        record = view.shared(edit.parent)
        tombstone = None if record is None else record.get("deleted")
        there = None if tombstone is None else str(tombstone["by"])
        operation: DeleteMessage | RestoreMessage
        if edit.action is SET:
            bad = _bad_field("deleted", edit)
            if bad is not None:
                return refuse(bad)
            operation = DeleteMessage(message.id, message.author, there, edit.value["by"], message.thread)
        else:
            operation = RestoreMessage(message.id, message.author, there, message.thread)
        return admit(operation, op.actor, op.roles, NO_STATE)

    # --- remembering -----------------------------------------------------------------------------------------

    def learn(self, edits: Sequence[Edit]) -> None:
        new: dict[Parent, dict[str, Any]] = {}
        for edit in edits:
            if edit.parent == MESSAGES and edit.action is INSERT and edit.type_ref == _MAP:
                new[edit.id] = {}
            elif edit.key in ("id", "author", "thread") and edit.action is SET and edit.parent in new:
                new[edit.parent][edit.key] = edit.value
        for type_id, fields in new.items():
            message = Message(fields.get("id", ""), fields.get("author", ""), len(self.messages), fields.get("thread"))
            self.messages[type_id] = message  # type: ignore[index]  # an item's id
            self._ids.add(message.id)

    def settle(self, edits: Sequence[Edit], changes: Sequence[Change], actor: str) -> None:
        gone = [id_ for edit in edits if edit.parent == MESSAGES and edit.action is REMOVE for id_ in edit.erased]
        for type_id in gone:
            self.messages.pop(type_id, None)
        if gone:  # a restored message is there again, under another type id
            self._ids = {message.id for message in self.messages.values()}

    # --- what the server adds -----------------------------------------------------------------------------------

    def finish(self, op: Op, edits: Sequence[Edit]) -> Sequence[Register]:
        return [
            Register(edit.id, "stamp", [self.stamps.next(), op.now])
            for edit in edits
            if edit.parent == MESSAGES and edit.action is INSERT
        ]

    # --- telling --------------------------------------------------------------------------------------------------

    def describe(self, edits: Sequence[Edit], view: View) -> list[Change]:
        changes: list[Change] = []
        removed: list[Change] = []  # told first: one that the same op posts again under its id is there
        posted: set[Parent] = set()
        told: set[tuple[Id, str]] = set()
        parts = inside(edits) if len(edits) > 1 else {}
        for edit in edits:
            if edit.parent == MESSAGES:
                if edit.action is INSERT:
                    posted.add(edit.id)
                    changes += self._posted(edit, parts, view)
                elif edit.action is REMOVE:
                    removed += [change for type_id in edit.erased for change in self._removed(type_id)]
                continue
            if edit.parent in posted:
                continue
            path = view.path(edit.parent)
            if path[1] in posted or not isinstance(path[1], tuple):
                continue
            about = edit.key or "" if len(path) == 3 else _ASPECTS.get(edit.key or "", "")
            if about and (path[1], about) not in told:
                told.add((path[1], about))
                if len(path) == 3 and view.shows(edit) and path[1] in self.messages:
                    changes.append(_reaction("reaction.added", self.messages[path[1]].id, about))
                else:
                    changes += self._changed(path[1], about, len(path) == 3, view)
        return [*removed, *changes] if removed else changes

    def _posted(self, edit: Edit, parts: Mapping[Parent, Sequence[Edit]], view: View) -> list[Change]:
        fields = made(edit, parts, view)
        if fields is None:
            record = view.shared(edit.id)
            if record is None:
                return []
            fields = plain(record)
        reactions = fields.pop("reactions", {})
        edited, deleted = fields.pop("edited", None), fields.pop("deleted", None)
        posted: Change = {"type": "message.posted", **fields}
        extra = [_reaction("reaction.added", fields["id"], key) for key in reactions]
        if edited is not None:
            extra.append({"type": "message.edited", "id": fields["id"], "body": fields["body"], "edited": edited})
        if deleted is not None:
            extra.append({"type": "message.deleted", "id": fields["id"], **deleted})
        return [posted, *extra]

    def _removed(self, type_id: Id) -> list[Change]:
        message = self.messages.get(type_id)
        return [] if message is None else [{"type": "message.removed", "id": message.id}]

    def _changed(self, type_id: Id, about: str, reaction: bool, view: View) -> list[Change]:
        message, record = self.messages.get(type_id), view.shared(type_id)
        if message is None or record is None:
            return []
        if reaction:
            kind = "reaction.added" if about in record["reactions"] else "reaction.removed"
            return [_reaction(kind, message.id, about)]
        if about == "deleted":
            tombstone = plain(record.get("deleted"))
            if tombstone is None:
                return [{"type": "message.restored", "id": message.id}]
            return [{"type": "message.deleted", "id": message.id, **tombstone}]
        fields = {key: plain(record[key]) for key in ("mentions", "attachments") if key in record}
        edited = plain(record.get("edited"))
        return [{"type": "message.edited", "id": message.id, "body": record["body"], "edited": edited, **fields}]

    # --- the rest of what a document asks ---------------------------------------------------------------------------

    def is_broken(self) -> bool:
        return False

    def repair(self, view: View) -> None:
        """Nothing: a conversation cannot break."""

    def is_full(self, index: Index) -> bool:
        return self.room == 0 or len(index.clients) >= self.limits.clients

    @property
    def room(self) -> int:
        """How many messages the page still takes before it turns."""
        return max(0, self.limits.messages - len(self.messages))

    def element(self, array: Any, type_id: Id) -> int | None:
        """Near where it was inserted: concurrent inserts move it by a few places."""
        message = self.messages.get(type_id)
        length = len(array)
        if message is None or not length:
            return None
        for index in _outwards(min(message.hint, length - 1), length):
            if array[index].get("id") == message.id:
                return index
        return None

    def extras(self) -> Mapping[str, Any]:
        return {"stamped": self.stamps.last}

    def to_plain(self) -> Any:
        return [
            [*type_id, message.id, message.author, message.hint, message.thread]
            for type_id, message in self.messages.items()
        ]


def remembered(rows: Any) -> ChatMemory:
    """The inverse of `ChatMemory.to_plain`."""
    return ChatMemory({(client, clock): Message(*fields) for client, clock, *fields in rows})


_ASPECTS = dict.fromkeys(("body", "edited", "mentions", "attachments"), "body") | {"deleted": "deleted"}

CHAT = Kind("chat", {MESSAGES: pycrdt.Array}, Role.COMMENTER, 1, ChatMemory, remembered)


def _thread(fields: Mapping[str, Edit]) -> str | None:
    thread = fields.get("thread")
    return thread.value if thread is not None and isinstance(thread.value, str) else None


def _bad_field(key: str, edit: Edit) -> str | None:
    if key == "reactions":
        return None if edit.type_ref == _MAP else f"message.reactions: expected a map, got {_kind_of(edit.value)}"
    if edit.type_ref is not None:
        return f"message.{key}: expected a plain value, got a shared type"
    return bad_value(key, edit.value)


def bad_value(key: str, value: Any) -> str | None:
    """Why `value` cannot be the field `key` of a message (any but `reactions`); None when it can."""
    match key:
        case "body":
            if not isinstance(value, str):
                return f"message.body: expected a string, got {_kind_of(value)}"
            if (size := len(value.encode("utf-8", "surrogatepass"))) > MAX_BODY:
                return f"message.body: expected at most {MAX_BODY} bytes, got {size}"
        case "sent" | "edited":
            if not _is_time(value) and not (key == "edited" and value is None):
                return f"message.{key}: expected milliseconds since 1970, got {value!r:.80}"
        case "thread":
            if not is_id(value):
                return f"message.thread: expected a message id, got {value!r:.80}"
        case "mentions":
            if not (isinstance(value, list) and len(value) <= MAX_LIST and all(is_id(item) for item in value)):
                return f"message.mentions: expected at most {MAX_LIST} actor ids, got {value!r:.80}"
        case "attachments":
            return _bad_attachments(value)
        case "stamp":
            if not (isinstance(value, list) and len(value) == 2 and all(map(_is_time, value))):
                return f"message.stamp: expected none, or the one it had, got {value!r:.80}"
        case "notice":
            if not isinstance(value, bool):
                return f"message.notice: expected true or false, got {value!r:.80}"
        case "deleted":
            if not _is_tombstone(value):
                return f"message.deleted: expected {{by: actor id, at: ms}}, got {value!r:.80}"
    return None


def _bad_attachments(value: Any) -> str | None:
    if not (isinstance(value, list) and len(value) <= MAX_LIST and all(isinstance(item, dict) for item in value)):
        return f"message.attachments: expected at most {MAX_LIST} maps, got {value!r:.80}"
    try:
        _ATTACHMENTS(value, "message.attachments")
    except SchemaError as error:
        return f"message.attachments: expected {error.expected}, got {error.actual}"
    return None


_ATTACHMENTS = plain_value(MAX_ATTACHMENTS)


def _kind_of(value: Any) -> str:
    return "a shared type" if value is None else type(value).__name__


def _is_time(value: Any) -> bool:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53 and value == int(value)
    )


def _is_tombstone(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"by", "at"}
        and isinstance(value["by"], str)
        and _is_time(value["at"])
    )


def is_emoji(text: str) -> bool:
    """Whether `text` can be what somebody reacts with."""
    return 0 < len(text.encode("utf-8", "surrogatepass")) <= MAX_EMOJI and SEPARATOR not in text


def _judge_reaction(op: Op, edit: Edit, thread: str | None, posted: bool) -> Decision:
    key = edit.key or ""
    emoji, _, who = key.partition(SEPARATOR)
    if edit.action is UNSET:
        return admit(Unreact(key, who, thread), op.actor, op.roles, NO_STATE)
    if not (is_emoji(emoji) and edit.action is SET and edit.value is True):
        return _not_a_reaction(op, edit)
    return admit(React(key, who, thread, posted), op.actor, op.roles, NO_STATE)


def _names_another(actor: Actor, edit: Edit, fields: Mapping[Parent, Mapping[str, Edit]]) -> bool:
    """Whether the edit is a post or a reaction in somebody else's name."""
    if edit.parent == MESSAGES and edit.action is INSERT:
        author = fields.get(edit.id, {}).get("author")
        return author is not None and author.value not in authors(actor)
    _, separator, who = (edit.key or "").partition(SEPARATOR)
    return bool(separator) and who not in authors(actor)


def _not_a_reaction(op: Op, edit: Edit) -> Refuse:
    return refuse(
        f"reaction: expected a key emoji{SEPARATOR}{op.actor.id} (at most {MAX_EMOJI} bytes of emoji) set to true, "
        f"got {edit.key!r:.80}: {edit.value!r:.80}"
    )


def _reaction(kind: str, message: str, key: str) -> Change:
    emoji, _, actor = key.partition(SEPARATOR)
    return {"type": kind, "id": message, "emoji": emoji, "actor": actor}


def _outwards(start: int, length: int) -> Iterable[int]:
    """start, then its neighbours by distance."""
    near = chain.from_iterable((start - step, start + step) for step in range(1, length + 1))
    return (index for index in chain((start,), near) if 0 <= index < length)


def _ended(fields: Mapping[str, Edit], ended: Collection[str]) -> Refuse | None:
    """A new message whose fields do not show, because the same op ends them, would be none."""
    both = sorted(key for key in ended if key in fields)
    return (
        refuse(f"message: expected each field to show, got {both[0]!r:.80} set and ended in one op") if both else None
    )

"""The conversation of a space over HTTP: written into its newest page, or into the page that holds the message; read
from the chat history, over all pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from maquette.engine import checks
from maquette.engine.errors import SchemaError
from maquette.engine.kinds.chat import MAX_ATTACHMENTS, MAX_BODY, MAX_EMOJI, MAX_LIST, SEPARATOR, ChatMemory
from maquette.engine.writers.chat import ChatWriter
from maquette.projections.chat_history import ChatHistory
from maquette.projections.chat_reads import ChatReads
from maquette.server.bodies import JsonRoute
from maquette.server.rest.access import Access, Body, Entered, Wait, Written

MAX_NUMBER = 2**53  # of messages: what JavaScript counts exactly
MAX_PAGE = 200  # messages in one answer: 6 MiB of the longest bodies
ID = r"^[A-Za-z0-9_-]{1,64}$"

router = APIRouter(prefix="/v1/spaces/{space}/chat/messages", tags=["chat"], route_class=JsonRoute)


def _short(body: str) -> str:
    if (size := len(body.encode())) > MAX_BODY:
        raise SchemaError("message.body", f"at most {MAX_BODY} bytes", f"{size}")
    return body


def _small(attachments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    checks.plain(MAX_ATTACHMENTS // 2)(attachments, "message.attachments")  # the gate counts its longer plain form
    return attachments


def _one_emoji(emoji: str) -> str:
    if not 0 < len(emoji.encode()) <= MAX_EMOJI or SEPARATOR in emoji:
        raise SchemaError("reaction.emoji", f"1 to {MAX_EMOJI} bytes without {SEPARATOR!r}", f"{emoji!r:.80}")
    return emoji


Text = Annotated[
    str,
    Field(min_length=1, description=f"At most {MAX_BODY} bytes of UTF-8.", examples=["Hello, fox"]),
    AfterValidator(_short),
]
MessageId = Annotated[str, Path(pattern=ID, description="The message's id.", examples=["4fT0pQz81Rk"])]
Emoji = Annotated[str, Path(description="The emoji itself.", examples=["👍"]), AfterValidator(_one_emoji)]
Reference = Annotated[str, Field(pattern=ID)]
Cursor = Annotated[int | None, Field(ge=0, le=MAX_NUMBER)]


class NewMessage(Body):
    """A message that shall be posted."""

    body: Text
    thread: Reference | None = Field(None, description="The message that this one answers.")
    mentions: list[Reference] = Field([], max_length=MAX_LIST, description="Ids of actors.")
    attachments: Annotated[list[dict[str, Any]], AfterValidator(_small)] = Field(
        [], max_length=MAX_LIST, description="Plain values, such as asset ids.", examples=[[{"name": "fox.png"}]]
    )


class EditedMessage(Body):
    """Another body for a message of one's own."""

    body: Text


class DeletionOut(BaseModel):
    """Who deleted a message, and when (ms since 1970)."""

    model_config = ConfigDict(from_attributes=True)

    by: str
    at: int | None


class MessageOut(BaseModel):
    """A message as it stands. A deleted one is a tombstone: no body, mentions, attachments and reactions."""

    model_config = ConfigDict(from_attributes=True)

    id: str = Field(examples=["4fT0pQz81Rk"])
    number: int = Field(description="Its place in the conversation; the cursors of pages.", examples=[17])
    author: str = Field(description="An actor's id.", examples=["u42"])
    name: str | None = Field(description="The author's display name where one is known.", examples=["Ann"])
    body: str | None = Field(examples=["Hello, fox"])
    sent: int | None = Field(description="When the author sent it, ms since 1970.", examples=[1767225600000])
    stamped: int = Field(description="When the server took it, ms since 1970.", examples=[1767225600005])
    edited: int | None = Field(description="When its body was last changed, ms since 1970.", examples=[None])
    thread: str | None = Field(examples=[None])
    mentions: list[str] = Field(examples=[[]])
    attachments: list[Any] = Field(examples=[[]])
    notice: bool = Field(examples=[False])
    deleted: DeletionOut | None = Field(examples=[None])
    reactions: dict[str, list[str]] = Field(description="Emoji → actors.", examples=[{"👍": ["u42"]}])


class MessagesOut(BaseModel):
    """A part of the conversation, oldest first. Each cursor is null where the conversation ends."""

    messages: list[MessageOut]
    before: int | None = Field(description="Pass as `before` for what is older.", examples=[17])
    after: int | None = Field(description="Pass as `after` for what is newer.", examples=[None])


# --- reading -------------------------------------------------------------------------------------------------------


@router.get("")
async def list_messages(
    access: Entered,
    request: Request,
    response: Response,
    before: Annotated[
        int | None, Query(ge=0, le=MAX_NUMBER, description="Only messages with a smaller number.")
    ] = None,
    after: Annotated[
        int | None, Query(ge=0, le=MAX_NUMBER, description="Only messages with a larger number, the oldest first.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    thread: Annotated[str | None, Query(pattern=ID, description="Only answers to this message.")] = None,
    wait: Wait = None,
) -> MessagesOut:
    """The conversation over all its pages, in stamp order: the newest messages, or those around a cursor."""
    await access.services.reach(ChatHistory.name, wait)
    found = await access.services.chat.page(*access.where, before=before, after=after, limit=limit + 1, thread=thread)
    forwards = after is not None
    more = len(found) > limit
    found = found[:limit] if forwards else found[-limit:]
    older = more if not forwards else bool(found)
    newer = more if forwards else before is not None and bool(found)
    answer = MessagesOut(
        messages=[MessageOut.model_validate(message) for message in found],
        before=found[0].number if found and older else None,
        after=found[-1].number if found and newer else None,
    )
    _link(request, response, {"prev": ("before", answer.before), "next": ("after", answer.after)})
    return answer


def _link(request: Request, response: Response, cursors: dict[str, tuple[str, int | None]]) -> None:
    """RFC 8288, relative to the request; a token stays out of it."""
    kept = [(key, value) for key, value in request.query_params.items() if key in ("limit", "thread")]
    links = [
        f'<?{urlencode([*kept, (name, cursor)])}>; rel="{relation}"'
        for relation, (name, cursor) in cursors.items()
        if cursor is not None
    ]
    if links:
        response.headers["Link"] = ", ".join(links)


@router.get("/{message}")
async def get_message(access: Entered, message: MessageId, wait: Wait = None) -> MessageOut:
    """One message, which may be deleted."""
    await access.services.reach(ChatHistory.name, wait)
    return MessageOut.model_validate(await access.services.chat.message(*access.where, message))


# --- writing -------------------------------------------------------------------------------------------------------


@router.post("", status_code=201)
async def post_message(access: Entered, new: NewMessage) -> Written:
    """Post a message. The answer comes when it is on disk."""
    id_, position = await _write(
        access,
        "chat",
        lambda chat: chat.post(new.body, thread=new.thread, mentions=new.mentions, attachments=new.attachments),
    )
    return Written(id=id_, position=position)


@router.patch("/{message}")
async def edit_message(access: Entered, message: MessageId, new: EditedMessage) -> Written:
    """Give a message of your own another body; its history keeps the old one."""
    return await _change(access, message, lambda chat: chat.edit(message, new.body))


@router.delete("/{message}")
async def delete_message(access: Entered, message: MessageId) -> Written:
    """Leave a tombstone. Takes its author, or the role moderator."""
    return await _change(access, message, lambda chat: chat.delete(message))


@router.post("/{message}/restore")
async def restore_message(access: Entered, message: MessageId) -> Written:
    """Take the tombstone away. Takes its author, or the role moderator."""
    return await _change(access, message, lambda chat: chat.restore(message))


@router.put("/{message}/reactions/{emoji}")
async def react(access: Entered, message: MessageId, emoji: Emoji) -> Written:
    """Add your reaction; again changes nothing."""
    return await _change(access, message, lambda chat: chat.react(message, emoji))


@router.delete("/{message}/reactions/{emoji}")
async def unreact(access: Entered, message: MessageId, emoji: Emoji) -> Written:
    """Take your reaction back; again changes nothing."""
    return await _change(access, message, lambda chat: chat.unreact(message, emoji))


async def _change(access: Access, message: str, edit: Callable[[ChatWriter], None]) -> Written:
    page = await _page_of(access, message)
    _, position = await _write(access, page, edit)
    return Written(id=message, position=position)


async def _write(access: Access, page: str, edit: Callable[[ChatWriter], Any]) -> tuple[Any, str]:
    return await access.written(lambda: access.space.write_chat(access.actor, access.role, edit, page=page))


async def _page_of(access: Access, message: str) -> str:
    """The page that holds the message, as `chat@2`. Raises NotFound."""
    newest = await access.space.resolve("chat")
    memory = (await access.space.open_resolved(newest)).replica.memory
    assert isinstance(memory, ChatMemory)
    if any(known.id == message for known in memory.messages.values()):
        return newest.name
    view = await access.services.catch_up(ChatHistory.name)  # the page may have turned a moment ago
    return f"chat@{await ChatReads(view).epoch_of(*access.where, message)}"

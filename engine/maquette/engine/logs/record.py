"""The record: an event as an adapter stores it, with data, actor and ids encoded already.

A `Draft` is what the caller's side makes of a `NewEvent`, before it has a place; a `Record` is a draft at its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from maquette.engine.errors import InvalidInput
from maquette.engine.events import (
    Actor,
    Event,
    NewEvent,
    Position,
    decode_actor,
    decode_data,
    encode_actor,
    packed_data,
)

PAGE_EVENTS = 1_000
"""The most events in a page: large enough that a page's fixed cost (a thread hop, 0.1 ms) is lost in it."""

PAGE_BYTES = 4 * 1024 * 1024
"""A page ends behind the event that takes its data past this: a log of large updates is not read into memory."""

LARGEST_INTEGER = 2**63 - 1
"""What an SQLite INTEGER holds; positions, revisions and schema numbers keep to it in every adapter."""

Clock = Callable[[], int]
"""Milliseconds since 1970. May step back; a log's times never do."""


def wall_clock() -> int:
    """The machine's time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Draft(NamedTuple):
    """An encoded event without a place. `id` and `cause` are the 16 bytes of a UUID, `actor` and `data` msgpack."""

    id: bytes
    type: str
    schema: int
    actor: bytes
    cause: bytes | None
    data: bytes


class Record(NamedTuple):
    """An encoded event at its place: what seals, stores and memory hold."""

    position: int
    stream: str
    revision: int
    time: int
    id: bytes
    type: str
    schema: int
    actor: bytes
    cause: bytes | None
    data: bytes


def drafts_of(stream: str, events: Sequence[NewEvent]) -> tuple[Draft, ...]:
    """The encoded `events`. Raises InvalidInput for anything that could not be stored and read back."""
    _require_text("stream", stream)
    if not events:
        raise InvalidInput(f"append to {stream!r}: expected at least one event, got none")
    return tuple(_draft(event) for event in events)


def _draft(event: NewEvent) -> Draft:
    _require_text("event type", event.type)
    if not 0 <= event.schema <= LARGEST_INTEGER:
        raise InvalidInput(f"event schema: expected 0 to {LARGEST_INTEGER}, got {event.schema!r}")
    cause = None if event.cause is None else event.cause.bytes
    return Draft(event.id.bytes, event.type, event.schema, _packed_actor(event.actor), cause, packed_data(event.data))


@lru_cache(maxsize=4096)
def _packed_actor(actor: Actor) -> bytes:
    try:
        return encode_actor(actor)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"actor: expected strings of Unicode text, got {error}") from error


@lru_cache(maxsize=16_384)  # the same streams and types come again and again; a refusal is not remembered
def _require_text(what: str, text: str) -> None:
    if not text:
        raise InvalidInput(f"{what}: expected a non-empty string, got {text!r}")
    if "\0" in text:  # SQLite's own tools end a text there, so what they show would not be what is stored
        raise InvalidInput(f"{what}: expected a string without NUL, got {text!r}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{what}: expected Unicode text, got {text!r}") from error


def placed(draft: Draft, stream: str, position: int, revision: int, time: int) -> Record:
    """`draft` at its place."""
    return Record(position, stream, revision, time, *draft)


def event_of(record: Record) -> Event:
    """The decoded event. Raises what msgpack and UUID raise when the record is not what was stored."""
    return Event(
        Position(record.position),
        record.stream,
        record.revision,
        record.time,
        UUID(bytes=record.id),
        record.type,
        record.schema,
        _unpacked_actor(record.actor),
        None if record.cause is None else UUID(bytes=record.cause),
        decode_data(record.data),
    )


_unpacked_actor = lru_cache(maxsize=4096)(decode_actor)


def page_of(records: Iterable[Record]) -> Iterator[Record]:
    """The first records of `records` that make one page; takes none that it does not give."""
    size = 0
    for count, record in enumerate(records, 1):
        yield record
        size += len(record.data)
        if count >= PAGE_EVENTS or size >= PAGE_BYTES:
            return

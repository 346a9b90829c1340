"""The event: the immutable record from which everything else is derived, and its codec.

A caller proposes a `NewEvent`; the log answers with its place, and readers get an `Event`: the same with revision,
position and time. `data` is a msgpack map and `actor` a small record, so that every adapter stores the same bytes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NewType, get_args
from uuid import UUID

import msgpack

from maquette.engine.errors import InvalidInput

Position = NewType("Position", int)
"""A place in the total order of one log: ordered, opaque, not necessarily dense (rule L2)."""

START = Position(0)
"""Before the first event of any log."""

ActorKind = Literal["person", "bot", "ai", "server"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: an opaque id, never a name or an address (those live in erasable profiles).

    `on_behalf_of` is the actor for whom this one acts (an import posts for the original author);
    `via` is the way in when it is not a document's connection: `rest`, `import`, `embedded`.
    """

    id: str
    kind: ActorKind = "person"
    on_behalf_of: str | None = None
    via: str | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise InvalidInput("actor id: expected a non-empty string, got ''")
        if self.kind not in get_args(ActorKind):
            raise InvalidInput(f"actor kind: expected one of {get_args(ActorKind)}, got {self.kind!r}")


SERVER = Actor("server", "server")
"""The engine itself: stamps, repairs, page turns."""


def new_event_id() -> UUID:
    """A UUIDv7 (RFC 9562, 5.7): 48 bits of milliseconds, then random."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that is proposed to a log. `type` is in the past tense; `data` holds msgpack values only."""

    type: str
    actor: Actor
    data: Mapping[str, Any]
    schema: int = 1
    cause: UUID | None = None
    id: UUID = field(default_factory=new_event_id)


@dataclass(frozen=True, slots=True)
class Event:
    """An event at its final place. `time` is in milliseconds since 1970 and never decreases along positions."""

    position: Position
    stream: str
    revision: int
    time: int
    id: UUID
    type: str
    schema: int
    actor: Actor
    cause: UUID | None
    data: Mapping[str, Any]


class PackedData(dict[str, Any]):
    """Data that is encoded when it is made, so that whoever appends a lot at once need not do it then. Frozen."""

    __slots__ = ("packed",)

    def __init__(self, data: Mapping[str, Any]) -> None:
        """Raises InvalidInput like `packed_data`."""
        super().__init__(data)
        self.packed = packed_data(data)


def packed_data(data: Mapping[str, Any]) -> bytes:
    """`data` as a log stores it. Raises InvalidInput for what could not be read back."""
    if isinstance(data, PackedData):
        return data.packed
    packed = encode_data(data)
    try:
        # msgpack writes what it cannot read (a tuple as a key): such a record would end its stream for every reader
        decode_data(packed)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"event data: expected values that msgpack reads back, got {error}") from error
    return packed


def encode_data(data: Mapping[str, Any]) -> bytes:
    """`data` as msgpack. Raises InvalidInput for values that msgpack does not know."""
    try:
        packed = msgpack.packb(data, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"event data: expected msgpack values, got {error}") from error
    return bytes(packed)


def decode_data(packed: bytes) -> Mapping[str, Any]:
    """The inverse of `encode_data`. Lists come back as lists, binary as bytes."""
    data = msgpack.unpackb(packed, raw=False, strict_map_key=False)
    if not isinstance(data, dict):
        raise InvalidInput(f"event data: expected a map, got {type(data).__name__}")
    return data


def encode_actor(actor: Actor) -> bytes:
    """`actor` as a msgpack map that leaves out what is not set."""
    packed = {"id": actor.id, "kind": actor.kind}
    if actor.on_behalf_of is not None:
        packed["for"] = actor.on_behalf_of
    if actor.via is not None:
        packed["via"] = actor.via
    return bytes(msgpack.packb(packed))


def decode_actor(packed: bytes) -> Actor:
    """The inverse of `encode_actor`."""
    fields = msgpack.unpackb(packed)
    return Actor(fields["id"], fields["kind"], fields.get("for"), fields.get("via"))

"""The seal of a record: what makes an altered, missing or inserted record visible (rule L6).

    digest   = BLAKE2b-256 of the data, keyed with a random salt of 16 bytes, one per event
    chain    = BLAKE2b-256 of (chain of the record before ‖ header ‖ digest)
    checksum = CRC-32 of (salt ‖ digest ‖ chain ‖ header ‖ data)
    header   = msgpack array [position, stream, revision, time, id, type, schema, actor, cause], smallest encodings

Every read checks the checksum: it is cheap, and finds what disks and bugs do. The chain finds what somebody did, and
what SQLite forgot; `verify` walks it, and opening walks its end.

The chain covers the digest and not the data, and the digest has a salt: so an erasure (rule L8) can later replace the
data and destroy the salt, after which digest and chain still verify, and the digest of short, guessable data tells
nothing. BLAKE2b because it is the fastest keyed hash of Python's own; RFC 7693.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

import msgpack

from maquette.engine.logs.record import Record

SALT_BYTES = 16
CHAIN_BYTES = 32

GENESIS = bytes(CHAIN_BYTES)
"""The chain before the first record."""


class Seal(NamedTuple):
    """What is stored beside a record."""

    salt: bytes
    digest: bytes
    chain: bytes
    checksum: int


def seal(record: Record, previous: bytes, salt: bytes) -> Seal:
    """The seal of `record` behind the record whose chain is `previous`."""
    header = _header(record)
    digest = blake2b(record.data, digest_size=CHAIN_BYTES, key=salt).digest()
    chain = _link(previous, header, digest)
    return Seal(salt, digest, chain, crc32(b"".join((salt, digest, chain, header, record.data))))


def intact(record: Record, mark: Seal) -> bool:
    """Whether record and seal are byte for byte what was stored, as far as 32 bits can tell."""
    salt, digest, chain, checksum = mark
    return crc32(b"".join((salt, digest, chain, _header(record), record.data))) == checksum


def genuine(record: Record, mark: Seal, previous: bytes) -> bool:
    """Whether the record is the one that was sealed, right behind the record whose chain is `previous`."""
    digest = blake2b(record.data, digest_size=CHAIN_BYTES, key=mark.salt).digest()
    return digest == mark.digest and _link(previous, _header(record), digest) == mark.chain


def _header(record: Record) -> bytes:
    return bytes(msgpack.packb(record[:-1]))  # every field but the data


def _link(previous: bytes, header: bytes, digest: bytes) -> bytes:
    return blake2b(b"".join((previous, header, digest)), digest_size=CHAIN_BYTES).digest()

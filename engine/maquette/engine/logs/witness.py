"""The witness: a second memory of where the log ends, beside the database (rule L6).

SQLite forgets silently: one flipped bit in its WAL makes it drop that commit and all behind it, and say nothing. The
witness knows how far the log went, and the chain there.

Rule 1: it is written after each commit, never before, so it may lag the database and never leads it. A database that
        ends before its witness has forgotten.
Rule 2: so it needs no fsync per commit. When the process dies, the kernel still writes the page. When the machine dies,
        the witness may come back older than the database, which rule 1 allows: opening then verifies the tail behind
        it; it cannot come back newer, because the commit was flushed before the witness was written at all. What it
        costs: commits of the last seconds before a power cut have no second witness. It is flushed on closing.
Rule 3: two slots, written in turn, each with a checksum: a torn write spoils one and leaves the one before it. The
        file appears with one of them sound: a witness without any is damaged, which no power cut may make it.

    slot = magic 8s, sequence u64, position u64, time u64, chain 32s, CRC-32 of these u32; little endian
    slot n stands at byte n * 512: a disk's sector, so that no write of one can tear the other
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from types import TracebackType
from zlib import crc32

from maquette.engine.errors import LogDamaged
from maquette.engine.logs.disk import DISK, Disk
from maquette.engine.logs.seal import GENESIS

_BODY = Struct("<8sQQQ32s")
_SUM = Struct("<I")
_MAGIC = b"maqwit01"
_SLOT_BYTES = 512
_SLOTS = 2


@dataclass(frozen=True, slots=True)
class Testimony:
    """The log reached `position`, where its chain was `chain` and its time `time`."""

    position: int
    time: int
    chain: bytes


BEGINNING = Testimony(0, 0, GENESIS)
"""Of a log without events."""


class Witness:
    """The witness file of one log, open for writing. Belongs to the writer."""

    def __init__(self, path: Path, disk: Disk = DISK) -> None:
        self.path = path
        self._disk = disk
        if not path.exists():
            disk.create(path, _pack(0, BEGINNING))
        self._file = disk.open(path)
        self._sequence = max((sequence for sequence, _ in _slots(os.pread(self._file, 2 * _SLOT_BYTES, 0))), default=0)

    def write(self, testimony: Testimony) -> None:
        """Testify in the older slot. Raises OSError."""
        self._sequence += 1
        slot = _pack(self._sequence, testimony)
        self._disk.write(self._file, slot, self._sequence % _SLOTS * _SLOT_BYTES)

    def flush(self) -> None:
        """Return when the disk has it. Raises OSError."""
        self._disk.flush(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> Witness:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_witness(path: Path) -> Testimony | None:
    """The newest testimony; None when there is no file. Raises LogDamaged when no slot is sound."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    slots = _slots(content)
    if not slots:
        raise LogDamaged(str(path), "a sound slot in the witness", f"{len(content)} bytes without one")
    return max(slots, key=lambda slot: slot[0])[1]


def _pack(sequence: int, testimony: Testimony) -> bytes:
    body = _BODY.pack(_MAGIC, sequence, testimony.position, testimony.time, testimony.chain)
    return (body + _SUM.pack(crc32(body))).ljust(_SLOT_BYTES, b"\0")


def _slots(content: bytes) -> list[tuple[int, Testimony]]:
    slots = (content[start : start + _SLOT_BYTES] for start in range(0, _SLOTS * _SLOT_BYTES, _SLOT_BYTES))
    return [_unpack(slot) for slot in slots if _sound(slot)]


def _sound(slot: bytes) -> bool:
    body, rest = slot[: _BODY.size], slot[_BODY.size : _BODY.size + _SUM.size]
    return body.startswith(_MAGIC) and len(rest) == _SUM.size and _SUM.unpack(rest)[0] == crc32(body)


def _unpack(slot: bytes) -> tuple[int, Testimony]:
    _, sequence, position, time, chain = _BODY.unpack_from(slot)
    return sequence, Testimony(position, time, chain)

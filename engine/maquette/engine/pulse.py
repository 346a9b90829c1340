"""The pulse: what a process that serves is busy with, in memory that it shares with its supervisor (G4).

A process that hangs in native code cannot say where, and one that crashed cannot say anything; so it writes down what
it begins, before it begins it. The reader is another process, which looks when the count has stopped, or after the
death.

Rule 1: one process writes; a mark costs about a microsecond and cannot fail. The thread of the event loop has one
        place. Other threads, which can keep it from its turn, have a few beside it, each with the thread's number.
Rule 2: each mark and each beat raise the count: as long as it rises, the process gets on.
Rule 3: the memory has no name and no file behind it: what people write must not lie around where no erasure looks.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from mmap import mmap
from struct import Struct

_COPIED = 1 << 12  # bytes of an update: to copy them is quicker than to digest them, and larger ones are few
_NAME = 1 << 10  # bytes of a stream or of an actor's id
_COUNT = Struct("<Q")
_MARK = Struct("<QBQQHHH")  # count, work, revision, size; the lengths of stream, actor and update (or digest) behind it
_WORK = _COUNT.size
_TEXT = _MARK.size
_PLACES = _TEXT + 2 * _NAME + _COPIED
_BESIDE = Struct("<BQQQHH")  # work, thread, revision, size; the lengths of stream and `by` behind it
_PLACE = _BESIDE.size + 2 * _NAME
_MOST_BESIDE = 8  # threads that fold, read files and render them
_SIZE = _PLACES + _MOST_BESIDE * _PLACE


class Work(IntEnum):
    """What a process can be busy with, one thing at a time."""

    NOTHING = 0
    JUDGING = 1
    """An update that is not in the log."""
    REPLAYING = 2
    """One revision of a document's stream."""
    LOADING = 3
    """A snapshot of a document, piece by piece."""
    READING = 4
    """What a document holds, for somebody who asked."""
    FOLDING = 5
    """Events into a projection, beside the event loop."""
    CONVERTING = 6
    """A file that is read or written, beside the event loop."""


@dataclass(frozen=True, slots=True)
class Busy:
    """What a process was busy with: the stream and its revision; `size` in bytes of what it worked on.

    Of an update that it judged, who sent it, and the digest. Of work beside the event loop `by` is the projection, or
    the kind of file; `size` then counts events.
    """

    work: Work
    stream: str
    revision: int
    size: int
    actor: str = ""
    digest: str = ""
    by: str = ""


def digest_of(update: bytes) -> str:
    """By what the same bytes are known again, when they must not be looked at."""
    return hashlib.blake2b(update, digest_size=16).hexdigest()


def shared_memory() -> int:
    """A file descriptor of memory for a pulse, to be inherited by the process that writes."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("maquette-pulse")
    else:
        with tempfile.TemporaryFile() as unnamed:  # without a name, though not without a disk
            file = os.dup(unnamed.fileno())
    os.ftruncate(file, _SIZE)
    return file


class Pulse:
    """One end of the memory behind the file descriptor `file`."""

    def __init__(self, file: int) -> None:
        self._memory = mmap(file, _SIZE)
        self._count = 0
        self._free = list(range(_PLACES, _SIZE, _PLACE))

    # --- the process that serves -----------------------------------------------------------------------------------

    def beat(self) -> None:
        """The event loop gets its turn."""
        self._count += 1
        _COUNT.pack_into(self._memory, 0, self._count)

    def judging(self, stream: str, revision: int, actor: str, update: bytes) -> None:
        """Begin to judge `update` by `actor`, which is not in the log, over a document at `revision`."""
        name, who = stream.encode()[:_NAME], actor.encode()[:_NAME]
        kept = update if len(update) <= _COPIED else digest_of(update).encode()
        self._count += 1
        head = _MARK.pack(self._count, 1, revision, len(update), len(name), len(who), len(kept))  # 1: Work.JUDGING
        text = head + name + who + kept
        self._memory[: len(text)] = text

    def replaying(self, stream: str, revision: int, size: int) -> None:
        """Begin to replay a revision of `size` bytes."""
        self._mark(Work.REPLAYING, stream, revision, size)

    def loading(self, stream: str, revision: int, size: int) -> None:
        """Begin to turn a piece of a snapshot at `revision` into a part of a replica."""
        self._mark(Work.LOADING, stream, revision, size)

    def reading(self, stream: str, revision: int, size: int) -> None:
        """Begin to read what a document of `size` bytes holds at `revision`."""
        self._mark(Work.READING, stream, revision, size)

    def rest(self) -> None:
        """What was begun has ended."""
        self._memory[_WORK] = 0  # Work.NOTHING, whose name costs more than the rest of this

    @contextmanager
    def while_reading(self, stream: str, revision: int, size: int) -> Iterator[None]:
        """`reading`, and `rest` at the end of the block."""
        self.reading(stream, revision, size)
        try:
            yield
        finally:
            self.rest()

    @contextmanager
    def while_loading(self, stream: str, revision: int, size: int) -> Iterator[None]:
        """`loading`, and `rest` at the end of the block."""
        self.loading(stream, revision, size)
        try:
            yield
        finally:
            self.rest()

    @contextmanager
    def beside(self, work: Work, stream: str, revision: int, size: int, by: str) -> Iterator[None]:
        """`work` in a thread beside the event loop's, for the block. Where all places are taken it is not marked."""
        try:
            place = self._free.pop()
        except IndexError:
            yield
            return
        name, who = stream.encode()[:_NAME], by.encode()[:_NAME]
        head = _BESIDE.pack(work, threading.get_native_id(), revision, size, len(name), len(who))
        text = head + name + who
        self._memory[place : place + len(text)] = text
        try:
            yield
        finally:
            self._memory[place] = 0  # Work.NOTHING
            self._free.append(place)

    def _mark(self, work: Work, stream: str, revision: int, size: int) -> None:
        name = stream.encode()[:_NAME]
        self._count += 1
        text = _MARK.pack(self._count, work, revision, size, len(name), 0, 0) + name
        self._memory[: len(text)] = text

    # --- its supervisor --------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many marks and beats there were."""
        (count,) = _COUNT.unpack_from(self._memory, 0)
        return int(count)

    def busy(self) -> Busy | None:
        """What the process is busy with, or was when it ended; None for nothing that is marked."""
        _, work, revision, size, stream_size, actor_size, kept = _MARK.unpack_from(self._memory, 0)
        if work not in set(Work) or work == Work.NOTHING:
            return None
        name, actor = _TEXT + stream_size, _TEXT + stream_size + actor_size
        stream = self._memory[_TEXT:name].decode(errors="replace")
        if work != Work.JUDGING:
            return Busy(Work(work), stream, revision, size)
        update = self._memory[actor : actor + kept]
        digest = digest_of(update) if size <= _COPIED else update.decode(errors="replace")
        who = self._memory[name:actor].decode(errors="replace")
        return Busy(Work.JUDGING, stream, revision, size, who, digest)

    def busy_beside(self) -> Iterator[tuple[int, Busy]]:
        """Threads beside the event loop's and what they are busy with, or were at the end."""
        for place in range(_PLACES, _SIZE, _PLACE):
            work, thread, revision, size, name_size, by_size = _BESIDE.unpack_from(self._memory, place)
            if work in set(Work) and work != Work.NOTHING:
                name = place + _BESIDE.size
                by = name + name_size
                stream, who = self._memory[name:by], self._memory[by : by + by_size]
                told = stream.decode(errors="replace"), who.decode(errors="replace")
                yield thread, Busy(Work(work), told[0], revision, size, by=told[1])

    def close(self) -> None:
        """Let the memory go."""
        self._memory.close()

"""A disk in the mind: from a journal of what was written and flushed, what a power cut may leave behind.

Rule 1: what a flush has returned for is there. Of everything later, each sector of 512 bytes is there as it was after
        any one of the writes to it, independently of all others: dropped, torn, in any order. So is a file's length.
Rule 2: a sector changes whole (SQLite's "powersafe overwrite", which it assumes unless told otherwise).
Rule 3: names (a file made, renamed into place, deleted) become durable when their folder is flushed; of the later ones
        a prefix is, in each folder by itself. A name may be there without the file's content. A folder is a name in its
        parent; when that is gone, so is all that is in it.
Rule 4: a flush that fails may have written any part of what it had to; a later one that succeeds does not write the
        rest, because the system takes its pages for clean by then. Only what is written anew is flushed with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import assert_never

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Made:
    """An empty file `name` has come to be."""

    name: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The file `name` was deleted."""

    name: str


@dataclass(frozen=True, slots=True)
class Wrote:
    """`data` at byte `at` of `name`."""

    name: str
    at: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resized:
    """`name` was cut, or made longer with zeros."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Flushed:
    """`name` is on disk."""

    name: str


@dataclass(frozen=True, slots=True)
class FlushFailed:
    """`name` was to be on disk, and its flush failed."""

    name: str


@dataclass(frozen=True, slots=True)
class Renamed:
    """The file or folder `name` got the name `to`, in place of another; with `both` it has two names from now on."""

    name: str
    to: str
    both: bool = False


@dataclass(frozen=True, slots=True)
class FolderFlushed:
    """The names in `folder` are on disk. Names of folders end in a slash, but for that of the whole."""

    folder: str = ""


Step = Made | Gone | Wrote | Resized | Flushed | FlushFailed | Renamed | FolderFlushed


def change(content: bytearray, step: Wrote | Resized) -> None:
    """Let `step` happen to the file's content."""
    end = step.size if isinstance(step, Resized) else step.at + len(step.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if isinstance(step, Wrote):
        content[step.at : end] = step.data
    else:
        del content[end:]


@dataclass(slots=True)
class File:
    """What the disk holds of a file for sure, and what was written since."""

    settled: bytes = b""
    since: list[Wrote | Resized] = field(default_factory=list)
    doubtful: dict[int, list[bytes]] = field(default_factory=dict)
    """Sector → what it may hold since a flush failed, the last as the system shows it (rule 4)."""

    def flush(self) -> None:
        for sector in self._rewritten():
            self.doubtful.pop(sector, None)
        self.settled = self.written()
        self.since = []

    def fail_to_flush(self) -> None:
        """The system takes what was written for clean; the disk may hold any part of it."""
        before, size = self.settled, len(self.written())
        content = bytearray(before)
        for step in self.since:
            old = len(content)
            change(content, step)
            for sector in _touched(step, old, len(content)):
                self.doubtful.setdefault(sector, [_sector(before, sector)]).append(_sector(content, sector))
        self.settled = bytes(content[:size])
        self.since = []

    def _rewritten(self) -> set[int]:
        return {sector for step in self.since if isinstance(step, Wrote) for sector in _touched(step, 0, 0)}

    def written(self, count: int | None = None) -> bytes:
        """The file after the first `count` of the steps since the flush, all by default."""
        content = bytearray(self.settled)
        for step in self.since[:count]:
            change(content, step)
        return bytes(content)

    def survivor(self, dice: Random) -> bytes:
        """What a power cut leaves of it (rules 1 and 4)."""
        left = bytearray(self._survivor(dice))
        for sector, ways in sorted(self.doubtful.items()):
            at = slice(sector * SECTOR, min((sector + 1) * SECTOR, len(left)))
            if left[at] == ways[-1][: len(left[at])]:  # what was written over it since is there or not by rule 1
                left[at] = dice.choice(ways)[: len(left[at])]
        return bytes(left)

    def _survivor(self, dice: Random) -> bytes:
        if not self.since:
            return self.settled
        match dice.choice(("none", "all", "prefix", "torn", "torn")):
            case "none":
                return self.settled
            case "all":
                return self.written()
            case "prefix":
                return self.written(dice.randint(0, len(self.since)))
        return self._torn(dice)

    def _torn(self, dice: Random) -> bytes:
        content = bytearray(self.settled)
        lengths = [len(content)]
        versions: dict[int, list[bytes]] = {}
        for step in self.since:
            change(content, step)
            for sector in _touched(step, lengths[-1], len(content)):
                versions.setdefault(sector, [_sector(self.settled, sector)]).append(_sector(content, sector))
            lengths.append(len(content))
        length = dice.choice(lengths)
        torn = bytearray(self.settled[:length].ljust(length, b"\0"))
        for sector, ways in versions.items():
            if sector * SECTOR < length:
                torn[sector * SECTOR : (sector + 1) * SECTOR] = dice.choice(ways)
        return bytes(torn[:length])


def _touched(step: Wrote | Resized, before: int, after: int) -> range:
    if isinstance(step, Wrote):
        return range(step.at // SECTOR, -(-(step.at + len(step.data)) // SECTOR))
    return range(min(before, after) // SECTOR, -(-max(before, after) // SECTOR))


def _sector(content: bytes | bytearray, number: int) -> bytes:
    return bytes(content[number * SECTOR : (number + 1) * SECTOR]).ljust(SECTOR, b"\0")


class Medium:
    """A folder on disk, moved forward step by step."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._now = {name: File(content) for name, content in files.items()}
        self._durable = dict(self._now)
        self._renames: dict[str, list[tuple[str, File | None]]] = {}

    def take(self, steps: Iterable[Step]) -> None:
        """What happens."""
        for step in steps:
            self._take(step)

    def _take(self, step: Step) -> None:
        match step:
            case Made(name):
                self._name(name, File())
            case Gone(name):
                self._name(name, None)
            case Wrote(name) | Resized(name):
                self._now[name].since.append(step)
            case Flushed(name):
                self._now[name].flush()
            case FlushFailed(name):
                self._now[name].fail_to_flush()
            case Renamed(name, to) if name.endswith("/"):
                self._move_folder(name, to)
            case Renamed(name, to, both):
                self._name(to, self._now[name])
                if not both:
                    self._name(name, None)
            case FolderFlushed(folder):
                for name, file in self._renames.pop(folder, []):
                    _set(self._durable, name, file)
            case _:
                assert_never(step)

    def _move_folder(self, name: str, to: str) -> None:
        """What is in it is as durable under the new name as it was: it can be reached by that which survives."""
        for names in (self._now, self._durable):
            for one, file in tuple(names.items()):
                if one.startswith(name) and one != name:
                    names[to + one.removeprefix(name)] = file
        for folder, waiting in tuple(self._renames.items()):
            if folder.startswith(name):
                moved = [(to + one.removeprefix(name), file) for one, file in waiting]
                self._renames[to + folder.removeprefix(name)] = moved
        self._name(to, self._now[name])
        self._name(name, None)

    def _name(self, name: str, file: File | None) -> None:
        _set(self._now, name, file)
        self._renames.setdefault(_folder(name), []).append((name, file))

    def after_power_cut(self, dice: Random) -> dict[str, bytes]:
        """Name → content of what is left when the power fails now."""
        left = dict(self._durable)
        for names in self._renames.values():
            for name, file in names[: dice.randint(0, len(names))]:
                _set(left, name, file)
        return {name: file.survivor(dice) for name, file in left.items() if _reachable(name, left)}

    def is_torn(self, left: Mapping[str, bytes]) -> bool:
        """Whether a file in `left` is neither as it was flushed nor as it was written."""
        return any(
            name in self._now and left[name] not in (self._now[name].settled, self._now[name].written())
            for name in left
        )


def _folder(name: str) -> str:
    """The folder in which a name is."""
    parent, slash, _ = name.rstrip("/").rpartition("/")
    return parent + slash


def _reachable(name: str, names: Mapping[str, File]) -> bool:
    folder = _folder(name)
    return not folder or (folder in names and _reachable(folder, names))


def _set(names: dict[str, File], name: str, file: File | None) -> None:
    if file is None:
        names.pop(name, None)
    else:
        names[name] = file

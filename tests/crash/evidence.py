"""What clients were shown and told, and whether a log bears it out.

Rule 1: what was shown or told once stays evidence for good: it is compared after every kill that follows.
Rule 2: a mark is a word that is written once, into a text, a message or a node's name. One that was acknowledged is in
        the log once, any other at most once.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pycrdt
from tests.crash.archive import Archive

Doc = pycrdt.Doc[Any]


class Contradiction(AssertionError):
    """The log does not bear out what a client was shown or told."""


@dataclass(slots=True)
class Evidence:
    """Collected by the load, in the order in which it came."""

    states: list[tuple[str, bytes]] = field(default_factory=list)
    """(document, update): what a joiner was given, and every echo."""
    echoes: list[list[tuple[str, bytes]]] = field(default_factory=list)
    """Of each observer, the updates that were shown to it, in order."""
    acknowledged: set[str] = field(default_factory=set)
    """Marks that a flush or a REST answer vouched for."""
    numbers: dict[int, str] = field(default_factory=dict)
    """Message number → message id, as a reader was told."""
    nodes: set[str] = field(default_factory=set)
    """Ids of nodes that a reader was told of."""
    position: int = 0
    """The newest position that anybody was told."""
    count: int = 0
    """Of all that came."""
    came: asyncio.Condition = field(default_factory=asyncio.Condition)
    _borne_out: dict[str, Doc] = field(default_factory=dict)
    """Stream → all states that were given of it, checked once already."""

    async def note(self) -> None:
        """One more thing came."""
        self.count += 1
        async with self.came:
            self.came.notify_all()

    async def more(self, number: int) -> None:
        """Wait until so much more of it has come."""
        until = self.count + number
        async with self.came:
            await self.came.wait_for(lambda: self.count >= until)

    async def state(self, document: str, update: bytes) -> None:
        """A joiner was given this."""
        self.states.append((document, update))
        await self.note()

    async def acknowledge(self, marks: Iterable[str], position: str | None) -> None:
        """Somebody was told that these marks are stored, up to `position`."""
        self.acknowledged |= set(marks)
        self.position = max(self.position, int(position or 0))
        await self.note()

    async def read(self, messages: Sequence[Mapping[str, object]], nodes: Sequence[Mapping[str, object]]) -> None:
        """A reader was told this."""
        for message in messages:
            self._number(int(str(message["number"])), str(message["id"]))
        self.nodes |= {str(node["id"]) for node in nodes}
        await self.note()

    def _number(self, number: int, id_: str) -> None:
        known = self.numbers.setdefault(number, id_)
        if known != id_:
            raise Contradiction(f"message {number}: a reader was told {known!r} first, then {id_!r}")

    # --- judging -----------------------------------------------------------------------------------------------------

    def judge(self, archive: Archive) -> int:
        """Compare all of it with what is in the log; how many things were compared. Raises Contradiction."""
        _require(archive.head >= self.position, f"the log to reach position {self.position}", archive.head)
        self._judge_states(archive)
        shown = sum(self._judge_echoes(archive, echoes) for echoes in self.echoes)
        self._judge_marks(archive)
        self._judge_reads(archive)
        compared = len(self.states) + shown + len(self.acknowledged) + len(self.numbers) + len(self.nodes)
        self.states, self.echoes = [], []  # rule 1: kept in `_borne_out`
        return compared

    def _judge_states(self, archive: Archive) -> None:
        for document, update in self.states:
            stream = next((one for one in archive.streams(document) if _holds(archive.docs[one], update)), None)
            if stream is None:
                raise Contradiction(f"{document}: a client was given a state of {len(update)} bytes that is not there")
            self._borne_out.setdefault(stream, pycrdt.Doc()).apply_update(update)
        for stream, given in self._borne_out.items():
            if not _holds(archive.docs[stream], given.get_update()):
                raise Contradiction(f"{stream}: what clients were given before an earlier kill is gone")

    def _judge_echoes(self, archive: Archive, echoes: Sequence[tuple[str, bytes]]) -> int:
        last: dict[str, int] = defaultdict(int)
        for document, update in echoes:
            places = [place for stream in archive.streams(document) for place in archive.places[stream].get(update, ())]
            _require(len(places) == 1, f"{document}: an echo of {len(update)} bytes once in the log", len(places))
            [(stream, revision)] = places
            _require(revision > last[stream], f"{stream}: an echo behind revision {last[stream]}", revision)
            last[stream] = revision
        return len(echoes)

    def _judge_marks(self, archive: Archive) -> None:
        marks = Counter(archive.marks)
        twice = [mark for mark, number in marks.items() if number > 1]
        _require(not twice, "every mark once", twice)
        gone = self.acknowledged - marks.keys()
        _require(not gone, "every acknowledged mark", f"none of {sorted(gone)}")

    def _judge_reads(self, archive: Archive) -> None:
        wrong = {number: (id_, archive.numbers.get(number)) for number, id_ in self.numbers.items()
                 if archive.numbers.get(number) != id_}  # fmt: skip
        _require(not wrong, "the messages that readers were told", wrong)
        _require(self.nodes <= archive.nodes, "the nodes that readers were told", self.nodes - archive.nodes)


def _holds(doc: Doc, update: bytes) -> bool:
    """Whether `update` brings nothing that `doc` does not have: a Yjs state has one encoding (facts of pycrdt)."""
    whole = doc.get_update()
    copy: Doc = pycrdt.Doc()
    copy.apply_update(whole)
    copy.apply_update(update)
    return copy.get_update() == whole


def _require(holds: bool, expected: str, actual: object) -> None:
    if not holds:
        raise Contradiction(f"expected {expected}, got {actual}")

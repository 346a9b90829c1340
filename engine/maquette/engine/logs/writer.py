"""The writer: one thread that commits (rules L1, L2, L3, L7).

Rule 1: everything that waits when a commit begins shares it: one transaction, one flush of the disk. Batches grow by
        themselves while a commit runs, and an idle log adds no delay.
Rule 2: what a batch does is decided before anything is written (`decisions.py`), so a wrong one fails alone.
Rule 3: what is kept in memory about the log (head, ends of streams) moves on only when SQLite has committed.
Rule 4: when SQLite cannot commit, the batch fails as a whole, and the next one is tried like any other. While the log
        is unwritable it tries on its own, so that it becomes writable also when nobody appends any more.
        (A flush that fails may leave the commit readable to SQLite until the next one overwrites it. Should the machine
        die in between, an append that failed may turn out stored: its id tells, rule L3.)
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from asyncio import Future
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from maquette.engine.errors import LogError, LogUnwritable
from maquette.engine.log import Appended
from maquette.engine.logs.decisions import Decisions, Failure, Failures, Ground, Outcome, Place, Proposal, decide
from maquette.engine.logs.pages import ABSENT, StreamEnd
from maquette.engine.logs.record import Clock, Record
from maquette.engine.logs.schema import FORMAT, PAGE, fault, stream_checksum, transaction
from maquette.engine.logs.seal import SALT_BYTES, seal
from maquette.engine.logs.statements import find_ends, find_places, insert_events, put_streams
from maquette.engine.logs.witness import Testimony, Witness

logger = logging.getLogger(__name__)

MOST_EVENTS = 4_096
MOST_BYTES = 16 * 1024 * 1024
"""Where a batch ends although more waits: an import must not make everybody else wait for one commit of seconds."""

MOST_STREAMS = 65_536
"""Ends of streams kept in memory (some 10 MB); past that all are forgotten and looked up again as they are needed."""

PROBE_SECONDS = 1.0
"""How often an unwritable log tries whether it can write again: soon enough for a person who has just made space."""


FOLD_PAGES = 4_000
"""How far SQLite's WAL grows (16 MiB) before it is folded into the database: the pages that commits have in common
are then written once. The writer folds when a batch has been answered; by default SQLite does it inside a commit."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What one commit came to; handed to the event loop in one call."""

    outcomes: Sequence[tuple[Future[Appended], Outcome]]
    head: int
    failures: int
    writable: bool


class Inbox:
    """Where the event loop leaves proposals for the writer."""

    def __init__(self) -> None:
        self._proposals: deque[Proposal] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, proposals: Iterable[Proposal]) -> None:
        """Queue `proposals` in their order."""
        with self._changed:
            self._proposals.extend(proposals)
            self._changed.notify()

    def close(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self, timeout: float | None) -> list[Proposal] | None:
        """What waits, up to a batch: [] when nothing came in time, None when nothing will come any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._proposals or self._closed, timeout)
            batch = list(self._batch())
            return None if self._closed and not batch else batch

    def _batch(self) -> Iterable[Proposal]:
        events = size = 0
        while self._proposals and events < MOST_EVENTS and size < MOST_BYTES:
            proposal = self._proposals.popleft()
            events += len(proposal.drafts)
            size += sum(len(draft.data) for draft in proposal.drafts)
            yield proposal


class Writer:
    """Owns the writing connection and the witness. `deliver` is called in the writer's thread after each commit."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        witness: Witness,
        head: Testimony,
        clock: Clock,
        deliver: Callable[[Settlement], None],
    ) -> None:
        self.inbox = Inbox()
        self.commits = 0
        self._path = path
        self._connection = connection
        self._witness = witness
        self._head = head
        self._clock = clock
        self._deliver = deliver
        self._writable = True
        self._failures = Failures()
        self._unfolded = 0
        self._ends: dict[str, StreamEnd] = {}
        self._newest_stream: int = connection.execute("SELECT coalesce(max(id), 0) FROM streams").fetchone()[0]
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)

    def start(self) -> None:
        """Begin to commit."""
        self._thread.start()

    def finish(self) -> None:
        """Commit what waits, end the thread, flush the witness and close the files. Blocks."""
        self.inbox.close()
        self._thread.join()
        try:
            self._witness.flush()
        except OSError as error:
            logger.warning("%s: expected to flush the witness, got %s", self._witness.path, error)
        self._witness.close()
        self._connection.close()

    def _run(self) -> None:
        while (batch := self.inbox.take(None if self._writable else PROBE_SECONDS)) is not None:
            outcomes = self._commit(batch) if batch else self._probe()
            self._deliver(Settlement(outcomes, self._head.position, self._failures.count, self._writable))
            if self._unfolded > FOLD_PAGES:
                self._fold()

    def _commit(self, batch: Sequence[Proposal]) -> list[tuple[Future[Appended], Outcome]]:
        self._failures.forget(batch[0].known)
        decisions = Decisions()
        try:
            decisions = self._decide(batch)
            if decisions.records:
                self._store(decisions.records)
        except Exception as error:
            self._fail(batch, decisions, self._failure(error))
        if decisions.failed:
            self._failures.record(decisions.failed)
        return decisions.outcomes

    def _decide(self, batch: Sequence[Proposal]) -> Decisions:
        names = {proposal.stream for proposal in batch}
        ends = self._ends_of(names)
        ground = Ground(
            {name: ends[name].revision for name in names},
            self._places_of(batch, ends),
            count(self._head.position + 1).__next__,
            max(self._clock(), self._head.time),
        )
        return decide(batch, ground, self._failures)

    def _ends_of(self, names: Iterable[str]) -> dict[str, StreamEnd]:
        unknown = [name for name in names if name not in self._ends]
        if len(self._ends) + len(unknown) > MOST_STREAMS:
            self._ends, unknown = {}, list(names)
        if unknown:
            found = find_ends(self._connection, self._path, unknown)
            self._ends.update((name, found.get(name, ABSENT)) for name in unknown)
        return self._ends

    def _places_of(self, batch: Sequence[Proposal], ends: dict[str, StreamEnd]) -> dict[tuple[str, bytes], Place]:
        asked = {
            (ends[proposal.stream].id, draft.id): (proposal.stream, draft.id)
            for proposal in batch
            if ends[proposal.stream].id
            for draft in proposal.drafts
        }
        found = find_places(self._connection, list(asked)) if asked else {}
        return {asked[key]: place for key, place in found.items()}

    def _store(self, records: Sequence[Record]) -> None:
        ends = self._moved_ends(records)
        rows, chain = self._sealed(records, ends)
        with transaction(self._connection):
            insert_events(self._connection, rows)
            put_streams(self._connection, [_stream_row(name, end) for name, end in ends.items()])
        self._head = Testimony(records[-1].position, records[-1].time, chain)
        self._ends.update(ends)
        self._newest_stream = max(self._newest_stream, *(end.id for end in ends.values()))
        self.commits += 1
        # a leaf of each index and of `streams` per stream, and the log's own leaves: an estimate is all this needs
        self._unfolded += 3 + 3 * len(ends) + sum(len(record.data) for record in records) // PAGE
        self._writable = True
        self._testify()

    def _moved_ends(self, records: Iterable[Record]) -> dict[str, StreamEnd]:
        fresh = count(self._newest_stream + 1)
        ends: dict[str, StreamEnd] = {}
        for record in records:
            known = ends.get(record.stream) or self._ends[record.stream]
            ends[record.stream] = StreamEnd(known.id or next(fresh), record.revision, record.position)
        return ends

    def _sealed(self, records: Sequence[Record], ends: dict[str, StreamEnd]) -> tuple[list[tuple[object, ...]], bytes]:
        salts = os.urandom(SALT_BYTES * len(records))
        chain = self._head.chain
        rows: list[tuple[object, ...]] = []
        for start, record in zip(range(0, len(salts), SALT_BYTES), records, strict=True):
            mark = seal(record, chain, salts[start : start + SALT_BYTES])
            chain = mark.chain
            rows.append((record.position, ends[record.stream].id, *record[2:], *mark))
        return rows, chain

    def _testify(self) -> None:
        try:
            self._witness.write(self._head)
        except OSError as error:  # the commit stands; the witness lags, as it may, until the next one
            logger.warning("%s: expected to write the witness, got %s", self._witness.path, error)

    def _fail(self, batch: Sequence[Proposal], decisions: Decisions, failure: Failure) -> None:
        """Nothing of the batch was written: fail all but what failed by itself and what was stored before."""
        if not decisions.outcomes:
            decisions.outcomes = [(proposal.future, failure) for proposal in batch]
        for index, (future, outcome) in enumerate(decisions.outcomes):
            if isinstance(outcome, Appended) and outcome.position > self._head.position:
                decisions.outcomes[index] = (future, failure)
        decisions.failed = {proposal.stream: failure for proposal in batch} | decisions.failed

    def _failure(self, error: Exception) -> Failure:
        self._writable = False
        if isinstance(error, sqlite3.Error):
            logger.error("%s: expected to commit, got %s", self._path, error)
            return lambda: fault(self._path, error)
        if isinstance(error, LogError):
            logger.error("%s", error)
            return lambda: error
        logger.exception("%s: expected to commit, got a defect of the writer", self._path)
        return lambda: LogUnwritable(f"{self._path}: expected to commit, got {error!r}")

    def _fold(self) -> None:
        self._unfolded = 0
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as error:  # the events are safe in the WAL; SQLite folds it later
            logger.warning("%s: expected to fold the WAL, got %s", self._path, error)

    def _probe(self) -> list[tuple[Future[Appended], Outcome]]:
        try:
            with transaction(self._connection):
                self._connection.execute(f"PRAGMA user_version = {FORMAT}")  # changes nothing, and writes a page
            self._writable = True
        except sqlite3.Error:
            pass
        return []


def _stream_row(name: str, end: StreamEnd) -> tuple[object, ...]:
    return (end.id, name, end.revision, end.position, stream_checksum(end.id, name, end.revision, end.position))

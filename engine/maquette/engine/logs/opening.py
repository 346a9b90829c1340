"""What is checked before a log opens: that it reaches its witness, and that what lies behind the witness is whole.

A log of any length opens in the same time: the chain is walked from the witness on, and the rest is checked when it
is read. Only the streams' names are all looked up once, because a name that its damaged index does not find would
read as an empty stream.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from maquette.engine.errors import LogDamaged, LogLost
from maquette.engine.logs.pages import Stored, place_of, stored_after
from maquette.engine.logs.record import wall_clock
from maquette.engine.logs.schema import DATABASE, WITNESS, naming_faults, one_view
from maquette.engine.logs.seal import GENESIS, genuine, intact
from maquette.engine.logs.witness import BEGINNING, Testimony, read_witness

logger = logging.getLogger(__name__)


def checked_head(connection: sqlite3.Connection, folder: Path, *, accept_loss: bool = False) -> Testimony:
    """Where the log ends. Raises LogLost or LogDamaged (rule L6).

    The witness is read before the database, so that a writer beside us cannot make it look as if it led.
    """
    path = folder / DATABASE
    with naming_faults(path):
        known = _known(connection, folder, accept_loss)
        with one_view(connection):
            found = head_of(connection)
            if found.position < known.position:
                known = _lost(connection, path, known, found, accept_loss)
            _check_tail(connection, path, known, found)
            _check_streams(connection, path)
    return found


def head_of(connection: sqlite3.Connection) -> Testimony:
    """What the database itself says about its end, unchecked."""
    row = connection.execute("SELECT position, time, chain FROM events ORDER BY position DESC LIMIT 1").fetchone()
    return BEGINNING if row is None else Testimony(*row)


def _known(connection: sqlite3.Connection, folder: Path, accept_loss: bool) -> Testimony:
    path = folder / WITNESS
    try:
        known = read_witness(path)
        if known is not None:
            return known
        found = head_of(connection)
        if found.position == 0:
            return BEGINNING
        raise LogDamaged(
            str(path),
            f"the witness of a log that reaches position {found.position}",
            "no file: restore it, or open with --accept-loss to trust the log as it is",
        )
    except LogDamaged as error:
        if not accept_loss:
            raise
        logger.warning("%s; opened without a witness, as asked: what the log has forgotten is not known", error)
        return head_of(connection)


def _lost(
    connection: sqlite3.Connection, path: Path, known: Testimony, found: Testimony, accept_loss: bool
) -> Testimony:
    if not accept_loss:
        raise LogLost(str(path), known.position, found.position)
    logger.warning(
        "%s: the log reached position %d and ends at %d; positions %d to %d are given up, as asked",
        path,
        known.position,
        found.position,
        found.position + 1,
        known.position,
    )
    connection.execute("INSERT INTO losses VALUES (?, ?, ?)", (wall_clock(), known.position, found.position))
    return found


def _check_tail(connection: sqlite3.Connection, path: Path, known: Testimony, found: Testimony) -> None:
    previous, expected = _chain_before(connection, path, known.position), known.position or 1
    for stored in stored_after(connection, expected - 1, found.position):
        if stored.record.position != expected:
            raise LogDamaged(f"{path}: position {expected}", "a record", "none")
        _check_link(path, stored, previous)
        if expected == known.position and stored.seal.chain != known.chain:
            raise LogDamaged(
                place_of(path, stored.record), f"the witness's chain {known.chain.hex()}", stored.seal.chain.hex()
            )
        previous, expected = stored.seal.chain, expected + 1


def _chain_before(connection: sqlite3.Connection, path: Path, position: int) -> bytes:
    if position <= 1:
        return GENESIS
    row = connection.execute("SELECT chain FROM events WHERE position = ?", (position - 1,)).fetchone()
    if row is None:
        raise LogDamaged(f"{path}: position {position - 1}", "a record", "none")
    return bytes(row[0])


def _check_link(path: Path, stored: Stored, previous: bytes) -> None:
    try:
        sound = intact(*stored) and genuine(*stored, previous)
    except TypeError as error:
        raise LogDamaged(place_of(path, stored.record), "the stored types", str(error)) from error
    if not sound:
        raise LogDamaged(place_of(path, stored.record), "the sealed record", "another, or one out of its chain")


def _check_streams(connection: sqlite3.Connection, path: Path) -> None:
    # NOT INDEXED: SQLite would else read the names from their index, and so compare that with itself
    count, newest, head = connection.execute(
        "SELECT count(*), max(id), max(position) FROM streams NOT INDEXED"
    ).fetchone()
    if count != (newest or 0):
        raise LogDamaged(f"{path}: streams", f"{newest} of them", f"{count}")
    if (head or 0) != head_of(connection).position:
        raise LogDamaged(f"{path}: streams", f"one that ends at the head, {head_of(connection).position}", f"{head}")
    unfound = connection.execute(
        """SELECT s.name FROM streams s NOT INDEXED WHERE NOT EXISTS (
            SELECT 1 FROM streams t INDEXED BY sqlite_autoindex_streams_1 WHERE t.name = s.name AND t.id = s.id)"""
    ).fetchone()
    if unfound is not None:
        raise LogDamaged(f"{path}: stream {unfound[0]!r}", "its name in the index", "none")

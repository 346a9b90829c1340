"""The same content under fresh client ids: how a document begins its next epoch (D9).

Replicas of the old epoch may hold clocks that the log has never seen (it came out of a backup). Under new ids nothing
that they bring can meet what is stored here.
"""

from __future__ import annotations

import secrets

from maquette.engine.update import Update, rename_clients


def with_fresh_clients(update: Update) -> Update:
    """`update`, a whole state, with each client id replaced by a fresh random one.

    The order of the ids is kept: Yjs orders concurrent insertions by client id, so another order would be another text.
    """
    old = sorted(update.structs.keys() | update.ranges.keys())
    fresh: set[int] = set()
    while len(fresh) < len(old):
        fresh.add(secrets.randbits(32))
    return rename_clients(update, dict(zip(old, sorted(fresh), strict=True)))

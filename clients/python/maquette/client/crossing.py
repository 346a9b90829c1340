"""How a client goes on from an epoch that is over into the current one (D9). Knows no sockets.

    at home ──4409, something is not stored──▶ bringing (the old epoch, by its name) ──4409, all is stored──▶
    fetching (a fresh replica, by the bare name) ──synced──▶ at home

Rule 1: whoever has been synced comes back by the name of that epoch: if it is over, its edits are taken there.
Rule 2: edits are brought again as long as each try stores something; twice in vain, and they are given up, which the
        caller tells. Nobody tries for ever.
Rule 3: an epoch that takes nobody at all (its log came out of a backup) may have had what is lost now: that is for the
        application to see, and nobody goes on by themselves.
"""

from __future__ import annotations

from typing import Any

import pycrdt

MOST_IN_VAIN = 2  # a connection may be told to move before it could say anything


class Crossing:
    """Where one remote document is on its way. `follows`: whether it goes on by itself at all."""

    def __init__(self, *, follows: bool) -> None:
        self.follows = follows
        self.name: str | None = None
        """The epoch to come back to, as in `scene@3`; None for whichever is current."""
        self.fresh: pycrdt.Doc[Any] | None = None
        """The replica of the current epoch while it is fetched."""
        self._heard = False
        self._old: str | None = None
        self._new: str | None = None
        self._in_vain = 0

    def named(self, name: str) -> None:
        """The server says under which name the document is shown."""
        self._heard = True
        if not self.follows:
            return
        if self.fresh is None:
            self.name = name
        else:
            self._new = name

    def begin(self) -> None:
        """Another connection begins."""
        self._heard = False

    @property
    def goes_on(self) -> bool:
        """Whether this connection's end leads into the next epoch (rule 3)."""
        return self.follows and self._heard

    def move(self, *, is_stored: bool, progress: bool) -> bool:
        """The epoch is over. `is_stored`: whether all that was edited is; `progress`: whether this try stored anything.

        False when edits have to be given up.
        """
        self._in_vain = 0 if progress else self._in_vain + 1
        if not is_stored and self.name is not None and self._in_vain <= MOST_IN_VAIN:
            return True  # once more to the same name, which is the old epoch's
        self._old, self.name, self.fresh = self.name or self._old, None, pycrdt.Doc()
        self._in_vain = 0
        return is_stored

    def turn_back(self) -> None:
        """Something was edited in the old replica while the fresh one was fetched: bring that first."""
        self.name, self.fresh = self._old, None

    def arrive(self) -> pycrdt.Doc[Any]:
        """The fresh replica, which holds all: it is the document from now on."""
        assert self.fresh is not None
        doc, self.fresh, self.name = self.fresh, None, self._new
        return doc

    def forget(self) -> None:
        """Begin anew with whichever epoch is current."""
        self.name, self.fresh, self._in_vain = None, None, 0

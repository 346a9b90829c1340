"""What an import or export did, for the person who asked for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

MOST_NOTES = 100
"""Enough to see what is wrong with a file; a million lines like the first hundred tell nothing new."""

Progress = Callable[[str, int, int], None]
"""Told (phase, done, total), on the event loop."""


def quiet(phase: str, done: int, total: int) -> None:
    """A progress that tells nobody."""


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one file.

    `file` is its name and `kind` what it holds: `scene`, `irc` or `jsonl`. `counts` says how many of what came in or
    went out; `errors` names the lines that were left out, and why; `warnings` says what else is not as in the file.
    Both are bounded: the last one says how many more there were.
    """

    file: str
    kind: str
    counts: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


class Notes:
    """Warnings or errors: counts all of them, keeps the first."""

    def __init__(self, limit: int = MOST_NOTES) -> None:
        self.count = 0
        self._limit = limit
        self._kept: list[str] = []

    def add(self, note: object) -> None:
        self.count += 1
        if len(self._kept) < self._limit:
            self._kept.append(str(note))

    def kept(self) -> tuple[str, ...]:
        """The first notes, and how many more there were."""
        more = self.count - len(self._kept)
        return (*self._kept, f"… and {more} more") if more else tuple(self._kept)
